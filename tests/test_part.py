"""Packed tensors that a recurrence reads part by part are taken apart; others stay packed; the values are the same."""

from __future__ import annotations

from typing import Any

import pytest

import symbolic
from codegen.pack import pack
from codegen.part import part
from codegen.pipeline import stages
from tests.emitting import agree

READ = """
m[t,n,k] = U[k,j]*h[t-1,n,j]
r[t,n,k] = sigmoid(a[t,n,k+0] + m[t,n,k])
h[t,n,k] = tanh(a[t,n,k+H] + r[t,n,k])
loss = sum(h[t,n,k]*y[t,n,k], over=(t,n,k))
"""
WHOLE = "a[t,n,q] = W[q,d]*x[t,n,d] + b[q]"


def model(text: str, width: str = "2*H", **keys: Any) -> symbolic.Model:
    return symbolic.load(
        text, loss="loss", dtype="float64", inputs={"x": ["T", "N", "D"], "y": ["T", "N", "H"]},
        parameters={"W": [width, "D"], "U": ["H", "H"], "b": [width]},
        shapes={"a": ["T", "N", width], "m": ["T", "N", "H"]}, ranges={"k": "H", **keys},
    )


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_what_a_loop_reads_in_parts_is_stored_in_parts(steps: int) -> None:
    m = model(WHOLE + READ)
    program = pack(stages(m).optimised)
    parted = part(program)
    assert {"a"} == {t.name for t in program.tensors} - {t.name for t in parted.tensors}
    assert [str(e).split("    for ")[0] for e in parted.equations if e.name in ("a_r", "a_h")] == [
        "(1) a_r[t, n, q] += W[q, d]*x[t, n, d]",
        "(1) a_h[t, n, q] += W[q + H, d]*x[t, n, d]",
        "(1) a_r[t, n, q] += b[q]",
        "(1) a_h[t, n, q] += b[q + H]",
    ]
    assert {str(e) for t in ("a_r", "a_h") for e in (parted.tensor(t).shape[-1],)} == {"H"}
    agree(m, {"T": steps, "N": 2, "D": 3, "H": 2})


@pytest.mark.parametrize(
    ("text", "width"),
    [
        pytest.param(WHOLE + READ.replace("+ m[t,n,k])", "+ m[t,n,k] + a[t,n,k+1])"), "2*H", id="slices that overlap"),
        pytest.param(WHOLE + READ, "3*H", id="a part that nobody reads"),
        pytest.param(WHOLE + READ + "loss += sum(a[t,n,q]**2, over=(t,n,q))", "2*H", id="read whole after the loop"),
        pytest.param(WHOLE + " + U[j,j]*h[t-1,n,j]*b[q]" + READ, "2*H", id="written by the loop"),
        pytest.param("a[t,n,k+0] = b[k+0]*x[t,n,0]\na[t,n,k+H] = b[k+H]" + READ, "2*H", id="written in slices"),
        pytest.param("a[t,n,q] = (q < 2)*b[q]*x[t,n,0]" + READ, "2*H", id="written under a guard"),
    ],
)
def test_other_tensors_stay_packed(text: str, width: str) -> None:
    m = model(text, width)
    program = pack(stages(m).optimised)
    assert part(program) is program
    agree(m, {"T": 3, "N": 2, "D": 2, "H": 2})
