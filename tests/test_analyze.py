"""``analyze``: what vanishes vanishes, what explodes explodes, bounds hold, and norms are those of the gradient."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codegen
import symbolic
from codegen import cli
from codegen.analyze.gates import gates
from codegen.analyze.initial import Weight
from codegen.analyze.probe import watching
from codegen.analyze.run import analyze
from codegen.analyze.values import growth
from codegen.trial import choose_sizes, draw
from symbolic import ChainruleError
from symbolic.interpreter import evaluate
from symbolic.jacobian import step_jacobians, with_blocks
from tests.conftest import ROOT


def deep(activation: str, init: str) -> dict[str, Any]:
    layers = [{"name": f"l{k}", "type": "dense", "units": "H", "activation": activation} for k in range(1, 21)]
    return {"name": "deep", "dtype": "float64", "sizes": {"H": 64}, "inputs": {"x": ["N", "H"], "y": ["N", "H"]}, "init": init,
            "layers": [*layers, {"name": "out", "type": "dense", "units": "H"}], "loss": {"type": "mse", "target": "y"}}


def recurrent(kind: str, **options: Any) -> dict[str, Any]:
    width = "2*H" if options.get("direction") == "both" else "H"
    shape = ["N", width] if options.get("output") == "last" else ["T", "N", width]
    return {"name": "net", "dtype": "float64", "sizes": {"D": 3, "H": 16}, "inputs": {"x": ["T", "N", "D"], "y": shape},
            "layers": [{"name": "r", "type": kind, "units": "H", **options}], "loss": {"type": "mse", "target": "y"}}


def load(spec: Any) -> Any:
    return symbolic.load(spec)


# ---- what it must show -------------------------------------------------------------------------------------------------


def test_twenty_layers_of_sigmoids_vanish() -> None:
    depth = analyze(load(deep("sigmoid", "glorot_uniform"))).depth
    assert depth is not None
    assert depth.layers[0] == "out"
    assert depth.layers[-1] == "l1"
    assert depth.growth.verdict == "vanishing"
    assert 0.2 < depth.growth.mean < 0.3  # a quarter at best, times a matrix of norm about 1
    nearest = next(row for row in depth.tried if row.nearest)
    assert nearest.what.startswith("orthogonal(")
    assert 0.9 < nearest.factor < 1.1


def test_twenty_layers_of_relus_do_not() -> None:
    depth = analyze(load(deep("relu", "he_normal"))).depth
    assert depth is not None
    assert depth.growth.verdict == "steady"
    assert 0.9 < depth.growth.mean < 1.15
    tried = {row.what: row.factor for row in depth.tried}
    assert tried["glorot_normal"] < 0.8 < 0.9 < tried["he_normal"]  # half of the slopes are 0: the factor is the root of 1/2


@pytest.mark.parametrize(("activation", "gain", "verdict"), [
    ("relu", 1.5, "exploding"), ("relu", 0.8, "vanishing"), ("relu", 1.0, "steady"),
])
def test_a_recurrent_gain_decides(activation: str, gain: float, verdict: str) -> None:
    (found,) = analyze(load(recurrent("rnn", activation=activation, init={"U": f"identity({gain})"}))).recurrences
    assert found.injected is not None
    assert found.bound is not None
    assert found.injected.verdict == verdict
    assert found.injected.mean == pytest.approx(gain, rel=0.06)
    assert found.injected.greatest <= gain * (1 + 1e-12)
    assert (found.bound.factor, found.bound.slope) == (pytest.approx(gain), 1)


def test_a_tanh_near_zero_explodes_at_a_gain_over_one() -> None:
    """While the state is small its slopes are 1, and the orthogonal gain is the factor, to the last digits."""
    spec = recurrent("rnn", init={"U": "orthogonal(1.5)", "W": "normal(0, 1e-30)"}, bias=False)
    (found,) = analyze(load(spec)).recurrences
    assert found.injected is not None
    assert found.injected.mean == pytest.approx(1.5, rel=1e-9)
    assert found.injected.verdict == "exploding"


def test_an_open_forget_gate_keeps_the_error() -> None:
    shut, opened = (analyze(load(recurrent("lstm", output="last", **more))).recurrences[0] for more in ({}, {"forget_bias": 4}))
    assert shut.injected is not None
    assert opened.injected is not None
    assert shut.injected.verdict == "vanishing"
    assert opened.injected.verdict == "steady"
    assert 0.95 < opened.injected.mean < 1.05
    rows = {row.what: row for row in shut.tried}
    assert rows["r.b[16..31] = 0"].factor < rows["r.b[16..31] = 1"].factor < rows["r.b[16..31] = 4"].factor


def test_a_linear_recurrence_has_the_factor_of_its_gain() -> None:
    (found,) = analyze(load(recurrent("rnn", activation="identity")), {"T": 9}).recurrences
    rows = [(row.what, row.factor) for row in found.tried if row.what.startswith("orthogonal")]
    assert rows == [("orthogonal(1)", pytest.approx(1))]


def test_a_loss_at_every_step_hides_the_decay() -> None:
    (found,) = analyze(load(recurrent("rnn"))).recurrences
    assert found.injected is not None
    assert found.injected.left < 1e-15
    (norms,) = found.loss_norms.values()
    assert min(norms) > 0.1 * max(norms)


# ---- numbers -----------------------------------------------------------------------------------------------------------


def test_the_norms_are_those_of_the_products_of_jacobians() -> None:
    """The error that the generated code carries back is the vector times the Jacobians that were derived, step for step."""
    model = load(recurrent("rnn", output="last"))
    found = analyze(model, {"T": 6, "N": 2}, seed=3)
    program = model.program()
    (jacobian,) = step_jacobians(program)
    made, names = with_blocks(jacobian, jacobian.blocks)
    module = codegen.compile(model)
    start = {n: np.asarray(v, dtype=float) for n, v in module.init(3).items()}
    values = {**draw(program, {**found.sizes}, start, 3).values, **start}
    (tensor,) = names.values()
    matrices = evaluate(made, values, found.sizes, [tensor])[tensor]
    error = np.random.default_rng([3, 2]).standard_normal((2, 16))
    error /= np.linalg.norm(error)
    expected = [1.0]
    for t in range(5, 0, -1):
        error = np.einsum("ni,nij->nj", error, matrices[t])
        expected.append(float(np.linalg.norm(error)))
    (each,) = found.recurrences
    assert each.injected is not None
    assert each.injected.norms == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("spec", [
    recurrent("rnn"), recurrent("gru", output="last"), recurrent("lstm", state="learned", direction="reverse"),
    recurrent("rnn", layers=2, direction="both"), recurrent("rnn", activation="relu", init={"U": "orthogonal(1.2)"}),
    ROOT / "specs/second_order.yaml", ROOT / "specs/minimal_gated_unit.yaml", ROOT / "specs/leaky_integrator.yaml",
], ids=lambda s: s.stem if isinstance(s, Path) else json.dumps(s["layers"][0])[13:])
def test_bounds_hold(spec: Any) -> None:
    """No block is larger, at any step, than its bounds: measured against the blocks themselves, from the interpreter."""
    model = load({**load(spec).spec.document.data, "sizes": {"D": 3, "H": 5}})
    found = analyze(model, {"T": 6, "N": 2}, seed=1)
    program = model.program()
    module = codegen.compile(model)
    start = {n: np.asarray(v, dtype=float) for n, v in module.init(1).items()}
    values = {**draw(program, {**found.sizes}, start, 1).values, **start}
    for jacobian, each in zip(step_jacobians(program), found.recurrences, strict=True):
        assert each.bound is not None
        made, names = with_blocks(jacobian, jacobian.blocks)
        arrays = evaluate(made, values, found.sizes, names.values())
        for block, bound in zip(jacobian.blocks, each.bound.blocks, strict=True):
            array = arrays[names[block]]
            matrices = [m if m.ndim == 2 else np.diag(m) for m in array.reshape(-1, *array.shape[2:])]
            norm = max(float(np.linalg.norm(m, 2)) for m in matrices)
            assert bound.here is not None
            assert norm <= bound.here * (1 + 1e-9)
            assert bound.here <= 40 * norm
            if bound.proven is not None:
                assert bound.here <= bound.proven * (1 + 1e-9)
        if each.bound.factor is not None and len(jacobian.blocks) == 1 and each.injected is not None:
            assert each.injected.greatest <= each.bound.factor * (1 + 1e-9)


def test_an_error_that_leaps_over_steps_is_not_lost() -> None:
    """With h[t-1] switched off, every other adjoint is 0; by the two latest together the factor is the root of h[t-2]'s."""
    layer = {"name": "r", "type": "equations", "parameters": {"v": {"shape": ["H"], "init": "constant(0.25)"}, "u": ["H"]},
             "states": {"h": ["T", "N", "H"]}, "output": "h",
             "equations": "h[t,n,i] = u[i]*h[t-1,n,i] + v[i]*h[t-2,n,i] + x[t,n,i]"}
    spec = {"name": "leap", "sizes": {"H": 3}, "inputs": {"x": ["T", "N", "H"], "y": ["T", "N", "H"]}, "layers": [layer],
            "loss": {"type": "mse", "target": "y"}}
    (found,) = analyze(load(spec), {"T": 41, "N": 2}).recurrences
    assert found.injected is not None
    assert found.injected.mean == pytest.approx(0.5)
    assert found.bound is not None
    assert found.bound.factor == pytest.approx(0.5)


