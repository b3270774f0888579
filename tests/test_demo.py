"""The demo: its corpus, its training loop on the written module, and the whole command in its quick form."""

from __future__ import annotations

import math
import os
import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codegen
from codegen import demo
from codegen.demo import Plan, corpus, held_out_loss, sample, spec_path, train, unigram_entropy, windows
from symbolic import MachineError, SpecError, load
from tests.conftest import ROOT, Run


@pytest.fixture(scope="module")
def text() -> demo.Corpus:
    return corpus(65)


@pytest.fixture(scope="module")
def module() -> Any:
    return codegen.compile(load(spec_path()))


def test_the_spec_is_the_one_in_specs() -> None:
    assert spec_path().read_bytes() == (ROOT / "specs" / "char_rnn.yaml").read_bytes()


def test_the_corpus_is_real_text_and_the_same_each_time(text: demo.Corpus) -> None:
    assert len(text.alphabet) == 65 == len(set(text.alphabet))
    assert len(text.train) > 1_000_000
    assert len(text.held_out) > 50_000
    assert text.train.max() == 64
    assert "def __init__(self" in text.text(text.train[:200_000])
    assert np.mean(text.held_out == 64) < 0.05
    again = corpus(65)
    assert np.array_equal(again.train, text.train)


def test_held_out_modules_are_not_trained_on() -> None:
    assert not set(demo.MODULES) & set(demo.HELD_OUT)


def test_without_the_library_source_the_machine_lacks_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MODULES", ("sys", "no_such_module"))
    with pytest.raises(MachineError, match="the source of Python's standard library is not installed"):
        corpus(65)


def test_unigram_entropy_of_known_distributions() -> None:
    assert unigram_entropy(np.array([0, 1, 2, 3]), 4) == pytest.approx(math.log(4))
    assert unigram_entropy(np.array([2, 2, 2]), 4) == 0


def test_windows_follow_each_other_and_targets_are_one_ahead() -> None:
    codes = np.arange(101)
    found = list(islice(windows(codes, steps=5, streams=4), 6))
    assert [anew for anew, _, _ in found] == [True, False, False, False, False, True]
    _, inputs, targets = found[1]
    assert inputs.shape == (5, 4)
    assert np.array_equal(inputs[:, 0], np.arange(5, 10))
    assert np.array_equal(inputs[:, 1], np.arange(30, 35))
    assert np.array_equal(targets, inputs + 1)


def test_training_lowers_the_held_out_loss(text: demo.Corpus, module: Any) -> None:
    before = held_out_loss(module, module.init(0), text.held_out)
    heard: list[tuple[int, float]] = []
    params = train(module, text, Plan(windows=300), lambda window, loss: heard.append((window, loss)))
    after = held_out_loss(module, params, text.held_out)
    assert before == pytest.approx(math.log(65), rel=0.05)
    assert after < 0.85 * before
    assert heard[-1][0] == 300
    assert heard[-1][1] < heard[50][1]


def test_a_sample_is_text_of_the_alphabet(text: demo.Corpus, module: Any) -> None:
    drawn = sample(module, module.init(0), text, 50)
    assert drawn.startswith("\ndef ")
    assert set(drawn) <= set(text.alphabet)
    assert len(drawn) >= 50
    assert drawn == sample(module, module.init(0), text, 50)


def test_an_edited_spec_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert demo._folder(out) == out
    out.mkdir()
    (out / "char_rnn.yaml").write_bytes(spec_path().read_bytes())
    assert demo._folder(out) == out  # as the last demo left it
    (out / "char_rnn.yaml").write_text("name: mine\n", encoding="utf-8")
    assert demo._folder(out) == tmp_path / "out-2"
    assert capsys.readouterr().out == f"{out / 'char_rnn.yaml'} is not the demo's any more and stays as it is\n"
    (tmp_path / "out-2").mkdir()
    (tmp_path / "out-2" / "char_rnn.yaml").write_text("name: mine too\n", encoding="utf-8")
    assert demo._folder(out) == tmp_path / "out-3"


def test_other_files_of_a_demo_folder_are_kept(tmp_path: Path) -> None:
    (tmp_path / "char_rnn.txt").write_text("notes", encoding="utf-8")
    with pytest.raises(SpecError, match=r"char_rnn\.txt: expected no file, .*found a file that Chainrule did not generate"):
        demo.run(quick=True, out=tmp_path)
    assert (tmp_path / "char_rnn.txt").read_text(encoding="utf-8") == "notes"


STEPS = ("1. The spec: ", "2. The derivation: ", "3. The module: ", "4. Held against perturbation", "5. The C module: ",
         "6. Training ", "7. A sample:", "Done in ")
FILES = ("char_rnn.yaml", "char_rnn.txt", "char_rnn.tex", "char_rnn.py")
IN_C = ("char_rnn.c", "char_rnn.h", "char_rnn_c.py")


