"""Functions that a spec leaves unspecified: f' in derivations, errors where numbers are wanted, and no rewrite that knows f."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

import codegen
from codegen.cli import _run
from codegen.derivation.formats import Style, show
from codegen.derivation.provenance import derive
from codegen.pipeline import Options, render, stages
from codegen.text import text
from codegen.verify import check
from symbolic import EquationError, ProgramError, SpecError, gradient, load
from symbolic.cost import operations
from symbolic.functions import Unspecified, row_of, unspecified
from symbolic.interpreter import evaluate
from symbolic.program import Program, Tensor
from symbolic.rewrite import RULES, promised
from symbolic.spec import schema
from tests.programs import drawn
from tests.stages import values_of

SIZES = {"T": 4, "N": 2}

SIN = (math.sin, math.cos, lambda x: -math.sin(x))
COS = (math.cos, lambda x: -math.sin(x), lambda x: -math.cos(x))
"""f(0) = 1: what takes a 0 for granted shows."""


def rnn(activation: Any = "f", **more: Any) -> Any:
    """A classifier of sequences; distinct sizes on every axis."""
    return load({
        "name": "teach", "dtype": "float64", "sizes": {"D": 3, "H": 5, "C": 6}, "functions": ["f", "phi"],
        "inputs": {"x": ["T", "N", "D"], "y": ["T", "N", "C"]},
        "layers": [{"name": "rnn", "type": "rnn", "units": "H", "activation": activation},
                   {"name": "out", "type": "dense", "units": "C", "activation": "phi"}],
        "loss": {"type": "mse", "target": "y"}, **more,
    })


def own(equations: str = "a[t,n,i] = W[i,k]*x[t,n,k] + U[i,j]*h[t-1,n,j]\nh[t,n,i] = f(a[t,n,i])", **more: Any) -> Any:
    """The same recurrence as equation text."""
    keys = {
        "functions": ["f"], "inputs": {"x": ["T", "N", "D"]}, "parameters": {"W": ["H", "D"], "U": ["H", "H"]},
        "sizes": {"D": 3, "H": 5}, "states": {"h": ["T", "N", "H"]}, "loss": "loss", "output": "h", **more,
    }
    return load(f"{equations}\nloss = mean(h[t,n,i]**2, over=(t,n,i))", **keys)


# ---- the derivation ----------------------------------------------------------------------------------------------------


def test_the_adjoint_of_a_layer() -> None:
    shown = show(derive(rnn()))
    assert "  (2) rnn.h[t,n,i] = f(rnn.a[t,n,i])\n" in shown
    assert re.search(r"^    \(\d+\) d_rnn.a\[t,n,i\] = d_rnn.h\[t,n,i\]\*f'\(rnn.a\[t,n,i\]\)$", shown, re.MULTILINE)
    assert "drnn.h[t,n,i]/drnn.a[t,n,i] = f'(rnn.a[t,n,i]), by the derivative of f." in " ".join(shown.split())
    said = "- Left unspecified: f, phi, of one argument and differentiable; a prime marks a derivative."
    assert said in " ".join(shown.split())


def test_the_adjoint_of_equation_text() -> None:
    shown = show(derive(own()))
    assert re.search(r"^    \(\d+\) d_a\[t,n,i\] = d_h\[t,n,i\]\*f'\(a\[t,n,i\]\)$", shown, re.MULTILINE)


def test_no_word_of_it_where_every_function_is_known() -> None:
    derivation = derive(rnn("tanh", layers=[{"name": "rnn", "type": "rnn", "units": "C"}]))
    assert "unspecified" not in show(derivation)
    assert "unspecified" not in show(derivation, "latex")


@pytest.mark.parametrize(("adjoint", "line"), [
    ("frac", r"\frac{\partial L}{\partial a_{t,n,i}} = \frac{\partial L}{\partial h_{t,n,i}}\,f'(a_{t,n,i})"),
    ("bar", r"\bar{a}_{t,n,i} = \bar{h}_{t,n,i}\,f'(a_{t,n,i})"),
    ("delta", r"\delta_{t,n,i}^{(a)} = \delta_{t,n,i}^{(h)}\,f'(a_{t,n,i})"),
])
def test_the_adjoint_in_latex(adjoint: str, line: str) -> None:
    layer = rnn(layers=[{"name": "rnn", "type": "rnn", "units": "C", "activation": "f"}])
    for model in (layer, own()):
        shown = show(derive(model), "latex", Style(adjoint=adjoint))
        assert line in shown
        assert r"h_{t,n,i} = f(a_{t,n,i})" in shown
        assert "Left unspecified: $f$, of one argument and differentiable; a prime marks a derivative." in shown


def test_unrolled() -> None:
    shown = show(derive(own(), unroll=2))
    assert "d_a[1,n,i] = d_h[1,n,i]*f'(a[1,n,i])" in shown
    assert "d_a[0,n,i] = d_h[0,n,i]*f'(a[0,n,i])" in shown


@pytest.mark.parametrize("name", ["f", "gamma", "beta", "zeta", "Integral", "Add", "Symbol", "my_act", "re"])
def test_printers_know_no_function_of_that_name(name: str) -> None:
    """SymPy's printers have methods for some of these words."""
    x = sp.Symbol("x")
    first = unspecified(name)(x)
    assert text(first) == str(first) == f"{name}(x)"
    assert text(first.diff(x, 2)) == str(first.diff(x, 2)) == f"{name}''(x)"
    model = load(f"y[n] = {name}(w*x[n])", functions=[name], parameters={"w": []}, inputs={"x": ["N"], "z": ["N"]},
                 loss={"type": "mse", "target": "z"})
    assert f"{name}'(w*x[n])" in show(derive(model))
    assert r"'(w x_{n})" in show(derive(model), "latex")