def test_an_lstm_has_no_bound_for_its_cell_is_not_bounded() -> None:
    (found,) = analyze(load(recurrent("lstm"))).recurrences
    assert found.bound is not None
    bounds = {(b.of.partition("[")[0], b.by.partition("[")[0]): b for b in found.bound.blocks}
    assert found.bound.factor is None
    assert bounds["r.c", "r.c"].proven == 1
    assert bounds["r.c", "r.h"].proven is None
    assert list(bounds["r.c", "r.h"].open) == ["r.c"]


def test_adjoints_of_layers_are_those_of_the_interpreter() -> None:
    model = load(recurrent("gru"))
    program = model.program()
    sizes = choose_sizes(program, {"T": 3, "N": 2})
    start = codegen.compile(model).init(0)
    values = draw(program, sizes, start, 0).values
    run = watching(model, ["r.h"], ["r.z"]).run(values, sizes)
    derived = symbolic.gradient(program)
    names = {n: derived.gradients[n] for n in ("r.h", "r.U")}
    expected = evaluate(derived, values, sizes, [*names.values(), "r.z"])
    assert run.adjoints["r.h"] == pytest.approx(expected[names["r.h"]], rel=1e-9)
    assert run.gradients["r.U"] == pytest.approx(expected[names["r.U"]], rel=1e-9)
    assert run.outputs["r.z"] == pytest.approx(expected["r.z"], rel=1e-9)


