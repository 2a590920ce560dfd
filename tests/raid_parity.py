#!/usr/bin/env python3
"""tandem raid eval beside a plain reading of RAID's evaluator.

    python3 tests/raid_parity.py --tandem build/tandem [--sets 40] [--seed 0]

Each set is a made-up train.csv in RAID's form with scores of one kind: normal, probabilities, few digits, mostly equal, constant,
shifted far away, with scores missing. For each, this script computes from their definitions (loops over the rows, no sorting, AUROC by
scikit-learn) what the evaluator of RAID computes, and compares all of --json: the groups, tp and fn, AUROC, thresholds, FPRs. It also
checks that the exact FPR is never above its target, and that no threshold that finds more would keep to it. Needs: numpy, scikit-learn.
"""
import argparse
import csv
import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import uuid

import numpy as np
from sklearn.metrics import roc_auc_score

FACTORS = ['domain', 'model', 'decoding', 'repetition_penalty', 'attack']
COLUMNS = 'id,adv_source_id,source_id,model,decoding,repetition_penalty,attack,domain,title,prompt,generation'.split(',')
EPSILON = 0.0005

KINDS = {
    'normal': lambda rng, machine: rng.gauss(machine, 1),
    'probability': lambda rng, machine: 1 / (1 + math.exp(-rng.gauss(4 * machine - 2, 2))),
    'two digits': lambda rng, machine: round(1 / (1 + math.exp(-rng.gauss(machine, 1))), 2),
    'mostly equal': lambda rng, machine: 1.0 if rng.random() < 0.7 else rng.random(),
    'constant': lambda rng, machine: 0.25,
    'far away': lambda rng, machine: rng.gauss(1000 + 3 * machine, 40),
    'tiny': lambda rng, machine: rng.gauss(machine, 1) * 1e-9,
    'wrong way': lambda rng, machine: rng.gauss(-machine, 1),
}


def make(rng, folder, kind, n_sources, p_missing):
    rows, scores = [], {}

    def add(source, base, model, decoding, penalty, attack, domain):
        name = base if attack == 'none' else str(uuid.UUID(int=rng.getrandbits(128)))
        rows.append([name, base, source, model, decoding, penalty, attack, domain, 'a, "title"', '', 'text\nof two lines'])
        if rng.random() >= p_missing:
            scores[name] = KINDS[kind](rng, model != 'human')

    for domain in ['books', 'news', 'poetry'][:rng.randint(1, 3)]:
        for _ in range(n_sources):
            source = str(uuid.UUID(int=rng.getrandbits(128)))
            for attack in ['none', 'homoglyph']:
                add(source, source, 'human', '', '', attack, domain)
            for model, decoding, penalty in itertools.product(['gpt2', 'gpt4'], ['greedy', 'sampling'], ['no', 'yes']):
                if model == 'gpt4' and penalty == 'yes':
                    continue
                base = str(uuid.UUID(int=rng.getrandbits(128)))
                for attack in ['none', 'homoglyph']:
                    add(source, base, model, decoding, penalty, attack, domain)
    rng.shuffle(rows)
    with open(os.path.join(folder, 'train.csv'), 'w', newline='') as f:
        writer = csv.writer(f, lineterminator='\n')
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    with open(os.path.join(folder, 'predictions.json'), 'w') as f:
        json.dump([{'id': name, 'score': score} for name, score in scores.items()], f)
    table = [dict(zip(COLUMNS, row)) for row in rows]
    for row in table:
        row['score'] = scores.get(row['id'])
    return table


def fpr_of(humans, threshold):
    called = [score >= threshold for score in humans]
    return 1 - (len(called) - sum(called)) / len(called)


def search(humans, target):
    """RAID's walk: from the mean in steps of 0.5; a step that crosses the target halves and turns, one that leads away turns."""
    threshold, step, before, tried = sum_of(humans) / len(humans), 0.5, None, []
    while len(tried) < 50:
        fpr = fpr_of(humans, threshold)
        if abs(fpr - target) <= EPSILON:
            return threshold, fpr
        left = target - fpr
        tried.append((left, threshold, fpr))
        if before is not None:
            if (left < 0) != (before < 0):
                step *= -0.5
            elif abs(left) - abs(before) > 0.01:
                step *= -1
        threshold, before = threshold + step, left
    some = [(left, t) for left, t, fpr in tried if fpr > 0]
    if not some:
        return None, None
    under = [pair for pair in some if pair[0] >= 0]
    threshold = (min(under) if under else max(some))[1]
    return threshold, fpr_of(humans, threshold)


