"""FLOPs and bytes: two counts that share nothing agree, and the formulas are those of everybody."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

from symbolic import gradient, load
from symbolic.cost import cost, equation_bytes, equation_flops, operations, readable
from symbolic.functions import row_of
from symbolic.program import Equation, Program, Scalar, Size, reads, size, tensor_of

SMALL: dict[str, int] = {"T": 3, "N": 2, "V": 4, "H": 3, "E": 2, "D": 3, "C": 2, "K": 2}


class Counted:
    """A number that counts the operations made with it."""

    count = 0

    def __init__(self, value: float) -> None:
        self.value = value

    def _made(self, cost: int = 1) -> Counted:
        Counted.count += cost
        return Counted(self.value)

    def __add__(self, other: object) -> Counted:
        return self._made()

    __radd__ = __add__

    def __mul__(self, other: object) -> Counted:
        return self._made(0 if other == -1 else 1)

    __rmul__ = __mul__


def executed(equation: Equation, sizes: dict[str, int], further: bool) -> int:
    """Operations met when every instance is computed one by one, by a walk that knows nothing of ``operations``."""
    numbers = {s: sp.Integer(sizes[s.name]) for s in equation.body.free_symbols if isinstance(s, Size)}
    ranges = []
    for i in equation.indices:
        rule = {s: sp.Integer(sizes[s.name]) for bound in (i.lower, i.upper) for s in bound.free_symbols}
        ranges.append(range(int(i.lower.xreplace(rule)), int(i.upper.xreplace(rule))))
    Counted.count = 0
    for _ in itertools.product(*ranges):
        value = run(equation.body.xreplace(numbers))
        if equation.reduced or further:
            Counted.count += 1
        assert value is not None
    return Counted.count


def run(expr: Any) -> Any:
    """Evaluate with counted numbers; the values are of no interest."""
    if expr in reads(expr) or isinstance(expr, Scalar) or expr.is_Symbol or not expr.args:
        return -1 if expr == -1 else Counted(1.0)
    parts = [run(part) for part in expr.args]
    if expr.is_Add or expr.is_Mul:
        total, *rest = sorted(parts, key=lambda p: isinstance(p, int))  # a sign last: it is free
        for part in rest:
            total = total + part if expr.is_Add else total * part
        return total
    if expr.is_Pow:
        exponent = expr.exp
        if exponent.is_Integer:
            base, power, squares = parts[0], abs(int(exponent)), []
            while power > 1:  # binary powering, one multiplication for a square and one for each further bit
                squares.append(base)
                Counted.count += 1
                power //= 2
            Counted.count += abs(int(exponent)).bit_count() - 1
            Counted.count += int(exponent) < 0
            return base
        Counted.count += 8 + int(bool(exponent.is_negative))
        return parts[0]
    row = row_of(expr)
    Counted.count += row.cost if row else 1
    return Counted(1.0)


def programs(specs: Path) -> list[Program]:
    found = []
    for name in ("char_rnn", "lstm_lm", "gru_classifier", "second_order", "leaky_integrator", "minimal_gated_unit", "scalar"):
        model = load(specs / f"{name}.yaml")
        found.append(gradient(model.program()))
    return found


def test_two_counts_agree_on_every_equation(specs: Path) -> None:
    checked = 0
    for program in programs(specs):
        sizes = {name: SMALL.get(name, 3) for name in program.sizes}
        rule = {s: sp.Integer(v) for s, v in ((sp.sympify(e), sizes[str(e)]) for e in _sizes(program))}
        seen: set[str] = set()
        for equation in program.equations:
            further = equation.name in seen
            seen.add(equation.name)
            counted = equation_flops(equation, further).xreplace(rule)
            assert counted == executed(equation, sizes, further), str(equation)
            checked += 1
    assert checked > 150


def _sizes(program: Program) -> set[Any]:
    return {
        symbol
        for equation in program.equations
        for i in equation.indices
        for bound in (i.lower, i.upper)
        for symbol in bound.free_symbols
    }


def test_a_product_of_matrices_is_two_m_n_k() -> None:
    model = load("y[m,n] = a[m,k]*b[k,n]\nv = sum(y[m,n], over=(m,n))", inputs={"b": ["K", "N"]},
                 parameters={"a": ["M", "K"]}, loss={"prediction": "v"})
    product = model.program().equations[0]
    assert str(equation_flops(product)) == "2*K*M*N"
    sizes = {symbol: sp.Integer(value) for symbol, value in zip(map(size, "MKN"), (3, 5, 7), strict=True)}
    assert equation_bytes(product, model.program(), 4).xreplace(sizes) == 4 * (3 * 7 + 3 * 5 + 5 * 7)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("w[k]", 0), ("-w[k]", 0), ("w[k] - x[k]", 1), ("w[k]*x[k]", 1), ("w[k]/x[k]", 2), ("w[k]**2", 1), ("w[k]**3", 2),
        ("w[k]**8", 3), ("w[k]**15", 6), ("tanh(w[k])", 8), ("relu(w[k])", 1), ("1 - tanh(w[k])**2", 10), ("sqrt(w[k])", 8),
    ],
)  # fmt: skip
def test_operations(text: str, count: int) -> None:
    model = load(f"y[k] = {text}\nv = sum(y[k], over=k)", inputs={"x": ["K"]}, parameters={"w": ["K"]}, loss={"prediction": "v"})
    assert sum(operations(e.body) + (i > 0) for i, e in enumerate(model.program().writers["y"])) == count


def test_cost_is_symbolic_in_free_sizes_and_a_number_where_all_are_fixed(specs: Path) -> None:
    program = load(specs / "mlp.yaml").program()
    found = cost(program)
    assert {str(s) for s in found.flops.free_symbols} == {"N"}
    assert found.at({"N": 7}).flops.is_Integer
    weights = 784 * 128 + 128 * 64 + 64 * 10
    assert 2 * weights <= found.at({"N": 1}).flops <= 2.1 * weights
    parameters = sum(np.prod([int(e) for e in t.shape]) for t in program.parameters)
    assert found.at({"N": 1}).memory >= 4 * parameters


def test_the_backward_pass_costs_two_to_three_forward_ones(specs: Path) -> None:
    for name in ("mlp", "char_rnn", "lstm_lm"):
        program = load(specs / f"{name}.yaml").program()
        sizes = {"T": 20, "N": 16}
        ratio = float(cost(gradient(program)).at(sizes).flops / cost(program).at(sizes).flops)
        assert 2.0 <= ratio <= 4.0


def test_doubles_take_twice_the_bytes_of_reals_alone(specs: Path) -> None:
    program = load(specs / "second_order.yaml").program()
    assert sp.expand(cost(program, 8).memory - 2 * cost(program, 4).memory) == 0


def test_memory_counts_each_tensor_once(specs: Path) -> None:
    program = load(specs / "scalar.yaml").program()
    assert cost(program).memory == 4 * len({tensor_of(r) for e in program.equations for r in (e.target, *e.reads)})


@pytest.mark.parametrize(
    ("expr", "text"), [("0", "0"), ("9999", "9999"), ("12345", "12.3k"), ("3*N", "3*N"), ("1234567*N*T + 8", "1.23M*N*T + 8"),
                       ("N - 4", "N - 4"), ("2000000000", "2G")])
def test_readable(expr: str, text: str) -> None:
    assert readable(sp.sympify(expr, locals={"N": sp.Symbol("N"), "T": sp.Symbol("T")})) == text
