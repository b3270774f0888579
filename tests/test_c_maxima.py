"""Maxima in C: ties, NaN and infinities as under the interpreter and in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codegen
import symbolic
from codegen.c.function import routine_of
from codegen.loops.check import check, check_memory
from codegen.loops.memory import plan_memory
from codegen.pipeline import Options, render, stages, units
from codegen.separate import separate
from symbolic.check import check as check_program
from symbolic.interpreter import evaluate
from symbolic.program import Program, size
from tests.c_driver import Driven, compile_c, compiler
from tests.conftest import ROOT
from tests.emitting import agree, compiled, expected, values_for
from tests.meeting import MEETING, SIZES, meeting
from tests.test_blocking import own
from tests.test_c_blocks import SANITIZED, exact

NAN, INF = np.nan, np.inf
BLOCKED = [
    ("m[t,n] = max(x[t,n,j], over=j)\nm[t,n] += max((t < len[n])*x[t-1,n,j]*x[t,n,j], over=j)\n"
     "h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i] + m[t,n])\ny[t,n,i] = h[t,n,i]*m[t,n]"),
    # states that are maxima themselves, forwards and backwards
    ("g[t,n,i] = max(0.5*g[t-1,n,j] + x[t,n,i]*x[t,n,j], over=j)\ng[t,n,i] += max((s <= t)*x[s,n,i], over=s)\n"
     "h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t-1,n,i] + g[t,n,i])\ny[t,n,i] = h[t,n,i]*g[t-1,n,i]"),
    ("g[t,n,i] = max((j < 2)*x[t,n,j]*x[t,n,i], over=j)\ng[t,n,i] += max((x[t,n,j] > 0)*g[t+1,n,j], over=j)\n"
     "h[t,n,i] = tanh(x[t,n,i] + 0.5*h[t+1,n,i] + g[t,n,i])\ny[t,n,i] = h[t,n,i]*g[t,n,i]"),
]


def same_as_everywhere(
    model: symbolic.Model, modules: Mapping[str, Any], values: Mapping[str, Any], rtol: float = 1e-14
) -> None:
    """Loss, outputs and gradients of the modules are the interpreter's, NaN where it has NaN."""
    program = model.program()
    arrays = {n: np.array(v, np.int64 if program.tensor(n).is_index else float) for n, v in values.items()}
    wrt = tuple(t.name for t in program.parameters)
    loss, grads, outputs = expected(program, arrays, sizes_of(program, arrays), wrt)
    for target, module in modules.items():
        got_loss, got, aux = module.value_and_grad({n: arrays[n] for n in wrt}, {t.name: arrays[t.name] for t in program.inputs},
                                                   aux=True)
        found = {"loss": got_loss, **{f"gradient of {n}": got[n] for n in wrt}, **{n: aux[n] for n in outputs}}
        want = {"loss": loss, **{f"gradient of {n}": a for n, a in grads.items()}, **outputs}
        for name in want:
            np.testing.assert_allclose(found[name], want[name], rtol=rtol, err_msg=f"{target}: {name}")


def both(model: symbolic.Model) -> dict[str, Any]:
    return {target: codegen.compile(model, target=target, dtype="float64") for target in ("c", "numpy")}


def sizes_of(program: Program, arrays: Mapping[str, Any]) -> dict[str, int]:
    """What the shapes of the arrays say."""
    return {n: length for tensor in program.tensors if tensor.name in arrays for n in program.sizes
            for extent, length in zip(tensor.shape, arrays[tensor.name].shape, strict=True) if extent == size(n)}


@pytest.mark.gcc
@pytest.mark.parametrize("guard", ["", "(k != 4)*"])
def test_the_first_of_several_nans_is_the_maximum(guard: str) -> None:
    """Also where the scans of two maxima share their loop."""
    model = symbolic.load(
        f"y[t] = max({guard}p[t,k], over=k)\nz[t] = max({guard}q[t,k], over=k)\nloss = sum(y[t]*w[t] + z[t]*v[t], over=t)",
        loss="loss", parameters={"p": ["T", "K"], "q": ["T", "K"], "w": ["T"], "v": ["T"]}, outputs=["y", "z"],
    )
    rows = [[1, NAN, 3, NAN, 9], [NAN, 2, NAN, INF, 9], [2, 7, 7, 1, 0], [-INF, -1, -2, NAN, 9], [-INF, -3, -INF, -3, -4]]
    same_as_everywhere(model, both(model), {"p": rows, "q": rows[::-1], "w": [1, 2, 3, 4, 5], "v": [6, 7, 8, 9, 10]})


# ---- maxima that meet ------------------------------------------------------------------------------------------------

