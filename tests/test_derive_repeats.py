"""Layers that repeat are derived once and referred to."""

from __future__ import annotations

from typing import Any

from codegen.derivation.document import Document, LikeTable, Section, displays
from codegen.derivation.formats import Style, document_of, show
from codegen.derivation.provenance import derive
from codegen.derivation.repeats import repeats
from codegen.pipeline import derivation, stages
from symbolic import Model, load


def deep(count: int, **odd: Any) -> Model:
    """``count`` dense layers; ``odd``: options of the middle one."""
    layers = [{"name": f"fc{k}", "type": "dense", "units": 6, "activation": "relu"} for k in range(count)]
    layers[count // 2].update(odd)
    inputs = {"x": ["N", 6], "y": ["N", 6]}
    return load({"name": "deep", "inputs": inputs, "layers": layers, "loss": {"type": "mse", "target": "y"}})


def rows(document: Document) -> list[Any]:
    """The rows of all tables that refer to another layer."""
    def of(section: Section) -> list[Any]:
        own = [r for b in section.blocks if isinstance(b, LikeTable) for r in b.rows]
        return own + [r for s in section.sections for r in of(s)]

    return [row for section in document.sections for row in of(section)]


def test_all_but_the_first_are_referred_to() -> None:
    found = repeats(derive(deep(9)))
    assert found.like == {f"fc{k}": "fc1" for k in range(2, 8)}  # the first reads x, the last is read by the loss
    assert dict(found.reads["fc5"]) == {"fc0.y": "fc4.y", "fc2.W": "fc6.W", "fc2.a": "fc6.a"}


def test_another_activation_or_width_is_not_alike() -> None:
    assert "fc4" not in repeats(derive(deep(9, activation="tanh"))).like
    wide = repeats(derive(deep(9, units=7))).like
    assert "fc4" not in wide
    assert "fc5" not in wide


def test_few_layers_are_all_told() -> None:
    assert repeats(derive(deep(5))).like == {}


def test_every_number_is_somewhere() -> None:
    model = deep(12)
    document = document_of(derive(model), Style())
    found = stages(model)
    shown = {n for d in displays(document) for n in d.line.numbers} | {n for row in rows(document) for n in row.numbers}
    assert shown >= {e.number for p in (found.program, found.adjoint) for e in p.equations}


def test_the_length_hardly_grows() -> None:
    short, long = (show(derive(deep(n))).count("\n") for n in (8, 40))
    assert long - short < 3 * 32 + 10  # a line in each of two tables, and names


def test_a_page_links_every_line_of_code() -> None:
    text = derivation(deep(10), "html")
    assert 'class="equation-row" data-equations="5 6"' in text
    for number in (e.number for e in stages(deep(10)).optimised.equations):
        assert f'id="eq-{number}"' in text
