"""Memory, types and extremes of generated modules: no subscript leaves its array, nothing given is written to, nothing returned
is shared, float32 stays float32, and large numbers stay finite."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import symbolic
from tests.emitting import agree, close, compiled, expected, split, values_for
from tests.oracle.case import Case, recorded
from tests.oracle.cases import FAMILIES

CASES = [pytest.param(family, case, id=case.name) for family, cases in FAMILIES.items() for case in cases]


def load(text: str, **keys: Any) -> symbolic.Model:
    return symbolic.load(text, **{"loss": "loss", "dtype": "float64", **keys})


@pytest.mark.parametrize(("family", "case"), CASES)
def test_every_layer_in_float32_with_checked_subscripts(family: str, case: Case) -> None:
    """Every case of the catalogue: subscripts in range, inputs read-only, every array of the module's type, no array shared."""
    model, want = symbolic.load(case.spec()), recorded(family, case)
    module = compiled(model, dtype="float32", wrt="all")
    arrays = {n: a.astype(np.float32) if a.dtype.kind == "f" else a for n, a in want.given.items()}
    params, batch = split(model.program(), arrays)
    loss, grads, aux = module.value_and_grad(params, batch, aux=True)
    assert isinstance(loss, float)
    for name, array in {**grads, **aux, **module.predict(params, batch)}.items():
        assert isinstance(array, np.ndarray), f"{name} is a {type(array).__name__}"
        assert array.dtype in (np.float32, np.intp), f"{name} is {array.dtype}"
    for name in grads:
        assert grads[name].shape == arrays[name].shape
    assert_apart(grads, arrays)
    again = module.value_and_grad(params, batch)[1]
    assert_apart(again, {**arrays, **{f"d_{n}": g for n, g in grads.items()}})
    for name in grads:
        assert np.array_equal(grads[name], again[name], equal_nan=True), f"{name}: a second call gives other numbers"


def assert_apart(arrays: dict[str, Any], others: dict[str, Any]) -> None:
    names = list(arrays)
    for k, name in enumerate(names):
        for other, array in [*others.items(), *((n, arrays[n]) for n in names[:k])]:
            assert not np.shares_memory(arrays[name], array), f"the gradient of {name} shares memory with {other}"


@pytest.mark.parametrize(("text", "keys"), [
    ("loss = sum(x[t]*y[t], over=t)", {"inputs": {"x": ["T"], "y": ["T"]}}),
    ("z[t] = x[t] + y[t]\nloss = sum(z[t], over=t)", {"inputs": {"x": ["T"], "y": ["T"]}}),
    ("loss = sum(x[t], over=t)", {"inputs": {"x": ["T"], "y": ["T"]}}),
    ("z[t] = x[T-1-t]\nloss = sum(z[t]*y[t], over=t)", {"inputs": {"x": ["T"], "y": ["T"]}, "states": {"z": ["T"]}}),
    ("loss = s*s + r", {"parameters": {"s": [], "r": []}}),
    ("loss = 2*s", {"parameters": {"s": [], "r": []}}),
])
def test_gradients_that_are_copies_of_something_are_fresh(text: str, keys: Any) -> None:
    model = load(text, **keys)
    module = agree(model, {"T": 3})
    values = values_for(model.program(), {"T": 3})
    params, batch = split(model.program(), values)
    _, grads = module.value_and_grad(params, batch)
    assert_apart(grads, values)
    for array in grads.values():
        array[...] = 7  # may be written to
    kept = {n: a.copy() for n, a in module.value_and_grad(params, batch)[1].items()}
    module.value_and_grad(params, batch)
    for name, array in module.value_and_grad(params, batch)[1].items():
        assert np.array_equal(array, kept[name])


def test_calls_at_the_same_time_do_not_meet() -> None:
    model = load("h[t,i] = tanh(x[t,i] + u[i]*h[t-1,i])\nloss = sum(h[t,i]**2, over=(t,i))",
                 inputs={"x": ["T", "H"]}, parameters={"u": ["H"]})
    module = compiled(model, wrt="all")
    batches = [split(model.program(), values_for(model.program(), {"T": 200, "H": 50}, seed)) for seed in range(4)]
    alone = [module.value_and_grad(*b) for b in batches]
    together: list[Any] = [None]*4

    def run(k: int) -> None:
        for _ in range(5):
            together[k] = module.value_and_grad(*batches[k])

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (loss, grads), (other, more) in zip(alone, together, strict=True):
        assert loss == other
        assert all(np.array_equal(grads[n], more[n]) for n in grads)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
def test_fewer_steps_than_lags_and_kernels(steps: int) -> None:
    model = load("""
y[t] = x[t-3]*w[0] + x[t+4] + x[T-4-t]
y[2*t] += x[t-2]
z[t] = max(x[t+k-2]*w[k], over=k)
c[u] = w[k]*x[2*u+k-1]
loss = sum(sin(y[t])*y[t] + z[t]**2, over=t) + sum(c[u]**2, over=u)
""", inputs={"x": ["T"]}, parameters={"w": [5]}, states={"y": ["T"], "z": ["T"], "c": ["floor((T+1)/2)"]}, ranges={"t": "T"})
    agree(model, {"T": steps})


