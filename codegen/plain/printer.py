"""Formulas as plain text, in the notation of specs: ``sum_k rnn.W[i,k]*x[t,n,k]``."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.derivation.formula import (
    Bar,
    Big,
    Call,
    Cases,
    Fence,
    Formula,
    Fraction,
    Letter,
    Line,
    List,
    Matrices,
    Number,
    Product,
    Root,
    Row,
    Script,
    Sign,
    Term,
    Terms,
    Word,
)

__all__ = ["line_text", "plain"]

_LETTERS = {"partial": "d", "infinity": "inf", "ell": "l", "calL": "L", "top": "T", "one": "1"}
_SIGNS = {"odot": "o", "cdot": "*", "times": "x", "dots": "...", "to": "->"}
_FENCES = {"()": "()", "[]": "[]", "||": "||", "floor": ("floor(", ")"), "norm": ("|", "|")}


def plain(formula: Formula) -> str:
    """The formula as text."""
    match formula:
        case Letter(name):
            return _LETTERS.get(name, name)
        case Word(text) | Number(text):
            return text
        case Sign(name):
            return _SIGNS.get(name, name)
        case Row(parts):
            tight = ("/", ":", "dots")
            return "".join(f" {plain(p)} " if isinstance(p, Sign) and p.name not in tight else plain(p) for p in parts)
        case List(parts):
            return ",".join(plain(p).replace(" ", "") for p in parts)
        case Matrices(factors):
            return " ".join(map(plain, factors))
        case Product(factors):
            return _product(factors)
        case Terms(terms):
            return " ".join(_signed(k, sign, part) for k, (sign, part) in enumerate(terms))
        case Script(base, below, above):
            return plain(base) + _below(below) + _above(above)
        case Bar(base):
            return f"bar({plain(base)})"
        case Fraction(top, bottom):
            return f"{_operand(top, Terms)}/{_operand(bottom, Terms | Product | Fraction)}"
        case Root(inner):
            return f"sqrt({plain(inner)})"
        case Fence(inner, kind):
            left, right = _FENCES[kind]
            return f"{left}{plain(inner)}{right}"
        case Call(Script(head, None, above), arguments) if not isinstance(above, Word):
            return f"{plain(head)}({', '.join(map(plain, arguments))})" + _above(above)
        case Call(head, arguments):
            return f"{plain(head)}({', '.join(map(plain, arguments))})"
        case Big(kind, below, above):
            over = plain(below).replace(" ", "") if below is not None else ""
            return f"{kind}_{over}{f'..{plain(above)}' if above is not None else ''}"
        case Cases(rows):
            return "{" + "; ".join(f"{plain(value)} if {plain(c)}" if c is not None else f"{plain(value)} otherwise"
                                   for value, c in rows) + "}"
    raise TypeError(f"no text for {type(formula).__name__}")


def line_text(line: Line) -> str:
    """A displayed line as text, without its numbers."""
    terms = " ".join(_term(k, term) for k, term in enumerate(line.terms))
    where = f"    for {plain(line.where)}" if line.where is not None else ""
    return f"{plain(line.head) if line.head is not None else ''} {line.relation} {terms}{where}".strip()


def _term(k: int, term: Term) -> str:
    shown = _product(term.factors)
    return f"{term.sign} {shown}" if k else f"-{shown}" if term.sign == "-" else shown


def _signed(k: int, sign: str, part: Formula) -> str:
    shown = plain(part)
    return f"{sign} {shown}" if k else f"-{shown}" if sign == "-" else shown


def _product(factors: Sequence[Formula]) -> str:
    """Factors with stars between them; a sum and a condition stand before the rest with a blank."""
    shown = ""
    for k, factor in enumerate(factors):
        before = factors[k - 1] if k else None
        if k:
            guard = isinstance(before, Fence) and before.kind == "[]"
            shown += " " if isinstance(before, Big) or guard and not isinstance(factor, Sign) else "" if isinstance(
                factor, Sign) or isinstance(before, Sign) else "*"
        shown += plain(factor)
    return shown


def _operand(part: Formula, loose: type | object) -> str:
    spaced = isinstance(part, Row) and any(isinstance(p, Sign) and p.name == "odot" for p in part.parts)
    return f"({plain(part)})" if spaced or isinstance(part, loose) else plain(part)  # type: ignore[arg-type]


def _below(below: Formula | None) -> str:
    if below is None:
        return ""
    return f"[{plain(below)}]" if isinstance(below, List) else f"_{plain(below)}"


def _above(above: Formula | None) -> str:
    if above is None:
        return ""
    if isinstance(above, Letter) and above.name == "top":
        return "^T"
    if isinstance(above, Row) and above.parts[-1] == Letter("top"):
        return f"{_above(Row(above.parts[:-1]))}^T"
    shown = plain(above)
    return shown if shown.startswith("'") else f"**{shown}" if shown.isalnum() else f"^{shown}"
