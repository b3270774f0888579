"""What a run says: a JSON value with every sample, and Markdown tables made from that value alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.bar import NUMPY_BAR, judge
from benchmarks.measure import Measured
from benchmarks.rows import ROWS

Report = dict[str, Any]
BASELINES = {
    "hand": f"Time relative to good hand-written NumPy (the bar for chainrule: {NUMPY_BAR})",
    "tuned": "Time relative to tuned hand-written NumPy",
    "torch": "Time relative to torch",
}


def row_report(measured: dict[str, Measured]) -> Report:
    """One row: each contestant's status, times, ratios to every other contestant, memory and samples."""
    timed = {name: found for name, found in measured.items() if found.status == "ok"}
    report: Report = {}
    for name, found in measured.items():
        entry: Report = {"status": found.status}
        if name in timed:
            entry |= {
                "ms": found.spread(),
                "ratio": {other: found.ratio(base) for other, base in timed.items() if other != name},
                "error": found.error,
                "first_seconds": found.first_seconds,
                "peak_mb": found.peak_mb,
                "before_mb": found.before_mb,
                "samples_ms": [1e3 * sample for sample in found.samples.values()],
            }
        report[name] = entry
    return report


def judged(row: str, entries: Report) -> Report:
    """What follows from the entries of a row: its operations, and what `bar.judge` says."""
    return {"flops": ROWS[row].flops, **judge(row, entries)}


def markdown(report: Report) -> str:
    """The whole report as Markdown."""
    rows: dict[str, Report] = report["rows"]
    names: list[str] = report["contestants"]
    verdicts: dict[str, Report] = report["judged"]

    def table(cell: Callable[[str, str], str], columns: list[str] = names) -> str:
        return _table(["row", *columns], [[row, *(cell(row, name) for name in columns)] for row in rows])

    def against(base_of: Callable[[str], str]) -> Callable[[str, str], str]:
        return lambda row, name: _ratio(rows[row], name, base_of(row))

    parts = [_head(report), "## Milliseconds a call, median (min - max)"]
    parts += [table(lambda row, name: _milliseconds(rows[row][name]))]
    parts += ["## Time relative to the best peer of the row, median (min - max)"]
    parts += [_best(rows, names, verdicts, against(lambda row: verdicts[row]["best"]))]
    if {"c", "c-door"} & set(names):
        parts += ["## The C target against its bar: time relative to the best peer", _bars(verdicts)]
    if {"hand", "torch"} <= set(names):
        parts += ["## Whether hand-written NumPy counts as a peer: its time relative to torch", _hands(verdicts)]
    for base, title in BASELINES.items():
        if base in names:
            others = [name for name in names if name != base]
            parts += [f"## {title}, median (min - max)", table(against(lambda _, base=base: base), others)]
    rate = report["machine"]["multiply_adds"]["gflops"]
    parts += ["## GFLOP/s in the products of the row (share of the core's multiply-add rate)"]
    parts += [table(lambda row, name: _gflops(rows[row][name], verdicts[row]["flops"], rate))]
    parts += ["## Seconds from nothing to the first gradient, in a fresh process"]
    parts += [table(lambda row, name: _first(rows[row][name]))]
    parts += ["## Peak memory, MB (of which before the first call)", table(lambda row, name: _memory(rows[row][name]))]
    parts += ["## Largest error of loss and gradients, against float64", table(lambda row, name: _error(rows[row][name]))]
    notes = [f"- {row}, {name}: {entry['status']}" for row, entries in rows.items() for name, entry in entries.items()
             if not _ok(entry) and not entry["status"].startswith("not run")]  # fmt: skip
    if notes:
        parts += ["## Not measured", "\n".join(notes)]
    return "\n\n".join(parts) + "\n"


def _head(report: Report) -> str:
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    stripped = ", ".join(f"{k}={v}" for k, v in machine["stripped"].items()) or "none were set"
    settings = ", ".join(f"{k}={v}" for k, v in machine["set"].items())
    rate = machine["multiply_adds"]
    return "\n".join(
        [
            "# Benchmark results",
            "",
            "Loss and all parameter gradients of one batch. Written by `benchmarks/run.py`; do not edit.",
            "",
            f"- processor: {machine['processor']}; cores used: {report['cores']}; dtype: {report['dtype']}",
            f"- multiply-adds: {rate['gflops']:.0f} GFLOP/s, by {rate['by']}",
            f"- NumPy's product of 1024x1024 matrices: {machine['gflops']:.0f} GFLOP/s",
            f"- versions: {versions}",
            f"- rounds: {report['rounds']}, interleaved",
            f"- variables stripped from the workers: {stripped}",
            f"- variables set for the workers: {settings}",
        ]
    )


def _table(head: list[str], lines: list[list[str]]) -> str:
    rule = "| --- |" + " --: |" * (len(head) - 1)
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])


def _best(rows: dict[str, Report], names: list[str], verdicts: dict[str, Report], cell: Callable[[str, str], str]) -> str:
    lines = [[row, verdicts[row]["best"] or "-", *(cell(row, name) for name in names)] for row in rows]
    return _table(["row", "best peer", *names], lines)


def _bars(verdicts: dict[str, Report]) -> str:
    lines = [
        [row, v["best"] or "-", _number(v["c"]), _number(v["c-door"]), f"{v['ship']:.2f}", f"{v['goal']:.2f}", v["met"] or "-"]
        for row, v in verdicts.items()
    ]
    return _table(["row", "best peer", "c", "c-door", "ship", "goal", "c has met"], lines)


def _hands(verdicts: dict[str, Report]) -> str:
    lines = [[row, _number(v["hand"]["ratio"]), f"{v['hand']['bound']:.3f}", "yes" if v["hand"]["counts"] else "no"]
             for row, v in verdicts.items()]  # fmt: skip
    return _table(["row", "hand", "at most", "counts"], lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _ok(entry: Report) -> bool:
    return entry.get("status") == "ok"


def _state(entry: Report) -> str:
    status = str(entry.get("status", "missing")).partition(":")[0]
    return "-" if status == "not run" else status


def _milliseconds(entry: Report) -> str:
    return "{median:.3g} ({min:.3g} - {max:.3g})".format(**entry["ms"]) if _ok(entry) else _state(entry)


def _ratio(row: Report, name: str, base: str) -> str:
    entry = row[name]
    if not _ok(entry):
        return _state(entry)
    if name == base:
        return "1"
    return "{median:.3f} ({min:.3f} - {max:.3f})".format(**entry["ratio"][base]) if base in entry["ratio"] else "-"


def _gflops(entry: Report, flops: int, rate: float) -> str:
    if not _ok(entry):
        return "-"
    reached = flops / entry["ms"]["median"] / 1e6
    return f"{reached:.3g} ({100 * reached / rate:.2g} %)"


def _memory(entry: Report) -> str:
    if not _ok(entry) or entry["peak_mb"] is None:
        return "-"
    return f"{entry['peak_mb']:.0f} ({entry['before_mb']:.0f})"


def _first(entry: Report) -> str:
    if not _ok(entry):
        return "-"
    seconds = entry["first_seconds"]
    return f"{statistics.median(seconds):.2f}" + (" (once)" if len(seconds) == 1 else "")


def _error(entry: Report) -> str:
    return f"{entry['error']:.0e}" if _ok(entry) else "-"
