"""Stored values are read where they are the value, and never where they are not quite."""

from __future__ import annotations

import numpy as np
import pytest

from symbolic.adjoint import gradient
from symbolic.interpreter import evaluate
from tests.rewriting import adjoints, assert_same, changed, differentiated, lines, only, program

# ---- reuse -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h[t] = tanh(a[t])", "(1 - h[t]**2)*d_h[t]"),
        ("h[t] = sigmoid(a[t])", "(1 - h[t])*d_h[t]*h[t]"),
        ("h[t] = relu(a[t])", "gt(h[t], 0)*d_h[t]"),
        ("h[t] = exp(a[t])", "d_h[t]*h[t]"),
        ("h[t] = 3*tanh(a[t])", "(3 - h[t]**2/3)*d_h[t]"),
        ("h[t] = sqrt(a[t]**2 + 1)", "a[t]*d_h[t]/h[t]"),
        ("h[t] = 1/sqrt(a[t]**2 + 1)", "-a[t]*d_h[t]*h[t]**3"),
        ("h[t] = 1/(a[t]**2 + 1)", "-2*a[t]*d_h[t]*h[t]**2"),
        ("h[t] = log_sigmoid(a[t])", "sigmoid(-a[t])*d_h[t]"),
    ],
)
def test_stored_values_are_read(text: str, expected: str) -> None:
    p = program(f"{text}\nloss = sum(h[t]**2, over=t)", {"a": "T"}, sizes={"T": None})
    assert f"d_a[t] += {expected}" in adjoints(only(p, "reuse"))
    assert_same(gradient(p), only(p, "reuse"), {"T": 3})


def test_13_a_softmax_finds_its_own_quotient() -> None:
    p = program(
        "e[k] = exp(z[k])\ns = sum(e[k], over=k)\np[k] = e[k]/s\nloss = sum(p[k]**2, over=k)", {"z": "K"}, sizes={"K": None}
    )
    assert "d_s[] += -d_p[k]*p[k]/s[]" in adjoints(only(p, "reuse"))
    assert_same(gradient(p), only(p, "reuse"), {"K": 3})


def test_13_a_variance_finds_its_stored_root() -> None:
    p = program(
        "r = 1/sqrt(v + 0.001)\ny[i] = x[i]*r\nv = mean(x[i]**2, over=i)\nloss = sum(y[i]**3, over=i)",
        {"x": "I"},
        sizes={"I": None},
    )
    assert "d_v[] += -d_r[]*r[]**3/2" in adjoints(only(p, "reuse"))
    assert_same(gradient(p), only(p, "reuse"), {"I": 3})


def test_2_an_entry_with_two_contributions_is_not_the_value_of_one() -> None:
    p = program(
        "h[t] = tanh(a[t])\nh[t] += x[t]\nloss = sum(h[t]**2, over=t)",
        {"a": "T"},
        {"x": "T"},
        states={"h": "T"},
        sizes={"T": None},
    )
    assert not changed(p, "reuse")


def test_2_a_start_on_its_own_slice_does_not_stand_in_the_way() -> None:
    p = program(
        "h[0] = h0\nh[t+1] = tanh(w*h[t+0])\nloss = sum(h[t+0]**2, over=t)",
        {"w": "", "h0": ""},
        states={"h": "T+1"},
        sizes={"T": None},
        ranges={"t": "T"},
    )
    assert any("h[t + 1]**2" in line for line in adjoints(only(p, "reuse")))
    assert_same(gradient(p), only(p, "reuse"), {"T": 3})


def test_2_gates_packed_in_slices_are_told_apart() -> None:
    p = program(
        """
g[k+0] = sigmoid(a[k+0])
g[H+k] = tanh(a[H+k])
loss = sum(g[i]**2*v[i], over=i)
""",
        {"a": "2*H"},
        {"v": "2*H"},
        states={"g": "2*H"},
        sizes={"H": None},
        ranges={"k": "H"},
    )
    found = adjoints(only(p, "reuse"))
    assert "d_a[k] += (1 - g[k])*d_g[k]*g[k]" in found
    assert "d_a[H + k] += (1 - g[H + k]**2)*d_g[H + k]" in [line.replace("k + H", "H + k") for line in found]
    assert_same(gradient(p), only(p, "reuse"), {"H": 2})


