"""Unrolling: the recurrence written out for each step has the values and gradients of the rolled one."""

from __future__ import annotations

import numpy as np
import pytest

from symbolic.adjoint import gradient
from symbolic.check import check
from symbolic.errors import ProgramError, SpecError
from symbolic.interpreter import evaluate
from symbolic.program import Program
from symbolic.rewrite import apply
from symbolic.unroll import recurrent_sizes, unroll
from tests.rewriting import gradients_of, lines, program, values_for

SIZES = {"T": None, "N": None, "H": None, "D": None}
INPUTS = {"x": "T,N,D"}

TEXTS = {
    "rnn": (
        """
a[t,n,i] = W[i,k]*x[t,n,k] + U[i,j]*h[t-1,n,j]
h[t,n,i] = tanh(a[t,n,i])
loss = mean(h[t,n,i]**2, over=(t,n,i))
""",
        {"W": "H,D", "U": "H,H"},
        {"h": "T,N,H"},
    ),
    "packed gates": (
        """
a[t,n,g] = W[g,k]*x[t,n,k] + U[g,j]*h[t-1,n,j]
f[t,n,i] = sigmoid(a[t,n,i+0])
c[t,n,i] = f[t,n,i]*c[t-1,n,i] + tanh(a[t,n,H+i])
h[t,n,i] = tanh(c[t,n,i])
loss = sum(h[T-1,n,i]**2, over=(n,i))
""",
        {"W": "2*H,D", "U": "2*H,H"},
        {"h": "T,N,H", "c": "T,N,H", "f": "T,N,H"},
    ),
    "two lags": (
        """
h[t,n,i] = tanh(W[i,0]*x[t,n,0] + b[i]*h[t-1,n,i] - h[t-2,n,i])
loss = sum(h[t,n,i]**2, over=(t,n,i))
""",
        {"W": "H,D", "b": "H"},
        {"h": "T,N,H"},
    ),
    "a given start": (
        """
h[-1,n,i] = h0[i]
h[t,n,i] = tanh(h[t-1,n,i] + W[i,0]*x[t,n,0])
loss = sum(h[t,n,i]**2, over=(t,n,i))
""",
        {"W": "H,D", "h0": "H"},
        {"h": ("T,N,H", ((1, 0), (0, 0), (0, 0)))},
    ),
    "both directions": (
        """
f[t,n,i] = tanh(W[i,0]*x[t,n,0] + b[i]*f[t-1,n,i])
r[t,n,i] = tanh(W[i,0]*x[t,n,0] + b[i]*r[t+1,n,i])
loss = sum(f[t,n,i]*r[t,n,i], over=(t,n,i))
""",
        {"W": "H,D", "b": "H"},
        {"f": "T,N,H", "r": "T,N,H"},
    ),
    "a reversed input": (
        """
h[t,n,i] = tanh(W[i,0]*x[T-1-t,n,0] + b[i]*h[t-1,n,i])
loss = mean(h[t,n,i], over=(t,n,i))
""",
        {"W": "H,D", "b": "H"},
        {"h": "T,N,H"},
    ),
    "the time index shifted forward": (
        """
h[0,n,i] = h0[i]
h[t+1,n,i] = sigmoid(b[i]*h[t+0,n,i] + W[i,0]*x[t,n,0])
loss = sum(h[T,n,i]**2, over=(n,i))
""",
        {"W": "H,D", "b": "H", "h0": "H"},
        {"h": "T+1,N,H"},
    ),
    "a maximum over the steps": (
        """
h[t,n,i] = tanh(W[i,0]*x[t,n,0] + b[i]*h[t-1,n,i])
m[n,i] = max(h[t,n,i], over=t)
loss = sum(m[n,i]**2, over=(n,i))
""",
        {"W": "H,D", "b": "H"},
        {"h": "T,N,H"},
    ),
}


def recurrence(name: str) -> Program:
    text, parameters, states = TEXTS[name]
    return program(text, parameters, INPUTS, states=states, sizes=SIZES, ranges={"t": "T", "i": "H", "n": "N"})


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("name", TEXTS)
def test_rolled_is_unrolled(name: str, steps: int) -> None:
    p = recurrence(name)
    check(p)
    sizes = {"T": steps, "N": 2, "H": 3, "D": 2}
    names = [t.name for t in p.parameters] + ["x"]
    values = values_for(p, sizes, seed=steps)
    rolled = gradients_of(gradient(p, names), values, sizes, names)
    straight = check(unroll(p, steps))
    plain = check(gradient(straight, names))
    rewritten = check(apply(gradient(apply(straight, "forward")[0], names), "backward")[0])
    for q in (plain, rewritten):
        found = gradients_of(q, values, sizes, names)
        for key in rolled:
            np.testing.assert_allclose(found[key], rolled[key], rtol=1e-12, atol=1e-14, err_msg=key)


