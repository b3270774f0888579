"""What a run says: a JSON value with every sample, and Markdown tables made from that value alone."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Measured

Report = dict[str, Any]
BASELINES = {
    "hand": "Time relative to good hand-written NumPy (the bar for chainrule: 1.05)",
    "tuned": "Time relative to tuned hand-written NumPy",
    "torch": "Time relative to torch",
}
LIBRARIES = ("torch", "jax", "autograd")


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
                "samples_ms": [1e3 * sample for sample in found.samples],
            }
        report[name] = entry
    return report


def markdown(report: Report) -> str:
    """The whole report as Markdown."""
    rows: dict[str, Report] = report["rows"]
    names: list[str] = report["contestants"]
    parts = [_head(report), "## Milliseconds a call, median (min - max)", _table(rows, names, _milliseconds)]
    best = "## Time relative to the fastest library of the row, median (min - max)"
    parts += [best, _table(rows, names, lambda row, name: _ratio(row, name, fastest_library(row)))]
    for base, title in BASELINES.items():
        if base in names:
            others = [name for name in names if name != base]
            parts += [f"## {title}, median (min - max)", _table(rows, others, lambda r, n, b=base: _ratio(r, n, b))]
    parts += ["## Peak memory, MB (of which before the first call)", _table(rows, names, _memory)]
    parts += ["## Seconds to build and run the first call, imports included", _table(rows, names, _first)]
    parts += ["## Largest error of loss and gradients, against float64", _table(rows, names, _error)]
    notes = [f"- {row}, {name}: {e['status']}" for row, es in rows.items() for name, e in es.items() if not _ok(e)]
    if notes:
        parts += ["## Not measured", "\n".join(notes)]
    return "\n\n".join(parts) + "\n"


def fastest_library(row: Report) -> str:
    """The library with the smallest median; empty where none was timed."""
    timed = [name for name in LIBRARIES if _ok(row.get(name, {}))]
    return min(timed, key=lambda name: row[name]["ms"]["median"], default="")


def _head(report: Report) -> str:
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    stripped = ", ".join(f"{k}={v}" for k, v in machine["stripped"].items()) or "none were set"
    settings = ", ".join(f"{k}={v}" for k, v in machine["set"].items())
    return "\n".join(
        [
            "# Benchmark results",
            "",
            "Loss and all parameter gradients of one batch. Written by `benchmarks/run.py`; do not edit.",
            "",
            f"- processor: {machine['processor']}; cores used: {report['cores']}; dtype: {report['dtype']}",
            f"- NumPy's product of 1024x1024 matrices: {machine['gflops']:.0f} GFLOP/s",
            f"- versions: {versions}",
            f"- rounds: {report['rounds']}, interleaved",
            f"- variables stripped from the workers: {stripped}",
            f"- variables set for the workers: {settings}",
        ]
    )


def _table(rows: dict[str, Report], names: list[str], cell: Any) -> str:
    lines = ["| row | " + " | ".join(names) + " |", "| --- |" + " --: |" * len(names)]
    for row, entries in rows.items():
        lines.append(f"| {row} | " + " | ".join(cell(entries, name) for name in names) + " |")
    return "\n".join(lines)


def _ok(entry: Report) -> bool:
    return entry.get("status") == "ok"


def _state(entry: Report) -> str:
    return str(entry.get("status", "missing")).partition(":")[0]


def _milliseconds(row: Report, name: str) -> str:
    entry = row[name]
    return "{median:.3g} ({min:.3g} - {max:.3g})".format(**entry["ms"]) if _ok(entry) else _state(entry)


def _ratio(row: Report, name: str, base: str) -> str:
    entry = row[name]
    if not _ok(entry):
        return _state(entry)
    if name == base:
        return "1"
    return "{median:.3f} ({min:.3f} - {max:.3f})".format(**entry["ratio"][base]) if base in entry["ratio"] else "-"


def _memory(row: Report, name: str) -> str:
    entry = row[name]
    if not _ok(entry) or entry["peak_mb"] is None:
        return "-"
    return f"{entry['peak_mb']:.0f} ({entry['before_mb']:.0f})"


def _first(row: Report, name: str) -> str:
    return f"{row[name]['first_seconds']:.2f}" if _ok(row[name]) else "-"


def _error(row: Report, name: str) -> str:
    return f"{row[name]['error']:.0e}" if _ok(row[name]) else "-"
