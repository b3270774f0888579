"""Formulas as trees, without a format: what is said, not how it is set. Each target has a printer for them.

A ``Line`` is a displayed formula ``head = terms``: its terms, and in them the factors, are the places where it may break.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "LONG",
    "Bar",
    "Big",
    "Bracket",
    "Call",
    "Cases",
    "Fence",
    "Formula",
    "Fraction",
    "Letter",
    "Line",
    "List",
    "Matrices",
    "Number",
    "Product",
    "Root",
    "Row",
    "Script",
    "Sign",
    "Term",
    "Terms",
    "Word",
    "brackets",
    "child_formulas",
    "groups",
    "groups_of",
    "is_tall",
    "row",
    "size",
    "stands_apart",
    "summand",
    "summed_up",
    "width",
]


class Formula:
    """Any piece of mathematics."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Letter(Formula):
    """A variable of one letter, or of the name of one (``alpha``, ``partial``, ``ell``)."""

    name: str
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Word(Formula):
    """Several letters that stand upright: a name (``tanh``, ``rnn``), or words (``otherwise``)."""

    text: str
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Number(Formula):
    """A number as it is written."""

    text: str


@dataclass(frozen=True, slots=True)
class Sign(Formula):
    """An operator or a relation between its neighbours: ``+ - = < <= > >= != odot cdot dots in : ,``."""

    name: str


@dataclass(frozen=True, slots=True)
class Row(Formula):
    """Pieces side by side."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class List(Formula):
    """Pieces with commas between them: the subscripts of an entry."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Product(Formula):
    """Factors side by side."""

    factors: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Matrices(Product):
    """A product of matrices: the order of its factors matters."""


@dataclass(frozen=True, slots=True)
class Terms(Formula):
    """A sum: each term with its sign, ``+`` or ``-``."""

    terms: tuple[tuple[str, Formula], ...]


@dataclass(frozen=True, slots=True)
class Script(Formula):
    """A base with what stands below and above it at its right."""

    base: Formula
    below: Formula | None = None
    above: Formula | None = None


@dataclass(frozen=True, slots=True)
class Bar(Formula):
    """A bar over a letter."""

    base: Formula


@dataclass(frozen=True, slots=True)
class Fraction(Formula):
    """One formula over another."""

    top: Formula
    bottom: Formula


@dataclass(frozen=True, slots=True)
class Root(Formula):
    """A square root."""

    inner: Formula


@dataclass(frozen=True, slots=True)
class Fence(Formula):
    """Something between brackets that grow with it: ``()``, ``[]``, ``||``."""

    inner: Formula
    kind: str = "()"


@dataclass(frozen=True, slots=True)
class Bracket(Formula):
    """One bracket alone, where a formula breaks between it and the other one; ``tall``: round something high."""

    mark: str
    tall: bool = False


@dataclass(frozen=True, slots=True)
class Call(Formula):
    """A function of arguments."""

    head: Formula
    arguments: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Big(Formula):
    """``sum``, ``prod``, ``max`` or ``argmax`` with what it runs over; its operand stands beside it."""

    kind: str
    below: Formula | None = None
    above: Formula | None = None


@dataclass(frozen=True, slots=True)
class Cases(Formula):
    """Values with the conditions under which they hold; ``None``: otherwise."""

    rows: tuple[tuple[Formula, Formula | None], ...]


