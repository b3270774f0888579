"""The texts of a node or of an edge's label, each at its place in a box that is large enough for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codegen.graph.measure import MONO, SANS, width
from codegen.graph.model import Edge, Flow, Kind, Node

__all__ = ["Box", "Text", "label_box", "node_box"]

PAD = 10.0
"""Room between the border of a node and its texts."""
GAP = 14.0
"""Room between two texts of one row."""
MOST_TENSORS = 3
"""Tensors on one label at most."""


@dataclass(frozen=True)
class Text:
    """One text on its base line, in parts with the class that each has in the style sheet; ``x`` is its ``anchor``: start,
    middle or end."""

    x: float
    y: float
    parts: tuple[tuple[str, str], ...]
    anchor: str = "start"


@dataclass(frozen=True)
class Box:
    """A box with its texts, the origin in its upper left corner."""

    width: float
    height: float
    texts: tuple[Text, ...]


@dataclass(frozen=True)
class _Style:
    """A class of the style sheet: what it measures."""

    name: str
    size: float
    font: str = MONO
    bold: bool = False

    def width(self, words: str) -> float:
        return width(words, self.size, self.font, self.bold)


# The sizes are those of the style sheet in templates/graph.svg.jinja.
TITLE = _Style("title", 14, SANS, True)
TAG = _Style("tag", 11, SANS)
NAME = _Style("name", 12, MONO, True)
ROW = _Style("row", 11)
MUTED = _Style("muted", 11)
NOTE = _Style("note", 11, SANS)
TENSOR = _Style("tensor", 11)
SHAPE = _Style("shape", 11)
DELAY = _Style("delay", 12, MONO, True)

_Part = tuple[str, _Style]


def node_box(node: Node) -> Box:
    """The box of a node: its title with its tag, then its rows."""
    match node.kind:
        case Kind.LAYER:
            rows = [((node.title, TITLE), (node.tag, TAG))]
            rows += [((row.left, NOTE if row.muted else ROW), (row.right, MUTED)) for row in node.rows]
        case Kind.EQUATION:
            rows = [((node.title, NAME), (node.tag, TAG)), *(((row.left, MUTED), ("", MUTED)) for row in node.rows)]
        case Kind.INPUT | Kind.PARAMETER:
            rows = [((node.title, NAME), (node.tag, SHAPE))]
    # The sides of an input are round, those of a parameter are slanted: both need room.
    pad = PAD + (4 if node.kind in (Kind.INPUT, Kind.PARAMETER) else 2 if node.backward else 0)
    return _stacked(rows, pad, 7.0, 7.0 if node.kind is Kind.LAYER else 0.0)


def _stacked(rows: Sequence[tuple[_Part, _Part]], pad: float, above: float, below_title: float) -> Box:
    """Rows under one another, each with a left and a right text."""
    inner = max(left[1].width(left[0]) + (GAP + right[1].width(right[0]) if right[0] else 0) for left, right in rows)
    texts, y = [], above
    for k, ((left, style), (right, other)) in enumerate(rows):
        line = max(style.size, other.size if right else 0) + 5
        y += below_title if k == 1 else 0
        base = round(y + line - 6, 1)
        texts.append(Text(pad, base, ((left, style.name),)))
        if right:
            texts.append(Text(round(inner + pad, 1), base, ((right, other.name),), "end"))
        y += line
    return Box(round(inner + 2 * pad, 1), round(y + above - 1, 1), tuple(texts))


def label_box(edge: Edge, most: int = MOST_TENSORS) -> Box | None:
    """The box of an edge's label, which names so many tensors; None where there is nothing to say: an input or a parameter says
    its name itself."""
    if edge.source.startswith("tensor ") and not edge.delay or edge.flow is Flow.SEED:
        return None
    lines: list[list[_Part]] = [[(name, TENSOR), *([(shape, SHAPE)] if shape else [])] for name, shape in edge.tensors[:most]]
    if len(edge.tensors) > most:
        lines[-1].append((f"and {len(edge.tensors) - most} more", NOTE))
    if edge.flow is Flow.CARRY:
        lines.append([("to the next window", NOTE)])
    if edge.delay:
        lines[0].insert(0, (edge.delay, DELAY))
    across = max(sum(style.width(f"{words} ") for words, style in line) for line in lines)
    texts, y = [], 2.0
    for line in lines:
        parts = tuple((words if k == len(line) - 1 else f"{words} ", style.name) for k, (words, style) in enumerate(line))
        texts.append(Text(round(across / 2, 1), round(y + 11, 1), parts, "middle"))
        y += 15
    return Box(round(across, 1), round(y + 3, 1), tuple(texts))
