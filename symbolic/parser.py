"""Equation text to Equations: a whitelist over Python's ``ast``; nothing in the text is ever evaluated.

    a[t,n,i] = W[i,k]*x[t,n,k] + U[i,j]*h[t-1,n,j] + b[i]
    h[t,n,i] = tanh(a[t,n,i])

Each product term of a right-hand side is one Equation and sums over its own indices that are missing on the left. Inside a
function or a power a missing index is reduced openly, ``sum(e, over=k)``, ``mean(e, over=k)``, ``max(e, over=(p, q))``, and
staged in a tensor of its own; left out, it is an error that shows both readings. A comparison as a factor is a guard.
The grammar is in docs/equations.md.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp
from sympy import Expr, Indexed

from symbolic.errors import EquationError, Location, nearest
from symbolic.functions import ALIASES, COMPARISONS, FUNCTIONS, lookup, where
from symbolic.program import (
    Equation,
    Index,
    IndexName,
    Origin,
    Reduction,
    Tensor,
    index,
    index_symbols,
    read,
    reads,
    tensor_of,
)

__all__ = ["Parsed", "Scope", "parse", "parse_extent"]

MAX_TEXT = 100_000
MAX_DEPTH = 80
MAX_EXPONENT = 64
REDUCERS = ("sum", "mean", "max")
NOT_DIFFERENTIABLE = ("floor", "ceil", "round", "int", "mod", "rint", "trunc", "argmax", "argmin")


@dataclass(frozen=True)
class Scope:
    """What names in a text mean.

    ``prefix`` is put before every name that the text defines; ``tensors`` maps local names to tensors that exist;
    ``sizes`` local names to extents; ``ranges`` an index to its extent or (lower, upper); ``fixed`` sizes to their values (so
    that V and 65 are the same extent where V = 65).
    """

    prefix: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    sizes: Mapping[str, Expr] = field(default_factory=dict)
    ranges: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[Any, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Parsed:
    """What a text defines: new intermediate tensors, and its equations in order."""

    tensors: tuple[Tensor, ...]
    equations: tuple[Equation, ...]


def parse(text: str, scope: Scope, where: Location | None = None, first_number: int = 1) -> Parsed:
    """The equations of a text. Raises EquationError with line, column and a caret."""
    return _Parser(text, scope, where or Location("<equations>"), first_number).run()


def parse_extent(value: int | str, sizes: Mapping[str, Expr], where: Location | None = None) -> Expr:
    """An extent such as ``T+1``, ``2*H`` or ``floor((L-K)/S)+1`` over known sizes. Raises EquationError."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise EquationError(f"expected an extent (an integer or an expression of sizes), found {value!r}", where=where)
    if isinstance(value, int):
        return sp.Integer(value)
    source = _Source(value, where or Location("<extent>"))
    tree = source.tree("eval")

    def build(node: ast.AST) -> Expr:
        match node:
            case ast.Constant(value=int() as number) if not isinstance(number, bool):
                return sp.Integer(number)
            case ast.Name(id=name):
                if name in sizes:
                    return sp.sympify(sizes[name])
                raise source.error(node, f"unknown size '{name}'{nearest(name, sizes)}")
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -build(operand)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return build(left) + build(right)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return build(left) - build(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return build(left) * build(right)
            case ast.BinOp(left=left, op=ast.Div() | ast.FloorDiv() as op, right=right):
                quotient = build(left) / build(right)
                return sp.floor(quotient) if isinstance(op, ast.FloorDiv) else quotient
            case ast.Call(func=ast.Name(id="floor" | "ceil" as name), args=[argument], keywords=[]):
                return (sp.floor if name == "floor" else sp.ceiling)(build(argument))
        raise source.error(node, "expected an extent: integers, sizes, + - * // floor(...) ceil(...)")

    return build(tree.body)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Source:
    """A text with its place; turns syntax-tree positions into errors with a caret."""

    text: str
    where: Location

    def tree(self, mode: str = "exec") -> Any:
        if len(self.text) > MAX_TEXT:
            raise EquationError(f"expected at most {MAX_TEXT} characters, found {len(self.text)}", where=self.where)
        if "\0" in self.text:
            raise EquationError("expected text, found a zero byte", where=self.where)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's hints on odd but legal text; our own errors follow
                tree = ast.parse(self.text.strip() if mode == "eval" else self.text, mode=mode)
        except SyntaxError as error:
            line = (error.text or "").rstrip("\n") or self.line(error.lineno or 1)
            offset = max(0, min((error.offset or 1) - 1, len(line)))
            place = replace(self.where, line=self.where.line + (error.lineno or 1) - 1,
                            column=self.where.column + offset)
            raise EquationError(f"not an equation: {error.msg}", where=place, line=line, offset=offset) from None
        except (RecursionError, MemoryError, ValueError) as error:
            raise EquationError(f"expected an equation, found text too large or too deep ({type(error).__name__})",
                                where=self.where) from None
        self._limit_depth(tree)
        return tree

    def _limit_depth(self, tree: ast.AST) -> None:
        level: list[ast.AST] = [tree]
        for _ in range(3 * MAX_DEPTH):
            level = [child for node in level for child in ast.iter_child_nodes(node)]
            if not level:
                return
        raise EquationError(f"expected an equation, found brackets or terms nested more than {MAX_DEPTH} deep",
                            where=self.where)

    def line(self, number: int) -> str:
        lines = self.text.splitlines() or [""]
        return lines[min(number, len(lines)) - 1]

    def place(self, node: ast.AST) -> tuple[Location, str, int]:
        number, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        line = self.line(number)
        offset = len(line.encode()[:offset].decode(errors="ignore"))
        return replace(self.where, line=self.where.line + number - 1, column=self.where.column + offset), line, offset

    def error(self, node: ast.AST, message: str) -> EquationError:
        place, line, offset = self.place(node)
        return EquationError(message, where=place, line=line, offset=offset)


@dataclass
class _Term:
    """One product term while it is read: its factor, guards, the reduction, and the indices reduced openly."""

    node: ast.AST
    body: Expr
    guards: list[Any] = field(default_factory=list)
    reduction: Reduction = Reduction.SUM
    over: tuple[IndexName, ...] | None = None


@dataclass
class _Line:
    """One equation to be: target, terms, and where it stands. Staged reductions are lines of their own."""

    node: ast.AST
    name: str
    subscripts: tuple[Expr, ...]
    bare: tuple[IndexName | None, ...]
    terms: list[_Term]
    text: str
    number: int
    staged: bool = False
    adds: bool = False


class _Parser:
    """One run over one text. Lines are read first; then shapes and ranges are unified; then equations are built."""

    def __init__(self, text: str, scope: Scope, where: Location, first_number: int) -> None:
        self.source, self.scope, self.number = _Source(text, where), scope, first_number
        self.lines: list[_Line] = []
        self.shapes: dict[str, tuple[Expr, ...]] = {}
        self.bare: dict[tuple[int, Indexed], tuple[IndexName | None, ...]] = {}
        self.extents: dict[sp.Dummy, tuple[_Line, tuple[IndexName, ...]]] = {}
        self.taken = set(scope.tensors) | set(scope.sizes)
        self.locals: dict[str, int] = {}

    # ---- reading -------------------------------------------------------------------------------------------------

    def run(self) -> Parsed:
        tree = self.source.tree()
        targets = [statement for statement in tree.body]
        if not targets:
            raise EquationError("expected at least one equation, found none", where=self.source.where)
        for statement in targets:
            self._declare(statement)
        for statement in targets:
            self._statement(statement)
        self._infer_shapes()
        return self._build()

    def _declare(self, statement: ast.stmt) -> None:
        """Collect the names that the text defines, so that order does not matter."""
        match statement:
            case ast.Assign(targets=[target]) | ast.AugAssign(target=target, op=ast.Add()):
                base = target.value if isinstance(target, ast.Subscript) else target
                name = self._dotted(base)
                if name in self.scope.sizes:
                    raise self.source.error(target, f"'{name}' is a size and cannot be defined by an equation")
                if lookup(name) or name in REDUCERS:
                    raise self.source.error(target, f"'{name}' is a function and cannot be defined by an equation")
                rank = len(self._subscript_nodes(target))
                known = self.scope.tensors.get(name)
                if known is not None and known.rank != rank:
                    raise self.source.error(target, self._rank_message(name, known.rank, rank))
                if self.locals.setdefault(name, rank) != rank:
                    raise self.source.error(
                        target, f"'{name}' is defined with {rank} subscripts here and {self.locals[name]} elsewhere"
                    )
                self.taken.add(name)
            case _:
                raise self.source.error(statement, "expected an equation 'name[indices] = expression'")

    def _statement(self, statement: Any) -> None:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        base = target.value if isinstance(target, ast.Subscript) else target
        name = self._dotted(base)
        subscripts, bare = self._subscripts(target)
        text = ast.get_source_segment(self.source.text, statement) or ""
        line = _Line(statement, name, subscripts, bare, [], text, self.number, adds=isinstance(statement, ast.AugAssign))
        self.number += 1
        carried = frozenset().union(*(index_symbols(part) for part in subscripts)) if subscripts else frozenset()
        for sign, node in self._split(statement.value):
            line.terms.append(self._term(node, sign, line, carried))
        if any(term.reduction is Reduction.MAX for term in line.terms) and len(line.terms) > 1:
            line.terms = [self._stage_term(term, line) if term.reduction is Reduction.MAX else term
                          for term in line.terms]
        self.lines.append(line)

    def _split(self, node: ast.AST, sign: int = 1) -> Iterable[tuple[int, ast.AST]]:
        """The terms of a sum, left to right, through brackets."""
        match node:
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
                yield from self._split(left, sign)
                yield from self._split(right, sign if isinstance(op, ast.Add) else -sign)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                yield from self._split(operand, -sign)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                yield from self._split(operand, sign)
            case _:
                yield sign, node

    def _factors(self, node: ast.AST) -> Iterable[ast.AST]:
        match node:
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                yield from self._factors(left)
                yield from self._factors(right)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Compare() | ast.BinOp(op=ast.Mult()) as operand):
                yield ast.copy_location(ast.Constant(-1), node)
                yield from self._factors(operand)
            case _:
                yield node

    def _term(self, node: ast.AST, sign: int, line: _Line, carried: frozenset[IndexName]) -> _Term:
        factors = list(self._factors(node))
        plain = [f for f in factors if not isinstance(f, ast.Compare)]
        guards = [g for f in factors if isinstance(f, ast.Compare) for g in self._guards(f)]
        reducers = [f for f in plain if self._reducer(f)]
        others = [f for f in plain if f not in reducers]
        if len(reducers) == 1 and all(isinstance(f, ast.Constant) for f in others):
            kind = self._reducer(reducers[0])
            scale = sp.prod([self._value(f, line) for f in others], start=sp.Integer(sign))
            if kind != "max" or (scale == 1 and not guards):
                return self._open(reducers[0], line, scale, guards, carried)
        body = sp.Integer(sign)
        for factor in plain:
            body = body * self._value(factor, line)
        term = _Term(node, body, guards)
        self._no_hidden_reduction(term, plain, carried, line)
        return term

    def _reducer(self, node: ast.AST) -> str:
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in REDUCERS and (name != "max" or node.keywords):
                return name
        return ""

    def _open(
        self, node: Any, line: _Line, scale: Expr, guards: list[Any], carried: frozenset[IndexName]
    ) -> _Term:
        """``sum(e, over=k)`` standing alone in a term: the reduction of the line's own equation."""
        kind, argument, over = self._reduction(node)
        clash = [i for i in over if i in carried]
        if clash:
            raise self.source.error(node, f"index '{clash[0]}' is reduced here and carried by the left side; rename one")
        inner = list(self._split(argument)) if kind != "max" else [(1, argument)]
        if len(inner) == 1 or not any(isinstance(f, ast.Compare) for _, n in inner for f in self._factors(n)):
            body, more = self._guarded(argument if len(inner) > 1 else inner[0][1], line, inner[0][0] if len(inner) == 1 else 1)
        else:
            staged = self._staged(kind, argument, over, node, line)
            return _Term(node, scale * staged, guards)
        if kind == "mean":
            extent = sp.Dummy("extent", positive=True)
            self.extents[extent] = (line, over)
            scale = scale / extent
        unused = [i for i in over if i not in index_symbols(body) and not any(i in index_symbols(g) for g in more)]
        if unused:
            raise self.source.error(node, f"index '{unused[0]}' is reduced but does not occur in the expression")
        reduction = Reduction.MAX if kind == "max" else Reduction.SUM
        return _Term(node, scale * body, guards + more, reduction, over)

    def _guarded(self, node: ast.AST, line: _Line, sign: int = 1) -> tuple[Expr, list[Any]]:
        """A product with the guards among its factors set apart."""
        body, guards = sp.Integer(sign), []
        for factor in self._factors(node):
            if isinstance(factor, ast.Compare):
                guards += self._guards(factor)
            else:
                body = body * self._value(factor, line)
        return body, guards

    def _reduction(self, node: Any) -> tuple[str, ast.AST, tuple[IndexName, ...]]:
        kind = node.func.id
        over = [k for k in node.keywords if k.arg == "over"]
        if len(node.args) != 1 or len(over) != 1 or len(node.keywords) != 1:
            raise self.source.error(node, f"expected {kind}(expression, over=index) or over=(i, j)")
        listed = over[0].value.elts if isinstance(over[0].value, ast.Tuple | ast.List) else [over[0].value]
        names = []
        for item in listed:
            if not isinstance(item, ast.Name):
                raise self.source.error(item, "expected the name of an index")
            names.append(index(item.id))
        return kind, node.args[0], tuple(names)

    def _staged(self, kind: str, argument: ast.AST, over: tuple[IndexName, ...], node: ast.AST, line: _Line) -> Expr:
        """A reduction inside an expression gets a tensor of its own and leaves a read of it."""
        name = self._fresh(f"{line.name}_{kind}")
        stage = _Line(node, name, (), (), [], line.text, line.number, staged=True)
        if kind == "max":
            body, guards = self._guarded(argument, stage)
            stage.terms.append(_Term(node, body, guards, Reduction.MAX, over))
        else:
            scale = sp.Integer(1)
            if kind == "mean":
                extent = sp.Dummy("extent", positive=True)
                self.extents[extent] = (stage, over)
                scale = 1 / extent
            pieces = list(self._split(argument))
            split = any(isinstance(f, ast.Compare) for _, n in pieces for f in self._factors(n))
            for sign, piece in pieces if split else [(1, argument)]:
                body, guards = self._guarded(piece, stage, sign)
                stage.terms.append(_Term(node, scale * body, guards, Reduction.SUM, over))
        found: dict[IndexName, None] = {}
        for term in stage.terms:
            for part in (term.body, *term.guards):
                found.update(dict.fromkeys(sorted(index_symbols(part), key=str)))
        for symbol in over:
            if symbol not in found:
                raise self.source.error(node, f"index '{symbol}' is reduced but does not occur in the expression")
        order = [s for part in line.subscripts for s in sorted(index_symbols(part), key=str)]
        free = sorted((s for s in found if s not in over), key=lambda s: (order.index(s) if s in order else 99, str(s)))
        stage.subscripts = tuple(free)
        stage.bare = tuple(free)
        self.lines.append(stage)
        self.locals[name] = len(free)
        return read(self.scope.prefix + name, tuple(free))

    def _stage_term(self, term: _Term, line: _Line) -> _Term:
        name = self._fresh(f"{line.name}_max")
        found = frozenset().union(*(index_symbols(p) for p in (term.body, *term.guards)))
        order = [s for part in line.subscripts for s in sorted(index_symbols(part), key=str)]
        free = tuple(sorted((s for s in found if s not in (term.over or ())),
                            key=lambda s: (order.index(s) if s in order else 99, str(s))))
        stage = _Line(line.node, name, free, free, [term], line.text, line.number, staged=True)
        self.lines.append(stage)
        self.locals[name] = len(free)
        return _Term(term.node, read(self.scope.prefix + name, free))

    def _fresh(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self.taken:
            count += 1
            name = f"{wanted}_{count}"
        self.taken.add(name)
        return name

    # ---- expressions ---------------------------------------------------------------------------------------------

    def _value(self, node: ast.AST, line: _Line) -> Expr:
        match node:
            case ast.Constant(value=bool() | str() | bytes() | None | complex()):
                raise self.source.error(node, f"expected a number, found {node.value!r}")
            case ast.Constant(value=int() as number):
                if abs(number) >= 10**18:
                    raise self.source.error(node, "expected a number below 1e18; write it as a float")
                return sp.Integer(number)
            case ast.Constant(value=float() as number):
                if number != number or number in (float("inf"), float("-inf")):
                    raise self.source.error(node, "expected a finite number")
                return sp.Integer(int(number)) if number.is_integer() and abs(number) < 2**53 else sp.Float(number)
            case ast.Name() | ast.Attribute():
                return self._name(node)
            case ast.Subscript():
                return self._read(node, line)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand, line)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self._value(operand, line)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._value(left, line) + self._value(right, line)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return self._value(left, line) - self._value(right, line)
            case ast.BinOp(op=ast.Mult()):
                return self._product(node, line)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                below = self._value(right, line)
                if below == 0:
                    raise self.source.error(right, "division by zero")
                return self._value(left, line) / below
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self._power(node, self._value(left, line), self._value(right, line))
            case ast.Compare():
                return sp.prod([self._comparison(node, op, a, b, line) for op, a, b in self._pairs(node)])
            case ast.Call():
                return self._call(node, line)
        raise self.source.error(node, f"{type(node).__name__} is not part of the equation language; "
                                      "expected numbers, names, subscripts, + - * / ** and known functions")

    def _product(self, node: ast.AST, line: _Line) -> Expr:
        """A product inside an expression: a comparison among the factors selects, it does not multiply (0 times inf)."""
        body, conditions = sp.Integer(1), []
        for factor in self._factors(node):
            if isinstance(factor, ast.Compare):
                conditions.append(self._value(factor, line))
            else:
                body = body * self._value(factor, line)
        return where(sp.prod(conditions), body, 0) if conditions else body

    def _power(self, node: ast.AST, base: Expr, exponent: Expr) -> Expr:
        if exponent.is_number:
            if abs(exponent) > MAX_EXPONENT:
                raise self.source.error(node, f"expected an exponent of at most {MAX_EXPONENT}, found {exponent}")
            if base.is_number and not (sp.Integer(0) < abs(base) < 10**6):
                raise self.source.error(node, f"the power {base}**{exponent} of a number is out of range; write its value")
            return base**exponent
        if base.is_number and not base.is_positive:
            raise self.source.error(node, "expected a positive base under a variable exponent")
        return base**exponent

    def _call(self, node: Any, line: _Line) -> Expr:
        if not isinstance(node.func, ast.Name):
            raise self.source.error(node, "expected a call of a known function by its name")
        name = node.func.id
        if self._reducer(node):
            kind, argument, over = self._reduction(node)
            return self._staged(kind, argument, over, node, line)
        row = lookup(name)
        if row is None:
            if name in REDUCERS:
                raise self.source.error(node, f"expected {name}(expression, over=index); for two arguments use max2(a, b)")
            if name in NOT_DIFFERENTIABLE:
                raise self.source.error(node, f"'{name}' is not differentiable and has no place in an equation")
            known = [*FUNCTIONS, *ALIASES, *REDUCERS]
            raise self.source.error(node.func, f"unknown function '{name}'{nearest(name, known)}; known: "
                                               f"{', '.join(sorted(known))}")
        if node.keywords or len(node.args) != row.arity or any(isinstance(a, ast.Starred) for a in node.args):
            raise self.source.error(node, f"expected {name} with {row.arity} argument{'s' * (row.arity > 1)}, "
                                          f"found {len(node.args) + len(node.keywords)}")
        return row.symbol(*(self._value(argument, line) for argument in node.args))

    def _pairs(self, node: Any) -> list[tuple[ast.cmpop, ast.AST, ast.AST]]:
        sides = [node.left, *node.comparators]
        return list(zip(node.ops, sides[:-1], sides[1:], strict=True))

    _OPERATORS: Mapping[type, tuple[str, Callable[..., Any]]] = {
        ast.Lt: ("<", sp.Lt), ast.LtE: ("<=", sp.Le), ast.Gt: (">", sp.Gt), ast.GtE: (">=", sp.Ge),
        ast.Eq: ("==", sp.Eq), ast.NotEq: ("!=", sp.Ne),
    }

    def _comparison(self, node: ast.AST, op: ast.cmpop, a: ast.AST, b: ast.AST, line: _Line) -> Expr:
        if type(op) not in self._OPERATORS:
            raise self.source.error(node, "expected one of < <= > >= == !=")
        return COMPARISONS[self._OPERATORS[type(op)][0]](self._value(a, line), self._value(b, line))

    def _guards(self, node: Any) -> list[Any]:
        found = []
        for op, a, b in self._pairs(node):
            if type(op) not in self._OPERATORS:
                raise self.source.error(node, "expected one of < <= > >= == !=")
            line = _Line(node, "guard", (), (), [], "", self.number)
            sides = [self._value(a, line), self._value(b, line)]
            guard = self._OPERATORS[type(op)][1](*sides)
            if guard is sp.false:
                guard = sp.Lt(sp.Integer(0), sp.Integer(0), evaluate=False)
            if guard is not sp.true:
                found.append(guard)
        return found

    def _name(self, node: ast.AST) -> Expr:
        name = self._dotted(node)
        if name in self.locals or name in self.scope.tensors:
            rank = self.locals[name] if name in self.locals else self.scope.tensors[name].rank
            if rank:
                raise self.source.error(node, self._rank_message(name, rank, 0))
            return self._entry(name, ())
        if name in self.scope.sizes:
            return sp.sympify(self.scope.sizes[name])
        if name == "pi":
            return sp.pi
        if "." in name:
            raise self.source.error(node, f"undefined tensor '{name}'{nearest(name, self.scope.tensors)}")
        return index(name)

    def _entry(self, name: str, subscripts: Sequence[Expr]) -> Indexed:
        if name in self.scope.tensors:
            return self.scope.tensors[name].at(subscripts)
        return read(self.scope.prefix + name, subscripts)

    def _dotted(self, node: ast.AST) -> str:
        match node:
            case ast.Name(id=name):
                return name
            case ast.Attribute(value=value, attr=attribute):
                return f"{self._dotted(value)}.{attribute}"
        raise self.source.error(node, "expected a name")

    def _read(self, node: Any, line: _Line) -> Expr:
        name = self._dotted(node.value)
        known = [*self.locals, *self.scope.tensors]
        if name not in known:
            raise self.source.error(node, f"undefined tensor '{name}'{nearest(name, known)}")
        rank = self.locals[name] if name in self.locals else self.scope.tensors[name].rank
        subscripts, bare = self._subscripts(node, line)
        if len(subscripts) != rank:
            raise self.source.error(node, self._rank_message(name, rank, len(subscripts)))
        entry = self._entry(name, subscripts)
        seen = self.bare.get((id(line), entry))
        # The same entry may stand once bare and once as 'k+0': the bare use is the one that fixes an extent.
        self.bare[id(line), entry] = bare if seen is None else tuple(a or b for a, b in zip(seen, bare, strict=True))
        self.places.setdefault(entry, node)
        return entry

    @property
    def places(self) -> dict[Indexed, ast.AST]:
        if not hasattr(self, "_places"):
            self._places: dict[Indexed, ast.AST] = {}
        return self._places

    def _rank_message(self, name: str, rank: int, found: int) -> str:
        shape = self.scope.tensors[name].shape if name in self.scope.tensors else None
        shown = f" of shape [{', '.join(map(str, shape))}]" if shape else ""
        return f"'{name}'{shown} has {rank} axes; expected {rank} subscripts, found {found}"

    @staticmethod
    def _subscript_nodes(node: ast.AST) -> list[ast.AST]:
        if not isinstance(node, ast.Subscript):
            return []
        return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]

    def _subscripts(self, node: ast.AST, line: _Line | None = None) -> tuple[tuple[Expr, ...], tuple[Any, ...]]:
        """The subscripts, and for each the index where it stands bare."""
        parts, bare = [], []
        for item in self._subscript_nodes(node):
            value = self._subscript(item, line)
            parts.append(value)
            bare.append(value if isinstance(item, ast.Name) and isinstance(value, IndexName) else None)
        return tuple(parts), tuple(bare)

    def _subscript(self, node: ast.AST, line: _Line | None) -> Expr:
        match node:
            case ast.Constant(value=int() as number) if not isinstance(number, bool):
                return sp.Integer(number)
            case ast.Name(id=name):
                if name in self.scope.sizes:
                    return sp.sympify(self.scope.sizes[name])
                tensor = self.scope.tensors.get(name)
                return tensor.at(()) if tensor is not None and tensor.is_index and not tensor.rank else index(name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._subscript(operand, line)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._subscript(left, line) + self._subscript(right, line)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return self._subscript(left, line) - self._subscript(right, line)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                a, b = self._subscript(left, line), self._subscript(right, line)
                if index_symbols(a) and index_symbols(b):
                    raise self.source.error(node, "expected an affine subscript, found a product of two indices")
                return a * b
            case ast.BinOp(left=left, op=ast.FloorDiv(), right=right):
                a, b = self._subscript(left, line), self._subscript(right, line)
                if index_symbols(a) or index_symbols(b):
                    raise self.source.error(node, "expected an affine subscript, found a division of an index")
                return sp.floor(a / b)
            case ast.Subscript():
                name = self._dotted(node.value)
                tensor = self.scope.tensors.get(name)
                if tensor is None or not tensor.is_index:
                    kinds = [n for n, t in self.scope.tensors.items() if t.is_index]
                    raise self.source.error(node, f"'{name}' stands in a subscript but is no index tensor"
                                                  f"{nearest(name, kinds)}; declare it as an input of kind index")
                return self._read(node, line or _Line(node, "", (), (), [], "", 0))
            case ast.Slice():
                raise self.source.error(node, "expected an index, found a slice; write one index for each axis")
        raise self.source.error(node, "expected an affine subscript such as t, t-1, 2*u+p or tok[t,n]")

    def _no_hidden_reduction(
        self, term: _Term, factors: list[ast.AST], carried: frozenset[IndexName], line: _Line
    ) -> None:
        """Law 9: a missing index inside a function, a power or a part of a sum is ambiguous."""
        for factor in factors:
            value = self._value_quiet(factor, line)
            if isinstance(factor, ast.BinOp) and isinstance(factor.op, ast.Div):
                value = None
            if value is not None and (isinstance(value, Indexed) or not index_symbols(value) - carried):
                continue
            hidden = self._hidden(factor, carried, line)
            if hidden is not None:
                symbol, node, shown = hidden
                raise self.source.error(
                    node,
                    f"index '{symbol}' is missing on the left and stands inside {shown}: ambiguous. "
                    f"Write sum({ast.unparse(factor)}, over={symbol}) to sum outside, or move sum(..., over={symbol}) "
                    f"inside {shown} to sum first",
                )

    def _value_quiet(self, node: ast.AST, line: _Line) -> Expr | None:
        return self._value(node, line) if isinstance(node, ast.Subscript | ast.Name | ast.Attribute) else None

    def _hidden(self, node: ast.AST, carried: frozenset[IndexName], line: _Line) -> tuple[IndexName, ast.AST, str] | None:
        def missing(part: ast.AST) -> set[IndexName]:
            bound = {
                item.id for call in ast.walk(part) if self._reducer(call)
                for k in call.keywords if k.arg == "over"  # type: ignore[attr-defined]
                for item in ast.walk(k.value) if isinstance(item, ast.Name)
            }
            names = {
                leaf.id
                for sub in ast.walk(part) if isinstance(sub, ast.Subscript)
                for item in self._subscript_nodes(sub)
                for leaf in ast.walk(item) if isinstance(leaf, ast.Name)
            }
            names -= bound | set(self.scope.sizes)
            names -= {n for n, t in self.scope.tensors.items() if t.is_index}
            return {index(n) for n in names} - carried

        def first(found: set[IndexName]) -> IndexName:
            return min(found, key=str)

        match node:
            case ast.Call() if self._reducer(node):
                return None
            case ast.Call(func=ast.Name(id=name)):
                found = missing(node)
                return (first(found), node, f"the function {name}(...)") if found else None
            case ast.BinOp(op=ast.Pow()):
                found = missing(node)
                return (first(found), node, "a power") if found else None
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                found = missing(right)
                if found:
                    return first(found), node, "a denominator"
                return self._hidden(left, carried, line)
            case ast.BinOp(op=ast.Mult()):
                return next((h for f in self._factors(node) if (h := self._hidden(f, carried, line))), None)
            case ast.UnaryOp(operand=operand):
                return self._hidden(operand, carried, line)
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                pieces = [missing(piece) for _, piece in self._split(node)]
                uneven = set().union(*pieces) - set.intersection(*pieces)
                if uneven:
                    return first(uneven), node, "a part of a bracketed sum"
                return next((h for _, piece in self._split(node) if (h := self._hidden(piece, carried, line))), None)
        return None

    # ---- shapes --------------------------------------------------------------------------------------------------

    def _shape(self, entry: Indexed) -> tuple[Expr, ...] | None:
        name = tensor_of(entry)
        for tensor in self.scope.tensors.values():
            if tensor.name == name:
                return tensor.shape
        return self.shapes.get(name)

    def _global(self, name: str) -> str:
        return self.scope.tensors[name].name if name in self.scope.tensors else self.scope.prefix + name

    def _same(self, a: Expr, b: Expr) -> bool:
        return a == b or sp.expand((a - b).xreplace(dict(self.scope.fixed))) == 0

    def _bare_ranges(self, line: _Line, term: _Term) -> dict[IndexName, tuple[Expr, Indexed]]:
        """The extent that bare uses in one term give to each index. Raises where two disagree."""
        found: dict[IndexName, tuple[Expr, Indexed]] = {}
        for part in (term.body, *term.guards, *line.subscripts):
            for entry in reads(part):
                shape = self._shape(entry)
                bare = self.bare.get((id(line), entry))
                if bare is None:
                    bare = next((b for (_, e), b in self.bare.items() if e == entry), (None,) * len(entry.indices))
                if shape is None:
                    continue
                for symbol, extent in zip(bare, shape, strict=True):
                    if symbol is not None:
                        self._unify(found, symbol, extent, entry, self.places.get(entry, term.node))
        return found

    def _unify(self, found: dict[IndexName, tuple[Expr, Any]], symbol: IndexName, extent: Expr, entry: Any,
               node: ast.AST) -> None:
        if symbol in found and not self._same(found[symbol][0], extent):
            other, before = found[symbol]
            raise self.source.error(
                node,
                f"index '{symbol}' is used at two extents: {other} in {before} and {extent} in {entry}. "
                f"Make the extents equal, or write '{symbol}+0' where it runs over a part of an axis",
            )
        found.setdefault(symbol, (extent, entry))

    def _declared(self, symbol: IndexName) -> tuple[Expr, Expr] | None:
        value = self.scope.ranges.get(str(symbol))
        if value is None:
            return None
        if isinstance(value, tuple | list):
            return sp.sympify(value[0]), sp.sympify(value[1])
        return sp.Integer(0), sp.sympify(value)

    def _infer_shapes(self) -> None:
        """Shapes of undeclared targets, from the ranges of their bare subscripts, to a fixed point."""
        undeclared = {line.name for line in self.lines if line.name not in self.scope.tensors}
        changed = True
        while changed:
            changed = False
            for line in self.lines:
                known = self._line_ranges(line)
                if line.staged:
                    for parent in self.lines:
                        if parent.number == line.number and parent is not line:
                            for symbol, item in self._line_ranges(parent).items():
                                known.setdefault(symbol, item)
                name = self.scope.prefix + line.name
                if line.name not in undeclared or name in self.shapes:
                    continue
                if all(symbol is not None and (symbol in known or self._declared(symbol)) for symbol in line.bare):
                    self.shapes[name] = tuple(
                        known[s][0] if s in known else self._declared(s)[1] for s in line.bare  # type: ignore[index]
                    )
                    changed = True
        for line in self.lines:
            if line.name in undeclared and self.scope.prefix + line.name not in self.shapes:
                loose = [s for s in line.bare if s is not None and s not in self._line_ranges(line)]
                what = f"index '{loose[0]}' has no range" if loose else "a composite subscript fixes no extent"
                raise self.source.error(
                    line.node, f"the shape of '{line.name}' cannot be found: {what}. Use the index bare on a tensor of known "
                               f"shape, declare its range, or declare '{line.name}' with its shape")

    def _line_ranges(self, line: _Line) -> dict[IndexName, tuple[Expr, Any]]:
        """What the left side and all terms of a line say of the extents of the left side's indices."""
        found: dict[IndexName, tuple[Expr, Any]] = {}
        shape = self.scope.tensors[line.name].shape if line.name in self.scope.tensors else self.shapes.get(
            self.scope.prefix + line.name)
        target = self._entry(line.name, line.subscripts)
        if shape is not None:
            for symbol, extent in zip(line.bare, shape, strict=True):
                if symbol is not None:
                    self._unify(found, symbol, extent, target, line.node)
        carried = {s for part in line.subscripts for s in index_symbols(part)}
        for term in line.terms:
            for symbol, (extent, entry) in self._bare_ranges(line, term).items():
                if symbol in carried:
                    self._unify(found, symbol, extent, entry, self.places.get(entry, term.node))
        return found

    # ---- building ------------------------------------------------------------------------------------------------

    def _build(self) -> Parsed:
        equations = [equation for line in self.lines for equation in self._equations(line)]
        names = dict.fromkeys(line.name for line in self.lines if line.name not in self.scope.tensors)
        tensors = [Tensor(self.scope.prefix + name, self.shapes[self.scope.prefix + name]) for name in names]
        self._defined_once()
        return Parsed(tuple(tensors), tuple(equations))

    def _defined_once(self) -> None:
        """``=`` twice for one tensor is allowed only where constants tell the two regions apart (h[0] and h[t+1])."""
        seen: dict[str, list[_Line]] = {}
        for line in self.lines:
            if line.adds:
                continue
            for other in seen.get(line.name, ()):
                if all(a == b or (index_symbols(a) and index_symbols(b) and a.free_symbols == b.free_symbols)
                       for a, b in zip(line.subscripts, other.subscripts, strict=True)):
                    raise self.source.error(line.node, f"'{line.name}' is defined twice, here and at line "
                                                       f"{self.source.place(other.node)[0].line}; "
                                                       "write += to add a further contribution")
            seen.setdefault(line.name, []).append(line)

    def _equations(self, line: _Line) -> Iterable[Equation]:
        left = self._line_ranges(line)
        target = self._entry(line.name, line.subscripts)
        place = self.source.place(line.node)[0]
        for term in line.terms:
            ranges = dict(left)
            for symbol, (extent, entry) in self._bare_ranges(line, term).items():
                self._unify(ranges, symbol, extent, entry, self.places.get(entry, term.node))
            parts = (*line.subscripts, *term.guards, term.body)
            ordered = [s for part in line.subscripts for s in sorted(index_symbols(part), key=str)]
            ordered += list(term.over or ())
            ordered += [s for part in self._in_order(term) for s in part]
            symbols = [s for s in dict.fromkeys(ordered) if any(s in index_symbols(part) for part in parts)]
            indices = []
            for symbol in symbols:
                declared = self._declared(symbol)
                if symbol in ranges and declared and not self._same(declared[1] - declared[0], ranges[symbol][0]):
                    raise self.source.error(term.node, f"index '{symbol}' is declared over {declared[0]}..{declared[1]} and "
                                                       f"used bare at extent {ranges[symbol][0]} in {ranges[symbol][1]}; "
                                                       f"write '{symbol}+0' where it runs over a part of an axis")
                if declared:
                    indices.append(Index(symbol, *declared))
                elif symbol in ranges:
                    indices.append(Index.over(symbol, ranges[symbol][0]))
                else:
                    raise self.source.error(
                        term.node, f"index '{symbol}' has no range: it stands bare on no tensor of known shape. "
                                   f"Declare it, ranges: {{{symbol}: extent}}{self._near_tensor(symbol)}")
            body = term.body
            extents = {d: self._extent(d, indices) for d, (owner, _) in self.extents.items() if owner is line}
            body = body.xreplace(extents) if extents else body
            origin = Origin("spec", text=line.text, where=place)
            yield Equation(target, body, tuple(indices), tuple(term.guards), term.reduction,
                           numbers=(line.number,), origin=origin)

    def _near_tensor(self, symbol: IndexName) -> str:
        return nearest(str(symbol), [n for n, t in self.scope.tensors.items() if not t.rank])

    def _extent(self, dummy: sp.Dummy, indices: list[Index]) -> Expr:
        _, over = self.extents[dummy]
        return sp.prod([i.extent for i in indices if i.symbol in over])

    def _in_order(self, term: _Term) -> Iterable[list[IndexName]]:
        """Index symbols in the order in which the text names them."""
        yield [index(leaf.id) for leaf in ast.walk(term.node) if isinstance(leaf, ast.Name)]
        yield sorted(index_symbols(term.body), key=str)
        for guard in term.guards:
            yield sorted(index_symbols(guard), key=str)
