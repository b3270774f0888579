"""Slopes and Hessian-vector products of generated modules: against differences, each other, and reverse over reverse."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import symbolic
from symbolic.interpreter import evaluate
from symbolic.program import Equation, Index, Names, Role, Tensor
from tests.emitting import close, compiled, split, values_for

SPECS = sorted(path.stem for path in Path("specs").glob("*.yaml"))
STEP = 1e-5
SIZES = {"T": 3, "N": 2}


def small(name: str) -> dict[str, Any]:
    """The spec with small sizes and smooth units: differences across a kink say nothing."""
    data = yaml.safe_load(Path("specs", f"{name}.yaml").read_text())
    data["dtype"] = "float64"
    data["sizes"] = {key: min(value, 3 + k) for k, (key, value) in enumerate(data.get("sizes", {}).items())}
    if name == "mlp":
        data["inputs"]["x"] = ["N", 5]
    if name.startswith("lenet"):
        data["inputs"]["x"] = ["N", 1, 16, 16] if name == "lenet" else ["N", 1, 8, 8]
    for k, layer in enumerate(data.get("layers", [])):
        for key in ("units", "channels"):
            if isinstance(layer.get(key), int) and layer["name"] != "out":
                layer[key] = 3 + k % 2
        if layer.get("activation") == "relu":
            layer["activation"] = "tanh"
    return dict(data)


@cache
def prepared(name: str) -> Any:
    model = symbolic.load(small(name))
    module = compiled(model, tangent=True, hvp=True)
    values = values_for(model.program(), SIZES)
    rng = np.random.default_rng(1)
    params, batch = split(model.program(), values)
    directions = [{n: rng.standard_normal(a.shape) for n, a in params.items()} for _ in range(2)]
    return module, params, batch, directions


def moved(params: dict[str, Any], direction: dict[str, Any], step: float) -> dict[str, Any]:
    return {n: np.asarray(a + step * direction[n]) for n, a in params.items()}


def inner(a: dict[str, Any], b: dict[str, Any]) -> float:
    return sum(float(np.sum(a[n] * b[n])) for n in a)


@pytest.mark.parametrize("name", SPECS)
def test_jvp_is_the_slope_of_the_loss(name: str) -> None:
    module, params, batch, (v, _) = prepared(name)
    loss, slope = module.jvp(params, batch, v)
    close(loss, module.loss(params, batch), 1e-12, "loss")
    above, below = (module.loss(moved(params, v, s), batch) for s in (STEP, -STEP))
    close(slope, (above - below) / (2 * STEP), 1e-6, "slope")
    close(slope, inner(module.value_and_grad(params, batch)[1], v), 1e-10, "slope by the gradient")


@pytest.mark.parametrize("name", SPECS)
def test_hvp_is_the_difference_of_gradients(name: str) -> None:
    module, params, batch, (v, _) = prepared(name)
    product = module.hvp(params, batch, v)
    assert list(product) == list(params)
    above, below = (module.value_and_grad(moved(params, v, s), batch)[1] for s in (STEP, -STEP))
    scale = max(float(np.max(np.abs(a))) for a in product.values())
    for n, array in product.items():
        assert array.dtype == np.float64
        assert array.shape == params[n].shape
        assert np.max(np.abs(array - (above[n] - below[n]) / (2 * STEP))) <= 1e-6 * max(scale, 1e-3), n


@pytest.mark.parametrize("name", SPECS)
def test_the_hessian_is_symmetric(name: str) -> None:
    module, params, batch, (v, w) = prepared(name)
    left, right = inner(v, module.hvp(params, batch, w)), inner(w, module.hvp(params, batch, v))
    assert left == pytest.approx(right, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["second_order", "scalar", "rnn_regression", "char_rnn", "minimal_gated_unit"])
def test_reverse_over_reverse_is_the_same(name: str) -> None:
    """The gradient of (gradient . v), by the same rule applied twice, under the interpreter."""
    module, params, batch, (v, _) = prepared(name)
    program = symbolic.load(small(name)).program()
    wrt = [t.name for t in program.parameters]
    first = symbolic.gradient(program, wrt)
    names = Names.of(first)
    slope = Tensor(names.fresh("slope"), ())
    fixed = {n: Tensor(names.fresh(f"v_{n}"), first.tensor(n).shape, Role.INPUT) for n in wrt}
    rows = []
    for k, n in enumerate(wrt):
        places = [names.index("q") for _ in fixed[n].shape]
        indices = tuple(Index.over(s, e) for s, e in zip(places, fixed[n].shape, strict=True))
        rows.append(Equation(slope.at(()), first.tensor(first.gradients[n]).at(places) * fixed[n].at(places), indices,
                             numbers=(first.next_number + k,)))
    from dataclasses import replace

    directed = replace(first, tensors=(*first.tensors, slope, *fixed.values()), equations=(*first.equations, *rows),
                       loss=slope.name, gradients={})
    second = symbolic.gradient(directed, wrt)
    values = {**params, **batch, **{fixed[n].name: v[n] for n in wrt}}
    found = evaluate(second, values, SIZES, [second.gradients[n] for n in wrt])
    for n, array in module.hvp(params, batch, v).items():
        close(array, found[second.gradients[n]], 1e-10, n)


def test_a_wrong_direction_is_said() -> None:
    module, params, batch, (v, _) = prepared("second_order")
    for function in (module.jvp, module.hvp):
        with pytest.raises(ValueError, match=r"direction\['cell\.W'\]: expected shape \(4, 3\) .*found no array"):
            function(params, batch, {n: a for n, a in v.items() if n != "cell.W"})
        with pytest.raises(ValueError, match=r"direction\['cell\.W'\]: expected shape \(4, 3\)"):
            function(params, batch, {**v, "cell.W": np.zeros((3, 4))})


def test_float32_products_stay_float32() -> None:
    data = {**small("char_rnn"), "dtype": "float32"}
    model = symbolic.load(data)
    module = compiled(model, tangent=True, hvp=True)
    values = {n: a.astype(np.float32) if a.dtype.kind == "f" else a for n, a in values_for(model.program(), SIZES).items()}
    params, batch = split(model.program(), values)
    assert all(a.dtype == np.float32 for a in module.hvp(params, batch, params).values())
    assert all(isinstance(number, float) for number in module.jvp(params, batch, params))


def test_a_loss_that_no_parameter_reaches_has_slope_0() -> None:
    text = "loss = sum(x[n]**2, over=n)"
    model = symbolic.load(text, dtype="float64", loss="loss", inputs={"x": ["N"]}, parameters={"w": ["N"]})
    module = compiled(model, tangent=True, hvp=True)
    params, batch, direction = {"w": np.ones(2)}, {"x": np.array([1.0, 2.0])}, {"w": np.ones(2)}
    assert module.jvp(params, batch, direction) == (5.0, 0.0)
    assert module.hvp(params, batch, direction)["w"].tolist() == [0.0, 0.0]
