"""The graph of a program as values: what is drawn, before anybody knows where.

    Program -> lines and arcs (lines.py) -> Graph, at one of two levels

``layers``: a node for each layer, with its parameters; ``equations``: a node for each numbered line. Inputs, and parameters
without a layer of their own, are nodes of other shapes. An edge is a tensor, or several between the same two nodes. Unrolled, a
layer has a node for each step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from codegen.choices import LEVELS
from codegen.graph.folding import folded_layers
from codegen.graph.lines import Line, Lines, Terminal, layer_of, lines_of
from codegen.graph.words import adjoint_name, full_text, numbers_text, operation, shape_text, shortened, step_text
from symbolic.errors import SpecError, nearest
from symbolic.program import Program, Role, tensor_of

__all__ = ["MOST_NODES", "Edge", "Flow", "Graph", "Kind", "Node", "Row", "graph_of"]

MOST_NODES = 600
"""Nodes of a drawing at most: more can be neither read nor laid out in seconds."""
_MOST_LINES = 16
"""Equations in a tooltip at most."""


class Kind(StrEnum):
    """What a node stands for, and so its shape."""

    LAYER = "layer"
    EQUATION = "equation"
    PARAMETER = "parameter"
    INPUT = "input"


class Flow(StrEnum):
    """What an edge carries: a tensor, a gradient, the loss to its seed, or an output to the input of the next window."""

    FORWARD = "forward"
    BACKWARD = "backward"
    SEED = "seed"
    CARRY = "carry"


@dataclass(frozen=True)
class Row:
    """One row of a node: ``left`` and, at the other edge, ``right``."""

    left: str
    right: str = ""
    muted: bool = False


@dataclass(frozen=True)
class Node:
    """A layer, a numbered line, a parameter or an input. ``numbers``: of all equations it stands for. ``count``: layers that are
    folded into it. ``row``: what it is at each step, where it has one. ``about``: what a tooltip says."""

    key: str
    kind: Kind
    title: str
    tag: str = ""
    rows: tuple[Row, ...] = ()
    numbers: tuple[int, ...] = ()
    backward: bool = False
    step: int | None = None
    count: int = 1
    row: str = ""
    about: str = ""


@dataclass(frozen=True)
class Edge:
    """Tensors on their way from one node to another, each with its shape. ``delay``: the step they come from, where that is
    another than the one they are read in. ``returns``: against the order of the others, as the recurrence does."""

    source: str
    target: str
    flow: Flow
    tensors: tuple[tuple[str, str], ...]
    delay: str = ""
    returns: bool = False


@dataclass(frozen=True)
class Graph:
    """What is drawn. ``steps``: of an unrolled program, in order."""

    name: str
    level: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    steps: tuple[int, ...] = ()

    @property
    def has_backward(self) -> bool:
        return any(edge.flow is Flow.BACKWARD for edge in self.edges) or any(node.backward for node in self.nodes)


def graph_of(program: Program, level: str = "layers", rolled: Program | None = None) -> Graph:
    """The graph of a program, with the flow of its gradients where it has adjoints.

    ``rolled``: for an unrolled program the one that it was. Repeated layers are folded (folding.py). Raises SpecError for an
    unknown level and for more nodes than one can want to see.
    """
    if level not in LEVELS:
        raise SpecError(f"unknown level of a drawing '{level}'{nearest(level, LEVELS)}; known: {', '.join(LEVELS)}")
    found = lines_of(program, rolled)
    places = _Places(found, level, rolled is not None)
    edges = places.edges()  # first: they find the inputs and parameters that are nodes
    nodes = places.nodes()
    if len(nodes) > MOST_NODES:
        other = "unroll fewer steps" + (", or draw layers" if level == LEVELS[1] else "")
        raise SpecError(f"{program.name}: the drawing has {len(nodes):,} nodes, expected at most {MOST_NODES}; {other}")
    steps = sorted({node.step for node in nodes if node.step is not None})
    return Graph(program.name, level, nodes, tuple(_with_returns(edges, nodes)), tuple(steps))


class _Places:
    """Which node each line and each tensor of a program belongs to."""

    def __init__(self, found: Lines, level: str, unrolled: bool) -> None:
        self.found, self.level, self.unrolled = found, level, unrolled
        self.program = found.program
        self.folds = folded_layers(found)
        self.layers: dict[str, tuple[list[Line], str, int | None]] = {}
        self.tensors: dict[str, Terminal] = {}
        self.rows: dict[str, str] = {}
        seen: Counter[tuple[str, int | None]] = Counter()
        for line in found.lines:
            if self._is_whole(line.layer):
                self.layers.setdefault(self.of_line(line), ([], line.layer, line.step))[0].append(line)
            else:
                self.rows[self.of_line(line)] = f"{line.name} {seen[line.name, line.step]}"
                seen[line.name, line.step] += 1
        self.known = {layer for _, layer, _ in self.layers.values()}

    def _is_whole(self, layer: str) -> bool:
        """Whether a layer is one node."""
        return self.level == "layers" or layer in self.folds

    def of_line(self, line: Line) -> str:
        if not self._is_whole(line.layer):
            return f"equation {line.number} {line.name}"
        return self._of_layer(line.layer, line.step)

    def _of_layer(self, layer: str, step: int | None) -> str:
        first = self.folds.get(layer, (layer,))[0]
        return f"layer {first}" + ("" if step is None else f" {step}")

    def of_terminal(self, terminal: Terminal, step: int | None = None) -> str | None:
        """The node of a parameter or an input; None where it is drawn in the layer of whoever reads it."""
        layer = layer_of(terminal.name)
        is_own = layer != terminal.name and self.program.tensor(terminal.name).role is Role.PARAMETER
        if is_own and self._is_whole(layer):
            for at in (step, None):
                if (key := self._of_layer(layer, at)) in self.layers:
                    return key
            return next((key for key, (_, name, _) in self.layers.items() if name == layer), None)
        key = f"tensor {terminal.name}" + ("" if terminal.step is None else f" {terminal.step}")
        self.tensors.setdefault(key, terminal)
        return key

    # ---- edges -----------------------------------------------------------------------------------------------------

    def edges(self) -> list[Edge]:
        """Every arc between two nodes, those between the same two as one edge."""
        found: dict[tuple[str, str, Flow, int], dict[str, str]] = {}

        def add(source: str | None, target: str | None, flow: Flow, tensor: str, shown: str, delay: int = 0) -> None:
            if source is not None and target is not None and (source != target or delay):
                shape = shape_text(self.found.shape(tensor, self.unrolled))
                found.setdefault((source, target, flow, delay), {}).setdefault(shown, shape)

        for arc in self.found.arcs:
            target = self.of_line(arc.target)
            source = self.of_line(arc.source) if isinstance(arc.source, Line) else self.of_terminal(arc.source, arc.target.step)
            flow = Flow.BACKWARD if arc.target.backward else Flow.FORWARD
            add(source, target, flow, arc.tensor, self.shown(arc.tensor), arc.delay)
        for line in self.found.lines:
            primal = self.found.primal.get(line.name) if line.backward else None
            if primal is not None and self.program.tensor(primal).role in (Role.PARAMETER, Role.INPUT):
                at = line.equations[0].target.indices[self.found.axes[line.name]] if line.name in self.found.axes else None
                step = int(at) if self.unrolled and at is not None and at.is_Integer else None
                home = self.of_terminal(Terminal(primal, step), line.step) if self._is_whole(line.layer) else None
                add(self.of_line(line), home, Flow.BACKWARD, line.name, self.shown(line.name))
            if line.backward and line.equations[0].origin.rule == "seed" and self.level == LEVELS[1]:
                for source in self._writing(self.program.loss):
                    add(source, self.of_line(line), Flow.SEED, self.program.loss, self.program.loss)
        # Unrolled, a drawing shows the steps of one window.
        for output, given in () if self.unrolled else self.program.links.items():
            for source in self._writing(output):
                add(source, self.of_terminal(Terminal(given)), Flow.CARRY, output, output)
        return [Edge(source, target, flow, tuple(rows.items()), step_text(delay) if delay else "")
                for (source, target, flow, delay), rows in found.items()]

    def _writing(self, tensor: str) -> list[str]:
        return list(dict.fromkeys(self.of_line(line) for line in self.found.lines if line.name == tensor))

    def shown(self, tensor: str) -> str:
        primal = self.found.primal.get(tensor)
        return tensor if primal is None else adjoint_name(primal)

    # ---- nodes -----------------------------------------------------------------------------------------------------

    def nodes(self) -> tuple[Node, ...]:
        """Inputs and parameters, then what is computed, in the order of the program."""
        computed: dict[str, Node] = {}
        for line in self.found.lines:
            key = self.of_line(line)
            if key not in computed:
                computed[key] = self._layer(key) if key in self.layers else self._equation(key, line)
        return (*(self._tensor(key, terminal) for key, terminal in self.tensors.items()), *computed.values())

    def _layer(self, key: str) -> Node:
        lines, layer, step = self.layers[key]
        fold = self.folds.get(layer, ())
        numbers = [line.number for line in lines]
        title, count = (f"{fold[0]} … {fold[-1]}", len(fold)) if fold else (layer, 1)
        rows = [Row(numbers_text(line.number for line in lines if not line.backward), muted=True)] if any(
            not line.backward for line in lines) else []
        backward = numbers_text(line.number for line in lines if line.backward)
        if backward:
            rows.append(Row(f"∂ {backward}", muted=True))
        tag = f"×{count}" if count > 1 else ""
        if step is not None:
            tag = f"{tag} t={step}".strip()
        rows += self._parameters(layer, lines)
        about = f"{count} layers that do the same: {title}" if fold else title
        shown = [full_text(line, self.program, self.found.primal) for line in lines]
        more = [f"and {len(shown) - _MOST_LINES} more"] if len(shown) > _MOST_LINES else []
        return Node(key, Kind.LAYER, title, tag, tuple(rows), tuple(sorted(set(numbers))), False, step, count,
                    f"layer {layer} at steps", "\n".join([about, *shown[:_MOST_LINES], *more]))

    def _parameters(self, layer: str, lines: Iterable[Line]) -> list[Row]:
        """The parameters of a layer with their gradients; all steps share them, so an unrolled layer has their names alone."""
        mine = [t for t in self.program.parameters if layer_of(t.name) == layer != t.name]
        local = [t.name.rpartition(".")[2] for t in mine]
        if self.unrolled:
            read = {tensor_of(r) for line in lines for e in line.equations for r in e.reads}
            here = [name for name, tensor in zip(local, mine, strict=True) if tensor.name in read]
            return [Row(f"{', '.join(here)} shared", muted=True)] if here else []
        primal = self.found.primal
        gradients = {primal[line.name]: line.number for line in lines if line.backward and line.name in primal}
        return [
            Row(f"{name} {shape_text(tensor.shape)}".rstrip(),
                f"∂L/∂{name} ({gradients[tensor.name]})" if tensor.name in gradients and layer not in self.folds else "")
            for name, tensor in zip(local, mine, strict=True)
        ]

    def _equation(self, key: str, line: Line) -> Node:
        target, body = operation(line, self.found.primal)
        rows = (Row(shortened(body), muted=True),)
        return Node(key, Kind.EQUATION, shortened(target), f"({line.number})", rows, (line.number,), line.backward, line.step,
                    row=self.rows.get(key, ""), about=full_text(line, self.program, self.found.primal))

    def _tensor(self, key: str, terminal: Terminal) -> Node:
        tensor = self.program.tensor(terminal.name)
        kind = Kind.PARAMETER if tensor.role is Role.PARAMETER else Kind.INPUT
        title = terminal.name if terminal.step is None else f"{terminal.name}[{terminal.step}]"
        shape = shape_text(self.found.shape(terminal.name, self.unrolled and terminal.step is not None))
        about = f"{title} {shape}".rstrip() + f": {tensor.role}" + (" of indices" if tensor.is_index else "")
        return Node(key, kind, title, shape, step=terminal.step, row=f"tensor {terminal.name}", about=about)


def _with_returns(edges: list[Edge], nodes: Iterable[Node]) -> list[Edge]:
    """The edges, those of a recurrence marked that go back: from another step, to a node from which their source is reached.
    Unrolled, a node is what it is at every step."""
    whole = {node.key: node.row or node.key for node in nodes}
    steps = {node.key: node.step for node in nodes}
    following: dict[tuple[Flow, str], list[str]] = {}
    ends = [(steps[edge.source], steps[edge.target]) for edge in edges]
    delayed = [bool(edge.delay) or None not in pair and pair[0] != pair[1] for edge, pair in zip(edges, ends, strict=True)]
    for edge, late in zip(edges, delayed, strict=True):
        if not late:
            following.setdefault((edge.flow, whole[edge.source]), []).append(whole[edge.target])
    return [
        Edge(e.source, e.target, e.flow, e.tensors, e.delay,
             late and whole[e.source] in _reached(whole[e.target], e.flow, following))
        for e, late in zip(edges, delayed, strict=True)
    ]


def _reached(start: str, flow: Flow, following: Mapping[tuple[Flow, str], list[str]]) -> set[str]:
    seen, waiting = {start}, [start]
    while waiting:
        for name in following.get((flow, waiting.pop()), ()):
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return seen
