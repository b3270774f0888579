"""The models whose derivations are read back: the specs, small, and some with odd things in them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from codegen.derivation.formats import Style, show
from codegen.derivation.provenance import derivation_of
from symbolic import Model, load
from tests.latex_worlds import SMALL, Trial

ROOT = Path(__file__).resolve().parent.parent
RECURRENT = ("char_rnn", "gru_classifier", "leaky_integrator", "lstm_lm", "minimal_gated_unit", "rnn_regression", "second_order")
SPECS = (*RECURRENT, "scalar", "mlp", "lenet", "lenet_digits")
FEWER = {"units": 3, "channels": 2, "kernel": 2, "below": 4}
"""A layer of a spec of fixed sizes becomes one of this width, so that the interpreter is done in a moment."""

IMAGE = {"mlp": {"x": ["N", 4]}, "lenet": {"x": ["N", 1, 10, 9]}, "lenet_digits": {"x": ["N", 1, 5, 6]}}

ODD: dict[str, dict[str, Any]] = {
    "strided": {
        "inputs": {"x": ["N", 2, 9, 8], "y": {"shape": ["N"], "kind": "index", "below": 3}},
        "layers": [
            {"name": "conv", "type": "conv2d", "channels": 3, "kernel": 3, "padding": 2, "stride": 2, "dilation": 2,
             "activation": "tanh"},
            {"name": "pool", "type": "max_pool2d", "kernel": 2, "stride": 1},
            {"name": "flat", "type": "flatten"},
            {"name": "out", "type": "dense", "units": 3},
        ],
        "loss": {"type": "softmax_cross_entropy", "target": "y"},
    },
    "attention": {
        "inputs": {"x": ["N", "T", "D"], "y": ["N", "T", "D"]},
        "layers": [{
            "name": "att", "type": "equations",
            "parameters": {"Q": ["K", "D"], "P": ["K", "D"]},
            "equations": """
q[n,t,k] = Q[k,d]*x[n,t,d]
p[n,u,k] = P[k,d]*x[n,u,d]
z[n,t,u] = q[n,t,k]*p[n,u,k]/sqrt(K)
e[n,t,u] = exp(z[n,t,u])
s[n,t] = e[n,t,u]
o[n,t,d] = e[n,t,u]*x[n,u,d]/s[n,t]
""",
            "output": "o",
        }],
        "loss": {"type": "mse", "target": "y"},
    },
}

DEEP: dict[str, Any] = {
    "inputs": {"x": ["N", 3], "y": ["N", 3]},
    "layers": [{"name": f"fc{k}", "type": "dense", "units": 3, "activation": "tanh"} for k in range(7)],
    "loss": {"type": "mse", "target": "y"},
}
"""Layers of which one is told, and the others are said to be like it."""

EQUATIONS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "branches": ("""
y[n,k] = where(x[n,k] > 0, log(1 + x[n,k])*w[k], x[n,k]*v)
z[n] = sum(abs(y[n,k]) + relu(w[k]*x[n,k])**2, over=k)
u[n] = max(sigmoid(w[k]*x[n,k]), over=k)
loss = sum(clip(z[n], -1, 1)*u[n] + min2(z[n], v) + sqrt(1 + u[n]**2), over=n)/N
""", {"x": ["N", "K"]}, {"w": ["K"], "v": []}),
    "small_numbers": ("""
a[i] = 0.0015*W_h[i,j]*x[j] + 1e-07*Wh[i]*n - c
loss = sum(a[i]**3/(1 + exp(-a[i])) + tanh(2*a[i])*erf(alpha[i]), over=i)
""", {"x": ["J"]}, {"W_h": ["I", "J"], "Wh": ["I"], "n": [], "alpha": ["I"], "c": []}),
    "windows": ("""
y[n,u] = sum(w[p]*x[n,2*u+p-1], over=p) + b[u]
m[n] = max(y[n,u], over=u)
loss = sum(softplus(m[n])*sin(m[n]), over=n)
""", {"x": ["N", 6]}, {"w": [3], "b": [3]}),
    "normal": ("""
m[n] = sum(x[n,k], over=k)/K
v[n] = sum((x[n,k] - m[n])**2, over=k)/K
y[n,k] = g[k]*(x[n,k] - m[n])/sqrt(v[n] + 0.001) + b[k]
loss = sum(y[n,k]**2*w[k], over=(n,k))
""", {"x": ["N", "K"], "w": ["K"]}, {"g": ["K"], "b": ["K"]}),
    "slices": ("""
a[n,r] = W[r,d]*x[n,d]
g[n,k] = tanh(a[n,k])
h[n,k] = sigmoid(a[n,k+H])*g[n,k]
s[n] = sum(h[n,k]*a[n,k], over=k)
loss = sum(s[n]**2, over=n)
""", {"x": ["N", "D"]}, {"W": ["2*H", "D"]}),
}


def _tiny(data: dict[str, Any], name: str) -> Model:
    """A spec with its numbers made small."""
    data["sizes"] = {size: SMALL[size] for size in data.get("sizes", {})}
    if name in IMAGE:
        data["inputs"] = {**data["inputs"], **IMAGE[name]}
        data["inputs"]["y"] = {**data["inputs"]["y"], "below": 4}
        for number, layer in enumerate(data["layers"]):
            layer.update({key: FEWER[key] + (number % 2 if key == "units" else 0) for key in FEWER if key in layer})
        data["layers"][-1]["units"] = 4
    return load(data)


@cache
def trial(name: str, unroll: int | None = None) -> Trial:
    """A spec of the folder, an odd model or a text of equations, small, at one point."""
    if name in ODD or name == "deep":
        return Trial(load({"name": name, **ODD.get(name, DEEP)}))
    if name in EQUATIONS:
        text, inputs, parameters = EQUATIONS[name]
        return Trial(load(text.strip(), name=name, inputs=inputs, parameters=parameters, loss="loss"))
    return Trial(_tiny(yaml.safe_load((ROOT / "specs" / f"{name}.yaml").read_text(encoding="utf-8")), name), unroll)


@cache
def printed(name: str, unroll: int | None = None, adjoint: str = "frac", notation: str = "index") -> str:
    return show(derivation_of(trial(name, unroll).stages), "latex", Style(adjoint=adjoint, notation=notation))
