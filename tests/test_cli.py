"""The command line: what each command prints, its exit status, and that nothing is written where something is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen import cli
from symbolic import ChainruleError, MachineError
from tests.conftest import ROOT, Run

COMMANDS = ("generate", "derive", "check", "analyze", "show", "layers", "schema", "demo")
SMALL = """\
name: {name}
dtype: float64
inputs: {{x: [N, D], t: [N]}}
sizes: {{D: 3}}
layers:
  - name: out
    type: equations
    parameters: {{w: [D]}}
    equations: |
      a[n] = w[k]*x[n,k]
      y[n] = tanh(a[n])
    output: y
loss: {{type: mse, prediction: out, target: t}}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.format(name="small"), encoding="utf-8")
    return path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run the command in this process: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli._run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---- help ------------------------------------------------------------------------------------------------------------


def test_help_lists_every_command(call: Any) -> None:
    status, out, _ = call("--help")
    assert status == 0
    assert [c for c in COMMANDS if c not in out] == []
    assert "compare" not in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_an_example(call: Any, command: str) -> None:
    status, out, _ = call(command, "--help")
    assert status == 0
    assert re.search(rf"Example: chainrule {command}\b", out)


def test_no_command_shows_help(call: Any) -> None:
    status, out, err = call()
    assert status == 2
    assert "Usage: chainrule" in out + err


def test_help_is_fast_and_imports_no_sympy(chainrule: Run) -> None:
    # The bar is 0.4 s on a quiet machine; what makes it hold is that nothing heavy is imported.
    heavy = "{'sympy', 'numpy', 'pydantic', 'jinja2'}"
    script = f"import sys, codegen.cli as c; c._run(['--help']); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(call: Any) -> None:
    status, out, _ = call("--version")
    assert status == 0
    assert out.startswith("chainrule")


@pytest.mark.parametrize("arguments", [["compare", "a.yaml", "b.py"], ["generate"], ["check", "--size"], ["show", "--nope"]])
def test_wrong_calls_have_status_2_and_no_traceback(call: Any, arguments: list[str]) -> None:
    status, _, err = call(*arguments)
    assert status == 2
    assert re.search(r"^(Error|Usage): ", err, re.MULTILINE)
    assert "Traceback" not in err


# ---- generate --------------------------------------------------------------------------------------------------------


def test_generate_prints_path_lines_and_cost(call: Any, small: Path, tmp_path: Path) -> None:
    status, out, err = call("generate", small, "--out", "made")
    assert (status, err) == (0, "")
    assert re.fullmatch(r"made/small\.py  \d+ lines  .*N.* FLOPs, .*N.* bytes\n", out.replace(os.sep, "/"))
    assert files_in(tmp_path / "made") == ["__init__.py", "small.py"]
    text = (tmp_path / "made" / "small.py").read_text(encoding="utf-8")
    assert int(out.split()[1]) == text.count("\n")


def test_generated_file_is_what_the_python_interface_writes(call: Any, small: Path, tmp_path: Path) -> None:
    import codegen
    import symbolic

    assert call("generate", small, "--out", "a")[0] == 0
    codegen.generate(symbolic.load(small), out=tmp_path / "b")
    told = (tmp_path / "a" / "small.py").read_text(encoding="utf-8").replace(" --target numpy --out a\n", " --target numpy\n", 1)
    assert told == (tmp_path / "b" / "small.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(("out", "shown"), [
    ("generated", ""), ("./generated/", ""), ("made", " --out made"), ("my models/deep", " --out 'my models/deep'"), (None, ""),
])
def test_the_header_says_how_to_make_the_file_again(
    call: Any, small: Path, tmp_path: Path, out: str | None, shown: str
) -> None:
    """An absolute folder is of one machine alone: it does not reach the text."""
    folder = Path(out) if out else tmp_path / "elsewhere"
    assert call("generate", small, "--hvp", "--out", folder)[0] == 0
    lines = (tmp_path / folder / "small.py").read_text(encoding="utf-8").splitlines()
    assert lines[4] == f"    chainrule generate small.yaml --target numpy --hvp{shown}"


