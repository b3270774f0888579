"""The parts of the harness that a run does not check by itself: `pytest benchmarks/tests`."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from benchmarks import native, targets
from benchmarks.bar import BAR, HAND_SLACK, judge
from benchmarks.checks import TOLERANCE, error
from benchmarks.contestant import Missing
from benchmarks.measure import Measured
from benchmarks.process import Process
from benchmarks.report import judged, markdown, row_report
from benchmarks.rows import HAND_TO_TORCH, ROWS, Input, Row

HERE = Path(__file__).parent
SAMPLES, FEATURES, UNITS = 5, 4, 3


def line() -> Row:
    shapes = {"fc.b": (UNITS,), "fc.W": (UNITS, FEATURES)}  # not in the order of the struct
    inputs = {"y": Input((SAMPLES, UNITS)), "x": Input((SAMPLES, FEATURES))}
    return Row("line", "line", MappingProxyType({"N": SAMPLES}), shapes, inputs, flops=0)


def line_folder(folder: Path, dtype: str) -> Path:
    for name in ("line.c", "line.h"):
        text = (HERE / name).read_text(encoding="utf-8").replace("LINE_REAL float", f"LINE_REAL {native.REAL[dtype]}")
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _compiler() -> None:
    try:
        native.compiler()
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
def test_the_shim_fills_the_structs_by_field_and_calls_the_function(tmp_path: Path, dtype: str) -> None:
    row = line()
    params, batch = row.parameters(dtype), row.batch(dtype)
    contestant = targets.prepared(line_folder(tmp_path, dtype), row, params, batch)
    loss, grads = contestant.read(contestant.call())

    difference = batch["x"] @ params["fc.W"].T + params["fc.b"] - batch["y"]
    d = 2 * difference / difference.size
    assert error(loss, np.mean(difference**2)) <= TOLERANCE[dtype]
    assert error(grads["fc.W"], d.T @ batch["x"]) <= TOLERANCE[dtype]
    assert error(grads["fc.b"], d.sum(axis=0)) <= TOLERANCE[dtype]
    assert contestant.timed is not None
    assert 0 < contestant.timed(1000) < 1


def test_a_field_without_an_array_is_named(tmp_path: Path) -> None:
    row = line()
    params = row.parameters()
    del params["fc.b"]
    with pytest.raises(RuntimeError, match=r"^fields fc_W, fc_b; arrays fc_W$"):
        targets.prepared(line_folder(tmp_path, "float32"), row, params, row.batch())


def test_a_status_of_the_function_is_raised(tmp_path: Path) -> None:
    folder, row = line_folder(tmp_path, "float32"), line()
    source = (folder / "line.c").read_text(encoding="utf-8")
    (folder / "line.c").write_text(source.replace("return LINE_OK", "return LINE_BAD_SIZE"), encoding="utf-8")
    contestant = targets.prepared(folder, row, row.parameters(), row.batch())
    with pytest.raises(RuntimeError, match=r"^line_value_and_grad: status 2$"):
        contestant.call()


def test_both_contestants_of_the_c_target_start_from_generated_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door = "def value_and_grad(params, batch):\n    return 1.5, dict(params)\n"

    class Codegen:
        @staticmethod
        def generate(model: object, target: str, out: Path) -> None:
            assert (model, target) == ("model", "c")
            line_folder(out, "float32")
            (out / "line_c.py").write_text(door, encoding="utf-8")

    monkeypatch.setattr(targets, "_model", lambda target, row, params: (Codegen, "model"))
    monkeypatch.setattr(targets.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    row = line()
    params, batch = row.parameters(), row.batch()
    assert np.isfinite(targets.c_function(row, params, batch).call()[0])
    assert targets.c_door(row, params, batch).call()[0] == 1.5


def test_the_core_has_a_rate(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path, ignore_errors=True)
    tmp_path.mkdir()
    assert native.multiply_add_rate("float32", [], tmp_path) > 1


def test_every_row_has_a_bar_a_reference_and_operations() -> None:
    assert list(BAR) == list(ROWS)
    assert set(HAND_TO_TORCH) == set(ROWS)
    assert all(bar.goal <= bar.ship for bar in BAR.values())


@pytest.mark.parametrize("name", list(ROWS))
def test_operations_are_those_of_the_derived_products(name: str) -> None:
    """Equations of a generated program that sum a product of two tensors, without those that only choose an entry."""
    from codegen.pipeline import stages
    from symbolic import load
    from symbolic.cost import volume
    from symbolic.program import size, tensor_of

    row = ROWS[name]
    program = stages(load(row.spec)).optimised
    sizes = {size(key): value for key, value in row.sizes.items()}
    total = 0
    for equation in program.equations:
        summed = [i for i in equation.indices if not equation.target.has(i.symbol)]
        factors = {tensor_of(read) for read in equation.reads}
        if summed and len(factors) == 2 and equation.body.is_Mul:
            total += 2 * int(volume(i.extent for i in equation.indices).xreplace(program.fixed).xreplace(sizes))
    assert total == pytest.approx(row.flops, rel=0.05)


def entries(**milliseconds: float) -> dict[str, dict[str, object]]:
    return {
        name.replace("_", "-"): {
            "status": "ok",
            "ms": {"median": mine},
            "ratio": {other.replace("_", "-"): {"median": mine / theirs} for other, theirs in milliseconds.items()},
        }
        for name, mine in milliseconds.items()
    }


def test_the_best_peer_is_the_fastest_library() -> None:
    verdict = judge("lstm_small", entries(torch=2.0, torch_compiled=1.0, jax=3.0, c=0.6, c_door=0.8, chainrule=0.1))
    assert (verdict["best"], verdict["c"], verdict["c-door"], verdict["met"]) == ("torch-compiled", 0.6, 0.8, "ship")


@pytest.mark.parametrize(("slack", "best"), [(0.99, "hand"), (1.01, "jax")])
def test_hand_written_numpy_is_a_peer_while_it_is_within_its_bound(slack: float, best: str) -> None:
    hand = HAND_SLACK * HAND_TO_TORCH["rnn_char"] * slack
    assert judge("rnn_char", entries(torch=1.0, jax=2 * hand, hand=hand))["best"] == best


def test_without_torch_hand_written_numpy_is_no_peer() -> None:
    verdict = judge("rnn_char", entries(hand=1.0, c=0.1))
    assert (verdict["best"], verdict["c"], verdict["met"]) == ("", None, "")


def test_a_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with Process("lstm_tiny", "float32", tmp_path / "none.npz", [], 1, tmp_path) as process:
        assert process.ask("build", "chainrule", until=0.01) == {"over": "0 s"}
        assert "wrong" in process.ask("check", "chainrule")


def report() -> dict[str, object]:
    ok = {"first_seconds": [0.5, 0.7, 0.6], "error": 1e-7, "peak_mb": 50.0, "before_mb": 40.0}
    measured = {
        "hand": Measured(samples={1: 4e-3, 2: 2e-3}, **ok),
        "c": Measured(samples={1: 1e-3, 2: 1e-3}, **ok),
        "torch": Measured(samples={1: 2e-3}, **ok | {"first_seconds": [9.0]}),
        "autograd": Measured(samples={1: 0.9}, **ok),
        "jax": Measured("over 120 s to build"),
        "casadi": Measured("not run: only on rnn_char"),
    }
    machine = {"processor": "one", "gflops": 10.0, "multiply_adds": {"gflops": 20.0, "by": "hand"}}
    entries = row_report(measured)
    return {
        "machine": machine | {"versions": {}, "stripped": {}, "set": {}},
        "cores": 1, "dtype": "float32", "rounds": 2, "contestants": list(measured),
        "rows": {"lstm_small": entries}, "judged": {"lstm_small": judged("lstm_small", entries)},
    }  # fmt: skip


def test_the_tables_pair_samples_of_one_round_and_name_who_is_not_there() -> None:
    text = markdown(report())
    times = "2.000 (2.000 - 2.000) | 0.500 (0.500 - 0.500) | 1 | 450.000 (450.000 - 450.000) | over 120 s to build | -"
    assert f"| lstm_small | torch | {times} |" in text
    assert "| lstm_small | torch | 0.500 | - | 0.70 | 0.58 | goal |" in text
    assert "| lstm_small | 2.000 | 1.564 | no |" in text
    assert "| lstm_small | 0.60 | 0.60 | 9.00 (once) | 0.60 | - | - |" in text
    assert text.endswith("## Not measured\n\n- lstm_small, jax: over 120 s to build\n")


def test_the_picture_has_a_mark_for_everyone_who_was_timed(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.plot import draw

    figure = draw(report(), with_bar=True)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "Chainrule, C function", "hand-written NumPy", "PyTorch, eager", "autograd", "bar for C: ship", "bar for C: goal",
    ]  # fmt: skip
    figure.savefig(tmp_path / "picture.svg")
