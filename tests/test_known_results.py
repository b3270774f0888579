"""Known results come out: what a derivation says is the published formula, and its numbers are those of that formula by hand.

Each result stands here twice: as the line of the page, which must be what the source has (up to the order of terms and of
entrywise factors), and as NumPy written out from the source against the meaning of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import codegen
from codegen.derivation.provenance import derive
from codegen.derivation.statements import statements
from symbolic import Model
from symbolic.interpreter import evaluate
from tests.known import models, published
from tests.known.reading import adjoints, forms, forward, gradient_lines, terms

CLOSE = 1e-9
"""float64, some hundred operations."""
SIGMOID = {"sigma": (published.sigmoid, published.sigmoid_slope)}
ACT = {"act": (published.act, published.act_slope), "f": (published.act, published.act_slope)}
LSTM = {**SIGMOID, **dict.fromkeys("gh", (np.tanh, lambda x: 1 - np.tanh(x) ** 2))}

SQUARED = "loss = sum((Y[n,k] - T[n,k])**2, over=(n,k))"
CROSS_ENTROPY = "loss = -sum(T[n,k]*log(Y[n,k]), over=(n,k))"


def point(spec: Mapping[str, Any], seed: int = 7) -> dict[str, Any]:
    """Random values of parameters and inputs; integers are classes."""
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for name, shape in {**spec["inputs"], **spec["parameters"]}.items():
        extents = [spec["sizes"][axis] for axis in (shape["shape"] if isinstance(shape, dict) else shape)]
        classes = spec["sizes"][shape["below"]] if isinstance(shape, dict) else None
        found[name] = rng.normal(size=extents) if classes is None else rng.integers(0, classes, extents)
    return found


def hold(spec: Mapping[str, Any], by_hand: Callable[[Any], dict[str, Any]], functions: Any = None, more: str = "") -> None:
    """Every adjoint that was written by hand is that of the program."""
    values = point(spec)
    found = adjoints(models.model(dict(spec), more), values, functions)
    wanted = by_hand(values)
    for name, array in wanted.items():
        assert np.abs(array).max() > 1e-3, f"{name}: nothing to compare"
        np.testing.assert_allclose(found[name], array, rtol=CLOSE, atol=CLOSE, err_msg=name)


# ---- softmax and sigmoid with cross entropy: Bishop 1995, section 6.9; Bridle 1990 -----------------------------------------


def test_softmax_with_cross_entropy_as_an_expression() -> None:
    """dL/dz = p - y for targets that sum to 1 (Bishop 1995, eq. 6.161; Goodfellow et al. 2016, eq. 10.18 for a class).

    Nothing says that targets sum to 1, so their sum stands before p.
    """
    assert forms(models.model(models.SOFTMAX), "z")[-1] == "(1^T y)*p - y"
    assert forms(models.model(models.SOFTMAX), "z", "index")[-1] == "sum_j y[j]*p[k] - y[k]"
    assert forms(models.model(models.ELMAN), "o", "index")[-1] == "p[t,i] - [i = y[t]]"


def test_softmax_with_cross_entropy_in_numbers() -> None:
    values = point(models.SOFTMAX)
    values["y"] = published.softmax(values["y"])
    found = adjoints(models.model(models.SOFTMAX), values)
    np.testing.assert_allclose(found["z"], published.softmax(values["W"] @ values["x"]) - values["y"], rtol=CLOSE)


def test_a_loss_of_the_catalogue_names_its_softmax() -> None:
    """No tensor of the model is e/s, so the page gives it a name, in the formula and in the table of symbols."""
    model = models.model(models.TRANSPOSED_LAYERS)
    assert forms(model, "out.y")[-1] == "loss.p[t,k] - [k = y[t]]"
    made = derive(model)
    assert [t.note for t in made.symbols if t.name == "loss.p"] == ["a name for the formulas"]
    assert "loss.p" not in {t.name for t in made.computed.tensors}


@pytest.mark.parametrize("equations", [
    "e[k] = exp(z[k])\ns = sum(e[k]*v[k], over=k)\np[k] = e[k]/s\nloss = sum(p[k]**2, over=k)",
    "e[k] = z[k]**2\ns = sum(e[k], over=k)\np[k] = e[k]/s\nloss = sum(p[k]**2, over=k)",
    "e[k] = exp(z[k])\ns = sum(e[k], over=k) + 1\np[k] = e[k]/s\nloss = sum(p[k]**2, over=k)",
])
def test_what_is_no_softmax_is_not_called_one(equations: str) -> None:
    spec = {"inputs": {"v": ["K"]}, "parameters": {"q": ["K"]}, "equations": f"z[k] = q[k]*v[k]\n{equations}"}
    assert derive(models.model(spec)).softmaxes == ()


def test_sigmoid_with_binary_cross_entropy_as_an_expression() -> None:
    """dL/dz = p - y (Bishop 1995, eq. 6.125), from a named p and from the logits of the catalogue's loss."""
    assert forms(models.model(models.BINARY), "z")[-1] == "p - y"
    layer = {"inputs": {"x": ["N", "D"], "y": ["N", "K"]}, "layers": [{"name": "out", "type": "dense", "units": "K"}],
             "sizes": {"D": 3, "K": 2}, "loss": {"type": "binary_cross_entropy", "target": "y", "reduction": "sum"}}
    assert forms(models.model(layer), "out.y")[-1] == "sigmoid(out.y) - y"


