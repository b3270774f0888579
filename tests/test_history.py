"""Histories that nobody needs are not kept (law 24), and no entry is overwritten that is still read (law 25)."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import symbolic
from codegen.pipeline import Options, verdicts
from codegen.verdict import Action, Verdict
from symbolic.program import size
from tests.emitting import agree, compiled, split, values_for

X: dict[str, Any] = {"x": ["T", "N", "H"]}
LAST = "loss = sum(y[n,i]**2, over=(n,i))"


def load(text: str, **keys: Any) -> symbolic.Model:
    return symbolic.load(text, **{"loss": "loss", "dtype": "float64", "inputs": X, **keys})


def spec(name: str, **sizes: int) -> symbolic.Model:
    data = yaml.safe_load(Path("specs", f"{name}.yaml").read_text())
    data["sizes"] = {**data.get("sizes", {}), **sizes}
    return symbolic.load(data)


def told(model: symbolic.Model, function: str = "predict") -> dict[str, Verdict]:
    return {v.tensor: v for v in verdicts(model, Options())[function]}


def peak(module: Any, model: symbolic.Model, sizes: dict[str, int]) -> int:
    arrays = {n: a.astype(module.DTYPE) if a.dtype.kind == "f" else a
              for n, a in values_for(model.program(), sizes).items()}
    params, batch = split(model.program(), arrays)
    module.predict(params, batch)
    tracemalloc.start()
    try:
        module.predict(params, batch)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("lags", [(1,), (2,), (1, 2), (3,), (1, 5)])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_state_whose_last_entry_alone_is_read(lags: tuple[int, ...], backwards: bool, steps: int) -> None:
    sign, last = ("+", "0") if backwards else ("-", "T-1")
    earlier = " + ".join(f"U[i,j]*h[t{sign}{lag},n,j]" for lag in lags)
    model = load(f"a[t,n,i] = x[t,n,i] + {earlier}\nh[t,n,i] = tanh(a[t,n,i])\ny[n,i] = h[{last},n,i] + 0\n{LAST}",
                 parameters={"U": ["H", "H"]}, states={"h": ["T", "N", "H"]}, outputs=["y"])
    found = told(model)["h"]
    assert found.action is Action.CIRCULAR
    slots = 1 if lags == (1,) else max(lags) + 1
    assert found.bytes == 8*slots*size("N")*size("H")
    agree(model, {"T": steps, "N": 2, "H": 3}, tolerance=1e-11)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_initial_states_at_two_lags(steps: int) -> None:
    model = load("""
h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i] - 0.3*h[t-2,n,i])
y[n,i] = h[T-1,n,i] + 0
loss = sum(y[n,i]**2, over=(n,i))
""", states={"h": {"shape": ["T", "N", "H"], "initial": "zero"}}, outputs=["y"])
    assert told(model)["h"].action is Action.CIRCULAR
    agree(model, {"T": steps, "N": 2, "H": 3}, tolerance=1e-11)


@pytest.mark.parametrize(("text", "tensor"), [
    # what overwrites the one slot comes before a read of the step before: two slots
    ("h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i] + g[t-1,n,i])\ng[t,n,i] = h[t,n,i]*h[t-1,n,i]\ny[n,i] = g[T-1,n,i] + 0", "h"),
    # another place of the step before
    ("h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,H-1-i])\ny[n,i] = h[T-1,n,i] + 0", "h"),
    ("h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i-1])\ny[n,i] = h[T-1,n,i] + 0", "h"),
    # a product of the step before with itself
    ("h[t,n,i] = sum(U[i,j]*h[t-1,n,j]*x[t,n,i], over=j)\ny[n,i] = h[T-1,n,i] + 0", "h"),
])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_two_slots_where_one_is_not_enough(text: str, tensor: str, steps: int) -> None:
    model = load(f"{text}\n{LAST}", parameters={"U": ["H", "H"]}, outputs=["y"],
                 states={"h": ["T", "N", "H"], **({"g": ["T", "N", "H"]} if "g[" in text else {})})
    found = told(model)[tensor]
    assert (found.action, found.bytes.coeff(size("H"))) == (Action.CIRCULAR, 16*size("N"))
    agree(model, {"T": steps, "N": 2, "H": 3}, tolerance=1e-11)


@pytest.mark.parametrize(("text", "why"), [
    ("h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\ny[n,i] = sum(h[t,n,i], over=t)", "read over many steps outside its loop"),
    ("h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\ny[n,i] = h[T-2,n,i] + 0", "may have no step"),
    ("h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\ny[n,i] = h[len[n]-1,n,i]", "through an index tensor|many steps"),
    ("h[t,n,i] = tanh(x[t,n,i] + sum((k < t)*h[k,n,i], over=k))\ny[n,i] = h[T-1,n,i] + 0", "no fixed lag"),
    # a term that leaves the loop is added to the state of all steps before it
    ("h[t,n,i] = 0.5*h[t-1,n,i] + x[t,n,i]**2\ny[n,i] = h[T-1,n,i] + 0", "written over many steps outside its loop"),
    ("h[t,n,i] = (t < T-1)*tanh(x[t,n,i] + 0.5*h[t-1,n,i])\ny[n,i] = h[T-1,n,i] + 0", "every entry is assigned"),
])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_histories_that_are_needed(text: str, why: str, steps: int) -> None:
    model = load(f"{text}\n{LAST}", states={"h": ["T", "N", "H"]}, outputs=["y"], ranges={"k": "T"},
                 inputs={**X, "len": {"shape": ["N"], "kind": "index", "below": "T+1"}})
    found = told(model)["h"]
    assert found.action is Action.WHOLE
    assert any(part in found.reason for part in why.split("|")), found.reason
    agree(model, {"T": steps, "N": 2, "H": 3}, tolerance=1e-11)


def test_what_is_returned_is_kept() -> None:
    model = load("h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\nloss = sum(h[T-1,n,i]**2, over=(n,i))",
                 states={"h": ["T", "N", "H"]}, outputs=["h"])
    assert told(model)["h"].reason == "it is returned"
    agree(model, {"T": 3, "N": 2, "H": 2})


@pytest.mark.parametrize("steps", [(1, 1), (1, 3), (4, 1), (3, 4)])
def test_a_recurrence_over_two_axes(steps: tuple[int, int]) -> None:
    model = load("""