def test_the_nested_composite_form() -> None:
    p = program("h[t] = tanh(w*h[t-1] + x[t])\nloss = h[T-1]**2", {"w": ""}, {"x": "T"}, states={"h": "T"}, sizes={"T": None})
    assert lines(unroll(p, 3)) == [
        "(1) h[0] += tanh(x[0])",
        "(2) h[1] += tanh(h[0]*w[] + x[1])",
        "(3) h[2] += tanh(h[1]*w[] + x[2])",
        "(4) loss[] += h[2]**2",
    ]


def test_what_no_step_writes_vanishes_with_its_terms() -> None:
    """q[0] has no equation left (h[-1] is 0): it leaves the sums and products that read it, and cos keeps its f(0) = 1."""
    p = program(
        "q[t] = w*h[t-1]\nc[t] = cos(q[t])\nh[t] = tanh(q[t] + x[t]*c[t])\nloss = h[T-1]*q[0] + sum(q[t]*x[t], over=t) + h[T-1]",
        {"w": ""}, {"x": "T"}, states={"h": "T", "q": "T"}, sizes={"T": None}, ranges={"t": "T"},
    )
    straight = unroll(p, 2)
    assert lines(straight) == [
        "(1) c[0] += 1", "(2) h[0] += tanh(c[0]*x[0])",
        "(3) q[1] += h[0]*w[]", "(4) c[1] += cos(q[1])", "(5) h[1] += tanh(c[1]*x[1] + q[1])",
        "(6) loss[] += q[1]*x[1]", "(7) loss[] += h[1]",
    ]
    values = values_for(p, {"T": 2})
    expected = gradients_of(gradient(p), values, {"T": 2}, ["w"])
    np.testing.assert_allclose(gradients_of(gradient(straight), values, {}, ["w"])["w"], expected["w"], rtol=1e-12)


def test_a_quotient_that_is_not_finite_keeps_its_read() -> None:
    p = program("q[t] = w*h[t-1]\nh[t] = x[t] + (t > 0)*x[t]/q[t]\nloss = sum(h[t], over=t) + sum((t > 5)/q[t], over=t)",
                {"w": ""}, {"x": "T"}, states={"h": "T", "q": "T"}, sizes={"T": None}, ranges={"t": "T"})
    assert "(4) h[1] += x[1]/q[1]" in lines(unroll(p, 2))
    q = program("q[t] = w*h[t-1]\nh[t] = x[t]/(q[t] + q[t])\nloss = h[T-1]", {"w": ""}, {"x": "T"},
                states={"h": "T", "q": "T"}, sizes={"T": None}, ranges={"t": "T"})
    assert lines(unroll(q, 1)) == ["(1) h[0] += x[0]/(2*q[0])", "(2) loss[] += h[0]"]


def test_what_only_a_vanished_step_would_read_is_not_computed() -> None:
    """A forget gate of the first step multiplies c[-1] = 0: neither it nor its slope is left."""
    p = program(
        "f[t] = sigmoid(v*x[t])\nc[t] = f[t]*c[t-1] + x[t]\nloss = c[T-1]",
        {"v": ""}, {"x": "T"}, states={"c": "T", "f": "T"}, sizes={"T": None},
    )
    straight = unroll(p, 3)
    rewritten = apply(gradient(straight, ["v"]), "backward")[0]
    assert not [e for e in rewritten.equations if str(e.target) in ("f[0]", "d_f[0]")], lines(rewritten)
    values = values_for(p, {"T": 3})
    expected = gradients_of(gradient(p), values, {"T": 3}, ["v"])
    np.testing.assert_allclose(gradients_of(rewritten, values, {}, ["v"])["v"], expected["v"], rtol=1e-12)


def test_too_many_steps_are_refused() -> None:
    with pytest.raises(SpecError, match=r"test: 20000 steps of T make 80,000 equations, expected at most 10,000: .*leave the l"):
        unroll(recurrence("rnn"), 20000)


