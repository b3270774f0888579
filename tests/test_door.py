"""The door of generated modules: what is wrong with an array is said in words; what is right in any layout is taken."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symbolic
from codegen.numpy.helpers import HELPERS
from codegen.pipeline import render
from symbolic.errors import SpecError
from symbolic.initialisers import INITIALISERS
from symbolic.optimizers import OPTIMIZERS
from symbolic.spec.names import check_name
from tests.emitting import agree, close, compiled, module_text, values_for
from tests.oracle.case import load_table
from tests.oracle.updates import CLIPPED, UPDATES, Clipped, Update

SPEC: dict[str, Any] = {
    "name": "door", "dtype": "float32", "sizes": {"H": 4},
    "inputs": {"x": ["T", "N", 3], "len": {"shape": ["N"], "kind": "index", "below": "T+1"},
               "y": {"shape": ["T", "N"], "kind": "index", "below": "H", "ignore": -100}},
    "layers": [{"name": "rnn", "type": "rnn", "units": "H", "lengths": "len"}],
    "loss": {"type": "softmax_cross_entropy", "target": "y"},
}


@pytest.fixture(scope="module")
def door() -> Any:
    return compiled(symbolic.load(SPEC))


def arrays() -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(0)
    params = {"rnn.W": (4, 3), "rnn.U": (4, 4), "rnn.b": (4,)}
    batch = {"x": rng.standard_normal((5, 2, 3)).astype(np.float32), "len": np.array([5, 3]), "y": rng.integers(0, 4, (5, 2))}
    batch["y"][4, 1] = -100
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in params.items()}, batch


WRONG = [
    ("params", "rnn.W", None, r"params: 'rnn\.W' is missing; expected rnn\.W, rnn\.U, rnn\.b, found rnn\.U, rnn\.b"),
    ("batch", "len", None, r"batch: 'len' is missing; expected x, len, y, found x, y"),
    ("params", "rnn.Z", np.zeros(3, np.float32), r"params: unknown name 'rnn\.Z'; expected rnn\.W, rnn\.U, rnn\.b"),
    ("params", "rnn.W", np.zeros((3, 4), np.float32), r"'rnn\.W': expected shape \(4, 3\), found \(3, 4\)"),
    ("params", "rnn.b", np.zeros((4, 1), np.float32), r"'rnn\.b'.*expected 1 ax.*\('H',\), found shape \(4, 1\)"),
    ("params", "rnn.b", [0.0]*4, r"'rnn\.b'.*expected a NumPy array, found list"),
    ("params", "rnn.b", 3.0, r"'rnn\.b'.*expected a NumPy array, found float"),
    ("params", "rnn.W", np.zeros((4, 3)),
     r"'rnn\.W': expected dtype float32, found float64; convert with \.astype\(np\.float32\)"),
    ("params", "rnn.W", np.zeros((4, 3), int), r"'rnn\.W': expected dtype float32, found int64"),
    ("batch", "x", np.zeros((5, 2, 3), complex), r"'x': expected dtype float32, found complex128"),
    ("batch", "x", np.zeros((5, 2, 4), np.float32), r"'x': expected shape \(5, 2, 3\), found \(5, 2, 4\)"),
    ("batch", "x", np.zeros((5, 2), np.float32), r"'x'.*expected 3 axes \('T', 'N', 3\), found shape \(5, 2\)"),
    ("batch", "len", np.array([5, 3, 1]), r"'len'.*expected N = 2 as in batch\['x'\], found shape \(3,\)"),
    ("batch", "y", np.zeros((4, 2), int), r"'y'.*expected T = 5 as in batch\['x'\], found shape \(4, 2\)"),
    ("batch", "len", np.array([5.0, 3.0]), r"'len': expected an integer dtype, found float64"),
    ("batch", "len", np.array([True, False]), r"'len': expected an integer dtype, found bool"),
    ("batch", "len", np.array([6, 3]), r"'len': expected 0 <= entries < 6, found 6 at \[0\]"),
    ("batch", "len", np.array([5, -1]), r"'len': expected 0 <= entries < 6, found -1 at \[1\]"),
    ("batch", "y", np.full((5, 2), 4), r"'y': expected 0 <= entries < 4 or -100, found 4 at \[0, 0\]"),
    ("batch", "y", np.full((5, 2), -99), r"'y': expected 0 <= entries < 4 or -100, found -99 at \[0, 0\]"),
    ("batch", "y", np.full((5, 2), 2**63, np.uint64), r"'y': expected 0 <= entries < 4 or -100, found 9223372036854775808"),
]


@pytest.mark.parametrize(("where", "name", "array", "message"), WRONG)
@pytest.mark.parametrize("function", ["value_and_grad", "loss", "predict"])
def test_what_is_wrong_is_said(door: Any, function: str, where: str, name: str, array: Any, message: str) -> None:
    params, batch = arrays()
    table = params if where == "params" else batch
    if array is None:
        del table[name]
    else:
        table[name] = array
    if function == "predict" and name == "y":
        getattr(door, function)(params, batch)  # predict needs no target, and looks at none
        return
    if function == "predict":
        message = message.replace("expected x, len, y, found x, y", "expected x, len, found x, y")
    with pytest.raises(ValueError, match=message):
        getattr(door, function)(params, batch)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64])
def test_any_integer_type_gives_the_same_numbers(dtype: Any) -> None:
    spec = {**SPEC, "inputs": {**SPEC["inputs"], "y": {"shape": ["T", "N"], "kind": "index", "below": "H"}}}
    module = compiled(symbolic.load(spec))
    params, batch = arrays()
    batch["y"][4, 1] = 2
    loss, grads = module.value_and_grad(params, batch)
    other, more = module.value_and_grad(params, {**batch, "y": batch["y"].astype(dtype), "len": batch["len"].astype(dtype)})
    assert loss == other
    assert all(np.array_equal(grads[n], more[n]) for n in grads)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64])
def test_index_arithmetic_does_not_wrap(dtype: Any) -> None:
    """``x[len - 1]`` with an unsigned 0 and ``x[ix + 200]`` with eight bits."""
    model = symbolic.load("y[n] = x[len[n]-1] + x[ix[n]+200] + x[250-ix[n]]\nloss = sum(y[n]**2, over=n)",
                          inputs={"x": [260], "len": {"shape": ["N"], "kind": "index", "below": 100},
                                  "ix": {"shape": ["N"], "kind": "index", "below": 100}}, loss="loss", dtype="float64")
    agree(model, {"N": 4}, len=np.array([0, 1, 99, 60], dtype), ix=np.array([0, 59, 70, 99], dtype))


def test_ignored_labels_do_not_count(door: Any) -> None:
    params, batch = arrays()
    loss = door.loss(params, batch)
    batch["x"] = batch["x"].copy()
    batch["x"][4, 1] = 100  # its label is -100
    assert door.loss(params, batch) == loss
    batch["y"] = np.full((5, 2), -100)
    assert not np.isinf(door.loss(params, batch))


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
                                    lambda a: a[::-1].copy()[::-1], lambda a: np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0)])
def test_any_layout_gives_the_same_numbers(layout: Any) -> None:
    for data in (SPEC, {
        "name": "conv", "dtype": "float32", "inputs": {"x": ["N", 2, 6, 6], "y": {"shape": ["N"], "kind": "index", "below": 3}},
        "layers": [{"name": "c", "type": "conv2d", "channels": 3, "kernel": 3, "padding": 1, "activation": "relu"},
                   {"name": "p", "type": "max_pool2d", "kernel": 2, "stride": 2}, {"name": "f", "type": "flatten"},
                   {"name": "o", "type": "dense", "units": 3}],
        "loss": {"type": "softmax_cross_entropy", "target": "y"},
    }):
        model = symbolic.load(data)
        module = compiled(model, wrt="all")
        program = model.program()
        values = {n: a.astype(np.float32) if a.dtype.kind == "f" else a
                  for n, a in values_for(program, {"T": 4, "N": 3}).items()}
        params, batch = ({t.name: values[t.name] for t in group} for group in (program.parameters, program.inputs))
        loss, grads = module.value_and_grad(params, batch)
        other, more = module.value_and_grad(*({n: layout(a) if a.ndim else a for n, a in g.items()} for g in (params, batch)))
        close(other, loss, 1e-6, "loss")
        for name, array in grads.items():
            close(more[name], array, 1e-5, name)


def test_composite_extents() -> None:
    """T + 1 steps and 2*H columns: the sizes are found where they stand alone, or solved for."""
    model = symbolic.load("y[t,j] = x[t,j]*c[t]\nloss = sum(y[t,j]**2, over=(t,j))", loss="loss", dtype="float64",
                          inputs={"x": ["T+1", "2*H"], "c": ["T+1"]}, parameters={"w": ["T"], "v": ["2*H"]})
    module = agree(model, {"T": 3, "H": 2})
    values = values_for(model.program(), {"T": 3, "H": 2})
    params, batch = {n: values[n] for n in ("w", "v")}, {n: values[n] for n in ("x", "c")}
    with pytest.raises(ValueError, match=r"'c'.*expected .*4.*found .*\(5,\)"):
        module.loss(params, {**batch, "c": np.zeros(5)})
    with pytest.raises(ValueError, match=r"'x'.*\(4, 4\)|'v'"):
        module.loss(params, {**batch, "x": np.zeros((4, 5))})
    with pytest.raises(ValueError, match=r"'[vx]': expected shape .*\(\d.*, found"):
        module.loss({**params, "v": np.zeros(3)}, {**batch, "x": np.zeros((4, 3))})


def test_scalars() -> None:
    module = compiled(symbolic.load("specs/scalar.yaml"))
    params = {"x": np.array(2.0), "y": np.array(3.0), "z": np.float64(4)}
    loss, grads = module.value_and_grad(params, {})
    assert loss == 20
    assert {n: float(g) for n, g in grads.items()} == {"x": 4, "y": 4, "z": 5}
    assert all(isinstance(g, np.ndarray) and g.shape == () for g in grads.values())
    with pytest.raises(ValueError, match=r"'x': expected shape \(\), found|'x'.*expected 0 axes"):
        module.loss({**params, "x": np.zeros(1)}, {})
    with pytest.raises(ValueError, match=r"'x'.*expected a NumPy array, found float"):
        module.loss({**params, "x": 2.0}, {})


def test_a_state_of_another_window_is_checked() -> None:
    module = compiled(symbolic.load({**SPEC, "layers": [{"name": "rnn", "type": "rnn", "units": "H", "state": "carry"}]}))
    params, batch = arrays()
    batch["rnn.h0"] = np.zeros((2, 4), np.float32)
    _, _, aux = module.value_and_grad(params, batch, aux=True)
    batch.update(aux)
    module.value_and_grad(params, batch)
    with pytest.raises(ValueError, match=r"'rnn\.h0'.*found.*\(3, 4\)"):
        module.value_and_grad(params, {**batch, "rnn.h0": np.zeros((3, 4), np.float32)})


@pytest.mark.parametrize("size", ["loss", "predict", "init", "update", "np", "params", "batch", "grads", "aux", "float", "DTYPE"])
def test_a_size_may_have_any_name(size: str) -> None:
    """A free size called as something of the module's, or an error that says so; never a module that is wrong."""
    try:
        model = symbolic.load({"name": "odd", "dtype": "float64", "inputs": {"x": [size]}, "parameters": {"w": [size]},
                               "equations": "y = x[i]*w[i]", "loss": "y"})
    except symbolic.SpecError as error:
        assert size in str(error)  # noqa: PT017
        return
    module = agree(model, {size: 3})
    with pytest.raises(ValueError, match=rf"'x'.*expected {size} = 3"):
        module.loss({"w": np.zeros(3)}, {"x": np.zeros(4)})