def test_growth() -> None:
    found = growth([1, 0.5, 1, 0.25])
    assert (found.mean, found.least, found.greatest, found.left) == (pytest.approx(0.25 ** (1 / 3)), 0.25, 2, 0.25)
    assert growth([1, 1e-3, 1e-7]).verdict == "vanishing"
    assert growth([1, 1e3, 1e7]).verdict == "exploding"
    assert growth([1, 0.5, 0, 0]).verdict == "vanishing"
    assert growth([1, 2, math.inf, math.nan]).verdict == "exploding"
    assert growth([math.nan, math.nan]).verdict == "exploding"
    assert growth([0, 0]).verdict == "none"
    assert growth([1]).verdict == "none"


def test_gates_are_found_from_the_formula() -> None:
    def of(spec: Any) -> list[tuple[str, str, str, int]]:
        (jacobian,) = step_jacobians(load(spec).program())
        return [(g.bias, str(g.first), str(g.last), g.sign) for g in gates(jacobian)]

    assert of(recurrent("lstm")) == [("r.b", "H", "2*H - 1", 1)]
    assert of(recurrent("gru")) == [("r.b", "H", "2*H - 1", 1)]
    assert of(recurrent("rnn")) == []
    assert of(ROOT / "specs/minimal_gated_unit.yaml") == [("cell.bf", "0", "H - 1", -1)]
    assert of(ROOT / "specs/leaky_integrator.yaml") == [("cell.s", "0", "H - 1", -1)]


def test_filled_weights_have_the_variance_of_their_initialiser() -> None:
    assert Weight((200, 400)).filled("he_normal", 0).var() == pytest.approx(2 / 400, rel=0.05)
    assert Weight((400, 200), transposed=True).filled("he_normal", 0).var() == pytest.approx(2 / 400, rel=0.05)
    matrix = Weight((12, 4)).filled("orthogonal", 0, 1.5, 3)
    assert Weight((4, 12), transposed=True).blocks == Weight((12, 4)).blocks == 3
    for part in np.split(matrix, 3):
        assert part @ part.T == pytest.approx(2.25 * np.eye(4))


def test_weights_stored_the_other_way_round_are_filled_alike() -> None:
    """Packed gates have their blocks, and fans are those of the matrix that multiplies."""
    tables = []
    for stored in ("out_in", "in_out"):
        (found,) = analyze(load(recurrent("lstm", weights=stored)), {"T": 8}).recurrences
        tables.append(found.tried)
    for one, other in zip(*tables, strict=True):
        assert one.what == other.what
        assert one.factor == pytest.approx(other.factor, rel=1e-9)


def test_a_feed_forward_net_has_depth_alone() -> None:
    found = analyze(load(ROOT / "specs/mlp.yaml"))
    assert found.recurrences == ()
    assert found.depth is not None
    assert found.depth.layers == ("out", "fc2", "fc1")