@dataclass(frozen=True, slots=True)
class Term:
    """A term of a displayed sum: its sign, and its factors, between which a long one may break."""

    sign: str
    factors: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A displayed formula ``head = terms``; ``where``: a condition that stands beside it; ``numbers``: those of the equations
    that it shows. ``head`` is ``None`` where it goes on from the line above."""

    head: Formula | None
    terms: tuple[Term, ...]
    numbers: tuple[int, ...] = ()
    where: Formula | None = None
    relation: str = "="


def width(formula: Formula) -> float:
    """About how many letters wide a formula is set: small print counts less, of a fraction the wider part."""
    match formula:
        case Letter():
            return 1.0
        case Word(text) | Number(text):
            return float(len(text))
        case Sign():
            return 2.5
        case Script(base, below, above):
            return width(base) + 0.7 * max((width(part) for part in (below, above) if part is not None), default=0.0)
        case Fraction(top, bottom):
            return 0.5 + max(width(top), width(bottom))
        case Big(_, below, above):
            return max(2.0, *(0.7 * width(part) for part in (below, above) if part is not None), 0.0)
        case Cases(rows):
            return 4.0 + max(width(value) + (9.0 if condition is None else width(condition)) for value, condition in rows)
        case Terms(terms):
            return sum(width(part) + 2.5 for _, part in terms) - (2.5 if terms[0][0] == "+" else 0.0)
        case List(parts):
            return sum(map(width, parts)) + 0.5 * (len(parts) - 1)
        case Fence(inner):
            return 1.5 + width(inner)
    return sum(map(width, child_formulas(formula))) + (1.5 if isinstance(formula, Call) else 0.0)


def size(formula: Formula) -> int:
    """How many letters, words and numbers a formula has."""
    inner = sum(map(size, child_formulas(formula)))
    return inner or 1


LONG = 20.0
"""A term wider than this may break between its factors too, where a page is narrow."""


def groups(term: Term) -> tuple[tuple[Formula, ...], ...]:
    """The factors of a term in groups between which it may break: one group where it is short. A sum stays with what follows it,
    a condition too where both are short; a sign begins a group. A long factor may break inside its brackets."""
    if sum(map(width, term.factors)) <= LONG:
        return (term.factors,)
    return tuple(_gathered(tuple(_flat(term.factors))))


def _gathered(factors: Sequence[Formula]) -> Iterable[tuple[Formula, ...]]:
    current: tuple[Formula, ...] = ()
    for k, factor in enumerate(factors):
        following = factors[k + 1 : k + 2]
        condition = isinstance(factor, Fence) and factor.kind == "[]"
        if isinstance(factor, Big | Sign) or condition and sum(map(width, (*current, factor, *following))) <= LONG:
            current = (*current, factor)
            continue
        first, *rest = _opened(factor)
        yield (*current, *first)
        yield from rest
        current = ()
    if current:
        yield current


def _opened(factor: Formula) -> Sequence[tuple[Formula, ...]]:
    """A factor in the pieces between which it may break: where it is long, what stands in its brackets, term by term."""
    if width(factor) <= LONG:
        return [(factor,)]
    match factor:
        case Fence(inner, "()"):
            return _between((), _pieces(inner), Bracket("(", is_tall(inner)), Bracket(")", is_tall(inner)))
        case Script(Fence(inner, "()"), below, above):
            right = Script(Bracket(")", is_tall(inner)), below, above)
            return _between((), _pieces(inner), Bracket("(", is_tall(inner)), right)
        case Call(head, (argument,)):
            return _between((head,), _pieces(argument), Bracket("(", is_tall(argument)), Bracket(")", is_tall(argument)))
    return [(factor,)]


def _between(
    head: tuple[Formula, ...], pieces: Sequence[tuple[Formula, ...]], left: Formula, right: Formula
) -> Sequence[tuple[Formula, ...]]:
    found = [*pieces]
    found[0] = (*head, left, *found[0])
    found[-1] = (*found[-1], right)
    return found


def _pieces(formula: Formula) -> Sequence[tuple[Formula, ...]]:
    """A formula inside brackets in the pieces between which it may break."""
    if not isinstance(formula, Terms):
        return [*_gathered(tuple(_flat((formula,))))]
    found: list[tuple[Formula, ...]] = []
    for k, (sign, part) in enumerate(formula.terms):
        first, *rest = _gathered(tuple(_flat((part,))))
        found += [first if k == 0 and sign == "+" else (Sign(sign), *first), *rest]
    return found


def groups_of(formula: Formula) -> tuple[tuple[Formula, ...], ...]:
    """The pieces of a formula in running text between which it may break: after its first relation, then as the factors of a
    term."""
    parts = formula.parts if isinstance(formula, Row) else (formula,)
    if width(formula) <= LONG or Sign("=") not in parts:
        return (parts,)
    at = parts.index(Sign("=")) + 1
    return (parts[:at], *groups(Term("+", parts[at:])))


def _flat(factors: Iterable[Formula]) -> Iterable[Formula]:
    """The factors of products among the factors in their places, entry by entry (``odot``) too."""
    for factor in factors:
        if isinstance(factor, Product) or isinstance(factor, Row) and Sign("odot") in factor.parts:
            yield from _flat(child_formulas(factor))
        else:
            yield factor


def is_tall(formula: Formula) -> bool:
    """Whether brackets round it must grow; those that may grow stand a little off what is in them."""
    if isinstance(formula, Fraction | Root | Big | Cases):
        return True
    if isinstance(formula, Script) and formula.below is not None and not isinstance(formula.above, Letter | Number | None):
        return True
    return any(map(is_tall, child_formulas(formula)))


def stands_apart(formula: Formula) -> bool:
    """Whether a factor wants a little space round it: a fraction, a call, what is in brackets."""
    return isinstance(formula, Fraction | Call | Fence | Cases) or isinstance(formula, Script) and isinstance(formula.base, Fence)


def row(*parts: Formula) -> Formula:
    """The pieces side by side; one piece is itself."""
    return parts[0] if len(parts) == 1 else Row(parts)


def brackets(formula: Formula) -> Formula:
    """The formula between brackets."""
    return Fence(formula)


def summand(shown: Formula) -> Formula:
    """An operand of a sum or a product: a sum stands in brackets."""
    return brackets(shown) if isinstance(shown, Terms) else shown


def summed_up(terms: Sequence[Term]) -> Formula:
    """Terms as one formula."""
    if len(terms) == 1 and terms[0].sign == "+":
        (term,) = terms
        return term.factors[0] if len(term.factors) == 1 else Product(term.factors)
    return Terms(tuple((t.sign, t.factors[0] if len(t.factors) == 1 else Product(t.factors)) for t in terms))


def child_formulas(formula: Formula) -> Iterable[Formula]:
    """The pieces directly inside a formula."""
    match formula:
        case Row(parts) | List(parts) | Product(parts):
            yield from parts
        case Terms(terms):
            yield from (part for _, part in terms)
        case Script(base, below, above):
            yield from (part for part in (base, below, above) if part is not None)
        case Bar(inner) | Root(inner) | Fence(inner):
            yield inner
        case Fraction(top, bottom):
            yield from (top, bottom)
        case Call(head, arguments):
            yield from (head, *arguments)
        case Big(_, below, above):
            yield from (part for part in (below, above) if part is not None)
        case Cases(rows):
            for value, condition in rows:
                yield value
                if condition is not None:
                    yield condition
