"""The meaning of the IR: a naive interpreter that computes entries on demand and knows no schedule.

An entry is the reduction of all instances that write it; a read outside the bounds is 0; an index read outside its declared
range is nowhere, and a read through it is 0. Values must agree before and after every pass.
"""

from __future__ import annotations

import itertools
import math
import operator
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import sympy as sp
from sympy import Expr, Indexed
from sympy.core.relational import Relational

from symbolic.errors import ProgramError
from symbolic.functions import Unspecified, row_of
from symbolic.program import Equation, Program, Reduction, is_index_read, size, tensor_of

__all__ = ["evaluate"]

Env = dict[Any, int]
Thunk = Callable[[Env], Any]
NOWHERE = None
_RELATIONS = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}


def evaluate(
    program: Program, values: Mapping[str, Any], sizes: Mapping[str, int], wanted: Iterable[str],
    functions: Mapping[str, Sequence[Callable[[Any], Any]]] = MappingProxyType({}),
) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of the tensors ``wanted``, each of the tensor's shape (margins left out).

    ``values`` gives every parameter and input that is read; ``sizes`` every size that the program leaves free. Numbers may be
    complex (for the complex step). ``functions`` gives a meaning to those that the spec leaves unspecified: name -> the function,
    its derivative, the second one, as far as the program has them. Raises ProgramError where an entry depends on itself, or a
    value or a function is missing.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        machine = _Machine(program, values, sizes, functions)
        return {name: machine.array(name) for name in wanted}
    finally:
        sys.setrecursionlimit(limit)


