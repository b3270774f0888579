"""Blocks of steps (law 24): the same numbers as without them, in bounds, with the memory of one block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import symbolic
from codegen.pipeline import Options, render, verdicts
from codegen.verdict import Action, Verdict
from tests.emitting import agree, close, compiled, module_text, split, values_for
from tests.test_history import peak, spec
from tests.test_numpy_random import Text

X: dict[str, Any] = {"x": ["T", "N", "H"]}
SUM = "loss = sum(y[t,n,i]**2, over=(t,n,i))"


def load(text: str, **keys: Any) -> symbolic.Model:
    return symbolic.load(text, **{"loss": "loss", "dtype": "float64", "inputs": X, **keys})


def told(model: symbolic.Model, function: str = "predict", block: int | None = 3) -> dict[str, Verdict]:
    return {v.tensor: v for v in verdicts(model, Options(block=block))[function]}


def small(name: str) -> symbolic.Model:
    data = yaml.safe_load(Path("specs", f"{name}.yaml").read_text())
    data["sizes"] = {key: min(value, 3 + k) for k, (key, value) in enumerate(data.get("sizes", {}).items())}
    return symbolic.load(data)


def exact(model: symbolic.Model, sizes: dict[str, int], steps: int, **given: Any) -> Any:
    """The blocked module, subscripts checked, against the interpreter and against the module without blocks."""
    module = compiled(model, wrt="all", dtype="float64", block=steps)
    agree(model, sizes, tolerance=1e-11, module=module, **given)
    plain = compiled(model, wrt="all", dtype="float64")
    params, batch = split(model.program(), values_for(model.program(), sizes, **given))
    loss, grads = module.value_and_grad(params, batch)
    want, others = plain.value_and_grad(params, batch)
    close(loss, want, 1e-12, "loss")
    for name, array in grads.items():
        close(array, others[name], 1e-12, name)
    return module


RECURRENT = ["char_rnn", "lstm_lm", "gru_classifier", "rnn_regression", "second_order", "minimal_gated_unit", "leaky_integrator"]


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize(("length", "steps"), [(1, 1), (1, 4), (3, 4), (4, 4), (7, 3), (6, 2), (5, 1)])
def test_every_recurrent_spec(name: str, length: int, steps: int) -> None:
    exact(small(name), {"T": length, "N": 2}, steps)


LAYERS = {
    "stacked": {"type": "lstm", "units": 3, "layers": 2},
    "two ways": {"type": "gru", "units": 3, "direction": "both"},
    "backwards": {"type": "rnn", "units": 3, "direction": "reverse"},
    "stacked two ways": {"type": "rnn", "units": 3, "direction": "both", "layers": 2},
}


def levels(layer: str, output: str) -> symbolic.Model:
    width = 6 if "two" in layer else 3
    return symbolic.load({
        "name": "net", "dtype": "float64",
        "inputs": {"x": ["T", "N", 4], "y": ["T", "N", width] if output == "all" else ["N", width]},
        "layers": [{"name": "r", "output": output, **LAYERS[layer]}], "loss": {"type": "mse", "target": "y"},
    })


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("output", ["all", "last"])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_levels_and_directions(layer: str, output: str, length: int) -> None:
    exact(levels(layer, output), {"T": length, "N": 2}, 2)


def test_the_second_level_joins_the_block_of_the_first() -> None:
    model = symbolic.load({
        "name": "net", "inputs": {"x": ["T", "N", 4], "y": ["T", "N", 3]},
        "layers": [{"name": "r", "type": "rnn", "units": 3, "layers": 2}], "loss": {"type": "mse", "target": "y"},
    })
    found = told(model)
    assert {n for n, v in found.items() if v.action is Action.BLOCK} == {"r.a", "r.h", "r.a_2"}
    assert found["r.h_2"].reason == "it is returned"
    text = module_text(model, block=16)
    predict = text[text.index("def predict"):text.index("def init")]
    assert predict.count("for start in range(0, T, 16):") == 1


OWN = [
    # what is needed over all steps stays whole, and so does what depends on it
    ("a[t,n,i] = x[t,n,i]*m[n,i]\nm[n,i] = sum(x[s,n,i], over=s)\nh[t,n,i] = tanh(a[t,n,i] + 0.5*h[t-1,n,i])\n"
     "p[n,i] = sum(h[t,n,i], over=t)\ny[t,n,i] = h[t,n,i]*p[n,i]"),
    # a later entry, an earlier entry, the last one, all of them
    "h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\ny[t,n,i] = h[t+1,n,i]*h[t,n,i] + h[t-2,n,i]*h[T-1,n,i]",
    "h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\ny[t,n,i] = h[t+1,n,i]*h[t,n,i]",
    "h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t+1,n,i])\ny[t,n,i] = h[t-1,n,i]*h[t,n,i]",
    "h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\ng[t,n,i] = tanh(h[t+1,n,i] + 0.5*g[t-1,n,i])\ny[t,n,i] = g[t,n,i]*h[t-1,n,i]",
    # a sum over the steps that is read at each of them
    "h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\nm[n,i] = sum(h[t,n,i]**2, over=t)\ny[t,n,i] = h[t,n,i]/(1 + m[n,i])",
    "h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\ny[t,n,i] = sum((k <= t)*h[k,n,i]*x[t,n,i], over=k)",
    "h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\ny[t,n,i] = h[T-1-t,n,i]*x[t,n,i]",
    # one forwards, one backwards, each reading the other's
    "h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\ng[t,n,i] = tanh(h[t,n,i] + 0.5*g[t+1,n,i])\ny[t,n,i] = g[t,n,i]*h[t,n,i]",
    # several lags, and the step as a number
    "h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i] + 0.1*t*h[t-3,n,i])\ny[t,n,i] = h[t,n,i]*h[t-2,n,i]",
    # guards and a maximum over the steps
    "h[t,n,i] = (t < len[n])*tanh(x[t,n,i] + 0.5*h[t-1,n,i])\nm[n,i] = max(h[t,n,i], over=t)\ny[t,n,i] = m[n,i] - h[t,n,i]",
    "h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\nm[n,i] = h[len[n]-1,n,i]\ny[t,n,i] = m[n,i]*h[t,n,i]*E[lab[t],i]",
    # two contributions to one tensor: one by the loop's block, one that waits for all steps
    ("h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\nm[n,i] = sum(h[t,n,i]**2, over=t)\n"
     "y[t,n,i] = h[t,n,i]*x[t,n,i] + m[n,i]*x[t,n,i]\ny[t,n,i] += sum(h[s,n,i]*x[t,n,i], over=s)"),
    # the whole past in the loop itself
    "h[t,n,i] = tanh(x[t,n,i] + sum((k < t)*h[k,n,i]*x[k,n,i], over=k))\ny[t,n,i] = h[t,n,i]*x[t,n,i]",
]
"""Equations of y[t,n,i], for each of which something lives in one block alone once x is projected."""


def own(text: str, projected: bool) -> symbolic.Model:
    if projected:  # something lives in one block alone
        text = text.replace("tanh(x[t,n,i]", "tanh(b[t,n,i]") + "\nb[t,n,i] = sum(W[i,j]*x[t,n,j], over=j)"
    states = {name: ["T", "N", "H"] for name in "hga" if f"\n{name}[" in f"\n{text}"}
    return load(f"{text}\n{SUM}", states={**states, "y": ["T", "N", "H"]}, ranges={"k": "T", "s": "T", "t": "T"},
                parameters={"E": [4, "H"], "W": ["H", "H"]}, inputs={
                    **X, "len": {"shape": ["N"], "kind": "index", "below": "T+1"},
                    "lab": {"shape": ["T"], "kind": "index", "below": 4}}, outputs=["y"])


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("text", OWN)
@pytest.mark.parametrize("projected", [False, True])
def test_own_equations(text: str, length: int, projected: bool) -> None:
    for steps in (1, 2, 7):
        exact(own(text, projected), {"T": length, "N": 2, "H": 3}, steps)


@pytest.mark.parametrize("length", [1, 4, 5])
def test_directions_and_products_with_the_hessian(length: int) -> None:
    for name in ("rnn_regression", "lstm_lm"):
        model = small(name)
        plain, blocked = (compiled(model, dtype="float64", tangent=True, hvp=True, block=block) for block in (None, 2))
        params, batch = split(model.program(), values_for(model.program(), {"T": length, "N": 2}))
        along = {n: values_for(model.program(), {"T": length, "N": 2}, 7)[n] for n in params}
        for got, want in zip(blocked.jvp(params, batch, along), plain.jvp(params, batch, along), strict=True):
            close(got, want, 1e-12, "jvp")
        want = plain.hvp(params, batch, along)
        for key, got in blocked.hvp(params, batch, along).items():
            close(got, want[key], 1e-11, key)


def second_axis() -> symbolic.Model:
    return load("a[n,t,i] = W[i,j]*x[n,t,j] + U[i,j]*h[n,t-1,j]\nh[n,t,i] = tanh(a[n,t,i])\ny[n,t,i] = W[i,j]*h[n,t,j]\n"
                "loss = sum(y[n,t,i]**2, over=(n,t,i))", inputs={"x": ["N", "T", "H"]}, states={"h": ["N", "T", "H"]},
                parameters={"W": ["H", "H"], "U": ["H", "H"]}, outputs=["y"])


def test_the_second_axis_may_hold_the_steps() -> None:
    model = second_axis()
    assert told(model)["h"].action is told(model)["a"].action is Action.BLOCK
    for length in (1, 3, 4):
        exact(model, {"T": length, "N": 2, "H": 3}, 2)


def test_counter_example_19() -> None:
    """1.3 GB for the projections and for their adjoints at 10,000 steps; in blocks a sixteenth of the limit at most."""
    long, short = spec("lstm_lm", T=10_000, N=32), spec("lstm_lm", T=100, N=32)
    gibibyte = 2**30
    for function, names in (("value_and_grad", ("lstm.a", "d_lstm.a")), ("predict", ("lstm.a",)), ("loss", ("lstm.a",))):
        found, before = told(long, function, None), told(short, function, None)
        for name in names:
            assert before[name].action is Action.WHOLE
            whole = 4*32*1024*10_000
            assert whole > gibibyte
            assert found[name].action is Action.BLOCK
            assert found[name].bytes <= gibibyte // 16 + 4*32*1024
    forward = told(long, "predict", None)
    assert forward["lstm.h"].action is Action.BLOCK
    assert all(v.bytes <= gibibyte // 16 for v in forward.values())


def test_nothing_is_known_of_free_sizes() -> None:
    found = told(spec("lstm_lm"), "value_and_grad", None)
    assert all(v.action is not Action.BLOCK for v in found.values())
    assert found["lstm.a"].action is Action.WHOLE
    assert found["d_lstm.c_slope"].reason == "its size is not known: T is free"
    assert "start" not in module_text(spec("lstm_lm"))


def test_a_loop_that_gains_nothing_stays() -> None:
    model = load("h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\nloss = sum(h[t,n,i]**2, over=(t,n,i))", outputs=["h"],
                 states={"h": ["T", "N", "H"]})
    assert "start" not in module_text(model, block=4).split("def predict")[1]


def test_the_text_does_not_grow_with_the_steps() -> None:
    texts = [module_text(spec("lstm_lm", T=steps, N=32)) for steps in (20_000, 40_000)]
    assert "for start in range(0, T, 512):" in texts[0]
    different = [(a, b) for a, b in zip(*(text.splitlines() for text in texts), strict=True) if a != b]
    sources = [a.partition(" (sha256 ")[0] for a, _ in different]
    assert sources == ["Generated by Chainrule from a spec given in Python", "T = 20000"]


def test_the_memory_of_predict_grows_by_its_result_alone() -> None:
    model = symbolic.load({
        "name": "last", "inputs": {"x": ["T", "N", 8], "y": ["T", "N", 4]},
        "layers": [{"name": "r", "type": "lstm", "units": 64}, {"name": "o", "type": "dense", "units": 4}],
        "loss": {"type": "mse", "target": "y"},
    })
    module, plain = compiled(model, block=50), compiled(model)
    few, many = (peak(module, model, {"T": steps, "N": 4}) for steps in (200, 2000))
    result = 4*4*4*1800
    assert many - few < 1.1*result
    assert peak(plain, model, {"T": 2000, "N": 4}) > 4*many


@pytest.mark.parametrize("steps", [0, -1, True, 2.5, "64"])
def test_steps_that_are_none(steps: Any) -> None:
    with pytest.raises(symbolic.SpecError, match=r"^block: expected the steps of a block, an integer of at least 1, found "):
        render(spec("char_rnn"), "numpy", Options(block=steps))


def test_the_command_says_how_it_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from codegen.cli import _run

    out = tmp_path / "made"
    assert _run(["generate", "specs/char_rnn.yaml", "--block", "64", "--out", str(out)]) == 0
    text = (out / "char_rnn.py").read_text()
    assert "chainrule generate char_rnn.yaml --target numpy --block 64\n" in text
    assert "for start in range(0, T, 64):" in text
    for bad in ("0", "-3", "many", "1.5"):
        assert _run(["generate", "specs/char_rnn.yaml", "--block", bad, "--out", str(tmp_path / "none")]) == 2
    assert "--block" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@settings(max_examples=40, derandomize=True, deadline=None, database=None,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])
@given(st.data())
def test_random_models(data: Any) -> None:
    model = Text(data).model()
    sizes = data.draw(st.sampled_from([{"T": 4, "N": 3}, {"T": 5, "N": 2}, {"T": 1, "N": 1}, {"T": 2, "N": 3}]))
    module = compiled(model, wrt="all", dtype="float64", block=data.draw(st.sampled_from([1, 2, 3, 4])))
    agree(model, sizes, seed=data.draw(st.integers(0, 3)), tolerance=1e-11, module=module)
