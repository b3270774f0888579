"""Generated C from C: compiled without a warning by every compiler, right, and without a wrong access (tests/c_driver.py)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import symbolic
from codegen.pipeline import Options
from tests.c_driver import Driven, compile_c, compiler
from tests.c_models import MODELS
from tests.conftest import ROOT

SPECS = sorted(path.stem for path in (ROOT / "specs").glob("*.yaml"))
SANITIZED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover")
FAST = ("-O3", "-march=native")
SIZES = ({"T": 3, "N": 2}, {"T": 1, "N": 1})
BEYOND = ({"T": 5, "N": 37}, {"T": 19, "N": 1})
"""Past the edges of vectors and of the blocks of products."""
CBLAS = ROOT / "tests" / "cblas"
BUILDS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "gcc -O0": ("gcc", "float64", ("-O0",)),
    "gcc -O3": ("gcc", "float32", FAST),
    "clang -O3": ("clang", "float64", FAST),
    "plain C99": ("gcc", "float64", ("-O2",)),
    "CBLAS": ("gcc", "float64", ("-O2", f"-I{CBLAS}")),
    "threads": ("gcc", "float64", ("-O2", "-fopenmp")),
    "sanitizers": ("gcc", "float64", ("-O0", *SANITIZED[1:])),
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
    upper = driven["float64"].made.name.upper()
    more = {"plain C99": (f"-D{upper}_PLAIN_C99",), "threads": (f"-D{upper}_THREADS=2",),
            "sanitizers": (f"-D{upper}_THREADS=3",),  # one after the other
            "CBLAS": (f"-D{upper}_USE_CBLAS", str(CBLAS / "cblas.c"))}

    def build(run: tuple[str, str, list[str], tuple[str, ...]]) -> Path:
        what, dtype, command, flags = run
        return built(driven[dtype], tmp_path / what, command, (*flags, *more.get(what, ())))

    for each in driven.values():
        assert each.texts  # made once, before threads ask for it
    with ThreadPoolExecutor(2) as pool:
        programs = list(pool.map(build, runs))
    for dtype, each in driven.items():
        made = [([program], what) for (what, kind, _, _), program in zip(runs, programs, strict=True) if kind == dtype]
        for sizes in SIZES:
            each.check([program for program, _ in made], sizes, each.values(sizes, dtype), dtype)
        for sizes in BEYOND:
            fast = [program for program, what in made if what not in ("sanitizers", "gcc -O0")]
            each.check(fast, sizes, each.values(sizes, dtype, scale=0.1), dtype)


@pytest.fixture(scope="module")
def sanitized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """The models that are to be tested, and their programs under the sanitizers, compiled side by side ahead of the tests."""
    folder = tmp_path_factory.mktemp("sanitized")

    def build(name: str) -> tuple[Driven, Path]:
        driven = Driven(MODELS[name].make(), MODELS[name].options)
        return driven, built(driven, folder / name, compiler("gcc") or [], SANITIZED)

    mine = [item for item in request.session.items if getattr(item, "originalname", "") == "test_models_under_the_sanitizers"]
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(build, name) for name in (item.callspec.params["name"] for item in mine)}  # type: ignore[attr-defined]


@pytest.mark.gcc
@pytest.mark.parametrize("name", MODELS)
def test_models_under_the_sanitizers(name: str, sanitized: Mapping[str, Any]) -> None:
    """No access outside a block, no undefined behaviour, no entry that nobody wrote (memory is full of NaN)."""
    driven, program = sanitized[name].result()
    for sizes in MODELS[name].sizes:
        values = driven.values(sizes, driven.made.dtype, **MODELS[name].given)
        driven.check([[program]], sizes, values, driven.made.dtype)


@pytest.mark.clang
@pytest.mark.parametrize("name", ["lengths", "directions", "overlapping maxima"])
def test_models_under_clang(name: str, tmp_path: Path) -> None:
    subject = MODELS[name]
    driven = Driven(subject.make(), subject.options)
    program = built(driven, tmp_path / "made", compiler("clang") or [], FAST)
    for sizes in subject.sizes:
        driven.check([[program]], sizes, driven.values(sizes, driven.made.dtype, **subject.given), driven.made.dtype)


@pytest.mark.gcc
@pytest.mark.valgrind
@pytest.mark.parametrize("name", ["char_rnn", "lenet_digits", "gru_classifier"])
def test_under_valgrind(name: str, tmp_path: Path) -> None:
    """Memory as it comes: no jump and no result hangs on an entry that nobody wrote."""
    driven = of_spec(name, "float64")
    program = built(driven, tmp_path / "made", compiler("gcc") or [], ("-O1", "-g"))
    line = ["valgrind", "--quiet", "--error-exitcode=7", "--leak-check=full", program]
    driven.check([line], SIZES[0], driven.values(SIZES[0], "float64"), "float64", "plain")


@pytest.mark.slow
def test_the_compiler_of_the_package_ziglang(tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="extra 'c'")
    driven = of_spec("char_rnn", "float64")
    program = built(driven, tmp_path / "made", [sys.executable, "-m", "ziglang", "cc"], ("-O2",))
    for sizes in SIZES:
        driven.check([[program]], sizes, driven.values(sizes, "float64"), "float64")


SPOILED = {
    "beyond 1e-12: gradient of w: [0-9.]+e-0[67]$": "grads->w[0] *= 1.000001;",
    "beyond 1e-12: gradient of w: inf$": "memset(grads->w, 255, sizeof(real));",
    "heap-buffer-overflow": "grads->w[dims->H] = 0;",
    "heap-use-after-free": "free(grads->w);",
    "signed integer overflow": "int most = INT_MAX; most += (int)dims->N; code += most == 0;",
    "driver: code 4": "code = M_SMALL_WORKSPACE;",
}


@pytest.mark.gcc
@pytest.mark.parametrize("message", SPOILED)
def test_what_the_driver_finds(message: str, tmp_path: Path) -> None:
    """A wrong number, an entry that nobody wrote, one too many, ...: each done by hand after a good function."""
    subject = MODELS["an output that is an input"]
    driven = Driven(subject.make(), replace(subject.options, dtype="float64"))
    source, main = driven.write(tmp_path)
    head = driven.texts["m.h"].split("int m_value_and_grad(")[1].split(";")[0]
    call = "dims, params, inputs, loss, grads, outputs, workspace, workspace_bytes"
    source.write_text(f"""#define m_value_and_grad good
{source.read_text(encoding="utf-8")}
#include <limits.h>
#include <stdlib.h>
#undef m_value_and_grad
int m_value_and_grad({head};
int m_value_and_grad({head}
{{
    int code = good({call});
    {SPOILED[message]}
    return code;
}}
""", encoding="utf-8")
    program = compile_c(compiler("gcc") or [], SANITIZED, [source, main], tmp_path / "program")
    with pytest.raises(AssertionError, match=f"(?m){message}"):
        driven.check([[program]], subject.sizes[0], driven.values(subject.sizes[0], "float64"), "float64")
