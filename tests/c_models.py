"""Models for the tests of generated C, each about one thing that its text must get right: what is asked for, and small sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import symbolic
from codegen.pipeline import Options
from symbolic.layers.activation import ACTIVATIONS

__all__ = ["MODELS", "Subject"]


ALL = Options(wrt="all")


@dataclass(frozen=True)
class Subject:
    """A model, made when it is wanted; ``sizes``: runs, each with values for the free sizes; ``given``: arrays that matter."""

    make: Callable[[], symbolic.Model]
    sizes: tuple[Mapping[str, int], ...]
    options: Options = ALL
    given: Mapping[str, Any] = field(default_factory=dict)


def text(equations: str, **keys: Any) -> Callable[[], symbolic.Model]:
    return lambda: symbolic.load(equations, **{"loss": "loss", "name": "m", **keys})


def spec(**keys: Any) -> Callable[[], symbolic.Model]:
    return lambda: symbolic.load({"name": "m", **keys})


def sizes(**values: tuple[int, ...]) -> tuple[dict[str, int], ...]:
    return tuple(dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True))


def every_activation() -> symbolic.Model:
    """One after the other, each on a small map that keeps the numbers moderate."""
    layers: list[dict[str, Any]] = []
    for k, name in enumerate(ACTIVATIONS):
        layers.append({"name": f"d{k}", "type": "dense", "units": 4})
        layers.append({"name": f"a{k}", "type": name})
    layers.append({"name": "out", "type": "dense", "units": 3})
    return symbolic.load({"name": "m", "inputs": {"x": ["N", 3], "y": ["N", 3]}, "layers": layers,
                          "loss": {"type": "log_cosh", "target": "y"}})


LABELS = {"shape": ["T", "N"], "kind": "index", "below": 5}
LENGTHS = {"shape": ["N"], "kind": "index", "low": 1, "below": "T+1"}
BOTH = Options(wrt="all", tangent=True, hvp=True)
TN = sizes(T=(3, 1), N=(2, 1))

MODELS: dict[str, Subject] = {
    "names of macros": Subject(text(
        "y[n] = EXTENSIONS[i]*INDEPENDENT[i]*x[n,i] + UNROLL*ONCE + REAL_IS_FLOAT[n]*M_THREADS + M_H\n"
        "loss = sum(y[n]**2, over=n)",
        inputs={"x": ["N", 3], "REAL_IS_FLOAT": ["N"]},
        parameters={"EXTENSIONS": [3], "INDEPENDENT": [3], "UNROLL": [], "ONCE": [], "M_THREADS": [], "M_H": []}),
        sizes(N=(3, 1))),
    "lags 1 and 3": Subject(text(
        "a[t,i] = x[t,i] + u[i]*h[t-1,i] + V[i,j]*h[t-3,j]\nh[t,i] = tanh(a[t,i])\nloss = sum(h[t,i]**2, over=(t,i))",
        inputs={"x": ["T", "H"]}, parameters={"u": ["H"], "V": ["H", "H"]}), sizes(T=(7, 1, 3, 33), H=(2, 1, 3, 17))),
    "two directions": Subject(text(
        "f[t,i] = tanh(x[t,i] + sum(U[i,j]*f[t-1,j], over=j))\nb[t,i] = tanh(x[t,i] + sum(V[i,j]*b[t+1,j], over=j))\n"
        "h[t,i] = f[t,i]*b[t,i]\nloss = sum(h[t,i]**2, over=(t,i))",
        inputs={"x": ["T", "H"]}, parameters={"U": ["H", "H"], "V": ["H", "H"]}),
        sizes(T=(4, 1), H=(3, 1))),
    "two axes": Subject(text(
        "a[s,t,i] = x[s,t,i] + U[i,j]*h[s-1,t,j] - U[j,i]*h[s,t-1,j]\nh[s,t,i] = tanh(a[s,t,i])\n"
        "loss = sum(h[s,t,i]**2, over=(s,t,i))",
        inputs={"x": ["S", "T", "H"]}, parameters={"U": ["H", "H"]}), sizes(S=(3, 1, 2), T=(2, 1, 5), H=(2, 1, 9))),
    "lengths": Subject(spec(
        inputs={"x": ["T", "N", 3], "len": LENGTHS, "y": ["T", "N", 8]},
        layers=[{"name": "lstm", "type": "lstm", "units": 4, "lengths": "len", "direction": "both", "state": "given"}],
        loss={"type": "mse", "target": "y"}), TN),
    "ignored labels": Subject(spec(
        inputs={"x": {**LABELS, "ignore": -100}, "y": {**LABELS, "ignore": -1}},
        layers=[{"name": "e", "type": "embedding", "classes": 5, "units": 3},
                {"name": "out", "type": "dense", "units": 5, "activation": "tanh"}],
        loss={"type": "softmax_cross_entropy", "target": "y"}), TN),
    "one_hot": Subject(spec(
        inputs={"x": {**LABELS, "ignore": -1}, "y": ["T", "N", 2]},
        layers=[{"name": "e", "type": "one_hot", "classes": 5}, {"name": "r", "type": "gru", "units": 3, "layers": 2},
                {"name": "out", "type": "dense", "units": 2}],
        loss={"type": "huber", "target": "y", "delta": 0.3}), TN),
    "convolutions": Subject(spec(
        inputs={"x": ["N", 4, 9, 8], "y": ["N", 5]},
        layers=[{"name": "a", "type": "conv2d", "channels": 6, "kernel": [3, 2], "groups": 2, "padding": [1, 1],
                 "stride": [2, 1], "activation": "silu"},
                {"name": "b", "type": "conv2d", "channels": 3, "kernel": [3, 2], "dilation": [2, 3], "padding": 2},
                {"name": "p", "type": "avg_pool2d", "kernel": 2, "padding": 1, "stride": 2},
                {"name": "f", "type": "flatten"}, {"name": "out", "type": "dense", "units": 5}],
        loss={"type": "mse", "target": "y"}), sizes(N=(2, 1))),
    "a convolution of a free length": Subject(spec(
        inputs={"x": ["N", 2, "T"], "y": ["N", 3]},
        layers=[{"name": "a", "type": "conv1d", "channels": 3, "kernel": 3, "padding": 2, "stride": 2, "dilation": 2},
                {"name": "p", "type": "max_pool1d", "kernel": 2, "stride": 1, "padding": 1},
                {"name": "g", "type": "global_avg_pool"}],
        loss={"type": "mse", "target": "y"}), sizes(N=(2, 1, 3), T=(7, 1, 40))),
    "overlapping maxima": Subject(spec(
        inputs={"x": ["N", 3, 7, 6], "y": {"shape": ["N"], "kind": "index", "below": 4}},
        layers=[{"name": "p", "type": "max_pool2d", "kernel": 3, "stride": 2, "padding": 1},
                {"name": "c", "type": "conv2d", "channels": 4, "kernel": 2, "activation": "relu"},
                {"name": "q", "type": "max_pool2d", "kernel": 2, "stride": 1}, {"name": "g", "type": "global_max_pool"}],
        loss={"type": "softmax_cross_entropy", "target": "y"}), sizes(N=(2, 1))),
    "every activation": Subject(every_activation, sizes(N=(5, 1))),
    "unrolled": Subject(text(
        "a[t,n,i] = x[t,n,i] + U[i,j]*h[t-1,n,j] + v[i]*h[t-2,n,i]\nh[t,n,i] = tanh(a[t,n,i])\n"
        "loss = sum(h[t,n,i]**2, over=(t,n,i))",
        inputs={"x": ["T", "N", "H"]}, parameters={"U": ["H", "H"], "v": ["H"]}), sizes(N=(2, 1), H=(4, 1)),
        Options(wrt="all", unroll=3)),
    "directions": Subject(spec(
        inputs={"x": ["T", "N", 3], "y": ["T", "N", 2]},
        layers=[{"name": "r", "type": "rnn", "units": 4, "state": "learned"}, {"name": "out", "type": "dense", "units": 2}],
        loss={"type": "log_cosh", "target": "y"}), TN, BOTH),
    "directions of gathers": Subject(text(
        "q[n,i] = E[ix[n],i]*x[n,i]\np[n] = max(q[n,i], over=i)\nz[n] = sin(p[n])*w[n]\nloss = sum(z[n]**2*exp(z[n]), over=n)",
        inputs={"x": ["N", "H"], "ix": {"shape": ["N"], "kind": "index", "below": "B"}},
        parameters={"E": ["B", "H"], "w": ["N"]}), sizes(N=(5, 1), H=(3, 1), B=(4, 1)), BOTH),
    "no free sizes": Subject(spec(
        dtype="float64", sizes={"K": 5}, inputs={"x": ["K", 3], "y": ["K", 2]},
        layers=[{"name": "a", "type": "dense", "units": 7, "activation": "gelu"}, {"name": "out", "type": "dense", "units": 2}],
        loss={"type": "mae", "target": "y"}), ({},)),
    "scalars": Subject(text(
        "a = sin(p)*q + exp(-z**2)\nb = a**3 - sqrt(1 + a**2)/(2 + cos(q))\nloss = b*a + log(1 + b**2)",
        parameters={"p": [], "q": []}, inputs={"z": []}), ({},), BOTH),
    "an output that is an input": Subject(text(
        "y[n,i] = x[n,i]\nloss = sum(y[n,i]*w[i], over=(n,i))", inputs={"x": ["N", "H"]}, parameters={"w": ["H"]}, output="y"),
        sizes(N=(3, 1), H=(2, 1))),
    "unused parameter": Subject(text(
        "loss = sum(w[i]*x[n,i] + 0*k[i], over=(n,i))", inputs={"x": ["N", "H"], "unread": ["N"]},
        parameters={"w": ["H"], "k": ["H"], "u": ["H", 3], "s": []}), sizes(N=(3, 1), H=(2, 1)), BOTH),
    "carried against time": Subject(text(
        "h[t,n] = 0.5*h[t+2,n] + tanh(h[t+1,n])*w[n]\nloss = sum(h[t,n]**2, over=(t,n))",
        parameters={"w": ["N"]}, inputs={"y": ["T", "N"]},
        states={"h": {"shape": ["T", "N"], "initial": "carry", "reverse": True, "lag": 2}}), sizes(T=(4, 1, 2), N=(2, 1, 3))),
    "carried": Subject(spec(
        inputs={"x": ["T", "N", 3], "len": LENGTHS, "y": {"shape": ["N"], "kind": "index", "below": 3}},
        layers=[{"name": "g", "type": "gru", "units": 4, "lengths": "len", "state": "carry", "output": "last"},
                {"name": "out", "type": "dense", "units": 3}],
        loss={"type": "softmax_cross_entropy", "target": "y", "reduction": "sum"}), TN),
    "scattered": Subject(text(
        "y[tok[t-1],i] = q[t,0,i]\nz[t,i] = E[tok[t-1],i] + E[tok[tok[t+1]],i]*(tok[t-1] < 2)\n"
        "loss = sum(y[v,i]**2, over=(v,i)) + sum(z[t,i]**3, over=(t,i))",
        inputs={"tok": {"shape": ["T"], "kind": "index", "below": 3}, "q": ["T", "N", "H"]},
        parameters={"E": [3, "H"]}, shapes={"y": [3, "H"]}, ranges={"t": "T"}), sizes(T=(3, 3), N=(2, 1), H=(2, 1)),
        given={"tok": [2, 1, 0]}),
    "ignored labels in guards": Subject(text(
        "y[n] = (lab[n] != 1)*c[n] + (lab[n] < 2)*tanh(c[n])\nloss = sum(y[n]**2, over=n)",
        inputs={"lab": {"shape": ["N"], "kind": "index", "below": 3, "ignore": -1}}, parameters={"c": ["N"]}), sizes(N=(7, 1))),
    "a maximum of nothing": Subject(text(
        "y[n,i] = max((i < H-1)*x[n,i,k]*w[k], over=k)\nloss = sum(y[n,i]**2, over=(n,i))", outputs=["y"],
        inputs={"x": ["N", "H", "K"]}, parameters={"w": ["K"]}), sizes(N=(2, 1), H=(3, 1), K=(2, 1))),
    "awkward names": Subject(text(
        "product[at,base] = x[at,base] + scratch[base,total]*bytes[at-1,total] + max(c[lab[at],found]*b[found], over=found)\n"
        "bytes[at,base] = tanh(product[at,base])\nvalue = sum(bytes[at,base]**2, over=(at,base))",
        loss="value", output="bytes", sizes={"real": 4},
        parameters={"scratch": ["room", "room"], "c": [3, "real"], "b": ["real"]},
        inputs={"x": ["k", "room"], "lab": {"shape": ["k"], "kind": "index", "below": 3, "ignore": -1}}),
        sizes(k=(3, 1), room=(2, 1)), BOTH),
}