class _Machine:
    def __init__(
        self, program: Program, values: Mapping[str, Any], sizes: Mapping[str, int],
        functions: Mapping[str, Sequence[Callable[[Any], Any]]],
    ) -> None:
        self.program, self.functions = program, functions
        self.sizes: Env = {size(n): v for n, v in program.sizes.items() if v is not None}
        self.sizes.update({size(n): int(v) for n, v in sizes.items()})
        self.integers = {symbol: sp.Integer(value) for symbol, value in self.sizes.items()}
        self.values = {
            name: np.asarray(value).tolist() if np.ndim(value) == 0 else np.asarray(value) for name, value in values.items()
        }
        self.memo: dict[str, dict[tuple[int, ...], Any]] = {}
        self.instances: dict[str, dict[tuple[int, ...], list[tuple[_Compiled, Env]]]] = {}
        self.bounds: dict[str, tuple[tuple[int, int], ...]] = {}

    def number(self, expr: Expr) -> int:
        value = sp.sympify(expr).xreplace(self.integers)
        if not value.is_Integer:
            raise ProgramError(f"{self.program.name}: the extent {expr} is no integer; give a value for each size")
        return int(value)

    def array(self, name: str) -> np.ndarray[Any, Any]:
        tensor = self.program.tensor(name)
        shape = tuple(self.number(extent) for extent in tensor.shape)
        cells = [self.entry(name, place) for place in itertools.product(*map(range, shape))]
        if tensor.is_index:
            return np.array([-1 if c is NOWHERE else c for c in cells], dtype=np.int64).reshape(shape)
        return np.array(cells).reshape(shape)

    def bound(self, name: str) -> tuple[tuple[int, int], ...]:
        if name not in self.bounds:
            tensor = self.program.tensor(name)
            self.bounds[name] = tuple(
                tuple(map(self.number, tensor.bounds(axis))) for axis in range(tensor.rank)  # type: ignore[misc]
            )
        return self.bounds[name]

    def get(self, name: str, place: tuple[int | None, ...]) -> Any:
        """A read: 0 (for an index tensor: nowhere) outside the bounds."""
        for at, (lower, upper) in zip(place, self.bound(name), strict=True):
            if at is NOWHERE or not lower <= at < upper:
                return NOWHERE if self.program.tensor(name).is_index else 0
        value = self.entry(name, place)  # type: ignore[arg-type]
        tensor = self.program.tensor(name)
        if tensor.is_index and value is not NOWHERE:
            lower = self.number(tensor.low)
            if value < lower or (tensor.below is not None and value >= self.number(tensor.below)):
                return NOWHERE
        return value

    def entry(self, name: str, place: tuple[int, ...]) -> Any:
        if name in self.values:
            value = self.values[name]
            return value[place].item() if isinstance(value, np.ndarray) else value
        memo = self.memo.setdefault(name, {})
        if place in memo:
            if memo[place] is _PENDING:
                raise ProgramError(f"{self.program.name}: the entry {name}{list(place)} depends on itself")
            return memo[place]
        if name not in self.program.writers:
            if self.program.tensor(name).role in ("parameter", "input"):
                raise ProgramError(f"{self.program.name}: no value was given for '{name}'")
            return 0
        memo[place] = _PENDING
        memo[place] = self.reduce(name, place)
        return memo[place]

    def reduce(self, name: str, place: tuple[int, ...]) -> Any:
        rows = self.table(name).get(place, ())
        kind = self.program.writers[name][0].reduction
        if kind is Reduction.SUM:
            terms = [c.body(env) for c, env in rows if c.holds(env)]
            if any(isinstance(t, complex) for t in terms):
                return sum(terms)
            return math.fsum(terms) if all(map(math.isfinite, terms)) else sum(terms)
        best: Any = None
        argument: Any = NOWHERE
        for compiled, env in rows:
            if not compiled.holds(env):
                continue
            value = compiled.body(env)
            if best is None or _real(value) > _real(best) or (_real(value) != _real(value) and best == best):
                best, argument = value, env.get(compiled.equation.component)
        if kind is Reduction.ARGMAX:
            return argument
        return 0 if best is None else best

    def table(self, name: str) -> dict[tuple[int, ...], list[tuple[_Compiled, Env]]]:
        """All instances that write a tensor, by the entry they write."""
        if name not in self.instances:
            found: dict[tuple[int, ...], list[tuple[_Compiled, Env]]] = {}
            for equation in self.program.writers[name]:
                compiled = _Compiled(equation, self)
                for env in compiled.domain():
                    place = tuple(part(env) for part in compiled.target)
                    if NOWHERE not in place:
                        found.setdefault(place, []).append((compiled, env))
            self.instances[name] = found
        return self.instances[name]

    # ---- expressions as closures ---------------------------------------------------------------------------------

    def compile(self, expr: Any) -> Thunk:
        expr = sp.sympify(expr)
        if expr.is_Integer:
            value: Any = int(expr)
            return lambda env: value
        if expr.is_number and not expr.args:
            value = float(expr)
            return lambda env: value
        if isinstance(expr, Indexed):
            return self.compile_read(expr)
        if expr.is_Symbol:
            return lambda env: env[expr]
        if isinstance(expr, Relational):
            relation = _RELATIONS[expr.rel_op]
            left, right = self.compile(expr.lhs), self.compile(expr.rhs)

            def compare(env: Env) -> bool:
                a, b = left(env), right(env)
                return a is not NOWHERE and b is not NOWHERE and bool(relation(_real(a), _real(b)))

            return compare
        parts = [self.compile(part) for part in expr.args]
        if expr.is_Add:
            return lambda env: _sum(p(env) for p in parts)
        if expr.is_Mul:
            return lambda env: _product(p(env) for p in parts)
        if expr.is_Pow:
            base, exponent = parts
            return lambda env: _power(base(env), exponent(env))
        if isinstance(expr, sp.floor):
            (inner,) = parts
            return lambda env: math.floor(inner(env))
        if isinstance(expr, sp.ceiling):
            (inner,) = parts
            return lambda env: math.ceil(inner(env))
        row = row_of(expr)
        if row is None:
            raise ProgramError(f"{self.program.name}: no meaning for {type(expr).__name__} in {expr}")
        function = self.given(expr) if isinstance(expr, Unspecified) else row.value
        if row.name == "where":  # the branch that is not taken must not be computed: it may divide by zero
            condition, yes, no = parts
            return lambda env: yes(env) if _real(condition(env)) != 0 else no(env)
        return lambda env: function(*(p(env) for p in parts))

    def given(self, expr: Unspecified) -> Callable[[Any], Any]:
        """The meaning that the caller gives to an unspecified function or its derivative."""
        name, order = expr.base, expr.order
        orders = self.functions.get(name, ())
        if order >= len(orders):
            several = ", ".join((name, "df", *(f"d{k}f" for k in range(2, order + 1)))[: order + 1])
            raise ProgramError(
                f"{self.program.name}: no meaning for {type(expr).__name__} in {expr}, as the spec leaves '{name}' unspecified; "
                f"give functions={{'{name}': ({several}{',' * (order == 0)})}}, the function and its derivatives in order")
        return orders[order]

    def compile_read(self, entry: Indexed) -> Thunk:
        name, parts = tensor_of(entry), [self.compile_subscript(part) for part in entry.indices]
        return lambda env: self.get(name, tuple(p(env) for p in parts))

    def compile_subscript(self, expr: Expr) -> Thunk:
        """A subscript is nowhere (None) as soon as an index read in it is."""
        inner = self.compile(expr) if not any(is_index_read(r) for r in expr.atoms(Indexed)) else None
        if inner is not None:
            return inner
        found = sorted(expr.atoms(Indexed), key=sp.default_sort_key)
        dummies = {r: sp.Dummy(integer=True) for r in found}
        thunks = {dummies[r]: self.compile_read(r) for r in found}
        rest = self.compile(expr.xreplace(dummies))

        def call(env: Env) -> Any:
            local = {symbol: thunk(env) for symbol, thunk in thunks.items()}
            return NOWHERE if NOWHERE in local.values() else rest({**env, **local})

        return call


class _Compiled:
    """One equation as closures."""

    def __init__(self, equation: Equation, machine: _Machine) -> None:
        self.equation, self.machine = equation, machine
        self.body = machine.compile(equation.body)
        self.guards = [machine.compile(g) for g in equation.guards]
        self.target = [machine.compile_subscript(part) for part in equation.target.indices]

    def holds(self, env: Env) -> bool:
        return all(g(env) for g in self.guards)

    def domain(self) -> Iterable[Env]:
        symbols = [i.symbol for i in self.equation.indices]
        ranges = [range(self.machine.number(i.lower), self.machine.number(i.upper)) for i in self.equation.indices]
        for point in itertools.product(*ranges):
            yield {**self.machine.sizes, **dict(zip(symbols, point, strict=True))}


_PENDING: Any = object()


def _real(x: Any) -> Any:
    return x.real if isinstance(x, complex) else x


def _sum(parts: Iterable[Any]) -> Any:
    return sum(parts)


def _product(parts: Iterable[Any]) -> Any:
    result: Any = 1
    for part in parts:
        result = result * part
    return result


def _power(base: Any, exponent: Any) -> Any:
    try:
        value = base**exponent
    except (ZeroDivisionError, OverflowError):
        return math.inf
    if isinstance(value, complex) and not (isinstance(base, complex) or isinstance(exponent, complex)):
        return math.nan  # real numbers stay real: the root of a negative one is none
    return value
