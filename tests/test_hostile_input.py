"""Text that is no spec, hostile strings, specs spoilt at random: nothing but SpecError escapes."""

# Rows of these tables are read whole, not wrapped.
# ruff: noqa: E501, ISC004

from __future__ import annotations

import contextlib
import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from symbolic import SpecError, load
from tests.spoiling import DENSE, OWN, refuse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "m.yaml:1:1: expected a mapping (name, inputs, layers, loss), found an empty text"),
        ("# only a comment\n", "m.yaml:1:1: expected a mapping (name, inputs, layers, loss), found an empty text"),
        ("- 1\n- 2\n", "m.yaml:1:1: expected a mapping (name, inputs, layers, loss), found [1, 2]"),
        ("just text\n", "m.yaml:1:1: expected a mapping (name, inputs, layers, loss), found 'just text'"),
        ("a: [1\n", "m.yaml:2:1: expected YAML, found: expected ',' or ']', but got '<stream end>'"),
        ("a: 'x\n", "m.yaml:2:1: expected YAML, found: unexpected end of stream"),
        ("a: 1\n---\nb: 2\n", "m.yaml:2:1: expected one document, found a second; one file is one model"),
        ("1: 2\n", "m.yaml:1:1: expected a name as key, found 1; put a word,..."),
        ("on: 2\ntrue: 1\n", "m.yaml:2:1: expected a name as key, found true; put a word, in quotes where YAML reads it as..."),
        ("? [a]\n: 2\n", "m.yaml:1:3: expected a name as key, found a list of 1 values; put a word,..."),
        ("? {a: b}\n: 2\n", "m.yaml:1:3: expected a name as key, found a mapping; put a word,..."),
        ("a: *b\n", "m.yaml:1:4: expected a finished anchor, found the alias '*b'"),
        ("a: &a [*a]\n", "m.yaml:1:8: expected a finished anchor, found the alias '*a'"),
        ("a: !!python/object/apply:os.system ['id']\n", "m.yaml:1:4: expected a plain value, found the tag "
         "'tag:yaml.org,2002:python/object/apply:os.system'; leave it out"),
        ("a: \x07\n", "m.yaml:1:4: expected printable text, found the character U+0007"),
        ('a: "\\ud800"\n', r"m.yaml:1:4: a: expected text, found half a surrogate pair in '\ud800'"),
        ("\tname: m\n", "m.yaml:1:1: expected lines indented with spaces, found a tab; use spaces"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "m.yaml:1:1: expected text (YAML or JSON in UTF-8), found a binary file"),
        (b"name: m\nx: \xff\xfe\n", "m.yaml:2:4: expected text in UTF-8, found the byte 0xff; is this a binary file?"),
        ("a: " + "[" * 100_000, "m.yaml:1:28: expected nesting of at most 24, found deeper; a spec needs six"),
        ("a: " + "{b: " * 1000, "m.yaml:1:...: expected nesting of at most 24, found deeper; a spec needs six"),
        ("".join(f"{'  ' * k}k:\n" for k in range(200)), "m.yaml:...: expected nesting of at most 24, found deeper;..."),
        ("k: [" + "1, " * 30_000 + "]", "m.yaml:1:...: expected at most 20000 values, found more (aliases count...)"),
        ("#" * (1 << 20) + "\n", "m.yaml:1:1: expected at most 1048576 bytes, found a larger file; split the model"),
    ],
)  # fmt: skip
def test_text_that_is_no_spec(tmp_path: Path, text: str | bytes, expected: str) -> None:
    refuse(tmp_path, text, expected)


