"""``weights: in_out``: the same model with its matrices transposed, down to the numbers of ``init``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import codegen
from codegen.verify import check
from symbolic import SpecError, load
from symbolic.layers import LAYERS
from symbolic.spec import schema

CASES: Mapping[str, dict[str, Any]] = {
    "dense": {"type": "dense", "units": "H"},
    "dense without bias": {"type": "dense", "units": "H", "activation": "tanh", "bias": False},
    "rnn": {"type": "rnn", "units": "H"},
    "rnn reversed": {"type": "rnn", "units": "H", "direction": "reverse", "state": "learned"},
    "rnn masked": {"type": "rnn", "units": "H", "direction": "both", "lengths": "len", "state": "learned"},
    "lstm": {"type": "lstm", "units": "H", "forget_bias": 1.0},
    "lstm both ways": {"type": "lstm", "units": "H", "direction": "both", "layers": 2},
    "gru": {"type": "gru", "units": "H"},
    "gru reset before": {"type": "gru", "units": "H", "reset": "before", "direction": "both"},
    "gru of the last step": {"type": "gru", "units": "H", "layers": 2, "output": "last"},
}
SIZES = {"T": 5, "N": 3, "D": 2, "H": 4, "C": 8}
"""Distinct, so that a transposed axis cannot hide."""


def model(case: str, weights: str | None, **more: Any) -> Any:
    """The layer, and a dense one after it with the same convention."""
    given = {} if weights is None else {"weights": weights}
    last = CASES[case].get("output") == "last"
    length = {"len": {"shape": ["N"], "kind": "index", "below": "T+1"}} if "lengths" in CASES[case] else {}
    return load({
        "name": "m", "dtype": "float64", "sizes": {k: v for k, v in SIZES.items() if k not in "TN"},
        "inputs": {"x": ["T", "N", "D"], "y": [*["T"][last:], "N", "C"], **length},
        "layers": [{"name": "l", **CASES[case], **given}, {"name": "out", "type": "dense", "units": "C", **given}],
        "loss": {"type": "mse", "target": "y"}, **more,
    })


def batch(case: str) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    axes = "NC" if CASES[case].get("output") == "last" else "TNC"
    return {"x": rng.standard_normal([SIZES[a] for a in "TND"]), "y": rng.standard_normal([SIZES[a] for a in axes]),
            **({"len": np.array([5, 2, 4])} if "lengths" in CASES[case] else {})}


def turned(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Matrices transposed, in rows as a caller has them."""
    return {name: np.ascontiguousarray(a.T) if a.ndim == 2 else a for name, a in arrays.items()}


@lru_cache(maxsize=None)  # noqa: UP033 - the arguments have defaults
def module(case: str, weights: str | None, target: str = "numpy") -> Any:
    return codegen.compile(model(case, weights), target, wrt="all")


def params(case: str) -> dict[str, Any]:
    """Numbers for the model that is [out, in]."""
    rng = np.random.default_rng(2)
    return {name: rng.standard_normal(a.shape) / 2 for name, a in module(case, "out_in").init(0).items()}


@pytest.mark.parametrize(("case", "target"), [
    *((case, "numpy") for case in CASES), ("dense", "c"), ("lstm both ways", "c"), ("gru reset before", "c"),
])
def test_loss_and_gradients_are_the_transposed(case: str, target: str) -> None:
    given, inputs = params(case), batch(case)
    want, slopes = module(case, "out_in").value_and_grad(given, inputs)
    found, grads = module(case, "in_out", target).value_and_grad(turned(given), inputs)
    np.testing.assert_allclose(found, want, rtol=1e-12)
    assert list(grads) == list(slopes)
    for name, slope in {**slopes, **turned({name: slopes[name] for name in given})}.items():
        assert grads[name].shape == slope.shape
        np.testing.assert_allclose(grads[name], slope, rtol=0, atol=1e-9 * np.max(np.abs(slope)))


@pytest.mark.parametrize("case", CASES)
def test_shapes(case: str) -> None:
    """Every matrix is transposed, nothing else, and out_in is what there was before."""
    tables = [module(case, weights).PARAMETERS for weights in (None, "out_in", "in_out")]
    assert tables[0] == tables[1]
    assert list(tables[2]) == list(tables[1])
    for name, (shape, kind) in tables[1].items():
        assert tables[2][name] == (shape[::-1] if len(shape) == 2 else shape, kind)
    assert any(len(shape) == 2 and shape[0] != shape[1] for shape, _ in tables[1].values())


INITS = ["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal", "orthogonal",
         "orthogonal(2, 4)", "identity(0.5)", "normal(0, 0.1)", "fan_uniform(3)", "default"]


