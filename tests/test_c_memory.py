"""The workspace of generated C: what the file says at run time is what was planned, at every size, for float and double."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import pytest

import symbolic
from codegen import build
from codegen.c.function import routine_of
from codegen.loops.memory import plan_memory, total
from codegen.pipeline import Options, render, stages, units

ROOT = Path(__file__).resolve().parent.parent
SPECS = ["char_rnn", "lenet_digits", "gru_classifier", "lstm_lm"]
FIXED: dict[str, Any] = {
    "name": "fixed", "sizes": {"T": 5, "N": 3, "D": 4, "H": 6}, "inputs": {"x": ["T", "N", "D"], "y": ["T", "N", "H"]},
    "layers": [{"name": "cell", "type": "lstm", "units": "H"}], "loss": {"type": "mse", "target": "y"},
}


def said(model: symbolic.Model, dtype: str, sizes: list[int], *flags: str) -> int:
    """What NAME_workspace_bytes gives."""
    texts = render(model, "c", Options(dtype=dtype))
    library = build.load(model.name, texts[f"{model.name}.c"], texts[f"{model.name}.h"], ("-O0", *flags))
    function = getattr(library, f"{model.name}_workspace_bytes")
    function.restype = ctypes.c_size_t
    return int(function((ctypes.c_size_t * max(1, len(sizes)))(*sizes)))


def planned(model: symbolic.Model, dtype: str, values: dict[str, int]) -> int:
    """The greatest plan of all functions, and a line to align the first array."""
    real_bytes = 8 if dtype == "float64" else 4
    functions = units(stages(model, Options(dtype)))
    plans = [(plan_memory(routine_of(unit), unit.program, real_bytes), unit.program) for unit in functions]
    return 64 + max(total(*plan, real_bytes, values) for plan in plans)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPECS)
def test_the_file_says_what_was_planned(name: str, dtype: str) -> None:
    model = symbolic.load(ROOT / "specs" / f"{name}.yaml")
    free = [n for n, value in model.program().sizes.items() if value is None]
    for first in (1, 3, 70):
        sizes = [first + k for k, _ in enumerate(free)]
        assert said(model, dtype, sizes) == planned(model, dtype, dict(zip(free, sizes, strict=True)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fixed_sizes_are_a_define(dtype: str) -> None:
    model = symbolic.load(FIXED)
    header = render(model, "c", Options(dtype=dtype))["fixed.h"]
    form = r"#define FIXED_WORKSPACE_BYTES \((\d+) \+ \(FIXED_THREADS - 1\)\*(\d+)\)"
    values = [(int(one), int(more)) for one, more in re.findall(form, header)]
    assert len(values) == (2 if dtype == "float32" else 1)  # two stand there: for a build with double, and for float
    for (one, more), flags in zip(values[::-1], ([], ["-DFIXED_DOUBLE"]), strict=False):
        assert said(model, dtype, [], *flags) == one
        assert one < said(model, dtype, [], "-DFIXED_THREADS=3", *flags) <= one + 2*more
