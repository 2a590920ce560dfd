"""The reader: a RoBERTa pre-trained on the next token, then trained to tell human passages from the writer's."""

import random
import time

import torch
from transformers import RobertaConfig, RobertaForCausalLM, RobertaForSequenceClassification

from corpus import CONTEXT
from training import descend, schedule

START, PAD, STOP = 0, 1, 2
FAKE, REAL = 0, 1
LONGEST = CONTEXT - 2  # tokens of a text that are read


def config(vocabulary):
    return RobertaConfig(vocab_size=vocabulary, hidden_size=128, num_hidden_layers=4, num_attention_heads=2,
                         intermediate_size=512, hidden_act="gelu", max_position_embeddings=CONTEXT + 2, type_vocab_size=1,
                         layer_norm_eps=1e-5, attention_probs_dropout_prob=0.0, pad_token_id=PAD, bos_token_id=START, eos_token_id=STOP,
                         id2label={0: "Fake", 1: "Real"}, label2id={"Fake": 0, "Real": 1},
                         architectures=["RobertaForSequenceClassification"])


def encode(tokenizer, records):
    """What the released detector reads of a text: stripped, no special tokens, the first ids only. Empty texts are left out."""
    texts = [r["text"].strip() for r in records]
    return [e.ids[:LONGEST] for e in tokenizer.encode_batch([text for text in texts if text])]


def pad(windows):
    """(ids, mask) of <s> window </s>, padded on the right."""
    rows = [torch.tensor([START, *w, STOP]) for w in windows]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
    return ids, (ids != PAD).long()


def window(ids, rng):
    """The whole text or, every second time, a random window of a random length from 10 tokens up."""
    if rng.random() < 0.5:
        return ids
    length = rng.randint(min(10, len(ids)), len(ids))
    first = rng.randint(0, len(ids) - length)
    return ids[first:first + length]


def batches(draw, rows, steps, rng):
    """`steps` batches of draw() -> (ids, label), similar lengths together."""
    for step in range(0, steps, 16):
        pool = sorted((draw() for _ in range(16 * rows)), key=lambda example: len(example[0]))
        groups = [pool[i:i + rows] for i in range(0, len(pool), rows)]
        rng.shuffle(groups)
        for group in groups[:steps - step]:
            windows, labels = zip(*group)
            yield *pad(windows), torch.tensor(labels)


def optimiser(model, rate, steps):
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    return optimizer, schedule(optimizer, steps)


def pretrain(texts, vocabulary, steps, seed, log, rows=32, rate=2e-3):
    """The encoder, run as a decoder and trained to predict the next token of windows of `texts` (ids). Every token teaches, which on so
    little text and time goes much faster than masked tokens."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    decoder = config(vocabulary)
    decoder.is_decoder = True
    model = RobertaForCausalLM(decoder).train()
    optimizer, falling = optimiser(model, rate, steps)
    total, start = 0, time.time()
    for step, (ids, mask, _) in enumerate(batches(lambda: (window(rng.choice(texts), rng), 0), rows, steps, rng), 1):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids, attention_mask=mask, use_cache=False).logits
        value = torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), ignore_index=PAD)
        total += descend(model, value, optimizer, falling)
        if step % 100 == 0:
            log(f"reader, next token, step {step}/{steps}: loss {total / 100:.4f}, {time.time() - start:.0f} s")
            total = 0
    return model


def train(pretrained, vocabulary, human, machine, validation, steps, seed, log, rows=32, rate=6e-4):
    """Fair coin for the label, then a random text, machine text from each method alike; the best validation accuracy is kept.

    pretrained: the encoder's state; human: [ids]; machine: {method: [ids]}; validation: (human, machine) likewise."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = RobertaForSequenceClassification(config(vocabulary))
    model.roberta.load_state_dict(pretrained)
    optimizer, falling = optimiser(model.train(), rate, steps)

    def draw():
        label = rng.randint(FAKE, REAL)
        texts = human if label == REAL else machine[rng.choice(list(machine))]
        return window(rng.choice(texts), rng), label

    best, kept, total, start = 0, None, 0, time.time()
    for step, (ids, mask, labels) in enumerate(batches(draw, rows, steps, rng), 1):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids, attention_mask=mask).logits
        value = torch.nn.functional.cross_entropy(logits.float(), labels)
        total += descend(model, value, optimizer, falling)
        if step % 100 == 0 or step == steps:
            rates = evaluate(model.eval(), *validation)
            balanced = sum(r["balanced"] for r in rates.values()) / len(rates)
            log(f"reader step {step}/{steps}: loss {total / 100:.4f}, validation accuracy "
                + ", ".join(f"{method} {r['balanced']:.3f}" for method, r in rates.items()) + f", {time.time() - start:.0f} s")
            if balanced > best:
                best, kept = balanced, {name: t.clone() for name, t in model.state_dict().items()}
            total = 0
            model.train()
    model.load_state_dict(kept)
    return model.eval()


@torch.no_grad()
def real_probabilities(model, texts, rows=32):
    """p(real) of each text (ids), batched by length."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    result = [0.0] * len(texts)
    for first in range(0, len(order), rows):
        group = order[first:first + rows]
        ids, mask = pad([texts[i] for i in group])
        for i, p in zip(group, model(ids, attention_mask=mask).logits.softmax(-1)[:, REAL].tolist()):
            result[i] = p
    return result


def evaluate(model, human, machine):
    """{method: accuracies and AUROC}; a text is called real when p(real) > 1/2."""
    real, rates = real_probabilities(model, human), {}
    for method, texts in machine.items():
        fake = real_probabilities(model, texts)
        on_real = sum(p > 0.5 for p in real) / len(real)
        on_fake = sum(p <= 0.5 for p in fake) / len(fake)
        wins = sum((r > f) + 0.5 * (r == f) for r in real for f in fake)
        rates[method] = {"fake": on_fake, "real": on_real, "balanced": (on_fake + on_real) / 2, "auroc": wins / len(real) / len(fake)}
    return rates
