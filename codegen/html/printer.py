"""Formulas as MathML Core, which browsers draw themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

from codegen.derivation.formula import (
    Bar,
    Big,
    Bracket,
    Call,
    Cases,
    Fence,
    Formula,
    Fraction,
    Letter,
    Line,
    List,
    Number,
    Product,
    Root,
    Row,
    Script,
    Sign,
    Terms,
    Word,
    groups,
    groups_of,
    is_tall,
    stands_apart,
)
from codegen.latex.printer import latex
from codegen.latex.printer import line_pieces as latex_pieces

__all__ = ["broken", "line_head", "line_pieces", "math", "mathml"]

_GREEK = {name: chr(0x3B1 + k) for k, name in enumerate(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho finalsigma sigma tau upsilon phi "
    "chi psi omega".split())}
_LETTERS = {**_GREEK, "partial": "∂", "infinity": "∞", "ell": "ℓ", "calL": "ℒ", "top": "⊤", "one": "1"}
_SIGNS = {"<=": "≤", ">=": "≥", "!=": "≠", "-": "−", "odot": "⊙", "cdot": "·", "times": "×", "dots": "⋯", "in": "∈", "to": "→"}
_FENCES = {"()": "()", "[]": "[]", "||": "||", "floor": "⌊⌋", "norm": "‖‖"}
_COMMA = '<mo separator="true">,</mo>'
_BIG = {"sum": "∑", "prod": "∏", "max": "max", "argmax": "arg max"}


def math(formula: Formula) -> str:
    """A formula as a ``math`` element; its LaTeX goes with it, to be copied."""
    return f'<math alttext="{escape(latex(formula))}">{mathml(formula)}</math>'


def broken(formula: Formula) -> str:
    """A formula in running text: a long one in pieces, so that the text may go on in the next row between them."""
    pieces = groups_of(formula)
    if len(pieces) == 1:
        return math(formula)
    shown = "".join(f"<math><mrow>{_beside(piece)}</mrow></math>" for piece in pieces)
    return f'<span class="broken" data-tex="{escape(latex(formula))}">{shown}</span>'


def line_head(line: Line) -> str:
    """The left side of a displayed line; nothing where it goes on from the one above."""
    return "" if line.head is None else _display(mathml(line.head), latex(line.head))


def line_pieces(line: Line) -> list[list[str]]:
    """What stands right of the head, from the relation on: terms, each in pieces, between which a browser may go on in the next
    row."""
    found: list[list[str]] = []
    for k, (term, texts) in enumerate(zip(line.terms, latex_pieces(replace(line, head=None)), strict=False)):
        first, *rest = groups(term)
        sign = "" if k == 0 and term.sign == "+" else _operator(term.sign, "prefix" if k == 0 else "infix")
        relation = "" if k else _operator(_SIGNS.get(line.relation, line.relation), "infix")
        shown = [f"{relation}{sign}{_beside(first)}", *map(_beside, rest)]
        found.append([_display(inner, text) for inner, text in zip(shown, texts, strict=True)])
    if line.where is not None:
        where = Fence(line.where)
        found.append([_display(f'<mspace width="1.5em"/>{mathml(where)}', rf"\qquad {latex(where)}")])
    return found


def _display(inner: str, tex: str) -> str:
    return f'<math displaystyle="true" alttext="{escape(tex)}"><mrow>{inner}</mrow></math>'


def mathml(formula: Formula) -> str:
    """The formula as one MathML element."""
    match formula:
        case Letter("partial" | "top" | "infinity" as name):
            return f"<mo>{_LETTERS[name]}</mo>" if name != "infinity" else "<mn>∞</mn>"
        case Letter(name, bold):
            shown = _LETTERS.get(name, name)
            return f'<mi mathvariant="normal">{_bold(shown)}</mi>' if bold else f"<mi>{shown}</mi>"
        case Word(text, bold):
            if text.strip("'") == "":
                return f"<mo>{'′' * len(text)}</mo>"
            if " " in text:
                return f"<mtext>{escape(text)}</mtext>"
            shown = _bold(text) if bold else escape(text)
            return f'<mi mathvariant="normal">{shown}</mi>' if len(text) == 1 else f"<mi>{shown}</mi>"
        case Number(text):
            return f"<mn>{escape(text)}</mn>"
        case Sign(name):
            return _operator(name, "infix")
        case Row(parts):
            return f"<mrow>{_beside(parts)}</mrow>"
        case Product(factors):
            return f"<mrow>{_beside(factors)}</mrow>"
        case List(parts):
            return f"<mrow>{_COMMA.join(map(mathml, parts))}</mrow>" if len(parts) > 1 else mathml(parts[0])
        case Terms(terms):
            return "<mrow>" + "".join(
                ("" if k == 0 and sign == "+" else _operator(sign, "infix" if k else "prefix")) + mathml(part)
                for k, (sign, part) in enumerate(terms)) + "</mrow>"
        case Script(base, None, None):
            return mathml(base)
        case Script(base, below, None):
            return f"<msub>{mathml(base)}{mathml(below)}</msub>"  # type: ignore[arg-type]
        case Script(base, None, above):
            return f"<msup>{mathml(base)}{mathml(above)}</msup>"  # type: ignore[arg-type]
        case Script(base, below, above):
            return f"<msubsup>{mathml(base)}{mathml(below)}{mathml(above)}</msubsup>"  # type: ignore[arg-type]
        case Bar(base):
            return f'<mover accent="true">{mathml(base)}<mo stretchy="false">¯</mo></mover>'
        case Fraction(top, bottom):
            return f"<mfrac>{mathml(top)}{mathml(bottom)}</mfrac>"
        case Root(inner):
            return f"<msqrt>{mathml(inner)}</msqrt>"
        case Fence(inner, kind):
            marks, tall = _FENCES[kind], is_tall(inner)
            return f"<mrow>{_fence(marks[0], 'prefix', tall)}{mathml(inner)}{_fence(marks[1], 'postfix', tall)}</mrow>"
        case Bracket(mark, tall):
            form = "prefix" if mark == "(" else "postfix"
            size = ' stretchy="true" symmetric="true" minsize="1.45em" maxsize="1.45em"' if tall else ' stretchy="false"'
            return f'<mo fence="true" form="{form}"{size}>{mark}</mo>'
        case Call(head, arguments):
            inside, tall = _COMMA.join(map(mathml, arguments)), any(map(is_tall, arguments))
            inside = f"{_fence('(', 'prefix', tall)}{inside}{_fence(')', 'postfix', tall)}"
            return f"<mrow>{mathml(head)}<mo>&#x2061;</mo>{inside}</mrow>"
        case Big(kind, below, above):
            mark = _BIG[kind]
            operator = (f'<mo largeop="true" movablelimits="false">{mark}</mo>' if len(mark) == 1
                        else f'<mo movablelimits="false" form="prefix">{mark}</mo>')
            if above is not None and below is not None:
                return f"<munderover>{operator}{mathml(below)}{mathml(above)}</munderover>"
            return f"<munder>{operator}{mathml(below)}</munder>" if below is not None else operator
        case Cases(rows):
            inside = "".join(f"<mtr><mtd>{mathml(value)}</mtd><mtd>{_condition(c)}</mtd></mtr>" for value, c in rows)
            return f'<mrow>{_fence("{", "prefix", True)}<mtable class="cases">{inside}</mtable></mrow>'
    raise TypeError(f"no MathML for {type(formula).__name__}")


def _condition(condition: Formula | None) -> str:
    return "<mtext>otherwise</mtext>" if condition is None else f"<mrow>{mathml(condition)}</mrow>"


def _operator(name: str, form: str) -> str:
    return f'<mo form="{form}">{escape(_SIGNS.get(name, name))}</mo>'


def _fence(mark: str, form: str, tall: bool) -> str:
    return f'<mo fence="true" form="{form}" stretchy="{"true" if tall else "false"}">{mark}</mo>'


def _beside(parts: Sequence[Formula]) -> str:
    """Pieces side by side, a little space round fractions and calls."""
    shown = ""
    for k, part in enumerate(parts):
        before = parts[k - 1] if k else None
        if before is not None and not isinstance(before, Sign | Big) and not isinstance(part, Sign):
            wide = stands_apart(before) or stands_apart(part)
            calculus = isinstance(before, Letter) and before.name == "partial"
            shown += "" if calculus else '<mspace width="0.17em"/>' if wide else "<mo>&#x2062;</mo>"
            if isinstance(before, Number) and isinstance(part, Number):
                shown += _operator("cdot", "infix")
        elif isinstance(before, Big):
            shown += '<mspace width="0.1em"/>'
        shown += mathml(part)
    return shown


def _bold(text: str) -> str:
    """The letters of the mathematical bold alphabet: MathML Core knows no other way."""
    return "".join(_bold_letter(letter) for letter in text)


def _bold_letter(letter: str) -> str:
    if "A" <= letter <= "Z":
        return chr(0x1D400 + ord(letter) - ord("A"))
    if "a" <= letter <= "z":
        return chr(0x1D41A + ord(letter) - ord("a"))
    if "0" <= letter <= "9":
        return chr(0x1D7CE + ord(letter) - ord("0"))
    if "α" <= letter <= "ω":
        return chr(0x1D6C2 + ord(letter) - ord("α"))
    return escape(letter)
