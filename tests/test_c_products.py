"""The matrix products of the C target, held against NumPy in float64: sizes, strides, guards round every buffer, compilers."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symbolic
from codegen.c.sections import sections as every_section
from codegen.pipeline import render

TEXT = Path(__file__).parent.parent / "codegen" / "c" / "templates" / "products.c"
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
COMPILERS = {"gcc": ["gcc"], "clang": ["clang"], "zig": [sys.executable, "-m", "ziglang", "cc"]}
CBLAS = Path(__file__).parent / "cblas"
LIBRARY = ["-O2", "-DREAL_CBLAS", f"-I{CBLAS}", str(CBLAS / "cblas.c")]
BUILDS = {
    "plain": ["-O3", "-march=native", "-DPLAIN_C99"], "O0": ["-O0"], "O3": ["-O3", "-march=native"], "cblas": LIBRARY,
}  # fmt: skip
ALONE = {"zig": ("O3",), "clang": ("plain", "O0", "O3")}
SIZES = (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 64, 100, 129, 257)
GUARD = 64

PROLOGUE = """#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef REAL_CBLAS
#include <cblas.h>
#endif
typedef {real} real;
#define REAL_IS_FLOAT {flag}
""" + every_section()["extensions"][1]
"""What an emitter writes before the text."""

MATRIX = "size_t M, size_t N, size_t K, const real *a, size_t ar, size_t ac, "
OFFSETS = "const ptrdiff_t *rows, const ptrdiff_t *columns, "
EXPORTS = {
    "product": (
        "void", MATRIX + "const real *b, size_t br, size_t bc, real *c, size_t cr, int add, real *s",
        "product(M, N, K, a, ar, ac, b, br, bc, c, cr, add, s)",
    ),
    "packed": (
        "void", MATRIX + "const real *b, size_t br, size_t bc, real *c, size_t cr, int add, real *s",
        "pack_b(K, N, b, br, bc, s); product_packed(M, N, K, a, ar, ac, s, c, cr, add)",
    ),
    "product_at": (
        "void", MATRIX + "const real *b, " + OFFSETS + "real *c, size_t cr, int add, real *s",
        "product_at(M, N, K, a, ar, ac, b, rows, columns, c, cr, add, s)",
    ),
    "product_scatter": (
        "void", MATRIX + "const real *d, size_t dr, size_t dc, real *base, " + OFFSETS + "real *s",
        "product_scatter(M, N, K, a, ar, ac, d, dr, dc, base, rows, columns, s)",
    ),
    "packed_size": ("size_t", "size_t M, size_t N, size_t K", "(void)M; return packed_size(K, N)"),
    "product_scratch": ("size_t", "size_t M, size_t N, size_t K", "return product_scratch(M, N, K)"),
    "product_at_scratch": ("size_t", "size_t M, size_t N, size_t K", "return product_at_scratch(M, N, K)"),
    "product_scatter_scratch": ("size_t", "size_t M, size_t N, size_t K", "return product_scatter_scratch(M, N, K)"),
}  # fmt: skip
"""Public section -> type, parameters and body of a function test_SECTION that calls all of the section."""
SCRATCH = {
    "product": "product_scratch", "packed": "packed_size",
    "product_at": "product_at_scratch", "product_scatter": "product_scatter_scratch",
}  # fmt: skip


def sections() -> dict[str, tuple[list[str], str]]:
    """Name -> needs, text."""
    parts = re.split(r"^/\* === section (\w+): needs ([\w, ]+) === \*/$", TEXT.read_text(), flags=re.MULTILINE)
    return {
        name: ([need for need in needs.split(", ") if need not in ("nothing", "extensions")], text)
        for name, needs, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    }


def source(dtype: str, names: list[str]) -> str:
    """A file with the named public sections, what they need, and their exports."""
    text = PROLOGUE.format(real="float" if dtype == "float32" else "double", flag=int(dtype == "float32"))
    known = sections()
    wanted = set(names)
    for name in reversed(known):  # needs stand before what needs them
        wanted |= set(known[name][0]) if name in wanted else set()
    text += "".join(known[name][1] for name in known if name in wanted)
    for name in names:
        result, parameters, body = EXPORTS[name]
        text += f"{result} test_{name}({parameters});\n{result} test_{name}({parameters}) {{ {body}; }}\n"
    return text


def run(command: list[str], **options: Any) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr


def command_of(compiler: str) -> list[str]:
    command = COMPILERS[compiler]
    if compiler == "zig":
        pytest.importorskip("ziglang")
    elif shutil.which(command[0]) is None:
        pytest.skip(f"{compiler} is not installed")
    return command


class Kernels:
    """The functions of one build, called with arrays; every buffer has guards round it."""

    def __init__(self, library: Path, dtype: str) -> None:
        self.library = ctypes.CDLL(str(library))
        for name in SCRATCH.values():
            getattr(self.library, f"test_{name}").restype = ctypes.c_size_t
        self.dtype = np.dtype(dtype)
        self.random = np.random.default_rng(7)

    def room(self, count: int, fill: float) -> tuple[np.ndarray, np.ndarray]:
        """An array of count reals and the larger one, full of ``fill``, that it lies in."""
        whole = np.full(count + 2 * GUARD, fill, self.dtype)
        return whole, whole[GUARD : GUARD + count]

    def matrix(self, rows: int, columns: int, layout: str) -> tuple[np.ndarray, int, int]:
        """A matrix in a buffer that is not a number elsewhere, and its strides."""
        pad = int(self.random.integers(0, 4))
        strides = {"C": (columns + pad, 1), "F": (1, rows + pad), "S": (2 * columns + 1 + pad, 2)}[layout]
        _, inner = self.room((rows - 1) * strides[0] + (columns - 1) * strides[1] + 1, np.nan)
        view = np.lib.stride_tricks.as_strided(inner, (rows, columns), tuple(s * self.dtype.itemsize for s in strides))
        view[...] = self.random.standard_normal((rows, columns))
        return view, *strides

    def scratch(self, name: str, *sizes: int) -> tuple[np.ndarray, np.ndarray]:
        size = getattr(self.library, f"test_{SCRATCH[name]}")(*map(ctypes.c_size_t, sizes))
        return self.room(size, np.nan)

    def call(self, name: str, *arguments: Any) -> None:
        getattr(self.library, f"test_{name}")(
            *[ctypes.c_size_t(v) if isinstance(v, int) else ctypes.c_void_p(v.ctypes.data) for v in arguments]
        )

    def tolerance(self, K: int, size: np.ndarray) -> np.ndarray:
        """Each product and each sum is rounded once, in any order: (K + 8) eps sum |a| |b|."""
        return (K + 8) * np.finfo(self.dtype).eps * size

    def check_guards(self, whole: np.ndarray) -> None:
        assert np.isnan(whole[:GUARD]).all()
        assert np.isnan(whole[-GUARD:]).all()


@pytest.fixture(
    scope="module",
    params=[(c, d, b) for c in COMPILERS for d in ("float32", "float64") for b in ALONE.get(c, BUILDS)],
    ids="-".join,
)
def kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    return built(*request.param, tmp_path_factory.mktemp("products"))


def built(compiler: str, dtype: str, build: str, folder: Path) -> Kernels:
    command = command_of(compiler)
    (folder / "products.c").write_text(source(dtype, list(EXPORTS)))
    run([*command, *STRICT, *BUILDS[build], "-fPIC", "-shared", "products.c", "-o", "products.so"], cwd=folder)
    return Kernels(folder / "products.so", dtype)


def triples() -> list[tuple[int, int, int]]:
    """Sizes M, N, K: every size in every place, with others at random; small ones; edges of the blocks; few columns."""
    random = np.random.default_rng(3)
    some = [tuple(np.roll([size, *random.choice(SIZES, 2)], place)) for size in SIZES for place in range(3)]
    some += [tuple(random.integers(1, 20, 3)) for _ in range(60)]
    some += [(1, 1, 1), (1, 100, 300), (100, 1, 300), (33, 257, 513), (257, 241, 33), (300, 17, 258), (9, 500, 3), (64, 6, 129)]
    some += 3 * [(160, 17, 80), (300, 33, 140), (128, 32, 520), (140, 530, 130)]  # each with A along m and B along n
    return [(int(M), int(N), int(K)) for M, N, K in some]


@pytest.mark.parametrize("name", ["product", "packed"])
def test_products(kernels: Kernels, name: str) -> None:
    for case, (M, N, K) in enumerate(triples()):
        for turn in range(2):
            layouts = [("C", "C"), ("C", "F"), ("F", "C"), ("F", "F"), ("S", "C"), ("C", "S")][(case + 3 * turn) % 6]
            add = (case + turn) % 2
            a, *a_strides = kernels.matrix(M, K, layouts[0])
            b, *b_strides = kernels.matrix(K, N, layouts[1])
            c_rows = N + case % 3
            whole, inner = kernels.room(M * c_rows, np.nan)
            c = inner.reshape(M, c_rows)[:, :N]
            before = np.zeros((M, N))
            if add:
                c[...] = before = kernels.random.standard_normal((M, N)).astype(kernels.dtype)
            scratch, room = kernels.scratch(name, M, N, K)
            kernels.call(name, M, N, K, a, *a_strides, b, *b_strides, c, c_rows, add, room)
            exact = before + a.astype(float) @ b.astype(float)
            size = abs(before) + abs(a).astype(float) @ abs(b).astype(float)
            assert (abs(c - exact) <= kernels.tolerance(K, size)).all(), (M, N, K, layouts, add)
            assert np.isnan(inner.reshape(M, c_rows)[:, N:]).all(), (M, N, K, layouts, add)
            kernels.check_guards(whole)
            kernels.check_guards(scratch)


@pytest.mark.gcc
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_products_go_to_the_library(dtype: str, tmp_path: Path) -> None:
    """Matrices that it takes: each with neighbours along one axis, no row over another."""
    kernels = built("gcc", dtype, "cblas", tmp_path)
    calls = ctypes.c_int.in_dll(kernels.library, "cblas_calls")
    for (M, N, K), layouts, expected in (
        ((8, 9, 10), "CC", 1), ((8, 9, 10), "FF", 1), ((7, 9, 10), "CC", 0), ((8, 9, 10), "SC", 0), ((8, 9, 10), "CS", 0),
    ):  # fmt: skip
        a, *a_strides = kernels.matrix(M, K, layouts[0])
        b, *b_strides = kernels.matrix(K, N, layouts[1])
        before = calls.value
        kernels.call("product", M, N, K, a, *a_strides, b, *b_strides, np.empty((M, N), kernels.dtype), N, 0,
                     kernels.scratch("product", M, N, K)[1])
        assert calls.value - before == expected, (M, N, K, layouts)
    x, before = kernels.matrix(1, 40, "C")[0][0], calls.value  # rows over one another: the windows of a line
    c = np.empty((16, 8), kernels.dtype)
    kernels.call("product", 16, 8, 9, x, 1, 1, np.eye(9, 8, dtype=kernels.dtype), 8, 1, c, 8, 0,
                 kernels.scratch("product", 16, 8, 9)[1])
    assert calls.value == before
    assert (c == np.lib.stride_tricks.sliding_window_view(x, 8)[:16]).all()


@pytest.mark.parametrize("name", ["product", "packed"])
def test_empty_products(kernels: Kernels, name: str) -> None:
    one = np.ones(64, kernels.dtype)
    for add in (0, 1):
        c = np.full((2, 3), 5, kernels.dtype)
        kernels.call(name, 2, 3, 0, one, 1, 1, one, 1, 1, c, 3, add, one.copy())
        assert (c == (5 if add else 0)).all()
        for M, N in ((0, 3), (2, 0)):
            kernels.call(name, M, N, 4, one, 1, 1, one, 1, 1, c, 3, add, one.copy())
            assert (c == (5 if add else 0)).all()


def test_values_that_are_no_numbers_stay_in_their_rows_and_columns(kernels: Kernels) -> None:
    for M, N, K in ((5, 21, 19), (1, 21, 40), (9, 3, 20)):
        a, b = (kernels.random.standard_normal(shape).astype(kernels.dtype) for shape in ((M, K), (N, K)))
        a[M - 1, K - 1], b[0, 0] = np.inf, np.nan
        c = np.ones((M, N), kernels.dtype)
        for name in ("product", "packed"):
            kernels.call(name, M, N, K, a, K, 1, b, 1, K, c, N, 1, kernels.scratch(name, M, N, K)[1])
            assert np.isfinite(c[: M - 1, 1:]).all()
            assert np.isnan(c[:, 0]).all()
            assert (abs(c[M - 1, 1:]) == np.inf).all()


def patches(channels: int, height: int, width: int, size: int, step: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The offsets of a convolution: (channel, y, x) in a patch, (y, x) of the patches, and the room of the image."""
    image = np.arange(channels * height * width, dtype=np.intp).reshape(channels, height, width)
    return image[:, :size, :size].ravel(), image[0, : height - size + 1 : step, : width - size + 1 : step].ravel(), image.size


