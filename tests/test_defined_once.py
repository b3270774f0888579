"""``=`` defines a tensor once: two definitions are an error unless their entries are proved to be different ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from symbolic.errors import EquationError
from symbolic.interpreter import evaluate
from symbolic.parser import Scope, parse
from symbolic.program import Program, Tensor, size
from tests.rewriting import program

INPUTS = {"x": "T", "z": "T", "a": "", "u": "U", "v": "U"}


def made(text: str, inputs: dict[str, str] | None = None, **more: Any) -> Program:
    more.setdefault("sizes", {"T": None, "U": None, "N": None})
    return program(text, {}, inputs or INPUTS, **more)


@pytest.mark.parametrize(
    ("text", "more"),
    [
        pytest.param("y[t] = x[t]\ny[t] = z[t]", {}, id="the same entries"),
        pytest.param("y[t] = x[t]\ny[s] = z[s]", {}, id="another index"),
        pytest.param("y[t] = z[t]\ny[0] = a", {}, id="an entry of all"),
        pytest.param("y[0] = a\ny[t] = z[t]", {}, id="all after an entry"),
        pytest.param("y[t] = x[t]\ny[s+1] = x[s]", {}, id="shifted"),
        pytest.param("y[t] = x[t]\ny[T-1-s] = x[s]", {"ranges": {"s": "T"}}, id="reflected"),
        pytest.param("y[t] += x[t]\ny[t] = x[t]", {}, id="a contribution before"),
        pytest.param("y[t] = x[t]\ny[t] += z[t]\ny[s] = z[s]", {}, id="a contribution between"),
        pytest.param("y[0] = a\ny[T-1] = a", {"states": {"y": "T"}}, id="first and last, which may be one"),
        pytest.param("y[2*s] = u[s]\ny[4*r+2] = v[r]", {"states": {"y": "4*U"}, "ranges": {"s": "U", "r": "U"}}, id="strides"),
        pytest.param("y[j[t]] = x[t]\ny[t] = x[t]", {"labels": {"j": ("T", "T")}, "states": {"y": "T"}}, id="through an index"),
        pytest.param("s = a\ns = 2*a", {}, id="numbers"),
    ],
)
def test_what_is_defined_twice_is_refused(text: str, more: dict[str, Any]) -> None:
    last = text.count("\n") + 1
    first = 2 if "+= z" in text else 1
    with pytest.raises(EquationError, match=rf"^<equations>:{last}:1: .*is defined twice, here and at line [1{first}]"):
        made(text, **more)


def test_transposed_indices_do_not_hide_that_a_tensor_is_defined_twice() -> None:
    with pytest.raises(EquationError, match=r"'y' is defined twice, .*line 1: y\[n,t\] and y\[t,n\] are not proved to be diff"):
        made("y[t,n] = x[t,n]\ny[n,t] = x[t,n]", {"x": "T,T"})


@pytest.mark.parametrize(
    ("text", "more", "sizes"),
    [
        pytest.param("y[t] = x[t]\ny[t] += z[t]\ny[s] += a", {}, {"T": 3, "U": 1}, id="contributions"),
        pytest.param("y[0] = a\ny[t+1] = x[t]", {"states": {"y": "T+1"}}, {"T": 3, "U": 1}, id="a start"),
        pytest.param("y[t+1] = x[t]\ny[0] = a", {"states": {"y": "T+1"}}, {"T": 3, "U": 1}, id="a start at the end"),
        pytest.param("y[s] = u[s]\ny[U+s] = v[s]", {"states": {"y": "2*U"}, "ranges": {"s": "U"}}, {"T": 1, "U": 3}, id="slices"),
        pytest.param(
            "y[2*s] = u[s]\ny[2*s+1] = v[s]",
            {"states": {"y": "2*U"}, "ranges": {"s": "U"}},
            {"T": 1, "U": 3},
            id="even and odd",
        ),
    ],
)
def test_definitions_of_different_entries_are_fine(text: str, more: dict[str, Any], sizes: dict[str, int]) -> None:
    if "u[s]" in text:
        text = text.replace("u[s]", "u[s+0]").replace("v[s]", "v[s+0]").replace("y[s] =", "y[s+0] =")
    p = made(text, **more)
    known = {"T": 2, "U": 1, **sizes}
    values = {name: np.full([known[s] for s in shape.split(",") if s], 5.0) for name, shape in INPUTS.items()}
    found = evaluate(p, values, known, ["y"])["y"]
    np.testing.assert_array_equal(found, np.full_like(found, 15.0 if "+=" in text else 5.0))


def test_known_sizes_alone_tell_entries_apart() -> None:
    """The lines of one text are compared under the sizes of its scope."""
    T = size("T")
    y, a = Tensor("y", (T,)), Tensor("a")
    text = "y[0] = a\ny[T-1] = a"
    assert parse(text, Scope("", {"y": y, "a": a}, {"T": T}, fixed={T: 3})).equations
    with pytest.raises(EquationError, match="is defined twice"):
        parse(text, Scope("", {"y": y, "a": a}, {"T": T}, fixed={T: 1}))