def test_words_in_latex() -> None:
    x = sp.Symbol("x")
    shown = {name: sp.latex(unspecified(name)(x).diff(x)) for name in ("f", "phi", "my_act")}
    assert shown == {"f": r"f'\left(x\right)", "phi": r"\phi'\left(x\right)",
                     "my_act": r"\operatorname{my\_act}'\left(x\right)"}
    assert sp.latex(unspecified("f")(x) ** 2) == r"f\left(x\right)^{2}"


# ---- what is known of one ----------------------------------------------------------------------------------------------


def test_one_class_for_each_name_and_order() -> None:
    x = sp.Symbol("x")
    f = unspecified("f")
    assert unspecified("f", 1) is type(f(x).diff(x))
    assert (f.base, f.order) == ("f", 0)
    assert (unspecified("f", 2).base, unspecified("f", 2).order) == ("f", 2)
    assert len({f(x), f(x).diff(x), f(x).diff(x, 2), unspecified("g")(x)}) == 4


def test_nothing_is_known_but_the_price() -> None:
    f = unspecified("f")
    x = Tensor("x").at(())
    row = row_of(f(x))
    assert row is not None
    assert row.slope is None
    assert not row.rises
    assert operations(f(x)) == operations(sp.tanh(x)) == 8
    assert f(0) != 0
    assert not f(0).is_number  # else the parser and SymPy would ask for its value
    assert f(0).is_zero is None


@pytest.mark.parametrize("layer", [
    {"type": "dense", "units": 4}, {"type": "rnn", "units": 4}, {"type": "conv1d", "channels": 4, "kernel": 3},
])
@pytest.mark.parametrize("activation", ["f", {"type": "f"}])
def test_every_layer_with_an_activation_takes_it(layer: dict[str, Any], activation: Any) -> None:
    model = load({"name": "m", "functions": ["f"], "inputs": {"x": ["T", "N", 6]},
                  "layers": [{"name": "l", **layer, "activation": activation}, {"name": "s", "type": "equations", "equations":
                             "q = sum(l[t,n,i]**2, over=(t,n,i))"}], "loss": "s"})
    assert "f'(l.a[" in show(derive(model))


def test_the_list_above_has_every_layer_with_an_activation() -> None:
    properties = schema()["$defs"]
    kinds = {name.removeprefix("layer_") for name, made in properties.items() if "activation" in made.get("properties", {})}
    assert kinds == {"dense", "rnn", "conv1d", "conv2d"}


