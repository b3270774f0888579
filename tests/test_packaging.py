"""The distribution: what the wheel holds, and that it works in an empty environment, far from the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import codegen
import symbolic
from codegen.derivation.formats import show
from codegen.derivation.provenance import derive
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OFFLINE = ("No matching distribution", "Could not find a version", "Temporary failure", "Connection", "Network is unreachable")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """A process with nothing of this one's Python in its environment. Skips where the index cannot be reached."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([*map(str, command)], cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, check=False)
    if done.returncode and "pip" in map(str, command) and any(word in done.stderr for word in OFFLINE):
        pytest.skip("no package index")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", folder, ROOT, cwd=folder)
    (found,) = folder.glob("chainrule-*.whl")
    return found


@pytest.mark.network
def test_the_wheel_holds_the_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"symbolic", "codegen", "generated", f"chainrule-{PROJECT['version']}.dist-info"}
    for needed in ("codegen/specs/char_rnn.yaml", "codegen/latex/templates/derivation.tex.jinja", "generated/char_rnn.py",
                   "symbolic/layers/lstm.py", "symbolic/py.typed", "codegen/py.typed"):
        assert needed in names
    templates = {p.relative_to(ROOT).as_posix() for p in (ROOT / "codegen").rglob("templates/*") if p.is_file()}
    assert {Path(name).suffix for name in templates} == {".jinja", ".c", ".py", ".css", ".js"}
    assert templates <= set(names)
    assert [n for n in names if "__pycache__" in n or n.startswith("tests/")] == []


@pytest.mark.network
@pytest.mark.slow
def test_the_wheel_generates_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "empty"
    venv.create(home, with_pip=True)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    python, chainrule = scripts / "python", scripts / "chainrule"
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)

    work = tmp_path / "work"
    work.mkdir()
    (work / "model.yaml").write_bytes((ROOT / "specs" / "lstm_lm.yaml").read_bytes())
    shown = run(chainrule, "generate", "model.yaml", "--target", "numpy", "--target", "latex", "--out", "made", cwd=work)
    assert re.match(r"made.lstm_lm\.py  \d+ lines  ", shown)
    codegen.generate(symbolic.load(work / "model.yaml"), out=tmp_path / "here")
    told = (work / "made" / "lstm_lm.py").read_bytes().replace(b" --target numpy --out made\n", b" --target numpy\n", 1)
    assert told == (tmp_path / "here" / "lstm_lm.py").read_bytes()
    script = ("from made import lstm_lm as m; import numpy as np; p = m.init(0); "
              "b = {k: np.zeros((3, 2), int) for k in ('x', 'y')}; print(sorted(m.value_and_grad(p, b)[1]) == sorted(p))")
    assert run(python, "-c", script, cwd=work) == "True\n"
    # The committed modules came with it, and the demo's spec.
    assert run(python, "-c", "from generated import char_rnn; print(char_rnn.V)", cwd=work) == "65\n"
    assert run(python, "-c", "from codegen.demo import spec_path; print(spec_path().is_file())", cwd=work) == "True\n"
    assert run(chainrule, "--version", cwd=work) == f"chainrule {PROJECT['version']}\n"
    assert "OK: " in run(chainrule, "check", "made/../model.yaml", "--size", "T=3", cwd=work)


# ---- what the files of the project say of each other -------------------------------------------------------------------


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_two_commands_of_the_readme() -> None:
    commands = re.findall(r"^    (python3 -m venv .*)$", readme(), re.MULTILINE)
    assert commands == [
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/chainrule demo",
        "python3 -m venv .venv-test && .venv-test/bin/pip install -e '.[test]' && .venv-test/bin/python -m pytest",
    ]


def test_the_readme_says_why_each_dependency_is_there() -> None:
    for requirement in PROJECT["dependencies"]:
        name = re.match(r"[A-Za-z0-9_]+", requirement)
        assert name
        assert re.search(rf"^- \*\*{name[0]}\*\*: \S", readme(), re.MULTILINE | re.IGNORECASE), requirement


def test_every_dependency_is_imported_and_every_import_declared() -> None:
    """No dependency without a use, and no use without a dependency."""
    modules = {"PyYAML": "yaml"}
    declared = {modules.get(m[0], m[0]) for m in (re.match(r"[A-Za-z0-9_]+", r) for r in PROJECT["dependencies"]) if m}
    imported = set()
    for package in ("symbolic", "codegen"):
        for path in (ROOT / package).rglob("*.py"):
            for match in re.finditer(r"^\s*(?:from|import) ([A-Za-z_]\w*)", path.read_text(encoding="utf-8"), re.MULTILINE):
                imported.add(match[1])
    assert imported - set(sys.stdlib_module_names) - {"symbolic", "codegen"} == declared


def test_the_version_is_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(PROJECT['version'])}", changelog, re.MULTILINE)


def test_the_readme_shows_what_is_generated() -> None:
    """The lines on the first screen are those of the committed module and of the derivation."""
    generated = (ROOT / "generated" / "char_rnn.py").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", readme(), re.DOTALL)[:1]
    for line in filter(str.strip, block.splitlines()):
        assert line.strip() in generated, line
    (shown,) = re.findall(r"```\n(d_rnn.h\n.*?)```", readme(), re.DOTALL)
    derived = show(derive(symbolic.load(ROOT / "specs" / "char_rnn.yaml")))
    for line in shown.splitlines():
        assert f"\n{line}\n" in derived, line
    (spec,) = re.findall(r"```yaml\n(.*?)```", readme(), re.DOTALL)[:1]
    assert spec == (ROOT / "specs" / "char_rnn.yaml").read_text(encoding="utf-8")


def test_links_of_the_documentation_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_spec_of_the_readme_is_good() -> None:
    own = re.findall(r"```yaml\n(.*?)```", readme(), re.DOTALL)[1]
    module = codegen.compile(symbolic.load(own))
    assert sorted(module.PARAMETERS) == ["cell.U", "cell.W", "cell.b", "cell.s"]
