"""The drawing of a model's graph: what it joins, that its texts fit, that it is the same bytes everywhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from codegen.graph import drawing, drawing_of
from codegen.graph.layout import place
from codegen.graph.model import MOST_NODES, Flow, Graph, Kind, graph_of
from codegen.pipeline import Options, Stages, stages
from symbolic import MachineError, Model, ProgramError, SpecError, load
from symbolic.program import Program, Role, tensor_of
from tests.conftest import ROOT, Run

SPECS = sorted(path.stem for path in (ROOT / "specs").glob("*.yaml"))
RECURRENT = ("char_rnn", "gru_classifier", "leaky_integrator", "lstm_lm", "minimal_gated_unit", "rnn_regression", "second_order")
CASES = [(name, level, unroll) for name in SPECS for level in ("layers", "equations") for unroll in (None, 3)
         if unroll is None or name in RECURRENT]
SVG = "{http://www.w3.org/2000/svg}"

_DONE: dict[tuple[str, int | None], Stages] = {}


def done(name: str, unroll: int | None = None) -> Stages:
    if (name, unroll) not in _DONE:
        _DONE[name, unroll] = stages(load(ROOT / "specs" / f"{name}.yaml"), Options(unroll=unroll))
    return _DONE[name, unroll]


def program(found: Stages) -> Program:
    """What is drawn, put together again: the spec's equations and the chain rule's."""
    tensors = {t.name: t for t in (*found.program.tensors, *found.adjoint.tensors)}
    lines = [e for e in found.adjoint.equations if found.adjoint.tensor(e.name).role is Role.ADJOINT]
    return found.adjoint.with_equations([*found.program.equations, *lines], tensors.values())


def graph(name: str, level: str, unroll: int | None = None) -> Graph:
    found = done(name, unroll)
    return graph_of(program(found), level, found.model.program() if unroll else None)


def elements(text: str, kind: str) -> list[ET.Element]:
    """The groups of this class, without the samples of the legend."""
    groups = ET.fromstring(text).iter(f"{SVG}g")
    return [e for e in groups if kind in e.get("class", "").split() and e.find(f"{SVG}title") is not None]


def deep(layers: int, kind: str = "dense, units: D, activation: tanh", time: str = "") -> Model:
    rows = "".join(f"  - {{name: d{k}, type: {kind}}}\n" for k in range(layers))
    return load(f"name: deep\nsizes: {{D: 4, C: 3}}\ninputs:\n  x: [{time}N, D]\n"
                f"  y: {{shape: [{time}N], kind: index, below: C}}\n"
                f"layers:\n{rows}  - {{name: out, type: dense, units: C}}\nloss: {{type: softmax_cross_entropy, target: y}}\n")


# ---- what is joined ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "level", "unroll"), CASES)
def test_every_drawing_is_well_formed_and_complete(name: str, level: str, unroll: int | None) -> None:
    found = done(name, unroll)
    for backward in (True, False):
        text = drawing_of(found, level, backward)
        assert text.startswith("<svg ")
        numbers = {int(n) for e in elements(text, "node") for n in e.get("data-equations", "").split()}
        wanted = {n.number for n in (program(found) if backward else found.program).equations}
        assert numbers == wanted
        assert bool(elements(text, "backward")) is backward
        ids = re.findall(r'\bid="([^"]*)"', text)
        assert len(ids) == len(set(ids))
        labelled = re.search(r'aria-labelledby="([^"]*)"', text)
        assert labelled is not None
        assert {*re.findall(r"url\(#([^)]*)\)", text), *labelled[1].split()} <= set(ids)


@pytest.mark.parametrize("name", SPECS)
def test_edges_are_the_reads_of_the_equations(name: str) -> None:
    """Of a forward equation all reads, of an adjoint equation those of adjoints; names from the program alone."""
    given = program(done(name))
    shown = {adjoint: f"∂L/∂{name}" for name, adjoint in given.gradients.items()}
    wanted = set()
    for equation in given.equations:
        adjoint = given.tensor(equation.name).role is Role.ADJOINT
        for entry in equation.reads:
            read = tensor_of(entry)
            if not adjoint or given.tensor(read).role is Role.ADJOINT:
                wanted.add((shown.get(read, read), equation.number, equation.name))
    found = graph(name, "equations")
    got = set()
    for edge in found.edges:
        if edge.flow in (Flow.FORWARD, Flow.BACKWARD):
            _, number, target = edge.target.split(" ")
            got |= {(tensor, int(number), target) for tensor, _ in edge.tensors}
    assert got == wanted


def test_a_read_is_joined_to_who_writes_that_entry() -> None:
    """h[-1] is the given state, h[t] the computed one: the output reads the second alone."""
    edges = {(e.source, e.target) for e in graph("char_rnn", "equations").edges}
    assert ("equation 2 rnn.h", "equation 3 rnn.a") in edges
    assert ("equation 4 rnn.h", "equation 3 rnn.a") in edges
    assert ("equation 2 rnn.h", "equation 6 out.y") not in edges


@pytest.mark.parametrize(("name", "layer", "delays"), [
    ("char_rnn", "rnn", {"t−1"}), ("lstm_lm", "lstm", {"t−1"}), ("second_order", "cell", {"t−1", "t−2"}),
    ("minimal_gated_unit", "cell", {"t−1"}),
])
def test_the_recurrence_is_a_loop_with_its_delay(name: str, layer: str, delays: set[str]) -> None:
    loops = [e for e in graph(name, "layers").edges if e.source == e.target == f"layer {layer}"]
    assert {e.delay for e in loops if e.flow is Flow.FORWARD} == delays
    assert {e.delay for e in loops if e.flow is Flow.BACKWARD} == {d.replace("−", "+") for d in delays}
    assert all(e.returns for e in loops)


def test_at_the_level_of_equations_the_recurrence_goes_back() -> None:
    found = graph("lstm_lm", "equations")
    back = {(e.source, e.target, e.delay) for e in found.edges if e.returns and e.flow is Flow.FORWARD}
    assert back == {("equation 8 lstm.h", "equation 2 lstm.a", "t−1"), ("equation 7 lstm.c", "equation 7 lstm.c", "t−1")}
    placed = place(found)
    top = {n.node.key: n.y for n in placed.nodes}
    assert all(top[e.source] < top[e.target] for e in found.edges if e.flow is Flow.FORWARD and not e.returns)
    assert all(top[e.source] > top[e.target] for e in found.edges if e.flow is Flow.BACKWARD and not e.returns)


def test_labels_have_names_and_shapes() -> None:
    edge = next(e for e in graph("lstm_lm", "layers").edges if e.source == "layer lstm" and e.target == "layer lstm")
    assert edge.tensors == (("lstm.h", "[T, N, H]"), ("lstm.c", "[T, N, H]"))
    text = unescape(drawing_of(done("lstm_lm")))
    assert '<tspan class="tensor">embed.y </tspan><tspan class="shape">[T, N, E]</tspan>' in text
    assert "∂L/∂lstm.h" in text
    assert "W [4H, E]" in text


def test_models_without_layers_have_a_node_for_each_tensor() -> None:
    kinds = {n.title: n.kind for n in graph("scalar", "layers").nodes}
    assert kinds == {**dict.fromkeys("xyz", Kind.PARAMETER), **dict.fromkeys(("q", "f", "loss"), Kind.LAYER)}
    gradients = {(e.source, e.target) for e in graph("scalar", "layers").edges if e.flow is Flow.BACKWARD}
    assert ("layer q", "tensor x") in gradients
    assert ("layer f", "tensor z") in gradients


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("level", ["layers", "equations"])
def test_inputs_and_parameters_are_those_of_the_program(name: str, level: str) -> None:
    """Also where the adjoint is that of a rewritten program, with tensors that the spec does not have (lenet)."""
    given = done(name).program
    for kind, role in ((Kind.INPUT, Role.INPUT), (Kind.PARAMETER, Role.PARAMETER)):
        assert {n.title for n in graph(name, level).nodes if n.kind is kind} <= {t.name for t in given.of_role(role)}


def test_a_carried_state_goes_to_the_next_window() -> None:
    carried = [e for e in graph("char_rnn", "layers").edges if e.flow is Flow.CARRY]
    assert [(e.source, e.target, e.tensors[0][0]) for e in carried] == [("layer rnn", "tensor rnn.h0", "rnn.hT")]


# ---- unrolled, folded --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECURRENT)
def test_unrolled_layers_stand_side_by_side_in_the_order_of_the_steps(name: str) -> None:
    found = graph(name, "layers", 3)
    placed = {n.node.key: n for n in place(found).nodes}
    layer = next(e.source for e in graph(name, "layers").edges if e.source == e.target)
    nodes = [placed[f"{layer} {step}"] for step in range(3)]
    assert nodes[0].x < nodes[1].x < nodes[2].x
    assert len({round(n.y + n.box.height / 2) for n in nodes}) == 1
    edges = {(e.source, e.target) for e in found.edges if e.flow is Flow.FORWARD}
    assert {(f"{layer} {a}", f"{layer} {a + 1}") for a in range(2)} <= edges
    gradients = {(e.source, e.target) for e in found.edges if e.flow is Flow.BACKWARD}
    assert {(f"{layer} {a + 1}", f"{layer} {a}") for a in range(2)} <= gradients


def test_unrolled_equations_read_the_step_before() -> None:
    found = done("char_rnn", 3)
    number = {str(e.target): e.number for e in found.program.equations}
    edges = {(e.source, e.target) for e in graph("char_rnn", "equations", 3).edges}
    for step in range(3):
        writer, reader = number[f"rnn.h[{step - 1}, n, {'i'}]"], number[f"rnn.a[{step}, n, i]"]
        assert [s for s, t in edges if t == f"equation {reader} rnn.a" and s.endswith("rnn.h")] == [f"equation {writer} rnn.h"]


def test_repeated_layers_are_folded() -> None:
    found = stages(deep(64))
    for level in ("layers", "equations"):
        given = graph_of(program(found), level)
        (fold,) = [n for n in given.nodes if n.count > 1]
        assert (fold.title, fold.tag, fold.count) == ("d2 … d62", "×61", 61)
        assert len(given.nodes) < 45
        assert {n for node in given.nodes for n in node.numbers} == {e.number for e in program(found).equations}
        assert "×61" in drawing_of(found, level)


def test_a_layer_that_differs_is_not_folded() -> None:
    rows = "".join(f"  - {{name: d{k}, type: dense, units: D, activation: {'relu' if k == 8 else 'tanh'}}}\n" for k in range(12))
    model = load(f"name: odd\nsizes: {{D: 4}}\ninputs: {{x: [N, D], y: [N, D]}}\nlayers:\n{rows}loss: {{type: mse, target: y}}\n")
    titles = [n.title for n in graph_of(model.program()).nodes]
    assert titles == ["x", "y", "d0", "d1", "d2 … d6", "d7", "d8", "d9", "d10", "d11", "loss"]


def test_a_fold_of_recurrent_layers_keeps_its_loop() -> None:
    given = graph_of(program(stages(deep(8, "rnn, units: D", "T, "))))
    (fold,) = [n for n in given.nodes if n.count > 1]
    loops = [e for e in given.edges if e.source == e.target == fold.key and e.flow is Flow.FORWARD]
    assert [e.delay for e in loops] == ["t−1"]


# ---- the look ----------------------------------------------------------------------------------------------------------


def test_gradients_differ_by_more_than_colour() -> None:
    text = drawing_of(done("lstm_lm"), "equations")
    assert re.search(r"\.edge\.backward path \{[^}]*stroke-dasharray", text)
    (backward, *_), (forward, *_) = elements(text, "backward"), elements(text, "forward")
    heads = [{p.get("marker-end") for p in e.iter(f"{SVG}path")} - {None} for e in (backward, forward)]
    assert heads[0] != heads[1]
    adjoints = elements(text, "adjoint")
    assert len(adjoints) == sum(n.backward for n in graph("lstm_lm", "equations").nodes) > 0
    assert all(len(e.findall(f"{SVG}rect")) == 2 for e in adjoints)


def test_two_drawings_can_stand_in_one_page() -> None:
    texts = [drawing_of(done("mlp"), level, standalone=False, prefix=f"graph-{level}") for level in ("layers", "equations")]
    ids = [set(re.findall(r'\bid="([^"]*)"', text)) for text in texts]
    assert not ids[0] & ids[1]
    assert all("prefers-color-scheme" not in text for text in texts)


def test_what_xml_reads_as_its_own_is_escaped() -> None:
    text = drawing_of(done("gru_classifier"), "equations")
    assert "[t &lt; len[n]]" in text
    assert any("[t < len[n]]" in (e.findtext(f"{SVG}title") or "") for e in elements(text, "node"))


PROBE = """<!DOCTYPE html><meta charset="utf-8"><style>svg { max-width: none !important; }</style><body>%s<script>
const bad = [];
let count = 0;
for (const group of document.querySelectorAll('g.node, g.label')) {
  if (group.closest('.legend')) continue;
  const box = group.querySelector('.box');
  const size = box ? box.getBBox() : {x: 0, y: 0, width: +group.dataset.width, height: +group.dataset.height};
  for (const text of group.querySelectorAll(':scope > text')) {
    const at = text.getBBox();
    const right = size.x + size.width - at.x - at.width, below = size.y + size.height - at.y - at.height;
    if (at.x < size.x || at.y < size.y - 1 || right < 0 || below < -1) bad.push(text.textContent);
    count += 1;
  }
}
for (const svg of document.querySelectorAll('svg')) {
  const view = svg.viewBox.baseVal, all = svg.getBBox();
  if (all.x < 0 || all.y < 0 || all.x + all.width > view.width || all.y + all.height > view.height) bad.push('outside ' + svg.id);
}
document.body.innerHTML = '<pre id="found">' + JSON.stringify([count, bad]) + '</pre>';
</script>"""


@pytest.mark.chromium
def test_no_text_leaves_its_box(tmp_path: Path) -> None:
    texts = [drawing_of(done(name, unroll), level) for name, level, unroll in CASES]
    page = tmp_path / "page.html"
    page.write_text(PROBE % "".join(texts), encoding="utf-8")
    command = ["chromium", "--headless=new", "--no-sandbox", f"--user-data-dir={tmp_path}/profile", "--dump-dom", page.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="found">(.*?)</pre>', run.stdout, re.DOTALL)
    assert found is not None
    count, bad = json.loads(unescape(found[1]))
    assert count > 1000
    assert bad == []


# ---- bytes, errors, the command ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--graph", "equations"), ("--unroll", "3"), ("--graph", "equations", "--unroll", "2")])
def test_two_hash_seeds_give_the_same_bytes(chainrule: Run, options: tuple[str, ...]) -> None:
    runs = [chainrule("derive", "specs/lstm_lm.yaml", "--format", "svg", *options, cwd=ROOT, PYTHONHASHSEED=seed)
            for seed in ("1", "4711")]
    assert all(run.returncode == 0 and run.stderr == "" for run in runs), runs[0].stderr
    assert runs[0].stdout == runs[1].stdout != ""
    assert not re.search(r"graphviz|/home/|/tmp/|dot version", runs[0].stdout, re.IGNORECASE)


def test_twice_in_one_process_gives_the_same_bytes() -> None:
    assert drawing_of(done("gru_classifier")) == drawing_of(done("gru_classifier"))


def test_the_command_writes_a_file(chainrule: Run, tmp_path: Path, specs: Path) -> None:
    run = chainrule("derive", specs / "mlp.yaml", "--format", "svg", "--forward", "-o", tmp_path / "mlp.svg")
    assert (run.returncode, run.stdout) == (0, "")
    text = (tmp_path / "mlp.svg").read_text(encoding="utf-8")
    assert text == drawing(load(specs / "mlp.yaml"), backward=False)
    assert "∂" not in text


def test_an_unknown_level_names_the_nearest(chainrule: Run, specs: Path) -> None:
    run = chainrule("derive", specs / "mlp.yaml", "--format", "svg", "--graph", "layer")
    assert run.returncode == 2
    assert run.stderr == "chainrule: --graph layer: expected layers or equations, found 'layer'; did you mean 'layers'?\n"
    with pytest.raises(SpecError, match=r"^unknown level of a drawing 'equation'; did you mean 'equations'\?; known: layers"):
        drawing(load(specs / "mlp.yaml"), "equation")


def test_what_does_not_recur_is_not_unrolled(chainrule: Run, specs: Path) -> None:
    run = chainrule("derive", specs / "mlp.yaml", "--format", "svg", "--unroll", "3")
    assert run.returncode == 2
    assert run.stderr.startswith("chainrule: mlp: nothing to unroll: ")
    with pytest.raises(ProgramError, match=r"^mlp: nothing to unroll"):
        drawing(load(specs / "mlp.yaml"), unroll=3)


def test_too_many_nodes_are_refused(specs: Path) -> None:
    with pytest.raises(SpecError, match=rf"^rnn_regression: the drawing has [\d,]+ nodes, expected at most {MOST_NODES}; unroll"):
        drawing(load(specs / "rnn_regression.yaml"), "equations", unroll=100)


def test_without_graphviz_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, specs: Path) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    with pytest.raises(MachineError, match=r"^a drawing needs Graphviz, .* pip install pygraphviz") as caught:
        drawing(load(specs / "mlp.yaml"))
    assert caught.value.exit_status == 3


def test_nothing_but_a_drawing_loads_graphviz() -> None:
    script = ("import sys, symbolic, codegen.graph.layout, codegen.cli; from codegen.derivation.formats import show; "
              "from codegen.derivation.provenance import derive; show(derive(symbolic.load('specs/mlp.yaml'))); "
              "print('pygraphviz' in sys.modules)")
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
