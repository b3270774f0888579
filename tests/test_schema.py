"""The JSON Schema agrees with what ``load`` takes: on the committed specs, and on specs that are wrong."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from symbolic import SpecError, load
from symbolic.layers import SUMMARIES
from symbolic.spec import schema

SPECS = sorted((Path(__file__).parent.parent / "specs").glob("*.yaml"))
SCHEMA = schema()
KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def fits(value: Any, rule: Any) -> bool:
    """A validator of just those keywords that the schema uses; an unknown keyword is an error of the test."""
    known = {"$schema", "title", "description", "default", "$defs"}
    for word, wanted in rule.items():
        match word:
            case "$ref":
                good = fits(value, SCHEMA["$defs"][wanted.removeprefix("#/$defs/")])
            case "type":
                kinds = wanted if isinstance(wanted, list) else [wanted]
                good = any(
                    isinstance(value, KINDS[k]) and (k == "boolean" or not isinstance(value, bool)) for k in kinds
                )
            case "const":
                good = value == wanted
            case "enum":
                good = value in wanted
            case "anyOf":
                good = any(fits(value, part) for part in wanted)
            case "oneOf":
                good = sum(fits(value, part) for part in wanted) == 1
            case "required":
                good = not isinstance(value, dict) or all(key in value for key in wanted)
            case "properties":
                good = not isinstance(value, dict) or all(fits(value[k], r) for k, r in wanted.items() if k in value)
            case "additionalProperties":
                rest = (
                    [v for k, v in value.items() if k not in rule.get("properties", {})]
                    if isinstance(value, dict)
                    else []
                )
                good = all(fits(v, wanted) for v in rest) if isinstance(wanted, dict) else wanted or not rest
            case "items":
                good = not isinstance(value, list) or all(
                    fits(item, wanted) for item in value[len(rule.get("prefixItems", ())) :]
                )
            case "prefixItems":
                good = not isinstance(value, list) or all(map(fits, value, wanted))
            case "minItems":
                good = not isinstance(value, list) or len(value) >= wanted
            case "maxItems":
                good = not isinstance(value, list) or len(value) <= wanted
            case "minLength":
                good = not isinstance(value, str) or len(value) >= wanted
            case "maxLength":
                good = not isinstance(value, str) or len(value) <= wanted
            case "pattern":
                good = not isinstance(value, str) or re.search(wanted, value) is not None
            case "minimum":
                good = not isinstance(value, int | float) or value >= wanted
            case "maximum":
                good = not isinstance(value, int | float) or value <= wanted
            case "exclusiveMinimum":
                good = not isinstance(value, int | float) or value > wanted
            case "exclusiveMaximum":
                good = not isinstance(value, int | float) or value < wanted
            case _:
                assert word in known, f"unknown keyword {word}"
                good = True
        if not good:
            return False
    return True


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_committed_specs_fit(path: Path) -> None:
    assert fits(yaml.safe_load(path.read_text(encoding="utf-8")), SCHEMA)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("layers", 0, "type"), "densee"),
        (("layers", 0, "unitz"), 3),
        (("layers", 0, "units"), 0),
        (("layers", 0, "units"), True),
        (("layers", 0, "name"), "a b"),
        (("layers",), []),
        (("layers",), None),
        (("inputs", "x"), 4),
        (("inputs", "x"), [0]),
        (("inputs", "x"), {"shape": [4], "kind": "indx"}),
        (("sizes",), {"H": 0}),
        (("loss", "type"), "mze"),
        (("loss",), []),
        (("loss", "reduction"), "none"),
        (("optimizer",), {"type": "adam", "rate": -1}),
        (("optimizer",), {"type": "adm"}),
        (("clip",), {"type": "value"}),
        (("clip",), "value"),
        (("dtype",), "float16"),
        (("name",), "1"),
        (("names",), "x"),
        (("seed",), -1),
        (("outputs",), [3]),
    ],
)
def test_what_load_refuses_the_schema_refuses(place: tuple[str | int, ...], value: object) -> None:
    spec = yaml.safe_load(next(path for path in SPECS if path.stem == "mlp").read_text(encoding="utf-8"))
    assert fits(spec, SCHEMA)
    spoilt: Any = copy.deepcopy(spec)
    holder = spoilt
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    with pytest.raises(SpecError):
        load(spoilt)
    assert not fits(spoilt, SCHEMA)


@pytest.mark.parametrize(
    "more",
    [
        {"optimizer": "adam"},
        {"optimizer": {"type": "sgd"}},
        {"init": {"out.W": "zeros", "default": "he_uniform"}},
        {"init": "glorot_uniform"},
        {"outputs": "fc1"},
        {"outputs": ["fc1", "fc2.a"]},
        {"loss": [{"type": "softmax_cross_entropy", "target": "y", "weight": 2, "name": "first"}]},
    ],
)
def test_what_load_takes_the_schema_takes(more: dict[str, Any]) -> None:
    spec = yaml.safe_load(next(path for path in SPECS if path.stem == "mlp").read_text(encoding="utf-8")) | more
    load(spec)
    assert fits(spec, SCHEMA)


def test_every_type_is_in_the_schema() -> None:
    for kind in SUMMARIES:
        assert SCHEMA["$defs"][f"layer_{kind}"]["properties"]["type"] == {"const": kind}


def test_references_resolve_and_the_schema_is_json() -> None:
    text = json.dumps(SCHEMA)
    assert all(name in SCHEMA["$defs"] for name in re.findall(r'"#/\$defs/([^"]+)"', text))
    assert json.dumps(schema()) == text
