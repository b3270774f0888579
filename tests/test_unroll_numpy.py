"""Unrolled modules: straight-line code with the same loss and gradients as the loop."""

from __future__ import annotations

import ast
from typing import Any

import pytest

import symbolic
from tests.emitting import agree, checked_module, close, compiled, module_text, split, values_for
from tests.test_hvp_jvp import small

NAMES = ["second_order", "char_rnn", "rnn_regression", "lstm_lm", "leaky_integrator", "minimal_gated_unit", "gru_classifier"]


def unrolled_text(name: str, steps: int, **options: Any) -> str:
    return module_text(symbolic.load(small(name)), unroll=steps, **options)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("name", NAMES)
def test_rolled_is_unrolled(name: str, steps: int) -> None:
    model = symbolic.load(small(name))
    rolled, unrolled = compiled(model, wrt="all"), checked_module(unrolled_text(name, steps, wrt="all"))
    values = values_for(model.program(), {"T": steps, "N": 2})
    params, batch = split(model.program(), values)
    loss, grads, aux = rolled.value_and_grad(params, batch, aux=True)
    other, more, shown = unrolled.value_and_grad(params, batch, aux=True)
    close(other, loss, 1e-12, "loss")
    for key, array in grads.items():
        close(more[key], array, 1e-11, key)
    for key, array in aux.items():
        close(shown[key], array, 1e-12, key)


@pytest.mark.parametrize("name", NAMES)
def test_unrolled_code_has_no_loop(name: str) -> None:
    tree = ast.parse(unrolled_text(name, 3))
    bodies = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for function in ("value_and_grad", "loss", "predict"):
        found = [node for node in ast.walk(bodies[function]) if isinstance(node, ast.For | ast.While | ast.comprehension)]
        assert found == [], f"{function}: {ast.unparse(found[0])}"


def test_a_prediction_without_the_recurrence_of_the_loss() -> None:
    model = symbolic.load(
        "h[t] = tanh(h[t-1] + w[t])\ny[t] = 2*w[t]\nloss = sum(h[t]*y[t], over=t)",
        dtype="float64", loss="loss", output="y", parameters={"w": ["T"]}, states={"h": ["T"]},
    )
    agree(model, {"T": 3}, module=compiled(model, wrt="all", dtype="float64", unroll=3))


def test_another_number_of_steps_is_refused() -> None:
    module = checked_module(unrolled_text("second_order", 3))
    model = symbolic.load(small("second_order"))
    params, batch = split(model.program(), values_for(model.program(), {"T": 4, "N": 2}))
    with pytest.raises(ValueError, match=r"'x'.*expected .*3.*found .*4"):
        module.value_and_grad(params, batch)


def test_a_model_without_time_cannot_be_unrolled() -> None:
    with pytest.raises(symbolic.ChainruleError, match="nothing to unroll"):
        module_text(symbolic.load(small("mlp")), unroll=3)
