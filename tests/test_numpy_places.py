"""A tensor that each step turns into another one lies in that one's array, where nobody reads it later (law 25)."""

from __future__ import annotations

from typing import Any

import pytest

import symbolic
from tests.emitting import agree, module_text

TEXT = "a[t,i] = W[i,x[t]] + b[i]\na[t,i] += U[i,j]*h[t-1,j]\nh[t,i] = tanh(a[t,i])\nloss = sum(h[t,i]**2, over=(t,i))"
SPEC: dict[str, Any] = {
    "inputs": {"x": {"shape": ["T"], "kind": "index", "below": 3}},
    "parameters": {"W": [4, 3], "U": [4, 4], "b": [4]},
    "shapes": {"a": ["T", 4]}, "states": {"h": ["T", 4]},
}


def net(text: str = TEXT, **more: Any) -> symbolic.Model:
    return symbolic.load(text, loss="loss", dtype="float64", **{**SPEC, **more})


def body(model: symbolic.Model) -> str:
    return module_text(model).split("\ndef loss", 1)[0]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_state_is_computed_where_its_argument_stood(steps: int) -> None:
    model = net()
    text = body(model)
    assert "a stands in it first" in text
    assert "np.add(W.T[x], b, out=h[1:])" in text
    assert "np.tanh(h_t, h_t)" in text
    agree(model, {"T": steps})


@pytest.mark.parametrize(
    ("text", "more"),
    [
        pytest.param(TEXT.replace("**2,", "**2 + a[t,i],"), {}, id="read by another"),
        pytest.param(TEXT, {"output": "a"}, id="returned"),
        pytest.param(TEXT.replace("W[i,x[t]]", "W[i,k]*U[i,k]*y[t,k]"), {"inputs": {"y": ["T", 4]}, "parameters": {
            "W": [4, 4], "U": [4, 4], "b": [4]}}, id="begins as another product"),
        pytest.param(TEXT.replace("tanh(a[t,i])", "(t < T-1)*tanh(a[t,i])"), {}, id="not in every step"),
        pytest.param(TEXT.replace("tanh(a[t,i])", "tanh(a[t,3-i])"), {"ranges": {"i": 4}}, id="at another place"),
    ],
)
@pytest.mark.parametrize("steps", [1, 4])
def test_what_is_read_later_keeps_its_own_array(text: str, more: dict[str, Any], steps: int) -> None:
    model = net(text, **more)
    assert " a stands in it first" not in body(model)
    agree(model, {"T": steps})


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_an_argument_that_begins_as_a_product_is_multiplied_into_its_place(steps: int) -> None:
    model = net(TEXT.replace("W[i,x[t]]", "W[i,k]*y[t,k]"), inputs={"y": ["T", 3]})
    text = body(model)
    assert " a stands in it first" in text
    assert "np.matmul(y, W.T, out=h[1:])" in text
    agree(model, {"T": steps})


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_an_adjoint_is_computed_where_the_one_before_it_stood(steps: int) -> None:
    model = net()
    text = body(model)
    assert "d_h stands in it first" in text
    assert "d_a_t *= d_a_slope_t" in text
    agree(model, {"T": steps})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT.replace("= tanh(a[t,i])", "= tanh(a[t,i])\nh[t,i] += b[i]"), id="read by another"),
        pytest.param(TEXT.replace("tanh(a[t,i])", "a[t,i]*a[t,i]"), id="two operations"),
        pytest.param(TEXT.replace("tanh(a[t,i])", "a[t,i]*b[i]"), id="a factor of another shape"),
        pytest.param(TEXT.replace("tanh(a[t,i])", "a[t,i]*W[i,x[t]]"), id="a factor by an index"),
    ],
)
@pytest.mark.parametrize("steps", [1, 4])
def test_an_adjoint_that_is_read_again_or_turned_in_two_operations_keeps_its_array(text: str, steps: int) -> None:
    model = net(text)
    assert " d_h stands in it first" not in body(model)
    agree(model, {"T": steps})


def test_a_given_initial_state_stays_in_the_margin() -> None:
    model = symbolic.load({
        "name": "net", "dtype": "float64",
        "inputs": {"x": {"shape": ["T"], "kind": "index", "below": 3}, "y": ["T", 4]},
        "layers": [{"name": "embed", "type": "one_hot", "classes": 3},
                   {"name": "r", "type": "rnn", "units": 4, "state": "given"}],
        "loss": {"type": "mse", "target": "y"},
    })
    assert "stands in it first" in body(model)
    for steps in (1, 3):
        agree(model, {"T": steps})


@pytest.mark.parametrize("more", ["*b[i]", "\nh[t,i] += b[i]", " + a[t,i]"])
@pytest.mark.parametrize("steps", [1, 3])
def test_where_more_is_made_of_it(more: str, steps: int) -> None:
    agree(net(TEXT.replace("tanh(a[t,i])", f"tanh(a[t,i]){more}")), {"T": steps})