def test_sigmoid_with_binary_cross_entropy_in_numbers() -> None:
    hold(models.BINARY, lambda v: {"z": published.sigmoid(v["x"] @ v["w"]) - v["y"]})


# ---- Nielsen 2015, Neural Networks and Deep Learning, chapter 2 ------------------------------------------------------------


def test_the_four_equations_of_nielsen_as_expressions() -> None:
    model = models.model(models.NIELSEN)
    assert forms(model, "z_3")[0] == "d_a_3 o sigma'(z_3)"  # BP1a
    assert terms(forms(model, "z_3")[-1]) == terms("(a_3 - y) o sigma'(z_3)")  # BP1 of the quadratic cost, equation 30
    assert forms(model, "z_2")[-1] == "(w_3^T d_z_3) o sigma'(z_2)"  # BP2
    assert forms(model, "b_2", "index") == ["d_z_2[j]"]  # BP3
    assert forms(model, "w_3", "index") == ["a_2[k]*d_z_3[j]"]  # BP4
    assert forms(model, "w_3") == ["d_z_3 a_2^T"]  # BP4, equation 32, for all weights


def test_the_four_equations_of_nielsen_in_numbers() -> None:
    hold(models.NIELSEN, published.nielsen, SIGMOID)


# ---- Wesselink et al. 2025, Batch Matrix-form Equations of Multilayer Perceptrons, arXiv 2511.11918 ------------------------


def test_the_batch_equations_of_nerva_as_expressions() -> None:
    """Linear and activation layers, rows are samples: DZ = DY o Act'(Z), DW = DZ^T X, Db = 1^T DZ, DX = DZ W.

    A bias is a vector here, so Db is the column DZ^T 1.
    """
    model = models.model(models.NERVA)
    assert forward(model)[0] == r"\mathbf{Z}^{(1)} = \mathbf{X} \mathbf{W}^{(1)\,\top} + \mathbf{b}^{(1)}"
    assert forms(model, "Z_2")[0] == "d_Y_2 o act'(Z_2)"
    assert forms(model, "W_2") == ["d_Z_2^T Y_1"]
    assert forms(model, "b_2") == ["d_Z_2^T 1"]
    assert forms(model, "Y_1")[0] == "d_Z_2 W_2"
    assert forms(model, "Z_1")[-1] == "(d_Z_2 W_2) o act'(Z_1)"


def test_the_batch_equations_of_nerva_in_numbers() -> None:
    hold(models.NERVA, published.nerva, ACT)


def test_the_softmax_layer_of_nerva_as_an_expression() -> None:
    """DZ = Y o (DY - ((Y o DY) 1) 1^T), multiplied out; with cross entropy DZ = Y o (T 1 1^T) - T."""
    squared, entropy = models.model(models.NERVA_SOFTMAX, SQUARED), models.model(models.NERVA_SOFTMAX, CROSS_ENTROPY)
    assert terms("Y o d_Y - Y o ((Y o d_Y) 1 1^T)") in map(terms, forms(squared, "Z"))
    assert forms(entropy, "Z")[-1] == "Y o (T 1 1^T) - T"


@pytest.mark.parametrize("loss", [SQUARED, CROSS_ENTROPY])
def test_the_softmax_layer_of_nerva_in_numbers(loss: str) -> None:
    def by_hand(v: dict[str, Any]) -> dict[str, Any]:
        y = published.softmax(v["X"] @ v["W"].T + v["b"])
        dy = 2 * (y - v["T"]) if loss == SQUARED else -v["T"] / y
        dz = y * (dy - (y * dy).sum(1, keepdims=True))
        if loss == CROSS_ENTROPY:
            np.testing.assert_allclose(dz, y * v["T"].sum(1, keepdims=True) - v["T"], rtol=CLOSE)
        return {"Z": dz, "W": dz.T @ v["X"], "b": dz.sum(0)}

    hold(models.NERVA_SOFTMAX, by_hand, more=loss)


