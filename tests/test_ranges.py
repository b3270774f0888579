"""Ranges of values: exact where they can be, never too narrow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sympy as sp

import symbolic
from codegen.trial import choose_sizes, draw, shape_of
from symbolic.functions import FUNCTIONS, Row, sigmoid
from symbolic.interpreter import evaluate
from symbolic.program import Equation, Index, Program, Tensor, index, size
from symbolic.ranges import ANY, Ranges
from tests.conftest import ROOT

N, n = size("N"), index("n")
OVER = (Index.over(n, N),)
a, b, s, g, h = (Tensor(name, (N,)) for name in "abshg")


def program(*equations: Equation) -> Program:
    return Program("p", (a, b, s, g, h), equations, {"N": None})


SQUASHED = Ranges(program(Equation(s[n], sigmoid(a[n]), OVER), Equation(g[n], sp.tanh(b[n]), OVER)), {})


@pytest.mark.parametrize("row", [row for row in FUNCTIONS.values() if row.arity == 1], ids=lambda row: row.name)
def test_columns_of_the_table(row: Row) -> None:
    """The columns of values and slopes hold on a grid, are reached there nearly, and the rules find them from the derivative."""
    grid = np.linspace(0 if row.name in ("sqrt", "log", "log1p") else -30, 30, 6001)
    values = np.array([row.value(float(x)) for x in grid])
    values = values[np.isfinite(values)]
    assert row.span[0] <= values.min()
    assert values.max() <= row.span[1]
    found = Ranges(program(), {}).of(row.derivatives[0](a[n]))
    if row.slope is not None:
        assert row.slope[0] <= found[0]
        assert found == pytest.approx(row.slope)
        steps = np.delete(np.diff(values), [2999, 3000]) / 0.01 if row.name == "sign" else np.diff(values) / 0.01
        assert steps.max() == pytest.approx(row.slope[1], rel=1e-3) or math.isinf(row.slope[1])


@pytest.mark.parametrize(("expr", "expected"), [
    (1 - g[n] ** 2, (0, 1)),
    (s[n] * (1 - s[n]), (0, 0.25)),
    (s[n] * (1 - s[n]) * g[n], (-0.25, 0.25)),
    ((1 - s[n]) * g[n], (-1, 1)),
    (1 - sp.tanh(a[n]) ** 2, (0, 1)),
    (sp.exp(-(a[n] ** 2)), (0, 1)),
    (1 / (1 + a[n] ** 2), (0, 1)),
    (a[n], ANY),
    (s[n] * a[n], ANY),
    (a[n] ** 2, (0, math.inf)),
    (2 * s[n] - 3, (-3, -1)),
    (s[n] ** 3 - s[n], (-2 / (3 * math.sqrt(3)), 0)),
], ids=str)
def test_expressions(expr: Any, expected: tuple[float, float]) -> None:
    assert SQUASHED.of(expr) == pytest.approx(expected)


def spans(model: Any, given: dict[str, Any] | None = None) -> dict[str, tuple[float, float]]:
    program = symbolic.load(model).program()
    found = Ranges(program, given or {})
    return {t.name: found.of(t.at([index("q")] * t.rank)) for t in program.tensors}


def test_a_state_between_a_mean_of_bounded_values_is_bounded() -> None:
    assert spans(ROOT / "specs/minimal_gated_unit.yaml")["cell.h"] == (-1, 1)
    assert spans(ROOT / "specs/leaky_integrator.yaml")["cell.u"] == ANY


def test_a_given_start_may_lie_beyond() -> None:
    """Of h[t] it is known what it is; h[t-1] may be the start."""
    program = symbolic.load(ROOT / "specs/char_rnn.yaml").program()
    found, t = Ranges(program, {}), index("t")
    steps = [Index.over(t, size("T"))]
    h = program.tensor("rnn.h")
    assert found.of(h[t, 0, 0], steps) == (-1, 1)
    assert found.of(h[t - 1, 0, 0], steps) == ANY
    assert Ranges(program, {"rnn.h0": np.full((1, 1), 0.5)}).of(h[t - 1, 0, 0], steps) == (-1, 1)


def test_a_known_range_holds_0_only_where_a_read_may_leave_the_array() -> None:
    found = Ranges(program(), {"a": np.array([2.0, 4.0])})
    assert found.of(1 / a[n], OVER) == (0.25, 0.5)
    assert found.of(a[n + 1], OVER) == (0, 4)
    assert found.of(1 / a[n + 1], OVER) == ANY


def test_what_no_equation_writes_is_0() -> None:
    part = (Index(n, sp.Integer(1), N),)
    values = {"a": np.array([2.0, 4.0])}
    assert Ranges(program(Equation(s[n], a[n] + 1, OVER)), values).of(s[n], OVER) == (3, 5)
    assert Ranges(program(Equation(s[n], a[n] + 1, part)), values).of(s[n], OVER) == (0, 5)
    assert Ranges(program(Equation(s[n], a[n] + 1, OVER, (sp.Lt(n, 2),))), values).of(s[n], OVER) == (0, 5)
    assert Ranges(program(Equation(s[n], a[n] + 1, OVER)), values).of(s[n - 1], OVER) == (0, 5)


@pytest.mark.parametrize("name", ["char_rnn", "gru_classifier", "leaky_integrator", "minimal_gated_unit", "second_order"])
def test_no_value_lies_outside(name: str) -> None:
    """The ranges from parameters and inputs hold every entry that the interpreter computes."""
    spec = {**symbolic.load(ROOT / f"specs/{name}.yaml").spec.document.data}
    spec["sizes"] = dict(zip(spec.get("sizes", {}), (3, 4, 5), strict=False))
    program = symbolic.load(spec).program()
    sizes = choose_sizes(program, {"T": 4, "N": 2})
    start = {t.name: np.random.default_rng(1).normal(0, 1.5, shape_of(t, sizes)) for t in program.parameters}
    values = draw(program, sizes, start, seed=2).values
    found = Ranges(program, values)
    real = [t for t in program.tensors if not t.is_index and t.name in program.writers]
    arrays = evaluate(program, values, sizes, [t.name for t in real])
    narrow = 0
    for tensor in real:
        low, high = found.of(tensor.at([index("q")] * tensor.rank))
        assert low <= arrays[tensor.name].min() + 1e-12
        assert arrays[tensor.name].max() <= high + 1e-12
        narrow += math.isfinite(high - low)
    assert narrow >= 1
