"""The scalar functions of the C target: errors in ulp, special values, kinks, and that loops over them vectorise.

sweep_functions.py is the bench, and has the sweep of all float32 inputs.
"""

from __future__ import annotations

import functools
import itertools
import math
import platform
import subprocess
from collections.abc import Callable

import numpy as np
import pytest

from symbolic.functions import FUNCTIONS
from tests.sweep_functions import INLINE, LIBRARY, WARNINGS, Bench, build, compilers, float64_points, pasted, sections

BOUND = 4.0
"""The largest error in ulp; functions.c says what was found."""

FOUND = compilers()
DTYPES = ("float32", "float64")
X86 = platform.machine() in ("x86_64", "AMD64")
FAST = "-O3 -march=native" if X86 else "-O3"
BUILDS = [(name, flags) for name in FOUND for flags in ("-O0", FAST)]
BUILDS += [(name, flags) for name in FOUND if X86 and name != "zig" for flags in ("-O3", f"{FAST} -ffp-contract=fast")]
WIDE = np.finfo(np.longdouble).nmant >= 63
"""Whether long double can be the truth of float64."""

pytestmark = pytest.mark.skipif(not FOUND, reason="no C compiler")

nan, inf = math.nan, math.inf

CALLS = {
    **dict.fromkeys((*INLINE, *LIBRARY, "square", "abs", "relu", "sign"), 1),
    **dict.fromkeys(("max2", "min2", "pow", "gt", "ge", "lt", "le", "eq", "ne"), 2), "clip": 3, "where": 3,
}
"""Function -> number of arguments."""
INNER = {"bits", "select", "power_of_two", "fma", "exp_reduced", "exp_minus", "log_reduced", "log_parts"}
"""Sections that others need, without a function for an emitter."""