@pytest.mark.parametrize("name", ["loss", "np", "params", "batch", "grads", "aux", "DTYPE", "_check", "_windows", "float", "len",
                                  "zip", "slice", "max", "range", "T", "value_and_grad", "_sigmoid"])
def test_a_tensor_may_have_any_name(name: str) -> None:
    text = f"{name}[t] = sigmoid(x[t])\nm[t] = max({name}[t+k], over=k)\ns = sum(m[t]**2 + {name}[t]*x[t-1], over=t)"
    try:
        model = symbolic.load({"name": "names", "dtype": "float64", "inputs": {"x": ["S"]}, "equations": text, "loss": "s",
                               "ranges": {"k": 2}})
    except symbolic.SpecError as error:
        assert name in str(error)  # noqa: PT017
        return
    agree(model, {"S": 4})


# ---- updates ---------------------------------------------------------------------------------------------------------


def updating(**keys: Any) -> Any:
    spec = {"name": "step", "dtype": "float64", "parameters": {"a": ["M"], "b": [3, 2]}, "equations": "y = a[i] + b[j,k]",
            "loss": "y", **keys}
    (text,) = render(symbolic.load(spec)).values()
    space: dict[str, Any] = {"__name__": "step"}
    exec(text, space)
    return space["update"]


@pytest.mark.parametrize("case", UPDATES, ids=lambda case: case.name)
def test_the_optimisers_follow_torch(case: Update) -> None:
    update = updating(optimizer={"type": case.kind, **case.options})
    start, gradients = case.arrays()
    path = load_table("update")[f"{case.name}/path"]
    params, state = {"a": start, "b": np.zeros((3, 2))}, None
    for gradient, want in zip(gradients, path, strict=True):
        grads = {"a": gradient, "b": np.ones((3, 2))}
        for group in (params, grads):
            for array in group.values():
                array.setflags(write=False)
        params, state = update(params, grads, state)
        close(params["a"], want, 1e-12, case.name)


