"""Optimisers and clipping: their equations, interpreted, against torch's recorded trajectories."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from symbolic.interpreter import evaluate
from symbolic.optimizers import CLIPS, OPTIMIZERS, Clip, Optimizer
from tests.oracle.case import load_table
from tests.oracle.compare import error_of
from tests.oracle.updates import CLIPPED, UPDATES, Clipped, Update

TOLERANCE = 1e-13
"""A few roundings in each of six steps; the formulas are the same, their order of operations is not."""


def _optimizer(update: Update) -> Optimizer:
    row = OPTIMIZERS[update.kind]
    return row.build(row.options(**update.options))


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.name)
def test_trajectory(update: Update) -> None:
    table = load_table("update")
    optimizer = _optimizer(update)
    program = optimizer.program()
    p = table[f"{update.name}/start"]
    state = {name: np.full_like(p, value) for name, value in optimizer.slots.items()}
    count = 0.0
    for gradient, want in zip(table[f"{update.name}/gradients"], table[f"{update.name}/path"], strict=True):
        values = {"p": p, "g": gradient, **state, **optimizer.hyper, **({"k": count} if optimizer.counts else {})}
        got = evaluate(program, values, {"P": len(p)}, program.outputs)
        p, state = got["p_next"], {name: got[f"{name}_next"] for name in state}
        count = float(got["k_next"]) if optimizer.counts else 0.0
        assert error_of(p, want) <= TOLERANCE
    assert count == (len(table[f"{update.name}/path"]) if optimizer.counts else 0)


def _clip(case: Clipped) -> Clip:
    row = CLIPS[case.kind]
    return row.build(row.options(limit=case.limit))


@pytest.mark.parametrize("case", CLIPPED, ids=lambda case: case.name)
def test_clipping(case: Clipped) -> None:
    table = load_table("update")
    clip = _clip(case)
    gradients = [table[f"{case.name}/before/{k}"] for k in range(len(case.shapes))]
    groups = [gradients] if clip.together else [[gradient] for gradient in gradients]
    clipped = []
    for group in groups:
        # One total over a group is the total over its entries laid end to end.
        flat = np.concatenate([gradient.ravel() for gradient in group])
        program = clip.program()
        clipped.append(evaluate(program, {"g": flat, **clip.hyper}, {"P": flat.size}, program.outputs)["g_next"])
    want = np.concatenate([table[f"{case.name}/after/{k}"].ravel() for k in range(len(case.shapes))])
    assert error_of(np.concatenate(clipped), want) <= TOLERANCE


@pytest.mark.parametrize("kind", ["global_norm", "norm"])
def test_clipping_a_gradient_of_zeros_is_finite(kind: str) -> None:
    row = CLIPS[kind]
    clip = row.build(row.options(limit=1.0))
    got = evaluate(clip.program(), {"g": np.zeros(3), **clip.hyper}, {"P": 3}, ["g_next", "scale"])
    assert np.array_equal(got["g_next"], np.zeros(3))
    assert got["scale"] == 1


def test_every_optimiser_and_clipping_is_compared() -> None:
    assert {update.kind for update in UPDATES} == set(OPTIMIZERS)
    assert {case.kind for case in CLIPPED} == set(CLIPS)


def test_every_output_has_an_equation() -> None:
    for row in OPTIMIZERS.values():
        program = row.build(row.options()).program()
        assert set(program.outputs) == {equation.name for equation in program.equations} - {"w"}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sgd", {"rate": 0.0}),
        ("sgd", {"rate": -1.0}),
        ("momentum", {"momentum": 1.0}),
        ("adam", {"beta1": 1.5}),
        ("adagrad", {"epsilon": 1.0}),
        ("adam", {"rate": "fast"}),
    ],
)
def test_senseless_options_are_refused(kind: str, options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        OPTIMIZERS[kind].options(**options)


@pytest.mark.parametrize("options", [{}, {"limit": 0.0}, {"limit": 1.0, "norm": 2}])
def test_senseless_limits_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CLIPS["value"].options(**options)