CONVOLUTIONS = (
    (1, 28, 28, 5, 1), (6, 12, 12, 5, 1), (3, 9, 7, 3, 2), (2, 5, 40, 1, 1), (1, 4, 4, 4, 1), (40, 6, 9, 3, 1), (2, 3, 400, 2, 1),
)  # fmt: skip


@pytest.mark.parametrize("shape", CONVOLUTIONS)
def test_product_at(kernels: Kernels, shape: tuple[int, ...]) -> None:
    patch, places, room = patches(*shape)
    for rows, columns in ((patch, places), (places, patch)):
        for M, layout, add in ((1, "C", 1), (6, "F", 0), (16, "C", 1), (37, "S", 1)):
            N, K = len(columns), len(rows)
            a, *strides = kernels.matrix(M, K, layout)
            _, image = kernels.room(room, np.nan)
            image[...] = kernels.random.standard_normal(room)
            whole, inner = kernels.room(M * N, np.nan)
            c, before = inner.reshape(M, N), np.zeros((M, N))
            if add:
                c[...] = before = kernels.random.standard_normal((M, N)).astype(kernels.dtype)
            scratch, space = kernels.scratch("product_at", M, N, K)
            kernels.call("product_at", M, N, K, a, *strides, image, rows, columns, c, N, add, space)
            b = image[rows[:, None] + columns].astype(float)
            size = abs(before) + abs(a).astype(float) @ abs(b)
            assert (abs(c - (before + a.astype(float) @ b)) <= kernels.tolerance(K, size)).all(), (M, N, K, layout, add)
            kernels.check_guards(whole)
            kernels.check_guards(scratch)