# ---- Elman net: Goodfellow, Bengio and Courville 2016, section 10.2.2; Werbos 1990 -----------------------------------------


def test_backpropagation_through_time_as_expressions() -> None:
    """The book writes diag(1 - h^2) v for what is (1 - h o h) o v here, and puts dL/da into its readers."""
    model = models.model(models.ELMAN)
    through = "d_h[t] o (1 - h[t] o h[t])"
    assert forms(model, "a")[-1] == through
    (state,) = forms(model, "h")
    ahead = through.replace("[t]", "[t+1]")
    assert terms(state.replace("d_a[t+1]", f"({ahead})")) == terms(f"W^T ({ahead}) + V^T d_o[t]")  # 10.21
    assert forms(model, "o", "index")[-1] == "p[t,i] - [i = y[t]]"  # 10.18
    assert forms(model, "c") == ["sum_t d_o[t]"]  # 10.22
    assert forms(model, "b") == ["sum_t d_a[t]"]  # 10.23
    assert forms(model, "V") == ["sum_t d_o[t] h[t]^T"]  # 10.24
    assert forms(model, "W") == ["sum_t d_a[t] h[t-1]^T"]  # 10.26
    assert forms(model, "U") == ["sum_t d_a[t] x[t]^T"]  # 10.28


def test_backpropagation_through_time_in_numbers() -> None:
    hold(models.ELMAN, published.elman)


def test_generated_code_has_the_published_gradients() -> None:
    values = point(models.ELMAN)
    wanted = published.elman(values)
    parameters = {name: values[name] for name in models.ELMAN["parameters"]}
    _, grads = codegen.compile(models.model(models.ELMAN)).value_and_grad(parameters, values)
    assert set(grads) == set(parameters)
    for name, array in grads.items():
        np.testing.assert_allclose(array, wanted[name], rtol=CLOSE, atol=CLOSE, err_msg=name)


# ---- Greff et al. 2017, LSTM: A Search Space Odyssey, section II -----------------------------------------------------------


def test_the_deltas_of_an_lstm_as_expressions() -> None:
    """The delta of a gate is by its argument, gate-bar; sums over steps begin one later than there: y and c are 0 before."""
    model = models.model(models.LSTM)
    flow = " + ".join(f"R_{gate}^T d_{gate}bar[t+1]" for gate in "zifo")
    assert terms(forms(model, "y")[-1]) == terms(f"r[t] + {flow}")
    assert terms(forms(model, "obar")[-1]) == terms("d_y[t] o h(c[t]) o sigma'(obar[t])")
    assert terms(forms(model, "c")[-1]) == terms(
        "d_y[t] o o[t] o h'(c[t]) + p_o o d_obar[t] + p_i o d_ibar[t+1] + p_f o d_fbar[t+1] + d_c[t+1] o f[t+1]")
    assert terms(forms(model, "fbar")[-1]) == terms("d_c[t] o c[t-1] o sigma'(fbar[t])")
    assert terms(forms(model, "ibar")[-1]) == terms("d_c[t] o z[t] o sigma'(ibar[t])")
    assert terms(forms(model, "zbar")[-1]) == terms("d_c[t] o i[t] o g'(zbar[t])")
    for gate in "zifo":
        assert forms(model, f"W_{gate}") == [f"sum_t d_{gate}bar[t] x[t]^T"]
        assert forms(model, f"R_{gate}") == [f"sum_t d_{gate}bar[t] y[t-1]^T"]
        assert forms(model, f"b_{gate}") == [f"sum_t d_{gate}bar[t]"]
    assert forms(model, "p_i") == ["sum_t c[t-1] o d_ibar[t]"]
    assert forms(model, "p_f") == ["sum_t c[t-1] o d_fbar[t]"]
    assert forms(model, "p_o") == ["sum_t c[t] o d_obar[t]"]


def test_the_deltas_of_an_lstm_in_numbers() -> None:
    hold(models.LSTM, published.lstm, LSTM)


# ---- vectors without a batch, matrices [in, out], an activation left unspecified -------------------------------------------


