"""Lines and terms: targets, guards, reductions; a reduction inside an expression becomes a line of its own."""

from __future__ import annotations

import ast
from typing import Any

import sympy as sp
from sympy import Expr

from symbolic.errors import EquationError
from symbolic.functions import lookup
from symbolic.parser.ambiguity import Unambiguous
from symbolic.parser.expression import REDUCERS
from symbolic.parser.scope import Line, Term
from symbolic.program import IndexName, Reduction, index_symbols
from symbolic.program import read as entry_of

__all__ = ["Reader"]


class Reader(Unambiguous):
    """One pass over a text; ``read`` fills ``lines``."""


    def read(self) -> Reader:
        """Read all lines of the text. Raises EquationError."""
        targets = list(self.source.tree().body)
        if not targets:
            raise EquationError("expected at least one equation, found none", where=self.source.where)
        for statement in targets:
            self._declare(statement)
        for statement in targets:
            self._statement(statement)
        return self

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
                raise self.source.error(statement, f"expected an equation 'name[indices] = expression', found "
                                                   f"{self.source.shown(statement)}")

    def _statement(self, statement: Any) -> None:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        base = target.value if isinstance(target, ast.Subscript) else target
        name = self._dotted(base)
        subscripts, bare = self._subscripts(target)
        text = ast.get_source_segment(self.source.text, statement) or ""
        line = Line(statement, name, subscripts, bare, [], text, self.number, adds=isinstance(statement, ast.AugAssign))
        self.number += 1
        carried = frozenset().union(*(index_symbols(part) for part in subscripts)) if subscripts else frozenset()
        for sign, node in self._split(statement.value):
            line.terms.append(self._term(node, sign, line, carried))
        if any(term.reduction is Reduction.MAX for term in line.terms) and len(line.terms) > 1:
            line.terms = [self._stage_term(term, line) if term.reduction is Reduction.MAX else term
                          for term in line.terms]
        self.lines.append(line)

    def _term(self, node: ast.AST, sign: int, line: Line, carried: frozenset[IndexName]) -> Term:
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
        term = Term(node, body, guards)
        self._no_hidden_reduction(term, plain, carried, line)
        return term

    def _open(
        self, node: Any, line: Line, scale: Expr, guards: list[Any], carried: frozenset[IndexName]
    ) -> Term:
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
            return Term(node, scale * staged, guards)
        if kind == "mean":
            extent = sp.Dummy("extent", positive=True)
            self.extents[extent] = (line, over)
            scale = scale / extent
        unused = [i for i in over if i not in index_symbols(body) and not any(i in index_symbols(g) for g in more)]
        if unused:
            raise self._vanished(node, unused[0], argument, body)
        reduction = Reduction.MAX if kind == "max" else Reduction.SUM
        return Term(node, scale * body, guards + more, reduction, over)

    def _vanished(self, node: ast.AST, symbol: IndexName, argument: ast.AST, body: Expr) -> EquationError:
        """A reduction over an index that the expression does not have, or has no more; for the caller to raise."""
        if not any(isinstance(leaf, ast.Name) and leaf.id == str(symbol) for leaf in ast.walk(argument)):
            return self.source.error(node, f"index '{symbol}' is reduced but does not occur in the expression")
        why = "is 0; leave it out" if body == 0 else "does not depend on it; simplify it"
        return self.source.error(node, f"index '{symbol}' is reduced but vanished, because the expression "
                                       f"{self.source.shown(argument)} {why}")

    def _guarded(self, node: ast.AST, line: Line, sign: int = 1) -> tuple[Expr, list[Any]]:
        """A product with the guards among its factors set apart."""
        body, guards = sp.Integer(sign), []
        for factor in self._factors(node):
            if isinstance(factor, ast.Compare):
                guards += self._guards(factor)
            else:
                body = body * self._value(factor, line)
        return body, guards

    def _staged(self, kind: str, argument: ast.AST, over: tuple[IndexName, ...], node: ast.AST, line: Line) -> Expr:
        """A reduction inside an expression gets a tensor of its own and leaves a read of it."""
        name = self._fresh(f"{line.name}_{kind}")
        stage = Line(node, name, (), (), [], line.text, line.number, staged=True)
        if kind == "max":
            body, guards = self._guarded(argument, stage)
            stage.terms.append(Term(node, body, guards, Reduction.MAX, over))
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
                stage.terms.append(Term(node, scale * body, guards, Reduction.SUM, over))
        found: dict[IndexName, None] = {}
        for term in stage.terms:
            for part in (term.body, *term.guards):
                found.update(dict.fromkeys(sorted(index_symbols(part), key=str)))
        for symbol in over:
            if symbol not in found:
                raise self._vanished(node, symbol, argument, sp.Add(*(term.body for term in stage.terms)))
        order = [s for part in line.subscripts for s in sorted(index_symbols(part), key=str)]
        free = sorted((s for s in found if s not in over), key=lambda s: (order.index(s) if s in order else 99, str(s)))
        stage.subscripts = tuple(free)
        stage.bare = tuple(free)
        self.lines.append(stage)
        self.locals[name] = len(free)
        return self._bare_read(name, tuple(free), line)

    def _stage_term(self, term: Term, line: Line) -> Term:
        name = self._fresh(f"{line.name}_max")
        found = frozenset().union(*(index_symbols(p) for p in (term.body, *term.guards)))
        order = [s for part in line.subscripts for s in sorted(index_symbols(part), key=str)]
        free = tuple(sorted((s for s in found if s not in (term.over or ())),
                            key=lambda s: (order.index(s) if s in order else 99, str(s))))
        stage = Line(line.node, name, free, free, [term], line.text, line.number, staged=True)
        self.lines.append(stage)
        self.locals[name] = len(free)
        return Term(term.node, self._bare_read(name, free, line))

    def _bare_read(self, name: str, free: tuple[IndexName, ...], line: Line) -> Expr:
        """The read of a staged tensor: its indices stand bare, and so have the ranges of its axes in the line, too."""
        entry = entry_of(self.scope.prefix + name, free)
        self.bare[id(line), entry] = free
        return entry

    def _fresh(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self.taken:
            count += 1
            name = f"{wanted}_{count}"
        self.taken.add(name)
        return name