@pytest.mark.parametrize("case", CLIPPED, ids=lambda case: case.name)
def test_clipping_follows_torch(case: Clipped) -> None:
    update = updating(optimizer={"type": "sgd", "rate": 1.0}, clip={"type": case.kind, "limit": case.limit})
    table = load_table("update")
    grads = {name: table[f"{case.name}/before/{k}"] for name, k in (("b", 0), ("a", 1))}
    params, _ = update({name: np.zeros_like(g) for name, g in grads.items()}, grads)
    for name, k in (("b", 0), ("a", 1)):
        close(-params[name], table[f"{case.name}/after/{k}"], 1e-12, name)


def test_hyperparameters_of_a_call() -> None:
    update = updating(optimizer={"type": "sgd", "rate": 0.1})
    params, grads = ({"a": np.full(2, v), "b": np.full((3, 2), v)} for v in (1.0, 2.0))
    assert update(params, grads)[0]["a"].tolist() == [0.8, 0.8]
    assert update(params, grads, rate=0.5)[0]["a"].tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"update: unknown hyperparameter 'lr'; expected rate"):
        update(params, grads, lr=0.5)
    for wrong in ("x", None, [0.1], np.nan, -np.inf):
        with pytest.raises(ValueError, match=r"update: rate: expected a finite number, found "):
            update(params, grads, rate=wrong)
    assert update(params, grads, rate=np.float32(0.5))[0]["a"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw"])
def test_an_update_stays_in_float32(kind: str) -> None:
    update = updating(dtype="float32", optimizer={"type": kind}, clip={"type": "global_norm", "limit": 1})
    params = {"a": np.ones(2, np.float32), "b": np.ones((3, 2), np.float32)}
    state = None
    for _ in range(2):
        params, state = update(params, params, state)
        assert all(p.dtype == np.float32 and np.isfinite(p).all() for p in params.values())
        assert all(a.dtype == np.float32 for slot in state.values() if isinstance(slot, dict) for a in slot.values())


def classes(units: Any, below: Any, sizes: dict[str, Any], loss: str) -> dict[str, Any]:
    return {
        "name": "classes", "dtype": "float64", "sizes": {"D": 4, **sizes},
        "inputs": {"x": ["N", "D"], "y": {"shape": ["N"], "kind": "index", "below": below}},
        "layers": [{"name": "out", "type": "dense", "units": units}], "loss": {"type": loss, "target": "y"},
    }


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "nll"])
@pytest.mark.parametrize(
    ("units", "below", "sizes", "message"),
    [
        (2, 3, {}, r"expected labels below 2, the last axis of 'out\.y' \[N, 2\], found 'y' below 3"),
        (2, "C", {"C": 3}, r"expected labels below 2, the last axis of 'out\.y' \[N, 2\], found 'y' below C = 3"),
        ("C", 3, {"C": 2}, r"expected labels below C = 2, the last axis of 'out\.y' \[N, C\], found 'y' below 3"),
        ("K", "C+1", {"C": 2, "K": 2}, r"expected labels below K = 2, .* found 'y' below C \+ 1 = 3"),
        ("K", "K+1", {"K": None}, r"expected labels below K, .* found 'y' below K \+ 1"),
    ],
)
def test_fewer_logits_than_classes_are_refused(
    units: Any, below: Any, sizes: dict[str, Any], message: str, loss: str
) -> None:
    with pytest.raises(symbolic.SpecError, match=rf"^loss\.target: {message}"):
        symbolic.load(classes(units, below, sizes, loss))


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "nll"])
def test_where_a_size_is_free_the_labels_are_held_against_the_logits(loss: str) -> None:
    """Nothing is known of K before the call; the label 2 of two logits would be read as a logit of 0."""
    module = compiled(symbolic.load(classes("K", 3, {"K": None}, loss)))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 4)), np.array([0, 1, 2])
    for logits, fits in ((2, False), (3, True), (4, True)):
        params = {"out.W": rng.standard_normal((logits, 4)), "out.b": np.zeros(logits)}
        for function in (module.loss, module.value_and_grad):
            if fits:
                function(params, {"x": x, "y": y})
                continue
            with pytest.raises(ValueError, match=r"^'y': expected 0 <= entries < 2, found 2 at \[2\]$"):
                function(params, {"x": x, "y": y})
        with pytest.raises(ValueError, match=r"^'y': expected 0 <= entries < [23], found 3 at \[0\]$"):
            module.loss(params, {"x": x, "y": np.array([3, 3, 3])})


