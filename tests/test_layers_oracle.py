"""Every layer and loss against torch's recorded numbers: forward values and every gradient, by each way there is.

The interpreter runs the forward program and the gradient program; the generated NumPy module runs in float64 and
float32, and in float64 its loss is perturbed too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

import symbolic
from symbolic import rewrite
from symbolic.interpreter import evaluate
from symbolic.program import Program
from tests.oracle.case import Case, Recorded, load_table, recorded
from tests.oracle.cases import FAMILIES
from tests.oracle.compare import FLOAT32, FLOAT64, assert_close

ALL = [pytest.param(family, case, id=case.name) for family, cases in FAMILIES.items() for case in cases]
PLAIN = [row for row in ALL if not str(row.id).endswith("_extreme")]
"""All but the cases that are finite only once the forward program is stabilised."""


STEP = 1e-6
"""Of the central differences."""


@cache
def _model(family: str, name: str) -> symbolic.Model:
    case = next(case for case in FAMILIES[family] if case.name == name)
    return symbolic.load(case.spec())


def sizes_of(program: Program, arrays: dict[str, Any]) -> dict[str, int]:
    """The free sizes, from the shapes of what is fed."""
    found: dict[str, int] = {}
    for tensor in program.tensors:
        if tensor.name in arrays:
            for extent, length in zip(tensor.shape, np.shape(arrays[tensor.name]), strict=True):
                if extent.is_Symbol:
                    found[str(extent)] = length
    return found


def wanted_gradients(want: Recorded) -> list[str]:
    return sorted(want.gradients)


def output_names(model: symbolic.Model, want: Recorded) -> dict[str, str]:
    """Recorded output -> tensor: a layer's name means its output."""
    return {name: model.layers.get(name, name) for name in want.outputs}


@pytest.mark.parametrize(("family", "case"), PLAIN)
def test_forward_program(family: str, case: Case) -> None:
    model, want = _model(family, case.name), recorded(family, case)
    program = model.program()
    names = output_names(model, want)
    got = evaluate(program, want.given, sizes_of(program, dict(want.given)), [*names.values(), "loss"])
    assert_close({name: got[tensor] for name, tensor in names.items()}, want.outputs, FLOAT64, "outputs")
    assert_close(got, {"loss": want.value}, FLOAT64, "loss")


@pytest.mark.parametrize(("family", "case"), PLAIN)
def test_gradient_program(family: str, case: Case) -> None:
    model, want = _model(family, case.name), recorded(family, case)
    names = wanted_gradients(want)
    program = symbolic.gradient(model.program(), names)
    adjoints = {name: program.gradients[name] for name in names}
    got = evaluate(program, want.given, sizes_of(program, dict(want.given)), adjoints.values())
    assert_close({name: got[adjoint] for name, adjoint in adjoints.items()}, want.gradients, FLOAT64, "gradients")


@pytest.mark.parametrize(("family", "case"), ALL)
def test_rewritten_program(family: str, case: Case) -> None:
    """Both phases of rewrites keep every value, and make those finite that the plain equations overflow on."""
    model, want = _model(family, case.name), recorded(family, case)
    names = wanted_gradients(want)
    forward, _ = rewrite.apply(model.program(), "forward")
    program, _ = rewrite.apply(symbolic.gradient(forward, names), "backward")
    outputs = output_names(model, want)
    adjoints = {name: program.gradients[name] for name in names}
    kept = {name: tensor for name, tensor in outputs.items() if tensor in program.outputs}
    got = evaluate(
        program, want.given, sizes_of(program, dict(want.given)), ["loss", *adjoints.values(), *kept.values()]
    )
    assert_close(got, {"loss": want.value}, FLOAT64, "loss")
    assert_close(
        {name: got[tensor] for name, tensor in kept.items()},
        {name: want.outputs[name] for name in kept},
        FLOAT64,
        "outputs",
    )
    assert_close({name: got[adjoint] for name, adjoint in adjoints.items()}, want.gradients, FLOAT64, "gradients")


def _run_module(family: str, case: Case, dtype: str) -> tuple[float, dict[str, Any], dict[str, Any], Recorded, dict[str, Any]]:
    import codegen

    model, want = _model(family, case.name), recorded(family, case)
    names = wanted_gradients(want)
    module = codegen.compile(model, target="numpy", dtype=dtype, wrt=",".join(names) if names else "params")
    real = np.dtype(dtype)
    arrays = {n: a.astype(real) if np.issubdtype(a.dtype, np.floating) else a for n, a in want.given.items()}
    params = {name: arrays[name] for name in module.PARAMETERS}
    batch = {name: arrays[name] for name in module.INPUTS}
    before = {name: array.copy() for name, array in arrays.items()}
    loss, grads, aux = module.value_and_grad(params, batch, aux=True)
    for name, array in before.items():
        assert np.array_equal(array, arrays[name]), f"{name} was written to"
    assert isinstance(loss, float)
    for name, array in grads.items():
        assert np.asarray(array).dtype == real, f"gradient of {name} is {np.asarray(array).dtype}"
    at_a_kink = case.name.startswith("kink_") or case.name.endswith("_ties")  # where a loss has no one slope
    slopes = _slopes(module, params, batch, grads) if dtype == "float64" and not at_a_kink else {}
    return loss, grads, aux, want, slopes


def _slopes(module: Any, params: dict[str, Any], batch: dict[str, Any], grads: dict[str, Any]) -> dict[str, Any]:
    """By each array the slope of the loss in a random direction: as the gradient says it, by central differences, and the sum of
    the absolute terms of the first."""
    found = {}
    for k, (name, gradient) in enumerate(grads.items()):
        of_params = name in params
        array = (params if of_params else batch)[name]
        direction = np.random.default_rng(k).uniform(-1, 1, array.shape)
        above, below = (
            module.loss({**params, name: moved}, batch) if of_params else module.loss(params, {**batch, name: moved})
            for moved in (array + STEP * direction, array - STEP * direction)
        )
        terms = gradient * direction
        found[name] = (float(np.sum(terms)), (above - below) / (2 * STEP), float(np.sum(np.abs(terms))))
    return found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("family", "case"), ALL)
def test_generated_module(family: str, case: Case, dtype: str) -> None:
    tolerance = FLOAT64 if dtype == "float64" else FLOAT32
    with np.errstate(over="ignore", under="ignore"):
        loss, grads, aux, want, slopes = _run_module(family, case, dtype)
    assert_close({"loss": loss}, {"loss": want.value}, tolerance, "loss")
    assert_close(grads, want.gradients, tolerance, "gradients")
    names = output_names(_model(family, case.name), want)
    shown = {name: aux[tensor] for name, tensor in names.items() if tensor in aux}
    assert_close(shown, {name: want.outputs[name] for name in shown}, tolerance, "outputs")
    for name, (said, measured, scale) in slopes.items():  # what rounding leaves of the loss, and the curve of third order
        assert abs(said - measured) <= 1e-6 * scale + 1e-9 * max(1.0, abs(loss)), f"perturbing {name}: {measured}, not {said}"


def _stale() -> Iterator[str]:
    for family, cases in FAMILIES.items():
        known = {case.name for case in cases}
        yield from (f"{family}/{key}" for key in load_table(family) if key.split("/")[0] not in known)


def test_every_recorded_array_belongs_to_a_case() -> None:
    assert list(_stale()) == []


def test_names_of_cases_are_unique() -> None:
    names = [case.name for cases in FAMILIES.values() for case in cases]
    assert len(names) == len(set(names))
