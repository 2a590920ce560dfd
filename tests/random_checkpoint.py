"""Write a model folder of a real shape with random weights: config.json and safetensors.

    python3 tests/random_checkpoint.py --arch gpt2 --size 124M OUT
    python3 tests/random_checkpoint.py --arch roberta --size base --pooler OUT
    python3 tests/random_checkpoint.py --layers 2 --heads 3 --vocab 500 --positions 64 --dtype f16 OUT

Needs numpy. One tensor is in memory at a time, so the 1558M shape is written in little space. The
same options and seed give the same bytes. transformers loads the folder with from_pretrained.
"""
import argparse
import json
import math
import os
import shutil
import struct

import numpy as np

GPT2 = {"124M": (12, 12), "355M": (24, 16), "774M": (36, 20), "1558M": (48, 25)}
ROBERTA = {"base": (12, 12), "large": (24, 16)}
HEAD = 64
VOCABULARY_FILES = ("merges.txt", "vocab.bpe", "vocab.json", "encoder.json")


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("out", metavar="OUT", help="folder to write into")
    p.add_argument("--arch", choices=("gpt2", "roberta"), default="gpt2")
    p.add_argument("--size", choices=sorted(GPT2) + sorted(ROBERTA), help="a published shape")
    p.add_argument("--layers", type=int)
    p.add_argument("--heads", type=int, help="the width is 64 times this")
    p.add_argument("--inner", type=int, help="width of the feed-forward layer (4 times the width)")
    p.add_argument("--vocab", type=int)
    p.add_argument("--positions", type=int, help="rows of the position table")
    p.add_argument("--dtype", choices=("f32", "f16", "bf16"), default="f32")
    p.add_argument("--prefix", action="store_true", help="gpt2: names start with transformer.")
    p.add_argument("--untied", action="store_true", help="gpt2: a lm_head.weight of its own")
    p.add_argument("--mask-buffers", action="store_true", help="gpt2: h.i.attn.bias and masked_bias")
    p.add_argument("--pooler", action="store_true", help="roberta: pooler and position_ids")
    p.add_argument("--shards", type=int, default=1, help="number of files")
    p.add_argument("--scale", type=float, default=1.0, help="factor on all matrices")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--vocab-from", metavar="DIR", help="copy the vocabulary files of DIR")
    o = p.parse_args()
    sizes = GPT2 if o.arch == "gpt2" else ROBERTA
    o.size = o.size or ("124M" if o.arch == "gpt2" else "base")
    if o.size not in sizes:
        p.error(f"--size {o.size} is not a shape of {o.arch}")
    o.layers = o.layers or sizes[o.size][0]
    o.heads = o.heads or sizes[o.size][1]
    o.vocab = o.vocab or (50257 if o.arch == "gpt2" else 50265)
    o.positions = o.positions or (1024 if o.arch == "gpt2" else 514)
    o.width = HEAD * o.heads
    o.inner = o.inner or 4 * o.width
    return o


# A tensor is (name, shape, how): the standard deviation of a matrix, or "norm", "bias", "mask",
# "masked_bias" (a scalar) or "position_ids".

def gpt2_tensors(o):
    std, wide = 0.02 * o.scale, o.width
    out = std / math.sqrt(2 * o.layers)
    pre = "transformer." if o.prefix else ""
    yield pre + "wte.weight", (o.vocab, wide), std
    yield pre + "wpe.weight", (o.positions, wide), std / 2
    for i in range(o.layers):
        h = f"{pre}h.{i}."
        for name, shape, how in (
            ("ln_1.weight", (wide,), "norm"), ("ln_1.bias", (wide,), "bias"),
            ("attn.c_attn.weight", (wide, 3 * wide), std), ("attn.c_attn.bias", (3 * wide,), "bias"),
            ("attn.c_proj.weight", (wide, wide), out), ("attn.c_proj.bias", (wide,), "bias"),
            ("ln_2.weight", (wide,), "norm"), ("ln_2.bias", (wide,), "bias"),
            ("mlp.c_fc.weight", (wide, o.inner), std), ("mlp.c_fc.bias", (o.inner,), "bias"),
            ("mlp.c_proj.weight", (o.inner, wide), out), ("mlp.c_proj.bias", (wide,), "bias"),
        ):
            yield h + name, shape, how
        if o.mask_buffers:
            yield h + "attn.bias", (1, 1, o.positions, o.positions), "mask"
            yield h + "attn.masked_bias", (), "masked_bias"
    yield pre + "ln_f.weight", (wide,), "norm"
    yield pre + "ln_f.bias", (wide,), "bias"
    if o.untied:
        yield "lm_head.weight", (o.vocab, wide), std


def linear(name, out, inp, std):
    yield name + ".weight", (out, inp), std
    yield name + ".bias", (out,), "bias"


def norm(name, wide):
    yield name + ".weight", (wide,), "norm"
    yield name + ".bias", (wide,), "bias"


