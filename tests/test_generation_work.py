"""How much work it is to generate a module, counted in function calls: no clock, so a busy machine changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

COUNT = """
import cProfile, pstats
import symbolic
from codegen.pipeline import Options, render

def layers(kind, count):
    axes = ["N"] if kind == "dense" else ["T", "N"]
    stack = [{"name": f"l{k}", "type": kind, "units": 4} for k in range(count)]
    return {"name": "m", "inputs": {"x": [*axes, 3], "y": [*axes, 4]}, "layers": stack, "loss": {"type": "mse", "target": "y"}}

def language_model(sizes):
    tokens = {"shape": ["T", "N"], "kind": "index", "below": "V"}
    return {"name": "m", "sizes": sizes, "inputs": {"x": tokens, "y": tokens},
            "layers": [{"name": "embed", "type": "embedding", "classes": "V", "units": "E"},
                       {"name": "lstm", "type": "lstm", "units": "H"}, {"name": "out", "type": "dense", "units": "V"}],
            "loss": {"type": "softmax_cross_entropy", "target": "y"}}

def work(spec, **options):
    profile = cProfile.Profile()
    profile.runcall(lambda: render(symbolic.load(spec), options=Options(**options)))
    return pstats.Stats(profile).total_calls
"""


def counted(expression: str) -> list[int]:
    """The numbers that an expression over ``work`` gives in a process of its own, where nothing is cached yet."""
    done = subprocess.run([sys.executable, "-c", f"{COUNT}\nprint(*{expression})"], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    return [int(part) for part in done.stdout.split()]


# SymPy's own cache holds a thousand results: a deep stack finds fewer of them there, and each layer costs a little more.
# Work that grows with the square would be twice as much.
SLACK = 1.25


@pytest.mark.parametrize(("kind", "least"), [("dense", 8), ("lstm", 3)])
def test_work_grows_linearly_with_the_number_of_layers(kind: str, least: int) -> None:
    # The first one imports and fills the caches.
    _, *counts = counted(f"[work(layers('{kind}', n)) for n in (1, {least}, {2 * least}, {4 * least})]")
    first, second = counts[1] - counts[0], counts[2] - counts[1]
    assert second <= SLACK * 2 * first, f"{kind}: {counts} calls for {least}, {2 * least} and {4 * least} layers"


@pytest.mark.parametrize(("small", "large"), [
    ({"V": 5, "E": 4, "H": 6, "T": 10, "N": 2}, {"V": 65, "E": 128, "H": 256, "T": 4000, "N": 32}),
    ({"V": 65, "E": 128, "H": 256, "T": 10_000, "N": 32}, {"V": 65, "E": 512, "H": 4096, "T": 1_000_000, "N": 512}),
], ids=["whole", "in blocks of steps"])
def test_work_does_not_depend_on_the_sizes(small: dict[str, int], large: dict[str, int]) -> None:
    _, *counts = counted(f"[work(language_model(sizes)) for sizes in ({small}, {small}, {large})]")
    assert counts[1] <= 1.1 * counts[0], f"{counts} calls for small and for large sizes"


def test_work_grows_linearly_with_the_steps_of_an_unrolled_recurrence() -> None:
    _, *counts = counted("[work(language_model({'V': 5, 'E': 4, 'H': 6}), unroll=n) for n in (1, 8, 16, 32)]")
    first, second = counts[1] - counts[0], counts[2] - counts[1]
    assert second <= SLACK * 2 * first, f"{counts} calls for 8, 16 and 32 steps"


def test_generating_imports_no_numpy() -> None:
    script = ("import sys, symbolic; from codegen.pipeline import render; render(symbolic.load('specs/lstm_lm.yaml')); "
              "print([m for m in ('numpy', 'typer', 'rich') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
