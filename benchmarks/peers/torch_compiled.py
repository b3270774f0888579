"""PyTorch compiled: the whole of loss and gradients as one graph, by `torch.compile(torch.func.grad_and_value(...))`.

Recurrences are loops over the steps, which `torch.compile` unrolls. Rows where that takes longer than anybody waits
have their loop compiled by `torch.jit.script` instead, and their gradients by `torch.autograd.grad`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.contestant import Contestant, Missing, Result
from benchmarks.rows import Arrays, Row

Tensors = dict[str, Tensor]

SCRIPTED = ("gru_small", "rnn_long")


def build(row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """Compiled on the first call."""
    names, data = list(params), {name: torch.tensor(array) for name, array in batch.items()}
    if row.name in SCRIPTED:
        call = _scripted(row, {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}, data)
    else:
        if not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")):
            raise Missing("no C++ compiler")
        leaves = {name: torch.tensor(array) for name, array in params.items()}
        loss_of = {"mlp": _mlp, "lenet": _lenet}.get(row.family) or _recurrent(row)
        step = torch.compile(torch.func.grad_and_value(loss_of), fullgraph=True, dynamic=False)

        def call() -> Any:
            return step(leaves, data)

    def read(raw: Any) -> Result:
        grads, loss = raw
        return float(loss.detach()), {name: np.array(grads[name].numpy()) for name in names}

    return Contestant(call, read)


def _mlp(p: Tensors, data: Tensors) -> Tensor:
    h = data["x"]
    for layer in ("fc1", "fc2"):
        h = F.relu(F.linear(h, p[f"{layer}.W"], p[f"{layer}.b"]))
    return F.cross_entropy(F.linear(h, p["out.W"], p["out.b"]), data["y"])


def _lenet(p: Tensors, data: Tensors) -> Tensor:
    h = F.max_pool2d(F.relu(F.conv2d(data["x"], p["conv1.W"], p["conv1.b"])), 2)
    h = F.max_pool2d(F.relu(F.conv2d(h, p["conv2.W"], p["conv2.b"])), 2).flatten(1)
    for layer in ("fc1", "fc2"):
        h = F.relu(F.linear(h, p[f"{layer}.W"], p[f"{layer}.b"]))
    return F.cross_entropy(F.linear(h, p["out.W"], p["out.b"]), data["y"])


def rnn(a: Tensor, u: Tensor, h: Tensor) -> Tensor:
    """All states from the projected inputs [T, N, H]."""
    states: list[Tensor] = []
    for a_t in a.unbind(0):
        h = torch.tanh(torch.addmm(a_t, h, u))
        states.append(h)
    return torch.stack(states)


def lstm(a: Tensor, u: Tensor, h: Tensor) -> Tensor:
    """All states; gates i f g o."""
    c = h
    states: list[Tensor] = []
    for a_t in a.unbind(0):
        i, f, g, o = torch.addmm(a_t, h, u).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        states.append(h)
    return torch.stack(states)


def gru(a: Tensor, u: Tensor, bn: Tensor, h: Tensor) -> Tensor:
    """All states; gates r z n, reset after the product."""
    states: list[Tensor] = []
    for a_t in a.unbind(0):
        ar, az, an = a_t.chunk(3, dim=-1)
        br, bz, bq = torch.mm(h, u).chunk(3, dim=-1)
        r, z = torch.sigmoid(ar + br), torch.sigmoid(az + bz)
        h = (1 - z) * torch.tanh(an + r * (bq + bn)) + z * h
        states.append(h)
    return torch.stack(states)


def _recurrent(row: Row, cells: dict[str, Callable[..., Tensor]] | None = None) -> Callable[[Tensors, Tensors], Tensor]:
    cell, states_of = row.cell, (cells or {"rnn": rnn, "lstm": lstm, "gru": gru})[row.cell]

    def projected(p: Tensors, x: Tensor) -> Tensor:
        """W x + b of all steps; a one-hot token chooses a column of W."""
        if "embed.E" in p:
            x = F.embedding(x, p["embed.E"])
        elif row.family == "language":
            return F.embedding(x, p[f"{cell}.W"].t()) + p[f"{cell}.b"]
        return F.linear(x, p[f"{cell}.W"], p[f"{cell}.b"])

    def loss_of(p: Tensors, data: Tensors) -> Tensor:
        u = p[f"{cell}.U"].t()
        more = [p["gru.bn"]] if cell == "gru" else []
        h = states_of(projected(p, data["x"]), u, *more, u.new_zeros(row.sizes["N"], row.sizes["H"]))
        if row.family == "recurrent":
            return F.mse_loss(h, data["y"])
        return F.cross_entropy(F.linear(h, p["out.W"], p["out.b"]).flatten(0, 1), data["y"].flatten())

    return loss_of


def _scripted(row: Row, leaves: Tensors, data: Tensors) -> Callable[[], Any]:
    loss_of = _recurrent(row, {row.cell: torch.jit.script({"rnn": rnn, "gru": gru}[row.cell])})

    def call() -> Any:
        loss = loss_of(leaves, data)
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True)), loss

    return call
