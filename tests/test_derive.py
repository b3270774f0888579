"""The derivation: every equation with its rules, read off the origins; the same in every format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from codegen.derivation.document import Box, Code, Display, Document, Section, displays
from codegen.derivation.formats import ADJOINTS, Style, document_of, show
from codegen.derivation.provenance import Derivation, derive
from codegen.derivation.statements import statements
from codegen.derivation.symbols import symbols
from codegen.latex.printer import escape, latex
from codegen.pipeline import Options, derivation, stages
from codegen.plain.printer import line_text
from codegen.trial import choose_sizes, draw
from symbolic import ChainruleError, Model, load
from symbolic.interpreter import evaluate
from symbolic.program import Equation, Program, Role

SPECS = ("char_rnn", "gru_classifier", "leaky_integrator", "lenet", "lenet_digits", "lstm_lm", "minimal_gated_unit", "mlp",
         "rnn_regression", "scalar", "second_order")
SMALL = {"T": 4, "N": 2, "V": 3, "E": 2, "H": 3, "D": 2, "K": 2, "C": 3}


@pytest.fixture(scope="module")
def char_rnn(specs: Path) -> Derivation:
    return derive(load(specs / "char_rnn.yaml"))


def step(text: str, name: str) -> str:
    """The part of a text that derives the adjoint of one tensor."""
    return re.split(r"\n\n", text.partition(f"\nd_{name}\n")[2])[0]


# ---- what is derived ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_every_equation_is_shown_under_its_number(specs: Path, name: str) -> None:
    """Forward equations, those that made them stable, every path of every adjoint."""
    model = load(specs / f"{name}.yaml")
    found, made = stages(model, Options()), derive(model)
    shown = {n for d in displays(document_of(made, Style())) for n in d.line.numbers}
    wanted = {e.number for p in (found.program, found.stabilised, found.adjoint) for e in p.equations}
    assert shown >= wanted
    paths = {p.adjoint for a in made.adjoints.values() for p in a.paths} | set(made.arguments)
    assert paths == set(found.adjoint.equations) - set(found.stabilised.equations)


@pytest.mark.parametrize("name", SPECS)
def test_each_path_is_its_adjoint_times_its_partial(specs: Path, name: str) -> None:
    """So that the words before a formula explain it."""
    made = derive(load(specs / f"{name}.yaml"))
    program, checked = made.derived, 0
    for adjoint in made.adjoints.values():
        for path in adjoint.paths:
            if path.source is None or path.origin.partial is None or path.origin.read not in path.source.reads:
                continue  # the start, or the one instance of a maximum: its read goes through the argument
            above = program.tensor(program.gradients[path.source.name]).at(path.source.target.indices)
            assert path.adjoint.body == above * path.origin.partial
            checked += 1
    assert checked > 3


def test_an_adjoint_comes_after_those_that_it_reads(specs: Path) -> None:
    """Within one step; what comes from another step is the recurrence."""
    order = list(derive(load(specs / "lstm_lm.yaml")).adjoints)
    pairs = (("out.y", "loss.e"), ("lstm.h", "out.y"), ("lstm.c", "lstm.h"), ("lstm.a", "lstm.o"), ("lstm.U", "lstm.a"))
    for later, earlier in pairs:
        assert order.index(later) > order.index(earlier)


# ---- statements: one equation for each entry ---------------------------------------------------------------------------


def _adjoint_programs(made: Derivation) -> Iterator[tuple[str, Program, Program]]:
    """For each form of each adjoint: the program with its equations as they were, and as statements."""
    for adjoint in made.adjoints.values():
        rest = [e for e in made.derived.equations if e.name != adjoint.adjoint]
        for form in adjoint.forms:
            shown = [e for s in statements(form.equations, made.known) for e in s.terms]
            yield (f"{adjoint.name}: {form.rule}", made.known.with_equations([*rest, *form.equations]),
                   made.known.with_equations([*rest, *shown]))


WINDOWS = {
    "name": "windows", "inputs": {"x": ["N", 2, 7, 6], "y": {"shape": ["N"], "kind": "index", "below": 3}},
    "layers": [
        {"name": "conv", "type": "conv2d", "channels": 3, "kernel": 3, "padding": 1, "stride": 2, "activation": "relu"},
        {"name": "pool", "type": "max_pool2d", "kernel": 2, "stride": 1},
        {"name": "flat", "type": "flatten"},
        {"name": "out", "type": "dense", "units": 3},
    ],
    "loss": {"type": "softmax_cross_entropy", "target": "y"},
}


def small(specs: Path, name: str) -> Model:
    """A model of ``specs/`` with its sizes made small, or the one with windows."""
    if name == "windows":
        return load(WINDOWS)
    data = yaml.safe_load((specs / f"{name}.yaml").read_text(encoding="utf-8"))
    data["sizes"] = {size: SMALL[size] for size in data.get("sizes", {})}
    return load(data)


@pytest.mark.parametrize(
    "name", ["char_rnn", "gru_classifier", "windows", "lstm_lm", "second_order", "leaky_integrator", "minimal_gated_unit"])
def test_statements_have_the_values_of_the_equations(specs: Path, name: str) -> None:
    made = derive(small(specs, name))
    sizes = choose_sizes(made.derived, {n: v for n, v in SMALL.items() if made.derived.sizes.get(n, 0) is None})
    trial = _point(made.given, sizes)
    plain = evaluate(made.derived, trial, sizes, list(made.derived.gradients.values()))
    checked = 0
    for what, before, after in _adjoint_programs(made):
        adjoint = made.derived.gradients[what.partition(":")[0]]
        for program in (before, after):
            found = evaluate(program, trial, sizes, [adjoint])[adjoint]
            np.testing.assert_allclose(found, plain[adjoint], rtol=1e-9, atol=1e-12, err_msg=what)
        checked += 1
    assert checked > 8


def _point(program: Program, sizes: dict[str, int]) -> Any:
    rng = np.random.default_rng(3)
    start = {t.name: rng.normal(size=_shape(t, program, sizes)) * 0.5 for t in program.parameters}
    return draw(program, sizes, start, 0).values


def _shape(tensor: Any, program: Program, sizes: dict[str, int]) -> list[int]:
    from symbolic.program import size

    values = {size(n): v for n, v in sizes.items()}
    return [int(e.xreplace(values)) for e in tensor.shape]


def _lines(made: Derivation, name: str) -> list[str]:
    (section,) = [s for s in _sections(document_of(made, Style(), names=True)) if s.anchor == f"d-{name}"]
    return [line_text(b.line) for b in section.blocks if isinstance(b, Display)]


def _sections(part: Document | Section) -> Iterator[Section]:
    for inner in part.sections:
        yield inner
        yield from _sections(inner)


def test_backpropagation_through_time_is_an_index_shift(char_rnn: Derivation) -> None:
    assert _lines(char_rnn, "rnn.h") == [
        "d_rnn.h[t,n,k] = sum_i out.W[i,k]*d_out.y[t,n,i] + sum_i rnn.U[i,k]*d_rnn.a[t+1,n,i]    for -1<=t<T"]


def test_softmax_minus_one_hot_falls_out(char_rnn: Derivation) -> None:
    assert _lines(char_rnn, "out.y")[-1] == "= loss.p[t,n,k] - [k = y[t,n]]"


def test_the_adjoint_of_a_convolution_is_a_convolution(specs: Path) -> None:
    """No entry is asked for twice: the window's offset is solved for, and what lies outside is 0."""
    made = derive(load(specs / "lenet.yaml"))
    assert _lines(made, "pool1.y") == ["d_pool1.y[n,c,u,v] = sum_o,p,q conv2.W[o,c,p,q]*d_conv2.a[n,o,u-p,v-q]"]
    assert _lines(made, "conv2.W") == ["d_conv2.W[o,c,p,q] = sum_n,u,v pool1.y[n,c,p+u,q+v]*d_conv2.a[n,o,u,v]"]