@pytest.mark.parametrize("shape", CONVOLUTIONS)
def test_product_scatter(kernels: Kernels, shape: tuple[int, ...]) -> None:
    rows, columns, room = patches(*shape)
    N, K = len(columns), len(rows)
    for M, layouts in ((1, "CC"), (6, "FC"), (16, "CF"), (37, "SS")):
        a, *a_strides = kernels.matrix(M, K, layouts[0])
        d, *d_strides = kernels.matrix(M, N, layouts[1])
        whole, image = kernels.room(room, np.nan)
        image[...] = before = kernels.random.standard_normal(room).astype(kernels.dtype)
        scratch, space = kernels.scratch("product_scatter", M, N, K)
        kernels.call("product_scatter", M, N, K, a, *a_strides, d, *d_strides, image, rows, columns, space)
        exact, size, count = before.astype(float), abs(before).astype(float), np.zeros(room)
        np.add.at(exact, rows[:, None] + columns, a.astype(float).T @ d.astype(float))
        np.add.at(size, rows[:, None] + columns, abs(a).astype(float).T @ abs(d).astype(float))
        np.add.at(count, rows[:, None] + columns, 1)
        # Each place is a sum of M terms for each entry that falls on it.
        assert (abs(image - exact) <= (M + count + 8) * np.finfo(kernels.dtype).eps * size).all(), (M, N, K)
        kernels.check_guards(whole)
        kernels.check_guards(scratch)


