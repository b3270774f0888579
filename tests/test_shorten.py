"""Cycles that go round by a tensor which only hands a product on: shortened where that is proved, and the same values."""

from __future__ import annotations

from typing import Any

import pytest

import symbolic
from codegen.numpy.plan import _scheduled
from codegen.pipeline import render, stages
from codegen.schedule import Loop, equations_of
from codegen.shorten import shorten
from tests.emitting import agree
from tests.programs import Case
from tests.rewriting import lines, program
from tests.stages import hold

END = "\nloss = sum(h[t,n]**2, over=(t,n))"
KEYS: dict[str, Any] = {
    "parameters": {"U": "N,N"}, "inputs": {"x": "T,N", "s": "T,N", "r": "T,N"}, "sizes": {"T": None, "N": None},
}
STATE = "\nh[t,n] = x[t,n] + U[n,k]*m[t-1,k]"


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        pytest.param("a[t,n] = s[t,n]*h[t,n]\nm[t,n] = r[t,n]*a[t,n]", "m_slope[t, n] += r[t, n]*s[t, n]", id="a product"),
        pytest.param("a[t,n] = s[t,n]*h[t,n]\nm[t,n] = a[t,n]", "m[t, n] += h[t, n]*s[t, n]", id="a copy"),
        pytest.param("a[t,n] = s[t,n]*h[t,n]\nb[t,n] = 2*a[t,n]\nm[t,n] = r[t,n]*b[t,n]", "m_slope[t, n] += 2*r[t, n]*s[t, n]",
                     id="a chain"),
        pytest.param("a[t,n] = s[t,n]*h[t,n]\nm[t,n] = r[t,n]*a[t-1,n]", None, id="an entry that may be out of bounds"),
        pytest.param("a[t,n] = s[t,n]*h[t,n]\nm[t,n] = tanh(a[t,n])", None, id="no product"),
        pytest.param("a[t,n] = s[t,n]*h[t,n] + x[t,n]\nm[t,n] = r[t,n]*a[t,n]", None, id="a sum"),
        pytest.param("a[t,n] = (t < 2)*s[t,n]*h[t,n]\nm[t,n] = r[t,n]*a[t,n]", None, id="a guard where it is written"),
        pytest.param("a[t,n] = s[t,n]*h[t,n]\nm[t,n] = (t < 2)*r[t,n]*a[t,n]", None, id="a guard where it is read"),
        pytest.param("a[t,n] = s[t,n]*h[t,n]\nm[t,n] = h[t,n]*a[t,n]", None, id="two factors of the cycle"),
        pytest.param("a[t,n] = s[t,n]*h[t,n]\nm[t,n] = U[n,k]*a[t,k]", None, id="a sum of products reads it"),
        pytest.param("a[t,n] = s[t,n]*h[t,n]\nm[t,n] = r[t,n]*a[t,n]**2", None, id="a power"),
    ],
)
def test_what_only_hands_a_product_on_is_passed_by(text: str, shorter: str | None) -> None:
    p = program(text + STATE + END, **KEYS)
    found = shorten(p)
    if shorter is None:
        assert found == p
    else:
        assert any(line.endswith(shorter) for line in lines(found)), lines(found)
        assert found != p


def model(text: str, **keys: Any) -> symbolic.Model:
    return symbolic.load(text, loss="loss", dtype="float64", **keys)


GATES = """
a[t,n,q] = W[q,d]*x[t,n,d]
m[t,n,q] = U[q,j]*h[t-1,n,j]
r[t,n,k] = sigmoid(a[t,n,k+0] + m[t,n,k+0])
g[t,n,k] = tanh(a[t,n,k+H] + r[t,n,k]*m[t,n,k+H])
h[t,n,k] = g[t,n,k] + 0.5*h[t-1,n,k]
loss = sum(h[t,n,k]*y[t,n,k], over=(t,n,k))
"""


def gates() -> symbolic.Model:
    return model(
        GATES, inputs={"x": ["T", "N", "D"], "y": ["T", "N", "H"]}, parameters={"W": ["2*H", "D"], "U": ["2*H", "H"]},
        shapes={"a": ["T", "N", "2*H"], "m": ["T", "N", "2*H"]}, ranges={"k": "H"},
    )


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_adjoint_of_a_projection_leaves_the_loop_of_gates(steps: int) -> None:
    nodes, _ = _scheduled(stages(gates()).optimised)
    (loop,) = (node for node in nodes if isinstance(node, Loop) and node.descending)
    assert {s.equation.name for s in equations_of([loop])} == {"d_h", "d_m"}
    agree(gates(), {"T": steps, "N": 2, "D": 3, "H": 2})


def test_a_factor_of_several_products_is_computed_once() -> None:
    text = next(iter(render(gates()).values()))
    text = text[text.index("def value_and_grad"):text.index("def loss")]
    assert text.count("g**2") == 1
    assert "d_m_slope = r*d_a_slope\n" in text


@pytest.mark.parametrize("steps", [1, 3])
def test_a_factor_is_shared_within_its_range_alone(steps: int) -> None:
    """The last step's m is read by nobody, so that there is no factor of it; z has that factor at every step."""
    made = symbolic.load("""
a[t,i] = s[t,i]*r[t,i]*h[t,i]
m[t,i] = u[t,i]*a[t,i]
h[t,i] = x[t,i] + m[t-1,i]*U[i]
z[t,i] = s[t,i]*r[t,i]*u[t,i]*x[t,i]
loss = sum(h[t,i]**2 + z[t,i], over=(t,i))
""", loss="loss", dtype="float64", inputs={name: ["T", 3] for name in "xsru"}, parameters={"U": [3]}, states={"h": ["T", 3]},
                         shapes={"m": ["T", 3], "a": ["T", 3]})
    agree(made, {"T": steps})


def test_of_two_factors_that_are_the_same_one_reads_the_other() -> None:
    hold(Case("""ah[t,n,i] = 1/(2 + b[t+2,n,i]**2) + (u > t)*h[u,n,i]
h[t,n,i] = tanh(ah[t,n,i])
c[t,n,i] = h[t,n,i] + A[t-1,N-1-n]
b[t,n,i] = tanh(c[t,n,i])
loss = sum(b[t,n,i], over=(t,n,i))""", {
        "loss": "loss", "dtype": "float64", "parameters": {"A": ["T", "N"]}, "outputs": ["h"],
        "shapes": {"ah": ["T", "N", "H"], "c": ["T", "N", "H"]},
        "states": {"h": {"shape": ["T", "N", "H"], "initial": "zero", "reverse": True, "lag": 1},
                   "b": {"shape": ["T", "N", "H"], "initial": "carry", "reverse": True, "lag": 2}},
        "ranges": {"t": "T", "u": "T", "n": "N", "i": "H"},
    }, {"T": 3, "N": 1, "H": 3}, 1, wrt="A"))