def test_beside_a_gate_of_that_name() -> None:
    """The forget gate of an lstm is a tensor f of its own."""
    model = rnn(layers=[{"name": "lstm", "type": "lstm", "units": "H"},
                        {"name": "out", "type": "dense", "units": "C", "activation": "f"}])
    shown = show(derive(model))
    assert "lstm.f[t,n,k] = sigmoid(" in shown
    assert "f'(out.a[t,n,i])" in shown


def test_a_layer_may_be_called_as_a_function_of_the_table() -> None:
    """A layer's name stands before brackets or a dot; only the spec's own functions are not to be mistaken for it."""
    assert "mean.y" in show(derive(rnn(layers=[{"name": "mean", "type": "dense", "units": "C", "activation": "f"}])))


def test_show_prints_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec_file(tmp_path)
    assert _run(["show", str(path)]) == 0
    assert "(2) rnn.h[t,n,i] = f(rnn.a[t,n,i])" in capsys.readouterr().out


# ---- numbers -----------------------------------------------------------------------------------------------------------


def run(program: Program, model: Any, functions: Any, wrt: tuple[str, ...] = ()) -> dict[str, Any]:
    """Loss and gradients by the interpreter."""
    values = values_of(model.program(), SIZES, 3)
    names = [program.loss, *(program.gradients[name] for name in wrt)]
    return evaluate(program, values, SIZES, names, functions)


def differences(model: Any, functions: Any, name: str) -> Any:
    """Central differences of the loss by every entry of a parameter."""
    values, step = values_of(model.program(), SIZES, 3), 1e-5
    found = np.zeros(values[name].shape)
    for place in np.ndindex(found.shape):
        ends = []
        for sign in (1, -1):
            moved = values[name].copy()
            moved[place] += sign * step
            ends.append(evaluate(model.program(), {**values, name: moved}, SIZES, ["loss"], functions)["loss"])
        found[place] = (ends[0] - ends[1]) / (2 * step)
    return found


@pytest.mark.parametrize("meaning", [SIN, COS], ids=["sin", "cos"])
def test_the_gradient_is_the_slope(meaning: Any) -> None:
    """The gradient after all rewrites, of a program in which f stands before a read beyond the first step."""
    model = own("a[t,n,i] = W[i,k]*x[t,n,k] + U[i,j]*h[t-1,n,j] + f(x[t-1,n,0])*f(0)\nh[t,n,i] = f(a[t,n,i])*f(2*a[t-1,n,i])")
    functions = {"f": meaning}
    done = stages(model)
    for program in (done.adjoint, done.optimised):
        found = run(program, model, functions, ("W", "U"))
        for name in ("W", "U"):
            want = differences(model, functions, name)
            assert np.max(np.abs(want)) > 1e-3
            np.testing.assert_allclose(found[program.gradients[name]], want, rtol=0, atol=1e-8)
    flat = stages(model, Options(unroll=SIZES["T"]))
    unrolled = evaluate(flat.optimised, values_of(model.program(), SIZES, 3), {"N": 2},
                        ["loss", *(flat.optimised.gradients[n] for n in ("W", "U"))], functions)
    for name in ("W", "U"):
        np.testing.assert_allclose(unrolled[flat.optimised.gradients[name]], found[done.optimised.gradients[name]], rtol=1e-12)


def test_it_is_the_function_that_is_given() -> None:
    left, right = rnn(), rnn("tanh")
    tanh = (math.tanh, lambda x: 1 - math.tanh(x) ** 2)
    names = tuple(t.name for t in left.program().parameters)
    one = run(stages(left).optimised, left, {"f": tanh, "phi": SIN}, names)
    two = run(stages(right).optimised, right, {"phi": SIN}, names)
    for name, value in one.items():
        np.testing.assert_allclose(value, two[name], rtol=1e-12)