@pytest.mark.parametrize("name", EXPORTS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_section_needs_what_it_says(compiler: str, name: str, tmp_path: Path) -> None:
    """Nothing is missing, and nothing is unused: -Wunused-function is an error."""
    command = command_of(compiler)
    for dtype in ("float32", "float64"):
        for options in ([], ["-DPLAIN_C99"]):
            (tmp_path / "section.c").write_text(source(dtype, [name]))
            run([*command, *STRICT, *options, "-O0", "-c", "section.c", "-o", "section.o"], cwd=tmp_path)


def test_sections_stand_after_what_they_need() -> None:
    known = sections()
    for name, (needs, _) in known.items():
        assert all(list(known).index(need) < list(known).index(name) for need in needs)


def test_the_extensions_stand_behind_one_condition() -> None:
    model = symbolic.load(TEXT.parents[3] / "specs" / "lstm_lm.yaml")
    text = render(model, "c")["lstm_lm.c"]
    assert text.count("#if defined(__GNUC__) && !defined(PLAIN_C99)") == 1
    assert text.count("__GNUC__") == 1


DRIVER = """
#include <stdlib.h>
#include <stdio.h>
static real *reals(size_t count) /* exactly as many, so that the sanitizer sees every step beside them */
{
    real *p = malloc(count ? count * sizeof(real) : 1);
    if (!p) abort();
    for (size_t i = 0; i < count; i++) p[i] = (real)(i % 7);
    return p;
}
int main(void)
{
    static const size_t sizes[] = {1, 3, 6, 9, 16, 25, 33, 50, 130};
    const size_t count = sizeof sizes / sizeof *sizes;
    for (size_t t = 0; t < 2 * count * count * count; t++) {
        const size_t M = sizes[t / 2 % count], N = sizes[t / 2 / count % count], K = sizes[t / 2 / count / count];
        const int add = t % 2, turned = t % 3 == 0, other = t % 5 < 2;
        real *a = reals(M * K), *b = reals(K * N), *c = reals(M * N), *s = reals(product_scratch(M, N, K));
        real *p = reals(packed_size(K, N));
        const size_t ar = turned ? 1 : K, ac = turned ? M : 1, br = other ? N : 1, bc = other ? 1 : K;
        product(M, N, K, a, ar, ac, b, br, bc, c, N, add, s);
        pack_b(K, N, b, br, bc, p);
        product_packed(M, N, K, a, ar, ac, p, c, N, add);
        ptrdiff_t *rows = malloc(K * sizeof *rows), *columns = malloc(N * sizeof *columns);
        if (!rows || !columns) abort();
        for (size_t k = 0; k < K; k++) rows[k] = (ptrdiff_t)(other ? k * N : k);
        for (size_t n = 0; n < N; n++) columns[n] = (ptrdiff_t)(other ? n : n * K);
        real *s_at = reals(product_at_scratch(M, N, K)), *s_scatter = reals(product_scatter_scratch(M, N, K));
        product_at(M, N, K, a, ar, ac, b, rows, columns, c, N, add, s_at);
        product_scatter(M, N, K, a, ar, ac, c, N, 1, b, rows, columns, s_scatter);
        free(a), free(b), free(c), free(s), free(p), free(rows), free(columns), free(s_at), free(s_scatter);
    }
    puts("done");
    return 0;
}
"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_no_access_beside_a_buffer(compiler: str, dtype: str, tmp_path: Path) -> None:
    command = command_of(compiler)
    (tmp_path / "probe.c").write_text("int main(void) { return 0; }\n")
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    if subprocess.run([*command, *sanitize, "probe.c"], cwd=tmp_path, capture_output=True, check=False).returncode:
        pytest.skip(f"{compiler} has no sanitizers here")
    (tmp_path / "driver.c").write_text(source(dtype, list(EXPORTS)) + DRIVER)
    run([*command, "-std=c99", *sanitize, "-O0", "-march=native", "driver.c", "-o", "driver"], cwd=tmp_path)
    run([str(tmp_path / "driver")], env={"ASAN_OPTIONS": "detect_leaks=0"})
