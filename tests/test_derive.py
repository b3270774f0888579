"""The derivation: every equation with its rule, read off the origins; its text and its LaTeX."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from codegen.derive import Derivation, as_text, derive
from codegen.latex.emit import ADJOINTS, emit
from codegen.latex.printer import DerivationPrinter, escape, symbol_names
from codegen.pipeline import Options, stages
from codegen.text import equation_text, text
from symbolic import ChainruleError, gradient, load
from symbolic.interpreter import evaluate
from symbolic.parser import Scope, parse
from symbolic.program import size

SPECS = ("char_rnn", "gru_classifier", "leaky_integrator", "lenet", "lenet_digits", "lstm_lm", "minimal_gated_unit", "mlp",
         "rnn_regression", "scalar", "second_order")


@pytest.fixture(scope="module")
def char_rnn(specs: Path) -> Derivation:
    return derive(load(specs / "char_rnn.yaml"))


# ---- the text ----------------------------------------------------------------------------------------------------------


def test_the_scalar_example_in_full(specs: Path) -> None:
    shown = as_text(derive(load(specs / "scalar.yaml")))
    body = shown.partition("Forward\n")[2]
    assert body.startswith("  (1) q = x + y\n  (2) f = z*q\n")
    for line in (
        "chain rule on (2), df/dz = q",
        "chain rule on (2), df/dq = z",
        "chain rule on (1), dq/dx = 1",
        "  dL/dx []",
        "d_z = ",
    ):
        assert line in body


def test_backpropagation_through_time_is_an_index_shift(char_rnn: Derivation) -> None:
    lines = [step.text for step in char_rnn.adjoints["rnn.h"]]
    assert lines == [
        "d_rnn.h[t,n,k] += sum_i out.W[i,k]*d_out.y[t,n,i]",
        "d_rnn.h[t-1,n,j] += sum_i rnn.U[i,j]*d_rnn.a[t,n,i]",
    ]


def test_softmax_minus_one_hot_falls_out(char_rnn: Derivation) -> None:
    text_of = {step.number: step.text for step in char_rnn.final}
    lines = [line for line in text_of.values() if line.startswith("d_out.y")]
    assert "d_out.y[t,n,y[t,n]] += -1" in lines
    assert any("loss.e[t,n,k]" in line for line in lines)


def test_every_adjoint_equation_of_the_program_is_shown(specs: Path) -> None:
    for name in SPECS:
        found = stages(load(specs / f"{name}.yaml"), Options())
        derivation = derive(load(specs / f"{name}.yaml"))
        shown = {(e.number, e.target) for steps in derivation.adjoints.values() for s in steps for e in s.equations}
        forward = set(found.stabilised.equations)
        assert shown == {(e.number, e.target) for e in found.adjoint.equations if e not in forward}
        assert {s.number for s in derivation.forward} == {e.number for e in found.program.equations}
        assert [r.name for r in derivation.results] == [t.name for t in found.program.parameters]


def test_every_line_says_its_rule_and_its_parents(specs: Path) -> None:
    for name in SPECS:
        derivation = derive(load(specs / f"{name}.yaml"))
        numbers = {s.number for s in derivation.forward} | {e.number for e in derivation.forward_program.equations}
        numbers |= {s.number for steps in derivation.adjoints.values() for s in steps}
        for steps in derivation.adjoints.values():
            for step in steps:
                assert step.rule in ("chain rule", "seed", "argument of the maximum")
                assert step.parents or step.rule == "seed"
                assert set(step.parents) <= numbers


def test_the_derived_partials_are_those_of_the_equations(specs: Path) -> None:
    """Body = adjoint times partial, so that the line under an equation explains it."""
    derivation, checked = derive(load(specs / "gru_classifier.yaml")), 0
    program = derivation.adjoint_program
    for steps in derivation.adjoints.values():
        for step in steps:
            for equation in step.equations:
                origin = equation.origin
                if origin.partial is None:
                    continue
                parent = next((e for e in program.equations if e.number in origin.parents and origin.read in e.reads), None)
                if parent is None:
                    continue  # the one instance of a maximum: its read goes through the argument
                adjoint = program.gradients[parent.name]
                assert equation.body == program.tensor(adjoint).at(parent.target.indices) * origin.partial
                checked += 1
    assert checked > 20


def test_rewrites_are_steps_with_their_laws(char_rnn: Derivation) -> None:
    shown = as_text(char_rnn)
    stable = r"Forward, rewritten: log_sum_exp \(.*\)\n(.*\n)*?"
    stable += r"    was \(7\) .*\n(.*\n)?    now \(7\) loss\.e.*loss\.s_max"
    assert re.search(stable, shown)
    assert re.search(r"Rewritten: reuse \(.*\)\n(.*\n)*?    was \(\d+\) .*tanh.*\n    now \(\d+\) .*rnn\.h\[t,n,i\]\*\*2", shown)


def test_a_scatter_adds(char_rnn: Derivation) -> None:
    (result,) = [r for r in char_rnn.results if r.name == "rnn.W"]
    assert [step.text for step in result.steps] == ["d_rnn.W[i,x[t,n]] += d_rnn.a[t,n,i]"]
    assert char_rnn.forward[0].text == "embed.y[t,n,x[t,n]] = 1"


def test_wrt_restricts_the_derivation(specs: Path) -> None:
    model = load(specs / "lstm_lm.yaml")
    whole, part = derive(model), derive(model, wrt="out.b")
    assert [r.name for r in part.results] == ["out.b"]
    assert "lstm.h" not in part.adjoints
    assert len(as_text(part)) < len(as_text(whole)) / 2
    assert [r.name for r in derive(model, wrt="out.b, lstm.U").results] == ["out.b", "lstm.U"]
    with pytest.raises(ChainruleError, match=r"found 'lstm\.Q'; did you mean 'lstm\.\w'"):
        derive(model, wrt="lstm.Q")


def test_a_result_of_zero_is_said(tmp_path: Path) -> None:
    model = load("v = sum(w[k]*x[n,k], over=(n,k))", inputs={"x": ["N", "D"]}, parameters={"w": ["D"], "idle": ["D"]},
                 loss={"prediction": "v"})
    assert "dL/didle [D]\n    0: the loss does not depend on it" in as_text(derive(model))


def test_unrolled_derivation(specs: Path) -> None:
    shown = as_text(derive(load(specs / "second_order.yaml"), unroll=3))
    assert "T" not in re.findall(r"\[t-1", shown)


def test_forward_text_parses_back_to_the_same_program(specs: Path) -> None:
    """The printed lines are in the language of specs, apart from ``sum_k``, which that spells ``sum(..., over=k)``."""
    program = load(specs / "second_order.yaml").program()
    lines: dict[int, list[object]] = {}
    for equation in program.equations:
        lines.setdefault(equation.number, []).append(equation)
    shown = [equation_text(rows, program) for rows in lines.values()]  # type: ignore[arg-type]
    local = {t.name.rpartition(".")[2]: t for t in program.tensors if t.role in ("parameter", "input", "state")}

    def spelled(line: str) -> str:
        target, _, body = line.replace("cell.", "").replace("loss.", "").partition(" = ")
        terms = [re.sub(r"^sum_([a-z,]+) (.*)$", r"sum(\2, over=(\1,))", term) for term in body.split(" + ")]
        return f"{target} = {' + '.join(terms)}"

    parsed = parse("\n".join(map(spelled, shown)), Scope(tensors=local, sizes={n: size(n) for n in program.sizes}))
    assert len(parsed.equations) == len(program.equations)
    for first, second in zip(program.equations, parsed.equations, strict=True):
        assert text(first.body).replace("cell.", "").replace("loss.", "") == text(second.body).replace("cell.", "")


def test_the_program_that_is_shown_as_computed_has_the_right_values(specs: Path) -> None:
    import numpy as np

    from codegen.trial import choose_sizes, draw

    model = load(specs / "second_order.yaml")
    found = stages(model, Options())
    program = model.program()
    sizes = choose_sizes(program, {"T": 3, "N": 2})
    rng = np.random.default_rng(0)
    start = {t.name: rng.normal(size=[sizes[str(e)] for e in t.shape]) for t in program.parameters}
    trial = draw(program, sizes, start, 0)
    plain = gradient(program)
    for name in start:
        want = evaluate(plain, trial.values, sizes, [plain.gradients[name]])
        got = evaluate(found.optimised, trial.values, sizes, [found.optimised.gradients[name]])
        np.testing.assert_allclose(*got.values(), *want.values(), rtol=1e-12, atol=1e-15)


# ---- LaTeX -------------------------------------------------------------------------------------------------------------


def test_symbols_drop_the_layer_where_it_is_clear(specs: Path) -> None:
    symbols = symbol_names(load(specs / "char_rnn.yaml").program())
    assert symbols["rnn.U"] == "U"
    assert symbols["rnn.W"] == r"W^{(\mathrm{rnn})}"
    assert symbols["rnn.h0"] == "h^{(0)}"
    assert symbols["loss"] == "L"
    assert len(set(symbols.values())) == len(symbols)


@pytest.mark.parametrize("name", SPECS)
def test_symbols_are_distinct(specs: Path, name: str) -> None:
    symbols = symbol_names(derive(load(specs / f"{name}.yaml")).forward_program)
    assert len(set(symbols.values())) == len(symbols)


@pytest.mark.parametrize(
    ("adjoint", "shown"),
    [("frac", r"\frac{\partial L}{\partial h_{t,n,i}}"), ("bar", r"\bar{h}_{t,n,i}"), ("delta", r"\delta^{h}_{t,n,i}")],
)
def test_notations_of_adjoints(char_rnn: Derivation, adjoint: str, shown: str) -> None:
    program = char_rnn.adjoint_program
    printer = DerivationPrinter(program, adjoint)
    equation = next(e for e in program.equations if e.name == "d_rnn.a")
    # The adjoint stands before its factor, never inside a fraction.
    (term,) = printer.terms([equation])
    assert term == rf"{shown}\,\left(1 - \tanh^{{2}}\left(a_{{t,n,i}}\right)\right)"


def test_functions_in_latex() -> None:
    source = ("y[k] = where(x[k] > 0, sigmoid(x[k])**2, abs(x[k])) + max2(x[k], w[k]) + exp(x[k]) + softplus(w[k]) "
              "+ sqrt(x[k]) + square(w[k])\nv = sum((k < 2)*y[k], over=k)")
    model = load(source, inputs={"x": ["K"]}, parameters={"w": ["K"]}, loss={"prediction": "v"})
    program = model.program()
    printer = DerivationPrinter(program)
    rows = [term for e in program.equations for term in printer.terms([e])]
    joined = " ".join(rows)
    for part in (r"\begin{cases}", r"\sigma^{2}\left(x_{k}\right)", r"\left|x_{k}\right|", r"\max\left(x_{k}, w_{k}\right)",
                 r"e^{x_{k}}", r"\sqrt{x_{k}}", r"w_{k}^{2}", r"\sum_{k} \left[k < 2\right]\,y_{k}"):
        assert part in joined
    assert joined.count("{") == joined.count("}")


def test_escape() -> None:
    assert escape("a_b%{}\\") == r"a\_b\%\{\}\textbackslash{}"


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("adjoint", sorted(ADJOINTS))
def test_latex_is_balanced(specs: Path, name: str, adjoint: str) -> None:
    document = emit(derive(load(specs / f"{name}.yaml")), adjoint)
    plain = document.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert document.count(r"\left") == document.count(r"\right")
    assert document.count(r"\begin{") == document.count(r"\end{")
    assert "None" not in document


@pytest.mark.latex
@pytest.mark.parametrize("adjoint", sorted(ADJOINTS))
@pytest.mark.parametrize("name", ["char_rnn", "lenet", "leaky_integrator", "gru_classifier"])
def test_latex_compiles_and_no_line_leaves_the_page(specs: Path, tmp_path: Path, name: str, adjoint: str) -> None:
    (tmp_path / "d.tex").write_text(emit(derive(load(specs / f"{name}.yaml")), adjoint), encoding="utf-8")
    command = [shutil.which("pdflatex") or "pdflatex", "-interaction=nonstopmode", "-halt-on-error", "d.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \((\d+\.?\d*)pt too wide\)", done.stdout)]
    assert all(points < 10 for points in wide), wide
    assert (tmp_path / "d.pdf").stat().st_size > 10_000


def test_a_long_product_is_broken_between_its_factors() -> None:
    from codegen.latex.emit import WIDTH, _broken, _factors, _width

    gate = r"\sigma\left(a_{t,n,k + H} + m_{t,n,k + H}\right)"
    term = rf"\frac{{\partial L}}{{\partial z_{{t,n,k}}}}\,\left(1 - {gate}\right) {gate}"
    head = r"\frac{\partial L}{\partial a_{t,n,k + H}} &\mathrel{+}="
    assert _factors(term) == [r"\frac{\partial L}{\partial z_{t,n,k}}\,", rf"\left(1 - {gate}\right)", gate]
    rows = _broken(head, [term])
    assert rows[1] == rf"&\qquad {{}}\cdot {gate}"
    assert all(_width(row) <= WIDTH for row in rows)
    assert _broken(head, [gate, f"- {gate}"]) == [rf"{head} {gate} - {gate}"]  # what fits stays
    assert _factors(r"- \sum_{t,\, n} \left[t < T\right]\, x_{t} y_{n}") == [
        r"- \sum_{t,\, n} \left[t < T\right]\, x_{t}", "y_{n}"]
    assert _factors(rf"a_{{t}} - {gate} b + c") == ["a_{t}", f"- {gate}", "b", "+ c"]
    assert _broken("x &=", [f"{gate} + {gate} + {gate} + {gate}"])[1].startswith(r"&\quad + \sigma")
    assert _factors(r"\left(\begin{cases} a & b \\ c & \text{otherwise} \end{cases}\right) d") == [
        r"\left(\begin{cases} a & b \\ c & \text{otherwise} \end{cases}\right)", "d"]


def test_no_formula_is_made_larger(specs: Path) -> None:
    text = emit(derive(load(specs / "gru_classifier.yaml")))
    assert r"\resizebox{\linewidth}" not in text
    assert r"\shrunk{$" not in text  # each of them could be broken
    shrunk = re.search(r"\\newcommand{\\shrunk}.*", text)
    assert shrunk is not None
    assert r"\else\width\fi" in shrunk[0]


def test_a_sum_inside_a_function_has_partials_of_its_own() -> None:
    """The staged sum stands under the number of its reader; each partial is that of the equation it comes from."""
    model = load("c[n] = s*x[n] + tanh(sum(V[k]*x[n], over=k))\nloss = sum(c[n]**2, over=n)", loss="loss", inputs={"x": ["N"]},
                 parameters={"s": [], "V": [3]})
    shown = as_text(derive(model))
    for line in ("dc[n]/dc_sum[n] = 1 - tanh(c_sum[n])**2", "dc[n]/ds = x[n]", "dc_sum[n]/dV[k] = x[n]"):
        assert f"chain rule on (1), {line}\n" in shown
    sum_ = r"\mathrm{c\_sum}_{n}"
    partials = re.findall(r"\\partial (\S+) / \\partial (\S+) =", emit(derive(model)))
    assert partials == [("L", "c_{n}"), ("c_{n}", sum_), ("c_{n}", "s"), (sum_, "V_{k}")]
