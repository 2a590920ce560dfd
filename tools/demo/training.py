"""One step of gradient descent, the same for the writer and the reader."""

import math

import torch


def schedule(optimizer, steps):
    """The learning rate rises for 100 steps and falls along a cosine to a fiftieth."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / 100, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1, s / max(1, steps))))))


def descend(model, loss, optimizer, rate):
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    rate.step()
    return loss.item()