@pytest.mark.parametrize(("init", "where"), [
    (None, "spec"), *((init, "spec") for init in INITS), ("glorot_uniform", "layer"), ("glorot_uniform", "name"),
    ("default", "name"),
])
def test_init_is_the_transposed(init: str | None, where: str) -> None:
    """The very numbers: fans, orthonormal blocks and the order of the draws are those of [out, in]."""
    def start(weights: str) -> dict[str, Any]:
        made = model("rnn", weights)
        if init is not None:
            data = dict(made.spec.document.data)
            low, out = ({**layer} for layer in data["layers"])
            if where == "layer":
                low["init"], out["init"] = init, {"W": init}
            else:
                data["init"] = init if where == "spec" else {"l.W": init, "l.U": init, "out.W": init}
            made = load({**data, "layers": [low, out]})
        return dict(codegen.compile(made).init(3))

    plain, found = start("out_in"), start("in_out")
    for name, want in turned(plain).items():
        assert found[name].flags.c_contiguous
        np.testing.assert_array_equal(found[name], want)
    assert not np.array_equal(plain["l.W"], np.zeros_like(plain["l.W"]))


def test_fan_in_is_the_axis_that_is_summed() -> None:
    """A bound that fan in and fan out tell apart: 1/sqrt(fan in) of the dense layer, sqrt(3/fan in) of LeCun's."""
    for init, bound in (({}, 1 / np.sqrt(200)), ({"init": "lecun_uniform"}, np.sqrt(3 / 200))):
        made = load({"name": "m", "inputs": {"x": ["N", 200], "y": ["N", 2]}, "layers": [
            {"name": "out", "type": "dense", "units": 2, "weights": "in_out", **init}], "loss": {"type": "mse", "target": "y"}})
        start = codegen.compile(made).init(0)["out.W"]
        assert start.shape == (200, 2)
        assert 0.95 * bound < np.max(np.abs(start)) <= bound


def test_orthonormal_gates() -> None:
    start = codegen.compile(model("lstm", "in_out", init={"l.U": "orthogonal(1, 4)"})).init(0)["l.U"]
    for gate in np.split(start, 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(("case", "lines"), [
    ("dense", ["l.y[t,n,i] = sum_k l.W[k,i]*x[t,n,k] + l.b[i]"]),
    ("rnn", ["l.a[t,n,i] = sum_k l.W[k,i]*x[t,n,k] + sum_j l.U[j,i]*l.h[t-1,n,j] + l.b[i]"]),
    ("lstm", ["l.a[t,n,r] = sum_d l.W[d,r]*x[t,n,d] + sum_j l.U[j,r]*l.h[t-1,n,j] + l.b[r]"]),
    ("gru", ["l.a[t,n,q] = sum_d l.W[d,q]*x[t,n,d] + l.b[q]", "l.m[t,n,q] = sum_j l.U[j,q]*l.h[t-1,n,j]"]),
    ("gru reset before", ["l.m[t,n,e] = sum_j l.U[j,e]*l.h[t-1,n,j]", "l.v[t,n,k] = sum_j l.U[j,k+2*H]*l.p[t,n,j]"]),
])
def test_equations(case: str, lines: list[str]) -> None:
    from codegen.derivation.formats import show
    from codegen.derivation.provenance import derive

    shown = show(derive(model(case, "in_out")))
    for line in lines:
        assert line in shown


@pytest.mark.parametrize(("case", "target"), [("lstm", "numpy"), ("gru reset before", "numpy"), ("dense", "c")])
def test_check(case: str, target: str) -> None:
    report = check(model(case, "in_out"), target)
    assert report.verdict == "OK"
    assert {v.name: v.shape for v in report.parameters} == {
        name: np.shape(a) for name, a in module(case, "in_out").init(0).items()}


def test_a_layer_that_reads_the_weights_of_another() -> None:
    """Tied weights: as they are stored, so the other way round where they are stored [in, out]."""
    def tied(weights: str, entry: str) -> Any:
        return codegen.compile(load({
            "name": "m", "dtype": "float64", "inputs": {"x": ["N", 2]}, "layers": [
                {"name": "low", "type": "dense", "units": 3, "weights": weights, "activation": "tanh"},
                {"name": "back", "type": "equations", "equations": f"y[n,k] = {entry}*low[n,i]"}],
            "loss": {"type": "mse", "target": "x"}}))

    one, other = tied("out_in", "low.W[i,k]"), tied("in_out", "low.W[k,i]")
    start, inputs = one.init(0), {"x": np.random.default_rng(0).standard_normal((5, 2))}
    loss, grads = one.value_and_grad(start, inputs)
    again, others = other.value_and_grad(turned(start), inputs)
    np.testing.assert_allclose(again, loss, rtol=1e-12)
    np.testing.assert_allclose(others["low.W"].T, grads["low.W"], rtol=1e-12)


def test_which_layers_have_it() -> None:
    """All that multiply by a matrix of their own."""
    having = {kind for kind, row in LAYERS.items() if "weights" in row.load().options.model_fields}
    assert having == {"dense", "rnn", "lstm", "gru"}
    for kind in having:
        assert schema()["$defs"][f"layer_{kind}"]["properties"]["weights"]["enum"] == ["out_in", "in_out"]


def test_a_word_that_is_none() -> None:
    with pytest.raises(SpecError, match=r"layers\[0\]\.weights: expected 'out_in' or 'in_out', found 'in-out'; did you "):
        model("lstm", "in-out")
