"""PyTorch, eager: its own fused recurrent layers and convolutions, gradients by `torch.autograd.grad`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.contestant import Contestant, Result
from benchmarks.rows import Arrays, Row

Tensors = dict[str, Tensor]
Loss = Callable[[Tensors], Tensor]


def build(row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """Everything prepared as tensors; the timed call is one forward and one backward pass."""
    data = {name: torch.tensor(array) for name, array in batch.items()}
    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
    if row.family == "mlp":
        loss_of = _mlp(list(params), data)
    elif row.family == "lenet":
        loss_of = _lenet(data)
    else:
        leaves, loss_of = _recurrent(row, leaves, data)
    names, tensors = list(leaves), list(leaves.values())

    def call() -> tuple[Tensor, tuple[Tensor, ...]]:
        loss = loss_of(leaves)
        return loss, torch.autograd.grad(loss, tensors)

    def read(raw: Any) -> Result:
        loss, grads = raw
        found = {name: grad.numpy() for name, grad in zip(names, grads, strict=True)}
        return float(loss.detach()), _rename(row, found)

    return Contestant(call, read)


def _mlp(names: list[str], data: Tensors) -> Loss:
    layers = [name[:-2] for name in names if name.endswith(".W")]

    def loss_of(p: Tensors) -> Tensor:
        h = data["x"]
        for layer in layers[:-1]:
            h = F.relu(F.linear(h, p[f"{layer}.W"], p[f"{layer}.b"]))
        return F.cross_entropy(F.linear(h, p["out.W"], p["out.b"]), data["y"])

    return loss_of


def _lenet(data: Tensors) -> Loss:
    def loss_of(p: Tensors) -> Tensor:
        h = F.max_pool2d(F.relu(F.conv2d(data["x"], p["conv1.W"], p["conv1.b"])), 2)
        h = F.max_pool2d(F.relu(F.conv2d(h, p["conv2.W"], p["conv2.b"])), 2).flatten(1)
        h = F.relu(F.linear(h, p["fc1.W"], p["fc1.b"]))
        h = F.relu(F.linear(h, p["fc2.W"], p["fc2.b"]))
        return F.cross_entropy(F.linear(h, p["out.W"], p["out.b"]), data["y"])

    return loss_of


def _recurrent(row: Row, leaves: Tensors, data: Tensors) -> tuple[Tensors, Loss]:
    """`nn.RNN`, `nn.LSTM` or `nn.GRU`; torch's second bias stays at 0 save for the GRU's candidate."""
    cell = row.cell
    weight = leaves.pop(f"{cell}.W")
    layer: Any = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](
        weight.shape[1], row.sizes["H"], dtype=weight.dtype
    )
    with torch.no_grad():
        layer.weight_ih_l0.copy_(weight)
        layer.weight_hh_l0.copy_(leaves.pop(f"{cell}.U"))
        layer.bias_ih_l0.copy_(leaves.pop(f"{cell}.b"))
        layer.bias_hh_l0.zero_()
        if cell == "gru":
            layer.bias_hh_l0[-row.sizes["H"] :] = leaves.pop("gru.bn")
    leaves |= {f"{cell}.W": layer.weight_ih_l0, f"{cell}.U": layer.weight_hh_l0, f"{cell}.b": layer.bias_ih_l0}
    if cell == "gru":
        leaves["gru.bn"] = layer.bias_hh_l0

    def states(p: Tensors) -> Tensor:
        if row.family == "recurrent":
            x = data["x"]
        elif "embed.E" in p:
            x = F.embedding(data["x"], p["embed.E"])
        else:
            x = F.one_hot(data["x"], row.sizes["V"]).to(weight.dtype)
        return layer(x)[0]

    def loss_of(p: Tensors) -> Tensor:
        h = states(p)
        if row.family == "recurrent":
            return F.mse_loss(h, data["y"])
        return F.cross_entropy(F.linear(h, p["out.W"], p["out.b"]).flatten(0, 1), data["y"].flatten())

    return leaves, loss_of


def _rename(row: Row, found: Arrays) -> Arrays:
    """torch's second GRU bias has 3H entries; ours is its last third."""
    if "gru.bn" in found:
        found["gru.bn"] = np.ascontiguousarray(found["gru.bn"][-row.sizes["H"] :])
    return found
