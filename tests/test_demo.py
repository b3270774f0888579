"""The demo: its corpus, its training loop on the written module, and the whole command in its quick form."""

from __future__ import annotations

import math
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


@pytest.mark.slow
def test_the_quick_demo_end_to_end(chainrule: Run, tmp_path: Path) -> None:
    done = chainrule("demo", "--quick", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for part in ("1. The spec: ", "2. The derivation: ", "3. The module: ", "4. Held against perturbation", "5. Training on ",
                 "6. A sample:", "Done in "):
        assert part in done.stdout
    made = tmp_path / "out"
    assert done.stdout.splitlines()[-4:] == [
        f"     {made / name}" for name in ("char_rnn.yaml", "char_rnn.txt", "char_rnn.tex", "char_rnn.py")]
    share = float(done.stdout.split(" nats, ")[-1].split(" of the entropy")[0])
    assert share <= 0.75
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_file()) == [
        "__init__.py", "char_rnn.py", "char_rnn.tex", "char_rnn.txt", "char_rnn.yaml"]
