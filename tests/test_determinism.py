"""The same spec gives the same bytes: under two hash seeds, twice in one process, and as committed under generated/."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Run

SPECS = sorted(path.stem for path in (ROOT / "specs").glob("*.yaml"))
REGENERATE = ("generate", *(f"specs/{name}.yaml" for name in SPECS))


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_two_hash_seeds_give_the_same_bytes(chainrule: Run, tmp_path: Path) -> None:
    for seed in ("1", "4711"):
        done = chainrule(*REGENERATE, "--target", "numpy", "--target", "latex", "--out", tmp_path / seed, cwd=ROOT,
                         PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
    first, second = files(tmp_path / "1"), files(tmp_path / "4711")
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []
    assert len(first) == 2 * len(SPECS) + 1


@pytest.mark.parametrize("options", [("--unroll", "3"), ("--tangent", "--hvp"), ("--wrt", "all")])
def test_options_are_deterministic_too(chainrule: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    for seed in ("2", "42"):
        done = chainrule("generate", "specs/second_order.yaml", *options, "--out", tmp_path / seed, cwd=ROOT, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
    assert files(tmp_path / "2") == files(tmp_path / "42")


def test_the_text_derivation_is_deterministic(chainrule: Run) -> None:
    shown = [chainrule("derive", "specs/gru_classifier.yaml", cwd=ROOT, PYTHONHASHSEED=seed).stdout for seed in ("3", "99")]
    assert shown[0] == shown[1] != ""


def test_order_of_specs_does_not_matter(tmp_path: Path) -> None:
    """What one model leaves in a cache must not show in the next."""
    import codegen
    import symbolic

    models = {name: symbolic.load(ROOT / "specs" / f"{name}.yaml") for name in ("char_rnn", "second_order", "mlp")}
    for name in models:
        codegen.generate(models[name], out=tmp_path / "there")
    for name in reversed(models):
        codegen.generate(models[name], out=tmp_path / "back")
    assert files(tmp_path / "there") == files(tmp_path / "back")


def test_generated_is_current(chainrule: Run, tmp_path: Path) -> None:
    done = chainrule(*REGENERATE, "--out", tmp_path / "generated", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    made, committed = files(tmp_path / "generated"), files(ROOT / "generated")
    assert sorted(made) == sorted(committed)
    assert [name for name in made if made[name] != committed[name]] == []


@pytest.mark.parametrize("name", SPECS)
def test_generated_modules_import_numpy_alone(name: str) -> None:
    script = (f"import sys; before = set(sys.modules); import numpy; known = set(sys.modules); from generated import {name}; "
              "print(sorted(m for m in set(sys.modules) - known if not m.startswith(('numpy', 'generated'))))")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": ""})
    assert done.stdout.strip() == "[]"


def test_nothing_generated_names_a_path_or_a_date() -> None:
    for name, data in files(ROOT / "generated").items():
        text = data.decode("utf-8")
        assert "/home/" not in text, name
        assert "/tmp/" not in text, name
        assert str(ROOT) not in text, name