def test_lengths_leave_no_step_out() -> None:
    (found,) = analyze(load(ROOT / "specs/gru_classifier.yaml"), {"T": 8}).recurrences
    assert found.injected is not None
    assert found.steps == 8
    assert min(found.injected.norms) > 0


def test_clipping_by_norm_and_by_value() -> None:
    base = recurrent("rnn", output="last")
    free = analyze(load(base)).clipping
    assert not free.own
    assert [limit for _, limit, _ in free.factors] == [1, 5]
    limit = free.norm / 4
    (kind, _, factor), = analyze(load({**base, "clip": {"type": "global_norm", "limit": limit}})).clipping.factors
    assert (kind, factor) == ("global_norm", pytest.approx(0.25, rel=1e-4))
    (kind, _, factor), = analyze(load({**base, "clip": {"type": "value", "limit": 2 * free.greatest}})).clipping.factors
    assert (kind, factor) == ("value", pytest.approx(1))
    (kind, _, factor), = analyze(load({**base, "clip": {"type": "value", "limit": free.greatest / 100}})).clipping.factors
    assert factor < 0.5


def test_the_same_seed_gives_the_same() -> None:
    model = load(recurrent("rnn"))
    assert analyze(model, {"T": 7}) == analyze(model, {"T": 7})
    assert analyze(model, {"T": 7}) != analyze(model, {"T": 7}, seed=1)


def test_two_axes_have_formulas_but_no_way_back() -> None:
    layer = {"name": "g", "type": "equations", "parameters": {"W": ["H", "D"], "U": ["H", "H"], "V": ["H", "H"]},
             "states": {"h": ["T", "S", "H"]}, "output": "h",
             "equations": "a[t,s,i] = W[i,k]*x[t,s,k] + U[i,j]*h[t-1,s,j] + V[i,j]*h[t,s-1,j]\nh[t,s,i] = tanh(a[t,s,i])"}
    spec = {"name": "grid", "sizes": {"D": 2, "H": 3}, "inputs": {"x": ["T", "S", "D"], "y": ["T", "S", "H"]}, "layers": [layer],
            "loss": {"type": "mse", "target": "y"}}
    (found,) = analyze(load(spec), {"T": 4, "S": 3}).recurrences
    assert found.injected is None
    assert len(found.formula) == 2
    assert "more than one direction" in found.notes[0]


# ---- the point ---------------------------------------------------------------------------------------------------------


def arrays(model: Any, **changed: Any) -> dict[str, Any]:
    module = codegen.compile(model, dtype="float64")
    return {**module.init(0), **changed}


def test_given_parameters_are_taken_and_nothing_is_tried() -> None:
    model = load(recurrent("rnn"))
    found = analyze(model, point=arrays(model, **{"r.U": 2 * np.eye(16), "x": np.zeros((5, 2, 3))}))
    (each,) = found.recurrences
    assert not found.fresh
    assert found.sizes["T"] == 5
    assert each.tried == ()
    assert each.bound is not None
    assert each.bound.matrices[0].norm == pytest.approx(2)


@pytest.mark.parametrize(("given", "message"), [
    ({"r.U": np.full((16, 16), np.nan)}, r"--params: expected finite numbers, found 256 of 256 in 'r\.U' that are not"),
    ({"r.U": np.zeros((16, 3))}, r"--params: expected 'r\.U' of shape \[16, 16\] and real numbers, found \[16, 3\]"),
    ({"r.V": np.zeros(3)}, r"--params: expected parameters and inputs of net .* found 'r\.V'"),
    ({"r.U": np.array(["a"])}, r"--params: expected 'r\.U' of shape"),
])
def test_arrays_that_do_not_fit(given: dict[str, Any], message: str) -> None:
    model = load(recurrent("rnn"))
    with pytest.raises(ChainruleError, match=f"^{message}"):
        analyze(model, point=arrays(model, **given))


def test_parameters_are_all_given_or_none() -> None:
    message = r"^--params: expected all parameters of net or none, found 1 of 3; missing: r\.W, r\.b$"
    with pytest.raises(ChainruleError, match=message):
        analyze(load(recurrent("rnn")), point={"r.U": np.eye(16)})


# ---- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli._run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


SPEC = ROOT / "examples/analyze/rnn_gain.yaml"


