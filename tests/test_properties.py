"""Property tests: random index equations, differentiated and rewritten, under the interpreter.

The equations have shifts, reflections, strides, kernels, index reads, guards, maxima and recurrences. The adjoint must agree
with perturbation of the interpreter, and every rewrite must leave every value as it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from symbolic.adjoint import gradient
from symbolic.check import check
from symbolic.interpreter import evaluate
from symbolic.program import Program
from symbolic.rewrite import RULES, apply
from symbolic.tangent import tangent
from tests.rewriting import gradients_of, perturbed, program, values_for

SIZES = {"T": 4, "N": 3}
PARAMETERS = {"a": "T", "b": "T,N", "c": "N"}
LABELS = {"ix": ("N", "T"), "jx": ("T", "N"), "ln": ("N", "T+1")}
RANGES = {"t": "T", "u": "T", "n": "N", "m": "N", "k": 2}
STEP = 1e-6
# Central differences of smooth functions of size about 1 in float64: rounding 1e-16/1e-6, truncation 1e-12.
TOLERANCE = 2e-7

TIME = {"t": ("t", "t-1", "t+1", "T-1-t", "t+k-1", "2*t-k", "jx[t]+1"), "n": ("ix[n]", "ix[n]-1", "ln[n]-1"), "": ("0", "T-1")}
BATCH = {"n": ("n", "N-1-n", "n+1", "n+k"), "t": ("jx[t]", "jx[t]-1"), "": ("1",)}


class Draw:
    """Draws the text of a program."""

    def __init__(self, data: Any) -> None:
        self.draw = data.draw
        self.shapes = dict(PARAMETERS)

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def subscripts(self, shape: str, carried: str, free: bool) -> list[str]:
        """One subscript for each axis; ``free`` allows indices that the target does not carry."""
        parts = []
        for axis in shape.split(","):
            table, other = (TIME, "u") if axis == "T" else (BATCH, "m")
            options = [s for key, row in table.items() if not key or key in carried for s in row]
            options = [s for s in options if free or "k" not in s]
            if free:
                options += [other, f"{other}+0"]
            parts.append(self.pick(*options))
        return parts

    def factor(self, names: list[str], carried: str, free: bool, wrap: bool = True) -> str:
        name = self.pick(*names)
        inside = self.pick("{}", "{}", "tanh({})", "sigmoid({})", "exp(-{}**2)", "1/(1 + {}**2)", "relu({})") if wrap else "{}"
        entry = f"{name}[{','.join(self.subscripts(self.shapes[name], carried, free and inside == '{}'))}]"
        return inside.format(entry)

    def guard(self, carried: str, body: str) -> str:
        options = [""] * 3
        if "t" in carried:
            options += ["(t < 3)*", "(t != 1)*"]
            if "u" in body:
                options += ["(u <= t)*", "(u < t)*", "(u == t)*"]
        if "t" in carried and "n" in carried:
            options += ["(t < ln[n])*", "(n == jx[t])*"]
        if "m" in body and "t" in carried:
            options += ["(m == jx[t])*"]
        return self.pick(*options)

    def equation(self, number: int) -> str:
        name = f"y{number}"
        shape = self.pick("T", "T,N", "N")
        carried = ",".join("t" if axis == "T" else "n" for axis in shape.split(","))
        names = list(self.shapes)
        terms = []
        if self.pick(True, False, False) and "t" in carried:
            entry = self.factor(names, carried, False)
            terms.append(f"max({self.pick('', '(k <= t)*', '(t < 2)*')}{entry}*{self.pick('a[t+k-1]', 'a[2*t-k]')}, over=k)")
        else:
            for _ in range(self.pick(1, 2)):
                body = "*".join(self.factor(names, carried, True) for _ in range(self.pick(1, 2)))
                terms.append(f"{self.pick('', '', '-', '2*')}{self.guard(carried, body)}{body}")
            if "t" in carried and self.pick(True, False):
                own = carried.replace("t", self.pick("t-1", "t-2"))
                terms.append(f"{self.pick('tanh', 'sigmoid')}({name}[{own}])*{self.factor(names, carried, False)}")
        self.shapes[name] = shape
        return f"{name}[{carried}] = " + " + ".join(terms).replace("+ -", "- ")

    def text(self) -> str:
        lines = [self.equation(k) for k in range(self.pick(1, 2, 3))]
        name, shape = list(self.shapes.items())[-1]
        axes = ",".join("t" if axis == "T" else "n" for axis in shape.split(","))
        lines.append(f"loss = sum(sin({name}[{axes}]), over=({axes},))")
        return "\n".join(lines)


@st.composite
def programs(draw: Any) -> Program:
    """A random program over the tensors of this module, with a loss."""

    class Data:
        pass

    data = Data()
    data.draw = draw  # type: ignore[attr-defined]
    source = Draw(data)
    text = source.text()
    states = {name: shape for name, shape in source.shapes.items() if name not in PARAMETERS}
    return program(text, PARAMETERS, labels=LABELS, states=states, sizes=dict.fromkeys(SIZES), ranges=RANGES)


RANDOM = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def near_a_kink(p: Program, values: dict[str, Any]) -> bool:
    """Whether relu or a maximum is decided by less than the step of the perturbation: no verdict is possible there."""
    return any(abs(np.asarray(values[name])).min() < 1e-3 for name in PARAMETERS)


@RANDOM
@given(programs(), st.integers(0, 5))
def test_adjoint_agrees_with_perturbation(p: Program, seed: int) -> None:
    check(p)
    values = values_for(p, SIZES, seed)
    assume(not near_a_kink(p, values))
    wrt = list(PARAMETERS)
    found = gradients_of(check(gradient(p, wrt)), values, SIZES, wrt)
    for name in wrt:
        expected = perturbed(p, values, SIZES, name, STEP)
        np.testing.assert_allclose(found[name], expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"{name}\n{p}")


@RANDOM
@given(programs(), st.integers(0, 5))
def test_all_rewrites_together_preserve_values(p: Program, seed: int) -> None:
    values, wrt = values_for(p, SIZES, seed), list(PARAMETERS)
    before = gradients_of(gradient(p, wrt), values, SIZES, wrt)
    forward, _ = apply(p, "forward")
    rewritten, _ = apply(gradient(forward, wrt), "backward")
    after = gradients_of(check(rewritten), values, SIZES, wrt)
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-10, atol=1e-12, err_msg=f"{name}\n{p}\n{rewritten}")


@pytest.mark.parametrize("rule", dict.fromkeys(rule.name for rule in RULES))
@settings(RANDOM, max_examples=15)
@given(p=programs(), seed=st.integers(0, 5))
def test_each_rewrite_alone_preserves_values(rule: str, p: Program, seed: int) -> None:
    values, wrt = values_for(p, SIZES, seed), list(PARAMETERS)
    before = gradients_of(gradient(p, wrt), values, SIZES, wrt)
    others = {other.name for other in RULES} - {rule}
    forward, _ = apply(p, "forward", others)
    rewritten, _ = apply(gradient(forward, wrt), "backward", others)
    after = gradients_of(check(rewritten), values, SIZES, wrt)
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-10, atol=1e-12, err_msg=f"{name}\n{p}\n{rewritten}")


@settings(RANDOM, max_examples=25)
@given(programs(), st.integers(0, 5))
def test_tangent_and_adjoint_are_transposes(p: Program, seed: int) -> None:
    """<d loss, direction> from the tangent is the inner product of the gradient with the direction."""
    values, wrt = values_for(p, SIZES, seed), list(PARAMETERS)
    adjoint = gradients_of(gradient(p, wrt), values, SIZES, wrt)
    forward = tangent(p, wrt)
    rng = np.random.default_rng(seed + 100)
    direction = {name: rng.standard_normal(np.shape(values[name])) for name in wrt}
    given_ = {forward.tangents[name]: direction[name] for name in wrt if name in forward.tangents}
    rate = evaluate(forward, {**values, **given_}, SIZES, [forward.tangents["loss"]]) if "loss" in forward.tangents else None
    slope = float(rate[forward.tangents["loss"]]) if rate is not None else 0.0
    expected = sum(float(np.sum(adjoint[name] * direction[name])) for name in wrt)
    np.testing.assert_allclose(slope, expected, rtol=1e-9, atol=1e-10)


READERS = (
    "q[t,n] = e[t,n]/s[t]",
    "q[t,n] = e[t,n]**2/s[t]**2",
    "q[t] = log(s[t])",
    "q[t] = log(e[t,jx[t]]/s[t])",
    "q[t] = log(p[t,jx[t]])",
    "q[t] = 2*log(s[t]) - z[t,jx[t]]",
    "q[t] = r[t]/s[t]\nr[t] = e[t,n]*b[t,n]",
    "q[t,n] = p[t,n]*log(p[t,n])",
    "q[t] = e[t,0]",
    "q[t] = s[t] + 1",
    "q[t,n] = exp(z[t,n])/s[t]",
    "q[t,n] = e[t,n]/s[t-1]",
    "q[n] = sum(e[t,n], over=t)",
)


@settings(RANDOM, max_examples=50)
@given(
    st.lists(st.sampled_from(range(len(READERS))), min_size=1, max_size=3, unique=True),
    st.sampled_from(["", "(n <= t)*", "(n < ln2[t])*"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)
def test_softmax_like_programs_keep_their_values(
    chosen: list[int], guard: str, inline: bool, added: bool, seed: int
) -> None:
    """Whatever reads exponentials and their sums: where the rewrite fires, and where it must not, values stay."""
    text = [
        "z[t,n] = a[t]*b[t,n] + c[n]",
        "p[t,n] = e[t,n]/s[t]",
        f"e[t,n] = {guard}exp(z[t,n])",
        f"s[t] = sum({guard}exp(z[t,n]), over=n)" if inline else "s[t] = sum(e[t,n], over=n)",
    ]
    losses = ["loss = sum(p[t,n]*b[t,n], over=(t,n))"]
    states = {"z": "T,N", "p": "T,N", "e": "T,N", "s": "T"}
    for k in chosen:
        reader = READERS[k].replace("q[", f"q{k}[").replace("r[", f"r{k}[")
        if guard and "log(p" in reader or guard and "log(e" in reader:
            continue  # log(0) where the guard leaves nothing
        if "s[t-1]" in reader:
            reader = reader.replace("= ", "= (t > 0)*(") + ")"
        text.append(reader)
        axes = reader.partition("[")[2].partition("]")[0]
        losses.append(f"loss += sum(q{k}[{axes}]**2, over=({axes},))")
        states |= {f"q{k}": ",".join("T" if a == "t" else "N" for a in axes.split(","))}
        if "r" in reader.partition("\n")[2]:
            states |= {f"r{k}": "T"}
    if added:  # a sum in the exponent
        text = [line.replace("exp(z[t,n])", "exp(z[t,n] + a[t]*c[n])") for line in text]
    labels = {**LABELS, "ln2": ("T", "N+1")}
    p = program("\n".join([*text, *losses]), PARAMETERS, labels=labels, states=states, sizes=dict.fromkeys(SIZES), ranges=RANGES)
    values = values_for(p, SIZES, seed)
    values["ln2"] = np.maximum(values["ln2"], 1)
    wrt = list(PARAMETERS)
    before = gradients_of(gradient(p, wrt), values, SIZES, wrt)
    rewritten = apply(gradient(apply(p, "forward")[0], wrt), "backward")[0]
    after = gradients_of(check(rewritten), values, SIZES, wrt)
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-9, atol=1e-11, err_msg=f"{name}\n{p}\n{rewritten}")