def sum_of(values):
    total = 0.0
    for value in values:
        total += value
    return total


def evaluate(table, targets):
    domains = list(dict.fromkeys(row['domain'] for row in table))
    tuned = {d: [r['score'] for r in table
                 if r['domain'] == d and r['model'] == 'human' and r['attack'] == 'none' and r['score'] is not None]
             for d in domains}
    if not all(tuned.values()):
        return None
    found = {str(t): {d: search(tuned[d], t) for d in domains} for t in targets}
    groups = {}
    values = {f: list(dict.fromkeys(r[f] for r in table if r['model'] != 'human')) + ['all'] for f in FACTORS}
    for key in itertools.product(*(values[f] for f in FACTORS)):
        want = {f: v for f, v in zip(FACTORS, key) if v != 'all'}
        machines = [r for r in table if r['model'] != 'human' and all(r[f] == v for f, v in want.items())]
        humans = [r for r in table if r['model'] == 'human' and want.get('domain', r['domain']) == r['domain']]
        if not machines or not humans or any(r['score'] is None for r in machines + humans):
            continue
        accuracy = {}
        for target in map(str, targets):
            mine = [want['domain']] if 'domain' in want else domains
            met = all(found[target][d][0] is not None and abs(found[target][d][1] - float(target)) <= EPSILON for d in mine)
            tp = sum(r['score'] >= found[target][r['domain']][0] for r in machines) if met else 0
            accuracy[target] = {'tp': tp, 'fn': len(machines) - tp, 'accuracy': tp / len(machines)} if met else None
        auroc = roc_auc_score([1] * len(machines) + [0] * len(humans), [r['score'] for r in machines + humans])
        groups[key] = accuracy, auroc
    return found, groups, tuned


def check_exact(ours, table, tuned):
    for target, thresholds in ours['exact_thresholds'].items():
        for domain, threshold in thresholds.items():
            threshold = math.inf if threshold is None else threshold
            machines = [r['score'] for r in table
                        if r['domain'] == domain and r['score'] is not None and r['model'] != 'human']
            fpr = np.mean(np.array(tuned[domain]) >= threshold)
            assert fpr <= float(target) and abs(fpr - ours['exact_fpr'][target][domain]) < 1e-12, (domain, target, fpr)
            lower = [s for s in machines if s < threshold]
            assert not lower or np.mean(np.array(tuned[domain]) >= max(lower)) > float(target), (domain, target)


def compare(ours, table, expected):
    found, groups, tuned = expected
    for target, domains in found.items():
        for domain, (threshold, fpr) in domains.items():
            assert ours['thresholds'][target][domain] == threshold, (domain, target, threshold, ours['thresholds'])
            assert ours['fpr'][target][domain] == fpr, (domain, target, fpr, ours['fpr'])
    got = {tuple(s[f] for f in FACTORS): s for s in ours['scores']}
    assert got.keys() == groups.keys(), got.keys() ^ groups.keys()
    worst = 0
    for key, (accuracy, auroc) in groups.items():
        assert got[key]['accuracy'] == accuracy, (key, got[key]['accuracy'], accuracy)
        worst = max(worst, abs(got[key]['auroc'] - auroc))
    check_exact(ours, table, tuned)
    return worst


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--tandem', required=True)
    parser.add_argument('--sets', type=int, default=40)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    targets = [0.05, 0.01]
    worst, n_groups, unmet = 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.sets):
            kind = list(KINDS)[number % len(KINDS)]
            table = make(rng, folder, kind, rng.choice([3, 40, 100, 400]), rng.choice([0, 0, 0.001]))
            run = subprocess.run([args.tandem, 'raid', 'eval', '--json', '--quiet', '--data', folder + '/train.csv',
                                  folder + '/predictions.json'], capture_output=True, text=True)
            expected = evaluate(table, targets)
            if expected is None:
                assert run.returncode == 65, run
                continue
            assert run.returncode == 0, run
            ours = json.loads(run.stdout)
            try:
                worst = max(worst, compare(ours, table, expected))
            except AssertionError as why:
                print(f'set {number} ({kind}): {why}')
                sys.exit(1)
            n_groups += len(expected[1])
            unmet += sum(a is None for accuracy, _ in expected[1].values() for a in accuracy.values())
    print(f'{args.sets} sets, {n_groups} groups: thresholds, tp and fn equal ({unmet} without an accuracy); '
          f'AUROC off by {worst:.1e} at most')


if __name__ == '__main__':
    main()
