"""The largest errors of codegen/c/templates/functions.c, over all float32 inputs and many float64 ones.

    python -m tests.sweep_functions

It takes a quarter of an hour; test_c_functions.py uses the same bench on fewer inputs. Errors are in ulp of the true value
(of the smallest subnormal number where that is larger). libm in double stands for the truth of float32, in long double for
that of float64.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TEXT = Path(__file__).resolve().parent.parent / "codegen" / "c" / "templates" / "functions.c"
INLINE = ("exp", "tanh", "sigmoid", "log", "expm1", "log1p", "softplus", "log_sigmoid")
"""The functions that are computed in the text."""
LIBRARY = ("sqrt", "sin", "cos", "tan", "sinh", "cosh", "atan", "erf")
"""The functions that libm computes."""

WARNINGS = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")

HEAD = """
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
typedef {real} real;
#define REAL_IS_FLOAT {is_float}
#define EXTENSIONS 1
"""

BENCH = """
#if REAL_IS_FLOAT
typedef double wide;
#define W(name) name
#define SMALLEST FLT_MIN_EXP
#define DIGITS FLT_MANT_DIG
#define LARGEST FLT_MAX_EXP
#else
typedef long double wide;
#define W(name) name##l
#define SMALLEST DBL_MIN_EXP
#define DIGITS DBL_MANT_DIG
#define LARGEST DBL_MAX_EXP
#endif