def test_the_transposed_convention_as_expressions() -> None:
    model = models.model(models.TRANSPOSED)
    assert forward(model)[:3] == [
        r"\mathbf{a}_{t} = \mathbf{W}_{x}^{\top} \mathbf{x}_{t} + \mathbf{W}_{h}^{\top} \mathbf{h}_{t-1}",
        r"\mathbf{h}_{t} = f(\mathbf{a}_{t})",
        r"\mathbf{o}_{t} = \mathbf{W}_{o}^{\top} \mathbf{h}_{t}",
    ]
    assert forms(model, "a") == ["d_h[t] o f'(a[t])"]
    assert forms(model, "h") == ["W_o d_o[t] + W_h d_a[t+1]"]
    by_a = r"\left(\frac{\partial L}{\partial \mathbf{a}_{t}}\right)^{\top}"
    assert gradient_lines(model)[:2] == [
        rf"\frac{{\partial L}}{{\partial \mathbf{{W}}_{{x}}}} = \sum_{{t}} \mathbf{{x}}_{{t}} {by_a}",
        rf"\frac{{\partial L}}{{\partial \mathbf{{W}}_{{h}}}} = \sum_{{t}} \mathbf{{h}}_{{t-1}} {by_a}",
    ]


def test_the_transposed_convention_of_layers_as_expressions() -> None:
    """One index for time through all layers, though the second one has but one axis before its units."""
    model = models.model(models.TRANSPOSED_LAYERS)
    assert forward(model)[:3] == [
        r"\mathbf{a}_{t} = \mathbf{W}^{(\mathrm{rnn})\,\top} \mathbf{x}_{t} + \mathbf{U}^{\top} \mathbf{h}_{t-1}",
        r"\mathbf{h}_{t} = f(\mathbf{a}_{t})",
        r"\mathbf{y}_{t}^{(\mathrm{out})} = \mathbf{W}^{(\mathrm{out})\,\top} \mathbf{h}_{t}",
    ]
    assert forms(model, "rnn.h") == ["out.W d_out.y[t] + rnn.U d_rnn.a[t+1]"]
    assert forms(model, "rnn.U") == ["sum_t rnn.h[t-1] d_rnn.a[t]^T"]
    assert forms(model, "out.W") == ["sum_t rnn.h[t] d_out.y[t]^T"]


def test_the_transposed_convention_in_numbers() -> None:
    hold(models.TRANSPOSED, published.transposed, ACT)
    values = point(models.TRANSPOSED)
    wanted = published.transposed(values)
    names = {"rnn.W": "W_x", "rnn.U": "W_h", "out.W": "W_o"}
    layers = {**{name: values[other] for name, other in names.items()}, "x": values["x"], "y": values["y"]}
    found = adjoints(models.model(models.TRANSPOSED_LAYERS), layers, ACT)
    for name, other in names.items():
        np.testing.assert_allclose(found[name], wanted[other], rtol=CLOSE, atol=CLOSE, err_msg=name)


# ---- what only the reader sees ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "functions", "more"), [
    (models.SOFTMAX, None, ""), (models.BINARY, None, ""), (models.NIELSEN, SIGMOID, ""), (models.NERVA, ACT, ""),
    (models.NERVA_SOFTMAX, None, SQUARED), (models.NERVA_SOFTMAX, None, CROSS_ENTROPY), (models.ELMAN, None, ""),
    (models.LSTM, LSTM, ""),
], ids=["softmax", "binary", "nielsen", "nerva", "nerva squared", "nerva entropy", "elman", "lstm"])
def test_forms_for_the_reader_have_the_values_of_the_adjoint(spec: dict[str, Any], functions: Any, more: str) -> None:
    model: Model = models.model(spec, more)
    made, values, checked = derive(model), point(spec), 0
    wanted = evaluate(made.derived, values, {}, list(made.derived.gradients.values()), functions or {})
    names = [s.equation for s in made.softmaxes if s.name not in made.derived.writers]
    for name, shown in made.closed.items():
        adjoint = made.adjoints[name].adjoint
        rest = [e for e in made.derived.equations if e.name != adjoint]
        for form in shown:
            rows = [e for s in statements(form.equations, made.known) for e in s.terms]
            program = made.known.with_equations([*rest, *names, *rows])
            found = evaluate(program, values, {}, [adjoint], functions or {})[adjoint]
            np.testing.assert_allclose(found, wanted[adjoint], rtol=CLOSE, atol=CLOSE, err_msg=f"{name}: {form.rule}")
            checked += 1
    assert checked or spec is models.BINARY  # there terms cancel already where it is computed
