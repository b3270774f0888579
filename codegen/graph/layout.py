"""Where the nodes, labels and lines of a graph lie: Graphviz's ``dot`` (Gansner, Koutsofios, North, Vo 1993), run in the process.

Graphviz is told sizes and never sees a text, so that no font of a machine changes a drawing. The label of an edge is a node of
its own to it, half way, and the place where a tensor parts for its readers. Gradients are laid out as if they ran forward, and
a recurrence as if it did not go back: they then lie beside the tensors that they belong to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from codegen.graph.boxes import Box, label_box, node_box
from codegen.graph.model import Edge, Flow, Graph, Node
from symbolic.errors import MachineError

__all__ = ["Drawing", "PlacedFlow", "PlacedNode", "place"]

Point = tuple[float, float]
Curve = tuple[Point, ...]


@dataclass(frozen=True)
class PlacedNode:
    """A node with its box, and where the upper left corner of that lies."""

    node: Node
    box: Box
    x: float
    y: float


@dataclass(frozen=True)
class PlacedFlow:
    """Edges that carry the same from the same nodes to the same others, drawn as one: curves to the label, curves from it on
    (Bezier points, in the direction of the flow). Without a label there are only curves from node to node."""

    edges: tuple[Edge, ...]
    before: tuple[Curve, ...]
    after: tuple[Curve, ...]
    box: Box | None = None
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True)
class Drawing:
    """A graph that has been laid out. The origin is in the upper left corner."""

    graph: Graph
    width: float
    height: float
    nodes: tuple[PlacedNode, ...]
    flows: tuple[PlacedFlow, ...]


def place(graph: Graph) -> Drawing:
    """Lay a graph out. Raises MachineError where Graphviz is missing."""
    nodes = {node.key: node for node in graph.nodes}
    names = {node.key: f"n{k}" for k, node in enumerate(graph.nodes)}
    boxes = {node.key: node_box(node) for node in graph.nodes}
    bundles = [_Bundle(f"b{k}", edges, nodes) for k, edges in enumerate(_bundled(graph.edges, nodes))]
    _pair(bundles)
    # Graphviz may lose the order of the steps where something without a step hangs between them; it keeps it where that is loose.
    for loose in (False, True):
        dot = _graphviz()(directed=True, strict=False)
        dot.graph_attr.update(rankdir="TB", nodesep="0.25", ranksep="0.28", splines="true")
        dot.node_attr.update(shape="box", fixedsize="true", label="", margin="0")
        dot.edge_attr.update(arrowhead="none")
        for node in graph.nodes:
            dot.add_node(names[node.key], **_size(boxes[node.key]), **_column(node))
        for bundle in bundles:
            bundle.write(dot, names, loose)
        rows = _write_rows(dot, graph, names, bundles)
        dot.layout(prog="dot")
        _, _, width, height = map(float, dot.graph_attr["bb"].split(","))
        found = _Found(dot, height)
        if all(found.is_in_order(row) for row in rows):
            break
    placed = tuple(PlacedNode(node, boxes[node.key], *found.corner(names[node.key], boxes[node.key])) for node in graph.nodes)
    flows = tuple(bundle.placed(found, names) for bundle in bundles)
    return Drawing(graph, width, height, placed, flows)


def _graphviz() -> Any:
    try:
        from pygraphviz import AGraph
    except ImportError:
        raise MachineError(
            "a drawing needs Graphviz, which the Python package pygraphviz brings along; it cannot be imported here: "
            "pip install pygraphviz (on a platform without a wheel it is built, and needs a C compiler and Graphviz's headers)"
        ) from None
    return AGraph


def _size(box: Box) -> dict[str, str]:
    return {"width": f"{box.width / 72:.4f}", "height": f"{box.height / 72:.4f}"}


def _column(node: Node) -> dict[str, str]:
    """The nodes of one step are kept under one another."""
    return {} if node.step is None else {"group": f"t{node.step}"}


def _bundled(edges: tuple[Edge, ...], nodes: Mapping[str, Node]) -> list[tuple[Edge, ...]]:
    """Edges that say the same, from the same sources to the same targets, together: a tensor with four readers is named once."""
    alike: dict[object, dict[str, list[Edge]]] = {}
    for k, edge in enumerate(edges):
        alone: object = k if label_box(edge) is None or _row_of(edge, nodes) else None
        key = (edge.flow, edge.tensors, edge.delay, edge.returns, nodes[edge.source].step == nodes[edge.target].step, alone)
        alike.setdefault(key, {}).setdefault(edge.source, []).append(edge)
    found = []
    for sources in alike.values():
        by_targets: dict[frozenset[str], list[Edge]] = {}
        for rows in sources.values():
            by_targets.setdefault(frozenset(edge.target for edge in rows), []).extend(rows)
        found += [tuple(rows) for rows in by_targets.values()]
    return found


class _Bundle:
    """One bundle of edges: how it is given to Graphviz and read again. ``pieces``: tail and head as Graphviz has them, whether
    that is against the flow, and the ends of its label that they touch."""

    def __init__(self, name: str, edges: tuple[Edge, ...], nodes: Mapping[str, Node]) -> None:
        self.name, self.edges, self.first = name, edges, edges[0]
        source, target = nodes[self.first.source], nodes[self.first.target]
        self.is_loop, self.row = source is target, _row_of(self.first, nodes)
        self.box = label_box(self.first, 1) if self.row and not self.is_loop else label_box(self.first)
        # A gradient is laid out from its target to its source, so is what goes back; side by side the earlier step comes first.
        self.flipped = (self.first.flow is Flow.BACKWARD) != (self.first.returns or self.first.flow is Flow.CARRY)
        if self.row:
            self.flipped = (source.step or 0) > (target.step or 0)
        self.is_left = self.is_loop and self.first.flow is Flow.BACKWARD
        self.source, self.target = source, target
        self.column = _column(source) if source.step == target.step else {}
        self.node, self.side, self.around = name, "", self.box
        self.is_bridge = bool(self.row) and not self.is_loop and abs((source.step or 0) - (target.step or 0)) > 1

    def _pieces(self, names: dict[str, str]) -> list[tuple[str, str, bool, bool]]:
        """Tail, head, whether that is against the flow, whether it is after the label."""
        sources = list(dict.fromkeys(names[edge.source] for edge in self.edges))
        targets = list(dict.fromkeys(names[edge.target] for edge in self.edges))
        if self.box is None:
            pairs = [(source, target, True) for source in sources for target in targets]
        else:
            pairs = [*((source, self.node, False) for source in sources), *((self.node, target, True) for target in targets)]
        if self.is_loop and self.box is not None:  # both between the node and its label, which stands to its right or its left
            ends = (self.node, names[self.first.source]) if self.is_left else (names[self.first.source], self.node)
            return [(*ends, self.is_left, False), (*ends, not self.is_left, True)]
        if self.is_bridge and self.box is not None:  # over the nodes between, a gradient under them
            above = self.first.flow is not Flow.BACKWARD
            return [(self.node, name, not after, after) if above else (name, self.node, after, after)
                    for name, after in ((sources[0], False), (targets[0], True))]
        return [(head, tail, True, after) if self.flipped else (tail, head, False, after) for tail, head, after in pairs]

    def write(self, dot: Any, names: dict[str, str], loose: bool) -> None:
        between = self.source.step != self.target.step
        stepless = None in (self.source.step, self.target.step)
        is_free = self.first.flow is Flow.SEED or (between and stepless and loose)
        free = {"constraint": "false"} if is_free else {}
        if self.around is not None:
            dot.add_node(self.node, **_size(self.around), **self.column)
        for k, (tail, head, _, is_after) in enumerate(self._pieces(names)):
            ports = {}
            if self.side:
                ports = {"headport": f"{self.side}w"} if head == self.node else {"tailport": f"{self.side}e"}
            elif self.box is not None and self.is_loop:
                ports = {"tailport" if self.is_left else "headport": "n" if is_after != self.is_left else "s"}
            elif self.box is not None and (not self.row or self.is_bridge):
                ports = {"headport": "n"} if head == self.node else {"tailport": "s"}
            dot.add_edge(tail, head, key=f"{self.name}.{k}", **ports, **free)

    def placed(self, found: _Found, names: dict[str, str]) -> PlacedFlow:
        before: list[Curve] = []
        after: list[Curve] = []
        for k, (tail, head, against, is_after) in enumerate(self._pieces(names)):
            curve = found.curve(tail, head, f"{self.name}.{k}")
            (after if is_after else before).append(curve[::-1] if against else curve)
        if self.box is None or self.around is None:
            return PlacedFlow(self.edges, tuple(before), tuple(after))
        x, y = found.corner(self.node, self.box)
        if self.side:  # on the upper or the lower border of what was laid out
            y = round(y + (-1 if self.side == "n" else 1) * self.around.height / 2, 1)
        return PlacedFlow(self.edges, tuple(before), tuple(after), self.box, x, y)


def _pair(bundles: list[_Bundle]) -> None:
    """A tensor on its way to the next step and the gradient that comes back have their labels under one another."""
    levels: dict[tuple[str, str], list[_Bundle]] = {}
    for bundle in bundles:
        if bundle.row and not bundle.is_loop and not bundle.is_bridge:
            ends = (bundle.source.key, bundle.target.key)
            levels.setdefault(ends[::-1] if bundle.flipped else ends, []).append(bundle)
    for pair in levels.values():
        if len(pair) == 2 and pair[0].box and pair[1].box:
            width, height = max(b.box.width for b in pair if b.box), sum(b.box.height for b in pair if b.box) / 2
            for bundle, side in zip(pair, "ns", strict=True):
                bundle.node, bundle.side, bundle.around = pair[0].name, side, Box(width, height + 4, ())


def _row(node: Node) -> str:
    """What a node stands side by side with: itself at the other steps, its own loops."""
    return node.row if node.step is not None else node.key


def _row_of(edge: Edge, nodes: Mapping[str, Node]) -> str:
    """The row in which an edge lies, from node to node or as a loop; an empty text for the others."""
    source, target = _row(nodes[edge.source]), _row(nodes[edge.target])
    return source if source == target else ""


def _write_rows(dot: Any, graph: Graph, names: dict[str, str], bundles: list[_Bundle]) -> list[list[str]]:
    """Rows as subgraphs of one rank. Their order, that of the steps, is held by edges that are not seen; it is given back."""
    rows: dict[str, list[str]] = {}
    for node in sorted(graph.nodes, key=lambda n: n.step or 0):
        rows.setdefault(_row(node), []).append(names[node.key])
    labels: dict[str, dict[str, None]] = {}
    for bundle in bundles:
        if bundle.row and bundle.box is not None and not bundle.is_bridge:
            labels.setdefault(bundle.row, {}).setdefault(bundle.node)
    for k, (row, members) in enumerate(rows.items()):
        if len(members) + len(labels.get(row, ())) > 1:
            dot.add_subgraph([*members, *labels.get(row, ())], name=f"row{k}", rank="same")
        for a, b in pairwise(members):
            dot.add_edge(a, b, key=f"order{k}", style="invis")
    return list(rows.values())


class _Found:
    """What Graphviz found. It counts from the lower left corner, a drawing from the upper left one."""

    def __init__(self, dot: Any, height: float) -> None:
        self.dot, self.height = dot, height

    def corner(self, name: str, box: Box) -> Point:
        x, y = map(float, self.dot.get_node(name).attr["pos"].split(","))
        return round(x - box.width / 2, 1), round(self.height - y - box.height / 2, 1)

    def curve(self, tail: str, head: str, key: str) -> Curve:
        numbers = [float(n) for n in re.findall(r"-?[\d.]+(?:e[-+]?\d+)?", self.dot.get_edge(tail, head, key).attr["pos"])]
        return tuple((round(x, 1), round(self.height - y, 1)) for x, y in zip(numbers[::2], numbers[1::2], strict=True))

    def is_in_order(self, names: list[str]) -> bool:
        places = [float(self.dot.get_node(name).attr["pos"].split(",")[0]) for name in names]
        return places == sorted(places)
