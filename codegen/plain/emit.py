"""A document as plain text, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from codegen.derivation.document import (
    Block,
    Box,
    Bullets,
    Display,
    Document,
    Inline,
    LikeTable,
    Math,
    Paragraph,
    Ref,
    Section,
    SymbolTable,
    Words,
)
from codegen.plain.printer import line_text, plain

__all__ = ["emit", "text_of"]

WIDTH = 80
"""Columns of running text; formulas stand on one line, as the comments of the code."""


def emit(document: Document) -> str:
    """The whole document as text."""
    lines = [text_of(document.title), ""]
    for section in document.sections:
        lines += _section(section, 0)
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines) + "\n"


def text_of(words: Words) -> str:
    """Running text."""
    return "".join(map(_inline, words))


def _inline(piece: Inline) -> str:
    match piece:
        case str():
            return piece
        case Math(formula):
            return plain(formula)
        case Ref(number):
            return f"({number})"
        case _:
            return piece.text


def _section(section: Section, level: int) -> list[str]:
    title = text_of(section.title)
    if section.step:
        mathematics, _, _ = title.partition("  ")
        title = mathematics
    lines = [title, ("=", "-")[level] * len(title), ""] if level < 2 and not section.step else [title]
    for block in section.blocks:
        if lines[-1] and not section.step and isinstance(block, Paragraph | Bullets | Box):
            lines.append("")
        lines += _block(block, "  " if section.step else "")
    lines += [] if lines[-1] == "" else [""]
    for inner in section.sections:
        lines += _section(inner, level + 1)
    return lines


def _block(block: Block, indent: str) -> Iterator[str]:
    match block:
        case Paragraph(words):
            yield from _wrapped(text_of(words), indent)
            if not indent:
                yield ""
        case Bullets(items):
            for item in items:
                yield from _wrapped(f"- {text_of(item)}", indent, "  ")
            if not indent:
                yield ""
        case Display():
            yield from _display(block, f"{indent}  ")
        case Box(title, displays):
            yield f"  {text_of(title)}"
            for display in displays:
                yield from _display(display, "    ")
            yield ""
        case LikeTable(rows):
            for like in rows:
                yield f"{indent}  {like.layer}: {text_of(like.reads)}  ({', '.join(map(str, like.numbers))})"
        case SymbolTable(rows):
            shapes = [f"[{', '.join(map(plain, r.shape))}]" if r.shape else "scalar" for r in rows]
            wide = max((len(r.name) for r in rows), default=0), max(map(len, shapes), default=0)
            for r, shape in zip(rows, shapes, strict=True):
                columns = f"  {r.name:<{wide[0]}}  {shape:<{wide[1]}}  "
                first, *rest = _wrapped(text_of(r.about), " " * len(columns))
                yield (columns + first.strip()).rstrip()
                yield from rest
            yield ""


def _display(display: Display, indent: str) -> Iterator[str]:
    line = display.line
    numbers = f"({', '.join(map(str, line.numbers))}) " if any(line.numbers) and line.head is not None else ""
    shown, reason = f"{indent}{numbers}{line_text(line)}", f"[{text_of(display.reason)}]" if display.reason else ""
    if len(shown) + len(reason) + 4 <= WIDTH or not reason:
        yield shown + (f"    {reason}" if reason else "")
        return
    yield shown
    yield from _wrapped(reason, f"{indent}    ", " ")


def _wrapped(text: str, indent: str, hang: str = "") -> list[str]:
    """Lines of at most ``WIDTH``, broken between words; a formula may be longer."""
    rows, current = [], indent
    for word in text.split(" "):
        if len(current) + len(word) > WIDTH and current.strip():
            rows.append(current.rstrip())
            current = indent + hang
        current += f"{word} "
    return [*rows, current.rstrip()]
