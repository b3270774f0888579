"""Adjoints with others put in, as people write them.

- In closed form, where every adjoint that an equation reads is a known function of forward values: with a softmax and cross
  entropy it reads p - y, although three named tensors stand in between.
- Past the exponentials and the sum of a softmax, which nobody names: P o (dL/dP - ...).
- In one line with the one adjoint that an entrywise equation reads: delta_l = (W^T delta_{l+1}) o f'(z_l).

Only values are put in for the first, only products of one term for the last: a derivation stops at the tensors that carry it on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sympy import Add, Expr, Indexed, Mul, expand_mul, factor_terms

from codegen.derivation.provenance import Adjoint, Derivation, Form
from codegen.derivation.softmax import Softmax, named, softmaxes
from codegen.derivation.statements import Statement, fresh, statements
from symbolic.analysis import is_equal
from symbolic.functions import sigmoid
from symbolic.program import Equation, Index, IndexName, index, tensor_of
from symbolic.rewrite.cancel import multiplied
from symbolic.rewrite.terms import apply_to_body, bottom_up, cost

__all__ = ["with_closed_forms"]

LARGEST = 12
"""Operations of a closed form at most: beyond that it explains nothing."""

FEW = 4
"""Terms at most that are multiplied out."""

Equations = Sequence[Equation]
Terms = tuple[Equation, ...]
"""The terms of a statement about one entry."""


def with_closed_forms(derivation: Derivation) -> Derivation:
    """The derivation with more forms of its adjoints, where others can be put in, and the softmaxes that these forms name."""
    found = _Closed(derivation)
    for adjoint in derivation.adjoints.values():
        found.add(adjoint)
    new = [softmax for softmax in found.used if not softmax.given]
    known = replace(derivation.known, tensors=(*derivation.known.tensors, *(s.tensor for s in new)))
    return replace(derivation, known=known, closed=found.forms, softmaxes=tuple(found.used))


class _Closed:
    """What is known of the adjoints so far, those that others read first."""

    def __init__(self, derivation: Derivation) -> None:
        self.derivation, self.program = derivation, derivation.known
        self.adjoints = frozenset(self.program.gradients.values())
        self.softmaxes = softmaxes(self.program, derivation.stable.equations, derivation.given.equations)
        self.staged = frozenset(
            self.program.gradients.get(tensor_of(entry), "") for s in self.softmaxes for entry in (s.exponential, s.total))
        self.values: dict[str, Terms] = {}
        self.inner: dict[str, Terms] = {}
        self.last: dict[str, Terms] = {}
        self.forms: dict[str, tuple[Form, ...]] = {}
        self.used: dict[Softmax, None] = {}

    def add(self, adjoint: Adjoint) -> None:
        """Note what an adjoint is, and the forms in which others are put in."""
        equations = adjoint.forms[-1].equations
        forms: list[Form] = []
        read = self._read(equations)
        if read and read <= set(self.values):
            self._take(forms, "closed", self._all_put_in(equations, self.values))
        elif read & set(self.inner) and adjoint.adjoint not in self.staged:
            made = self._all_put_in(equations, self.inner)
            short = None if made is None else self._named(made)
            self._take(forms, "normalised", None if short is None or self._reads_staged(short) else short)
            if forms and self._read(forms[-1].equations) and self._read(forms[-1].equations) <= set(self.values):
                self._take(forms, "closed", self._all_put_in(forms[-1].equations, self.values))
        elif (made := self._composed(equations)) is not None:
            self._take(forms, "composed", made)
        self._take(forms, "sigmoid", reflected(forms[-1].equations if forms else equations))
        if forms and forms[-1].rule == "closed" and (short := self._named(forms[-1].equations)) is not None:
            self._take(forms, "normalised", short)
        if adjoint.name not in self.derivation.wrt:  # a gradient stays a product of what was named before
            self.forms[adjoint.name] = tuple(forms)
            self.used.update((s, None) for form in forms for s in self.softmaxes if s.name in {
                tensor_of(r) for e in form.equations for r in e.reads})
        self._note(adjoint.adjoint, equations, forms)

    def _note(self, name: str, equations: Equations, forms: Sequence[Form]) -> None:
        """What may stand in the place of a read of this adjoint."""
        closed = forms[-1].equations if forms and forms[-1].rule != "composed" else equations
        terms = _whole(statements(closed, self.program))
        if terms is not None and len(terms) == 1 and not terms[0].reduced and not terms[0].guards and not self._read(terms):
            self.values[name] = terms
        if name in self.staged:
            put = self._all_put_in(equations, self.inner)
            terms = None if put is None else _whole(statements(put, self.program))
            if terms is not None:
                self.inner[name] = terms
        terms = _whole(statements(equations, self.program))
        if terms is not None and len(terms) == 1 and not terms[0].guards and self._read(terms):
            self.last[name] = terms

    def _take(self, forms: list[Form], rule: str, equations: Equations | None) -> None:
        if equations is not None:
            forms.append(Form(rule, tuple(equations)))

    def _read(self, equations: Equations) -> set[str]:
        """The adjoints that equations read."""
        return {tensor_of(r) for e in equations for r in e.reads if tensor_of(r) in self.adjoints}

    # ---- putting in ------------------------------------------------------------------------------------------------

    def _all_put_in(self, equations: Equations, known: Mapping[str, Terms]) -> Equations | None:
        """The equations with every adjoint that is known put in, or ``None`` where one of them cannot be, or gets too long."""
        found: list[Equation] = []
        for equation in equations:
            rows = self._put_in(equation, known)
            if rows is None:
                return None
            found += rows
        return tuple(found)

    def _put_in(self, equation: Equation, known: Mapping[str, Terms]) -> list[Equation] | None:
        reads = [r for r in equation.reads if tensor_of(r) in known]
        if not reads:
            return [equation]
        (read, *others) = reads
        terms = known[tensor_of(read)]
        if others or not self._inside(read, equation):
            return None
        found = []
        for term in terms:
            term = _at(term, read, equation)
            body = equation.body.xreplace({read: term.body})
            if len(terms) > 1 or term.reduced or term.guards:
                if not _is_factor(read, equation.body):
                    return None
                body = Mul(term.body, *(f for f in Mul.make_args(equation.body) if f != read))
            body = bottom_up(body, multiplied)
            if body.count_ops() > LARGEST:
                return None
            made = replace(equation, indices=(*equation.indices, *term.reduced), guards=(*equation.guards, *term.guards))
            found.append(apply_to_body(made, body, "closed"))
        return found

    def _inside(self, read: Indexed, equation: Equation) -> bool:
        """Whether a read has bare subscripts that stay in bounds: elsewhere it is 0, and what is put in may not be."""
        own = {i.symbol: i for i in equation.indices}
        tensor = self.program.tensor(tensor_of(read))
        for axis, part in enumerate(read.indices):
            lower, upper = tensor.bounds(axis)
            over = own.get(part)
            if over is None or not (is_equal(over.lower, lower, self.program) and is_equal(over.upper, upper, self.program)):
                return False
        return True

    def _composed(self, equations: Equations) -> Equations | None:
        """Entrywise products of one adjoint, that adjoint a product of one term: in one line."""
        found: list[Equation] = []
        if any(len(statement.terms) > 1 for statement in statements(equations, self.program)):
            return None
        for equation in equations:
            reads = [r for r in equation.reads if tensor_of(r) in self.adjoints]
            if (len(reads) == 1 and not equation.reduced and not equation.guards and equation.body.is_Mul
                    and tensor_of(reads[0]) not in self.staged and _is_factor(reads[0], equation.body)
                    and (rows := self._put_in(equation, self.last)) is not None):
                found += rows
            else:
                found.append(equation)
        return tuple(found) if found != list(equations) else None

    # ---- names -----------------------------------------------------------------------------------------------------

    def _named(self, equations: Equations) -> Equations | None:
        """The equations with p for e/s, or ``None`` where there is none."""
        made = tuple(named(e, self.softmaxes) for e in equations)
        return made if made != tuple(equations) else None

    def _reads_staged(self, equations: Equations) -> bool:
        staged = {tensor_of(entry) for s in self.softmaxes for entry in (s.exponential, s.total)}
        return any(tensor_of(r) in staged for e in equations for r in e.reads) or bool(self._read(equations) & self.staged)


def reflected(equations: Equations) -> Equations | None:
    """The equations with ``1 - sigmoid(x)`` for ``sigmoid(-x)``, multiplied out, if terms cancel then: the form that is computed
    keeps the digits of what is nearly 0, this one is shorter."""
    if not equations:
        return None
    (first, *others) = equations
    if first.reduced or any((e.target, e.indices, e.guards) != (first.target, first.indices, first.guards) for e in others):
        return None
    body = Add(*(e.body for e in equations))
    rule = {f: 1 - sigmoid(-f.args[0]) for f in body.atoms(sigmoid) if f.args[0].could_extract_minus_sign()}
    if not rule or len(Add.make_args(body)) > FEW:
        return None
    made = factor_terms(Add(*(expand_mul(term, deep=False) for term in Add.make_args(body.xreplace(rule)))))
    return (apply_to_body(first, made, "sigmoid", *others),) if cost(made) < cost(body) else None


def _whole(found: Sequence[Statement]) -> Terms | None:
    """The terms of the one statement that says of every entry what it is."""
    if len(found) != 1 or not all(isinstance(part, IndexName) for part in found[0].target.indices):
        return None
    return found[0].terms


def _at(term: Equation, read: Indexed, reader: Equation) -> Equation:
    """A term for the entry that is read; its summed indices get names that the reader has not."""
    taken = {i.symbol for i in reader.indices}
    names: dict[IndexName, IndexName] = {}
    for i in term.reduced:
        used = {*taken, *names.values()}
        names[i.symbol] = i.symbol if i.symbol not in used else next(fresh("jklmpqruvwz", used))
    own = {symbol: index(f"_{k}") for k, symbol in enumerate(term.target.indices)}
    term = term.renamed({**names, **own})
    place = dict(zip(own.values(), read.indices, strict=True))
    indices = tuple(Index(place.get(i.symbol, i.symbol), i.lower.xreplace(place), i.upper.xreplace(place)) for i in term.indices)
    return replace(term.xreplace(place), indices=indices)


def _is_factor(read: Indexed, body: Expr) -> bool:
    """Whether a body is the read times what does not read it."""
    return sum(f == read for f in Mul.make_args(body)) == 1 and not any(f.has(read) for f in Mul.make_args(body) if f != read)