def test_lengths_stay_guards() -> None:
    p = program(
        "h[t,n] = (t < len[n])*tanh(w*h[t-1,n] + x[t,n])\nloss = sum(h[t,n]**2, over=(t,n)) + sum(h[len[n]-1,n], over=n)",
        {"w": ""},
        {"x": "T,N"},
        labels={"len": ("N", "T+1")},
        states={"h": "T,N"},
        sizes={"T": None, "N": None},
    )
    values = values_for(p, {"T": 3, "N": 3}, len=np.array([1, 3, 2]))
    straight = check(unroll(p, 3))
    assert straight.tensor("len").below == 4
    rolled = gradients_of(gradient(p), values, {"T": 3, "N": 3}, ["w"])
    found = gradients_of(apply(gradient(straight), "backward")[0], values, {"N": 3}, ["w"])
    np.testing.assert_allclose(found["w"], rolled["w"], rtol=1e-12)


def test_guards_that_a_step_decides_are_gone() -> None:
    p = program(
        "h[t] = (t > 0)*tanh(w*h[t-1]) + (t == 0)*x[0]\nloss = h[T-1]",
        {"w": ""},
        {"x": "T"},
        states={"h": "T"},
        sizes={"T": None},
    )
    assert lines(unroll(p, 2)) == ["(1) h[0] += x[0]", "(2) h[1] += tanh(h[0]*w[])", "(3) loss[] += h[1]"]


def test_a_border_that_is_not_0_keeps_its_value() -> None:
    p = program(
        "h[t] = exp(-h[t-1])*w\nloss = sum(h[t], over=t)", {"w": ""}, states={"h": "T"}, sizes={"T": None}, ranges={"t": "T"}
    )
    assert lines(unroll(p, 2))[0] == "(1) h[0] += w[]"
    assert evaluate(unroll(p, 2), {"w": 2.0}, {}, ["h"])["h"][0] == 2


def test_the_recurrent_size_is_found_from_shifts_alone() -> None:
    for name in TEXTS:
        assert [str(s) for s in recurrent_sizes(recurrence(name))] == ["T"], name


def test_a_number_of_steps_must_fit_a_fixed_size() -> None:
    p = program("h[t] = tanh(h[t-1] + x[t])\nloss = sum(h[t], over=t)", {"x": "T"}, states={"h": "T"}, sizes={"T": 4})
    assert len(unroll(p, 4).equations) == 8
    with pytest.raises(ProgramError, match="the spec fixes T = 4, so 4 steps can be unrolled, not 3; ask for 4, or leave T free"):
        unroll(p, 3)


@pytest.mark.parametrize("steps", [0, -1, True, 2.0, "3"])
def test_a_number_of_steps_is_a_positive_integer(steps: object) -> None:
    with pytest.raises(ProgramError, match="expected a number of steps of at least 1 to unroll, found"):
        unroll(recurrence("rnn"), steps)  # type: ignore[arg-type]


def test_a_program_without_a_recurrence_is_refused() -> None:
    p = program("y[n] = tanh(x[n])\nloss = sum(y[n], over=n)", {"x": "N"}, sizes={"N": None})
    with pytest.raises(ProgramError, match=r"nothing to unroll: expected a recurrence, .* found none"):
        unroll(p, 3)


def test_a_recurrence_over_two_axes_asks_for_one() -> None:
    p = program(
        "u[s,t] = tanh(u[s-1,t] + u[s,t-1] + x[s,t])\nloss = sum(u[s,t], over=(s,t))",
        {"x": "S,T"},
        states={"u": "S,T"},
        sizes={"S": None, "T": None},
    )
    with pytest.raises(ProgramError, match="expected one recurrent axis to unroll, found S, T; unroll"):
        unroll(p, 2)
    straight = unroll(p, 2, "S")
    values = values_for(p, {"S": 2, "T": 3})
    found = gradients_of(gradient(straight), values, {"T": 3}, ["x"])
    expected = gradients_of(gradient(p), values, {"S": 2, "T": 3}, ["x"])
    np.testing.assert_allclose(found["x"], expected["x"], rtol=1e-12)


def test_an_unknown_axis_is_refused() -> None:
    with pytest.raises(ProgramError, match=r"no size 'TT' to unroll; did you mean 'T'\?; known: T, N, H, D"):
        unroll(recurrence("rnn"), 2, "TT")
