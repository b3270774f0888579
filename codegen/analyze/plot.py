"""A picture of an analysis: norms over steps and over layers, on a logarithmic scale. Needs matplotlib (extra ``plot``)."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from codegen.analyze.values import Analysis
from symbolic.errors import ChainruleError, MachineError, nearest

__all__ = ["picture", "ready_to_plot"]

SUFFIXES = (".png", ".svg", ".pdf")

STROKES = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"))
"""Colours apart for every kind of sight (Okabe, Ito 2008); the dashes tell them apart in grey."""

_Panel = tuple[str, str, Sequence[str], list[tuple[str, Sequence[float]]]]
"""Title, what the axis says, the names of its places (none: numbers), and the lines."""


def ready_to_plot(path: Path) -> None:
    """Refuses what cannot become a picture, before anything is computed.

    Raises ChainruleError for a suffix that is none of .png, .svg and .pdf, MachineError where matplotlib is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        found = f"'{path.suffix}'" if path.suffix else "none"
        raise ChainruleError(f"--plot {path}: expected a file ending in .png, .svg or .pdf, found {found}"
                             f"{nearest(path.suffix, SUFFIXES) if path.suffix else ''}")
    _matplotlib("")


def _matplotlib(part: str) -> Any:
    """A part of matplotlib, by name: it is an extra, and no import that Chainrule needs."""
    try:
        return import_module(f"matplotlib{part}")
    except ImportError:
        raise MachineError("--plot: expected matplotlib, found none; install it: pip install 'chainrule[plot]'") from None


def picture(found: Analysis, kind: str) -> bytes:
    """The bytes of a picture; ``kind``: png, svg or pdf. Of the same analysis the same bytes."""
    base, figures, canvas = _matplotlib(""), _matplotlib(".figure"), _matplotlib(".backends.backend_agg")
    panels: list[_Panel] = [(f"{', '.join(each.states)} along {each.axis}", "step", (), _of_steps(each))
                            for each in found.recurrences]
    if found.depth is not None and len(found.depth.layers) > 1:
        panels.append(("depth", "output of", found.depth.layers, [("|dL/d(output)|", found.depth.growth.norms)]))
    with base.rc_context({"svg.hashsalt": "chainrule", "font.size": 9}):
        figure = figures.Figure(figsize=(6.4, 2.6 * max(1, len(panels))), layout="constrained")
        canvas.FigureCanvasAgg(figure)
        for k, panel in enumerate(panels):
            _draw(figure.add_subplot(len(panels), 1, k + 1), *panel)
        if not panels:
            figure.text(0.5, 0.5, f"{found.name}: no recurrence, one layer", ha="center")
        stream = io.BytesIO()
        still = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
        figure.savefig(stream, format=kind, dpi=150, metadata=still)
    return stream.getvalue()


def _of_steps(each: Any) -> list[tuple[str, Sequence[float]]]:
    lines: list[tuple[str, Sequence[float]]] = []
    if each.injected is not None:
        lines.append(("error put in", each.injected.norms if each.reverse else each.injected.norms[::-1]))
    return lines + [(f"|dL/d{name}|", norms) for name, norms in each.loss_norms.items()]


def _draw(axes: Any, title: str, along: str, places: Sequence[str], lines: Sequence[tuple[str, Sequence[float]]]) -> None:
    drawn = False
    for k, (label, norms) in enumerate(lines):
        colour, dashes = STROKES[k % len(STROKES)]
        shown = [n if math.isfinite(n) and n > 0 else math.nan for n in norms]
        drawn = drawn or any(not math.isnan(n) for n in shown)
        axes.plot(range(len(shown)), shown, color=colour, linestyle=dashes, label=label,
                  marker="o" if len(shown) <= 30 else None, markersize=3)
    if drawn:
        axes.set_yscale("log")
    axes.set(title=title, xlabel=along, ylabel="norm")
    if places:
        axes.set_xticks(range(len(places)), places, rotation=90 if len(places) > 8 else 0)
    axes.grid(visible=True, alpha=0.3)
    if lines:
        axes.legend(fontsize=8)
