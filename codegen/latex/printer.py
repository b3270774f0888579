"""Formulas as LaTeX, with amsmath."""

from __future__ import annotations

from collections.abc import Sequence

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

__all__ = [
    "BREAK", "BREAK_AFTER_HEAD", "BREAK_AT_SIGN", "BREAK_IN_PRODUCT", "begins_with_sign", "broken", "escape", "joined", "latex",
    "line_pieces",
]

BREAK, BREAK_IN_PRODUCT, BREAK_AT_SIGN, BREAK_AFTER_HEAD = r"\brk", r"\brkp", r"\brks", r"\brkh"
"""Where a displayed formula may go on in the next row: macros of the document, and of the fragment."""

_SPECIAL = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
            "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"\textless{}", ">": r"\textgreater{}"}
_SIGNS = {"<=": r"\le", ">=": r"\ge", "!=": r"\ne", "odot": r"\odot", "cdot": r"\cdot", "times": r"\times", "dots": r"\cdots",
          "in": r"\in", "to": r"\to", ":": "{:}", "+=": r"\mathrel{+}="}
_NAMED = frozenset("max min exp log tanh sinh cosh sin cos tan arctan".split())
_LETTERS = {"partial": r"\partial", "infinity": r"\infty", "ell": r"\ell", "calL": r"\mathcal{L}", "top": r"\top", "one": "1"}
_FENCES = {"()": (r"\left(", r"\right)"), "[]": (r"\left[", r"\right]"), "||": (r"\left|", r"\right|"),
           "floor": (r"\left\lfloor", r"\right\rfloor"), "norm": (r"\left\|", r"\right\|")}
_NEAR = r"\!"
"""Before a bracket that grows, for TeX sets it apart from the name of a function."""
_BIG = {"sum": r"\sum", "prod": r"\prod", "max": r"\max", "argmax": r"\operatorname*{arg\,max}"}


