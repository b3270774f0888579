"""The catalogue itself: texts, options, names, errors. Numbers are in test_layers_oracle."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symbolic
from symbolic.errors import SpecError
from symbolic.functions import FUNCTIONS
from symbolic.interpreter import evaluate
from symbolic.layers import LAYERS, SUMMARIES
from symbolic.layers.activation import ACTIVATIONS
from symbolic.layers.base import State, final_name, final_text, initial_name, initial_text
from symbolic.losses import LOSSES
from symbolic.program import size
from tests.oracle.cases import FAMILIES

FOLDER = Path(symbolic.__file__).parent / "layers"
X = {"x": ["T", "N", "D"]}
LENGTHS = {"shape": ["N"], "kind": "index", "below": "T+1"}


def build(
    kind: str, inputs: dict[str, Any] | None = None, out: list[Any] | None = None, **options: Any
) -> symbolic.Model:
    """A model of one layer with mean squared error against a target of shape ``out``."""
    layer = {"name": "cell", "type": kind, **options}
    return symbolic.load(
        {
            "name": "m",
            "inputs": {**(inputs or X), "y": out or ["T", "N", "D"]},
            "layers": [layer],
            "loss": {"type": "mse", "target": "y"},
        }
    )


# ---- the folder -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_no_layer_speaks_of_gradients(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = re.findall(
        r"(?i)\w*(?:gradient|grad\b|backward|backprop|adjoint|derivative|jacobian|\.diff\b|\bd_\w+|_bar\b)\w*", text
    )
    assert found == []


def test_nothing_behind_the_model_knows_the_layers() -> None:
    root = FOLDER.parent
    behind = [
        *root.glob("rewrite/*.py"),
        *(
            root / f"{name}.py"
            for name in ("adjoint", "tangent", "interpreter", "analysis", "parser", "program", "cost", "unroll")
        ),
    ]
    codegen = root.parent / "codegen"
    assert (codegen / "schedule.py").exists()
    # The catalogue and the command line print the layers, and know them.
    behind += [path for path in codegen.rglob("*.py") if path.name not in ("catalogue.py", "cli.py")]
    for path in behind:
        if path.exists():
            assert not knows(path.read_text(encoding="utf-8")), path.name


KNOWING = ("symbolic.layers", "symbolic.losses")


def knows(text: str) -> set[str]:
    """The modules of layers and losses that a text imports, in any spelling, and the types that it asks for by name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module or ''}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Compare):
            words = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            found.update(word for word in words if word in {*LAYERS, *LOSSES} - set(FUNCTIONS))
            continue
        else:
            continue
        found.update(name for name in names if name.startswith(KNOWING))
    return found


@pytest.mark.parametrize("text", [
    "import symbolic.layers", "from symbolic import layers", "from symbolic.layers.base import Context", "x = kind == 'lstm'",
    "def f():\n    from symbolic.losses import LOSSES", "x = name in ('nll', 'mse')",
])
def test_knowing_the_layers_is_seen_in_every_spelling(text: str) -> None:
    assert knows(text)


@pytest.mark.parametrize("name", sorted(SUMMARIES))
def test_every_type_loads_with_reference_and_example(name: str) -> None:
    layer = LAYERS[name].load()
    assert layer.reference
    assert LAYERS[name].summary == SUMMARIES[name][1]
    layer.options(**layer.example)


def test_every_type_is_held_against_the_oracle() -> None:
    seen = {layer["type"] for cases in FAMILIES.values() for case in cases for layer in case.layers}
    assert set(SUMMARIES) - {"equations"} <= seen
    losses = {case.loss["type"] for cases in FAMILIES.values() for case in cases if case.loss}
    assert losses == set(LOSSES)


def test_listing_the_types_imports_no_sympy() -> None:
    code = "import sys, symbolic.layers as l; assert 'lstm' in l.SUMMARIES; print('sympy' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER.parents[1]
    )
    assert found.stdout.strip() == "False"


# ---- texts ----------------------------------------------------------------------------------------------------------


def lines(model: symbolic.Model) -> list[str]:
    """The texts of the layer's equations, each once."""
    texts = [equation.origin.text for equation in model.program().equations if equation.name.startswith("cell.")]
    return list(dict.fromkeys(texts))


def test_elman_text() -> None:
    assert lines(build("rnn", units="D")) == [
        "a[t,n,i] = W[i,k]*x[t,n,k] + U[i,j]*h[t-1,n,j] + b[i]",
        "h[t,n,i] = tanh(a[t,n,i])",
    ]