g[s,t,i] = tanh(0.5*h[s-1,t,i] - 0.4*h[s,t-1,i] + x[s,t,i])
h[s,t,i] = tanh(g[s,t,i] + 0.2*h[s-1,t+1,i])
y[i] = sum(h[S-1,t,i], over=t)
loss = sum(y[i]**2, over=i)
""", inputs={"x": ["S", "T", "H"]}, states={"g": ["S", "T", "H"], "h": ["S", "T", "H"]}, outputs=["y"])
    found = told(model)
    assert found["h"].action is found["g"].action is Action.CIRCULAR
    agree(model, {"S": steps[0], "T": steps[1], "H": 2}, tolerance=1e-11)


def test_one_number_a_step() -> None:
    model = load("v[t] = tanh(0.9*v[t-1] + x[t])\ny = v[T-1]*v[T-1]\nloss = y*y", inputs={"x": ["T"]}, states={"v": ["T"]},
                 outputs=["y"])
    assert told(model)["v"].bytes == 8
    for steps in (1, 2, 5):
        agree(model, {"T": steps})
    params, batch = split(model.program(), values_for(model.program(), {"T": 3}))
    module = compiled(model, dtype="float32")
    assert module.predict(params, {"x": batch["x"].astype(np.float32)})["y"].dtype == np.float32


LAYERS = {
    "rnn": {"type": "rnn", "units": 5}, "lstm": {"type": "lstm", "units": 5}, "gru": {"type": "gru", "units": 5},
    "two ways": {"type": "lstm", "units": 5, "direction": "both"},
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_layers_that_give_their_last_step(layer: str, steps: int) -> None:
    model = symbolic.load({
        "name": "last", "dtype": "float64", "inputs": {"x": ["T", "N", 3], "y": ["N", 10 if layer == "two ways" else 5]},
        "layers": [{"name": "r", "output": "last", **LAYERS[layer]}], "loss": {"type": "mse", "target": "y"},
    })
    found = told(model)
    states = [v for name, v in found.items() if name.rpartition(".")[2].startswith("h")]
    assert states
    assert all(v.action is Action.CIRCULAR for v in states), found
    agree(model, {"T": steps, "N": 2}, tolerance=1e-11)


def test_the_adjoint_keeps_what_it_reads() -> None:
    """Counter-example 19: the state of the cell is a history for the gradient, one step for the prediction."""
    model = spec("lstm_lm", T=1000, N=32)
    forward, both = told(model), told(model, "value_and_grad")
    step = 4*32*256
    assert forward["lstm.c"].bytes == step
    assert (both["lstm.c"].action, both["lstm.c"].bytes) == (Action.WHOLE, 1001*step)
    assert both["d_lstm.c"].bytes == step  # the adjoint of the cell is read one step back alone


@pytest.mark.parametrize("name", ["gru_classifier", "lstm_lm", "char_rnn", "second_order", "leaky_integrator",
                                  "minimal_gated_unit", "rnn_regression"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_every_recurrent_spec(name: str, steps: int) -> None:
    data = yaml.safe_load(Path("specs", f"{name}.yaml").read_text())
    data["sizes"] = {key: min(value, 3 + k) for k, (key, value) in enumerate(data.get("sizes", {}).items())}
    agree(symbolic.load(data), {"T": steps, "N": 2}, tolerance=1e-11)


def test_nothing_but_input_and_projection_grows_with_the_steps() -> None:
    model = symbolic.load({
        "name": "last", "inputs": {"x": ["T", "N", 8], "y": ["N", 64]},
        "layers": [{"name": "r", "type": "lstm", "units": 64, "output": "last"}], "loss": {"type": "mse", "target": "y"},
    })
    module = compiled(model)
    few, many = (peak(module, model, {"T": steps, "N": 4}) for steps in (200, 2000))
    projection = 4*4*4*64*1800  # 4 bytes, 4 rows, 4 gates: known before the loop for all steps
    assert many - few < 1.05*projection
