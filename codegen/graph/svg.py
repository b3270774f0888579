"""A drawing as SVG: shapes, lines and a legend, made ready for the template, which holds the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from codegen.graph.boxes import NOTE, Box
from codegen.graph.layout import Drawing, PlacedFlow, PlacedNode, Point
from codegen.graph.model import Flow, Kind

__all__ = ["svg_of"]

MARGIN = 16.0
_SAMPLE = 34.0
"""Width of a sample in the legend."""
_ROW = 24.0


@dataclass(frozen=True)
class _Item:
    """One line of the legend: what is shown, what it says, where it stands."""

    kind: str
    words: str
    x: float
    y: float


def svg_of(drawing: Drawing, standalone: bool = True, prefix: str = "") -> str:
    """The text of a drawing. ``standalone``: a file of its own, with colours for dark screens; else an element for a page,
    which sets its colours (``--graph-*``). ``prefix``: what the ids in it begin with; each drawing of a page needs its own."""
    graph = drawing.graph
    width = max(drawing.width, 300.0)
    left = MARGIN + (width - drawing.width) / 2
    items, below = _legend(drawing, width)
    return str(_template().render(
        prefix=re.sub(r"[^A-Za-z0-9_-]", "-", prefix or f"graph-{graph.name}-{graph.level}"),
        standalone=standalone,
        width=_number(width + 2 * MARGIN),
        height=_number(drawing.height + 2 * MARGIN + below),
        title=f"{graph.name}: its {graph.level}" + (" and the flow of its gradients" if graph.has_backward else ""),
        about=_about(drawing),
        left=_number(left), top=_number(MARGIN),
        nodes=[_node(placed) for placed in drawing.nodes],
        flows=[_flow(placed) for placed in drawing.flows],
        legend=items, legend_top=_number(drawing.height + MARGIN + 14), legend_left=_number(MARGIN),
    ))


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("codegen.graph"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=True,
    )
    return environment.get_template("graph.svg.jinja")


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _about(drawing: Drawing) -> str:
    """What a reader who cannot see the drawing is told."""
    graph = drawing.graph
    kinds = [(kind, sum(node.kind is kind for node in graph.nodes)) for kind in Kind]
    counts = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds if count)
    loops = [f"{' and '.join(name for name, _ in edge.tensors)} from step {edge.delay}" for edge in graph.edges if edge.returns]
    steps = f" Unrolled: steps {graph.steps[0]} to {graph.steps[-1]}." if graph.steps else ""
    return f"{counts}.{steps}" + (f" Recurrence: {'; '.join(loops)}." if loops else "")


def _node(placed: PlacedNode) -> dict[str, Any]:
    node, box = placed.node, placed.box
    classes = [str(node.kind), *(["adjoint"] if node.backward else []), *(["folded"] if node.count > 1 else [])]
    return {
        "classes": " ".join(classes), "kind": str(node.kind), "numbers": " ".join(map(str, node.numbers)), "about": node.about,
        "x": _number(placed.x), "y": _number(placed.y), "width": _number(box.width), "height": _number(box.height),
        "inner_width": _number(box.width - 6), "inner_height": _number(box.height - 6),
        "round": _number(box.height / 2), "slanted": _slanted(box.width, box.height),
        "adjoint": node.backward, "folded": node.count > 1, "rule": _number(30) if node.kind is Kind.LAYER and node.rows else "",
        "texts": _texts(box),
    }


def _slanted(width: float, height: float) -> str:
    cut = 7.0
    points = [(cut, 0.0), (width, 0.0), (width - cut, height), (0.0, height)]
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _flow(placed: PlacedFlow) -> dict[str, Any]:
    edge, box = placed.edges[0], placed.box
    sources, targets = (list(dict.fromkeys(names)) for names in zip(*((e.source, e.target) for e in placed.edges), strict=True))
    tensors = ", ".join(f"{name} {shape}".rstrip() for name, shape in edge.tensors)
    words = {Flow.FORWARD: "", Flow.BACKWARD: "gradient ", Flow.SEED: "the gradient starts: ", Flow.CARRY: "to the next window: "}
    ends = f"{', '.join(map(_name, sources))} → {', '.join(map(_name, targets))}"
    return {
        "classes": " ".join([str(edge.flow), *(["returns"] if edge.returns else [])]), "flow": str(edge.flow),
        "before": [_path(curve) for curve in placed.before], "after": [_path(curve) for curve in placed.after],
        "about": f"{words[edge.flow]}{tensors}{f', from step {edge.delay}' if edge.delay else ''}: {ends}",
        "label": box is not None, "x": _number(placed.x), "y": _number(placed.y),
        "width": _number(box.width if box else 0), "height": _number(box.height if box else 0),
        "texts": _texts(box) if box else [],
    }


def _texts(box: Box) -> list[dict[str, Any]]:
    return [{"x": _number(t.x), "y": _number(t.y), "parts": t.parts, "anchor": t.anchor} for t in box.texts]


def _name(key: str) -> str:
    kind, _, rest = key.partition(" ")
    return f"({rest.partition(' ')[0]})" if kind == "equation" else rest.replace(" ", " t=")


def _path(points: tuple[Point, ...]) -> str:
    first, *rest = (f"{_number(x)},{_number(y)}" for x, y in points)
    return f"M{first} C{' '.join(rest)}"


def _legend(drawing: Drawing, width: float) -> tuple[list[_Item], float]:
    """What the drawing uses of these signs, in lines that are as wide as it is; and how high they are."""
    graph = drawing.graph
    flows, delays = {edge.flow for edge in graph.edges}, {edge.delay for edge in graph.edges if edge.delay}
    words = [("forward", "tensor [shape]")] if Flow.FORWARD in flows else []
    if Flow.BACKWARD in flows:
        words.append(("backward", "gradient of the loss"))
    if Flow.SEED in flows:
        words.append(("seed", "loss, where gradients start"))
    if Flow.CARRY in flows:
        words.append(("carry", "state for the next window"))
    if delays:
        words.append(("returns", "read at another step"))
    if any(node.backward for node in graph.nodes):
        words.append(("adjoint", "adjoint equation"))
    if any(node.kind is Kind.PARAMETER for node in graph.nodes):
        words.append(("parameter", "parameter"))
    if any(node.kind is Kind.INPUT for node in graph.nodes):
        words.append(("input", "input"))
    if any(node.count > 1 for node in graph.nodes):
        words.append(("folded", "layers that repeat"))
    items, x, y = [], 0.0, 0.0
    for kind, said in words:
        wide = _SAMPLE + 8 + (26 if kind == "returns" else 0) + NOTE.width(said) + 14
        if x and x + wide > width:
            x, y = 0.0, y + _ROW
        items.append(_Item(kind, said, round(x, 1), y))
        x += wide
    return items, y + _ROW + 14