SPECIAL = {"ties": (0, 1, -1), "NaN": (0, 1, NAN, -1), "-inf": (-INF, -INF, -2), "all": (-INF, -1, NAN, INF)}
"""What the entries are chosen among."""
FINITE = ("ties", "NaN")
FILLING = ("two", "three scalars", "of maxima")
"""Where every equation has an instance for every entry."""


def special(model: symbolic.Model, sizes: Mapping[str, int], kind: str, seed: int) -> dict[str, Any]:
    """Values with few different numbers among the inputs."""
    found = values_for(model.program(), sizes, seed)
    rng = np.random.default_rng(seed)
    return {n: rng.choice(SPECIAL[kind], np.shape(v)) if n in ("x", "z") else v for n, v in found.items()}


@pytest.mark.gcc
@pytest.mark.parametrize("name", MEETING)
def test_ties_nans_and_infinities(name: str) -> None:
    """The first, NaN before all; over -inf alone -inf, but NumPy takes that for no instance where there may be none."""
    model = meeting(name)
    modules = both(model)
    for kind in SPECIAL:
        told = modules if name in FILLING or kind in FINITE else {"c": modules["c"]}
        for seed, sizes in enumerate(SIZES):
            same_as_everywhere(model, told, special(model, sizes, kind, seed))


@pytest.mark.gcc
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MEETING)
def test_maxima_that_meet_under_the_sanitizers(name: str, dtype: str, tmp_path: Path) -> None:
    """No entry that nobody wrote is read, and the NumPy module agrees; the interpreter holds that, subscript by subscript."""
    model = meeting(name)
    curved = name.startswith("differentiated")
    driven = Driven(model, Options(wrt="params", dtype=dtype, tangent=curved, hvp=curved))
    program = compile_c(compiler("gcc") or [], SANITIZED, driven.write(tmp_path), tmp_path / "program")
    for sizes in SIZES:
        asked = {n: sizes[n] for n in driven.members.dims}
        driven.check([[program]], asked, driven.values(asked, dtype), dtype)
        agree(model, asked, module=compiled(model, dtype="float64"))


@pytest.mark.gcc
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("text", BLOCKED)
def test_maxima_that_meet_in_blocks(text: str, steps: int, tmp_path: Path) -> None:
    model = own(text, projected=True)
    assert "for (ptrdiff_t start = " in render(model, "c", Options(block=steps))["model.c"]
    exact(model, steps, (1, 3, 5), tmp_path, wrt="params")


@pytest.mark.gcc
@pytest.mark.parametrize("name", [name for name in MEETING if "recurrence" in name or "loop" in name])
def test_maxima_that_meet_in_every_step(name: str) -> None:
    """Unrolled: a slice for each equation of a step, none for all steps, of which one needs the other."""
    model = meeting(name)
    modules = {target: codegen.compile(model, target=target, dtype="float64", unroll=4) for target in ("c", "numpy")}
    same_as_everywhere(model, modules, values_for(model.program(), SIZES[0]), rtol=1e-12)


@pytest.mark.parametrize("name", MEETING)
def test_maxima_that_meet_are_separate(name: str) -> None:
    """One equation for each entry, the same values; sound loops, and no place in memory that two arrays need at once."""
    done = stages(meeting(name), Options(dtype="float64"))
    for unit, before in zip(units(done), (done.optimised, done.loss, done.predict), strict=True):
        program = check_program(unit.program)
        assert separate(program) == program
        names = [n for n in (program.loss, *program.outputs, *program.gradients.values()) if n in before.writers]
        for seed, sizes in enumerate(SIZES):
            values = values_for(program, sizes, seed)
            given = {n: v for n, v in sizes.items() if n in program.sizes}
            want, got = (evaluate(p, values, given, names) for p in (before, program))
            for tensor in names:
                np.testing.assert_array_equal(got[tensor], want[tensor], err_msg=tensor)
        check_memory(plan_memory(check(routine_of(unit, 8)), program, 8))


@pytest.mark.parametrize("target", ["c", "numpy"])
@pytest.mark.parametrize("name", MEETING)
def test_what_is_not_separate_is_refused(name: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To add to a maximum, or to write over it, would be wrong: neither target does."""
    monkeypatch.setattr("codegen.separate.separate", lambda program: program)
    with pytest.raises(symbolic.ScheduleError, match=r"^m: expected one equation for each entry of the maximum '\w+', found"):
        render(meeting(name), target)


def test_a_program_without_maxima_that_meet_stays() -> None:
    for name in ("lenet", "lstm_lm"):
        done = stages(symbolic.load(ROOT / "specs" / f"{name}.yaml"))
        assert units(done)[0].program == done.optimised
