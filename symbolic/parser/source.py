"""A text with its place in a file: its syntax tree within limits, and errors with a caret."""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from dataclasses import dataclass, replace
from typing import Any

from symbolic.errors import EquationError, Location

__all__ = ["Source", "compact"]

MAX_TEXT = 100_000
MAX_DEPTH = 80
MAX_SHOWN = 240
"""The longest part of a line that a message repeats."""


def compact(node: ast.AST) -> str:
    """An expression as equations are written: ``sum(W[i,j]*x[j], over=j)``."""
    depth, text = 0, ""
    for piece in re.split(r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|, | \*\*? | / |[\[\]()])", ast.unparse(node)):
        depth += (piece == "[") - (piece == "]")
        text += "," if piece == ", " and depth else piece.strip() if piece in (" * ", " ** ", " / ") else piece
    return text


def _window(line: str, offset: int) -> tuple[str, int]:
    """What is shown of a line: all of it, or of a very long one the part around the place."""
    start = max(0, offset - MAX_SHOWN // 4) if len(line) > MAX_SHOWN else 0
    part = line[start : start + MAX_SHOWN]
    before, after = "..." * (start > 0), "..." * (start + len(part) < len(line))
    return f"{before}{part}{after}", offset - start + len(before)


_STATEMENTS = frozenset(keyword.kwlist) - {"and", "or", "not", "in", "is", "if", "else", "for", "lambda", "None", "True", "False"}
"""Keywords that no expression holds."""


@dataclass(frozen=True)
class Source:
    """A text with its place; turns syntax-tree positions into errors with a caret."""

    text: str
    where: Location

    def tree(self, mode: str = "exec") -> Any:
        if len(self.text) > MAX_TEXT:
            raise EquationError(f"expected at most {MAX_TEXT} characters, found {len(self.text)}", where=self.where)
        if "\0" in self.text:
            raise EquationError("expected text, found a zero byte", where=self.where)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's hints on odd but legal text; our own errors follow
                tree = ast.parse(self.text.strip() if mode == "eval" else self.text, mode=mode)
        except SyntaxError as error:
            line = (error.text or "").rstrip("\n") or self.line(error.lineno or 1)
            offset = max(0, min((error.offset or 1) - 1, len(line)))
            message = f"not an equation: {error.msg}"
            if "integer string conversion" in error.msg:  # CPython's own words are for programmers
                digits = max(re.finditer(r"[0-9]*", line), key=lambda found: len(found[0]))
                offset, message = digits.start(), f"expected a number below 1e18, found one of {len(digits[0])} digits"
            word = next((w for w in re.finditer(r"[A-Za-z]+", line) if w[0] in _STATEMENTS), None)
            if word is not None:
                offset, message = word.start(), f"expected a name, found the Python keyword '{word[0]}'; choose another"
            place = replace(self.where, line=self.where.line + (error.lineno or 1) - 1,
                            column=self.where.column + offset)
            line, offset = _window(line, offset)
            raise EquationError(message, where=place, line=line, offset=offset) from None
        except (RecursionError, MemoryError, ValueError) as error:
            raise EquationError(f"expected an equation, found text too large or too deep ({type(error).__name__})",
                                where=self.where) from None
        self._limit_depth(tree)
        return tree

    def _limit_depth(self, tree: ast.AST) -> None:
        level: list[ast.AST] = [tree]
        for _ in range(3 * MAX_DEPTH):
            level = [child for node in level for child in ast.iter_child_nodes(node)]
            if not level:
                return
        raise EquationError(f"expected an equation, found brackets or terms nested more than {MAX_DEPTH} deep",
                            where=self.where)

    def line(self, number: int) -> str:
        lines = self.text.splitlines() or [""]
        return lines[min(number, len(lines)) - 1]

    def place(self, node: ast.AST) -> tuple[Location, str, int]:
        number, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        line = self.line(number)
        offset = len(line.encode()[:offset].decode(errors="ignore"))
        return replace(self.where, line=self.where.line + number - 1, column=self.where.column + offset), line, offset

    @staticmethod
    def shown(node: ast.AST, most: int = 60) -> str:
        """A piece of the text as a message quotes it: ``'x[t,n].sum()'``."""
        try:
            text = " ".join(compact(node).split())
        except RecursionError:
            return "an expression nested too deep"
        if text[:1] in ("'", '"'):
            return text if len(text) <= most else f"{text[: most - 3]}..."
        return f"'{text if len(text) <= most else f'{text[: most - 3]}...'}'"

    def error(self, node: ast.AST, message: str) -> EquationError:
        place, line, offset = self.place(node)
        line, offset = _window(line, offset)
        return EquationError(message, where=place, line=line, offset=offset)
