"""What a guard keeps out does not exist (law 3): infinities and NaN there change no value and no gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symbolic
from tests.emitting import compiled, split, values_for
from tests.test_numpy_memory import load

OUTSIDE = [np.nan, np.inf, -np.inf]


def agree_outside(model: symbolic.Model, sizes: dict[str, int], name: str, outside: np.ndarray, **given: Any) -> None:
    """The loss, the outputs and all gradients are those with zeros where the values of ``name`` do not count."""
    module = compiled(model, wrt="all", dtype="float64")
    params, batch = split(model.program(), values_for(model.program(), sizes, **given))
    clean = np.where(outside, 0.0, batch[name])
    expected = module.value_and_grad(params, {**batch, name: clean}, aux=True)
    assert np.isfinite(expected[0])
    for number in OUTSIDE:
        loss, grads, aux = module.value_and_grad(params, {**batch, name: np.where(outside, number, clean)}, aux=True)
        assert loss == expected[0], f"{number}"
        for wanted, found in ((expected[1], grads), (expected[2], aux)):
            for key, array in wanted.items():
                np.testing.assert_array_equal(found[key], array, err_msg=f"{key} with {number}")
    np.testing.assert_array_equal(grads[name][outside], 0)


OPTIONS = [
    {}, {"output": "last"}, {"state": "given"}, {"direction": "reverse"}, {"direction": "both", "output": "last"},
    {"direction": "reverse", "state": "learned"}, {"layers": 2, "direction": "both"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_inputs_beyond_the_length_of_a_sequence(kind: str, options: dict[str, Any]) -> None:
    last = options.get("output") == "last"
    units = 4 if options.get("direction") == "both" else 2
    model = symbolic.load({
        "name": "ragged", "dtype": "float64",
        "inputs": {"x": ["T", "N", 3], "y": ["N", units] if last else ["T", "N", units],
                   "len": {"shape": ["N"], "kind": "index", "below": "T+1", "low": 1}},
        "layers": [{"name": "cell", "type": kind, "units": 2, "lengths": "len", **options}],
        "loss": {"type": "mse", "target": "y"},
    })
    lengths = np.array([2, 4, 1])
    outside = np.broadcast_to((np.arange(4)[:, None] >= lengths)[..., None], (4, 3, 3))
    agree_outside(model, {"T": 4, "N": 3}, "x", outside, len=lengths)


INPUTS = {"x": ["T", "N"], "len": {"shape": ["N"], "kind": "index", "below": "T+1"}}


def test_a_plain_read_with_fewer_labels_than_the_mask_joins_the_product() -> None:
    """x[3] is infinite and counts for the second row: in the first its instance does not exist."""
    model = load("y[n] = sum((k < len[n])*w[n,k]*x[k], over=k)\nloss = sum((n < 1)*y[n]**2, over=n)",
                 inputs={**INPUTS, "x": ["T"]}, parameters={"w": ["N", "T"]})
    _, batch = split(model.program(), values_for(model.program(), {"T": 4, "N": 2}, len=np.array([3, 4])))
    module = compiled(model, dtype="float64")
    for number in OUTSIDE:
        assert module.loss({"w": np.ones((2, 4))}, {**batch, "x": np.array([1, 2, 3, number])}) == 36


def test_a_read_that_would_enlarge_the_product_is_masked_where_nothing_counts() -> None:
    model = load("y[n,d] = sum((k < len[n])*w[n,k]*x[k,d], over=k)\nloss = sum(y[n,d]**2, over=(n,d))",
                 inputs={**INPUTS, "x": ["T", "D"]}, parameters={"w": ["N", "T"]})
    outside = np.zeros((4, 5), bool)
    outside[3] = True
    agree_outside(model, {"T": 4, "N": 2, "D": 5}, "x", outside, len=np.array([3, 2]))


def test_all_factors_under_a_mask() -> None:
    model = load("y[i] = sum((t < len[n])*x[t,n]*x[t,n]*w[n,i]*w[n,i], over=(t,n))\nloss = sum(y[i]**2, over=i)",
                 inputs=INPUTS, parameters={"w": ["N", 2]})
    agree_outside(model, {"T": 4, "N": 2}, "x", np.arange(4)[:, None] >= np.array([3, 1]), len=np.array([3, 1]))


@pytest.mark.parametrize("below", ["3", "C", "T", "T+2"])
@pytest.mark.parametrize("where", ["layer", "loss"])
def test_lengths_are_from_0_to_the_number_of_steps(below: str, where: str) -> None:
    """A label is no length, even where its shape fits."""
    text = f"""
name: m
sizes: {{C: 3}}
inputs: {{x: [T, N, 3], z: [T, N, 3], y: {{shape: [N], kind: index, below: {below}}}}}
layers: [{{name: r, type: rnn, units: 3{", lengths: y" if where == "layer" else ""}}}]
loss: {{type: mse, target: z{", lengths: y" if where == "loss" else ""}}}
"""
    match = rf"lengths: expected lengths from 0 to T \(below: T \+ 1\), found 'y' below {below[0]}"
    with pytest.raises(symbolic.SpecError, match=match):
        symbolic.load(text)
    assert symbolic.load(text.replace(f"below: {below}", "below: T+1")).program().loss
