"""One entry of each row, chosen by an index tensor: taken and put by places that are counted through the array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symbolic
from tests.emitting import agree, compiled, dirty, expected, module_text, split, values_for

RNG = np.random.default_rng(4)


def picking(rows: str, labels: str, **more: Any) -> symbolic.Model:
    """The entries z[rows, y[labels]] of z = tanh(a*x), some of them twice."""
    axes = {"n": "N", "t": "T", "s": "S"}
    over, shape = rows.split(","), [axes[r] for r in rows.split(",")]
    return symbolic.load(
        f"z[{rows},k] = tanh(a[k]*x[{rows},k])\np[{rows}] = z[{rows},y[{labels}]]**2\n"
        f"loss = sum(p[{rows}], over=({','.join(over)},)) + sum(z[{rows},k], over=({','.join(over)},k))",
        loss="loss", dtype="float64", parameters={"a": [5]}, shapes={"z": [*shape, 5]},
        inputs={"x": [*shape, 5], "y": {"shape": [axes[k] for k in labels.split(",")], "kind": "index", "below": 5, **more}},
    )


@pytest.mark.parametrize(("rows", "labels"), [
    ("n", "n"), ("t,n", "t,n"), ("s,t,n", "s,t,n"), ("t,n", "n"), ("t,n", "t"), ("s,t,n", "s,n"),
])
def test_rows_of_one_to_three_axes(rows: str, labels: str) -> None:
    model = picking(rows, labels)
    text = module_text(model)
    assert ".take(at_y)" in text
    assert ".put(at_y, " in text
    for sizes in ({"N": 1, "T": 1, "S": 1}, {"N": 3, "T": 2, "S": 4}):
        with dirty():
            agree(model, {name: n for name, n in sizes.items() if name in {"n": "N", "t": "NT", "s": "STN"}[rows[0]]})


def test_ignored_labels_are_nowhere() -> None:
    model = picking("t,n", "t,n", ignore=-1)
    assert ".take(" not in module_text(model)
    agree(model, {"N": 3, "T": 2}, y=np.array([[0, -1, 4], [-1, -1, 2]]))


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_however_the_arrays_of_the_caller_lie(kind: Any, order: str) -> None:
    model = picking("t,n", "t,n")
    program = model.program()
    values = values_for(program, {"T": 3, "N": 4})
    params, batch = split(program, values)
    x = np.asfortranarray(batch["x"]) if order == "F" else batch["x"]
    if order == "strided":
        x = np.repeat(x, 2, axis=1)[:, ::2]
    loss, grads = compiled(model, wrt="all", dtype="float64").value_and_grad(params, {"x": x, "y": batch["y"].astype(kind)})
    want_loss, want, _ = expected(program, values, {"T": 3, "N": 4}, ("a", "x"))
    assert loss == pytest.approx(float(want_loss), rel=1e-12)
    for name in want:
        np.testing.assert_allclose(grads[name], want[name], rtol=1e-12, atol=1e-15)
