"""The memory that ``show`` tells of: what the C function asks for, to the byte, in parts, and close to the least possible."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import codegen
import symbolic
from benchmarks.rows import ROWS
from codegen import build
from codegen.c.sections import sections
from codegen.loops.scratch import entries
from codegen.memory_report import PARTS, Memory, likely_sizes, of_stages
from codegen.pipeline import Options, stages
from codegen.report import print_model
from codegen.trial import choose_sizes
from tests.conftest import ROOT, Run
from tests.emitting import values_for


def memory_of(spec: Any, sizes: Mapping[str, int], real_bytes: int = 4) -> Memory:
    model = symbolic.load(spec)
    return of_stages(stages(model), real_bytes, choose_sizes(model.program(), sizes))


def parts(found: Memory) -> dict[str, int]:
    return {part.name: part.bytes for part in found.parts}


# ---- the plan and the bound --------------------------------------------------------------------------------------------


def row_sizes(name: str) -> dict[str, int]:
    program = symbolic.load(ROWS[name].spec).program()
    return {size: ROWS[name].sizes[size] for size, value in program.sizes.items() if value is None}


@pytest.mark.parametrize("name", ROWS)
def test_the_plan_is_close_to_the_bound_at_the_sizes_of_the_benchmark(name: str) -> None:
    found = memory_of(ROWS[name].spec, row_sizes(name))
    assert found.workspace <= 1.05 * found.bound


@pytest.mark.parametrize("name", ROWS)
def test_no_plan_is_below_the_bound_and_parts_are_what_is_placed(name: str) -> None:
    usual = row_sizes(name)
    for factor in (2, 1, 0.5, 0):
        sizes = {size: max(1, int(factor * value)) for size, value in usual.items()}
        found = memory_of(ROWS[name].spec, sizes)
        whole = sum(part.bytes for part in found.parts) + found.alignment
        assert found.bound <= found.workspace <= whole
        assert found.workspace % 64 == 0
        assert all(bool(part.arrays) == bool(part.bytes) for part in found.parts)
        assert found.alignment < 64 * sum(len(part.arrays) for part in found.parts)


# ---- what the compiled function says -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), [("char_rnn", "float32"), ("lenet", "float32"), ("lenet_digits", "float64"),
                                             ("gru_classifier", "float64"), ("scalar", "float64")])
def test_the_function_takes_this_workspace_and_no_byte_less(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = symbolic.load(ROOT / "specs" / f"{name}.yaml")
    sizes = choose_sizes(model.program(), {"N": 7} if "N" in model.program().sizes else {})
    found = of_stages(stages(model), 8 if dtype == "float64" else 4, sizes)
    module = codegen.compile(model, target="c", dtype=dtype)
    values = values_for(model.program(), sizes)
    params, batch = ({n: _as(values[n], dtype) for n in names} for names in (module.PARAMETERS, module.INPUTS))
    block = np.zeros(found.workspace + 128, np.uint8)
    real_room = module._room

    def with_bytes(count: int) -> Any:
        room = block.ctypes.data, count, block
        monkeypatch.setattr(module, "_room", lambda library, given: (real_room(library, given)[0], room))
        return module.value_and_grad(params, batch)

    assert np.isfinite(with_bytes(found.workspace + 64)[0])  # 64 more, for a workspace that begins anywhere
    with pytest.raises(MemoryError, match="the workspace is too small"):
        with_bytes(found.workspace + 63)


def _as(array: Any, dtype: str) -> Any:
    return array if np.asarray(array).dtype.kind == "i" else np.asarray(array, dtype)


@pytest.mark.parametrize("real", ["float", "double"])
def test_sizes_of_scratch_are_those_of_the_c_text(real: str) -> None:
    helpers = ("packed_size", "product_scratch", "product_at_scratch", "product_scatter_scratch")
    texts = [sections()[name][1] for name in ("least_of", *helpers)]
    text = f"#include <stddef.h>\ntypedef {real} real;\n" + "\n".join(texts).replace("static size_t", "size_t")
    library = build.load("scratch_sizes", text, "")
    rng = np.random.default_rng(0)
    for helper in helpers:
        function = getattr(library, helper)
        count = 2 if helper == "packed_size" else 3
        function.argtypes, function.restype = [ctypes.c_size_t] * count, ctypes.c_size_t
        for _ in range(200):
            sizes = [int(2 ** rng.uniform(0, 12)) for _ in range(count)]
            assert entries(helper, tuple(sizes), 4 if real == "float" else 8) == function(*sizes), (helper, sizes)


# ---- the parts ---------------------------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "name": "small", "dtype": "float64", "inputs": {"x": ["N", "D"], "y": ["N", "K"]}, "sizes": {"D": 6, "H": 8, "K": 4},
    "layers": [{"name": "hidden", "type": "dense", "units": "H", "activation": "tanh"},
               {"name": "out", "type": "dense", "units": "K"}],
    "loss": {"type": "mse", "target": "y"},
}


def test_the_parts_of_a_small_net() -> None:
    found = memory_of(SMALL, {"N": 16}, 8)
    assert found.parameters == found.gradients == 8 * (8*6 + 8 + 4*8 + 4)
    assert found.inputs == 8 * 16 * (6 + 4)
    by_name = {part.name: part for part in found.parts}
    assert list(by_name) == list(PARTS)
    assert "hidden.y" in by_name["kept"].arrays  # tanh' needs it, and the gradient of out.W
    assert by_name["kept"].bytes >= 8 * 16 * 8
    assert by_name["outputs"].arrays == ("out.y",)
    assert by_name["outputs"].bytes == 8 * 16 * 4
    assert by_name["offsets"].bytes == 0


def test_weights_that_a_loop_reads_are_packed_and_windows_have_offsets() -> None:
    recurrent = parts(memory_of(ROOT / "specs" / "char_rnn.yaml", {"T": 5, "N": 3}))
    assert recurrent["packed"] == 2 * 4 * 100 * 112  # U, and U transposed; 100 columns are 112 in whole cache lines
    assert recurrent["offsets"] == 0
    assert parts(memory_of(ROOT / "specs" / "lenet.yaml", {"N": 2}))["offsets"] > 0


def test_what_is_kept_grows_with_time_and_packed_weights_do_not() -> None:
    short, long = (parts(memory_of(ROOT / "specs" / "lstm_lm.yaml", {"T": steps, "N": 4})) for steps in (10, 100))
    assert 9 < long["kept"] / short["kept"] < 10.01
    assert long["packed"] == short["packed"] > 0


# ---- show --------------------------------------------------------------------------------------------------------------


def test_show_says_at_which_sizes(chainrule: Run) -> None:
    done = chainrule("show", ROOT / "specs" / "char_rnn.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert ("\nMemory of value_and_grad in C, in bytes at V=65, H=100, T=48, N=48 (likely values of T, N; --size gives others):\n"
            in done.stdout)
    done = chainrule("show", ROOT / "specs" / "char_rnn.yaml", "--size", "T=32", "--size", "N=16")
    assert "\nMemory of value_and_grad in C, in bytes at V=65, H=100, T=32, N=16:\n" in done.stdout
    found = memory_of(ROOT / "specs" / "char_rnn.yaml", {"T": 32, "N": 16})
    assert f"\nworkspace as planned: {found.workspace:,} bytes (" in done.stdout
    assert f"\nleast for any plan: {found.bound:,} bytes, what is needed at once; " in done.stdout
    counts = {**parts(found), "parameters": found.parameters, "gradients": found.gradients, "inputs": found.inputs}
    for name, count in counts.items():
        rows = re.findall(rf"^ {name} +([0-9,]+)  (?:caller|workspace)\b", done.stdout, re.MULTILINE)
        assert rows == ([f"{count:,}"] if count else []), name


def test_show_takes_blocks(chainrule: Run) -> None:
    """The memory of the loops that are then made."""
    line = ["show", ROOT / "specs" / "lstm_lm.yaml", "--size", "T=3000", "--size", "N=16"]
    whole, blocks = (int(re.search(r"workspace as planned: ([\d,]+) bytes", chainrule(*line, *more).stdout)[1].replace(",", ""))
                     for more in ([], ["--block", "64"]))
    assert blocks < 0.8*whole
    done = stages(symbolic.load(ROOT / "specs" / "lstm_lm.yaml"), Options(block=64))
    assert blocks == of_stages(done, 4, choose_sizes(done.optimised, {"T": 3000, "N": 16})).workspace


def test_a_block_of_more_steps_than_there_are_is_none() -> None:
    spec = {"name": "m", "sizes": {"T": 12}, "inputs": {"x": ["T", "N", 3], "y": ["T", "N", 4]},
            "layers": [{"name": "r", "type": "gru", "units": 4}], "loss": {"type": "mse", "target": "y"}}
    whole, same, few = (
        of_stages(done, 4, choose_sizes(done.optimised, {"N": 2})).workspace
        for done in (stages(symbolic.load(spec), Options(block=steps)) for steps in (None, 400, 4)))
    assert whole == same > few


@pytest.mark.parametrize(("kernel", "taken"), [(3, 48), (60, 192), (4000, None)])
def test_likely_sizes_leave_no_tensor_empty(kernel: int, taken: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    """An image smaller than its kernel; where nothing likely is large enough, show says nothing of memory."""
    model = symbolic.load({
        "name": "image", "inputs": {"x": ["N", 1, "A", "A"], "y": {"shape": ["N"], "kind": "index", "below": 2}},
        "layers": [{"name": "conv", "type": "conv2d", "channels": 2, "kernel": kernel},
                   {"name": "mean", "type": "global_avg_pool"}, {"name": "out", "type": "dense", "units": 2}],
        "loss": {"type": "softmax_cross_entropy", "target": "y"},
    })
    found = likely_sizes(model.program(), {})
    assert (found and found["A"]) == taken
    if taken is None:
        print_model(model, {})
        out = capsys.readouterr().out
        assert "forward and backward: " in out
        assert "Memory of value_and_grad" not in out
