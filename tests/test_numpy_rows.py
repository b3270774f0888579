"""The adjoint of a table that is read by row: where it is one sum of rows, and where entries that are nowhere forbid that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import codegen
import symbolic
from codegen.pipeline import render
from tests.emitting import agree

LABELS = {"x": {"shape": ["T", "N"], "kind": "index", "below": "V"}}


def model(equations: str, inputs: dict[str, Any] = LABELS, **keys: Any) -> symbolic.Model:
    return symbolic.load(f"{equations}\n", inputs=inputs, loss="loss", dtype="float64", **keys)


def text_of(m: symbolic.Model) -> str:
    text = next(iter(render(m).values()))
    return text[text.index("def value_and_grad"):text.index("def loss")]


@pytest.mark.parametrize(
    ("equations", "parameters", "line"),
    [
        pytest.param("e[t,n,k] = tanh(E[x[t,n],k])\nloss = sum(e[t,n,k], over=(t,n,k))", {"E": ["V", "K"]},
                     "d_E = _sum_rows(x, ", id="rows"),
        pytest.param("e[t,n,k] = tanh(W[k,x[t,n]])\nloss = sum(e[t,n,k], over=(t,n,k))", {"W": ["K", "V"]},
                     "V).T\n", id="columns"),
        pytest.param("e[t,n,j,k] = tanh(E[j,x[t,n],k])\nloss = sum(e[t,n,j,k], over=(t,n,j,k))", {"E": ["J", "V", "K"]},
                     "d_E = np.moveaxis(_sum_rows(x, ", id="the axis in the middle"),
        pytest.param("e[t,n,j,k] = tanh(E[x[t,n],j,k])\nloss = sum(e[t,n,j,k], over=(t,n,j,k))", {"E": ["V", "J", "K"]},
                     "V).reshape(V, J, K)\n", id="rows of two axes"),
        pytest.param("e[t,n,k] = tanh(E[x[t,n],k])\nloss = sum(e[t,n,k], over=(t,n,k)) + sum(E[v,k]**2, over=(v,k))",
                     {"E": ["V", "K"]}, "d_E += _sum_rows(x, ", id="beside another use"),
        pytest.param("e[t,n,k] = tanh(E[x[t+1,n],k])\nloss = sum(e[t,n,k], over=(t,n,k))", {"E": ["V", "K"]},
                     "_sum_rows(x[1:], ", id="rows of later steps, of which there may be none"),
    ],
)
def test_a_table_read_by_row_has_a_sum_of_rows(equations: str, parameters: dict[str, Any], line: str) -> None:
    later = {"shapes": {"e": ["T-1", "N", "K"]}} if "t+1" in equations else {}
    m = model(equations, parameters=parameters, **later)
    assert line in text_of(m)
    agree(m, {"T": 3, "N": 2, "V": 4, "J": 2, "K": 3})
    agree(m, {"T": 1, "N": 1, "V": 1, "J": 1, "K": 1})


@pytest.mark.parametrize(
    ("equations", "inputs", "parameters"),
    [
        pytest.param("e[t,n] = tanh(b[x[t,n]])\nloss = sum(e[t,n], over=(t,n))",
                     {"x": {**LABELS["x"], "ignore": -1}}, {"b": ["V"]}, id="an ignored entry"),
        pytest.param("e[t,n,k] = tanh(E[x[t,n]+1,k])\nloss = sum(e[t,n,k], over=(t,n,k))", LABELS, {"E": ["V", "K"]},
                     id="a subscript that may leave"),
        pytest.param("e[t,n,k] = tanh(E[x[t+1,n],k])\nloss = sum(e[t,n,k], over=(t,n,k))", LABELS, {"E": ["V", "K"]},
                     id="a label after the last"),
        pytest.param("e[t,n] = tanh(E[x[t,n],n])\nloss = sum(e[t,n], over=(t,n))", LABELS, {"E": ["V", "N"]},
                     id="not whole rows"),
    ],
)
def test_other_index_reads_stay_scatters(equations: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    m = model(equations, inputs, parameters=parameters, **({"shapes": {"e": ["T", "N", "K"]}} if "t+1" in equations else {}))
    assert "_sum_rows" not in text_of(m)
    agree(m, {"T": 3, "N": 2, "V": 4, "K": 3})


@pytest.mark.parametrize("count", [7, 300_000])
def test_both_ways_of_summing_rows_agree(count: int) -> None:
    text = "e[t,n,k] = tanh(E[x[t,n],k])\nloss = sum(e[t,n,k], over=(t,n,k))"
    module = codegen.compile(model(text, parameters={"E": ["V", "K"]}))
    rng = np.random.default_rng(0)
    at, rows = rng.integers(0, 7, (3, 2)), rng.standard_normal((3, 2, 4))
    expected = np.zeros((count, 4))
    np.add.at(expected, at.reshape(-1), rows.reshape(-1, 4))
    np.testing.assert_allclose(module._sum_rows(at, rows, count), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_entries_outside_their_range_are_refused(dtype: Any) -> None:
    module = codegen.compile(model("e[t,n] = tanh(E[x[t,n]])\nloss = sum(e[t,n], over=(t,n))", parameters={"E": [5]},
                                   inputs={"x": {"shape": ["T", "N"], "kind": "index", "below": 5}}))
    params = {"E": np.arange(5.0)}
    assert np.isfinite(module.loss(params, {"x": np.array([[0, 4]], dtype)}))
    for wrong in (5, 100, *((-1, -100) if np.dtype(dtype).kind == "i" else ())):
        with pytest.raises(ValueError, match=r"^'x': expected 0 <= entries < 5, found"):
            module.loss(params, {"x": np.array([[0, wrong]], dtype)})