def roberta_tensors(o):
    std, wide = 0.02 * o.scale, o.width
    e = "roberta.embeddings."
    yield e + "word_embeddings.weight", (o.vocab, wide), std
    yield e + "position_embeddings.weight", (o.positions, wide), std
    yield e + "token_type_embeddings.weight", (1, wide), std
    yield from norm(e + "LayerNorm", wide)
    if o.pooler:
        yield e + "position_ids", (1, o.positions), "position_ids"
    for i in range(o.layers):
        h = f"roberta.encoder.layer.{i}."
        for part in ("query", "key", "value"):
            yield from linear(f"{h}attention.self.{part}", wide, wide, std)
        yield from linear(h + "attention.output.dense", wide, wide, std)
        yield from norm(h + "attention.output.LayerNorm", wide)
        yield from linear(h + "intermediate.dense", o.inner, wide, std)
        yield from linear(h + "output.dense", wide, o.inner, std)
        yield from norm(h + "output.LayerNorm", wide)
    if o.pooler:
        yield from linear("roberta.pooler.dense", wide, wide, std)
    yield from linear("classifier.dense", wide, wide, std)
    yield from linear("classifier.out_proj", 2, wide, std)


def as_dtype(x, dtype):
    if dtype == "f32":
        return x
    if dtype == "f16":
        return x.astype(np.float16)
    bits = x.view(np.uint32)  # bf16: round to nearest, ties to even
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def values(rng, shape, how, dtype):
    if how == "mask":
        n = shape[-1]
        return np.tril(np.ones((n, n), np.float32)).reshape(shape)
    if how == "masked_bias":
        return np.full(shape, -1e4, np.float32)
    if how == "position_ids":
        return np.arange(shape[1], dtype=np.int64).reshape(shape)
    x = rng.standard_normal(shape, dtype=np.float32)
    if how == "norm":
        x = 1 + np.float32(0.1) * x
    else:
        x *= np.float32(0.02 if how == "bias" else how)
    return as_dtype(x, dtype)


def entry(shape, how, dtype):
    """dtype string and bytes of a tensor."""
    kind = {"position_ids": "I64", "mask": "F32", "masked_bias": "F32"}.get(how, dtype.upper())
    size = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}[kind]
    return kind, size * math.prod(shape)


def write_file(path, tensors, o, rng):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, how in tensors:
        kind, size = entry(shape, how, o.dtype)
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, shape, how in tensors:
            f.write(np.ascontiguousarray(values(rng, shape, how, o.dtype)).data)
    return at


def split(tensors, o):
    """Consecutive groups of about equal bytes."""
    total = sum(entry(shape, how, o.dtype)[1] for _, shape, how in tensors)
    groups, done = [[] for _ in range(o.shards)], 0
    for t in tensors:
        groups[min(o.shards - 1, done * o.shards // total)].append(t)
        done += entry(t[1], t[2], o.dtype)[1]
    return [g for g in groups if g]


def write_weights(o):
    rng = np.random.Generator(np.random.SFC64(o.seed))
    tensors = list(gpt2_tensors(o) if o.arch == "gpt2" else roberta_tensors(o))
    groups = split(tensors, o)
    if len(groups) == 1:
        write_file(os.path.join(o.out, "model.safetensors"), tensors, o, rng)
        return
    total, where = 0, {}
    for i, group in enumerate(groups, 1):
        file = f"model-{i:05d}-of-{len(groups):05d}.safetensors"
        total += write_file(os.path.join(o.out, file), group, o, rng)
        where.update((name, file) for name, _, _ in group)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    with open(os.path.join(o.out, "model.safetensors.index.json"), "w") as f:
        json.dump(index, f, indent=2)


def config(o):
    kind = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[o.dtype]
    if o.arch == "gpt2":
        end = min(50256, o.vocab - 1)
        return {
            "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "torch_dtype": kind,
            "vocab_size": o.vocab, "n_positions": o.positions, "n_ctx": o.positions,
            "n_embd": o.width, "n_layer": o.layers, "n_head": o.heads,
            "n_inner": None if o.inner == 4 * o.width else o.inner,
            "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
            "bos_token_id": end, "eos_token_id": end, "tie_word_embeddings": not o.untied,
        }
    return {
        "model_type": "roberta", "architectures": ["RobertaForSequenceClassification"],
        "torch_dtype": kind, "vocab_size": o.vocab, "max_position_embeddings": o.positions,
        "hidden_size": o.width, "num_hidden_layers": o.layers, "num_attention_heads": o.heads,
        "intermediate_size": o.inner, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
        "type_vocab_size": 1, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
        "id2label": {"0": "Fake", "1": "Real"}, "label2id": {"Fake": 0, "Real": 1},
    }


def main():
    o = options()
    os.makedirs(o.out, exist_ok=True)
    with open(os.path.join(o.out, "config.json"), "w") as f:
        json.dump(config(o), f, indent=2)
        f.write("\n")
    write_weights(o)
    for name in VOCABULARY_FILES:
        source = os.path.join(o.vocab_from, name) if o.vocab_from else ""
        if source and os.path.exists(source):
            shutil.copyfile(source, os.path.join(o.out, name))


if __name__ == "__main__":
    main()
