"""The example in C: its generated files are current, its data is what the script exports, and it reaches its goal."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.c_driver import compile_c, compiler
from tests.conftest import ROOT, Run

HERE = ROOT / "examples" / "c"
README = (HERE / "README.md").read_text(encoding="utf-8")
GENERATED = ("__init__.py", "digits.c", "digits.h", "digits_c.py")


def test_generated_files_are_current(chainrule: Run, tmp_path: Path) -> None:
    """Written by the line of the README, put beside the committed ones."""
    (line,) = re.findall(r"^    chainrule (generate .*)$", README, re.MULTILINE)
    (tmp_path / "examples" / "c").mkdir(parents=True)
    (tmp_path / "examples" / "c" / "digits.yaml").write_bytes((HERE / "digits.yaml").read_bytes())
    done = chainrule(*shlex.split(line))
    assert done.returncode == 0, done.stderr
    for name in GENERATED:
        made = (tmp_path / "examples" / "c" / name).read_text(encoding="utf-8")
        assert made == (HERE / name).read_text(encoding="utf-8"), f"examples/c/{name} is not current: chainrule {line}"


def test_the_data() -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, extra 'test' or 'examples'")
    lines = runpy.run_path(str(HERE / "export_digits.py"))["lines"]()
    assert (HERE / "digits.txt").read_text(encoding="ascii").splitlines() == lines
    assert (HERE / "digits.txt").stat().st_size < 300_000


@pytest.mark.gcc
def test_the_line_of_the_readme(tmp_path: Path) -> None:
    """Its compiler and its flags, in a copy of the folder."""
    (line,) = re.findall(r"^    (cc .*) && \./train_digits$", README, re.MULTILINE)
    for path in HERE.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    words = [*(compiler("gcc") or []), *shlex.split(line)[1:]]
    subprocess.run(words, cwd=tmp_path, check=True)
    done = subprocess.run([str(tmp_path / "train_digits")], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    losses = [float(number) for number in re.findall(r"^epoch +\d+: loss (\d\.\d+)$", done.stdout, re.MULTILINE)]
    assert len(losses) == 30
    assert losses[-1] < 0.1 < losses[0]
    (share,) = re.findall(r"^test accuracy (\d+\.\d+) % of 360 digits", done.stdout, re.MULTILINE)
    assert float(share) > 95


@pytest.mark.gcc
@pytest.mark.parametrize("flags", [("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover"),
                                   ("-O2", "-DDIGITS_PLAIN_C99")], ids=["sanitizers", "plain"])
def test_without_a_warning(flags: tuple[str, ...], tmp_path: Path) -> None:
    program = compile_c(compiler("gcc") or [], flags, [HERE / "train_digits.c", HERE / "digits.c"], tmp_path / "program")
    done = subprocess.run([str(program), str(HERE / "digits.txt")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.gcc
def test_no_data(tmp_path: Path) -> None:
    program = compile_c(compiler("gcc") or [], (), [HERE / "train_digits.c", HERE / "digits.c"], tmp_path / "program")
    (tmp_path / "short.txt").write_text("6aabn\n" * 3, encoding="ascii")
    for name in ("missing.txt", "short.txt"):
        done = subprocess.run([str(program), name], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"{name}: expected 1797 lines, a label and 64 letters each\n"
