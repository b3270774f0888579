"""Generated C from C: compiled without a warning by every compiler, right, and without a wrong access (tests/c_driver.py)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import symbolic
from codegen.pipeline import Options
from tests.c_driver import Driven, compile_c, compiler
from tests.c_models import MODELS
from tests.conftest import ROOT

SPECS = sorted(path.stem for path in (ROOT / "specs").glob("*.yaml"))
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")
FAST = ("-O3", "-march=native")
SIZES = ({"T": 3, "N": 2}, {"T": 1, "N": 1})
BUILDS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "gcc -O0": ("gcc", "float64", ("-O0",)),
    "gcc -O3": ("gcc", "float32", FAST),
    "clang -O3": ("clang", "float64", FAST),
    "plain C99": ("gcc", "float64", ("-O2",)),
    "sanitizers": ("gcc", "float64", SANITIZED),
}
"""The compiler, the type of numbers, the flags."""


def of_spec(name: str, dtype: str, **options: Any) -> Driven:
    return Driven(symbolic.load(ROOT / "specs" / f"{name}.yaml"), Options(wrt="all", dtype=dtype, **options))


def built(driven: Driven, folder: Path, command: list[str], flags: tuple[str, ...]) -> Path:
    folder.mkdir()
    return compile_c(command, flags, driven.write(folder), folder / "program")


@pytest.mark.gcc
@pytest.mark.parametrize("name", SPECS)
def test_specs_under_every_compiler(name: str, tmp_path: Path) -> None:
    """Compiled side by side, and run at two sets of sizes."""
    driven = {dtype: of_spec(name, dtype) for dtype in ("float64", "float32")}
    runs = [(what, dtype, command, flags) for what, (cc, dtype, flags) in BUILDS.items() if (command := compiler(cc))]
    plain = f"-D{driven['float64'].made.name.upper()}_PLAIN_C99"

    def build(run: tuple[str, str, list[str], tuple[str, ...]]) -> Path:
        what, dtype, command, flags = run
        return built(driven[dtype], tmp_path / what, command, (*flags, plain) if what == "plain C99" else flags)

    for each in driven.values():
        assert each.texts  # made once, before threads ask for it
    with ThreadPoolExecutor(2) as pool:
        programs = list(pool.map(build, runs))
    for (_, dtype, _, _), program in zip(runs, programs, strict=True):
        for sizes in SIZES:
            driven[dtype].check([program], sizes, driven[dtype].values(sizes, dtype), dtype)


@pytest.mark.gcc
@pytest.mark.parametrize("name", MODELS)
def test_models_under_the_sanitizers(name: str, tmp_path: Path) -> None:
    """No access outside a block, no undefined behaviour, no entry that nobody wrote (memory is full of NaN)."""
    subject = MODELS[name]
    driven = Driven(subject.make(), subject.options)
    program = built(driven, tmp_path / "made", compiler("gcc") or [], SANITIZED)
    for sizes in subject.sizes:
        driven.check([program], sizes, driven.values(sizes, driven.made.dtype, **subject.given), driven.made.dtype)


@pytest.mark.clang
@pytest.mark.parametrize("name", ["lengths", "directions", "overlapping maxima"])
def test_models_under_clang(name: str, tmp_path: Path) -> None:
    subject = MODELS[name]
    driven = Driven(subject.make(), subject.options)
    program = built(driven, tmp_path / "made", compiler("clang") or [], ("-O2", "-Weverything", *UNASKED))
    for sizes in subject.sizes:
        driven.check([program], sizes, driven.values(sizes, driven.made.dtype, **subject.given), driven.made.dtype)


UNASKED = ("-Wno-declaration-after-statement", "-Wno-padded", "-Wno-unsafe-buffer-usage", "-Wno-unknown-warning-option",
           "-Wno-disabled-macro-expansion", "-Wno-float-equal", "-Wno-missing-prototypes", "-Wno-covered-switch-default",
           "-Wno-conditional-uninitialized", "-Wno-double-promotion", "-Wno-bad-function-cast", "-Wno-vector-conversion")
"""What -Weverything says of good C99."""


@pytest.mark.gcc
@pytest.mark.valgrind
@pytest.mark.parametrize("name", ["char_rnn", "lenet_digits", "gru_classifier"])
def test_under_valgrind(name: str, tmp_path: Path) -> None:
    """Memory as it comes: no jump and no result hangs on an entry that nobody wrote."""
    driven = of_spec(name, "float64")
    program = built(driven, tmp_path / "made", compiler("gcc") or [], ("-O1", "-g"))
    line = ["valgrind", "--quiet", "--error-exitcode=7", "--leak-check=full", program]
    driven.check(line, SIZES[0], driven.values(SIZES[0], "float64"), "float64", "plain")


@pytest.mark.gcc
@pytest.mark.parametrize("name", ["char_rnn", "lstm_lm", "lenet_digits"])
def test_sizes_beyond_one_vector_and_one_block(name: str, tmp_path: Path) -> None:
    """Sizes that no vector divides, past the edges of the blocks of products, in the fast build and in the plain one."""
    driven = of_spec(name, "float32")
    plain = ("-O2", f"-D{name.upper()}_PLAIN_C99")
    for what, flags in {"fast": FAST, "plain": plain}.items():
        program = built(driven, tmp_path / what, compiler("gcc") or [], flags)
        for sizes in ({"T": 5, "N": 37}, {"T": 19, "N": 1}):
            driven.check([program], sizes, driven.values(sizes, "float32"), "float32")


@pytest.mark.slow
def test_the_compiler_of_the_package_ziglang(tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="extra 'c'")
    driven = of_spec("char_rnn", "float64")
    program = built(driven, tmp_path / "made", [sys.executable, "-m", "ziglang", "cc"], ("-O2",))
    for sizes in SIZES:
        driven.check([program], sizes, driven.values(sizes, "float64"), "float64")


@pytest.mark.gcc
def test_what_the_driver_finds(tmp_path: Path) -> None:
    """A wrong number, an entry too many, and an entry that is left out, each put into a good file by hand."""
    driven = of_spec("second_order", "float64")
    source, main = driven.write(tmp_path)
    good = source.read_text(encoding="utf-8")
    values = driven.values(SIZES[0], "float64")
    spoiled = {
        "beyond 1e-12: .*gradient of cell.b": ("d_cell_b[i] += ", "d_cell_b[i] += 1.000001*"),
        "heap-buffer-overflow": ("d_cell_b[i] = 0;", "d_cell_b[i] = d_cell_b[H] = 0;"),
        "beyond 1e-12: .*gradient of cell.b: inf": ("d_cell_b[i] = 0;", "d_cell_b[0] = 0;"),
    }
    for message, (old, new) in spoiled.items():
        assert good.count(old) == 1
        source.write_text(good.replace(old, new), encoding="utf-8")
        program = compile_c(compiler("gcc") or [], SANITIZED, [source, main], tmp_path / "program")
        with pytest.raises(AssertionError, match=message):
            driven.check([program], SIZES[0], values, "float64")