def test_a_value_under_a_guard_is_read_only_under_it() -> None:
    text = "h[t] = (t < len)*tanh(a[t])\ny[t] = {}tanh(a[t])*b[t]\nloss = sum(h[t]*y[t], over=t)"
    labels = {"len": ("", "T+1")}
    free = program(text.format(""), {"a": "T", "b": "T"}, labels=labels, sizes={"T": None})
    held = program(text.format("(t < len)*"), {"a": "T", "b": "T"}, labels=labels, sizes={"T": None})
    assert any("y[t] += tanh(a[t])*b[t]" in line for line in lines(only(free, "reuse")))
    assert any("y[t] += b[t]*h[t]" in line for line in lines(only(held, "reuse")))
    for p in (free, held):
        assert_same(gradient(p), only(p, "reuse"), {"T": 4}, len=2)


def test_a_border_where_f_of_0_is_not_0_is_not_reused() -> None:
    p = program(
        "e[t] = exp(a[t])\ny[t] = exp(a[t-1])*b[t]\nloss = sum(y[t]*e[t], over=t)", {"a": "T", "b": "T"}, sizes={"T": None}
    )
    found = lines(only(p, "reuse"))
    assert any("y[t] += exp(a[t - 1])*b[t]" in line for line in found)
    assert_same(gradient(p), only(p, "reuse"), {"T": 3})


def test_a_value_that_is_written_beyond_the_bounds_is_not_there() -> None:
    """h[t+1] for the last t is out of bounds: the write does not happen, and a read gives 0."""
    p = program(
        "h[t+1] = tanh(a[t])\ny[t] = tanh(a[t])*b[t]\nloss = sum(y[t]*h[t], over=t)",
        {"a": "T", "b": "T"},
        states={"h": "T"},
        sizes={"T": None},
    )
    assert any("y[t] += tanh(a[t])*b[t]" in line for line in lines(only(p, "reuse")))
    assert_same(gradient(p), only(p, "reuse"), {"T": 3})


def test_two_equations_of_one_value_never_read_each_other() -> None:
    p = program(
        "p[k] = exp(z[k])/(1 + z[k]**2)\nq[k] = exp(z[k])/(1 + z[k]**2)\nr[k] = sqrt(z[k]**2 + 1)\n"
        "s[k] = 1/sqrt(z[k]**2 + 1)\nloss = sum(p[k]*q[k] + r[k]*s[k]*z[k], over=k)",
        {"z": "K"},
        sizes={"K": None},
    )
    assert_same(gradient(p), only(p, "reuse"), {"K": 3})


def test_an_argument_of_a_maximum_that_may_be_nowhere_is_guarded() -> None:
    p = program(
        "h[t] = sigmoid(a[t])\nm = max((t < len)*h[t], over=t)\nloss = m**2",
        {"a": "T"},
        labels={"len": ("", "T+1")},
        sizes={"T": None},
    )
    for length in (0, 2):
        assert_same(*differentiated(p), {"T": 3}, len=length)


@pytest.mark.parametrize("written", ["sigmoid(-z[n])", "1/(1 + exp(z[n]))", "exp(-z[n])/(1 + exp(-z[n]))"])
def test_a_forward_sigmoid_of_the_negative_keeps_its_digits(written: str) -> None:
    """1 - sigmoid(40) is 0 in double precision, sigmoid(-40) is 4e-18: only slopes take the former."""
    p = program(f"p[n] = sigmoid(z[n])\nq[n] = {written}\nloss = sum(p[n]*y[n], over=n) + sum(q[n]*y[n], over=n)",
                {"z": "N"}, {"y": "N"}, sizes={"N": None})
    rewritten = differentiated(p)[1]
    values = {"z": np.array([40.0, 300.0]), "y": np.array([1.0, 1.0])}
    assert "(2) q[n] += sigmoid(-z[n])" in lines(rewritten)
    np.testing.assert_allclose(evaluate(rewritten, values, {"N": 2}, ["q"])["q"], np.exp([-40.0, -300.0]), rtol=1e-12)
    assert not any("sigmoid" in line for line in adjoints(rewritten))
