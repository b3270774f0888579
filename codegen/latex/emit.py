"""A Derivation as a LaTeX document that compiles with pdflatex and the packages of every distribution."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from codegen.derive import CONVENTIONS, UNSPECIFIED, Derivation, Rewrite, Step, differentiated
from codegen.latex.printer import DerivationPrinter, escape
from codegen.text import unusual
from symbolic.functions import unspecified_row
from symbolic.program import Kind, Program, Tensor

__all__ = ["ADJOINTS", "emit"]

ADJOINTS = {
    "frac": "as fractions",
    "bar": "with a bar, $\\bar{x} = \\partial L/\\partial x$",
    "delta": "as deltas, $\\delta^{x} = \\partial L/\\partial x$",
}

WIDTH = 78
"""Characters of a line of mathematics on the page; longer lines are broken before a term, and shrunk where that fails."""


@dataclass(frozen=True)
class Line:
    """One displayed equation: the rows of an ``aligned`` block, its number and what is said under it."""

    number: int
    rows: tuple[str, ...]
    wide: bool = False
    note: str = ""
    label: str = ""


def emit(derivation: Derivation, adjoint: str = "frac") -> str:
    """The document's text. ``adjoint``: how dL/dX is written, ``frac``, ``bar`` or ``delta``."""
    writer = _Writer(derivation, adjoint)
    return str(_template().render(
        title=escape(derivation.name),
        sizes=", ".join(f"${n} = {v}$" if v is not None else f"${n}$ free" for n, v in
                        derivation.forward_program.sizes.items()) or "none",
        conventions=" ".join(filter(None, (_conventions(), _functions(derivation)))),
        notation=ADJOINTS[adjoint],
        symbols=[writer.symbol(t) for t in derivation.symbols],
        forward=[writer.line(s, derivation.forward_program, label="eq") for s in derivation.forward],
        prepared=[writer.rewrite(r) for r in derivation.prepared],
        adjoints=[(writer.heading(name), [writer.adjoint_line(s) for s in steps]) for name, steps in derivation.adjoints.items()],
        rewrites=[writer.rewrite(r) for r in derivation.rewrites],
        final=[writer.line(s, s.program) for s in derivation.final],
        results=[(writer.heading(r.name), [writer.line(s, s.program) for s in r.steps]) for r in derivation.results],
    ))


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("codegen.latex"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        block_start_string="<%", block_end_string="%>", variable_start_string="<<", variable_end_string=">>",
        comment_start_string="<#", comment_end_string="#>", keep_trailing_newline=True, autoescape=False,  # noqa: S701 - TeX
    )
    return environment.get_template("derivation.tex.j2")


def _conventions() -> str:
    mathematics = {"[condition]": r"$[\,\cdot\,]$", "dL/dX": r"$\partial L/\partial X$", "of X": "of $X$"}
    found = CONVENTIONS
    for plain, tex in mathematics.items():
        found = found.replace(plain, tex)
    return found


def _functions(derivation: Derivation) -> str:
    """Which functions are left unspecified, or an empty text."""
    symbols = ", ".join(f"${unspecified_row(name).latex}$" for name in derivation.functions)
    return UNSPECIFIED.format(symbols) if symbols else ""


class _Writer:
    def __init__(self, derivation: Derivation, adjoint: str) -> None:
        self.derivation, self.adjoint = derivation, adjoint
        self.printers: dict[int, DerivationPrinter] = {}

    def printer(self, program: Program) -> DerivationPrinter:
        """The printer of a program, which keeps the symbols of the whole derivation."""
        if id(program) not in self.printers:
            made = DerivationPrinter(program, self.adjoint)
            made.symbols = {**made.symbols, **DerivationPrinter(self.derivation.adjoint_program).symbols}
            self.printers[id(program)] = made
        return self.printers[id(program)]

    def symbol(self, tensor: Tensor) -> tuple[str, str, str, str]:
        """A row of the table of tensors."""
        printer = self.printer(self.derivation.adjoint_program)
        shape = " \\times ".join(map(printer.doprint, tensor.shape)) or "1"
        about = str(tensor.role)
        if tensor.kind is Kind.INDEX:
            about += ", integers"
            if tensor.below is not None:
                about += f" ${printer.doprint(tensor.low)} \\le \\cdot < {printer.doprint(tensor.below)}$"
        if tensor.constant:
            about += f", constant ({tensor.constant})"
        return escape(tensor.name), printer.symbols.get(tensor.name, escape(tensor.name)), shape, _text(about)

    def heading(self, name: str) -> str:
        """``dL/dW`` for a heading, with the tensor's own name."""
        program = self.derivation.adjoint_program
        symbol = self.printer(program).symbols.get(name, escape(name))
        if name not in program.gradients:
            return f"\\texorpdfstring{{${symbol}$ \\quad (\\texttt{{{escape(name)}}})}}{{{_plain(name)}}}"
        return f"\\texorpdfstring{{$\\partial L/\\partial {symbol}$ \\quad (\\texttt{{{escape(name)}}})}}{{dL/d{_plain(name)}}}"

    def line(self, step: Step, program: Program, note: str = "", label: str = "") -> Line:
        printer = self.printer(program)
        first = step.equations[0]
        odd = [i for e in step.equations for i in unusual(e, program) if i in e.free]
        where = ", ".join(
            f"{printer.doprint(i.lower)} \\le {printer.doprint(i.symbol)} < {printer.doprint(i.upper)}"
            for i in dict.fromkeys(odd)
        )
        head = f"{printer.doprint(first.target)} &{printer.relation(step.equations)}"
        terms = printer.terms(step.equations)
        rows = _broken(head, terms)
        if where:
            rows[-1] += f" \\qquad ({where})"
        return Line(step.number, tuple(rows), any(_width(row) > WIDTH for row in rows), note, label)

    def adjoint_line(self, step: Step) -> Line:
        program = self.derivation.adjoint_program
        printer = self.printer(program)
        origin = step.equations[0].origin
        parents = ", ".join(f"\\hyperlink{{eq{n}}}{{({n})}}" for n in origin.parents)
        if origin.rule == "seed":
            note = "Seed: the derivative of the loss by itself."
        elif origin.read is not None and origin.partial is not None:
            source = differentiated(step.equations[0], program)
            by = printer.doprint(origin.read)
            over = f"\\partial {printer.doprint(source.target)} / \\partial {by} = " if source is not None else ""
            note = f"{_capital(origin.rule)} on {parents}: ${over}{printer.doprint(origin.partial)}$."
        else:
            note = f"{_capital(origin.rule)}{f' of {parents}' if parents else ''}."
        return self.line(step, program, note, label="eq")

    def rewrite(self, rewrite: Rewrite) -> tuple[str, str, list[tuple[list[Line], list[Line]]]]:
        """A rewrite's name, its law, and before and after of each change."""
        changes = [
            ([self.line(s, s.program) for s in change.before], [self.line(s, s.program) for s in change.after])
            for change in rewrite.changes
        ]
        return escape(rewrite.rule), escape(rewrite.law), changes


