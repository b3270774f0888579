r"""What stands around the formulas of a derivation: the table of symbols, sizes, displayed lines, formulas in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.latex_reader.symbols import Symbol, Symbols, symbol
from tests.latex_reader.tokens import LatexError, argument, unescaped

__all__ = ["Document", "Inline", "Like", "Line", "balanced", "equations", "read"]


@dataclass(frozen=True)
class Line:
    """A displayed formula: where it stands, the numbers beside it, the reason below. ``more``: it goes on from the line above."""

    section: str
    title: str
    numbers: tuple[int, ...]
    text: str
    more: bool
    reason: str = ""


@dataclass(frozen=True)
class Inline:
    """A formula in the text; ``number``: the equation that was named last before it in the same paragraph."""

    section: str
    text: str
    number: int | None

    @property
    def says(self) -> bool:
        """Whether it is an equation, and no mere symbol."""
        return "=" in self.text and self.text != "+="


@dataclass(frozen=True)
class Like:
    """A layer with the equations of ``first``, under these numbers; ``reads``: what that reads, and what stands in its place."""

    section: str
    layer: str
    first: str
    reads: tuple[tuple[str, str], ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Document:
    """All that is read: ``sizes`` has ``None`` for what may be any number."""

    symbols: Symbols
    sizes: dict[str, int | None]
    lines: tuple[Line, ...]
    inlines: tuple[Inline, ...]
    likes: tuple[Like, ...] = ()


PIECE = re.compile(
    r"\\(?P<command>(?:sub)*section\*|dsymbol|dlike|dreason|texttt|eqnumber|eqanchor|item|par)(?![A-Za-z])"
    r"|\\begin\{(?P<begin>\w+)\}|\\end\{(?P<end>\w+)\}|(?P<dollar>\$)"
)


def read(text: str) -> Document:
    """The document of a derivation, or a fragment of one. Raises LatexError where braces or environments do not balance."""
    balanced(text)
    body = text.partition(r"\begin{document}")[2].partition(r"\end{document}")[0]
    reader = _Reader(body or text.partition(r"\makeatother")[2])
    reader.read()
    if not reader.rows:
        raise LatexError("the document has no table of symbols")
    rows = [*reader.rows, *(row for row in reader.called_like() if row.name not in {known.name for known in reader.rows})]
    return Document(Symbols(rows), reader.sizes, tuple(reader.lines), tuple(reader.inlines), tuple(reader.likes))


def balanced(text: str) -> None:
    """Raises LatexError where a brace, an environment or a pair of brackets is not closed."""
    body = text.partition(r"\makeatother")[2] or text
    depth = 0
    for mark in re.findall(r"\\.|[{}]", body):
        depth += {"{": 1, "}": -1}.get(mark, 0)
        if depth < 0:
            raise LatexError("a brace is closed that was not opened")
    if depth:
        raise LatexError("a brace is not closed")
    open_: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", body):
        if kind == "begin":
            open_.append(name)
        elif not open_ or open_.pop() != name:
            raise LatexError(f"the environment {name} is closed where it is not the last one opened")
    if open_:
        raise LatexError(f"the environment {open_[-1]} is not closed")
    if len(re.findall(r"\\left(?![A-Za-z])", body)) != len(re.findall(r"\\right(?![A-Za-z])", body)):
        raise LatexError(r"\left and \right do not balance")
    if len(re.findall(r"(?<!\\)\$", body)) % 2:
        raise LatexError("a dollar is left over")


class _Reader:
    """Walks over the text once."""

    def __init__(self, body: str) -> None:
        self.body = body
        self.rows: list[Symbol] = []
        self.sizes: dict[str, int | None] = {}
        self.lines: list[Line] = []
        self.inlines: list[Inline] = []
        self.likes: list[Like] = []
        self.section = self.title = ""
        self.number: int | None = None

    def read(self) -> None:
        at = 0
        while match := PIECE.search(self.body, at):
            at = match.end()
            if match["begin"]:
                at = self.begins(match["begin"], at)
            elif match["dollar"]:
                end = self.body.index("$", at)
                self.inline(self.body[at:end])
                at = end + 1
            elif match["command"]:
                at = self.command(match["command"], at)

    def begins(self, name: str, at: int) -> int:
        if name == "dresult":
            title, at = argument(self.body, at)
            self.title = unescaped(argument(title, title.index("{"))[0])
        if name != "dline":
            return at
        numbers, at = argument(self.body, at)
        end = self.body.index(r"\end{dline}", at)
        text = re.sub(r"\\eqanchor\{\d+\}", "", self.body[at:end]).strip()
        more = text.startswith(r"\dmore")
        self.lines.append(Line(self.section, self.title, tuple(int(n) for n in re.findall(r"\d+", numbers)), text, more))
        return end

    def command(self, name: str, at: int) -> int:
        if name == "dsymbol":
            columns = []
            for _ in range(4):
                column, at = argument(self.body, at)
                columns.append(column)
            letter, tensor, shape, about = columns
            self.rows.append(symbol(letter, unescaped(tensor), shape, about))
            for text in re.findall(r"\$(.*?)\$", about):
                self.inline(text)
        elif name == "dlike":
            layer, at = argument(self.body, at)
            reads, at = argument(self.body, at)
            numbers, at = argument(self.body, at)
            first = re.findall(r"that \\texttt\{([^{}]*)\} reads", self.body[:at])[-1]
            names = _names(reads)
            self.likes.append(Like(self.section, _names(layer)[0], first, tuple(zip(names[1::2], names[::2], strict=True)),
                                   tuple(int(n) for n in numbers.split(","))))
        elif name.endswith("section*"):
            title, at = argument(self.body, at)
            shown = argument(title, title.index("{"))[0]
            for text in re.findall(r"\$(.*?)\$", shown):
                self.inline(text)
            self.title = unescaped(re.sub(r"\$.*?\$|\\texttt|[{}]", "", shown.replace(r"\allowbreak{}", "")))
            if name == "section*":
                self.section = self.title
            self.number = None
        elif name == "dreason":
            reason, _ = argument(self.body, at)
            last = self.lines[-1]
            self.lines[-1] = Line(last.section, last.title, last.numbers, last.text, last.more, reason)
        elif name == "eqnumber":
            number, at = argument(self.body, at)
            self.number = int(number)
        elif name in ("item", "par"):
            self.number = None
            if self.body.startswith(" Sizes:", at):
                self.read_sizes(self.body[at : self.body.index("\n", at)])
        return at

    def called_like(self) -> Iterator[Symbol]:
        """The symbols that need no row of their own: those of a layer that are called like those of another."""
        for layers, first in re.findall(r"The tensors of (.*?) are called like those of \\texttt\{(.*?)\}\.", self.body):
            for layer in _names(layers):
                yield from (row.like(layer) for row in self.rows if row.name.startswith(f"{unescaped(first)}."))

    def read_sizes(self, text: str) -> None:
        """``$V = 65$, $T$ are any numbers``."""
        for shown in re.findall(r"\$(.*?)\$", text):
            name, _, number = shown.partition("=")
            word = re.sub(r"\\mathrm\{(\w+)\}", r"\1", name.strip())
            self.sizes[word] = int(number) if number else None

    def inline(self, text: str) -> None:
        self.inlines.append(Inline(self.section, text, self.number))


def _names(text: str) -> list[str]:
    return [unescaped(name) for name in re.findall(r"\\texttt\{((?:[^{}]|\{\})*)\}", text)]


def equations(lines: tuple[Line, ...]) -> Iterator[tuple[Line, Line]]:
    """Every line with the line on whose left side it hangs: itself, or the last above that has one."""
    head: Line | None = None
    for line in lines:
        if not line.more:
            head = line
        if head is None:
            raise LatexError("the first line goes on from nothing")
        yield line, head
