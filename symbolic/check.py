"""The checker of the IR: what every Program must satisfy, after the parser and after every pass.

It refuses what has no meaning (an undeclared index, an unknown tensor, a relation inside a body, two kinds of
reduction in one target) and what zero extension would hide (a bare subscript that leaves its axis, a quotient by a
read that may be out of bounds). A fault names the equation and says what was expected. The laws are in docs/ir.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import sympy as sp
from sympy import Expr, Indexed
from sympy.core.relational import Relational

from symbolic.analysis import affine, at_most, in_bounds, index_reads
from symbolic.errors import ProgramError, nearest
from symbolic.functions import row_of, where
from symbolic.program import (
    Equation,
    IndexName,
    Program,
    Reduction,
    Role,
    Size,
    index_symbols,
    is_index_read,
    operands,
    reads,
    tensor_of,
)

__all__ = ["check", "plain_cycle"]


def check(program: Program, parsed: bool = False) -> Program:
    """The program itself, if it is legal. Raises ProgramError with the equation and the law that it breaks.

    ``parsed``: the parser has held bare subscripts to their axes, by the text, where ``k+0`` is a composite one.
    """
    _check_tensors(program)
    for equation in program.equations:
        _Checker(program, equation).run(parsed)
    _check_reductions(program)
    _check_promises(program)
    _check_cycles(program)
    return program


def _fail(program: Program, message: str) -> NoReturn:
    raise ProgramError(f"{program.name}: {message}", law=message)


# ---- tensors -----------------------------------------------------------------------------------------------------------


def _check_tensors(program: Program) -> None:
    seen: set[str] = set()
    for tensor in program.tensors:
        if tensor.name in seen:
            _fail(program, f"two tensors are named '{tensor.name}'")
        seen.add(tensor.name)
        if len(tensor.margin) != tensor.rank or any(min(pair) < 0 for pair in tensor.margin):
            _fail(
                program,
                f"tensor {tensor}: expected a margin (before, after) of at least 0 for each of {tensor.rank} axes, found "
                f"{tensor.margin}",
            )
        for extent in tensor.shape:
            _check_extent(program, extent, f"tensor {tensor}")
            if extent.is_number and not extent.is_nonnegative:
                _fail(program, f"tensor {tensor}: expected extents of at least 0, found {extent}")
        if tensor.is_index and tensor.role is Role.INPUT and tensor.below is None:
            _fail(program, f"tensor {tensor}: an input of indices needs a bound (below), so that the door can check it")
        for bound in (tensor.low, tensor.below):
            if bound is not None:
                _check_extent(program, bound, f"tensor {tensor}")
        if tensor.role in (Role.PARAMETER, Role.INPUT) and tensor.name in program.writers:
            writer = program.writers[tensor.name][0]
            _fail(
                program,
                f"({writer.number}) {writer.target}: '{tensor.name}' is of role {tensor.role}; "
                "it is given, no equation may write it",
            )


def _check_extent(program: Program, extent: Any, where_: str) -> None:
    extent = sp.sympify(extent)
    for symbol in sorted(extent.free_symbols, key=str):
        if not isinstance(symbol, Size):
            _fail(program, f"{where_}: expected an extent of sizes and integers, found '{symbol}' in {extent}")
        if symbol.name not in program.sizes:
            _fail(program, f"{where_}: unknown size '{symbol}'{nearest(str(symbol), program.sizes)}")


# ---- equations ---------------------------------------------------------------------------------------------------------


class _Checker:
    """The checks of one equation."""

    def __init__(self, program: Program, equation: Equation) -> None:
        self.program, self.equation = program, equation
        self.declared = [i.symbol for i in equation.indices]

    def fail(self, message: str) -> NoReturn:
        origin = self.equation.origin.where
        place = f"{origin}: " if origin is not None else ""
        law = f"{message}\n    {self.equation}"
        raise ProgramError(f"{self.program.name}: {place}{law}", law=law, where=origin)

    def run(self, parsed: bool) -> None:
        self.domain()
        self.entry(self.equation.target)
        self.expression(self.equation.body)
        for guard in self.equation.guards:
            if not isinstance(guard, Relational):
                self.fail(f"expected guards that are comparisons, found {guard}")
            self.expression(guard.lhs)
            self.expression(guard.rhs)
        self.kind()
        if self.equation.origin.rule == "spec":
            if not parsed:
                self.bare_subscripts()
            self.borders()
            self.index_values()

    def domain(self) -> None:
        if len(set(self.declared)) < len(self.declared):
            self.fail("an index is declared twice in the domain")
        for i in self.equation.indices:
            for bound in (i.lower, i.upper):
                _check_extent(self.program, bound, f"({self.equation.number}) index {i.name}")
        used = frozenset().union(*(index_symbols(p) for p in (self.equation.target, self.equation.body, *self.equation.guards)))
        for symbol in sorted(used - set(self.declared), key=str):
            self.fail(f"index '{symbol}' has no range: it is not in the domain")

    def entry(self, entry: Indexed) -> None:
        name = tensor_of(entry)
        if name not in self.program:
            self.fail(f"no tensor named '{name}'{nearest(name, [t.name for t in self.program.tensors])}")
        tensor = self.program.tensor(name)
        if len(entry.indices) != tensor.rank:
            self.fail(f"'{name}' has {tensor.rank} axes, found {len(entry.indices)} subscripts in {entry}")
        if is_index_read(entry) != tensor.is_index:
            self.fail(f"'{name}' holds {tensor.kind} numbers and is read as the other kind")
        for part in entry.indices:
            if affine(part) is None:
                self.fail(f"expected an affine subscript such as t-1, 2*u+p or tok[t,n], found {part} in {entry}")
            for inner in part.atoms(Indexed):
                if not is_index_read(inner):
                    self.fail(f"the real tensor '{tensor_of(inner)}' stands in a subscript of {entry}; expected an index tensor")
        for inner in index_reads(entry.indices):
            self.entry(inner)

    def expression(self, expr: Any) -> None:
        """A scalar expression: reads, numbers, indices, sizes, sums, products, powers and the functions of the table."""
        if isinstance(expr, Indexed):
            self.entry(expr)
            return
        if isinstance(expr, IndexName | Size):
            return
        if not isinstance(expr, Expr):
            self.fail(f"expected a scalar expression, found {type(expr).__name__} {expr} in it")
        if expr.is_number and not expr.args:
            if not expr.is_finite:
                self.fail(f"expected finite numbers, found {expr}")
            return
        known = expr.is_Add or expr.is_Mul or expr.is_Pow or row_of(expr) is not None
        if not known and not isinstance(expr, sp.floor | sp.ceiling):
            self.fail(f"'{type(expr).__name__}' is not in the table of functions: {expr}")
        for part in expr.args:
            self.expression(part)

    def kind(self) -> None:
        equation, tensor = self.equation, self.program.tensor(self.equation.name)
        if equation.reduction is Reduction.ARGMAX:
            if not tensor.is_index or equation.component not in [i.symbol for i in equation.reduced]:
                self.fail("the argument of a maximum is one of its reduced indices, written to an index tensor")
        elif tensor.is_index:
            self.fail(f"'{tensor.name}' holds indices; only the argument of a maximum writes such a tensor")
        elif equation.component is not None:
            self.fail("a component belongs to the argument of a maximum alone")

    def bare_subscripts(self) -> None:
        """Law 5: an index that stands bare on an axis runs over it, or over a part of it."""
        ranges = {i.symbol: i for i in self.equation.indices}
        for entry in (self.equation.target, *self.equation.reads):
            tensor = self.program.tensor(tensor_of(entry))
            for axis, part in enumerate(entry.indices):
                if not isinstance(part, IndexName):
                    continue
                lower, upper = tensor.bounds(axis)
                over = ranges[part]
                if not (at_most(lower, over.lower, self.program) and at_most(over.upper, upper, self.program)):
                    self.fail(
                        f"index '{part}' runs over {over.lower}..{over.upper - 1} and stands bare in {entry}, whose axis "
                        f"{axis} is {lower}..{upper - 1}; only composite subscripts may leave their bounds"
                    )

    def borders(self) -> None:
        """Law 5: a body that is not finite where a read is out of bounds, and so 0, needs a guard."""
        if self.equation.guards or self.equation.body.has(where):
            return
        for entry in self.equation.reads:
            if is_index_read(entry) or in_bounds(entry, self.equation, self.program):
                continue
            if self.equation.body.xreplace({entry: sp.Integer(0)}).has(sp.zoo, sp.nan, sp.oo):
                self.fail(f"{entry} may be out of bounds, where it is 0 and the term is not finite; guard the term")


    def index_values(self) -> None:
        """Law 8: what is nowhere has no value, so that a term may compute with an index only where a guard speaks of it."""
        guards = self.equation.guards
        for entry in operands(self.equation.body):
            if not is_index_read(entry) or any(entry in reads(guard) for guard in guards):
                continue
            ignored = self.program.tensor(tensor_of(entry)).ignore
            if ignored is not None:
                self.fail(f"{entry} may be {ignored}, which is ignored and no value; guard the term: ({entry} != {ignored})*")
            if not guards and not in_bounds(entry, self.equation, self.program):
                self.fail(f"{entry} may be out of bounds, where it has no value; guard the term")


# ---- the whole ---------------------------------------------------------------------------------------------------------


def _check_reductions(program: Program) -> None:
    """Law 6: one target, one kind of reduction."""
    for name, rows in program.writers.items():
        kinds = sorted({str(row.reduction) for row in rows})
        if len(kinds) > 1:
            _fail(program, f"'{name}' is reduced in {len(kinds)} ways ({' and '.join(kinds)}); expected one kind for one target")


def _check_promises(program: Program) -> None:
    """The loss, outputs, links and derivatives exist and have the right shapes."""
    if program.loss:
        tensor = _known(program, program.loss, "the loss")
        if tensor.rank or tensor.is_index:
            _fail(program, f"expected a real loss without axes, found {tensor}")
    for name in program.outputs:
        _known(program, name, "an output")
    for output, given in program.links.items():
        a, b = _known(program, output, "a link"), _known(program, given, "a link")
        if b.role is not Role.INPUT or a.shape != b.shape:
            _fail(program, f"a link leads from an output to an input of its shape, found {a} -> {b}")
    for what, table in (("adjoint", program.gradients), ("tangent", program.tangents)):
        for name, derived in table.items():
            a, b = _known(program, name, f"the {what} of a tensor"), _known(program, derived, f"an {what}")
            if a.shape != b.shape:
                _fail(program, f"expected the {what} of {a} to have its shape, found {b}")


def _known(program: Program, name: str, what: str) -> Any:
    if name not in program:
        _fail(program, f"{what}: no tensor named '{name}'{nearest(name, [t.name for t in program.tensors])}")
    return program.tensor(name)


def _check_cycles(program: Program) -> None:
    """No entry depends on itself, as far as a cycle without shifts shows it; cycles with shifts are the scheduler's to judge."""
    found = plain_cycle(program.equations)
    if found is not None:
        names, equation = found
        _fail(program, f"a cyclic definition: {' <- '.join(names)} with no shift on any axis\n    {equation}")


