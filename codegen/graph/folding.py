"""Repeated layers as one node: of a run of layers that do the same, the first and the last stay and the others are folded.

Layers are the same where their equations and shapes are, up to the name of the layer and of the one before it, each reads its
predecessor alone, and nobody but its successor reads it. No kind of layer is known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import sympy as sp

from codegen.graph.lines import Line, Lines, layer_of
from codegen.text import text
from symbolic.program import operands

__all__ = ["LEAST_RUN", "folded_layers"]

LEAST_RUN = 6
"""Layers of a run that is folded at least: fewer are as short as the fold."""


def folded_layers(found: Lines) -> Mapping[str, tuple[str, ...]]:
    """For each layer that is folded the layers of its fold, in order."""
    forward: dict[str, list[Line]] = {}
    for line in found.lines:
        if not line.backward:
            forward.setdefault(line.layer, []).append(line)
    if len(forward) < LEAST_RUN:
        return {}
    reads: dict[str, dict[str, None]] = {layer: {} for layer in forward}
    read_by: dict[str, dict[str, None]] = {layer: {} for layer in forward}
    for arc in found.arcs:
        source = arc.source.layer if isinstance(arc.source, Line) else layer_of(arc.source.name)
        if not arc.target.backward and source != arc.target.layer:
            reads[arc.target.layer].setdefault(source)
            if source in read_by:
                read_by[source].setdefault(arc.target.layer)
    signatures = {layer: _signature(layer, rows, tuple(reads[layer]), found) for layer, rows in forward.items()}
    folds: dict[str, tuple[str, ...]] = {}
    run: list[str] = []
    for layer in (*forward, ""):
        chained = run and layer and tuple(reads[layer]) == (run[-1],) and tuple(read_by[run[-1]]) == (layer,)
        if chained and signatures[layer] == signatures[run[-1]]:
            run.append(layer)
            continue
        if len(run) >= LEAST_RUN:
            folds.update(dict.fromkeys(run[1:-1], tuple(run[1:-1])))
        run = [layer]
    return folds


def _signature(layer: str, rows: list[Line], before: tuple[str, ...], found: Lines) -> str:
    """What a layer does, under names that do not tell it from others."""
    names = {layer: "*", **dict.fromkeys(before, "<")}

    def anonymous(name: str) -> str:
        own, dot, local = name.rpartition(".")
        return f"{names.get(own, own)}{dot}{local}" if dot else names.get(name, name)

    shown = []
    for line in rows:
        for e in line.equations:
            reads = found.program.in_order(operands(e.body))  # as declared, not by name
            body = e.body.xreplace({entry: sp.Symbol(f"_{k}") for k, entry in enumerate(reads)})
            words = [text(e.target), e.reduction, *map(text, (*reads, *e.guards)), *map(str, e.indices)]
            shown.append(f"{line.step} {body} " + re.sub(r"[A-Za-z_][\w.]*", lambda m: anonymous(m[0]), " ".join(words)))
    mine = [t for t in found.program.tensors if layer_of(t.name) == layer]
    shown += [f"{anonymous(t.name)} {[text(extent) for extent in t.shape]} {t.role}" for t in mine]
    return "\n".join(shown)