def test_a_gather_gives_a_condition(char_rnn: Derivation) -> None:
    assert _lines(char_rnn, "rnn.W") == ["d_rnn.W[i,v] = sum_t,n [v = x[t,n]] d_rnn.a[t,n,i]"]


def test_packed_gates_are_slices(specs: Path) -> None:
    made = derive(load(specs / "lstm_lm.yaml"))
    assert _lines(made, "lstm.a")[:2] == [
        "d_lstm.a[t,n,k+3*H] = d_lstm.o[t,n,k]*sigmoid(lstm.a[t,n,k+3*H])*(1 - sigmoid(lstm.a[t,n,k+3*H]))",
        "= lstm.o[t,n,k]*d_lstm.o[t,n,k]*(1 - lstm.o[t,n,k])"]


def test_what_is_not_covered_keeps_its_condition(specs: Path) -> None:
    """The state after the last valid step alone is read: a condition, no zero extension."""
    assert _lines(derive(load(specs / "gru_classifier.yaml")), "gru.h")[0].startswith(
        "d_gru.h[t,n,i] = [t = len[n] - 1] d_gru.y[n,i] + [t + 1 < len[n]] gru.z[t+1,n,i]*d_gru.h[t+1,n,i]")


# ---- the words ---------------------------------------------------------------------------------------------------------


