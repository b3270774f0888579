"""Maxima in C: ties, NaN and infinities as under the interpreter and in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import codegen
import symbolic
from symbolic.interpreter import evaluate
from symbolic.program import Program, size

NAN, INF = np.nan, np.inf


def same_as_everywhere(model: symbolic.Model, values: Mapping[str, Any], targets: tuple[str, ...] = ("c", "numpy")) -> None:
    """Loss, outputs and gradients of the targets are the interpreter's, NaN where it has NaN."""
    program = model.program()
    arrays = {n: np.array(v, np.int64 if program.tensor(n).is_index else float) for n, v in values.items()}
    wrt = tuple(t.name for t in program.parameters)
    adjoint = symbolic.gradient(program, wrt)
    names = {n: adjoint.gradients[n] for n in wrt}
    found = evaluate(adjoint, arrays, sizes_of(program, arrays), [program.loss, *names.values(), *program.outputs])
    params = {n: arrays[n] for n in wrt}
    batch = {t.name: arrays[t.name] for t in program.inputs}
    for target in targets:
        module: Any = codegen.compile(model, target=target, dtype="float64")
        loss, grads, aux = module.value_and_grad(params, batch, aux=True)
        np.testing.assert_allclose(loss, found[program.loss], rtol=1e-14, err_msg=f"{target}: loss")
        for name, adjoint_name in names.items():
            np.testing.assert_allclose(grads[name], found[adjoint_name], rtol=1e-14, err_msg=f"{target}: gradient of {name}")
        for name in program.outputs:
            np.testing.assert_allclose(aux[name], found[name], rtol=1e-14, err_msg=f"{target}: {name}")


def sizes_of(program: Program, arrays: Mapping[str, Any]) -> dict[str, int]:
    """What the shapes of the arrays say."""
    return {n: length for tensor in program.tensors if tensor.name in arrays for n in program.sizes
            for extent, length in zip(tensor.shape, arrays[tensor.name].shape, strict=True) if extent == size(n)}


@pytest.mark.gcc
@pytest.mark.parametrize("guard", ["", "(k != 4)*"])
def test_the_first_of_several_nans_is_the_maximum(guard: str) -> None:
    """Also where the scans of two maxima share their loop."""
    model = symbolic.load(
        f"y[t] = max({guard}p[t,k], over=k)\nz[t] = max({guard}q[t,k], over=k)\nloss = sum(y[t]*w[t] + z[t]*v[t], over=t)",
        loss="loss", parameters={"p": ["T", "K"], "q": ["T", "K"], "w": ["T"], "v": ["T"]}, outputs=["y", "z"],
    )
    rows = [[1, NAN, 3, NAN, 9], [NAN, 2, NAN, INF, 9], [2, 7, 7, 1, 0], [-INF, -1, -2, NAN, 9], [-INF, -3, -INF, -3, -4]]
    same_as_everywhere(model, {"p": rows, "q": rows[::-1], "w": [1, 2, 3, 4, 5], "v": [6, 7, 8, 9, 10]})
