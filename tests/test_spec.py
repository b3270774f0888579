"""Reading and validating specs: YAML as YAML 1.2 has it, JSON and mappings alike, places, and what is left open."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from symbolic import SpecError, load
from symbolic.errors import Location
from symbolic.spec import check_extent, check_model_name, check_name, read_data, read_text, show, spell, structure

SPECS = sorted((Path(__file__).parent.parent / "specs").glob("*.yaml"))
SMALL = {
    "name": "small",
    "inputs": {"x": ["N", 4], "y": ["N", 2]},
    "layers": [{"name": "out", "type": "dense", "units": 2}],
    "loss": {"type": "mse", "target": "y"},
}


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = "{a: no, b: on, c: 1:30, d: 1e-3, e: 0777, f: 2001-01-01, g: true, h: null, i: ~, j: '1', k: +.5, l: y"
    text += ", m: 1_000}"
    assert read_text(text).data == {
        "a": "no",
        "b": "on",
        "c": "1:30",
        "d": 0.001,
        "e": 777,
        "f": "2001-01-01",
        "g": True,
        "h": None,
        "i": None,
        "j": "1",
        "k": 0.5,
        "l": "y",
        "m": "1_000",
    }


def test_aliases_are_plain_copies() -> None:
    found = read_text("a: &s [T, N]\nb: {x: *s, y: *s}\n")
    assert found.data == {"a": ["T", "N"], "b": {"x": ["T", "N"], "y": ["T", "N"]}}
    assert found.where(("b", "y", 1)) == Location("<text>", 1, 11)


def test_every_value_and_key_knows_its_place() -> None:
    found = read_text("name: m\nlayers:\n  - {name: a,\n     units: 3}\n")
    assert found.where(("layers", 0, "units")) == Location("<text>", 4, 13)
    assert found.where(("layers", 0, "units"), key=True) == Location("<text>", 4, 6)
    assert found.where(("layers", 0, "absent", "deeper")) == Location("<text>", 3, 5)
    assert found.where(()) == Location("<text>", 1, 1)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("e: |\n  a = 1\n", (2, 3)),
        ("e:   |2-\n    a = 1\n", (2, 5)),
        ("e: |\n\n\n     a = 1\n", (2, 6)),
        ("e: a = 1\n", (1, 4)),
        ("e: 'a = 1'\n", (1, 5)),
    ],
)
def test_the_place_of_text_is_that_of_its_first_letter(text: str, place: tuple[int, int]) -> None:
    assert read_text(text).where_text(("e",)) == Location("<text>", *place)


def test_json_is_the_same_thing(tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL, indent="\t"), encoding="utf-8")
    assert str(load(path).program()) == str(load(SMALL).program()) == str(load(yaml.safe_dump(SMALL)).program())
    path.write_text(json.dumps({**SMALL, "layers": []}, indent="\t"), encoding="utf-8")
    with pytest.raises(SpecError, match=r"small\.json:13:12: layers: expected a list of layers .*, found \[\]\Z"):
        load(path)


def test_mappings_may_hold_numbers_of_other_libraries_and_tuples() -> None:
    spec: Any = {**SMALL, "inputs": {"x": ("N", np.int64(4)), "y": ["N", 2]}, "seed": np.uint8(3)}
    spec["optimizer"] = {"type": "adam", "rate": np.float32(0.5), "eps": Fraction(1, 8)}
    model = load(spec)
    assert model.seed == 3
    assert model.update.optimizer.hyper["rate"] == 0.5
    assert model.update.optimizer.hyper["eps"] == 0.125


def test_a_bom_and_crlf_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SPECS[0].read_bytes().replace(b"\n", b"\r\n"))
    assert str(load(path).program()) == str(load(SPECS[0]).program())


def test_the_source_name_is_fit_for_a_comment(tmp_path: Path) -> None:
    for name, expected in (("my model-2.yaml", "my model-2.yaml"), ("a\nimport os.yaml", "spec"), ("é.yaml", "spec")):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
        assert load(path).source_name == expected
    assert load(SMALL).source_name == "spec"


def test_the_digest_is_that_of_the_text(tmp_path: Path) -> None:
    import hashlib

    assert load(SPECS[0]).digest == hashlib.sha256(SPECS[0].read_bytes()).hexdigest()


def test_the_spec_is_frozen() -> None:
    spec = structure(read_data(SMALL))
    with pytest.raises(AttributeError):
        spec.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        spec.sizes["N"] = 3  # type: ignore[index]
    assert (spec.dtype, spec.seed, spec.optimizer, spec.clip, dict(spec.init)) == ("float32", 0, None, None, {})


def test_a_key_without_value_is_a_key_that_is_left_out() -> None:
    spec = {**SMALL, "sizes": None, "optimizer": None, "clip": None, "init": None, "outputs": None}
    assert str(load(spec).program()) == str(load(SMALL).program())


@pytest.mark.parametrize("name", ["x", "W", "len", "match", "T", "i", "y1", "gate_f", "X9", "conv2d"])
def test_good_names(name: str) -> None:
    assert check_name(name, "a tensor") == check_model_name(name) == ""


@pytest.mark.parametrize(
    "name", ["", "1x", "_x", "x-y", "x.y", "x\n", "ﬁ", "x__y", "if", "None", "double", "bool", "np", "d_x"]
)
def test_bad_names(name: str) -> None:
    assert check_name(name, "a tensor").startswith("expected")


def test_a_size_may_be_called_d_model_and_a_layer_may_use_reserved_names_inside() -> None:
    assert check_name("d_model", "a size", adjoint=False) == ""
    assert check_name("batch", "a tensor", reserved=False) == ""
    assert check_name("while", "a tensor", reserved=False)


@pytest.mark.parametrize("extent", [3, "T", "2*H", "T+1", "floor((L-K)/S)+1", "(L + 2*P - D*(K - 1) - 1)//S + 1"])
def test_good_extents(extent: int | str) -> None:
    assert check_extent(extent) == ""


@pytest.mark.parametrize(
    "extent", ["", " ", "2**3", "T;", "T.x", "f'{T}'", "T[0]", "lambda: 3", "9" * 16, "T" * 201, "_T", "T=3"]
)
def test_bad_extents(extent: str) -> None:
    assert check_extent(extent).startswith("expected")


def test_values_are_shown_on_one_short_line() -> None:
    assert show("a\nb") == r"'a\nb'"
    assert show("\x1b[2J\u202e") == r"'\x1b[2J\u202e'"
    assert show(["a", 1]) == "[a, 1]"
    assert show({"a": 1}) == "a mapping of 1 keys"
    assert show(None) == "nothing"
    assert show(True) == "true"
    assert len(show("a" * 1000)) == 80
    assert spell(("layers", 1, "init", "a b")) == "layers[1].init['a b']"


def test_no_other_spec_is_committed_than_the_tested_ones() -> None:
    expected = (
        "char_rnn gru_classifier leaky_integrator lenet lenet_digits lstm_lm minimal_gated_unit mlp "
        "rnn_regression scalar second_order"
    ).split()
    assert [path.stem for path in SPECS] == expected


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_committed_specs(path: Path) -> None:
    model = load(path)
    assert model.name == path.stem
    assert model.source_name == path.name
    assert set(model.initialisers) == {tensor.name for tensor in model.program().parameters}


@pytest.mark.parametrize("text", ["y[t] = x[t]/s[t-1]", "y[t] = x[t] + log(s[t-1])"])
def test_the_laws_of_the_language_hold_for_specs(text: str) -> None:
    """What zero extension would hide is refused when the spec is read, at its place."""
    with pytest.raises(SpecError, match=r"^<equations>:1:1: s\[t - 1\] may be out of bounds"):
        load(f"{text}\nloss = sum(y[t]**2, over=t)", inputs={"x": ["T"]}, parameters={"s": ["T"]}, loss="loss")