LOOPS = """
#define N 64
void fused(const real *restrict a, const real *restrict c0, real *restrict c, real *restrict h);
void fused(const real *restrict a, const real *restrict c0, real *restrict c, real *restrict h)
{
    for (size_t k = 0; k < N; k++) {
        const real i = real_sigmoid(a[k]), f = real_sigmoid(a[k + N]);
        const real g = real_tanh(a[k + 2 * N]), o = real_sigmoid(a[k + 3 * N]);
        c[k] = f * c0[k] + i * g;
        const real tanh_c = real_tanh(c[k]);
        h[k] = o * tanh_c;
    }
}
void followed(const real *restrict a, real *restrict y, size_t n);
void followed(const real *restrict a, real *restrict y, size_t n)
{
    for (size_t k = 0; k < n; k++)
        y[k] = 2 * real_relu(a[k]) + 3 * real_gt(a[k], 1) + 1 / (1 + real_clip(a[k], 0, 1)) + 5 * real_sign(a[k]);
}
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Callable[[str, str, str], Bench]:
    """The functions of (compiler, flags, dtype), each built once."""

    @functools.cache
    def built(compiler: str, flags: str, dtype: str) -> Bench:
        return build(tmp_path_factory.mktemp("functions"), FOUND[compiler], flags.split(), dtype)

    return built


def first() -> str:
    return next(iter(FOUND))


def hold(name: str, error: float, where: float, points: str) -> None:
    assert error <= BOUND, f"{name}({where!r}) = {name}({float(where).hex()}) is {error} ulp off ({points})"


@pytest.mark.parametrize("name", INLINE)
def test_float32_everywhere(bench, name):
    stride = 67  # odd, so that the last bits vary
    hold(name, *bench(first(), FAST, "float32").sweep(name, 0, stride, 2**32 // stride), f"stride {stride}")


@pytest.mark.skipif(not WIDE, reason="long double is double")
@pytest.mark.parametrize("name", INLINE)
def test_float64_where_it_is_hard(bench, name):
    for points, x in float64_points(200_000):
        hold(name, *bench(first(), FAST, "float64").worst(name, x), points)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("compiler", "flags"), BUILDS)
def test_every_compiler(bench, compiler, flags, dtype):
    b = bench(compiler, flags, dtype)
    for name in (*INLINE, *LIBRARY):
        if dtype == "float32":
            stride = 20011
            hold(name, *b.sweep(name, 0, stride, 2**32 // stride), f"stride {stride}")
        elif WIDE:
            for points, x in float64_points(4_000):
                hold(name, *b.worst(name, x), points)


def test_the_bench_sees_an_error(bench):
    x = np.array([0.5, 1.0, nan, inf, -800.0], np.float32)
    b = bench(first(), FAST, "float32")
    y = b.apply("exp", x)
    assert b.error("exp", x, y)[0] < 1.5
    for position, wrong in enumerate((y[0] + 3 * np.spacing(y[0]), 0, 1, 3e38, -0.0)):
        z = y.copy()
        z[position] = wrong
        error, where = b.error("exp", x, z)
        np.testing.assert_equal(where, float(x[position]))
        assert error > 2 if position == 0 else error > 1e6


SPECIAL = [
    ("exp", ((0.0, 1.0), (-0.0, 1.0), (inf, inf), (-inf, 0.0), (800.0, inf), (-800.0, 0.0), (1e30, inf), (-1e30, 0.0))),
    ("expm1", ((0.0, 0.0), (-0.0, -0.0), (inf, inf), (-inf, -1.0), (800.0, inf), (-800.0, -1.0), (-1e-40, -1e-40))),
    ("tanh", ((0.0, 0.0), (-0.0, -0.0), (inf, 1.0), (-inf, -1.0), (30.0, 1.0), (-30.0, -1.0), (1e-40, 1e-40), (-1e-40, -1e-40))),
    ("sigmoid", ((0.0, 0.5), (-0.0, 0.5), (inf, 1.0), (-inf, 0.0), (800.0, 1.0), (-800.0, 0.0))),
    ("log", ((1.0, 0.0), (0.0, -inf), (-0.0, -inf), (inf, inf), (-inf, nan), (-1.0, nan), (-1e-40, nan))),
    ("log1p", ((0.0, 0.0), (-0.0, -0.0), (-1.0, -inf), (-1.5, nan), (inf, inf), (-inf, nan), (1e-40, 1e-40), (-1e-40, -1e-40))),
    ("softplus", ((0.0, math.log(2)), (inf, inf), (-inf, 0.0), (800.0, 800.0), (-800.0, 0.0), (1e30, 1e30))),
    ("log_sigmoid", ((0.0, -math.log(2)), (inf, -0.0), (-inf, -inf), (800.0, -0.0), (-800.0, -800.0), (-1e30, -1e30))),
    ("sqrt", ((0.0, 0.0), (-0.0, -0.0), (4.0, 2.0), (inf, inf), (-1.0, nan))),
    ("square", ((-3.0, 9.0), (inf, inf))),
    ("abs", ((-0.0, 0.0), (-inf, inf), (-2.0, 2.0))),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compiler", FOUND)
def test_special_values(bench, compiler, dtype):
    """As IEEE 754 and libm have them, with the sign of a zero."""
    for name, pairs in SPECIAL:
        x, expected = (np.array(column, dtype) for column in zip(*pairs, (nan, nan), strict=True))
        np.testing.assert_array_equal(got := bench(compiler, FAST, dtype).apply(name, x), expected, name)
        zero = expected == 0
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(expected[zero]), f"{name}: sign of 0 at {x[zero]}")


POINTS = [-2.5, -1.0, -1e-40, -0.0, 0.0, 1e-40, 0.5, 1.0, 3.0]
WITHOUT_LIMITS = [*POINTS, inf, -inf, nan]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [
    "relu", "sign", "absolute", "square", "max2", "min2", "clip", "where", "gt", "ge", "lt", "le", "eq", "ne",
])
def test_kinks(bench, name, dtype):
    """The value column of the table for numbers; the NumPy column for infinities and NaN too."""
    row = FUNCTIONS[name]
    call = "abs" if name == "absolute" else name
    for points, values in ((POINTS, row.value), (WITHOUT_LIMITS, None)):
        columns = [np.array(c, dtype) for c in zip(*itertools.product(points, repeat=row.arity), strict=True)]
        if values is None:
            names = dict(zip("abc", columns, strict=False))
            with np.errstate(invalid="ignore"):
                expected = eval(row.numpy.format(*names), {"np": np}, names)
        else:
            expected = [values(*map(float, arguments)) for arguments in zip(*columns, strict=True)]
        got = bench(first(), FAST, dtype).apply(call, *columns)
        np.testing.assert_array_equal(got, np.asarray(expected, dtype), str(row.name))


@pytest.mark.parametrize("name", ["max2", "min2"])
def test_ties_go_to_the_first_argument(bench, name):
    got = bench(first(), FAST, "float32").apply(name, [0.0, -0.0], [-0.0, 0.0])
    assert np.signbit(got).tolist() == [False, True]


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers(bench, dtype):
    x, y = (np.array(c, dtype) for c in zip(*itertools.product((0.3, 1.0, 2.5, 7.0), (-2.0, -0.5, 0.0, 0.5, 3.0)), strict=True))
    np.testing.assert_allclose(bench(first(), FAST, dtype).apply("pow", x, y), x**y, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compiler", [name for name in FOUND if name != "zig"])
def test_each_section_alone(compiler, dtype, tmp_path):
    """With what it needs, and its function used, a file of one section has no unused function and no missing one."""
    assert {*sections()} == {*CALLS, *INNER}
    for name, arity in CALLS.items():
        arguments = ", ".join("xyz"[:arity])
        parameters = ", ".join(f"real {a}" for a in "xyz"[:arity])
        use = f"real use({parameters});\nreal use({parameters})\n{{\n    return real_{name}({arguments});\n}}\n"
        (tmp_path / f"{name}.c").write_text(pasted([name], dtype) + use)
    command = [*FOUND[compiler], *WARNINGS, "-fsyntax-only", *(str(tmp_path / f"{name}.c") for name in CALLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not X86, reason="flags of x86")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", ["-mavx2 -mfma", "-march=skylake-avx512", "-mavx"])
@pytest.mark.parametrize("compiler", [name for name in FOUND if name != "zig"])
def test_loops_vectorise(compiler, target, dtype, tmp_path):
    """A loop over each function that is computed here, the loop of an LSTM's gates, and arithmetic after a kink."""
    names = (*INLINE, "sqrt", "square", "abs", "relu", "sign")
    loops = "".join(
        f"void loop_{name}(const real *restrict x, real *restrict y, size_t n);\n"
        f"void loop_{name}(const real *restrict x, real *restrict y, size_t n)\n"
        f"{{\n    for (size_t i = 0; i < n; i++)\n        y[i] = real_{name}(x[i]);\n}}\n"
        for name in names
    )
    source = tmp_path / "loops.c"
    source.write_text(pasted([*names, "gt", "clip"], dtype) + loops + LOOPS)
    report = ("-fopt-info-vec",) if compiler == "gcc" else ("-Rpass=loop-vectorize",)
    command = [*FOUND[compiler], "-std=c99", "-O3", *target.split(), *report, "-c", str(source), "-o", str(tmp_path / "loops.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = source.read_text().splitlines()
    found = {int(line.split(":")[1]) for line in done.stderr.splitlines() if "vectorized" in line}
    missed = [
        "\n".join(lines[i - 3:i + 3]) for i, line in enumerate(lines)
        if line.startswith("    for (") and not found & set(range(i + 1, i + 3))
    ]
    assert not missed, "\n".join(missed)
