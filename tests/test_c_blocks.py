"""Blocks of steps in C (law 24): the same numbers as NumPy's without them, under the sanitizers; the memory of one block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import symbolic
from codegen.c.function import routine_of
from codegen.loops.check import check, check_memory
from codegen.loops.ir import For, Store, walk
from codegen.loops.memory import plan_memory, total
from codegen.pipeline import Options, render, stages, units
from symbolic.program import index_symbols
from tests.c_driver import Driven, compile_c, compiler
from tests.test_blocking import LAYERS, OWN, RECURRENT, levels, load, own, second_axis, small
from tests.test_history import spec

SANITIZED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover")


def exact(model: symbolic.Model, steps: int, lengths: Sequence[int], folder: Path, wrt: str = "all", **more: bool) -> None:
    """Sound loops; and compiled once, the numbers at several lengths."""
    options = Options(wrt=wrt, dtype="float64", block=steps, **more)
    for unit in units(stages(model, options)):
        made = check(routine_of(unit, 8, steps))
        check_memory(plan_memory(made, unit.program, 8))
    driven = Driven(model, options)
    program = compile_c(compiler("gcc") or [], SANITIZED, driven.write(folder), folder / "program")
    for length in lengths:
        sizes = {"T": length, "N": 2, "H": 3}
        asked = {name: sizes[name] for name in driven.members.dims}
        driven.check([[program]], asked, driven.values(asked, "float64"), "float64")


def text(model: symbolic.Model, steps: int | None) -> str:
    return render(model, "c", Options(block=steps))[f"{model.name}.c"]


@pytest.mark.gcc
@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("steps", [1, 3])
def test_every_recurrent_spec(name: str, steps: int, tmp_path: Path) -> None:
    model = small(name)
    assert "for (ptrdiff_t start = " in text(model, steps)
    exact(model, steps, (1, 3, 5, 6), tmp_path)


@pytest.mark.gcc
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("output", ["all", "last"])
def test_levels_and_directions(layer: str, output: str, tmp_path: Path) -> None:
    exact(levels(layer, output), 2, (1, 2, 5), tmp_path)


@pytest.mark.gcc
@pytest.mark.parametrize("equations", OWN)
def test_own_equations(equations: str, tmp_path: Path) -> None:
    exact(own(equations, projected=True), 2, (1, 2, 5), tmp_path)


@pytest.mark.gcc
def test_a_convolution_in_a_recurrence(tmp_path: Path) -> None:
    """Patches of all steps of a block, of which the last has fewer; those of a step, which hang on no step."""
    text = "a[t,n,o,u] = W[o,c,p]*x[t,n,c,u+p-1] + g[o,c,p]*h[t-1,n,c,u+p-1]\nh[t,n,o,u] = tanh(a[t,n,o,u])"
    every = ["T", "N", 2, 9]
    model = symbolic.load(f"{text}\nloss = sum(h[t,n,o,u]**2, over=(t,n,o,u))", loss="loss", name="m", inputs={"x": every},
                          parameters={"W": [2, 2, 3], "g": [2, 2, 3]}, shapes={"h": every, "a": every})
    exact(model, 2, (1, 2, 5), tmp_path)
    made = routine_of(next(unit for unit in units(stages(model, Options())) if unit.kind == "value_and_grad"))
    lists = [(leaf.target, loops) for leaf, loops in walk(made.body) if isinstance(leaf, Store) and "offsets" in str(leaf.target)]
    assert lists
    for place, loops in lists:  # in loops over what is listed alone
        assert {loop.index.symbol for loop in loops if isinstance(loop, For)} == index_symbols(place.indices[0])


@pytest.mark.gcc
def test_the_second_axis_may_hold_the_steps(tmp_path: Path) -> None:
    exact(second_axis(), 2, (1, 3, 4), tmp_path)


@pytest.mark.gcc
@pytest.mark.parametrize("name", ["rnn_regression", "lstm_lm"])
def test_directions_and_products_with_the_hessian(name: str, tmp_path: Path) -> None:
    exact(small(name), 2, (1, 4, 5), tmp_path, tangent=True, hvp=True)


def workspace(model: symbolic.Model, function: str, sizes: dict[str, int], steps: int | None) -> int:
    options = Options(block=steps)
    unit = next(unit for unit in units(stages(model, options)) if unit.kind == function)
    return total(plan_memory(routine_of(unit, 4, steps), unit.program, 4), unit.program, 4, sizes)


def test_counter_example_19() -> None:
    """1.3 GB for the projections of 10,000 steps, and for their adjoints: in blocks a sixteenth of the limit at most."""
    model = spec("lstm_lm", T=10_000, N=32)
    assert "for (ptrdiff_t start = " in text(model, None)
    assert "for (ptrdiff_t start = " not in text(spec("lstm_lm", T=100, N=32), None)
    free = spec("lstm_lm")
    whole = workspace(free, "value_and_grad", {"T": 10_000, "N": 32}, None)
    blocked = workspace(model, "value_and_grad", {}, None)
    assert whole - blocked > 2**30
    assert workspace(model, "predict", {}, None) < 2**28


def test_the_workspace_of_predict_grows_by_its_result_alone() -> None:
    """The result lies in it where the caller has no place for it."""
    model = symbolic.load({
        "name": "last", "inputs": {"x": ["T", "N", 8], "y": ["T", "N", 4]},
        "layers": [{"name": "r", "type": "lstm", "units": 64}, {"name": "o", "type": "dense", "units": 4}],
        "loss": {"type": "mse", "target": "y"},
    })
    few, many = (workspace(model, "predict", {"T": steps, "N": 4}, 50) for steps in (200, 2000))
    assert many - few == 4*4*4*1800
    assert workspace(model, "predict", {"T": 2000, "N": 4}, None) > 4*many


def test_a_loop_that_gains_nothing_stays() -> None:
    model = load("h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i])\nloss = sum(h[t,n,i]**2, over=(t,n,i))", outputs=["h"],
                 states={"h": ["T", "N", "H"]})
    assert "ptrdiff_t start" not in text(model, 4).split("_predict(", 1)[1]