def test_the_scalar_example_in_full(specs: Path) -> None:
    shown = show(derive(load(specs / "scalar.yaml")))
    assert "  (1) q = x + y\n  (2) f = z*q\n" in shown
    assert " ".join(step(shown, "z").split()).startswith(
        "z is read in (2) alone: df/dz = q, by the product rule. (6) d_z = q*d_f = q [d_f put in, for it is a number]")
    assert "dq/dx = 1, by the sum rule" in shown


def test_the_rules_are_named(char_rnn: Derivation, specs: Path) -> None:
    shown = show(char_rnn)
    assert "drnn.h[t,n,i]/drnn.a[t,n,i] = 1 - tanh(rnn.a[t,n,i])**2, by the derivative of tanh" in " ".join(shown.split())
    assert "= d_rnn.h[t,n,i]*(1 - rnn.h[t,n,i]**2)\n        [reuse of a forward value: rnn.h is (4)]\n" in shown
    state = " ".join(step(shown, "rnn.h").split())
    assert "is read in two places, in (6) and (3). Its adjoint is the sum over these paths:" in state
    assert "by the product rule; shift of the index t: what is read at t - 1 gets its part from t + 1" in state
    assert "rule of the gather" in " ".join(step(shown, "rnn.W").split())
    assert "the same entry is read for every t and n, so their parts are added up" in " ".join(step(shown, "rnn.b").split())


def test_a_stable_form_stands_beside_the_unstable_one(char_rnn: Derivation) -> None:
    shown = show(char_rnn)
    assert ("(7) loss.e[t,n,k] = exp(out.y[t,n,k])    [as written]\n"
            "  (7) loss.e[t,n,k] = exp(out.y[t,n,k] - loss.s_max[t,n])    [as computed]") in shown
    assert "As written, the exponential overflows" in shown


def test_conventions_are_said_once_and_only_where_they_matter(specs: Path, char_rnn: Derivation) -> None:
    recurrent, plain, kinked = (" ".join(show(made).split()) for made in (
        char_rnn, derive(load(specs / "scalar.yaml")), derive(load(specs / "mlp.yaml"))))
    assert recurrent.count("An entry outside its tensor's bounds is 0") == 1
    assert "outside" not in plain
    assert "Of several greatest" not in plain
    assert "relu'(0) = 0" in kinked
    assert "relu'(0)" not in recurrent


def test_wrt_restricts_the_derivation(specs: Path) -> None:
    model = load(specs / "lstm_lm.yaml")
    whole, part = derive(model), derive(model, wrt="out.b")
    assert part.wrt == ("out.b",)
    assert "lstm.h" not in part.adjoints
    assert len(show(part)) < 0.6 * len(show(whole))
    assert derive(model, wrt="out.b, lstm.U").wrt == ("out.b", "lstm.U")
    with pytest.raises(ChainruleError, match=r"found 'lstm\.Q'; did you mean 'lstm\.\w'"):
        derive(model, wrt="lstm.Q")