def test_an_alias_bomb_is_cheap_to_refuse(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    refuse(tmp_path, "\n".join(lines), "m.yaml:...: expected at most 20000 values, found more (aliases count...")


def test_depth_counts_through_aliases(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1]", *(f"a{k}: &a{k} [*a{k - 1}]" for k in range(1, 40))]
    refuse(tmp_path, "\n".join(lines), "m.yaml:...: expected nesting of at most 24, found deeper")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, expected in (
        (tmp_path / "absent.yaml", "absent.yaml:1:1: expected a spec, found no such file; check the path"),
        (tmp_path, ":1:1: expected a spec, found a folder; name a file in it"),
        ("nowhere", "nowhere:1:1: expected a spec, found no such file; check the path"),
        ("a" * 5000 + ".yaml", ".yaml:1:1: expected a spec that can be read, found: File name too long"),
    ):
        with pytest.raises(SpecError, match=re.escape(expected) + r"\Z"):
            load(path)


def test_a_mapping_has_paths_but_no_lines() -> None:
    spec = yaml.safe_load(DENSE)
    spec["layers"][1]["units"] = None
    with pytest.raises(SpecError, match=r"^layers\[1\]\.units: expected an integer or text, found nothing\Z"):
        load(spec)
    with pytest.raises(
        SpecError, match=r"^sizes\.H: expected text, a number, a list or a mapping, found a Python object\Z"
    ):
        load({**spec, "sizes": {"H": object()}})
    with pytest.raises(SpecError, match=r"^expected names as keys, found int\Z"):
        load({1: 2})  # type: ignore[dict-item]
    loop: dict[str, Any] = {"name": "m"}
    loop["inputs"] = loop
    with pytest.raises(
        SpecError, match=r"^inputs\.inputs\.inputs\.inputs: expected nesting of at most 24, found deeper\Z"
    ):
        load(loop)


def test_calls_that_make_no_sense() -> None:
    with pytest.raises(SpecError, match=r"^expected shapes beside equation text: load\(text, inputs="):
        load("y[n] = w*x[n]")
    with pytest.raises(SpecError, match=r"^expected a path, a mapping or a text, found a Python int\Z"):
        load(3)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"^expected a mapping alone, found further arguments"):
        load({}, inputs={})
    with pytest.raises(SpecError, match=r"^expected equation text beside shapes, found a path, 'model\.yaml'; .*'dtype' too\Z"):
        load("model.yaml", dtype="float32")
    with pytest.raises(SpecError, match=r"^expected equation text beside shapes, found a path"):
        load(Path("a.yaml"), inputs={})
    with pytest.raises(
        SpecError, match=r"^inptus: expected the keys of a spec .*found 'inptus'; did you mean 'inputs'\?\Z"
    ):
        load("y = w", inptus={})


HOSTILE = (
    "__import__('os').system('id')", "x\nimport os", 'x"); import os #', "x'; DROP", "../../etc/passwd", "/etc/passwd", "a/b",
    "a\\b", "{{7*7}}", "{% raw %}", "\\input{/etc/passwd}", "$(id)", "`id`", "<script>", "*/ system(1); /*", "\u202eevil", "ﬁ", "x\0y",
    "", " ", ".", "..", "-rf", "a.b.c", "eval", "None", "__class__", "_x", "x__y", "%s", "x;y", "\r", "\x1b[2J", "COM1", "nul",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("place", ["name", "layer", "input", "size", "parameter", "state", "source", "target", "output", "unit",
                                   "shape", "activation", "init", "equation", "initial", "range"])  # fmt: skip
def test_hostile_strings_never_get_through(text: str, place: str) -> None:
    spec = yaml.safe_load(OWN)
    spec["layers"].append({"name": "out", "type": "dense", "units": "H"})
    cell, out = spec["layers"]
    match place:
        case "name":
            spec["name"] = text
        case "layer":
            cell["name"] = text
        case "input":
            spec["inputs"][text] = ["N"]
        case "size":
            spec["sizes"][text] = 3
        case "parameter":
            cell["parameters"][text] = ["H"]
        case "state":
            cell["states"][text] = ["T", "N", "H"]
        case "source":
            out["from"] = text
        case "target":
            spec["loss"]["target"] = text
        case "output":
            cell["output"] = text
        case "unit":
            out["units"] = text
        case "shape":
            spec["inputs"]["z"] = [text]
        case "activation":
            out["activation"] = text
        case "init":
            spec["init"] = {"out.W": text}
        case "equation":
            cell["equations"] += text + " = 1\n"
        case "initial":
            cell["states"]["h"] = {"shape": ["T", "N", "H"], "initial": text}
        case "range":
            cell["ranges"] = {text: 3}
    harmless = {
        ("eval", p) for p in ("layer", "input", "size", "parameter", "unit", "shape", "name", "equation", "range")
    }
    harmless |= {
        (t, p)
        for t in ("COM1", "nul")
        for p in ("layer", "input", "size", "parameter", "unit", "shape", "equation", "range")
    }
    harmless |= {(t, "equation") for t in ("", " ", "\r")}
    if (text, place) in harmless:
        return
    with pytest.raises(SpecError) as caught:
        load(spec)
    assert "\x1b" not in str(caught.value)
    assert "\u202e" not in str(caught.value).partition("\n")[0]


# ---- nothing but SpecError ---------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.floats(allow_nan=True), st.text(max_size=6),
    st.sampled_from(["x", "y", "h", "H", "T", "cell", "out", "T+1", "2*H", "N-N", "H/0", "floor(", "zero", "carry", "given", "tanh",
                     "equations", "dense", "lstm", "conv2d", "a[t,n,i] = 1", "h[t,n,i] = x[t,n,i]", "x = x", "loss", "mse"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["shape", "kind", "type"]), inner, max_size=3)
    ),
    max_leaves=6,
)