def test_an_entry_out_of_range_is_named_by_its_place() -> None:
    model = symbolic.load("l[n] = -log(p[y[n],n])\nloss = sum(l[n], over=n)", sizes={"K": 3}, parameters={"p": ["K", "N"]},
                          inputs={"y": {"shape": ["N"], "kind": "index", "below": "K"},
                                  "z": {"shape": ["N", 2], "kind": "index", "below": "K", "ignore": -1}})
    module = compiled(model)
    params = {"p": np.ones((3, 4), np.float32)}
    good = {"y": np.array([0, 1, 2, 0]), "z": np.array([[0, -1], [1, 2], [2, 0], [-1, -1]])}
    with pytest.raises(ValueError, match=r"^'y': expected 0 <= entries < 3, found 7 at \[2\]$"):
        module.loss(params, {**good, "y": np.array([0, 1, 7, 9])})
    with pytest.raises(ValueError, match=r"^'z': expected 0 <= entries < 3 or -1, found -2 at \[1, 0\]$"):
        module.value_and_grad(params, {**good, "z": np.array([[0, -1], [-2, 2], [5, 0], [-1, -1]])})


def spoken(text: str) -> set[str]:
    """The words of a module's text beside which a size stands: those of functions that know the sizes, and what the other ones
    take from the module or from Python."""
    found: set[str] = set()
    for node in ast.parse(text).body:
        names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
        taken = [a for a in ast.walk(node) if isinstance(a, ast.arg)]
        if isinstance(node, ast.FunctionDef) and node.name not in ("_check", "_check_slowly", "init", "selfcheck"):
            local = {a.arg for a in taken} | {n.id for n in names if isinstance(n.ctx, ast.Store)}
            found |= {n.id for n in names} - local | {node.name}
        else:
            found |= {n.id for n in names} | {a.arg for a in taken} | {getattr(node, "name", "np")}
    return {word for word in found if not word.startswith("_")}


