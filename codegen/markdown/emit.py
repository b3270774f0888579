"""A document as Markdown with LaTeX between dollars, as GitHub and notebooks draw it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from codegen.derivation.document import (
    Block,
    Box,
    Bullets,
    Code,
    Display,
    Document,
    Inline,
    LikeTable,
    Math,
    Paragraph,
    Ref,
    Section,
    Strong,
    SymbolTable,
    Words,
)
from codegen.derivation.formula import Line, Sign, width
from codegen.latex.printer import begins_with_sign, latex, line_pieces

__all__ = ["aligned", "emit", "markdown_of"]

WIDTH = 62.0
"""Letters of a row of a displayed formula; there are no rows of their own accord in what draws Markdown."""


def emit(document: Document, header: str = "") -> str:
    """The text of the document. ``header``: what it was generated from, as a comment."""
    lines = [f"<!-- {header} -->", ""] if header else []
    lines += [f"# {markdown_of(document.title)}", ""]
    for section in document.sections:
        lines += _section(section, 2)
    return "\n".join(lines).rstrip("\n") + "\n"


def markdown_of(words: Words) -> str:
    """Running text."""
    return "".join(map(_inline, words))


def _inline(piece: Inline) -> str:
    match piece:
        case str():
            return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", piece)
        case Math(formula):
            return f"${_plain_signs(latex(formula))}$"
        case Ref(number):
            return f"({number})"
        case Code(text):
            return f"`{text}`"
        case Strong(text):
            return f"*{text}*"


def _section(section: Section, level: int) -> Iterator[str]:
    yield f"{'#' * level} {markdown_of(section.title)}"
    yield ""
    for block in section.blocks:
        yield from _block(block)
        yield ""
    for inner in section.sections:
        yield from _section(inner, level + 1)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph(words):
            yield markdown_of(words)
        case Bullets(items):
            yield from (f"- {markdown_of(item)}" for item in items)
        case Display():
            yield from _display(block)
        case Box(title, displays):
            yield f"**{markdown_of(title)}**"
            for display in displays:
                yield ""
                yield from _display(display, boxed=True)
        case LikeTable(rows):
            yield "| layer | reads | equations |"
            yield "| --- | --- | --- |"
            for like in rows:
                yield f"| `{like.layer}` | {markdown_of(like.reads)} | {', '.join(map(str, like.numbers))} |"
        case SymbolTable(rows):
            yield "| symbol | name | shape | what it is |"
            yield "| --- | --- | --- | --- |"
            for row in rows:
                shape = " \\times ".join(map(latex, row.shape))
                symbols = ", ".join(f"${latex(symbol)}$" for symbol in row.symbols)
                yield (f"| {symbols} | `{row.name}` | {f'${shape}$' if shape else 'scalar'} | "
                       f"{markdown_of(row.about)} |")


def _display(display: Display, boxed: bool = False) -> Iterator[str]:
    numbers = [n for n in display.line.numbers if n] if display.line.head is not None else []
    shown = aligned(display.line)
    yield "$$"
    yield (f"\\boxed{{{shown}}}" if boxed else shown) + (f" \\tag{{{', '.join(map(str, numbers))}}}" if numbers else "")
    yield "$$"
    if display.reason:
        yield ""
        yield markdown_of(display.reason)


def aligned(line: Line) -> str:
    """A displayed line in rows of about ``WIDTH`` letters, broken before its terms, and a long term between its factors."""
    terms = line_pieces(line)
    head = f"{latex(line.head)} " if line.head is not None else ""
    relation = latex(Sign(line.relation))
    first = terms[0][0].removeprefix(f"{head}{relation} ")
    sizes = [sum(map(width, term.factors)) + 2 for term in line.terms] + [10.0] * (len(terms) - len(line.terms))
    used = (width(line.head) if line.head is not None else 2.0) + 2
    rows = [f"{head}&{relation} {first}"]
    used += sizes[0]
    for k, pieces in enumerate(terms):
        if k and used + sizes[k] > WIDTH:
            rows.append(rf"&\quad {pieces[0]}")
            used = sizes[k] + 4
        elif k:
            rows[-1] += f" {pieces[0]}"
            used += sizes[k]
        for piece in pieces[1:]:
            if sizes[k] > WIDTH:
                rows.append(r"&\quad {}" + ("" if begins_with_sign(piece) else r"\cdot ") + piece)
            else:
                rows[-1] += rf"\, {piece}"
    if len(rows) == 1:
        return _plain_signs(rows[0].replace("&", "", 1))
    inside = " \\\\\n".join(rows)
    return _plain_signs(f"\\begin{{aligned}}\n{inside}\n\\end{{aligned}}")


def _plain_signs(tex: str) -> str:
    """No ``<`` of which Markdown could make a tag."""
    return tex.replace("<", r"\lt ").replace(">", r"\gt ")