def _broken(head: str, terms: Sequence[str]) -> list[str]:
    """A line, broken before a term where it is too long, and before a factor where a term alone is."""
    rows: list[str] = []
    current = head
    for position, term in enumerate(terms or ("0",)):
        if position and _width(f"{current} {term}") > WIDTH:
            rows.append(current)
            current = r"&\quad"
        if _width(f"{current} {term}") <= WIDTH:
            current = f"{current} {term}"
            continue
        for k, factor in enumerate(_factors(term)):
            if k and _width(f"{current} {factor}") > WIDTH:
                rows.append(current)
                current = r"&\quad" if factor.startswith(_SIGNS) else r"&\qquad {}\cdot"
            current = f"{current} {factor}"
    return [*rows, current]


_MARK = re.compile(r"\\(?:left|right)\\?.|\\(?:begin|end)\{\w+\}|\\[A-Za-z]+|\\.|\s+|.", re.DOTALL)
_OPEN = ("\\left", "\\begin", "\\Bigl", "{")
_CLOSE = ("\\right", "\\end", "\\Bigr", "}")


def _factors(term: str) -> list[str]:
    """The factors of a product, of a sum also the terms with their signs: what blanks outside of all brackets set apart."""
    depth, parts = 0, [""]
    for mark in _MARK.findall(term):
        depth += mark.startswith(_OPEN)
        depth -= mark.startswith(_CLOSE)
        if not (blank := mark.isspace()):
            parts[-1] += mark
        if depth == 0 and (blank or mark == "\\,"):
            parts.append("")
        elif blank:
            parts[-1] += mark
    found: list[str] = []
    last = ""
    for part in filter(None, parts):
        # A sign, a sum and a guard stand with what follows them, a relation with what precedes it, too.
        if found and (_BEFORE.fullmatch(last) or part not in _SIGNS and _BEFORE.fullmatch(part)):
            found[-1] += f" {part}"
        else:
            found.append(part)
        last = part
    return found


_SIGNS = ("+", "-")
_BEFORE = re.compile(r"(?:[-+=<>/]|\\(?:le|ge|ne|cdot|times)|\\(?:sum|max)(?:_.*)?|\\left\[.*\\right\])(?:\\,)?")


def _width(tex: str) -> float:
    """About how many characters wide a formula prints: the wider part of a fraction, small print for sub- and superscripts."""
    previous = ""
    while previous != tex:
        previous = tex
        tex = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", lambda m: max(m[1], m[2], key=_letters), tex)
        tex = re.sub(r"[_^]\{([^{}]*)\}", lambda m: "x" * round(0.65 * _letters(m[1])), tex)
        tex = re.sub(r"\{([^{}]*)\}", r"\1", tex)
    return _letters(tex)


def _letters(tex: str) -> int:
    return len(re.sub(r"\\(left|right|mathrm|mathrel|operatorname|partial ?|,|Bigl|Bigr|quad|bar)|[{}&\s]|\\", "",
                      tex.replace("\\sum", "SS").replace("\\partial", "d").replace(" + ", " +++ ").replace("=", "===")))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _text(about: str) -> str:
    """Escape all but the mathematics between dollars."""
    parts = about.split("$")
    return "$".join(part if k % 2 else escape(part) for k, part in enumerate(parts))


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]", " ", name)
