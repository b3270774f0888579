"""Compares contestants on the rows of `rows.py`: `python benchmarks/run.py --help`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run as a script: the package is beside, not installed
    sys.path.insert(0, str(ROOT))

from benchmarks import machine, native  # noqa: E402  (after the path is set)
from benchmarks.contestant import Missing  # noqa: E402
from benchmarks.contestants import PROCESS  # noqa: E402
from benchmarks.measure import Settings, measure_row  # noqa: E402
from benchmarks.process import Process  # noqa: E402
from benchmarks.report import judged, markdown, row_report  # noqa: E402
from benchmarks.rows import ROWS  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"


def chosen(text: str, known: list[str], kind: str) -> list[str]:
    """A comma-separated list of known names; `all` is every one."""
    names = known if text == "all" else [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"run.py: unknown {kind} {', '.join(unknown)}; known: {', '.join(known)}")
    return names


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rows", default="all", help="comma-separated rows")
    parser.add_argument("--contestants", default="all", help="comma-separated contestants")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds")
    parser.add_argument("--cores", type=int, default=1, help="cores to pin to, and threads for each library")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--longest-build", type=float, default=120, help="seconds a library may compile before it is left out")
    parser.add_argument("--json", type=Path, help="also write the JSON report to this file")
    return parser.parse_args()


def product_rate(settings: Settings) -> float:
    """GFLOP/s of NumPy's matrix product under the settings of the run."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (next(iter(ROWS)), settings.dtype, Path(folder), settings.cores, settings.threads, Path(folder))
        with Process(*arguments) as process:
            return float(process.ask("rate")["ok"])


def multiply_add_rate(settings: Settings, product: float) -> dict[str, Any]:
    """GFLOP/s of the cores in multiply-adds, and what measured it: a C program, or NumPy's product without a compiler."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            rate = native.multiply_add_rate(settings.dtype, settings.cores, Path(folder))
        return {"gflops": rate, "by": f"c/rate.c compiled with {native.compiler_version()}"}
    except (Missing, OSError, RuntimeError, ValueError) as error:
        return {"gflops": product, "by": f"NumPy's product ({error})"}


def main() -> int:
    """Runs, prints and writes the comparison. Returns 1 where a contestant computed something wrong."""
    options = arguments()
    rows = chosen(options.rows, list(ROWS), "row")
    names = chosen(options.contestants, list(PROCESS), "contestant")
    available = machine.available_cores()
    pinned, count = available[: options.cores], options.cores
    settings = Settings(options.rounds, options.dtype, pinned, available, count, options.longest_build)
    product = product_rate(settings)
    report: dict[str, Any] = {
        "machine": {
            "processor": machine.processor(),
            "gflops": product,
            "multiply_adds": multiply_add_rate(settings, product),
            "versions": machine.versions(),
            "stripped": machine.stripped(os.environ),
            "set": machine.thread_settings(options.cores),
        },
        "cores": options.cores,
        "dtype": options.dtype,
        "rounds": options.rounds,
        "contestants": names,
        "rows": {},
        "judged": {},
    }
    print(f"stripped from the workers: {report['machine']['stripped'] or 'nothing was set'}", flush=True)
    for row in rows:
        report["rows"][row] = entries = row_report(measure_row(row, names, settings))
        report["judged"][row] = judged(row, entries)
        shown = (f"{n} {e['ms']['median']:.3g} ms" if "ms" in e else f"{n} {e['status']}" for n, e in entries.items())
        print(f"{row}: " + ", ".join(shown), flush=True)
    text = markdown(report)
    print("\n" + text)
    whole = rows == list(ROWS) and names == list(PROCESS)
    stem = f"{'all' if whole else 'part'}-{options.dtype}-{options.cores}core"
    write(report, text, [RESULTS / f"{stem}.json", *([options.json] if options.json else [])], RESULTS / f"{stem}.md")
    statuses = [entry["status"] for entries in report["rows"].values() for entry in entries.values()]
    return int(any(status.startswith(("wrong", "after timing")) for status in statuses))


def write(report: dict[str, Any], text: str, json_files: list[Path], text_file: Path) -> None:
    """Writes the JSON report to each file and the Markdown beside."""
    for file in json_files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    text_file.write_text(text, encoding="utf-8")
    print(f"written: {', '.join(file.name for file in [*json_files, text_file])}")


if __name__ == "__main__":
    sys.exit(main())
