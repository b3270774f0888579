"""From spec to Program: names, states, sources, losses, predictions, and own equations equal to the catalogue's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symbolic import Model, Program, SpecError, gradient, load
from symbolic.interpreter import evaluate
from symbolic.layers.base import Context
from symbolic.program import Kind, Role, size

ROOT = Path(__file__).parent.parent
SPECS = sorted((ROOT / "specs").glob("*.yaml"))


def recurrent(state: str, **more: Any) -> Model:
    return load(
        {
            "name": "m",
            "sizes": {"D": 3, "H": 4},
            "inputs": {"x": ["T", "N", "D"], "y": ["T", "N", "H"], "start": ["N", "H"], "start2": [2, "N", "H"]},
            "layers": [
                {
                    "name": "cell",
                    "type": "equations",
                    "parameters": {"W": ["H", "D"], "U": ["H", "H"]},
                    "states": {"h": {"shape": ["T", "N", "H"], "initial": state, **more}},
                    "equations": "h[t,n,i] = tanh(a[t,n,i])\na[t,n,i] = W[i,k]*x[t,n,k] + U[i,j]*h[t-1,n,j]",
                    "output": "h",
                }
            ],
            "loss": {"type": "mse", "target": "y"},
        }
    )


def lines(program: Program, name: str) -> list[str]:
    """The equations that write a tensor, as text, without numbers."""
    return [re.sub(r"^\(\d+\) ", "", str(equation)) for equation in program.writers.get(name, ())]


# ---- states ----------------------------------------------------------------------------------------------------------


def test_a_zero_state_has_no_margin_and_no_tensor() -> None:
    program = recurrent("zero").program()
    assert program.tensor("cell.h").margin == ((0, 0), (0, 0), (0, 0))
    assert "cell.h0" not in program
    assert len(lines(program, "cell.h")) == 1


def test_a_given_state_is_an_input() -> None:
    program = recurrent("given").program()
    assert program.tensor("cell.h").margin == ((1, 0), (0, 0), (0, 0))
    assert program.tensor("cell.h0").role is Role.INPUT
    assert program.tensor("cell.h0").shape == (size("N"), size("H"))
    assert lines(program, "cell.h")[0] == "cell.h[-1, n, i] += cell.h0[n, i]    for n=0..N - 1, i=0..H - 1"
    assert not program.links


def test_a_learned_state_is_a_parameter_without_batch() -> None:
    model = recurrent("learned")
    assert model.program().tensor("cell.h0").role is Role.PARAMETER
    assert model.program().tensor("cell.h0").shape == (size("H"),)
    assert str(model.initialisers["cell.h0"]) == "zeros()"


def test_a_carried_state_is_linked_to_its_final_value() -> None:
    model = recurrent("carry")
    program = model.program()
    assert dict(program.links) == {"cell.hT": "cell.h0"}
    assert program.tensor("cell.hT").role is Role.OUTPUT
    assert program.outputs == ("cell.h", "cell.hT")
    assert lines(program, "cell.hT") == ["cell.hT[n, i] += cell.h[T - 1, n, i]    for n=0..N - 1, i=0..H - 1"]
    assert model.predict_program().outputs == ("cell.h", "cell.hT")
    assert dict(model.predict_program().links) == {"cell.hT": "cell.h0"}


def test_a_state_may_start_at_an_input() -> None:
    program = recurrent("start").program()
    assert lines(program, "cell.h")[0] == "cell.h[-1, n, i] += start[n, i]    for n=0..N - 1, i=0..H - 1"
    assert "cell.h0" not in program


def test_two_lags_start_at_two_steps_oldest_first() -> None:
    program = recurrent("start2", lag=2).program()
    assert program.tensor("cell.h").margin == ((2, 0), (0, 0), (0, 0))
    assert lines(program, "cell.h")[0].startswith("cell.h[l - 2, n, i] += start2[l, n, i]    for ")
    carried = recurrent("carry", lag=2).program()
    assert lines(carried, "cell.hT")[0].startswith("cell.hT[l, n, i] += cell.h[l + T - 2, n, i]    for l=0..1,")


def test_a_state_that_is_read_ahead_starts_after_the_end() -> None:
    program = recurrent("given", reverse=True).program()
    assert program.tensor("cell.h").margin == ((0, 1), (0, 0), (0, 0))
    assert lines(program, "cell.h")[0].startswith("cell.h[T, n, i] += cell.h0[n, i]")


def test_sizes_and_names_of_the_user_do_not_reach_the_equations_that_start_a_state() -> None:
    model = load(
        {
            "name": "m",
            "sizes": {"n": 2, "i": 3},
            "inputs": {"x": ["T", "n", "i"], "y": ["T", "n", "i"]},
            "layers": [
                {
                    "name": "c",
                    "type": "equations",
                    "states": {"h": {"shape": ["T", "n", "i"], "initial": "given"}},
                    "ranges": {"T_": 5},
                    "equations": "h[t,a,b] = x[t,a,b] + h[t-1,a,b]",
                }
            ],
            "loss": {"type": "mse", "target": "y"},
        }
    )
    assert lines(model.program(), "c.h")[0] == "c.h[-1, n, i] += c.h0[n, i]    for n=0..n - 1, i=0..i - 1"


# ---- sources ---------------------------------------------------------------------------------------------------------


def chain(*layers: dict[str, Any], **more: Any) -> Program:
    return load(
        {
            "name": "m",
            "inputs": {"y": ["N", 2], "x": ["N", 4], "z": ["N", 4]},
            "layers": list(layers),
            "loss": {"type": "mse", "target": "y"},
            **more,
        }
    ).program()


def test_the_first_layer_takes_the_first_input_that_is_no_target() -> None:
    program = chain({"name": "out", "type": "dense", "units": 2})
    assert lines(program, "out.y")[0].startswith("out.y[n, i] += out.W[i, k]*x[n, k]")


def test_a_target_is_the_input_where_there_is_no_other() -> None:
    model = load(
        {
            "name": "m",
            "inputs": {"x": ["N", 4]},
            "layers": [{"name": "code", "type": "dense", "units": 2}, {"name": "out", "type": "dense", "units": 4}],
            "loss": {"type": "mse", "target": "x"},
        }
    )
    assert [tensor.name for tensor in model.predict_program().inputs] == ["x"]


def test_from_names_inputs_layers_and_tensors() -> None:
    program = chain(
        {"name": "a", "type": "dense", "units": 4, "activation": "tanh"},
        {"name": "b", "type": "dense", "units": 4, "from": "z"},
        {"name": "s", "type": "add", "from": ["a", "b", "a.a"]},
        {"name": "out", "type": "dense", "units": 2},
    )
    assert {str(read.base.label.name) for e in program.writers["s.y"] for read in e.reads} == {"a.y", "b.y", "a.a"}


def test_equations_name_inputs_layers_and_their_own_source() -> None:
    text = "y[n,i] = W[i,k]*x[n,k] + V[i,k]*z[n,k] + V[i,k]*first[n,k] + V[i,k]*first.a[n,k]"
    own = {
        "name": "out",
        "type": "equations",
        "parameters": {"W": [2, 4], "V": [2, 4]},
        "equations": text.replace("y[n,i]", "r[n,i]"),
    }
    first = {"name": "first", "type": "dense", "units": 4, "activation": "tanh"}

    def source(layer: dict[str, Any]) -> set[str]:
        """What the first term of the last layer reads."""
        return {str(read.base.label.name) for read in chain(first, layer).writers["out.r"][0].reads} - {"out.W"}

    assert source({**own, "from": "first"}) == {"first.y"}
    assert source({**own, "from": "x"}) == {"x"}
    aliased = {**own, "from": {"u": "first"}, "equations": own["equations"].replace("*x[", "*u[")}
    assert source(aliased) == {"first.y"}
    with pytest.raises(SpecError, match=r"^layers\[1\]\.equations: 'x' could be the input 'x' or the layer before"):
        chain(first, own)
    with pytest.raises(
        SpecError, match=r"^layers\[1\]\.from\.z: expected a name that means nothing else, found 'z', which is"
    ):
        chain(first, {**own, "from": {"z": "first"}})


def test_a_layer_may_not_write_into_another() -> None:
    own = {
        "name": "out",
        "type": "equations",
        "equations": "r[n,i] = x[n,i]\nfirst[n,i] += x[n,i]",
        "output": "r",
        "from": "x",
    }
    with pytest.raises(
        SpecError,
        match=r"layers\[1\]\.equations: expected each tensor to be defined once, found an equation for "
        r"'first\.y', which exists already; choose another name\Z",
    ):
        chain({"name": "first", "type": "dense", "units": 4}, own, loss={"type": "mse", "target": "x"})


# ---- sizes -----------------------------------------------------------------------------------------------------------


def test_names_in_shapes_are_free_sizes_and_unused_ones_vanish() -> None:
    model = load(
        {
            "name": "m",
            "sizes": {"K": None, "H": 3, "Q": 7},
            "inputs": {"x": ["N", "L"], "y": ["N", "H"]},
            "layers": [{"name": "a", "type": "dense", "units": "M"}, {"name": "b", "type": "dense", "units": "H"}],
            "loss": {"type": "mse", "target": "y"},
        }
    )
    assert dict(model.program().sizes) == {"H": 3, "Q": 7, "N": None, "L": None, "M": None}


def test_a_size_and_its_value_are_the_same_extent() -> None:
    model = load(
        {
            "name": "m",
            "sizes": {"H": 3},
            "inputs": {"x": ["N", 3], "y": ["N", 6]},
            "layers": [
                {"name": "a", "type": "equations", "parameters": {"W": ["H", 6]}, "equations": "r[n,k] = W[i,k]*x[n,i]"}
            ],
            "loss": {"type": "mse", "target": "y"},
        }
    )
    assert model.prediction == "a.r"


def test_index_inputs_declare_their_range() -> None:
    tensor = load(ROOT / "specs" / "gru_classifier.yaml").program().tensor("len")
    assert (tensor.kind, tensor.low, tensor.below, tensor.ignore) == (Kind.INDEX, 1, size("T") + 1, None)


# ---- losses and outputs ----------------------------------------------------------------------------------------------


def test_several_losses_are_weighed_and_summed() -> None:
    program = chain(
        {"name": "out", "type": "dense", "units": 2},
        {"name": "end", "type": "tanh"},
        loss=[
            {"type": "mse", "target": "y", "weight": 0.5},
            {"type": "mae", "target": "y", "prediction": "out", "name": "side"},
        ],
    )
    assert lines(program, "loss") == ["loss[] += 0.5*loss_1.loss[]    for once", "loss[] += side.loss[]    for once"]
    assert program.outputs == ("end.y",)


def test_a_single_loss_with_a_weight_is_scaled() -> None:
    program = chain({"name": "out", "type": "dense", "units": 2}, loss={"type": "mse", "target": "y", "weight": 3})
    assert lines(program, "loss") == ["loss[] += 3*loss.loss[]    for once"]


def test_equations_may_compute_the_loss() -> None:
    whole = load(
        "p[n] = w[k]*x[n,k]\nloss = mean((p[n] - y[n])**2, over=n)",
        inputs={"x": ["N", "K"], "y": ["N"]},
        parameters={"w": ["K"]},
        output="p",
        name="least_squares",
    )
    assert whole.name == "least_squares"
    assert whole.prediction == "p"
    assert [e.name for e in whole.program().equations] == ["p", "loss"]
    assert [t.name for t in whole.predict_program().tensors] == ["x", "w", "p"]
    named = load("f = w**2", parameters={"w": []}, loss="f")
    assert lines(named.program(), "loss") == ["loss[] += f[]    for once"]
    with pytest.raises(
        SpecError,
        match=r"^loss: expected a computed tensor without axes as the loss, found the intermediate 'f' "
        r"of shape \[K\]; reduce it, or give the loss a type\Z",
    ):
        load("f[k] = w[k]**2", parameters={"w": ["K"]}, loss="f")


def test_named_outputs_are_computed() -> None:
    program = chain({"name": "out", "type": "dense", "units": 2}, outputs=["out", "loss.r"])
    assert program.outputs == ("out.y", "loss.r")


def test_predict_needs_no_target() -> None:
    model = load(
        {
            "name": "m",
            "inputs": {"x": ["N", 4], "y": ["N", 2]},
            "layers": [{"name": "out", "type": "dense", "units": 2}],
            "loss": {"type": "mse", "target": "y"},
            "outputs": ["loss.r"],
        }
    )
    predict = model.predict_program()
    assert predict.loss == ""
    assert predict.outputs == ("out.y",)
    assert [tensor.name for tensor in predict.tensors] == ["x", "out.W", "out.b", "out.y"]
    assert model.predict_program() is predict
    assert model.program() is model.program()


# ---- training --------------------------------------------------------------------------------------------------------


def test_initialisers_parameter_before_layer_before_default() -> None:
    layers = [
        {"name": "a", "type": "dense", "units": 4},
        {"name": "b", "type": "dense", "units": 4, "init": "orthogonal"},
        {
            "name": "c",
            "type": "equations",
            "from": "b",
            "parameters": {"W": [2, 4], "V": {"shape": [2, 4], "init": "zeros"}},
            "equations": "r[n,i] = W[i,k]*b[n,k] + V[i,k]*b[n,k]",
        },
    ]
    model = load(
        {
            "name": "m",
            "inputs": {"x": ["N", 4], "y": ["N", 2]},
            "layers": layers,
            "loss": {"type": "mse", "target": "y"},
            "init": {"default": "he_normal", "a.b": "constant(2)"},
        }
    )
    assert {name: init.initialiser.name for name, init in model.initialisers.items()} == {
        "a.W": "he_normal",
        "a.b": "constant",
        "b.W": "orthogonal",
        "b.b": "fan_uniform",
        "c.W": "he_normal",
        "c.V": "zeros",
    }
    assert model.initialisers["a.b"].arguments == (2,)


def test_the_update_is_plain_descent_unless_the_spec_says_more() -> None:
    assert load(ROOT / "specs" / "second_order.yaml").update.optimizer.name == "sgd"
    update = load(ROOT / "specs" / "char_rnn.yaml").update
    assert (update.optimizer.name, update.optimizer.hyper["rate"]) == ("adagrad", 0.1)
    assert update.clip is not None
    assert (update.clip.name, update.clip.hyper["limit"]) == ("value", 5)


# ---- own equations are equal to the catalogue's ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn", "conv2d", "max_pool2d", "dense", "softmax", "embedding"])
def test_a_layer_written_out_is_the_layer(kind: str) -> None:
    """The catalogue's text, put into a spec as a user's own, gives the same equations and the same tensors."""
    options: dict[str, Any] = {
        "lstm": {"units": "H"},
        "gru": {"units": "H"},
        "rnn": {"units": "H"},
        "dense": {"units": "H"},
        "softmax": {},
        "conv2d": {"channels": "H", "kernel": 3, "padding": 1},
        "max_pool2d": {"kernel": 2},
        "embedding": {"classes": "D", "units": "H"},
    }[kind]
    shapes = {"conv2d": ["N", "D", 6, 8], "max_pool2d": ["N", "D", 6, 8], "dense": ["N", "D"]}
    x: Any = shapes.get(kind, ["T", "N", "D"])
    x = {"shape": ["T", "N"], "kind": "index", "below": "D"} if kind == "embedding" else x
    base = {"name": "m", "sizes": {"D": 5, "H": 7}, "inputs": {"x": x}, "loss": "total"}
    total = {"name": "total", "type": "equations", "equations": ""}

    def make(layer: dict[str, Any]) -> Model:
        first = load(
            {**base, "inputs": {**base["inputs"], "t": []}, "layers": [layer, {**total, "equations": "s = t*t"}]}
        )
        rank = first.program().tensor(first.layers["cell"]).rank
        names = ",".join("abcd"[:rank])
        return load({**base, "layers": [layer, {**total, "equations": f"s = sum(cell[{names}]**2, over=({names}))"}]})

    built = make({"name": "cell", "type": kind, **options})
    from symbolic.layers import LAYERS

    row = LAYERS[kind].load()
    program = built.program()
    source = program.tensor("x")
    context = Context("cell", {"D": size("D"), "H": size("H")}, {"x": source}, {size("D"): 5, size("H"): 7})
    block = row.build(row.options.model_validate_json(__import__("json").dumps(options)), (source,), context)
    written = {
        "name": "cell",
        "type": "equations",
        "from": "x",
        "equations": block.equations,
        "output": block.output,
        "parameters": {name: list(map(str, parameter.shape)) for name, parameter in block.parameters.items()},
        "states": {name: list(map(str, state.shape)) for name, state in block.states.items()},
        "shapes": {name: list(map(str, shape)) for name, shape in block.shapes.items()},
        "ranges": {
            name: [str(0), str(extent)] if not isinstance(extent, tuple) else list(map(str, extent))
            for name, extent in block.ranges.items()
        },
    }
    own = make(written)
    assert own.program().tensors == program.tensors
    assert list(map(str, own.program().equations)) == list(map(str, program.equations))


def values(program: Program, sizes: dict[str, int]) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    known = {size(n): v for n, v in {**program.sizes, **sizes}.items() if v is not None}
    made = {}
    for tensor in (*program.parameters, *program.inputs):
        shape = tuple(int(extent.xreplace(known)) for extent in tensor.shape)
        made[tensor.name] = rng.normal(0, 0.7, shape)
    return made


@pytest.mark.parametrize("name", ["scalar", "leaky_integrator", "minimal_gated_unit", "second_order"])
def test_gradients_of_own_equations_agree_with_perturbation(name: str) -> None:
    program = load(ROOT / "specs" / f"{name}.yaml").program()
    sizes = {"T": 3, "N": 2} if "T" in program.sizes else {}
    both = gradient(program, [tensor.name for tensor in program.parameters])
    arrays = values(program, sizes)
    rng = np.random.default_rng(6)
    wanted = {p.name: both.gradients[p.name] for p in program.parameters}
    found = evaluate(both, arrays, sizes, wanted.values())
    for parameter, adjoint in wanted.items():
        direction = rng.normal(size=np.shape(arrays[parameter]))
        step = 1e-5

        def at(scale: float, parameter: str = parameter, direction: Any = direction) -> float:
            moved = {**arrays, parameter: arrays[parameter] + scale * direction}
            return float(evaluate(program, moved, sizes, ["loss"])["loss"])

        slope = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
        assert float(np.sum(found[adjoint] * direction)) == pytest.approx(slope, rel=1e-7, abs=1e-10)


def test_the_scalar_example_by_hand() -> None:
    program = gradient(load(ROOT / "specs" / "scalar.yaml").program(), ["x", "y", "z"])
    names = ["loss", *(program.gradients[name] for name in "xyz")]
    found = evaluate(program, {"x": -2.0, "y": 5.0, "z": -4.0}, {}, names)
    assert [float(found[name]) for name in names] == [-12, -4, -4, 3]


# ---- the whole -------------------------------------------------------------------------------------------------------


def test_every_equation_knows_where_it_was_written() -> None:
    model = load(ROOT / "specs" / "minimal_gated_unit.yaml")
    text = (ROOT / "specs" / "minimal_gated_unit.yaml").read_text(encoding="utf-8").splitlines()
    for equation in model.program().equations:
        where = equation.origin.where
        assert where is not None
        if equation.name.startswith("cell."):
            assert text[where.line - 1][where.column - 1 :].startswith(equation.name.removeprefix("cell."))
    numbers = [equation.number for equation in model.program().equations]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, max(numbers) + 1))


def test_models_show_themselves() -> None:
    model = load(ROOT / "specs" / "second_order.yaml")
    assert "layer cell -> cell.h[T, N, H] state real" in str(model)
    html = model._plain_html()
    assert html.startswith("<b>second_order</b> (float32)<table>")
    assert "<td>cell.W</td><td>[H, D]</td><td>parameter</td>" in html
    guarded = load(ROOT / "specs" / "gru_classifier.yaml")._plain_html()
    assert "t &lt; len[n]" in guarded


def run(code: str, seed: str = "0") -> str:
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    ).stdout


def test_the_program_does_not_depend_on_the_hash_seed() -> None:
    code = f"""from symbolic import load
