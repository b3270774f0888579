"""What is only copied before a loop, to entries that the loop adds to one by one, is added there (law 2)."""

from __future__ import annotations

from typing import Any

import pytest

import symbolic
from codegen.fuse import fuse
from codegen.lower import lower
from codegen.schedule import Loop, schedule
from tests.emitting import agree

TEXT = "v[t,i] = x[t,i] + h[t-1,i]*U[i]\nh[t,i] = tanh(v[t,i])\nloss = sum(v[t,i]*h[t,i], over=(t,i))"
SPEC: dict[str, Any] = {
    "inputs": {"x": ["T", 3]}, "parameters": {"U": [3], "b": [3]}, "shapes": {"v": ["T", 3]}, "states": {"h": ["T", 3]},
}


def net(text: str = TEXT, **more: Any) -> symbolic.Model:
    return symbolic.load(text, loss="loss", dtype="float64", **{**SPEC, **more})


def before_the_loop(model: symbolic.Model) -> list[str]:
    """The tensors that are written in front of the first loop."""
    program = model.program()
    nodes = fuse(lower(schedule(program), program), program)
    first = next(k for k, node in enumerate(nodes) if isinstance(node, Loop))
    return [node.equation.name for node in nodes[:first] if not isinstance(node, Loop)]


@pytest.mark.parametrize(
    "term", [pytest.param(term, id=term) for term in ("x[t,i]", "b[i]", "0.5", "x[t,2-i]", "x[T-1-t,i]", "b[2-i]")]
)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_copy_is_added_in_the_loop(term: str, steps: int) -> None:
    model = net(TEXT.replace("x[t,i] +", f"{term} +"), ranges={"i": 3})
    assert "v" not in before_the_loop(model)
    agree(model, {"T": steps})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT.replace("x[t,i] +", "x[t,i]**2 +"), id="computed"),
        pytest.param(TEXT.replace("h[t-1,i]*U[i]", "(t > 1)*h[t-1,i]"), id="to some of them"),
        pytest.param(TEXT.replace("h[t-1,i]*U[i]", "sum(h[t-1,j]*U[i], over=j)"), id="to a sum"),
        pytest.param(TEXT.replace("x[t,i] +", "(t < 2)*x[t,i] +"), id="of some of them"),
    ],
)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_what_is_computed_or_meets_other_entries_stays(text: str, steps: int) -> None:
    model = net(text)
    assert "v" in before_the_loop(model)
    agree(model, {"T": steps})


def test_in_a_loop_in_a_loop() -> None:
    text = "v[t,u] = x[t,u] + 0.5*h[t-1,u] + 0.3*h[t,u-1]\nh[t,u] = tanh(v[t,u])\nloss = sum(v[t,u]*h[t,u], over=(t,u))"
    model = net(text, inputs={"x": ["T", "K"]}, parameters={}, shapes={"v": ["T", "K"]}, states={"h": ["T", "K"]})
    assert "v" not in before_the_loop(model)
    for sizes in ({"T": 1, "K": 1}, {"T": 3, "K": 2}):
        agree(model, sizes)
