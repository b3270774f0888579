"""Initialisers: each function's distribution, the text that names it, and that the source stands alone."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import pytest
import sympy as sp

from symbolic.errors import SpecError
from symbolic.initialisers import INITIALISERS, Init, fans, parse_init
from symbolic.program import size


def _run(text: str, shape: tuple[int, ...], sizes: dict[str, int] | None = None, seed: int = 0) -> np.ndarray[Any, Any]:
    """Execute the row's own source, with NumPy alone in sight, as a generated module does."""
    symbols = {name: size(name) for name in sizes or {}}
    init = parse_init(text, symbols, shape=[sp.Integer(extent) for extent in shape])
    values = {size(name): value for name, value in (sizes or {}).items()}
    space: dict[str, Any] = {"np": np}
    exec(init.initialiser.source, space)
    fan_in, fan_out = (int(fan) for fan in fans([sp.Integer(extent) for extent in shape]))
    arguments = [float(argument.xreplace(values)) for argument in init.arguments]
    array = space[init.initialiser.name](np.random.default_rng(seed), shape, fan_in, fan_out, *arguments)
    assert array.shape == shape
    return np.asarray(array)


SHAPE = (120, 80)
VARIANCES = {
    "glorot_uniform": 2 / 200,
    "glorot_normal": 2 / 200,
    "he_uniform": 2 / 80,
    "he_normal": 2 / 80,
    "lecun_uniform": 1 / 80,
    "lecun_normal": 1 / 80,
    "fan_uniform(80)": 1 / 240,
    "uniform": 0.1**2 / 12,
    "normal": 0.05**2,
    "uniform(-2, 4)": 3.0,
    "normal(0, 0.5)": 0.25,
}


@pytest.mark.parametrize("text", VARIANCES)
def test_variance(text: str) -> None:
    array = _run(text, SHAPE)
    # The variance of a sample of 9,600 lies within 10 % by seven standard deviations.
    assert np.var(array) == pytest.approx(VARIANCES[text], rel=0.1)
    assert np.array_equal(array, _run(text, SHAPE))
    assert not np.array_equal(array, _run(text, SHAPE, seed=1))


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("glorot_uniform", (6 / 200) ** 0.5),
        ("he_uniform", (6 / 80) ** 0.5),
        ("lecun_uniform", (3 / 80) ** 0.5),
        ("fan_uniform(2*H)", 0.1),
    ],
)
def test_bounds_of_the_uniform_ones(text: str, bound: float) -> None:
    largest = np.abs(_run(text, SHAPE, {"H": 50})).max()
    assert 0.98 * bound < largest <= bound


@pytest.mark.parametrize(
    ("text", "shape", "want"),
    [
        ("zeros", (2, 3), np.zeros((2, 3))),
        ("constant(0.25)", (), np.float64(0.25)),
        ("constant(-2)", (3,), np.full(3, -2.0)),
        ("forget_gate", (8,), np.array([0, 0, 1, 1, 0, 0, 0, 0])),
        ("forget_gate(3)", (4,), np.array([0, 3, 0, 0])),
        ("identity", (2, 3), np.eye(2, 3)),
        ("identity(0.5)", (2, 2), 0.5 * np.eye(2)),
        ("default", (3,), np.zeros(3)),
    ],
)
def test_fixed_values(text: str, shape: tuple[int, ...], want: Any) -> None:
    assert np.array_equal(_run(text, shape), want)


@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (7, 4), (20, 5), (6, 2, 3)])
@pytest.mark.parametrize("blocks", [1, 2])
def test_orthogonal_blocks(shape: tuple[int, ...], blocks: int) -> None:
    if shape[0] % blocks:
        return
    array = _run(f"orthogonal(1, {blocks})", shape).reshape(blocks, shape[0] // blocks, -1)
    for block in array:
        product = block @ block.T if block.shape[0] <= block.shape[1] else block.T @ block
        assert np.allclose(product, np.eye(len(product)), atol=1e-14)
    assert np.allclose(_run("orthogonal(2)", shape), 2 * _run("orthogonal", shape))


def test_fans_of_a_convolution() -> None:
    assert fans([sp.Integer(n) for n in (6, 4, 5, 3)]) == (60, 90)
    assert fans([sp.Integer(7)]) == (7, 7)
    assert fans([]) == (1, 1)


def test_default_of_a_weight_is_torchs() -> None:
    init = parse_init("default", shape=(size("H"), size("D"), sp.Integer(3)))
    assert str(init) == "fan_uniform(3*D)"


@pytest.mark.parametrize("row", INITIALISERS.values(), ids=lambda row: row.name)
def test_sources_are_one_documented_function(row: Any) -> None:
    tree = ast.parse(row.source).body
    assert len(tree) == 1
    assert isinstance(tree[0], ast.FunctionDef)
    assert tree[0].name == row.name
    names = [argument.arg for argument in tree[0].args.args]
    assert names == ["rng", "shape", "fan_in", "fan_out", *row.arguments]
    assert row.summary.endswith(".")
    assert max(map(len, row.source.splitlines())) <= 110


def test_defaults_fill_in() -> None:
    assert parse_init("normal").arguments == (sp.Float(0.0), sp.Float(0.05))
    assert isinstance(parse_init("uniform(-1)"), Init)
    assert parse_init("uniform(-1)").arguments[0] == -1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("glorot", r"^unknown initialiser 'glorot'; did you mean 'glorot_normal'\?"),
        ("normal(0, 1, 2)", r"^expected normal\(mean, deviation\), found 3 arguments"),
        ("constant", r"^expected constant\(value\), found 0 arguments"),
        ("fan_uniform(Q)", r"unknown size 'Q'"),
        ("normal(", r"^expected an initialiser such as"),
        ("normal(x=1)", r"^expected an initialiser such as"),
        ("__import__('os').system('id')", r"^expected an initialiser such as"),
        ("zeros.__class__", r"^expected an initialiser such as"),
        ("constant(1e999)", r"^expected a finite number"),
        ("constant('a')", r"expected an extent"),
        ("", r"^expected an initialiser such as"),
        ("(" * 5000, r"^expected an initialiser such as"),
    ],
)
def test_bad_texts(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_init(text, {"H": size("H")})