def speaking(size: str, optimizer: str = "sgd") -> symbolic.Model:
    return symbolic.load("y_own[n_own,j_own] = tanh(E_own[k_own[n_own],j_own] + x_own[n_own,j_own])\n"
                         "m_own[n_own] = max((j_own<n_own)*y_own[n_own,j_own], over=j_own)\n"
                         "loss = sum(m_own[n_own], over=n_own)",
                         inputs={"x_own": [size, "J_own"],
                                 "k_own": {"shape": [size], "kind": "index", "below": 3}},
                         parameters={"E_own": [3, "J_own"]}, optimizer=optimizer, loss="loss")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_size_cannot_be_called_as_what_the_module_says(optimizer: str) -> None:
    for options in ({"hvp": True, "tangent": True}, {}):
        words = spoken(module_text(speaking("N_own", optimizer), **(options or {"wrt": "all"})))
        ours = {word for word in words if not re.search("_own|^d_", word)}
        assert {"np", "len", "rng", "dtype", "PARAMETERS", "fan_uniform"} <= ours
        assert [word for word in sorted(ours) if not check_name(word, "a size", adjoint=False)] == []


def test_a_size_cannot_be_called_as_what_helpers_and_initialisers_say() -> None:
    words = {*INITIALISERS, *spoken("\n".join([*HELPERS.values(), *(row.source for row in INITIALISERS.values())]))}
    assert [word for word in sorted(words) if not check_name(word, "a size", adjoint=False)] == []
    assert check_name("T", "a size", adjoint=False) == ""