SEEDS = [
    yaml.safe_load(DENSE),
    yaml.safe_load(OWN),
    {
        "name": "net",
        "sizes": {"V": 7},
        "inputs": {"x": {"shape": ["T", "N"], "kind": "index", "below": "V"}, "y": ["T", "N", 3],
                   "len": {"shape": ["N"], "kind": "index", "below": "T+1"}},
        "layers": [
            {"name": "e", "type": "embedding", "classes": "V", "units": 5},
            {"name": "r", "type": "lstm", "units": 4, "state": "carry", "lengths": "len"},
            {"name": "o", "type": "dense", "units": 3, "from": ["r"]},
        ],
        "loss": [{"type": "mse", "target": "y", "weight": 0.5}, {"type": "mae", "target": "y", "prediction": "o"}],
        "optimizer": {"type": "adam", "rate": 0.1},
        "clip": {"type": "value", "limit": 1},
        "outputs": ["r"],
    },
]  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a value, depth first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, item in inner for place in places(item, (*at, key)))]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_spoilt_specs_raise_nothing_but_spec_errors(data: st.DataObject) -> None:
    spec = copy.deepcopy(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 3))):
        known = [place for place in places(spec) if place]
        if not known:
            break
        *path, last = data.draw(st.sampled_from(known))
        holder = spec
        for key in path:
            holder = holder[key]
        match data.draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                holder[last] = data.draw(VALUES)
            case "remove":
                del holder[last]
            case "add" if isinstance(holder, dict):
                holder[data.draw(st.text(max_size=4) | st.sampled_from(["from", "init", "shape", "units"]))] = (
                    data.draw(VALUES)
                )
            case _:
                holder.append(data.draw(VALUES))
    with contextlib.suppress(SpecError):
        load(spec).predict_program()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_spoilt_text_raises_nothing_but_spec_errors(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([DENSE, OWN, json.dumps(SEEDS[2])]))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 8)))
        text = (
            text[:start]
            + data.draw(st.text(max_size=4) | st.sampled_from(["\n", ":", "[", "&a", "*a", "- ", "'", "**"]))
            + text[end:]
        )
    with contextlib.suppress(SpecError):
        load("\n" + text)


@pytest.mark.parametrize("folder", [
    'a"""+str(1/0)+"""', "a\\unit", "a */ #error", "a'''b", "a\nb", "%a", "$a", "a`b`", "a;b", "a\u00e9",
])
def test_a_folder_reaches_no_source(folder: str) -> None:
    """The command in the headers of files names the folder; what is more than words is left out."""
    from codegen.pipeline import render

    spec = {"name": "m", "inputs": {"x": ["N", 2], "y": ["N", 2]}, "layers": [{"name": "d", "type": "dense", "units": 2}],
            "loss": {"type": "mse", "target": "y"}}
    for target in ("numpy", "c", "latex"):
        assert render(load(spec), target, out=folder) == render(load(spec), target)
        assert "plain/folder-1" in "".join(render(load(spec), target, out="plain/folder-1").values())