def test_a_result_of_zero_is_said() -> None:
    model = load("v = sum(w[k]*x[n,k], over=(n,k))", inputs={"x": ["N", "D"]}, parameters={"w": ["D"], "idle": ["D"]},
                 loss={"prediction": "v"})
    assert "d_idle = 0    [the loss does not depend on it]" in show(derive(model))


def test_every_parameter_has_its_box(specs: Path) -> None:
    for name in SPECS:
        made = derive(load(specs / f"{name}.yaml"))
        (results,) = [s for s in document_of(made, Style()).sections if s.anchor == "results"]
        assert [b.title for b in results.blocks if isinstance(b, Box)] == [(Code(n),) for n in made.wrt]


def test_unrolled_derivation(specs: Path) -> None:
    shown = show(derive(load(specs / "second_order.yaml"), unroll=3))
    assert "cell.h[2,n,i] = tanh(cell.a[2,n,i])" in shown
    assert not re.findall(r"\[t\b", shown.partition("\nForward\n")[2])


def test_a_sum_inside_a_function_has_partials_of_its_own() -> None:
    """The staged sum stands under the number of its reader; each partial is that of the equation it comes from."""
    model = load("c[n] = s*x[n] + tanh(sum(V[k]*x[n], over=k))\nloss = sum(c[n]**2, over=n)", loss="loss", inputs={"x": ["N"]},
                 parameters={"s": [], "V": [3]})
    shown = show(derive(model))
    for line in ("dc[n]/dc_sum[n] = 1 - tanh(c_sum[n])**2", "dc[n]/ds = x[n]", "dc_sum[n]/dV[k] = x[n]"):
        assert f"is read in (1) alone: {line}, by" in shown


# ---- symbols -----------------------------------------------------------------------------------------------------------


def test_symbols_drop_the_layer_where_it_is_clear(specs: Path) -> None:
    found = {name: latex(s.entry()) for name, s in symbols(load(specs / "char_rnn.yaml").program()).items()}
    assert found["rnn.U"] == "U"
    assert found["rnn.W"] == r"W^{(\mathrm{rnn})}"
    assert found["rnn.h0"] == "h^{(0)}"
    assert found["loss"] == "L"


@pytest.mark.parametrize("name", SPECS)
def test_symbols_are_distinct(specs: Path, name: str) -> None:
    found = [latex(s.entry()) for s in symbols(derive(load(specs / f"{name}.yaml")).known).values()]
    assert len(set(found)) == len(found)


def test_names_with_an_underscore_and_names_that_clash() -> None:
    model = load("a[i] = W_h[i,j]*x[j] + Wh[i]*n\nloss = sum(a[i]**2, over=i) + sum(alpha[i]*L[i], over=i)", loss="loss",
                 inputs={"x": ["J"]}, parameters={"W_h": ["I", "J"], "Wh": ["I"], "n": [], "alpha": ["I"], "L": ["I"]})
    found = {name: latex(s.entry()) for name, s in symbols(model.program()).items()}
    assert found["W_h"] == "W_{h}"
    assert found["Wh"] == r"\mathrm{Wh}"
    assert found["alpha"] == r"\alpha"
    assert (found["L"], found["loss"]) == ("L", r"\mathcal{L}")
    assert r"(W_{h})_{i,j}\,x_{j}" in show(derive(model), "latex")


# ---- formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adjoint", "shown"),
    [("frac", r"\frac{\partial L}{\partial h_{t,n,i}}"), ("bar", r"\bar{h}_{t,n,i}"), ("delta", r"\delta_{t,n,i}^{(h)}")],
)
def test_notations_of_adjoints(char_rnn: Derivation, adjoint: str, shown: str) -> None:
    assert rf"{shown}\,(1 - \tanh^{{2}}" in show(char_rnn, "markdown", Style(adjoint=adjoint)).replace(r"\, (", r"\,(")


