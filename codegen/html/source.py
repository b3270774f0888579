"""Generated code for the page: its lines, and the numbers of the equations that each computes."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Source", "SourceLine", "source"]

_NUMBERED = re.compile(r"\s*(?:#|/\*|//|\*)\s*\((\d+(?:, \d+)*)\) ")


@dataclass(frozen=True)
class SourceLine:
    """One line: the equations that it computes, and whether it is a comment."""

    text: str
    numbers: tuple[int, ...]
    comment: bool


@dataclass(frozen=True)
class Source:
    """One file of code. ``name``: its file name; ``language``: for the tab."""

    name: str
    language: str
    lines: tuple[SourceLine, ...]


def source(name: str, language: str, text: str) -> Source:
    """The lines of a generated file. A comment with numbers stands over what computes these equations: it counts until the
    next such comment, a blank line, or a line that is less indented."""
    lines: list[SourceLine] = []
    numbers: tuple[int, ...] = ()
    depth, inside = 0, False
    for line in text.splitlines():
        found = _NUMBERED.match(line)
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        comment = bare.startswith(("#", "//", "/*")) and not bare.startswith(("#include", "#define", "#if", "#end", "#el"))
        if found:
            numbers, depth = tuple(map(int, found[1].split(", "))), indent
        elif not bare or indent < depth or bare.startswith(("def ", "return ", "grads = ")):
            numbers = ()
        lines.append(SourceLine(line, numbers, comment or inside))
        inside = (comment or inside) and bare.startswith(("/*", "*")) and "*/" not in bare or inside and "*/" not in bare
    return Source(name, language, tuple(lines))
