"""Stable log-sum-exp and softmax (law 16): exponentials that are summed are taken relative to their maximum.

Requires: a tensor ``s`` that sums exponentials ``e = exp(z)``, inline or staged, such that every reader of ``e`` and
``s`` is invariant under a common factor (``e/s``, ``e**2/s**2``, ``exp(z)/s``), or takes ``log(s)``; sums of a staged
``e`` times anything, divided by ``s`` again, count too. Ensures: no exponential exceeds 1 and one of them is 1, so nothing
overflows and no sum is 0:

    m = max(z)  (over the indices and guards of the sum, constant for differentiation)
    e = exp(z - m),  s = sum(e),  log(s) becomes log(s) + m

Law: with f = exp(-m), e and s are multiplied by f; a term of degree 0 in them keeps its value and log(f*s) = log(s) -
m. The value does not depend on m at all, so m is a constant. Where one reader is not invariant, an entry of ``e`` is
in no sum, a factor that is read multiplies the exponential (it may be 0 at the maximum), or the exponent has had a
maximum subtracted already, nothing is changed. It recognises structure: a user's
own log(sum(exp(z))) becomes stable too. Cost: linear.

>>> from symbolic.program import *
>>> import sympy as sp
>>> N, k = size("N"), index("k")
>>> z, s, l = Tensor("z", (N,)), Tensor("s"), Tensor("l")
>>> program = Program("p", (z, s, l), (
...     Equation(s.at(()), sp.exp(z[k]), (Index.over(k, N),), numbers=(1,)),
...     Equation(l.at(()), sp.log(s.at(())), (), numbers=(2,))), {"N": None}, outputs=("l",))
>>> print(*stabilise_sums(program, frozenset({"l"})).equations, sep=chr(10))
(3) s_max[] += max over (k) z[k]    for k=0..N - 1
(1) s[] += exp(z[k] - s_max[])    for k=0..N - 1
(2) l[] += s_max[]    for once
(2) l[] += log(s[])    for once
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Indexed

from symbolic.analysis import is_equal
from symbolic.functions import where
from symbolic.program import (
    Equation,
    IndexName,
    Names,
    Origin,
    Program,
    Reduction,
    Role,
    Tensor,
    index_symbols,
    read,
    tensor_of,
)
from symbolic.rewrite.terms import apply_to_body, is_pointwise, operands, powers, solve, split_terms, substitute, without
from symbolic.rewrite.values import Values

__all__ = ["stabilise_sums"]

NAME = "log_sum_exp"


class _NotInvariantError(Exception):
    """The value would depend on the shift."""


def stabilise_sums(program: Program, keep: frozenset[str]) -> Program:
    """The program with each sum of exponentials taken relative to its maximum, where the law is proved."""
    names = Names.of(program)
    for name in [tensor.name for tensor in program.tensors]:
        if name in keep or name not in program.writers or program.tensor(name).role is not Role.INTERMEDIATE:
            continue
        if not all(e.reduction is Reduction.SUM and e.reduced for e in program.writers[name]):
            continue
        try:
            program = _Group(program, keep, name, names).rewritten()
        except _NotInvariantError:
            continue
    return program


@dataclass(frozen=True)
class _Summand:
    """One equation that writes s: ``rest * exp(exponent)``, where ``staged`` is the equation of e if e is a tensor."""

    equation: Equation
    rest: Expr
    exponent: Expr
    entry: Indexed | None = None
    staged: Equation | None = None
    guards: tuple[sp.Basic, ...] = ()


def _cofactor(staged: Equation | None) -> Expr:
    """What multiplies the exponential in the equation of e."""
    if staged is None:
        return sp.S.One
    return sp.Mul(*(f for f in sp.Mul.make_args(staged.body) if not isinstance(f, sp.exp)))


class _Group:
    """One sum s, its exponentials, and everything that is multiplied by the common factor."""

    def __init__(self, program: Program, keep: frozenset[str], name: str, names: Names) -> None:
        self.program, self.keep, self.s = program, keep, program.tensor(name)
        self.values = Values(program)
        self.summands = [self._summand(e) for e in program.writers[name]]
        wanted = name[:-4] + "_max" if name.endswith("_sum") else f"{name}_max"
        # Until the law is proved the maximum has a provisional name: a fresh one is taken only for a change that is made.
        self.names, self.wanted = names, wanted
        self.max = replace(self.s, name=f"{wanted}?", role=Role.INTERMEDIATE, constant="log-sum-exp", note="")
        # Which axes of a scaled tensor hold the subscripts of the maximum that it is relative to.
        self.scaled: dict[str, tuple[int, ...]] = {}
        self.changed: dict[int, tuple[Equation, ...]] = {}

    # ---- finding ---------------------------------------------------------------------------------------------------

    def _summand(self, equation: Equation) -> _Summand:
        """The exponential of a summand. Raises _NotInvariantError where there is none, or it is shifted already."""
        if not all(part in (i.symbol for i in equation.indices) for part in equation.target.indices):
            raise _NotInvariantError
        for base, power in powers(equation.body).items():
            if isinstance(base, sp.exp) and power == 1:
                return self._unshifted(_Summand(equation, without(equation.body, base), base.args[0], guards=equation.guards))
            if isinstance(base, Indexed) and power == 1 and (found := self._staged(base, equation)) is not None:
                return self._unshifted(found)
        raise _NotInvariantError

    def _staged(self, entry: Indexed, reader: Equation) -> _Summand | None:
        """The exponential behind a staged ``e``: every entry of e that exists must be in the sum."""
        name = tensor_of(entry)
        tensor, writers = self.program.tensor(name), self.program.writers.get(name, ())
        if name in self.keep or tensor.is_index or tensor.constant or len(writers) != 1 or not is_pointwise(writers[0]):
            return None
        (writer,) = writers
        exponentials = [b for b, power in powers(writer.body).items() if isinstance(b, sp.exp) and power == 1]
        if len(exponentials) != 1 or not all(part.is_Symbol for part in writer.target.indices):
            return None
        values = solve(writer.target.indices, entry.indices, frozenset(i.symbol for i in writer.indices))
        if values is None or len(set(entry.indices)) < len(entry.indices):
            return None
        summed = {i.symbol: i for i in reader.indices}
        for i in writer.indices:
            over = summed.get(values[i.symbol])
            if over is None or not self._same_range(i.lower, i.upper, over.lower, over.upper):
                return None
        inner = tuple(substitute(guard, values) for guard in writer.guards)
        if not set(reader.guards) <= set(inner):
            return None
        return _Summand(reader, without(reader.body, entry), substitute(exponentials[0].args[0], values), entry, writer, inner)

    def _same_range(self, lower: Expr, upper: Expr, other_lower: Expr, other_upper: Expr) -> bool:
        return is_equal(lower, other_lower, self.program) and is_equal(upper, other_upper, self.program)

    def _unshifted(self, summand: _Summand) -> _Summand:
        """Raises _NotInvariantError where a maximum is subtracted already, or the exponent does not vary over the sum."""
        for entry in operands(summand.exponent):
            writers = self.program.writers.get(tensor_of(entry), ())
            if any(writer.reduction is Reduction.MAX for writer in writers):
                raise _NotInvariantError
        if not any(i.symbol in index_symbols(summand.exponent) for i in summand.equation.reduced):
            raise _NotInvariantError
        # The term at the maximum must not be 0, or the shifted sum underflows where the plain one is fine: a factor that is
        # read (a mask by multiplication) may be 0 there.
        parts = [summand.rest] if summand.entry is None else [summand.rest, _cofactor(summand.staged)]
        if any(operands(part) or index_symbols(part) or part == 0 for part in parts):
            raise _NotInvariantError
        return summand

    # ---- proving and rewriting -------------------------------------------------------------------------------------

    def rewritten(self) -> Program:
        """The program with the maximum subtracted. Raises _NotInvariantError where a reader forbids it."""
        self.scaled[self.s.name] = tuple(range(self.s.rank))
        waiting = [self.s.name]
        for summand in self.summands:
            waiting += self._shift_exponential(summand)
        logarithms = 0
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.keep:
                raise _NotInvariantError
            for reader in self.program.readers.get(name, ()):
                if id(reader) in self.changed or any(reader is s.equation and s.staged is not None for s in self.summands):
                    continue
                grown, found = self._reader(reader)
                logarithms += found
                waiting += grown
        self._all_writers_scaled()
        return self._assembled()

    def _shift_exponential(self, summand: _Summand) -> list[str]:
        equation = summand.equation
        here = equation.target.indices
        if summand.staged is None:
            body = summand.rest * sp.exp(summand.exponent - self.max.at(here))
            self.changed[id(equation)] = (apply_to_body(equation, body, NAME),)
            return []
        assert summand.entry is not None
        writer, entry = summand.staged, summand.entry
        name = tensor_of(entry)
        places = []
        for part in here:
            if part not in entry.indices:
                raise _NotInvariantError
            places.append(entry.indices.index(part))
        if self.scaled.setdefault(name, tuple(places)) != tuple(places):
            raise _NotInvariantError
        exponential = next(b for b in powers(writer.body) if isinstance(b, sp.exp))
        shifted = sp.exp(exponential.args[0] - self.max.at([writer.target.indices[p] for p in places]))
        self.changed[id(writer)] = (apply_to_body(writer, without(writer.body, exponential) * shifted, NAME),)
        return [name]

    def _reader(self, reader: Equation) -> tuple[list[str], int]:
        """Check one reader; note what it becomes. Returns tensors that are scaled because of it, and logarithms found."""
        rows, grown, logarithms = [], [], 0
        split = split_terms(reader, NAME) if self._has_logarithm(reader.body) else (reader,)
        for part in split:
            body, degree, at = self._scale(part.body)
            if degree:
                grown.append(self._grow(part, degree, at))
                if body != part.body:
                    raise _NotInvariantError
                rows.append(part)
                continue
            if body == part.body:
                rows.append(part)
                continue
            logarithms += 1
            rows += split_terms(apply_to_body(reader, body, NAME), NAME)
        if len(rows) > 1:
            rows.sort(key=lambda row: row.body.has(sp.log))
        if rows != [reader]:
            self.changed[id(reader)] = tuple(rows)
        return grown, logarithms

    def _has_logarithm(self, body: Expr) -> bool:
        return any(tensor_of(e) in self.scaled for log in body.atoms(sp.log) for e in operands(log))

    def _grow(self, reader: Equation, degree: Expr, at: tuple[Expr, ...]) -> str:
        """The target of a reader of degree 1 is itself multiplied by the factor."""
        tensor = self.program.tensor(reader.name)
        if degree != 1 or reader.reduction is not Reduction.SUM or reader.name in self.keep or tensor.constant:
            raise _NotInvariantError
        subscripts = reader.target.indices
        if not all(part in subscripts and isinstance(part, IndexName) for part in at):
            raise _NotInvariantError
        places = tuple(subscripts.index(part) for part in at)
        if self.scaled.setdefault(reader.name, places) != places:
            raise _NotInvariantError
        return reader.name

    def _all_writers_scaled(self) -> None:
        """Every equation that writes a scaled tensor is of degree 1, and nothing else hangs on one. Raises _NotInvariantError."""
        own: set[int] = set()
        for summand in self.summands:
            own |= {id(summand.equation), id(summand.staged)}
            self._free_of_scaled(summand.rest, summand.exponent)
            if summand.staged is not None:
                self._free_of_scaled(summand.staged.body)
        for name in self.scaled:
            for reader in self.program.readers.get(name, ()):
                self._free_of_scaled(*(side for guard in reader.guards for side in guard.args))
            for writer in self.program.writers[name]:
                if id(writer) in own:
                    continue
                _, degree, at = self._scale(writer.body)
                if degree != 1 or tuple(writer.target.indices[p] for p in self.scaled[name]) != at:
                    raise _NotInvariantError

    def _free_of_scaled(self, *parts: Expr) -> None:
        if any(tensor_of(entry) in self.scaled for part in parts for entry in operands(part)):
            raise _NotInvariantError

    def _scale(self, expr: Expr) -> tuple[Expr, Expr, tuple[Expr, ...]]:
        """``(expr in terms of the shifted tensors, its degree in the factor, the subscripts of the factor)``."""
        nothing: tuple[Expr, ...] = ()
        if isinstance(expr, Indexed):
            places = self.scaled.get(tensor_of(expr))
            if places is None:
                return expr, sp.Integer(0), nothing
            return expr, sp.Integer(1), tuple(expr.indices[p] for p in places)
        if not expr.args or not any(tensor_of(e) in self.scaled for e in operands(expr)):
            return expr, sp.Integer(0), nothing
        parts = [self._scale(part) for part in expr.args]
        at = self._one([place for _, degree, place in parts if degree])
        degrees = [degree for _, degree, _ in parts]
        made = (
            expr.func(*(part for part, _, _ in parts))
            if any(p[0] is not a for p, a in zip(parts, expr.args, strict=True))
            else expr
        )
        if expr.is_Mul:
            total = sum(degrees, sp.Integer(0))
            if total == -1 and (exponential := next((a for a in made.args if isinstance(a, sp.exp)), None)) is not None:
                shifted = sp.exp(exponential.args[0] - self.max.at(at))
                return without(made, exponential) * shifted, sp.Integer(0), nothing
            return made, total, at if total else nothing
        if expr.is_Add:
            if len(set(degrees)) > 1:
                raise _NotInvariantError
            return made, degrees[0], at if degrees[0] else nothing
        if expr.is_Pow and not degrees[1] and expr.exp.is_number:
            return made, degrees[0] * expr.exp, at
        if isinstance(expr, where) and not degrees[0]:
            branches = {d for d, part in zip(degrees[1:], expr.args[1:], strict=True) if part != 0}
            if len(branches) > 1:
                raise _NotInvariantError
            (degree,) = branches or {sp.Integer(0)}
            return made, degree, at if degree else nothing
        if isinstance(expr, sp.log) and degrees[0]:
            return made + degrees[0] * self.max.at(at), sp.Integer(0), nothing
        if any(degrees):
            raise _NotInvariantError
        return made, sp.Integer(0), nothing

    def _one(self, places: Iterable[tuple[Expr, ...]]) -> tuple[Expr, ...]:
        found = list(dict.fromkeys(places))
        if len(found) > 1:
            raise _NotInvariantError
        return found[0] if found else ()

    # ---- the new program -------------------------------------------------------------------------------------------

    def _assembled(self) -> Program:
        final = replace(self.max, name=self.names.fresh(self.wanted))
        number = self.program.next_number
        maxima = []
        for summand in self.summands:
            equation = summand.equation
            origin = Origin(NAME, (summand.staged or equation).numbers, text=equation.origin.text, where=equation.origin.where)
            maxima.append(
                replace(
                    equation,
                    target=final.at(equation.target.indices),
                    body=summand.exponent,
                    guards=summand.guards,
                    reduction=Reduction.MAX,
                    numbers=(number,),
                    origin=origin,
                )
            )
        first = {id(s.staged or s.equation) for s in self.summands} | {id(s.equation) for s in self.summands}
        rows: list[Equation] = []
        for equation in self.program.equations:
            if id(equation) in first and maxima:
                rows += maxima
                maxima = []
            made = self.changed.get(id(equation), (equation,))
            rows += [self._named(row, final) for row in made]
        rows = _logarithms_last(rows, {row.name for k in self.changed.values() for row in k})
        tensors = list(self.program.tensors)
        tensors.insert(tensors.index(self.s), final)
        return self.program.with_equations(rows, tensors)

    def _named(self, equation: Equation, final: Tensor) -> Equation:
        rule = {e: read(final.name, e.indices) for e in operands(equation.body) if tensor_of(e) == self.max.name}
        return replace(equation, body=equation.body.xreplace(rule)) if rule else equation


def _logarithms_last(rows: list[Equation], names: set[str]) -> list[Equation]:
    """Of the contributions to one entry, ``log(s)`` comes last: ``(m - z) + log(s)`` is exact where m and z are large."""
    for name in sorted(names):
        places = [k for k, row in enumerate(rows) if row.name == name]
        if len(places) > 1 and any(rows[k].body.has(sp.log) for k in places):
            ordered = sorted((rows[k] for k in places), key=lambda row: row.body.has(sp.log))
            for k, row in zip(places, ordered, strict=True):
                rows[k] = row
    return rows
