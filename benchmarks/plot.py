"""Draws a report: time relative to the best peer, a line of marks for each row: `python benchmarks/plot.py REPORT.json`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run as a script: the package is beside, not installed
    sys.path.insert(0, str(ROOT))

import matplotlib as mpl  # noqa: E402  (after the path is set)

mpl.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: E402

from benchmarks.bar import BAR, judge, ratio  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
FARTHEST = 30.0
"""Contestants slower than this are named to the right with their ratio."""
SHIP_WIDTH, GOAL_WIDTH = 2.6, 1.0
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)

STYLE: dict[str, dict[str, Any]] = {
    "c": {"marker": "D", "color": "#b2182b", "size": 70, "label": "Chainrule, C function"},
    "c-door": {"marker": "D", "color": "#f4a582", "size": 42, "label": "Chainrule, C through Python"},
    "chainrule": {"marker": "o", "color": "#2166ac", "size": 62, "label": "Chainrule, NumPy"},
    "hand": {"marker": "o", "color": "white", "size": 46, "label": "hand-written NumPy"},
    "tuned": {"marker": ".", "color": "#777777", "size": 40, "label": "hand-written NumPy, tuned"},
    "torch": {"marker": "s", "color": "#444444", "size": 40, "label": "PyTorch, eager"},
    "torch-compiled": {"marker": "s", "color": "white", "size": 40, "label": "PyTorch, compiled"},
    "jax": {"marker": "^", "color": "#444444", "size": 48, "label": "JAX, jit"},
    "pytensor": {"marker": "v", "color": "white", "size": 48, "label": "PyTensor"},
    "autograd": {"marker": "x", "color": "#444444", "size": 36, "label": "autograd"},
    "casadi": {"marker": "P", "color": "#444444", "size": 52, "label": "CasADi, generated C"},
}
"""Chainrule has the colours; shapes and fillings tell all apart in greyscale."""

LANE = {"c": -0.24, "c-door": -0.24, "chainrule": -0.24, "hand": 0.0, "tuned": 0.0}
LOWEST_LANE = 0.24
"""Where in the stripe of a row a contestant stands, so that equal ratios do not hide each other."""


def draw(report: dict[str, Any], with_bar: bool) -> plt.Figure:
    """The figure: rows from top to bottom in the order of the report, ratios on a logarithmic axis, less is better."""
    rows = list(report["rows"])
    with plt.rc_context({"font.size": 9, "font.family": "DejaVu Sans", "svg.hashsalt": "chainrule"}):
        figure, axes = plt.subplots(figsize=(8.2, 1.9 + 0.56 * len(rows)), layout="constrained")
        lowest = min([1.0, *(_draw_row(axes, at, row, report["rows"][row], with_bar) for at, row in enumerate(rows))])
        _finish(axes, rows, lowest)
        axes.set_title(
            f"Loss and all gradients of one batch: {report['dtype']}, {report['cores']} core{'s' * (report['cores'] > 1)}",
            loc="left", fontsize=10, fontweight="bold",
        )  # fmt: skip
        handles = _legend(report, with_bar)
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, handletextpad=0.4, columnspacing=1.4)
    return figure


def _draw_row(axes: Axes, at: int, row: str, entries: dict[str, Any], with_bar: bool) -> float:
    """Marks of one row at height `at`; the smallest ratio that is drawn."""
    best = judge(row, entries)["best"]
    if not best:
        return 1.0
    found = {name: value for name in STYLE if (value := ratio(entries, name, best)) is not None}
    off = [name for name, value in found.items() if value > FARTHEST]
    for name, value in found.items():
        if name not in off:
            axes.plot(value, at + LANE.get(name, LOWEST_LANE), zorder=4 if name in ("c", "chainrule") else 3, **_mark(name))
    if off:
        text = ", ".join(f"{name} {found[name]:.0f}" for name in off)
        axes.annotate(text, (1, at), (4, 0), ("axes fraction", "data"), textcoords="offset points", va="center", fontsize=7.5)
    bar = BAR[row]
    if with_bar:
        for value, width in ((bar.ship, SHIP_WIDTH), (bar.goal, GOAL_WIDTH)):
            axes.plot([value] * 2, [at - 0.42, at + 0.42], color="black", linewidth=width, zorder=2)
    return min([*found.values(), *([bar.goal] if with_bar else [])])


def _mark(name: str) -> dict[str, Any]:
    """How a contestant is drawn, in the picture and in the legend."""
    marker, color, size, _ = STYLE[name].values()
    return {"marker": marker, "markersize": size**0.5, "linestyle": "none", "markerfacecolor": color,
            "markeredgecolor": color if marker == "x" else "black", "markeredgewidth": 1.4 if marker == "x" else 0.8}  # fmt: skip


def _legend(report: dict[str, Any], with_bar: bool) -> list[Line2D]:
    """One entry for each contestant that was timed on some row, and the bar."""
    timed = {name for entries in report["rows"].values() for name, entry in entries.items() if entry["status"] == "ok"}
    handles = [Line2D([], [], label=style["label"], **_mark(name)) for name, style in STYLE.items() if name in timed]
    if with_bar:
        mark = {"marker": "|", "linestyle": "none", "color": "black", "markersize": 11}
        handles += [Line2D([], [], label="bar for C: ship", markeredgewidth=SHIP_WIDTH, **mark)]
        handles += [Line2D([], [], label="bar for C: goal", markeredgewidth=GOAL_WIDTH, **mark)]
    return handles


def _finish(axes: Axes, rows: list[str], lowest: float) -> None:
    """Axis, grid and stripes."""
    axes.set_xscale("log")
    axes.set_xlim(0.8 * lowest, FARTHEST)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    order = "in a row from above: Chainrule, NumPy by hand, libraries"
    axes.set_xlabel(f"time relative to the best peer of the row; left is faster\n({order})")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6, zorder=0)
    axes.axvline(1, color="#888888", linewidth=1, zorder=1)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    for at in range(0, len(rows), 2):
        axes.axhspan(at - 0.5, at + 0.5, color="#f5f5f5", zorder=-1)


def main() -> int:
    """Writes results/NAME.svg, or what `--out` names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="a JSON report of run.py")
    parser.add_argument("--out", type=Path, help="the picture, .svg or .png; default: results/NAME.svg")
    parser.add_argument("--no-bar", action="store_true", help="without the bar of the C target")
    options = parser.parse_args()
    try:
        report = json.loads(options.report.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"plot.py: {options.report}: expected a JSON report of run.py, found: {error}") from None
    if not any(judge(row, entries)["best"] for row, entries in report["rows"].items()):
        raise SystemExit(f"plot.py: {options.report}: expected a peer among the contestants (torch, jax, ...), found none that "
                         "was timed: there is nothing to be relative to; run run.py with one")
    out = options.out or RESULTS / f"{options.report.stem}.svg"
    figure = draw(report, with_bar=not options.no_bar)
    figure.savefig(out, dpi=160, metadata={"Date": None} if out.suffix == ".svg" else {})
    print(f"written: {out.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
