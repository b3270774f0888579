"""Losses: texts, reductions, errors, and a published worked example. Numbers against torch are in
test_layers_oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symbolic
from symbolic.errors import SpecError
from symbolic.interpreter import evaluate

LABELS = {"shape": ["T", "N"], "kind": "index", "below": "K"}


def build(x: list[Any], y: Any, inputs: dict[str, Any] | None = None, **loss: Any) -> symbolic.Model:
    """A model that passes ``x`` through to a loss against ``y``."""
    return symbolic.load(
        {
            "name": "m",
            "inputs": {"x": x, "y": y, **(inputs or {})},
            "layers": [{"name": "out", "type": "identity"}],
            "loss": {"target": "y", **loss},
        }
    )


def texts(model: symbolic.Model) -> list[str]:
    found = [e.origin.text for e in model.program().equations if e.name == "loss" or e.name.startswith("loss.")]
    return list(dict.fromkeys(found))


def test_cross_entropy_is_the_textbooks() -> None:
    assert texts(build(["T", "N", "K"], LABELS, type="softmax_cross_entropy")) == [
        "e[t,n,k] = exp(x[t,n,k])",
        "s[t,n] = sum(e[t,n,k], over=k)",
        "l[t,n] = log(s[t,n]) - x[t,n,y[t,n]]",
        "loss = mean(l[t,n], over=(t,n))",
    ]


def test_binary_cross_entropy_is_the_textbooks() -> None:
    assert texts(build(["N"], ["N"], type="binary_cross_entropy")) == [
        "l[i] = -(y[i]*log(sigmoid(x[i])) + (1 - y[i])*log(1 - sigmoid(x[i])))",
        "loss = mean(l[i], over=i)",
    ]


def test_ignored_targets_are_guarded() -> None:
    assert texts(build(["T", "N", "K"], {**LABELS, "ignore": -1}, type="softmax_cross_entropy"))[2:] == [
        "l[t,n] = log(s[t,n]) - x[t,n,y[t,n]]",
        "total = sum((y[t,n] != -1)*l[t,n], over=(t,n))",
        "count = sum((y[t,n] != -1)*1, over=(t,n))",
        "loss = total/count",
    ]


@pytest.mark.parametrize("shape", [["N", "K"], ["T", "N", "K"], ["N", "T", "K"], [4, 2, 3]])
def test_batch_reduction_divides_by_the_batch(shape: list[Any]) -> None:
    sizes = {"T": 4, "N": 2, "K": 3}
    x = np.random.default_rng(0).standard_normal([sizes.get(e, e) for e in shape])
    model = build(shape, shape, type="mse", reduction="batch")
    free = {e: sizes[e] for e in shape if isinstance(e, str)}
    got = evaluate(model.program(), {"x": x, "y": 0 * x}, free, ["loss"])["loss"]
    assert got == pytest.approx((x**2).sum() / 2, rel=1e-14)


def test_a_sum_over_an_empty_selection_is_zero() -> None:
    model = build(["T", "N", "K"], {**LABELS, "ignore": -100}, type="softmax_cross_entropy", reduction="sum")
    got = evaluate(
        model.program(), {"x": np.ones((1, 1, 2)), "y": np.array([[-100]])}, {"T": 1, "N": 1, "K": 2}, ["loss"]
    )
    assert got["loss"] == 0


def test_probabilities_of_zero_and_one_are_finite() -> None:
    program = symbolic.gradient(
        build(["N"], ["N"], **{"type": "binary_cross_entropy", "from": "probabilities"}).program(), ["x"]
    )
    values = {"x": np.array([0.0, 1.0, 0.0, 1.0]), "y": np.array([0.0, 1.0, 1.0, 0.0])}
    got = evaluate(program, values, {"N": 4}, ["loss", program.gradients["x"]])
    assert np.isfinite(got["loss"])
    assert np.isfinite(got[program.gradients["x"]]).all()
    assert got["loss"] == pytest.approx(2 * np.log(1e30) / 4)


def test_mazurs_published_network() -> None:
    """M. Mazur, "A step by step backpropagation example" (2015): error, and weights w5 and w8 after one step of rate
    0.5."""
    model = symbolic.load(
        {
            "name": "mazur",
            "dtype": "float64",
            "inputs": {"x": [2], "y": [2]},
            "layers": [
                {"name": "hidden", "type": "dense", "units": 2, "activation": "sigmoid"},
                {"name": "out", "type": "dense", "units": 2, "activation": "sigmoid"},
                {
                    "name": "error",
                    "type": "equations",
                    "equations": "e = sum((y[i] - o[i])**2, over=i)/2",
                    "from": {"o": "out"},
                },
            ],
            "loss": {"prediction": "error"},
        }
    )
    values = {
        "x": np.array([0.05, 0.10]),
        "y": np.array([0.01, 0.99]),
        "hidden.W": np.array([[0.15, 0.20], [0.25, 0.30]]),
        "hidden.b": np.array([0.35, 0.35]),
        "out.W": np.array([[0.40, 0.45], [0.50, 0.55]]),
        "out.b": np.array([0.60, 0.60]),
    }
    program = symbolic.gradient(model.program(), ["out.W", "hidden.W"])
    got = evaluate(program, values, {}, ["loss", *program.gradients.values()])
    out = values["out.W"] - 0.5 * got[program.gradients["out.W"]]
    hidden = values["hidden.W"] - 0.5 * got[program.gradients["hidden.W"]]
    assert got["loss"] == pytest.approx(0.298371109, abs=5e-10)
    assert out.ravel() == pytest.approx([0.35891648, 0.408666186, 0.511301270, 0.56137012], abs=5e-9)
    assert hidden.ravel() == pytest.approx([0.149780716, 0.19956143, 0.24975114, 0.29950229], abs=5e-9)


BAD: list[tuple[list[Any], Any, dict[str, Any], str]] = [
    (
        ["T", "N"],
        ["N", "T"],
        {"type": "mse"},
        r"expected a target of shape \[T, N\] for the prediction '.*' of shape \[T, N\], found 'y' of shape \[N, T\]",
    ),
    (
        ["T", "N", "K"],
        ["T", "N"],
        {"type": "softmax_cross_entropy"},
        r"^loss\.target: expected labels .* for labels write y: \{shape: \[T, N\], kind: index, below: K\}; ",
    ),
    (
        ["N", "K"],
        ["N"],
        {"type": "nll"},
        r"^loss\.target: expected labels .* for labels write y: \{shape: \[N\], kind: index, below: K\}; ",
    ),
    (
        ["T", "N", 4],
        {**LABELS, "below": 5},
        {"type": "softmax_cross_entropy"},
        r"expected labels below 4, .* found 'y' below 5",
    ),
    ([], [], {"type": "softmax_cross_entropy"}, r"expected an input with at least 1 axes"),
    (
        ["N"],
        {"shape": ["N"], "kind": "index", "below": 3},
        {"type": "mse"},
        r"expected real numbers, found the index tensor 'y'",
    ),
    (
        ["T", "N"],
        ["T", "N"],
        {"type": "mse", "lengths": "len"},
        r"expected an index tensor of shape \[N\], found 'len'",
    ),
    (["N"], ["N"], {"type": "mse", "reduction": "max"}, r"expected 'mean' or 'sum' or 'batch', found 'max'"),
    (["N"], ["N"], {"type": "huber", "delta": 0.0}, r"expected a number above 0, found 0"),
]


@pytest.mark.parametrize(("x", "y", "loss", "message"), BAD)
def test_bad_losses(x: list[Any], y: Any, loss: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build(x, y, {"len": {"shape": ["T"], "kind": "index", "below": 9}}, **loss)