#define LOOP(name) \\
    static void loop_##name(const real *restrict x, real *restrict y, size_t n) \\
    { for (size_t i = 0; i < n; i++) y[i] = real_##name(x[i]); } \\
    void apply_##name(const real *x, real *y, size_t n); \\
    void apply_##name(const real *x, real *y, size_t n) { loop_##name(x, y, n); }

/* The error in ulp of the true value; infinite where one is NaN and the other is not, or a zero has the wrong sign. */
static double error(real y, wide truth)
{
    const wide top = W(ldexp)(1, LARGEST);
    int e;
    if (truth != truth || y != y)
        return truth != truth && y != y ? 0 : HUGE_VAL;
    if (truth == 0)
        return y == 0 && !signbit(y) == !signbit(truth) ? 0 : HUGE_VAL;
    const wide t = truth > top ? top : truth < -top ? -top : truth;
    const wide v = y > top ? top : y < -top ? -top : y;
    (void)W(frexp)(t, &e);
    e = t == top || t == -top ? LARGEST : e;
    const wide off = W(ldexp)(v - t, DIGITS - (e < SMALLEST ? SMALLEST : e));
    return (double)(off < 0 ? -off : off);
}

#define WORST(name, truth) \\
    double worst_##name(const real *x, const real *y, size_t n, size_t *where); \\
    double worst_##name(const real *x, const real *y, size_t n, size_t *where) \\
    { \\
        double worst = -1; \\
        for (size_t i = 0; i < n; i++) { \\
            const wide w = x[i]; \\
            const double e = error(y[i], truth); \\
            if (e > worst) { worst = e; *where = i; } \\
        } \\
        return worst; \\
    } \\
    double sweep_##name(uint64_t start, uint64_t stride, uint64_t count, double *where); \\
    double sweep_##name(uint64_t start, uint64_t stride, uint64_t count, double *where) \\
    { \\
        enum { BLOCK = 1024 }; \\
        real x[BLOCK], y[BLOCK]; \\
        double worst = -1; \\
        for (uint64_t i = 0; i < count; i += BLOCK) { \\
            for (size_t k = 0; k < BLOCK; k++, start += stride) { \\
                const real_uint u = (real_uint)start; \\
                memcpy(&x[k], &u, sizeof u); \\
            } \\
            loop_##name(x, y, BLOCK); \\
            size_t at = 0; \\
            const double e = worst_##name(x, y, BLOCK, &at); \\
            if (e > worst) { worst = e; *where = x[at]; } \\
        } \\
        return worst; \\
    }

#define SMOOTH(name, truth) LOOP(name) WORST(name, truth)
SMOOTH(exp, W(exp)(w))
SMOOTH(tanh, W(tanh)(w))
SMOOTH(sigmoid, 1 / (1 + W(exp)(-w)))
SMOOTH(log, W(log)(w))
SMOOTH(expm1, W(expm1)(w))
SMOOTH(log1p, W(log1p)(w))
SMOOTH(softplus, (w < 0 ? 0 : w) + W(log1p)(W(exp)(-W(fabs)(w))))
SMOOTH(log_sigmoid, -((w > 0 ? 0 : -w) + W(log1p)(W(exp)(-W(fabs)(w)))))
SMOOTH(sqrt, W(sqrt)(w))
SMOOTH(sin, W(sin)(w))
SMOOTH(cos, W(cos)(w))
SMOOTH(tan, W(tan)(w))
SMOOTH(sinh, W(sinh)(w))
SMOOTH(cosh, W(cosh)(w))
SMOOTH(atan, W(atan)(w))
SMOOTH(erf, W(erf)(w))
LOOP(square)
LOOP(abs)
LOOP(relu)
LOOP(sign)

#define LOOP2(name) \\
    void apply_##name(const real *a, const real *b, real *y, size_t n); \\
    void apply_##name(const real *a, const real *b, real *y, size_t n) \\
    { for (size_t i = 0; i < n; i++) y[i] = real_##name(a[i], b[i]); }
LOOP2(max2)
LOOP2(min2)
LOOP2(pow)
LOOP2(gt)
LOOP2(ge)
LOOP2(lt)
LOOP2(le)
LOOP2(eq)
LOOP2(ne)

#define LOOP3(name) \\
    void apply_##name(const real *a, const real *b, const real *c, real *y, size_t n); \\
    void apply_##name(const real *a, const real *b, const real *c, real *y, size_t n) \\
    { for (size_t i = 0; i < n; i++) y[i] = real_##name(a[i], b[i], c[i]); }
LOOP3(clip)
LOOP3(where)
"""


def sections() -> dict[str, tuple[tuple[str, ...], str]]:
    """Name -> what it needs, its text; in the order of the file."""
    found: dict[str, tuple[tuple[str, ...], str]] = {}
    parts = re.split(r"(?m)^/\* === section (\w+): needs ([\w, ]+) === \*/\n", TEXT.read_text())
    for name, needs, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        assert name not in found, name
        found[name] = (tuple(need for need in needs.split(", ") if need not in ("nothing", "extensions")), text)
    return found


def pasted(names: Iterable[str], dtype: str) -> str:
    """What an emitter pastes into a file that uses these functions."""
    known = sections()
    wanted: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.add(name)
            queue += known[name][0]
    head = HEAD.format(real="float" if dtype == "float32" else "double", is_float=int(dtype == "float32"))
    return head + "".join(text for name, (_, text) in known.items() if name in wanted)


def compilers() -> dict[str, tuple[str, ...]]:
    """The compilers of this machine."""
    found = {name: (path,) for name in ("gcc", "clang") if (path := shutil.which(name))}
    if importlib.util.find_spec("ziglang") is not None:
        found["zig"] = (sys.executable, "-m", "ziglang", "cc")
    return found


@dataclass(frozen=True)
class Bench:
    """The functions of one dtype, compiled."""

    library: ctypes.CDLL
    dtype: str

    def apply(self, name: str, *columns: np.ndarray | Sequence[float]) -> np.ndarray:
        arrays = [np.ascontiguousarray(c, self.dtype) for c in columns]
        y = np.empty_like(arrays[0])
        call = getattr(self.library, f"apply_{name}")
        call.argtypes = [ctypes.c_void_p] * (len(arrays) + 1) + [ctypes.c_size_t]
        call.restype = None
        call(*(a.ctypes.data for a in arrays), y.ctypes.data, y.size)
        return y

    def worst(self, name: str, x: np.ndarray) -> tuple[float, float]:
        """The largest error in ulp over x, and where."""
        return self.error(name, x, self.apply(name, x))

    def error(self, name: str, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        """The largest error of y as the function of x, and where."""
        x = np.ascontiguousarray(x, self.dtype)
        where = ctypes.c_size_t()
        call = getattr(self.library, f"worst_{name}")
        call.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        call.restype = ctypes.c_double
        return call(x.ctypes.data, y.ctypes.data, x.size, ctypes.addressof(where)), float(x[where.value])

    def sweep(self, name: str, start: int, stride: int, count: int) -> tuple[float, float]:
        """The largest error over the reals with the bits start, start + stride, ..., and where."""
        where = ctypes.c_double()
        call = getattr(self.library, f"sweep_{name}")
        call.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p]
        call.restype = ctypes.c_double
        return call(start, stride, count, ctypes.addressof(where)), where.value


def build(folder: Path, compiler: Sequence[str], flags: Sequence[str], dtype: str) -> Bench:
    """The bench of a dtype, compiled without a warning."""
    source, library = folder / "bench.c", folder / "bench.so"
    source.write_text(pasted(sections(), dtype) + BENCH)
    command = [*compiler, *WARNINGS, *flags, "-shared", "-fPIC", str(source), "-o", str(library), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return Bench(ctypes.CDLL(str(library)), dtype)


def float64_points(count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Where float64 functions are hard: about ``count`` points each."""
    rng = np.random.default_rng(0)
    yield "any bits", rng.integers(0, 2**64, count, np.uint64).view(np.float64)
    for low, high in ((-1.0, 1.0), (-40.0, 40.0), (-750.0, 750.0), (0.0, 3.0)):
        yield f"{low} to {high}", rng.uniform(low, high, count)
    sizes = np.exp2(rng.uniform(-80, 12, count))
    yield "near 0", np.where(rng.integers(0, 2, count) == 1, sizes, -sizes)
    yield "near 1", 1 + rng.choice((-1.0, 1.0), count) * np.exp2(rng.uniform(-54, 0, count))
    yield "near -1", -1 + np.exp2(rng.uniform(-54, 0, count))
    for edge in (709.78, -708.4, -745.13, 745.13, 36.7, -36.7, 19.06):
        yield f"near {edge}", edge + rng.uniform(-0.5, 0.5, count // 8)
    halves = (rng.integers(-1075, 1025, count // 2) + 0.5) * math.log(2) * (1 + rng.uniform(-1, 1, count // 2) * 2.0**-30)
    yield "between powers of two", np.concatenate((halves, halves / 2))
    yield "subnormal", rng.integers(0, 2**53, count // 2, np.uint64).view(np.float64)
    yield "near sqrt(2) 2^k", np.exp2(rng.integers(-1074, 1024, count // 2) + 0.5 + rng.uniform(-1, 1, count // 2) * 2.0**-20)


def main() -> None:
    """Print the largest error of each function."""
    count = 4_000_000
    compiler = next(iter(compilers().values()))
    choices = {"fma": ("-O3", "-march=native"), "no fma": ("-O3",)}
    for label, flags in choices.items():
        with tempfile.TemporaryDirectory() as folder:
            bench = build(Path(folder), compiler, flags, "float32")
            for name in INLINE:
                error, where = bench.sweep(name, 0, 1, 2**32)
                sys.stdout.write(f"float32 {label} {name}: {error:.3f} ulp at {where!r} ({where.hex()})\n")
                sys.stdout.flush()
        with tempfile.TemporaryDirectory() as folder:
            bench = build(Path(folder), compiler, flags, "float64")
            for name in INLINE:
                error, where, label_of = max((*bench.worst(name, x), points) for points, x in float64_points(count))
                sys.stdout.write(f"float64 {label} {name}: {error:.3f} ulp at {where!r} ({where.hex()}, {label_of})\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