@pytest.mark.parametrize("name", ["rng", "dtype", "name", "names", "PARAMETERS", "INPUTS", "fan_uniform", "params", "seed"])
def test_a_size_of_such_a_name_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match=f"the name of a size, found '{name}', which is reserved"):
        speaking(name)


def test_sizes_too_small_for_the_windows_are_said_in_words() -> None:
    model = symbolic.load({
        "name": "windows", "dtype": "float64", "inputs": {"x": ["N", 1, "A"], "y": ["N", 2]},
        "layers": [{"name": "c", "type": "conv1d", "channels": 2, "kernel": 5}, {"name": "p", "type": "max_pool1d", "kernel": 2},
                   {"name": "s", "type": "equations", "equations": "s[n,c] = sum(p[n,c,u], over=u)"}],
        "loss": {"type": "mse", "target": "y"}})
    module = compiled(model)
    params, batch = module.init(), {"y": np.ones((1, 2))}
    for extent in (1, 2, 3):
        for call in (module.value_and_grad, module.loss, module.predict):
            words = rf"batch\['x'\]: expected A of at least 4, found A = {extent}, which is too small for '[cp].y'"
            with pytest.raises(ValueError, match=words):
                call(params, {**batch, "x": np.ones((1, 1, extent))})
    for extent in (4, 5, 6, 7, 9):  # a sum over no window is 0
        assert np.isfinite(module.loss(params, {**batch, "x": np.ones((1, 1, extent))}))


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("kind", [np.matrix, np.ma.masked_array])
@pytest.mark.parametrize("call", ["value_and_grad", "loss", "predict"])
def test_arrays_with_a_product_of_their_own_are_refused(kind: Any, call: str, door: Any) -> None:
    for source, name in (("params", "rnn.W"), ("batch", "y")):
        if call == "predict" and source == "batch":
            continue
        params, batch = arrays()
        given = {"params": params, "batch": batch}
        given[source][name] = kind(given[source][name])
        with pytest.raises(ValueError, match=re.escape(f"{source}['{name}']: expected a plain NumPy array, found ")):
            getattr(door, call)(**given)


def test_an_array_that_lies_in_a_file_is_taken(tmp_path: Path) -> None:
    model = symbolic.load("loss = sum(w[n]**2, over=n)", parameters={"w": ["N"]}, dtype="float64", loss="loss")
    array = np.memmap(tmp_path / "w", np.float64, "w+", shape=(3,))
    array[...] = 2
    assert compiled(model).loss({"w": array}, {}) == 12