def test_the_second_derivative() -> None:
    """The product of the Hessian with a direction, by differences of the gradient."""
    model = own()
    done = stages(model, Options(hvp=True))
    assert done.hvp is not None
    assert {f.order for e in done.hvp.equations for f in e.body.atoms(Unspecified)} == {0, 1, 2}
    values = values_of(model.program(), SIZES, 3)
    rng, step = np.random.default_rng(0), 1e-5
    along = {name: rng.standard_normal(values[name].shape) for name in ("W", "U")}
    tangents = {done.hvp.tangents[name]: direction for name, direction in along.items()}
    products = evaluate(done.hvp, {**values, **tangents}, SIZES, list(done.hvp.gradients.values()), {"f": SIN})
    for name in ("W", "U"):
        adjoint = done.adjoint.gradients[name]
        ends = [evaluate(done.adjoint, {**values, **{n: values[n] + sign * step * along[n] for n in along}}, SIZES, [adjoint],
                         {"f": SIN})[adjoint] for sign in (1, -1)]
        np.testing.assert_allclose(products[done.hvp.gradients[name]], (ends[0] - ends[1]) / (2 * step), rtol=0, atol=1e-8)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


HIDDEN = {
    "cos": COS, "sigmoid": (_logistic, lambda x: _logistic(x) * (1 - _logistic(x))),
    "softplus": (lambda x: math.log1p(math.exp(x)), _logistic), "tanh": (math.tanh, lambda x: 1 - math.tanh(x) ** 2),
}
"""Words of random programs that are put out of the rewrites' sight, and what they mean."""


def hidden(text: str) -> str:
    return re.sub(rf"\b({'|'.join(HIDDEN)})\(", r"some_\1(", text)


@pytest.mark.parametrize("seed", [seed for seed in range(40) if hidden(drawn(seed).text) != drawn(seed).text])
def test_no_rewrite_takes_it_for_another(seed: int) -> None:
    """A random program, and the same one with its functions unspecified: equal after all rules."""
    case = drawn(seed)
    meanings = {f"some_{name}": meaning for name, meaning in HIDDEN.items()}
    model = load(hidden(case.text), functions=list(meanings), **case.spec)
    program = model.program()
    wrt = tuple(t.name for t in program.parameters)
    values = values_of(program, case.sizes, case.seed)
    known = gradient(case.model().program(), wrt)
    want = evaluate(known, values, case.sizes, [known.loss, *(known.gradients[n] for n in wrt)])
    if not all(np.all(np.abs(a) < 1e6) for a in want.values()):
        pytest.skip("numbers too great")
    for phase in ("forward", "backward"):
        for rule in (rule for rule in RULES if rule.phase == phase):
            program = rule.run(program, promised(program))
        if phase == "forward":
            program = gradient(program, wrt)
    got = evaluate(program, values, case.sizes, [program.loss, *(program.gradients[n] for n in wrt)], meanings)
    unit = max(1.0, *(np.max(np.abs(a), initial=0) for a in want.values()))
    for name, other in [(program.loss, known.loss), *((program.gradients[n], known.gradients[n]) for n in wrt)]:
        np.testing.assert_allclose(got[name], want[other], rtol=1e-9, atol=1e-12 * unit)


def test_a_read_beyond_the_end_is_f_of_0() -> None:
    model = load("a[t] = w[t]*f(x[t-1])\nloss = sum(a[t], over=t)", functions=["f"], parameters={"w": ["T"]}, inputs={"x": ["T"]})
    for program in (model.program(), stages(model).optimised):
        found = evaluate(program, {"x": np.zeros(3), "w": np.ones(3)}, {"T": 3}, ["loss"], {"f": COS})
        assert found["loss"] == 3


def test_it_may_fall() -> None:
    """A function that never falls would change places with the maximum after it; of f that is not known."""
    model = load("y[m] = f(x[m])\np[n] = max(y[2*n+q], over=q)\nloss = sum(p[n]**2, over=n)", functions=["f"],
                 parameters={"x": [6]}, shapes={"p": [3]}, ranges={"q": 2})
    done = stages(model)
    values = {"x": np.array([0.1, 0.7, -0.3, 0.2, 1.1, 0.6])}
    found = evaluate(done.optimised, values, {}, ["loss", done.optimised.gradients["x"]], {"f": (lambda x: -x, lambda x: -1.0)})
    np.testing.assert_allclose(found["loss"], 0.1**2 + 0.3**2 + 0.6**2)
    np.testing.assert_allclose(found[done.optimised.gradients["x"]], [0.2, 0, -0.6, 0, 0, 1.2])