def hear(done: Any, made: Path, files: tuple[str, ...]) -> None:
    """The steps in their order, a loss well below the entropy of single characters, and the files at the end."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    places = [done.stdout.find(part) for part in STEPS]
    assert places == sorted(places)
    assert places[0] == 0
    assert done.stdout.splitlines()[-len(files):] == [f"     {made / name}" for name in files]
    losses = [float(word) for word in re.findall(r"window +[0-9,]+ of 2,000: loss ([0-9.]+)$", done.stdout, re.MULTILINE)]
    assert len(losses) == 10
    assert losses[-1] < 0.75 * losses[0]
    share = float(done.stdout.split(" nats, ")[-1].split(" of the entropy")[0])
    assert share <= 0.75
    assert sorted(p.name for p in made.iterdir() if p.is_file()) == sorted(("__init__.py", *files))


@pytest.mark.slow
def test_the_quick_demo_end_to_end(chainrule: Run, tmp_path: Path) -> None:
    """With a compiler: training goes through C."""
    done = chainrule("demo", "--quick", "--out", tmp_path / "out", CHAINRULE_CACHE=str(tmp_path / "cache"))
    hear(done, tmp_path / "out", (*FILES, *IN_C))
    assert "6. Training through C on " in done.stdout
    (distance,) = re.findall(r"within (\S+) of the NumPy module's", done.stdout)
    assert float(distance) <= 1e-5
    (speeds,) = re.findall(r"of ([0-9,]+) characters a second through NumPy, of ([0-9,]+) through C$", done.stdout, re.MULTILINE)
    assert all(int(speed.replace(",", "")) > 0 for speed in speeds)
    assert len(list((tmp_path / "cache").glob("char_rnn-*"))) == 1


def without_compilers(folder: Path) -> dict[str, str]:
    """An environment in which no compiler is found: no programs, and a package ziglang that is only a name."""
    (folder / "ziglang").mkdir(parents=True)
    (folder / "ziglang" / "__init__.py").write_text("", encoding="utf-8")
    (folder / "programs").mkdir()
    return {"PATH": str(folder / "programs"), "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))), "CC": ""}


@pytest.mark.slow
def test_the_quick_demo_without_a_compiler(chainrule: Run, tmp_path: Path) -> None:
    done = chainrule("demo", "--quick", "--out", tmp_path / "out", **without_compilers(tmp_path / "bare"))
    hear(done, tmp_path / "out", FILES)
    assert ("\n5. The C module: left out, for no C compiler was found (gcc, clang, or 'pip install ziglang')\n"
            "6. Training through NumPy on ") in done.stdout


def test_the_c_module_is_trained_by_the_same_loop(text: demo.Corpus, module: Any, tmp_path: Path) -> None:
    """Its update is the NumPy module's text, so a few steps from the same start end at the same place, up to rounding."""
    written, ported = demo._in_c(load(spec_path()), tmp_path)
    assert [item.path for item in written] == [tmp_path / name for name in IN_C]
    plan = Plan(windows=5)
    assert demo.apart((module, ported), text, plan) < 1e-5
    here, there = (train(each, text, plan, lambda window, loss: None) for each in (module, ported))
    assert list(here) == list(there)
    for name in here:
        assert np.abs(here[name] - there[name]).max() < 1e-3 * np.abs(here[name]).max()
    assert all(speed > 0 for speed in demo.speeds((module, ported), text, plan, seconds=0.05))
    assert demo.sample(ported, here, text, 20) == sample(module, here, text, 20)


def test_a_gradient_that_is_apart_is_seen(text: demo.Corpus, module: Any) -> None:
    def spoiled(params: Any, batch: Any) -> Any:
        loss, gradients = module.value_and_grad(params, batch)
        return loss, {**gradients, "rnn.U": 1.001 * gradients["rnn.U"]}

    other = type("Other", (), {"value_and_grad": staticmethod(spoiled)})
    assert demo.apart((module, module), text, Plan(windows=1)) == 0
    assert demo.apart((module, other), text, Plan(windows=1)) == pytest.approx(1e-3, rel=1e-3)
    assert demo.apart((module, other), text, Plan(windows=1)) > demo.AGREES


def test_a_compiler_that_refuses_leaves_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CHAINRULE_C_FLAGS", "-fno-such-flag")
    written, module = demo._in_c(load(spec_path()), tmp_path / "out")
    assert module is None
    assert [item.path.name for item in written] == list(IN_C)
    assert re.search(r"^   It cannot be built: the C compiler refuses .*char_rnn\.c:\n\Z", capsys.readouterr().out, re.MULTILINE)


def test_a_wrong_name_of_a_compiler_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "nobody"))
    assert demo._in_c(load(spec_path()), tmp_path) == ([], None)
    assert capsys.readouterr().out.startswith(f"5. The C module cannot be built: CC={tmp_path / 'nobody'}: expected ")


def test_check_of_c_without_a_compiler_is_status_3(chainrule: Run, tmp_path: Path) -> None:
    done = chainrule("check", ROOT / "specs" / "scalar.yaml", "--target", "c", **without_compilers(tmp_path / "bare"))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("chainrule: expected a C compiler, found none: install gcc or clang ")
