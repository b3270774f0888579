"""A tensor in the array of another one that nothing reads any more (law 25)."""

from __future__ import annotations

from typing import Any

import pytest

import symbolic
from tests.emitting import agree, checked_module, dirty, module_text

TEXT = """
m[t,k] = sum(W[k,j]*x[t,j], over=j)
s[k] = sum(m[t,k]**2, over=t)
a[t,i+0] = m[t,i+0]
a[t,i+2] = x[t,i]*c[i]
b[t,k] = sin(a[t,k])
loss = sum(b[t,k]*s[k], over=(t,k))
"""
SPEC: dict[str, Any] = {
    "inputs": {"x": ["T", 2]}, "parameters": {"W": [4, 2], "c": [2]}, "shapes": {"a": ["T", 4]}, "ranges": {"i": 2},
}
MADE = "a = m  # in the array of m, which nothing reads from here on"


def forward(text: str = TEXT, **more: Any) -> tuple[symbolic.Model, str]:
    model = symbolic.load(text, loss="loss", dtype="float64", **{**SPEC, **more})
    return model, module_text(model).partition("def loss(")[2].partition("\ndef ")[0]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_what_is_there_already_is_not_copied(steps: int) -> None:
    model, text = forward()
    assert MADE in text
    assert text.index("s = ") < text.index(MADE) < text.index("out=a[:, 2:]")
    agree(model, {"T": steps})


@pytest.mark.parametrize(
    ("text", "more"),
    [
        pytest.param(TEXT.replace("b[t,k]*s[k]", "b[t,k]*s[k]*m[t,k]"), {}, id="read after it"),
        pytest.param(TEXT.replace("x[t,i]*c[i]", "m[t,i+0]*c[i]"), {}, id="read by what overwrites it"),
        pytest.param(TEXT.replace("= m[t,i+0]", "= m[t,1-i]"), {}, id="at other places"),
        pytest.param(TEXT.replace("= m[t,i+0]", "= (t < T-1)*m[t,i+0]"), {}, id="not all of them"),
        pytest.param(TEXT + "a[t,i+0] += c[i]\n", {}, id="added to"),
        pytest.param(TEXT.replace("= x[t,i]*c[i]", "= d[t,i+2]") + "d[t,k] = W[k,0]*x[t,1]\n", {}, id="of two"),
        pytest.param(TEXT.replace("b[t,k]*s[k]", "b[t,k]"), {"shapes": {"a": ["T", 5]}}, id="of another shape"),
    ],
)
@pytest.mark.parametrize("steps", [1, 4])
def test_what_must_stay_is_copied(text: str, more: dict[str, Any], steps: int) -> None:
    model, emitted = forward(text, **more)
    assert "in the array of" not in emitted
    agree(model, {"T": steps})


def test_what_is_returned_stays() -> None:
    model = symbolic.load(TEXT, loss="loss", dtype="float64", outputs=["m"], **SPEC)
    assert "in the array of m" not in module_text(model).partition("\ndef loss(")[0]
    agree(model, {"T": 3})


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("block", [None, 2])
def test_the_adjoint_of_a_gru(steps: int, block: int | None) -> None:
    """Reset after the product: the adjoints of both projections differ in the candidate alone."""
    model = symbolic.load({
        "name": "net", "dtype": "float64", "inputs": {"x": ["T", "N", 3], "y": ["T", "N", 4]},
        "layers": [{"name": "gru", "type": "gru", "units": 4, "reset": "after"}], "loss": {"type": "mse", "target": "y"},
    })
    text = module_text(model, wrt="all", block=block)
    assert ("d_gru_a = d_gru_m[:T]  # in the array of d_gru.m" in text) is (block is None)
    agree(model, {"T": steps, "N": 2}, module=checked_module(text))


LSTM: dict[str, Any] = {
    "name": "net", "dtype": "float64", "inputs": {"x": ["T", "N", 3], "y": ["T", "N", 4]},
    "layers": [{"name": "l", "type": "lstm", "units": 4}], "loss": {"type": "mse", "target": "y"},
}


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("block", [None, 2])
def test_the_adjoint_of_the_gates_lies_where_the_gates_were(steps: int, block: int | None) -> None:
    model = symbolic.load(LSTM)
    text = module_text(model, wrt="all", block=block)
    assert ("d_l_a = l_a  # in the array of l.a" in text) is (block is None)
    agree(model, {"T": steps, "N": 2}, module=checked_module(text))


@pytest.mark.parametrize(
    ("text", "states"),
    [
        pytest.param("a[t,i] += U[i,j]*h[t-1,j]\nh[t,i] = sin(a[t,i])", ["h"], id="read after its loop"),
        pytest.param("a[t,i] += U[i,j]*h[t-1,j]*a[t-1,i]\nh[t,i] = tanh(a[t,i])", ["h", "a"], id="with entries before the first"),
    ],
)
@pytest.mark.parametrize("steps", [1, 3])
def test_what_is_read_later_or_has_a_margin_keeps_its_array(text: str, states: list[str], steps: int) -> None:
    model = symbolic.load(
        f"a[t,i] = W[i,k]*x[t,k]\n{text}\nloss = sum(h[t,i]**2, over=(t,i))", loss="loss", dtype="float64",
        inputs={"x": ["T", 3]}, parameters={"W": [4, 3], "U": [4, 4]}, shapes={} if "a" in states else {"a": ["T", 4]},
        states={name: ["T", 4] for name in states},
    )
    assert " = a  # in the array of a" not in module_text(model)
    agree(model, {"T": steps})


TWO = """
m[t,k] = sum(W[k,j]*x[t,j], over=j)
p[t,k] = sum(V[k,j]*x[t,j], over=j)
a[t,i+0] = m[t,i+0]
a[t,i+2] = x[t,i]*c[i]
q[t,i+0] = p[t,i+0]
q[t,i+2] = m[t,i+2]*c[i]
b[t,k] = sin(a[t,k])
loss = sum(b[t,k]*cos(q[t,k]), over=(t,k)) + sum(b[t,k], over=(t,k))
"""


@pytest.mark.parametrize("text", [TWO, TWO.replace("q[t,i+2] = m[t,i+2]*c[i]", "q[t,i+2] = x[t,i]*c[i]")])
@pytest.mark.parametrize("outputs", [[], ["m"], ["p", "q"], ["a"]])
def test_two_pairs(text: str, outputs: list[str]) -> None:
    """What makes the one may read what the other one is made out of."""
    model = symbolic.load(text, loss="loss", dtype="float64", **({"outputs": outputs} if outputs else {}), inputs={"x": ["T", 2]},
                          parameters={"W": [4, 2], "V": [4, 2], "c": [2]}, shapes={"a": ["T", 4], "q": ["T", 4]}, ranges={"i": 2})
    with dirty():
        agree(model, {"T": 2})


@pytest.mark.parametrize("options", [
    {"direction": "both"}, {"layers": 2}, {"state": "learned"}, {"state": "given"}, {"state": "carry"}, {"output": "last"},
])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("steps", [1, 3])
def test_layers_with_their_options(kind: str, options: dict[str, Any], steps: int) -> None:
    width = 8 if options == {"direction": "both"} else 4
    target = ["N", width] if "output" in options else ["T", "N", width]
    model = symbolic.load({
        "name": "net", "dtype": "float64", "inputs": {"x": ["T", "N", 3], "y": target},
        "layers": [{"name": "l", "type": kind, "units": 4, **options}], "loss": {"type": "mse", "target": "y"},
    })
    with dirty():
        agree(model, {"T": steps, "N": 2})
        agree(model, {"T": steps, "N": 2}, module=checked_module(module_text(model)))