def test_a_kernel_as_large_as_its_input() -> None:
    model = symbolic.load({
        "name": "full", "dtype": "float64", "inputs": {"x": ["N", 2, 3, 4], "y": ["N", 5, 1, 1]},
        "layers": [{"name": "c", "type": "conv2d", "channels": 5, "kernel": [3, 4]}], "loss": {"type": "mse", "target": "y"},
    })
    for batch in (1, 3):
        agree(model, {"N": batch})


def test_a_window_beside_a_label_that_comes_twice() -> None:
    """The adjoint adds along the window and through the label at once; equal labels must not overwrite each other."""
    model = load("y[t] = sum(x[2*u+k,lab[t]], over=(u,k))\nloss = sum(y[t]**2*a[t], over=t)", parameters={"a": ["T"]},
                 ranges={"u": "T", "k": 3},
                 inputs={"x": ["T", "N"], "lab": {"shape": ["T"], "kind": "index", "below": "N", "ignore": -1}})
    agree(model, {"T": 5, "N": 2}, lab=[1, 1, -1, 0, 1])


def test_nothing_to_take_a_maximum_of() -> None:
    """A row without an entry: the maximum is 0, and nothing flows back."""
    model = load("m[n] = max((t < len[n])*x[t,n], over=t)\nloss = sum(m[n]**2 + m[n], over=n)",
                 inputs={"x": ["T", "N"], "len": {"shape": ["N"], "kind": "index", "below": "T+1"}})
    agree(model, {"T": 3, "N": 4}, len=[0, 1, 3, 0])
    agree(model, {"T": 1, "N": 1}, len=[0])


def test_ties_go_to_the_first() -> None:
    model = load("m[n] = max(x[t,n], over=t)\nloss = sum(m[n], over=n)", inputs={"x": ["T", "N"]})
    agree(model, {"T": 3, "N": 2}, x=np.ones((3, 2)))


def test_windows_that_see_only_negative_numbers() -> None:
    """Padding is no entry of a maximum: the border of a pooled negative picture is negative."""
    model = symbolic.load({
        "name": "pool", "dtype": "float64", "inputs": {"x": ["N", 1, 4, 5], "y": ["N", 1, 4, 5]},
        "layers": [{"name": "p", "type": "max_pool2d", "kernel": 3, "stride": 1, "padding": 1}],
        "loss": {"type": "mse", "target": "y"},
    })
    agree(model, {"N": 2}, x=-1 - np.arange(40.0).reshape(2, 1, 4, 5))


def test_masked_scores_of_800() -> None:
    """What a guard keeps out is not computed into the sum: exp(800) is infinite."""
    model = load("""
e[t,k] = (k <= t)*exp(s[t,k])
z[t] = e[t,k]
y[t] = sum((k <= t)*exp(s[t,k])*v[k], over=k)
loss = sum(y[t]/z[t], over=t)
""", parameters={"s": ["T", "T"], "v": ["T"]})
    scores = np.where(np.tril(np.ones((4, 4))) > 0, 0.3, 800.0)
    agree(model, {"T": 4}, s=scores)


def test_a_factor_beyond_the_mask_may_be_infinite() -> None:
    model = load("y[t] = sum((k <= t)*w[t,k]*exp(x[k]), over=k)\nloss = sum(y[t]**2, over=t)",
                 inputs={"x": ["T"]}, parameters={"w": ["T", "T"]})
    program = model.program()
    values = values_for(program, {"T": 3}, x=[0.1, -0.4, 0.2])
    module = agree(model, {"T": 3}, **values)
    ragged = load("y[n] = sum((k < len[n])*w[n,k]*exp(x[k]), over=k)\nloss = sum(y[n]**2, over=n)",
                  inputs={"x": ["T"], "len": {"shape": ["N"], "kind": "index", "below": "T+1"}}, parameters={"w": ["N", "T"]})
    agree(ragged, {"T": 3, "N": 2}, x=[0.1, -0.4, 800.0], len=[1, 2])
    assert module


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_large_logits_are_finite_and_right(dtype: str) -> None:
    model = symbolic.load({
        "name": "big", "dtype": "float64", "inputs": {"z": ["N", 3], "y": {"shape": ["N"], "kind": "index", "below": 3}},
        "layers": [{"name": "same", "type": "equations", "from": {"z": "z"}, "equations": "o[n,k] = z[n,k]", "output": "o"}],
        "loss": {"type": "softmax_cross_entropy", "target": "y"},
    })
    module = compiled(model, wrt="all", dtype=dtype)
    z = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4]], dtype)
    loss, grads = module.value_and_grad({}, {"z": z, "y": np.array([1, 2, 0])})
    close(loss, (2e4 + np.log(3) + np.log(2)) / 3, 1e-6, "loss")
    want = np.array([[1, -1, 0], [1 / 3, 1 / 3, -2 / 3], [-0.5, 0.5, 0]]) / 3
    close(grads["z"], want, 1e-6, "gradient")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sigmoids_of_800(dtype: str) -> None:
    model = load("y[n] = sigmoid(x[n])\nloss = sum(y[n], over=n)", inputs={"x": ["N"]})
    module = compiled(model, wrt="all", dtype=dtype)
    loss, grads = module.value_and_grad({}, {"x": np.array([-800, 800, 0], dtype)})
    assert loss == 1.5
    close(grads["x"], np.array([0, 0, 0.25]), 1e-6, "gradient")
    cross = symbolic.load({
        "name": "bce", "dtype": "float64", "inputs": {"z": ["N"], "y": ["N"]},
        "layers": [{"name": "same", "type": "equations", "from": {"z": "z"}, "equations": "o[n] = z[n]", "output": "o"}],
        "loss": {"type": "binary_cross_entropy", "target": "y"},
    })
    module = compiled(cross, wrt="all", dtype=dtype)
    batch = {"z": np.array([-800, 800, 800], dtype), "y": np.array([0, 1, 0], dtype)}
    loss, grads = module.value_and_grad({}, batch)
    close(loss, 800 / 3, 1e-6, "loss")
    close(grads["z"], np.array([0, 0, 1]) / 3, 1e-6, "gradient")


