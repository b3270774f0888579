"""What the tests of the core share: programs from a few lines of text, random values, perturbation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import sympy as sp

from symbolic.adjoint import gradient
from symbolic.check import check
from symbolic.interpreter import evaluate
from symbolic.parser import Scope, parse
from symbolic.program import Kind, Program, Role, Tensor, size
from symbolic.rewrite import RULES, apply

FORWARD_OFF: tuple[str, ...] = ()
NAMES = tuple(dict.fromkeys(rule.name for rule in RULES))
"""The rewrites, each once."""


def program(
    text: str,
    parameters: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | None = None,
    labels: Mapping[str, tuple[str, Any]] | None = None,
    states: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int | None] | None = None,
    ranges: Mapping[str, Any] | None = None,
    outputs: Iterable[str] = (),
    ignore: Mapping[str, int] | None = None,
    low: Mapping[str, int] | None = None,
) -> Program:
    """A Program from equation text; shapes are written ``"T,N,H"``. ``labels``: index inputs, (shape, bound)."""
    from symbolic.parser import parse_extent

    known = {name: size(name) for name in (sizes or {})}

    def shape(spec: str) -> tuple[Any, ...]:
        return tuple(parse_extent(part.strip(), known) for part in spec.split(",")) if spec else ()

    tensors = {n: Tensor(n, shape(s), Role.PARAMETER) for n, s in (parameters or {}).items()}
    tensors |= {n: Tensor(n, shape(s), Role.INPUT) for n, s in (inputs or {}).items()}
    for n, (s, below) in (labels or {}).items():
        tensors[n] = Tensor(
            n,
            shape(s),
            Role.INPUT,
            Kind.INDEX,
            below=parse_extent(below, known),
            ignore=(ignore or {}).get(n),
            low=sp.Integer((low or {}).get(n, 0)),
        )
    for n, s in (states or {}).items():
        spec, margin = s if isinstance(s, tuple) else (s, ())
        tensors[n] = Tensor(n, shape(spec), margin=margin)
    parsed = parse(
        text, Scope("", tensors, known, {k: shape(v)[0] if isinstance(v, str) else v for k, v in (ranges or {}).items()})
    )
    made = (*tensors.values(), *parsed.tensors)
    loss = "loss" if any(t.name == "loss" for t in made) else ""
    return Program("test", made, parsed.equations, dict(sizes or {}), loss, tuple(outputs))


def values_for(p: Program, sizes: Mapping[str, int], seed: int = 0, **given: Any) -> dict[str, Any]:
    """Random values for parameters and inputs; index inputs within their range."""
    rng = np.random.default_rng(seed)
    number = {size(n): v for n, v in {**{k: v for k, v in p.sizes.items() if v is not None}, **sizes}.items()}
    found: dict[str, Any] = {}
    for tensor in (*p.parameters, *p.inputs):
        shape = [int(e.xreplace(number)) for e in tensor.shape]
        if tensor.is_index:
            low, below = int(sp.sympify(tensor.low).xreplace(number)), int(sp.sympify(tensor.below).xreplace(number))
            found[tensor.name] = rng.integers(low, below, shape)
        else:
            found[tensor.name] = rng.standard_normal(shape)
    return {**found, **given}


def differentiated(p: Program, wrt: Iterable[str] | None = None, disabled: Iterable[str] = ()) -> tuple[Program, Program]:
    """The plain adjoint of the program as it stands, and the fully rewritten one."""
    plain = gradient(p, wrt)
    forward, _ = apply(p, "forward", disabled)
    rewritten, _ = apply(gradient(forward, wrt), "backward", disabled)
    return plain, rewritten


def gradients_of(p: Program, values: Mapping[str, Any], sizes: Mapping[str, int], wrt: Iterable[str]) -> dict[str, Any]:
    """Loss and gradients under the interpreter."""
    names = {name: p.gradients[name] for name in wrt}
    found = evaluate(p, values, sizes, [p.loss, *names.values()])
    return {"loss": found[p.loss], **{name: found[adjoint] for name, adjoint in names.items()}}


def assert_same(
    p: Program, q: Program, sizes: Mapping[str, int], wrt: Iterable[str] | None = None, seed: int = 0, **given: Any
) -> None:
    """Loss and gradients of two programs agree under the interpreter."""
    wrt = [t.name for t in p.parameters] if wrt is None else list(wrt)
    values = values_for(p, sizes, seed, **given)
    a, b = gradients_of(p, values, sizes, wrt), gradients_of(q, values, sizes, wrt)
    for name in a:
        np.testing.assert_allclose(b[name], a[name], rtol=1e-10, atol=1e-11, err_msg=name)


def perturbed(p: Program, values: Mapping[str, Any], sizes: Mapping[str, int], name: str, step: float = 1e-6) -> Any:
    """Central differences of the loss by every entry of one tensor."""
    base = np.array(values[name], dtype=float)
    found = np.zeros_like(base)
    for place in np.ndindex(base.shape):
        ends = []
        for sign in (1, -1):
            moved = base.copy()
            moved[place] += sign * step
            ends.append(float(evaluate(p, {**values, name: moved}, sizes, [p.loss])[p.loss]))
        found[place] = (ends[0] - ends[1]) / (2 * step)
    return found


def lines(p: Program) -> list[str]:
    """The equations without their domains, as text."""
    return [str(equation).split("    for ")[0] for equation in p.equations]


def only(p: Program, *rules: str, wrt: list[str] | None = None) -> Program:
    """The adjoint after these rules alone."""
    return check(apply(gradient(p, wrt), "backward", set(NAMES) - set(rules))[0])


def adjoints(p: Program) -> list[str]:
    """The adjoint equations as text, without numbers."""
    return [line.partition(") ")[2] for line in lines(p) if line.partition(") ")[2].startswith("d_")]


def changed(p: Program, rule: str) -> bool:
    plain = gradient(p)
    return apply(plain, "backward", set(NAMES) - {rule})[1] != ()


RNN = """
a[t,i] = W[i,k]*x[t,k] + U[i,j]*h[t-1,j]
h[t,i] = tanh(a[t,i])
loss = mean(h[t,i]**2, over=(t,i))
"""


def rnn(text: str = RNN) -> Program:
    return program(text, {"W": "H,D", "U": "H,H"}, {"x": "T,D"}, states={"h": "T,H"}, sizes={"T": None, "H": None, "D": None})


RNN_SIZES = {"T": 4, "H": 3, "D": 2}


LSTM_CELL = """
c[t,k] = f[t,k]*c[t-1,k] + a[t,k]
h[t,k] = o[t,k]*tanh(c[t,k])
loss = sum(h[t,k]**2, over=(t,k))
"""


def cell() -> Program:
    return program(LSTM_CELL, {"f": "T,H", "o": "T,H", "a": "T,H"}, states={"c": "T,H", "h": "T,H"}, sizes={"T": None, "H": None})