@pytest.mark.parametrize(("functions", "message"), [
    ({"phi": SIN}, r"^teach: no meaning for f in f\(rnn.a\[t, n, i\]\), as the spec leaves 'f' unspecified; give functions="),
    ({"f": SIN[:1], "phi": SIN}, r"^teach: no meaning for f' in .*; give functions=\{'f': \(f, df\)\}, the function and its "),
])
def test_the_interpreter_asks_for_a_meaning(functions: Any, message: str) -> None:
    model = rnn()
    program = stages(model).adjoint
    with pytest.raises(ProgramError, match=message):
        run(program, model, functions, ("rnn.W",))


# ---- refusals ----------------------------------------------------------------------------------------------------------

SPEC = """\
name: teach
functions: [g, f]
inputs: {x: [T, N, D], y: [T, N, H]}
layers:
  - {name: rnn, type: rnn, units: H, activation: f}
loss: {type: mse, target: y}
"""
REFUSED = (r"m\.yaml:2:16: functions\[1\]: expected functions that can be computed, found 'f', which is left unspecified; name "
           r"one in its place, an activation such as tanh or a formula, or ask for the derivation alone \(chainrule derive\)$")


def spec_file(tmp_path: Path, spec: str = SPEC) -> Path:
    path = tmp_path / "m.yaml"
    path.write_text(spec, encoding="utf-8")
    return path