def test_the_header_of_a_model_of_python_names_no_spec(tmp_path: Path) -> None:
    import codegen
    import symbolic

    model = symbolic.load(SMALL.format(name="small"))
    (written,) = codegen.generate(model, out=tmp_path, hvp=True)
    lines = written.path.read_text(encoding="utf-8").splitlines()
    assert lines[2].startswith("Generated by Chainrule from a spec given in Python (sha256 ")
    assert lines[4] == '    codegen.generate(symbolic.load(...), target="numpy", hvp=True)'
    assert codegen.generate(model, out=tmp_path) != []  # its own file is made again


def test_generate_several_specs_and_targets(call: Any, small: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(SMALL.format(name="other"), encoding="utf-8")
    status, out, _ = call("generate", small, other, "--target", "numpy", "--target", "latex", "--out", "made")
    assert status == 0
    assert len(out.splitlines()) == 4
    assert files_in(tmp_path / "made") == ["__init__.py", "other.py", "other.tex", "small.py", "small.tex"]


def test_generate_dtype_and_wrt(call: Any, small: Path, tmp_path: Path) -> None:
    assert call("generate", small, "--dtype", "float32", "--wrt", "all", "--out", "made")[0] == 0
    text = (tmp_path / "made" / "small.py").read_text(encoding="utf-8")
    assert "float32" in text
    assert '"x": ' in text


def test_an_existing_init_is_kept(call: Any, small: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "__init__.py").write_text("mine = 1\n", encoding="utf-8")
    assert call("generate", small, "--out", "made")[0] == 0
    assert (tmp_path / "made" / "__init__.py").read_text(encoding="utf-8") == "mine = 1\n"


def test_a_file_of_the_users_is_not_replaced(call: Any, small: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    mine = tmp_path / "own" / "small.py"
    mine.write_text("mine = 1\n", encoding="utf-8")
    status, out, err = call("generate", small, "--target", "latex", "--target", "numpy", "-o", "own")
    assert (status, out) == (2, "")
    assert err == (f"chainrule: {Path('own/small.py')}: expected no file, or one generated from small.yaml, found a file that "
                   "Chainrule did not generate; write to another folder, remove the file, or replace it with force (--force)\n")
    assert files_in(tmp_path / "own") == ["small.py"]
    assert mine.read_text(encoding="utf-8") == "mine = 1\n"
    assert call("generate", small, "-o", "own", "--force")[0] == 0
    assert mine.read_text(encoding="utf-8").startswith('"""small: ')


@pytest.mark.parametrize(("target", "suffix"), [("numpy", "py"), ("latex", "tex")])
def test_a_file_of_another_spec_is_not_replaced(call: Any, small: Path, tmp_path: Path, target: str, suffix: str) -> None:
    twin = tmp_path / "twin.yaml"
    twin.write_text(SMALL.format(name="small"), encoding="utf-8")
    assert call("generate", small, "--target", target)[0] == 0
    before = (tmp_path / "generated" / f"small.{suffix}").read_text(encoding="utf-8")
    status, out, err = call("generate", twin, "--target", target)
    assert (status, out) == (2, "")
    assert "expected no file, or one generated from twin.yaml, found one generated from small.yaml; " in err
    assert (tmp_path / "generated" / f"small.{suffix}").read_text(encoding="utf-8") == before
    small.write_text(SMALL.format(name="small").replace("D: 3", "D: 4"), encoding="utf-8")  # its own spec, edited
    assert call("generate", small, "--target", target)[0] == 0
    assert (tmp_path / "generated" / f"small.{suffix}").read_text(encoding="utf-8") != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "rust"], r"chainrule: --target rust: expected numpy, c, latex or html, found 'rust'\n"),
        (["--target", "numpi"], r"chainrule: --target numpi: expected .*, found 'numpi'; did you mean 'numpy'\?\n"),
        (["--dtype", "float16"], r"chainrule: --dtype float16: expected float32 or float64, found 'float16'; .*\n"),
        (["--wrt", "out.W"], r"chainrule: .*'out\.W'.*did you mean 'out\.w'\?.*\n"),
        (["--wrt", ""], r"chainrule: .*\n"),
    ],
)
def test_generate_refuses_and_writes_nothing(
    call: Any, small: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    status, out, err = call("generate", small, "--out", "made", *arguments)
    assert (status, out) == (2, "")
    assert re.fullmatch(message, err)
    assert not (tmp_path / "made").exists()


def test_two_models_of_one_name_are_refused_before_anything_is_written(call: Any, small: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin.yaml"
    twin.write_text(SMALL.format(name="small"), encoding="utf-8")
    status, out, err = call("generate", small, twin, "--out", "made")
    assert (status, out) == (2, "")
    assert re.fullmatch(r"chainrule: .*twin\.yaml: expected models of different names, found 'small' here and in .*\n", err)
    assert not (tmp_path / "made").exists()


def test_one_wrong_spec_stops_all(call: Any, small: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(SMALL.format(name="bad").replace("type: mse", "type: msee"), encoding="utf-8")
    status, out, err = call("generate", small, bad, "--out", "made")
    assert (status, out) == (2, "")
    assert re.match(r"chainrule: .*bad\.yaml:13:\d+: loss.*msee.*did you mean 'mse'", err)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["missing.yaml", ".", "empty.yaml", "list.yaml", "binary.yaml"])
def test_files_that_are_no_specs(call: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.yaml").write_bytes(b"")
    (tmp_path / "list.yaml").write_bytes(b"- 1\n")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    for command in ("generate", "derive", "check", "show"):
        status, out, err = call(command, tmp_path / name)
        assert (status, out) == (2, "")
        assert re.match(r"chainrule: .*:\d+:\d+: expected .*, found .*\n", err)
        assert "Traceback" not in err


def test_output_folder_is_a_file(call: Any, small: Path, tmp_path: Path) -> None:
    (tmp_path / "made").write_text("mine", encoding="utf-8")
    status, _, err = call("generate", small, "--out", "made")
    assert status == 2
    assert re.match(r"chainrule: made.small\.py: expected a place for a file, found: .*; name another folder", err)
    assert (tmp_path / "made").read_text(encoding="utf-8") == "mine"


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="the superuser is refused nothing")
def test_output_folder_is_refused(call: Any, small: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir(mode=0o500)
    status, _, err = call("generate", small, "--out", "made")
    assert status == 3
    assert re.match(r"chainrule: made.small\.py: cannot be written: permission denied", err)


def test_a_full_disk_leaves_nothing(call: Any, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from codegen import files

    whole = files._write_beside

    def fails_at_the_second(path: Path, text: str) -> Path:
        if path.name == "__init__.py":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return whole(path, text)

    monkeypatch.setattr(files, "_write_beside", fails_at_the_second)
    status, out, err = call("generate", small, "--out", "deep/made")
    assert (status, out) == (3, "")
    assert re.match(r"chainrule: .*__init__\.py: cannot be written: no space left on device", err)
    assert files_in(tmp_path) == ["small.yaml"]
    assert not (tmp_path / "deep").exists()


# ---- derive, show, layers, schema --------------------------------------------------------------------------------------


def test_derive_to_the_screen_and_to_a_file(call: Any, small: Path, tmp_path: Path) -> None:
    status, out, _ = call("derive", small)
    assert status == 0
    assert "d_out.w[k] = " in out
    status, shown, _ = call("derive", small, "-o", "small.txt")
    assert (status, shown) == (0, "")
    assert (tmp_path / "small.txt").read_text(encoding="utf-8") == out


def test_derive_makes_no_folders_and_names_another_file(call: Any, small: Path, tmp_path: Path) -> None:
    status, _, err = call("derive", small, "-o", "deep/small.txt")
    assert status == 2
    assert err == (f"chainrule: {Path('deep/small.txt')}: expected a file in a folder that exists, found no folder 'deep'; "
                   "make it first\n")
    assert not (tmp_path / "deep").exists()
    (tmp_path / "folder").mkdir()
    status, _, err = call("derive", small, "-o", "folder")
    assert status == 2
    assert re.fullmatch(r"chainrule: folder: expected a place for a file, found: .*; name another file\n", err)


@pytest.mark.parametrize(("number", "status", "advice"), [
    ("EACCES", 3, "; name another file"), ("ENOSPC", 3, "; free some space or name another file"),
])
def test_what_is_advised_fits(
    call: Any, small: Path, monkeypatch: pytest.MonkeyPatch, number: str, status: int, advice: str
) -> None:
    import errno

    from codegen import files

    def refused(path: Path, text: str) -> Path:
        code = getattr(errno, number)
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(files, "_write_beside", refused)
    found, _, err = call("derive", small, "-o", "small.txt")
    assert found == status
    assert err.endswith(f"{advice}\n")
    assert ("space" in advice) == ("free some space" in err)


@pytest.mark.parametrize("arguments", [["generate", "--out"], ["derive", "-o"], ["demo", "--out"]])
def test_an_empty_path_is_refused(call: Any, small: Path, arguments: list[str]) -> None:
    command, option = arguments
    status, out, err = call(command, *([] if command == "demo" else [small]), option, "")
    assert (status, out) == (2, "")
    assert "expected a path, found an empty text" in err


def test_help_names_no_type_of_a_flag(call: Any) -> None:
    for command in COMMANDS:
        _, out, _ = call(command, "--help")
        assert not [line for line in out.splitlines() if "<bool>" in line and "--help" not in line]
        assert "...}" not in out


def test_too_many_steps_are_refused_at_once_and_the_help_says_so(call: Any, specs: Path) -> None:
    from symbolic.unroll import MOST_INSTANCES

    status, out, err = call("generate", specs / "lstm_lm.yaml", "--unroll", 100_000)
    assert (status, out) == (2, "")
    assert f"make 1,800,000 equations, expected at most {MOST_INSTANCES:,}: " in err
    for command in ("generate", "derive"):
        assert f"{MOST_INSTANCES:,}" in call(command, "--help")[1]


def test_derive_latex(call: Any, small: Path) -> None:
    status, out, _ = call("derive", small, "--format", "latex", "--adjoint", "bar")
    assert status == 0
    assert out.startswith("% Generated by Chainrule from small.yaml")
    assert "\\documentclass" in out
    assert "\\bar{y}" in out


@pytest.mark.parametrize("arguments", [
    ["--format", "word"], ["--adjoint", "dot"], ["--notation", "vector"], ["--wrt", "nobody"], ["--unroll", "0"],
    ["--unroll", "2"],    ["--format", "pdf"], ["--fragment"], ["--forward"], ["--graph", "nodes"],
])
def test_derive_refuses(call: Any, small: Path, arguments: list[str]) -> None:
    status, out, err = call("derive", small, *arguments)
    assert (status, out) == (2, "")
    assert arguments[0].removeprefix("--") in err or arguments[-1] in err


def test_show(call: Any, small: Path) -> None:
    status, out, err = call("show", small)
    assert (status, err) == (0, "")
    assert "parameters: 3 entries, 24 bytes" in out
    assert re.search(r"forward: \S*\*N.* FLOPs", out)
    assert "(1) out.a[n] = sum_k out.w[k]*x[n,k]" in out
    status, out, _ = call("show", small, "--size", "N=10")
    assert re.search(r"\nforward: \d+ FLOPs", out)


@pytest.mark.parametrize("size", ["N", "N=", "N=0", "N=x", "M=3", "D=4", "N=1e3", "=3", "N=-1"])
def test_wrong_sizes(call: Any, small: Path, size: str) -> None:
    for command in ("show", "check"):
        status, out, err = call(command, small, "--size", size)
        assert (status, out) == (2, "")
        assert err.startswith(f"chainrule: --size {size}: expected ") or "the spec fixes D = 3" in err


def test_a_size_given_twice(call: Any, small: Path) -> None:
    status, _, err = call("show", small, "--size", "N=3", "--size", "N=4")
    assert status == 2
    assert "expected each size once, found 'N' again" in err


def test_layers_lists_the_catalogue(call: Any) -> None:
    status, out, _ = call("layers")
    assert status == 0
    for name in ("lstm", "conv2d", "softmax_cross_entropy", "adagrad", "global_norm", "orthogonal"):
        assert name in out


def _catalogue() -> list[str]:
    from codegen.catalogue import _others
    from symbolic.layers import SUMMARIES

    return [*SUMMARIES, *(name for table in _others().values() for name in table)]


@pytest.mark.parametrize("name", _catalogue())
def test_each_entry_shows_its_equations(call: Any, name: str) -> None:
    status, out, err = call("layers", name)
    assert (status, err) == (0, "")
    assert out.startswith(f"{name}: ")
    assert re.search(r"\[.*\] *(\+?=) |loss = |return ", out)


def test_no_equation_is_shown_twice_and_every_size_is_known(call: Any) -> None:
    _, out, _ = call("layers", "lstm")
    assert out.count("h[t,n,k] = o[t,n,k]*tanh(c[t,n,k])") == 1
    assert "lengths  text | none  (default none)" in out
    _, out, _ = call("layers", "flatten")
    assert out.count("y[n,(c*A+u)*B+v] = x[n,c,u,v]") == 1
    assert "L2" not in out


def test_a_loss_shows_what_the_spec_reads_itself(call: Any) -> None:
    _, out, _ = call("layers", "mse")
    assert re.search(r"\n  weight  number  \(default 1\)", out)
    assert re.search(r"\n  name  text  ", out)


def test_an_initialiser_shows_how_a_spec_writes_it(call: Any) -> None:
    _, out, _ = call("layers", "constant")
    assert "    init: {default: constant(value)}\n" in out
    _, out, _ = call("layers", "normal")
    assert "    init: {default: \"normal(mean, deviation)\"}    left out: mean 0, deviation 0.05\n" in out


def test_capital_letters_do_not_hide_a_name(call: Any, small: Path) -> None:
    assert "found 'LSTM'; did you mean 'lstm'?" in call("layers", "LSTM")[2]
    small.write_text(SMALL.format(name="small").replace("type: mse", "type: MSE"), encoding="utf-8")
    assert "did you mean 'mse'?" in call("show", small)[2]


def test_unknown_entry(call: Any) -> None:
    status, _, err = call("layers", "lstn")
    assert status == 2
    assert "found 'lstn'; did you mean 'lstm'?" in err
    status, _, err = call("layers", "nonsense")
    assert status == 2
    assert err.startswith("chainrule: expected an entry of the catalogue, found 'nonsense'; known: dense, one_hot, ")


def test_schema_is_json(call: Any) -> None:
    status, out, _ = call("schema")
    assert status == 0
    assert json.loads(out)["type"] == "object"


# ---- check -------------------------------------------------------------------------------------------------------------


def test_check_prints_a_table(call: Any, small: Path) -> None:
    status, out, _ = call("check", small, "--nodes", "--size", "N=4")
    assert status == 0
    assert re.search(r"small: numpy, float64, D=3, N=4, seed 0, loss \d", out)
    assert re.search(r"out\.w +\[3\] +3 entries +1\d\.\d +1\d\.\d +1\d\.\d +OK", out)
    assert re.search(r"out\.y +\[2\]|out\.y +\[4\]", out)
    assert re.search(r"perturbing every entry takes 6 forward passes; backpropagation takes the time of \d", out)
    assert out.rstrip().splitlines()[-1].startswith("OK: ")


def test_check_at_a_point_of_the_users(call: Any, small: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "point.npz", **{"out.w": np.ones(3), "x": np.zeros((7, 3)), "t": np.ones(7)})
    status, out, _ = call("check", small, "--params", "point.npz")
    assert status == 0
    assert re.search(r"small: numpy, float64, D=3, N=7, seed 0, loss 1\b", out)


def test_a_file_that_holds_no_arrays_by_name(call: Any, small: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones(3))
    np.savez_compressed(tmp_path / "whole.npz", **{"out.w": np.ones(3000)})
    np.savez(tmp_path / "objects.npz", **{"out.w": np.array([{}])})
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "spoilt.npz").write_bytes(whole[:60] + bytes(20) + whole[80:])
    (tmp_path / "short.npz").write_bytes(whole[:80])
    (tmp_path / "text.npz").write_text("no archive")
    for name, found in {
        "one.npy": "one array without a name", "missing.npz": "no such file or directory", ".": "is a directory",
        **dict.fromkeys(("spoilt.npz", "short.npz", "text.npz", "objects.npz"), "something else"),
    }.items():
        status, out, err = call("check", small, "--params", name)
        assert (status, out) == (2, "")
        assert err == f"chainrule: --params {name}: expected a file of arrays by name (numpy.savez), found {found}\n"


def test_check_json(call: Any, small: Path) -> None:
    status, out, _ = call("check", small, "--json")
    assert status == 0
    report = json.loads(out)
    assert report["verdict"] == "OK"
    assert report["parameters"][0]["name"] == "out.w"
    assert report["costs"]["ratio"] > 0


def test_check_has_status_1_where_a_gradient_is_wrong(call: Any, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codegen import pipeline

    whole = pipeline.compile

    def spoilt(model: Any, **options: Any) -> Any:
        module = whole(model, **options)
        inner = module.value_and_grad

        def value_and_grad(params: Any, batch: Any, aux: bool = False) -> Any:
            loss, grads = inner(params, batch)
            return loss, {name: 1.001 * g for name, g in grads.items()}

        module.value_and_grad = value_and_grad
        return module

    monkeypatch.setattr(pipeline, "compile", spoilt)
    status, out, _ = call("check", small)
    assert status == 1
    assert re.search(r"out\.w .*WRONG  out\.w\[\d\]: ", out)


# ---- the process -------------------------------------------------------------------------------------------------------


def test_exit_statuses_of_errors(call: Any, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: BaseException) -> None:
        def stages(*_: object) -> None:
            raise error

        monkeypatch.setattr("codegen.pipeline.stages", stages)

    raising(ChainruleError("two"))
    assert call("derive", small) == (2, "", "chainrule: two\n")
    raising(MachineError("three"))
    assert call("derive", small) == (3, "", "chainrule: three\n")
    raising(KeyboardInterrupt())
    assert call("derive", small) == (130, "", "chainrule: interrupted\n")
    raising(ZeroDivisionError("ours"))
    status, _, err = call("derive", small)
    assert status == cli.BUG
    assert "ZeroDivisionError: ours" in err
    assert "this is a bug in Chainrule" in err


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
def test_a_closed_pipe_is_no_error(specs: Path) -> None:
    command = f"{sys.executable} -m codegen.cli derive {specs / 'lstm_lm.yaml'} | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "The gradient of lstm_lm\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupted_from_outside(specs: Path) -> None:
    script = f"""
import os, signal, sys, time
import codegen.cli, codegen.pipeline
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
def interrupted(*_):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)
codegen.pipeline.stages = interrupted
sys.argv = ["chainrule", "derive", {str(specs / "scalar.yaml")!r}]
codegen.cli.main()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "chainrule: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupted_while_the_command_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("""
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
os.kill(os.getpid(), signal.SIGINT)
time.sleep(30)
""", encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "codegen", "--help"], cwd=ROOT, capture_output=True, text=True, check=False,
                          timeout=60, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])})
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "chainrule: interrupted\n")


def test_generate_as_a_process_outside_the_checkout(chainrule: Run, tmp_path: Path) -> None:
    shutil.copy(ROOT / "specs" / "scalar.yaml", tmp_path / "scalar.yaml")
    done = chainrule("generate", "scalar.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    shown = subprocess.run([sys.executable, "-c", "from generated import scalar; print(sorted(scalar.PARAMETERS))"], cwd=tmp_path,
                           capture_output=True, text=True, check=True)
    assert shown.stdout == "['x', 'y', 'z']\n"