def test_the_report(call: Any) -> None:
    status, out, err = call("analyze", SPEC)
    assert (status, err) == (0, "")
    for line in (
        "drnn.h[t,n,i]/drnn.h[t-1,n,j] = rnn.U[i,j]*[rnn.h[t,n,i] > 0]",
        "rnn.U[i,j]: norm 1.5, spectral radius 1.5",
        "slope * norm = 1 * 1.5 = 1.5; above 1: exploding is possible",
        "exploding: it grows more than 1e+06 times over all steps",
        "<- nearest to 1",
        "Clipped to a global norm of 5, it would be scaled by",
    ):
        assert line in out


def test_the_report_at_a_factor_of_one(call: Any, tmp_path: Path) -> None:
    text = Path(SPEC).read_text(encoding="utf-8")
    (tmp_path / "one.yaml").write_text(re.sub(r"identity\(1\.5\)", "identity(1)", text), encoding="utf-8")
    status, out, _ = call("analyze", tmp_path / "one.yaml")
    assert status == 0
    assert "slope * norm = 1 * 1 = 1; it may vanish but not explode" in out
    assert "an error stays in the long run, 1 * 1 = 1" in out


def test_json_is_the_same_data(call: Any) -> None:
    status, out, _ = call("analyze", SPEC, "--json", "--size", "T=5")
    data = json.loads(out)
    assert status == 0
    assert data == json.loads(json.dumps(analyze(load(SPEC), {"T": 5}).as_data()))
    assert data["recurrences"][0]["injected"]["verdict"] == "steady"  # 1.5**4


def test_what_overflows_is_null_in_json(call: Any) -> None:
    status, out, _ = call("analyze", SPEC, "--json", "--size", "T=3000")
    assert status == 0
    assert json.loads(out, parse_constant=pytest.fail)["recurrences"][0]["injected"]["verdict"] == "overflow"


@pytest.mark.parametrize(("arguments", "status", "message"), [
    (["--size", "Q=3"], 2, "--size Q=3: expected a size of rnn_gain (D, H, T, N), found 'Q'"),
    (["--size", "H=3"], 2, "--size H=3: the spec fixes H = 32"),
    (["--params", "none.npz"], 2, "--params none.npz: expected a file of arrays by name"),
    (["--plot", "picture.jpg"], 2, "--plot picture.jpg: expected a file ending in .png, .svg or .pdf, found '.jpg'"),
    (["--plot", "picture"], 2, "--plot picture: expected a file ending in .png, .svg or .pdf, found none"),
])
def test_bad_calls(call: Any, tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    found, out, err = call("analyze", SPEC, *arguments)
    assert (found, out) == (status, "")
    assert err.startswith(f"chainrule: {message}")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_sizes_beyond_the_memory(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("codegen.analyze.point.draw", full)
    status, out, err = call("analyze", SPEC)
    assert (status, out) == (3, "")
    assert err.startswith("chainrule: rnn_gain: expected arrays that fit into memory")


@pytest.mark.parametrize(("suffix", "head"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_pictures(call: Any, tmp_path: Path, suffix: str, head: bytes) -> None:
    for name in ("one", "two"):
        assert call("analyze", ROOT / "specs/second_order.yaml", "--size", "T=9", "--plot", f"{name}.{suffix}")[0] == 0
    one, two = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("one", "two"))
    assert one.startswith(head)
    assert one == two


def test_a_picture_that_cannot_be_written(call: Any, tmp_path: Path) -> None:
    status, _, err = call("analyze", ROOT / "specs/scalar.yaml", "--plot", "nowhere/p.png")
    assert status == 2
    assert err.startswith("chainrule: nowhere/p.png: expected a file in a folder that exists")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_extra_is_named(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import codegen.analyze.plot as plot

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(plot, "import_module", missing)
    status, out, err = call("analyze", SPEC, "--plot", "p.png")
    assert (status, out) == (3, "")
    assert err == "chainrule: --plot: expected matplotlib, found none; install it: pip install 'chainrule[plot]'\n"


@pytest.mark.parametrize("path", sorted((ROOT / "examples/analyze").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_examples_are_analyzed(path: Path) -> None:
    found = analyze(load(path))
    growths = [each.injected for each in found.recurrences] or [found.depth.growth if found.depth else None]
    expected = {"deep_sigmoid": "vanishing", "deep_relu": "steady", "rnn_gain": "exploding", "lstm_forget": "steady"}
    assert [g.verdict for g in growths if g] == [expected[path.stem]]


def test_the_page_of_the_docs(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/analyze.md").read_text(encoding="utf-8")
    (excerpt,) = re.findall(r"^```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (script,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert excerpt in call("analyze", SPEC)[1]
    monkeypatch.chdir(ROOT)
    exec(script, {})
