"""Narrow terminals: lines are broken between words, tables that do not fit become paragraphs; pipes get whole lines."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

import symbolic
from codegen import report
from codegen.folding import fold
from codegen.verify import Report, Verdict


def test_words_stay_whole() -> None:
    assert fold("  (7) one two three", 12, "   ") == "  (7) one\n     two\n     three"
    assert fold("a " + "b" * 40 + " c", 10) == "a\n" + "b" * 40 + "\nc"
    assert fold("one two", None) == "one two"


DIGITS = {"perturbation": 11.0, "float32": 6.7, "complex step": 15.7, "interpreter": 15.5}
FOUND = Report("model", "numpy", "float32", {"T": 5, "N": 3}, 0, 1.0,
               (Verdict("gru.W", (144, 12), 5, 2, DIGITS, "OK"), Verdict("gru.b", (144,), 1, 0, DIGITS, "KINK", "at an edge")),
               (Verdict("gru.h", (3, 2, 48), 1, 0, {"complex step": 15.0}, "OK"),), node_sizes={"T": 3, "N": 2})


def shown(monkeypatch: pytest.MonkeyPatch, width: int, terminal: bool = True) -> str:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    monkeypatch.setattr(report, "console", lambda: Console(file=stream, width=width, force_terminal=terminal, color_system=None,
                                                           highlight=False))
    report.print_report(FOUND)
    return stream.getvalue()


@pytest.mark.parametrize("width", [50, 70, 100])
def test_a_report_cuts_no_word(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    text = shown(monkeypatch, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for word in ("perturbation", "interpreter", "directions", "gru.W", "verdict" if width == 100 else "KINK"):
        assert word in text
    assert "1 entry" in text
    assert "1 entries" not in text
    assert "at T=3, N=2:" in " ".join(text.split())


def test_a_pipe_gets_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, 200, terminal=False)
    assert "5 entries, 2 directions" in text


def test_show_folds_equations_between_terms(monkeypatch: pytest.MonkeyPatch, specs: Any) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    monkeypatch.setattr(report, "console", lambda: Console(file=stream, width=70, force_terminal=True, color_system=None,
                                                           highlight=False))
    report.print_model(symbolic.load(specs / "gru_classifier.yaml"), {})
    assert "(7) gru.g[t,n,k] = tanh(gru.a[t,n,k+2*H] +\n        gru.r[t,n,k]*gru.v[t,n,k])\n" in stream.getvalue()
    assert max(map(len, stream.getvalue().splitlines())) <= 70


def test_show_and_generate_count_the_same(specs: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import codegen

    stream = io.StringIO()
    monkeypatch.setattr(report, "console", lambda: Console(file=stream, width=200))
    model = symbolic.load(specs / "gru_classifier.yaml")
    report.print_model(model, {})
    (written,) = codegen.generate(model, out=tmp_path)
    assert f"forward and backward: {written.cost}\n" in stream.getvalue()