def plain_cycle(equations: Iterable[Equation]) -> tuple[list[str], Equation] | None:
    """Tensors that need each other with no shift on any axis, the first repeated at the end, and the equation of the first.

    Law: where every subscript is bare (or 0), every index starts at 0 and no guard holds instances off, entry [0,...,0]
    reads entry [0,...,0]; a cycle of such reads has no value.
    """
    needs: dict[str, dict[str, Equation]] = {}
    for equation in equations:
        if equation.guards or any(i.lower != 0 for i in equation.indices) or not _at_origin(equation.target.indices):
            continue
        for entry in equation.reads:
            if _at_origin(entry.indices):
                needs.setdefault(equation.name, {}).setdefault(tensor_of(entry), equation)
    done: set[str] = set()
    for root in needs:
        path, rest, on_path = [root], [iter(needs[root])], {root}
        while path and root not in done:
            following = next(rest[-1], None)
            if following is None:
                on_path.discard(path[-1])
                done.add(path.pop())
                rest.pop()
            elif following in on_path:
                cycle = [*path[path.index(following) :], following]
                return cycle, needs[cycle[0]][cycle[1]]
            elif following in needs and following not in done:
                path.append(following)
                on_path.add(following)
                rest.append(iter(needs[following]))
    return None


def _at_origin(subscripts: Iterable[Expr]) -> bool:
    return all(isinstance(part, IndexName) or part == 0 for part in subscripts)