def escape(text: str) -> str:
    """Text that TeX prints as it stands."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def latex(formula: Formula) -> str:
    """The formula as mathematics between dollars."""
    match formula:
        case Letter(name, bold):
            letter = _LETTERS.get(name) or (name if len(name) == 1 else rf"\{name}")
            return letter if not bold else rf"\boldsymbol{{{letter}}}" if letter.startswith("\\") else rf"\mathbf{{{letter}}}"
        case Word(text, bold):
            if text in _NAMED:
                return rf"\{text}"
            if " " in text:
                return rf"\text{{{escape(text)}}}"
            return rf"\math{'bf' if bold else 'rm'}{{{escape(text)}}}"
        case Number(text):
            return text
        case Sign(name):
            return _SIGNS.get(name, name)
        case Row(parts):
            return _beside(parts)
        case List(parts):
            return ("," if all(isinstance(p, Letter | Number) for p in parts) else ", ").join(map(latex, parts))
        case Product(factors):
            return _beside(factors)
        case Terms(terms):
            return " ".join(_signed(k, sign, latex(part)) for k, (sign, part) in enumerate(terms))
        case Script(base, None, Word(primes)) if primes.strip("'") == "":
            return latex(base) + primes
        case Script(base, below, above):
            return latex(base) + _under(below) + _above(above)
        case Bar(base):
            return rf"\bar{{{latex(base)}}}"
        case Fraction(top, bottom):
            return rf"\frac{{{latex(top)}}}{{{latex(bottom)}}}"
        case Root(inner):
            return rf"\sqrt{{{latex(inner)}}}"
        case Fence(inner, kind):
            left, right = _fences(kind, is_tall(inner))
            return f"{left}{_apart(left, latex(inner))}{right}"
        case Bracket(mark, tall):
            return (r"\bigl" if mark == "(" else r"\bigr") + mark if tall else mark
        case Call(head, arguments):
            inside = ", ".join(map(latex, arguments))
            tall = any(map(is_tall, arguments))
            left, right = _fences("()", tall)
            return f"{latex(head)}{_NEAR if tall else ''}{left}{inside}{right}"
        case Big(kind, below, above):
            return _BIG[kind] + _under(below) + (rf"^{{{latex(above)}}}" if above is not None else "")
        case Cases(rows):
            inside = r" \\ ".join(f"{latex(value)} & {_condition(condition)}" for value, condition in rows)
            return rf"\begin{{cases}} {inside} \end{{cases}}"
    raise TypeError(f"no LaTeX for {type(formula).__name__}")


def broken(formula: Formula) -> str:
    """A formula of running text, between dollars; where it is long, the text may go on in the next row inside it."""
    pieces = map(_beside, groups_of(formula)) if isinstance(formula, Row) else [latex(formula)]
    return "$" + r" \allowbreak ".join(pieces) + "$"


def line_pieces(line: Line) -> list[list[str]]:
    """A displayed line as its terms, the head with the first; each in the pieces between which it may break too."""
    terms = []
    for k, term in enumerate(line.terms):
        first, *rest = map(_beside, groups(term))
        sign = ("" if term.sign == "+" else "-") if k == 0 else f"{{}}{term.sign} "
        terms.append([sign + first, *rest])
    head = "" if line.head is None else f"{latex(line.head)} "
    terms[0][0] = f"{head}{latex(Sign(line.relation))} {terms[0][0]}"
    if line.where is not None:
        terms.append([rf"\qquad \left({latex(line.where)}\right)"])
    return terms


def joined(pieces: Sequence[str]) -> str:
    """The pieces of a term with the places between them where it may break; a break between factors is marked by a dot."""
    return pieces[0] + "".join(f" {BREAK_AT_SIGN if begins_with_sign(p) else BREAK_IN_PRODUCT} {p}" for p in pieces[1:])


def begins_with_sign(piece: str) -> bool:
    """Whether a piece of a formula begins with a sign, so that no other is wanted where a row begins with it."""
    return piece.startswith(("+", "-", _SIGNS["odot"]))


def _fences(kind: str, tall: bool) -> tuple[str, str]:
    """Brackets, which grow where they must: TeX sets those that grow apart from their neighbours, and breaks no line in them.
    Bars grow always, for only so does TeX know the left one from the right one."""
    left, right = _FENCES[kind]
    return (left, right) if tall or kind in ("||", "norm") else (left.removeprefix(r"\left"), right.removeprefix(r"\right"))


def _signed(k: int, sign: str, shown: str) -> str:
    if k == 0:
        return shown if sign == "+" else f"-{shown}"
    return f"{sign} {shown}"


def _beside(parts: Sequence[Formula]) -> str:
    """Pieces side by side, a little space after a fraction, a sum's guard or a call."""
    shown = ""
    for k, part in enumerate(parts):
        piece = latex(part)
        if k and shown:
            before = parts[k - 1]
            wide = stands_apart(before) or stands_apart(part) and not _grows(part)
            calculus = isinstance(before, Letter) and before.name == "partial"
            shown += " " if isinstance(before, Big | Sign) or isinstance(part, Sign) or calculus or not wide else r"\,"
            if isinstance(before, Number) and isinstance(part, Number):
                shown += r"\cdot "
        shown += piece
    return shown


def _grows(part: Formula) -> bool:
    """Whether it begins with a bracket that TeX itself sets apart."""
    fence = part.base if isinstance(part, Script) else part
    return isinstance(fence, Fence) and is_tall(fence.inner)


def _apart(left: str, inner: str) -> str:
    r"""A space where ``\lfloor`` would run into the letter after it."""
    return f" {inner}" if left[-1].isalpha() and inner[:1].isalpha() else inner


def _under(below: Formula | None) -> str:
    return "" if below is None else rf"_{{{latex(below)}}}"


def _above(above: Formula | None) -> str:
    if above is None:
        return ""
    shown = latex(above).replace(r"\left(", "(").replace(r"\right)", ")")  # brackets of their own size
    return f"^{{{shown}}}"


def _condition(condition: Formula | None) -> str:
    return r"\text{otherwise}" if condition is None else latex(condition)
