"""Products of matrices whose places are listed: in whatever order they come, a row of neighbours is found where it is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import codegen
import symbolic

TEXT = "y[n,o,v,u] = W[o,c,p]*x[n,c,{}]\nloss = sum(y[n,o,v,u]**2, over=(n,o,v,u))"


@pytest.mark.parametrize("place", ["3*u + 8*v + p", "8*v + u + p", "8*u + v + p", "9*u + 2*v + p"])
def test_windows_in_any_order(place: str) -> None:
    """``3*u + 8*v`` for u < 8: the ninth place is eight after the first, and what is between is no row of neighbours."""
    model = symbolic.load(TEXT.format(place), inputs={"x": ["N", 2, 90]}, parameters={"W": [6, 2, 5]}, loss="loss",
                          shapes={"y": ["N", 6, 6, 8]}, dtype="float64")
    rng = np.random.default_rng(0)
    params, batch = {"W": rng.standard_normal((6, 2, 5))}, {"x": rng.standard_normal((3, 2, 90))}
    mine: Any = codegen.compile(model, target="c", wrt="all")
    loss, grads = mine.value_and_grad(params, batch)
    wanted, other = codegen.compile(model, wrt="all").value_and_grad(params, batch)
    assert loss == pytest.approx(wanted, rel=1e-12)
    for name, array in other.items():
        np.testing.assert_allclose(grads[name], array, rtol=0, atol=1e-12 * np.abs(array).max(), err_msg=name)