def test_two_halves_of_a_batch_are_the_whole() -> None:
    model = symbolic.load("specs/gru_classifier.yaml")
    module = compiled(model, dtype="float64")
    values = values_for(model.program(), {"T": 4, "N": 6})
    params, batch = split(model.program(), values)

    def part(rows: slice) -> dict[str, Any]:
        return {"x": batch["x"][:, rows], "len": batch["len"][rows], "y": batch["y"][rows]}

    loss, grads = module.value_and_grad(params, batch)
    halves = [module.value_and_grad(params, part(rows)) for rows in (slice(0, 3), slice(3, 6))]
    close(np.mean([h[0] for h in halves]), loss, 1e-12, "loss")
    for name, array in grads.items():
        close((halves[0][1][name] + halves[1][1][name]) / 2, array, 1e-12, name)


BATCHES = {
    "dense": ({"x": ["N", 3], "y": ["N", 2]}, [{"name": "f", "type": "dense", "units": 2, "activation": "tanh"}]),
    "conv": ({"x": ["N", 1, 7], "y": ["N", 2, 5]},
             [{"name": "f", "type": "conv1d", "channels": 2, "kernel": 3, "activation": "tanh"}]),
    "recurrent": ({"x": ["T", "N", 3], "y": ["T", "N", 2]}, [{"name": "f", "type": "lstm", "units": 2}]),
}


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("kind", BATCHES)
def test_two_parts_of_a_batch_are_the_whole(kind: str, reduction: str) -> None:
    inputs, layers = BATCHES[kind]
    model = symbolic.load({"name": "parts", "dtype": "float64", "inputs": inputs, "layers": layers,
                           "loss": {"type": "mse", "target": "y", "reduction": reduction}})
    module = compiled(model)
    params, batch = split(model.program(), values_for(model.program(), {"T": 4, "N": 6}))
    loss, grads = module.value_and_grad(params, batch)
    cut = (slice(0, 2), slice(2, 6))
    axis = (slice(None),) if kind == "recurrent" else ()
    parts = [module.value_and_grad(params, {k: v[(*axis, rows)] for k, v in batch.items()}) for rows in cut]
    first, second = (1, 1) if reduction == "sum" else (2 / 6, 4 / 6)
    close(first * parts[0][0] + second * parts[1][0], loss, 1e-12, "loss")
    for name, array in grads.items():
        close(first * parts[0][1][name] + second * parts[1][1][name], array, 1e-12, name)


def test_one_step_and_one_sample_of_every_spec() -> None:
    for name in ("char_rnn", "lstm_lm", "gru_classifier", "rnn_regression", "second_order", "minimal_gated_unit",
                 "leaky_integrator"):
        agree(small(name), {"T": 1, "N": 1}, tolerance=1e-11)


def small(name: str) -> symbolic.Model:
    from pathlib import Path

    import yaml

    data = yaml.safe_load(Path("specs", f"{name}.yaml").read_text())
    data["sizes"] = {key: min(value, 3 + k) for k, (key, value) in enumerate(data.get("sizes", {}).items())}
    return symbolic.load(data)


def test_the_oracle_of_this_file_is_the_plain_program() -> None:
    model = load("y[t] = x[t-1]\nloss = sum(y[t]*y[t], over=t)", inputs={"x": ["T"]}, states={"y": ["T"]})
    loss, grads, _ = expected(model.program(), {"x": np.array([1.0, 2, 3])}, {"T": 3}, ("x",))
    assert loss == 5
    assert grads["x"].tolist() == [2, 4, 0]