@pytest.mark.parametrize("target", ["numpy", "c"])
def test_numbers_are_refused(target: str, tmp_path: Path) -> None:
    model = load(spec_file(tmp_path))
    for call in (
        lambda: codegen.compile(model, target), lambda: check(model, target), lambda: render(model, target),
        lambda: codegen.generate(model, ["latex", target], tmp_path / "out"),
    ):
        with pytest.raises(SpecError, match=REFUSED):
            call()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [
    ["generate", "--target", "numpy"], ["generate", "--target", "c"], ["check"], ["check", "--target", "c"],
])
def test_commands_that_compute_end_with_2(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run([command[0], str(spec_file(tmp_path)), *command[1:]]) == 2
    captured = capsys.readouterr()
    assert re.search(REFUSED, captured.err.rstrip("\n"))
    assert captured.out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.yaml"]


def test_a_document_is_written(tmp_path: Path) -> None:
    path = spec_file(tmp_path)
    for command in (["derive", str(path)], ["derive", str(path), "--format", "latex"], ["derive", str(path), "--unroll", "3"],
                    ["generate", str(path), "--target", "latex", "--out", str(tmp_path)]):
        assert _run(command) == 0
    assert r"f'(a_{t,n,i})" in (tmp_path / "teach.tex").read_text(encoding="utf-8")


def test_one_that_nothing_applies_is_no_matter() -> None:
    assert codegen.compile(rnn("tanh", layers=[{"name": "rnn", "type": "rnn", "units": "C"}])).PARAMETERS


FAULTS = [
    ("[g, f]", "[tanh]", r"2:13: functions\[0\]: expected a name of your own, found 'tanh', which is a function or constant"),
    ("[g, f]", "[f, abs]", r"2:16: functions\[1\]: expected a name of your own, found 'abs', which is a function or constant"),
    ("[g, f]", "[f, sum]", r"2:16: functions\[1\]: expected a name of your own, found 'sum', which is a function or constant"),
    ("[g, f]", "[f, gelu]", r"2:16: functions\[1\]: expected a name of your own, found 'gelu', which is an activation of the"),
    ("[g, f]", "[f, 2f]", r"2:16: functions\[1\]: expected the name of a function \(a letter, then.*\), found '2f'"),
    ("[g, f]", "[f, f']", r"2:16: functions\[1\]: expected the name of a function \(a letter, then.*\), found 'f''"),
    ("[g, f]", "[f, 3]", r"2:16: functions\[1\]: expected the name of a function \(a letter, then.*\), found 3"),
    ("[g, f]", "[f, lambda]", r"2:16: functions\[1\]: expected the name of a function, found the Python keyword 'lambda'"),
    ("[g, f]", "[f, g, f]", r"2:19: functions\[2\]: expected each function once, found 'f' again; remove one"),
    ("[g, f]", "f", r"2:12: functions: expected a list of names of functions \(\[f, g\]\), found 'f'"),
    ("[g, f]", "[f, H]\nsizes: {H: 3}", r"2:16: functions\[1\]: expected the name of a function, found 'H', which is a size"),
    ("[g, f]", "[f, H]", r"3:\d+: inputs\.y\[2\]: expected a name of its own, found 'H', which is a function of the spec"),
    ("[g, f]", "[f, x]", r"3:10: inputs\.x: expected a name of its own, found 'x', which is a function of the spec"),
    ("[g, f]", "[f, rnn]", r"5:12: layers\[0\]\.name: expected a name of its own, found 'rnn', which is a function of the spec"),
    ("activation: f", "activation: q", r"5:50: .*activation \(g, f, identity, .*\), found 'q'; to leave .* functions: \[f\]$"),
    ("activation: f", "activation: tahn", r"found 'tahn'; did you mean 'tanh'\? To leave one unspecified, declare its name"),
    ("activation: f", "activation: {type: f, slope: 2}", r"5:50: .*no options for the unspecified function 'f', found 'slope'"),
    ("type: rnn, units: H, activation: f", "type: equations, equations: 'h[t,n,k] = q(x[t,n,k])'",
     r"unknown function 'q'; known: abs, .*; to leave it unspecified, write functions: \[q\] in the spec"),
    ("type: rnn, units: H, activation: f", "type: equations, equations: 'h[t,n,k] = f(x[t,n,k], 2)'",
     r"expected f with 1 argument, found 2"),
    ("type: rnn, units: H, activation: f", "type: equations, equations: 'h[t,n,k] = x[t,n,k]*f'",
     r"expected the function 'f' with its argument, f\(\.\.\.\), found its name alone"),
    ("type: rnn, units: H, activation: f", "type: equations, equations: 'h[t,n,k] = f(W[k,i]*x[t,n,i])', parameters: {W: [H, D]}",
     r"index 'i' is missing on the left and stands inside the function f\(\.\.\.\): ambiguous"),
    ("type: rnn, units: H, activation: f", "type: equations, equations: 'f[t,n,k] = x[t,n,k]'",
     r"5:46: layers\[0\]\.equations: expected a name of its own, found 'f', which is a function of the spec"),
    ("type: rnn, units: H, activation: f", "type: equations, equations: 'h[t,n,k] = f[k]*x[t,n,k]', parameters: {f: [D]}",
     r"layers\[0\]\.parameters\.f: expected a name of its own, found 'f', which is a function of the spec"),
]


@pytest.mark.parametrize(("old", "new", "message"), FAULTS, ids=range(len(FAULTS)))
def test_faults_are_told_at_their_place(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert SPEC.count(old) == 1
    with pytest.raises(SpecError, match=message):
        load(spec_file(tmp_path, SPEC.replace(old, new)))


def test_the_schema_knows_the_key() -> None:
    assert schema()["properties"]["functions"]["uniqueItems"] is True


def test_the_interpreter_is_not_asked_for_a_function_of_numbers() -> None:
    """tanh of a number is a number; f of one is not, and tanh of that is not either."""
    model = own("h[t,n,i] = tanh(f(0))*W[i,k]*x[t,n,k] + 2**f(1)*U[i,j]*h[t-1,n,j]")
    assert "tanh(f(0))" in str(model.program())
    with pytest.raises(EquationError, match="expected f with 1 argument, found 0"):
        own("h[t,n,i] = f()*W[i,k]*x[t,n,k]")