def test_lstm_text_is_packed() -> None:
    assert lines(build("lstm", units="D")) == [
        "a[t,n,r] = W[r,d]*x[t,n,d] + U[r,j]*h[t-1,n,j] + b[r]",
        "i[t,n,k] = sigmoid(a[t,n,k+0])",
        "f[t,n,k] = sigmoid(a[t,n,H+k])",
        "g[t,n,k] = tanh(a[t,n,2*H+k])",
        "o[t,n,k] = sigmoid(a[t,n,3*H+k])",
        "c[t,n,k] = f[t,n,k]*c[t-1,n,k] + i[t,n,k]*g[t,n,k]",
        "h[t,n,k] = o[t,n,k]*tanh(c[t,n,k])",
    ]


def test_two_way_text() -> None:
    found = lines(build("rnn", units="H", direction="both", output="last", bias=False, out=["N", "2*H"]))
    assert found == [
        "a[t,n,i] = W[i,k]*x[t,n,k] + U[i,j]*h[t-1,n,j]",
        "h[t,n,i] = tanh(a[t,n,i])",
        "a_r[t,n,i] = Wr[i,k]*x[t,n,k] + Ur[i,j]*h_r[t+1,n,j]",
        "h_r[t,n,i] = tanh(a_r[t,n,i])",
        "y[n,i+0] += h[T-1,n,i]",
        "y[n,H+i] += h_r[0,n,i]",
    ]


def test_convolution_text() -> None:
    model = build(
        "conv1d", {"x": ["N", 3, "L"]}, ["N", 4, "floor((L-1)/2)+1"], channels=4, kernel=3, stride=2, padding=1
    )
    assert lines(model) == ["y[n,o,u] = W[o,c,p]*x[n,c,2*u+p-1] + b[o]"]


@pytest.mark.parametrize(
    ("state", "reverse", "lag", "axis", "start", "end"),
    [
        ("given", False, 1, 0, "h[-1,n,i] += h0[n,i]", "hT[n,i] = h[T-1,n,i]"),
        ("learned", False, 1, 0, "h[-1,n,i] += h0[i]", "hT[n,i] = h[T-1,n,i]"),
        ("given", True, 1, 0, "h[T,n,i] += h0[n,i]", "hT[n,i] = h[0,n,i]"),
        ("given", False, 2, 0, "h[l-2,n,i] += h0[l,n,i]", "hT[l,n,i] = h[T-2+l,n,i]"),
        ("learned", False, 3, 0, "h[l-3,n,i] += h0[l,i]", "hT[l,n,i] = h[T-3+l,n,i]"),
        ("given", True, 2, 0, "h[T+l,n,i] += h0[l,n,i]", "hT[l,n,i] = h[l+0,n,i]"),
        ("given", False, 1, 1, "h[n,-1,i] += h0[n,i]", "hT[n,i] = h[n,T-1,i]"),
    ],
)
def test_initial_and_final_texts(state: str, reverse: bool, lag: int, axis: int, start: str, end: str) -> None:
    shape = (size("T"), size("N"), size("H"))
    made = State(shape, state, axis, lag, reverse)
    assert initial_text("h", made) == start
    assert final_text("h", made) == end


def test_names_of_states() -> None:
    assert (initial_name("h"), final_name("h_2"), initial_name("c_r_2")) == ("h0", "hT_2", "c0_r_2")


def test_carried_state_is_linked() -> None:
    program = build("lstm", units="D", state="carry").program()
    assert dict(program.links) == {"cell.hT": "cell.h0", "cell.cT": "cell.c0"}
    assert set(program.links) <= set(program.outputs)


def test_learned_state_is_a_parameter_without_batch() -> None:
    program = build("gru", units="D", state="learned", direction="both", out=["T", "N", "2*D"]).program()
    shapes = {tensor.name: tensor.shape for tensor in program.parameters}
    assert shapes["cell.h0"] == shapes["cell.h0_r"] == (size("D"),)


def test_packed_shapes_and_names_of_parameters() -> None:
    program = build("gru", units="H", layers=2, direction="both", out=["T", "N", "2*H"]).program()
    h, d = size("H"), size("D")
    assert {t.name.removeprefix("cell."): t.shape for t in program.parameters} == {
        f"{stem}{mark}": shape
        for mark, features in (("", d), ("r", d), ("_2", 2 * h), ("r_2", 2 * h))
        for stem, shape in (("W", (3 * h, features)), ("U", (3 * h, h)), ("b", (3 * h,)), ("bn", (h,)))
    }


def texts(model: symbolic.Model) -> dict[str, str]:
    """Parameter -> text of its initialiser."""
    return {name: str(init) for name, init in model.initialisers.items()}