for path in {[str(path) for path in SPECS]}:
    model = load(path)
    print(model, model.predict_program(), sorted(map(str, model.initialisers.values())), repr(model.program().sizes))"""
    assert run(code, "1") == run(code, "2")


def test_importing_the_package_imports_no_library() -> None:
    code = (
        "import sys, symbolic; print([m for m in ('sympy', 'numpy', 'yaml', 'pydantic', 'jinja2') if m in sys.modules])"
    )
    assert run(code) == "[]\n"
    code = "import sys; from symbolic import load; print([m for m in ('numpy', 'jinja2', 'typer') if m in sys.modules])"
    assert run(code) == "[]\n"


def test_the_package_lists_what_it_has() -> None:
    import symbolic

    assert set(symbolic.__all__) <= set(dir(symbolic))
    assert all(hasattr(symbolic, name) for name in symbolic.__all__)
    assert not hasattr(symbolic, "nothing_of_the_kind")


@pytest.mark.parametrize(("text", "same"), [
    ("where(0.3 < 0, 2, 1)*x[n]", "x[n]"), ("where(0.3 < 0, x[n], x[n]**2)", "x[n]**2"), ("(1 < 2)*x[n]", "x[n]"),
    ("where(2 == 2, w, x[n])*x[n]", "w*x[n]"),
])
def test_a_condition_of_numbers_is_known(text: str, same: str) -> None:
    first, second = (
        load(f"y[n] = {body}\nloss = sum(y[n]*w, over=n)", loss="loss", name="m", inputs={"x": ["N"]},
                      parameters={"w": []}).program().equations[0].body for body in (text, same))
    assert first == second
