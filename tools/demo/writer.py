"""The writer: a GPT-2 trained from scratch, and the three ways to sample from it."""

import math
import random
import time

import torch
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from corpus import CONTEXT, VOCABULARY
from training import descend, schedule

END_ID = VOCABULARY - 1
METHODS = ("temperature", "top-k 40", "nucleus")
SIZES = {"": (3, 192, None), "-medium": (1, 128, 384), "-small": (1, 64, None)}  # folder's ending: layers, width, feed-forward width


def config(size):
    layers, width, inner = SIZES[size]
    return GPT2Config(vocab_size=VOCABULARY, n_positions=CONTEXT, n_ctx=CONTEXT, n_embd=width, n_layer=layers, n_head=width // 64,
                      n_inner=inner, activation_function="gelu_pytorch_tanh", layer_norm_epsilon=1e-5, bos_token_id=END_ID,
                      eos_token_id=END_ID, resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.0, architectures=["GPT2LMHeadModel"])


def documents(tokenizer, texts):
    """<|endoftext|> passage <|endoftext|>, cut to what the context can predict."""
    return [torch.tensor([END_ID, *e.ids, END_ID][:CONTEXT + 1]) for e in tokenizer.encode_batch(texts)]


def batches(docs, tokens, rng):
    """Every document once: batches of similar lengths and of about `tokens` tokens, padded with -100, in random order."""
    order = sorted(range(len(docs)), key=lambda i: len(docs[i]) + rng.uniform(-8, 8))
    groups, group = [], []
    for i in order:
        if group and (len(group) + 1) * max(len(docs[j]) for j in (*group, i)) > tokens:
            groups.append(group)
            group = []
        group.append(i)
    groups.append(group)
    rng.shuffle(groups)
    for group in groups:
        yield torch.nn.utils.rnn.pad_sequence([docs[i] for i in group], batch_first=True, padding_value=-100)


def loss(model, batch, reduction="mean"):
    """Cross entropy of each next token; padding is on the right, so a causal model needs no mask."""
    logits = model(batch[:, :-1].clamp(min=0)).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten(), reduction=reduction)


def train(size, docs, validation, epochs, seed, log, rate=2e-3, tokens=4096):
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = GPT2LMHeadModel(config(size)).train()
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
                                  lr=rate, betas=(0.9, 0.98), fused=True)
    steps, start = epochs * len(list(batches(docs, tokens, random.Random(seed)))), time.time()
    falling = schedule(optimizer, steps)
    for epoch in range(epochs):
        total = count = 0
        for batch in batches(docs, tokens, rng):
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(model, batch)
            total, count = total + descend(model, value, optimizer, falling), count + 1
        log(f"writer{size} epoch {epoch + 1}/{epochs}: loss {total / count:.4f} in training, "
            f"{evaluate(model.eval(), validation):.4f} in validation, {time.time() - start:.0f} s")
        model.train()
    return model.eval()


@torch.no_grad()
def evaluate(model, docs):
    """Mean cross entropy per token, <|endoftext|> at the end included."""
    total = sum(loss(model, batch, "sum").item() for batch in batches(docs, 8192, random.Random(0)))
    return total / sum(len(d) - 1 for d in docs)


def restrict(logits, method, p):
    """Logits of the tokens that may not be drawn become -inf, as OpenAI's sample.py defines it; p is a column."""
    if method == "top-k 40":
        return logits.masked_fill(logits < logits.topk(40).values[:, -1:], -math.inf)
    if method == "nucleus":  # the token that crosses p is out, the largest always stays
        ranked = logits.sort(descending=True).values
        kept = (ranked.softmax(-1).cumsum(-1) <= p).sum(-1, keepdim=True)
        return logits.masked_fill(logits < ranked.gather(1, (kept - 1).clamp(min=0)), -math.inf)
    return logits


@torch.no_grad()
def sample(model, tokenizer, method, count, seed, rows=250):
    """Documents as dataset records, drawn at temperature 1; with nucleus each has its own p, uniform in [0.8, 1)."""
    random_numbers = torch.Generator().manual_seed(seed)
    records = []
    for first in range(0, count, rows):
        n = min(rows, count - first)
        p = 0.8 + 0.2 * torch.rand(n, 1, generator=random_numbers)
        written, alive, cache = [[] for _ in range(n)], torch.arange(n), DynamicCache()
        token = torch.full((n, 1), END_ID)
        for _ in range(CONTEXT):
            logits = model(token, past_key_values=cache, use_cache=True).logits[:, -1]
            token = restrict(logits, method, p[alive]).softmax(-1).multinomial(1, generator=random_numbers)
            for row, t in zip(alive.tolist(), token[:, 0].tolist()):
                written[row].append(t)
            going = (token[:, 0] != END_ID).nonzero()[:, 0]
            if len(going) < len(alive):
                alive, token = alive[going], token[going]
                if len(alive) == 0:
                    break
                cache.batch_select_indices(going)
        for row, ids in enumerate(written):
            ended = ids[-1] == END_ID
            ids = ids[:-1] if ended else ids
            record = {"id": first + row, "ended": ended, "length": len(ids), "text": tokenizer.decode(ids)}
            records.append(record | {"p": p[row].item()} if method == "nucleus" else record)
    return records
