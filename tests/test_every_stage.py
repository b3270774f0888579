"""Random programs held at every stage (tests/stages.py): a short search, the same at each run.

The long one is ``python -m tests.fuzz``.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import pytest

from tests import fuzz, stages
from tests.programs import Case, drawn
from tests.stages import NoVerdict, Wrong, hold

REACHED = {
    "a sign or a scale on a product in a loop": r"(- |\*)U\[i,j\]\*h\w+\[t[-+]\d",
    "an index as factor in a loop": r"\(t\+1\)\*.*h\w+\[t[-+]\d",
    "a diagonal read": r"U\[i,i\]", "a diagonal write": r"^y\d+\[(i,i|t,t)\]",
    "three lags": r"h\w+\[t[-+]3", "two axes": r"h\w+\[t,n[-+]1", "a same step": r"h\w+a\[t(,n)?(,i)?\] [-+*]",
    "packed slices": r"i\+2\*H", "a gate that needs another": r"\+= W\[i,j\]\*p",
    "its own past": r"\(u [<>] t\)\*D", "a narrowed range": r"\(t < T-1\)", "a gather": r"E\[tok\[t,n\]",
    "a scatter": r"^\w+\[ix\[n\]",
    "a maximum": r"= max\(", "a kink": r"clip\(|relu\(|abs\(", "a mask": r"where\(",
    "a copied step": r"\(t >= len\[n\]\)\*h", "a shifted write": r"^h\d+\[t\+[12]",
}


@pytest.mark.parametrize("seed", range(45))
def test_every_stage_agrees(seed: int, dirty_memory: None) -> None:
    fault = fuzz.fault_of(drawn(seed))
    assert fault is None, f"{fault!r}\n{drawn(seed)}"


def test_the_programs_reach_what_they_are_for() -> None:
    seen = [drawn(seed) for seed in range(250)]
    text = "\n".join(case.text for case in seen)
    missed = [what for what, pattern in REACHED.items() if len(re.findall(pattern, text, re.MULTILINE)) < 3]
    assert missed == []
    starts = {state["initial"] for case in seen for state in case.spec["states"].values() if isinstance(state, dict)}
    assert starts == {"zero", "learned", "given", "carry"}
    assert {1, 2, 3, 4, 5} <= {case.sizes.get("T") for case in seen}
    assert any(len(case.spec["outputs"]) > 1 for case in seen)


SMALL = Case(
    "h[t,i] = tanh(a[t,i])\na[t,i] = U[i,j]*h[t-1,j] + x[t,i]\nloss = sum(h[t,i]**2, over=(t,i))",
    {"parameters": {"U": ["H", "H"]}, "inputs": {"x": ["T", "H"]}, "loss": "loss", "dtype": "float64",
     "shapes": {"a": ["T", "H"], "h": ["T", "H"]}},
    {"T": 3, "H": 2}, unrolled=True, curved=True, wrt="params",
)


def doubled(program: Any) -> Any:
    first, *rest = program.equations
    return program.with_equations([replace(first, body=2 * first.body), *rest])


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("gradient", "against the complex step"),
        ("demand", "after demand"),
        ("pack", "after pack"),
        ("part", "after part"),
        ("shorten", "after shorten"),
        ("unroll", "unrolled program"),
    ],
)
def test_a_wrong_stage_is_seen(stage: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(SMALL)
    right = getattr(stages, stage)
    wrong = {"gradient": lambda p, wrt: replace(doubled(right(p, wrt)), loss=p.loss)}.get(stage, lambda *a: doubled(right(*a)))
    monkeypatch.setattr(stages, stage, wrong)
    with pytest.raises(Wrong, match=message):
        hold(SMALL)


def test_a_wrong_rule_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = tuple(replace(r, run=lambda p, kept: doubled(p)) if r.name == "gather" else r for r in stages.RULES)
    monkeypatch.setattr(stages, "RULES", rules)
    with pytest.raises(Wrong, match="after the rule 'gather'"):
        hold(SMALL)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [("np.tanh", "np.sin", "emitted"), ("return float(loss)\n", "return 1.0\n", "loss alone")],
)
def test_a_wrong_text_is_seen(right: str, wrong: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    render = stages.render

    def spoilt(*args: Any) -> dict[str, str]:
        ((name, text),) = render(*args).items()
        assert right in text
        return {name: text.replace(right, wrong)}

    monkeypatch.setattr(stages, "render", spoilt)
    with pytest.raises(Wrong, match=message):
        hold(SMALL)


def test_a_fault_is_shown_by_its_smallest_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def held(case: Case) -> None:
        if "tanh(h1[t-1])*b" in case.text:
            raise Wrong("emitted: loss: error 1")

    monkeypatch.setattr(fuzz, "hold", held)
    text = "y[t] = g[t]\nh1[t] = -2*tanh(h1[t-1])*b[0]*s + y[t] - s\nloss = sum(h1[t]**2, over=t)\nloss += sum(y[t], over=t)"
    case = replace(SMALL, text=text, spec={**SMALL.spec, "shapes": {"y": ["T"], "h1": ["T"]}})
    found, fault = fuzz.reduced(case, Wrong("emitted: loss: error 2"))
    assert found.text == "h1[t] = tanh(h1[t-1])*b[0]"
    assert found.spec["shapes"] == {"h1": ["T"]}
    assert str(fault).endswith("error 1")


def test_a_search_counts_and_reports(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def held(case: Case) -> None:
        raise (Wrong("emitted: loss") if "tanh" in case.text else NoVerdict("numbers too great"))

    monkeypatch.setattr(fuzz, "hold", held)
    counts = fuzz.search(time.monotonic() + 0.5, 1)
    assert counts["programs"] == counts["faults"] + counts["numbers too great"] > 0
    assert "to run again: hold(Case(text=" in capsys.readouterr().out