def test_unknown_styles_are_refused() -> None:
    with pytest.raises(ChainruleError, match="adjoint: expected frac or bar or delta, found 'bars'; did you mean 'bar'"):
        Style(adjoint="bars")
    with pytest.raises(ChainruleError, match=r"format: expected .*, found 'htm'; did you mean 'html'"):
        show(derive(load("L = w*w", parameters={"w": []}, loss="L")), "htm")


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("adjoint", sorted(ADJOINTS))
def test_latex_is_balanced(specs: Path, name: str, adjoint: str) -> None:
    document = show(derive(load(specs / f"{name}.yaml")), "latex", Style(adjoint=adjoint))
    plain = document.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert document.count(r"\left") - document.count(r"\leftskip") == document.count(r"\right") - document.count(r"\rightskip")
    assert len(re.findall(r"\\begin\{", document)) == len(re.findall(r"\\end\{", document))
    assert "None" not in document


def test_escape() -> None:
    assert escape("a_b%{}\\") == r"a\_b\%\{\}\textbackslash{}"


class _Page(HTMLParser):
    """Anchors, links and open elements of a page."""

    EMPTY = frozenset(("meta", "mspace", "br", "path", "rect", "use", "circle", "line", "polygon"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.equations: set[str] = set()
        self.lines: set[str] = set()
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)
        self._look(dict(attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._look(dict(attrs))

    def _look(self, found: dict[str, str | None]) -> None:
        self.ids += [found["id"]] if found.get("id") else []  # type: ignore[list-item]
        self.links += [found["href"]] if found.get("href") else []  # type: ignore[list-item]
        if numbers := found.get("data-equations"):
            (self.lines if "line" in (found.get("class") or "").split() else self.equations).update(numbers.split())

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", SPECS)
def test_html_is_whole_and_needs_no_network(specs: Path, name: str) -> None:
    model = load(specs / f"{name}.yaml")
    text = derivation(model, "html")
    page = _Page(text)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert not re.search(r"(src|href)=\"(?!#)", text)
    assert "http" not in text.replace("http://www.w3.org", "")


@pytest.mark.parametrize("name", SPECS)
def test_code_and_derivation_are_traced_both_ways(specs: Path, name: str) -> None:
    """Each number over a line of code is that of an equation on the page, and each equation of a gradient has its lines."""
    page = _Page(derivation(load(specs / f"{name}.yaml"), "html"))
    assert page.lines <= page.equations
    computed = stages(load(specs / f"{name}.yaml")).optimised
    needed = {str(n) for e in computed.equations for n in e.numbers if computed.tensor(e.name).role is Role.ADJOINT}
    assert needed <= page.lines


def test_markdown_has_its_formulas_between_dollars(char_rnn: Derivation) -> None:
    text = show(char_rnn, "markdown")
    blocks = re.findall(r"^\$\$\n(.*?)\n\$\$$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == len(list(displays(document_of(char_rnn, Style()))))
    rest = re.sub(r"^\$\$\n.*?\n\$\$$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "$$" not in rest
    assert all(line.count("$") % 2 == 0 for line in rest.splitlines())
    assert "<" not in re.sub(r"<!--.*?-->", "", text)


def test_equation_is_a_statement_of_its_terms(char_rnn: Derivation) -> None:
    """Terms are equations themselves, so that they can be evaluated as such."""
    assert all(isinstance(e, Equation) for s in statements(char_rnn.derived.writers["d_rnn.h"], char_rnn.known) for e in s.terms)


def test_a_read_of_an_earlier_step_alone_is_no_recurrence() -> None:
    model = load("a[t,i] = w[i]*x[t,i]\nd[t,i] = a[t,i] - a[t-1,i]\nloss = sum(d[t,i]**2, over=(t,i))",
                 sizes={"H": 3}, inputs={"x": ["T", "H"]}, parameters={"w": ["H"]}, loss="loss")
    assert "recurrence" not in show(derive(model))
