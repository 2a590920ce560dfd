"""Make the demo's models: GPT-2s of three sizes that write like the King James text and, for each, a RoBERTa that tells its passages from
the book's.

    apt install bible-kjv
    pip install torch==2.15.0 transformers==5.23.0 tokenizers==0.23.3 safetensors==0.8.0
    python make_models.py

One processor core is enough; it takes about two hours. Everything is seeded: on the same kind of processor with the same versions
the result is the same, on another one training rounds differently and the figures move a little.

--out DIR      where the folders of the models and human.jsonl go (default: this folder)
--text FILE    the output of `bible -f ge1:1-rev22:21` (default: run it)
--work DIR     what the steps leave for the next ones; finished steps found there are not repeated (default: demo-work)
--threads N    processor threads (default 1)
--size SIZE    large, medium or small: only this writer and its reader; may be repeated (default: all, which share the pretrained encoder)

Parts: corpus.py (text, passages, BPE), writer.py (GPT-2 and sampling), reader.py (RoBERTa), training.py (descent), cards.py (model cards).
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, GPT2LMHeadModel, RobertaForSequenceClassification

import cards
import corpus
import reader
import writer

TEXT_SEED, WRITER_SEED, PRETRAIN_SEED, READER_SEED, SAMPLE_SEED = 1611, 1, 2, 3, 1000
EPOCHS, PRETRAIN_STEPS, READER_STEPS = 20, 1400, 1600
SAMPLES = {"reader": 2000, "validation": 150, "test": 400}  # documents of each sampling method
LENGTHS = (32, 64, 128, reader.LONGEST)
WRITER_KEYS = ("architectures", "model_type", "vocab_size", "n_positions", "n_ctx", "n_embd", "n_layer", "n_head", "n_inner",
               "activation_function", "layer_norm_epsilon", "initializer_range", "embd_pdrop", "attn_pdrop", "resid_pdrop",
               "bos_token_id", "eos_token_id", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn",
               "add_cross_attention", "tie_word_embeddings", "use_cache")
READER_KEYS = ("architectures", "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
               "intermediate_size", "hidden_act", "max_position_embeddings", "type_vocab_size", "layer_norm_eps",
               "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "pad_token_id", "bos_token_id",
               "eos_token_id", "id2label", "label2id")


def log(line):
    print(line, flush=True)


def step(path, make):
    """make(), kept in `path`: (value, seconds of processor time)."""
    if not path.exists():
        start = time.process_time()
        value = make()
        torch.save((value, time.process_time() - start), path)
    return torch.load(path)


def save(folder, config, keys, tensors):
    """A model folder as the published ones are: the usual configuration keys, the tensors in f16."""
    values = config.to_dict() | {"n_ctx": corpus.CONTEXT, "activation_function": "gelu_new"}
    text = json.dumps({key: values[key] for key in keys} | {"torch_dtype": "float16"}, indent=2)
    (folder / "config.json").write_text(text + "\n")
    save_file({name: t.half().contiguous() for name, t in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def load(kind, folder):
    return kind.from_pretrained(folder, dtype=torch.float32).eval()


def people(tokenizer, texts):
    """Passages as dataset records, cut like the writer's."""
    cut = [e.ids[:corpus.CONTEXT] for e in tokenizer.encode_batch(texts)]
    return [{"id": i, "ended": len(ids) < corpus.CONTEXT, "length": len(ids), "text": tokenizer.decode(ids)} for i, ids in enumerate(cut)]


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records), "ascii")


def make_writer(size, book, out, work):
    """The writer of a size, in its folder: (model, {part: loss}, seconds)."""
    folder, documents = out / f"writer{size}", book["documents"]
    state, seconds = step(work / f"writer{size}.pt", lambda: writer.train(
        size, documents["writer"], documents["validation"], EPOCHS, WRITER_SEED, log).transformer.state_dict())
    save(folder, writer.config(size), WRITER_KEYS, state)
    model = load(GPT2LMHeadModel, folder)
    losses = {name: writer.evaluate(model, documents[name]) for name in ("validation", "test")}
    log(f"writer{size}: loss {losses}")
    return model, losses, seconds


def make_samples(size, model, book, work):
    """{(part, method): records}: what the writer of a size writes."""
    first = SAMPLE_SEED + 100 * list(writer.SIZES).index(size)
    samples, _ = step(work / f"samples{size}.pt", lambda: {
        (part, method): writer.sample(model, book["writes"], method, count, first + 10 * i + j)
        for i, (part, count) in enumerate(SAMPLES.items()) for j, method in enumerate(writer.METHODS)})
    for (part, method), records in samples.items():
        write_jsonl(work / f"{part}{size}.{method.replace(' ', '-')}.jsonl", records)
    return samples