def test_initialisers_of_a_layer() -> None:
    found = texts(build("lstm", units="D"))
    assert found == {"cell.W": "fan_uniform(D)", "cell.U": "fan_uniform(D)", "cell.b": "fan_uniform(D)"}
    found = texts(build("lstm", units="D", init={"U": "orthogonal(1, 4)"}, forget_bias=1.0))
    assert found == {"cell.W": "fan_uniform(D)", "cell.U": "orthogonal(1, 4)", "cell.b": "forget_gate(1)"}
    found = texts(build("dense", units="D", init="he_normal"))
    assert found == {"cell.W": "he_normal()", "cell.b": "fan_uniform(D)"}


# ---- edges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_sequences_of_length_zero_keep_their_state(kind: str) -> None:
    """Length 0: the output is 0 at every step, and the carried state stays what it was."""
    model = build(kind, {"x": ["T", "N", 3], "len": LENGTHS}, ["T", "N", 2], units=2, state="carry", lengths="len")
    program = model.program()
    rng = np.random.default_rng(0)
    sizes = {"T": 3, "N": 2}
    values = {
        t.name: rng.standard_normal([int(e.subs({size(k): v for k, v in sizes.items()})) for e in t.shape])
        for t in (*program.parameters, *program.inputs)
    }
    values["len"] = np.array([0, 2])
    got = evaluate(program, values, sizes, [model.prediction, "cell.hT"])
    assert np.array_equal(got[model.prediction][:, 0], np.zeros((3, 2)))
    assert np.array_equal(got["cell.hT"][0], values["cell.h0"][0])
    assert np.array_equal(got["cell.hT"][1], got[model.prediction][1, 1])


def test_one_step_and_one_sequence() -> None:
    program = build("lstm", units="D").program()
    rng = np.random.default_rng(1)
    values = {
        "cell.W": rng.standard_normal((8, 2)),
        "cell.U": rng.standard_normal((8, 2)),
        "cell.b": rng.standard_normal(8),
        "x": rng.standard_normal((1, 1, 2)),
        "y": np.zeros((1, 1, 2)),
    }
    got = evaluate(program, values, {"T": 1, "N": 1, "D": 2}, ["cell.h"])["cell.h"][0, 0]
    i, _, g, o = np.split(values["cell.W"] @ values["x"][0, 0] + values["cell.b"], 4)
    c = np.tanh(g) / (1 + np.exp(-i))
    assert np.allclose(got, np.tanh(c) / (1 + np.exp(-o)), rtol=1e-15)


def test_elementwise_activations_are_zero_extension_safe_where_they_should_be() -> None:
    """f(0) = 0 for all but these: a padded or masked entry that passes through one of them is no longer 0."""
    moved = []
    for name, row in ACTIVATIONS.items():
        if isinstance(row.text, str):
            program = build(name, {"x": ["D"]}, ["D"]).program()
            got = evaluate(program, {"x": np.zeros(1), "y": np.zeros(1)}, {"D": 1}, ["cell.y"])["cell.y"][0]
            moved += [name] if got != 0 else []
    assert moved == ["sigmoid", "softplus", "hard_sigmoid"]


@pytest.mark.parametrize("name", sorted(n for n, row in ACTIVATIONS.items() if isinstance(row.text, str)))
def test_large_inputs_stay_finite(name: str) -> None:
    program = symbolic.gradient(build(name, {"x": ["D"]}, ["D"]).program(), ["x"])
    x = np.array([1e4, -1e4, 800.0, -800.0])
    with np.errstate(all="raise", under="ignore"):
        got = evaluate(program, {"x": x, "y": np.zeros(4)}, {"D": 4}, ["cell.y", program.gradients["x"]])
    assert all(np.isfinite(array).all() for array in got.values())


# ---- errors ---------------------------------------------------------------------------------------------------------

BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        "dense",
        {"units": 2, "activation": "tan_h"},
        X,
        r"expected an activation \(.*\), found 'tan_h'; did you mean 'tanh'\?",
    ),
    (
        "dense",
        {"units": 2, "activation": {"type": "elu", "slope": 1.0}},
        X,
        r"activation elu: slope: .*\(options: alpha\)",
    ),
    ("dense", {"units": 3, "activation": "glu"}, X, r"expected an axis for glu of an extent that 2 divides, found 3"),
    ("dense", {"units": 2, "init": {"V": "zeros"}}, X, r"expected a parameter of this layer \(W, b\), found 'V'"),
    (
        "dense",
        {"units": 2},
        {"x": {"shape": ["N"], "kind": "index", "below": 5}},
        r"expected real numbers, found the index tensor",
    ),
    ("rnn", {"units": 2, "activation": "softmax"}, X, r"expected an activation that works entry by entry"),
    ("rnn", {"units": 2}, {"x": ["N"]}, r"expected an input with at least 2 axes, found 'x' of shape \[N\]"),
    ("rnn", {"units": 2, "state": "carry", "direction": "both"}, X, r"expected direction: forward with state: carry"),
    (
        "rnn",
        {"units": 2, "lengths": "length"},
        {**X, "lengths": LENGTHS},
        r"expected the name of an input, found 'length'; did you ",
    ),
    ("rnn", {"units": 2, "lengths": "x"}, X, r"expected an input of kind index, found the real tensor 'x'"),
    (
        "rnn",
        {"units": 2, "lengths": "len"},
        {**X, "len": {"shape": ["T"], "kind": "index", "below": 9}},
        r"expected lengths of shape \[N\] for 'x' of shape \[T, N, D\], found 'len' of shape \[T\]",
    ),
    ("lstm", {"units": 2, "direction": "sideways"}, X, r"expected 'forward' or 'reverse' or 'both', found 'sideways'"),
    ("lstm", {"units": 0}, X, r"expected a number of at least 1 or text, found 0"),
    ("embedding", {"units": 2}, X, r"expected an index tensor, found the real tensor 'x'"),
    (
        "embedding",
        {"units": 2, "classes": 4},
        {"x": {"shape": ["N"], "kind": "index", "below": 5}},
        r"expected at least 5 classes",
    ),
    ("conv1d", {"channels": 2, "kernel": 9}, {"x": ["N", 1, 5]}, r"expected a window of at most the axis of 5"),
    (
        "conv1d",
        {"channels": 2, "kernel": 3, "padding": "same", "stride": 2},
        {"x": ["N", 1, 5]},
        r"expected stride 1 with padding: same",
    ),
    (
        "conv1d",
        {"channels": 2, "kernel": 3, "groups": 2},
        {"x": ["N", 3, 5]},
        r"expected the channels of 'x' of an extent that 2 div",
    ),
    ("conv2d", {"channels": 2, "kernel": [3, 3, 3]}, {"x": ["N", 1, 5, 5]}, r"expected one entry or 2, found 3"),
    (
        "conv2d",
        {"channels": 2, "kernel": 3},
        {"x": ["N", 5]},
        r"expected an input with 3 to 4 axes, found 'x' of shape \[N, 5\]",
    ),
    (
        "max_pool1d",
        {"kernel": 2, "padding": 2},
        {"x": ["N", 1, 5]},
        r"expected a padding of at most half the kernel 2, found 2",
    ),
    ("flatten", {"start": 3}, X, r"expected an axis of 'x' \[T, N, D\], found 3"),
    ("flatten", {"start": 2, "end": 1}, X, r"expected an end after the start, found axes 2 to 1"),
    ("reshape", {"shape": ["T", "N"]}, X, r"expected as many entries as 'x' \[T, N, D\] has, found \[T, N\]"),
    ("transpose", {"order": [0, 0, 1]}, X, r"expected each of the axes 0 to 2 of 'x' once, found \[0, 0, 1\]"),
    (
        "add",
        {"from": ["x", "z"]},
        {**X, "z": ["T", "D", "N"]},
        r"expected inputs of one shape, found 'x' \[T, N, D\] and 'z' \[T, D, N\]",
    ),
    ("concat", {"from": ["x", "z"], "axis": 1}, {**X, "z": ["T", "N", "K"]}, r"expected inputs of one shape"),
    ("add", {}, X, r"expected 2 or more inputs"),
    ("softmax", {"axis": 3}, X, r"expected an axis of \[T, N, D\], found 3"),
]


@pytest.mark.parametrize(
    ("kind", "options", "inputs", "message"), BAD, ids=lambda value: value if isinstance(value, str) else ""
)
def test_bad_options(kind: str, options: dict[str, Any], inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        build(kind, inputs, ["T"], **options)
    assert "layers[0]" in str(caught.value)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize(("shape", "advice"), [
    (["N", 3], r"\[N, 3\], .* \[T, N, 3\] .*, as \[T, 3\] for one sequence"),
    (["N", "T", "D"], r"\[N, T, D\], .* \[T, N, D\] .*, as \[T, D\] for one sequence"),
])
def test_a_recurrence_over_the_batch_is_refused(kind: str, shape: list[Any], advice: str) -> None:
    with pytest.raises(SpecError, match=r"layers\[0\]: expected time as the first axis, found 'x' of shape " + advice):
        build(kind, {"x": shape}, units=2, out=["N", 2])


@pytest.mark.parametrize("shape", [["T", 3], [7, 3], ["S", "N", 3], ["T", "N", "M", 3]])
def test_time_may_have_any_other_name_and_the_batch_any_rank(shape: list[Any]) -> None:
    assert build("rnn", {"x": shape}, units=2, out=[*shape[:-1], 2]).program().tensor("cell.h").shape[-1] == 2
