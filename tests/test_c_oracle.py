"""Every layer and loss in C against torch's recorded numbers: float64 with a little optimisation, float32 with none."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import codegen
import symbolic
from tests.oracle.case import Case, recorded
from tests.oracle.cases import FAMILIES
from tests.oracle.compare import FLOAT32, FLOAT64, assert_close

ALL = [pytest.param(family, case, id=case.name) for family, cases in FAMILIES.items() for case in cases]


def _dirty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has written is NaN, or no index: every byte of fresh memory has all its bits."""
    plain = np.empty

    def empty(*arguments: Any, **named: Any) -> Any:
        array = plain(*arguments, **named)
        array.view(np.uint8).fill(255) if array.ndim and array.flags.c_contiguous else array.fill(-1)
        return array

    monkeypatch.setattr(np, "empty", empty)


@cache
def _model(family: str, name: str) -> symbolic.Model:
    case = next(case for case in FAMILIES[family] if case.name == name)
    return symbolic.load({**case.spec(), "name": "layer"})


@pytest.mark.parametrize(("dtype", "flags"), [("float64", "-O1"), ("float32", "-O0")])
@pytest.mark.parametrize(("family", "case"), ALL)
def test_library(family: str, case: Case, dtype: str, flags: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("CHAINRULE_C_FLAGS", flags)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path))
    model, want = _model(family, case.name), recorded(family, case)
    names = sorted(want.gradients)
    module: Any = codegen.compile(model, target="c", dtype=dtype, wrt=",".join(names) if names else "params")
    real = np.dtype(dtype)
    arrays = {n: a.astype(real) if np.issubdtype(a.dtype, np.floating) else a for n, a in want.given.items()}
    before = {name: array.copy() for name, array in arrays.items()}
    params = {name: arrays[name] for name in module.PARAMETERS}
    batch = {name: arrays[name] for name in module.INPUTS}
    with monkeypatch.context() as patched:
        _dirty(patched)
        loss, grads, aux = module.value_and_grad(params, batch, aux=True)
        alone = module.loss(params, batch)
    for name, array in before.items():
        assert np.array_equal(array, arrays[name]), f"{name} was written to"
    tolerance = FLOAT64 if dtype == "float64" else FLOAT32
    assert_close({"loss": loss}, {"loss": want.value}, tolerance, "loss")
    assert_close(grads, want.gradients, tolerance, "gradients")
    shown = {n: aux[t] for n in want.outputs if (t := model.layers.get(n, n)) in aux}
    assert_close(shown, {name: want.outputs[name] for name in shown}, tolerance, "outputs")
    assert alone == pytest.approx(loss, rel=tolerance, abs=1e-15)