def make_reader(size, samples, book, out, work):
    """The reader of a size's writer, in its folder: ({tokens read: accuracies}, seconds of pretraining and of training).

    All readers start from the same encoder, which was pretrained once."""
    folder, reads, human = out / f"reader{size}", book["reads"], book["human ids"]
    machine = {part: {m: reader.encode(reads, samples[part, m]) for m in writer.METHODS} for part in SAMPLES}
    seen = reader.encode(reads, [{"text": text} for text in book["seen"]])
    state, pretrain_seconds = step(work / "pretrained.pt", lambda: reader.pretrain(
        seen, reads.get_vocab_size(), PRETRAIN_STEPS, PRETRAIN_SEED, log).roberta.state_dict())
    state, seconds = step(work / f"reader{size}.pt", lambda: reader.train(
        state, reads.get_vocab_size(), human["reader"] + human["writer"], machine["reader"], (human["validation"], machine["validation"]),
        READER_STEPS, READER_SEED, log).state_dict())
    save(folder, reader.config(reads.get_vocab_size()), READER_KEYS, state)
    model = load(RobertaForSequenceClassification, folder)
    rates = {n: reader.evaluate(model, [ids[:n] for ids in human["test"]],
                                {m: [ids[:n] for ids in texts] for m, texts in machine["test"].items()}) for n in LENGTHS}
    log(f"reader{size}: accuracy " + ", ".join(f"{m} {r['balanced']:.3f}" for m, r in rates[reader.LONGEST].items()))
    return rates, pretrain_seconds, seconds


def read_book(text_file, out):
    """The text in parts, the vocabularies (which go to their folders) and the text as writers and readers take it."""
    parts = corpus.split(text_file, TEXT_SEED)
    seen = parts["writer"] + parts["reader"]
    vocabulary, merges = corpus.train_bpe(seen)
    read = corpus.reader_vocabulary(vocabulary, merges, seen)
    for size in writer.SIZES:
        corpus.save_bpe(out / f"writer{size}", None if size else vocabulary, merges, ascii_only=True)
        corpus.save_bpe(out / f"reader{size}", read, merges, ascii_only=False)
    writes, reads = corpus.load_bpe(out / "writer"), corpus.load_bpe(out / "reader")
    human = {part: people(writes, texts) for part, texts in parts.items()}
    write_jsonl(out / "human.jsonl", ({"id": r["id"], "text": r["text"]} for r in human["test"]))
    return {"parts": parts, "seen": seen, "writes": writes, "reads": reads, "human": human,
            "human ids": {part: reader.encode(reads, records) for part, records in human.items()},
            "documents": {part: writer.documents(writes, texts) for part, texts in parts.items()}}


def figures(size, book, out, work):
    """Makes the writer and the reader of a size; what their model cards say about them."""
    model, losses, writer_seconds = make_writer(size, book, out, work)
    samples = make_samples(size, model, book, work)
    rates, pretrain_seconds, reader_seconds = make_reader(size, samples, book, out, work)
    parts, documents = book["parts"], book["documents"]["test"]
    characters, targets = sum(map(len, parts["test"])), sum(len(d) - 1 for d in documents)
    tests = {"people": book["human"]["test"]} | {m: samples["test", m] for m in writer.METHODS}
    return {
        "parts": parts, "context": corpus.CONTEXT, "epochs": EPOCHS, "pretrain steps": PRETRAIN_STEPS, "reader steps": READER_STEPS,
        "samples": SAMPLES, "tests": tests, "losses": losses, "bits": losses["test"] * targets / characters / math.log(2), "rates": rates,
        "by heart": {name: corpus.shared([r["text"] for r in records], parts["writer"]) for name, records in tests.items()},
        "seconds": {"writer": writer_seconds, "pretraining": pretrain_seconds, "reader": reader_seconds},
        "shape": writer.SIZES[size], "parameters": sum(p.numel() for p in model.parameters()),
    }


def check(size, out, tests, parts):
    """What others will find in a size's folders: tokenizers that agree with ours, tensors of the right names only."""
    for folder, kind in ((out / f"writer{size}", GPT2LMHeadModel), (out / f"reader{size}", RobertaForSequenceClassification)):
        _, report = kind.from_pretrained(folder, output_loading_info=True)
        assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
        if (folder / "vocab.json").exists():
            theirs, ours = AutoTokenizer.from_pretrained(folder), corpus.load_bpe(folder)
            for text in (r["text"] for records in tests.values() for r in records):
                assert theirs(text, add_special_tokens=False).input_ids == ours.encode(text).ids, text
    held_out = set(parts["test"])
    assert not any(held_out & set(parts[name]) for name in parts if name != "test")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments.add_argument("--text")
    arguments.add_argument("--work", type=Path, default=Path("demo-work"))
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--size", choices=[size[1:] or "large" for size in writer.SIZES], action="append")
    options = arguments.parse_args()
    out, work = options.out, options.work
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)

    book = read_book(options.text, out)
    for size in writer.SIZES:
        if not options.size or (size[1:] or "large") in options.size:
            found = figures(size, book, out, work)
            cards.write(out, size, found)
            check(size, out, found["tests"], book["parts"])
    log(f"done: {sum(f.stat().st_size for f in out.rglob('*') if f.is_file()):,} bytes in {out}")


if __name__ == "__main__":
    main()
