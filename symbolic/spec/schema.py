"""The JSON Schema of a spec, for editors: made from the same classes of options that validate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from symbolic.spec import tables
from symbolic.spec.entries import InputOptions
from symbolic.spec.names import MAX_NAME

__all__ = ["schema"]

_NAME = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]*$", "maxLength": MAX_NAME}
_NAMED = {"type": "string", "pattern": r"^[A-Za-z]\w*(\.[A-Za-z]\w*)?$"}
_EXTENT = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a spec; keys in a fixed order."""
    definitions: dict[str, Any] = {}
    layers = [
        _member(
            kind, row.load().options, definitions, "layer", {"name": _NAME, "from": _from(kind)}, ["name"], row.summary
        )
        for kind, row in tables.layers().items()
    ]
    common = {"name": _NAME, "prediction": _NAMED, "target": _NAMED, "weight": {"type": "number"}}
    losses = [
        _member(kind, row.options, definitions, "loss", common, ["target"], row.summary)
        for kind, row in tables.losses().items()
    ]
    value = {
        "type": "object",
        "properties": {"name": _NAME, "prediction": _NAMED, "weight": {"type": "number"}},
        "required": ["prediction"],
        "additionalProperties": False,
    }
    loss = {"anyOf": [{**_NAMED, "description": "a tensor without axes that the equations compute"}, *losses, value]}
    own = _options(tables.layers()["equations"].load().options, definitions)["properties"]
    properties: dict[str, Any] = {
        "name": {**_NAME, "description": "names the files and functions"},
        "dtype": {"enum": ["float32", "float64"], "default": "float32"},
        "sizes": {
            "type": "object",
            "description": "a number fixes a size, null leaves it free",
            "additionalProperties": {"type": ["integer", "null"], "minimum": 1},
        },
        "functions": {
            "type": "array",
            "items": _NAME,
            "uniqueItems": True,
            "description": "names of smooth functions of one argument that stay unspecified: for derivations alone",
        },
        "inputs": {
            "type": "object",
            "additionalProperties": {
                "anyOf": [{"type": "array", "items": _EXTENT}, _options(InputOptions, definitions)]
            },
        },
        "layers": {"type": "array", "minItems": 1, "items": {"anyOf": layers}},
        "loss": {"anyOf": [loss, {"type": "array", "minItems": 1, "items": loss}]},
        "optimizer": _rule(tables.optimizers(), definitions, "optimizer"),
        "clip": _rule(tables.clips(), definitions, "clip"),
        "init": {
            "anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}],
            "description": "initialiser of all weights, or by parameter name",
        },
        "seed": {"type": "integer", "minimum": 0, "default": 0},
        "outputs": {"anyOf": [_NAMED, {"type": "array", "items": _NAMED}]},
        **own,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Chainrule spec",
        "type": "object",
        "properties": properties,
        "required": ["name"],
        "oneOf": [{"required": ["layers", "loss"]}, {"required": ["equations"]}],
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


def _from(kind: str) -> dict[str, Any]:
    choices: list[dict[str, Any]] = [_NAMED, {"type": "array", "items": _NAMED, "minItems": 1}]
    if kind == "equations":
        choices.append({"type": "object", "additionalProperties": _NAMED})
    return {"anyOf": choices}


def _options(options: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a class of options; the classes it uses go into ``definitions``."""
    made = options.model_json_schema(ref_template="#/$defs/{model}")
    definitions.update(made.pop("$defs", {}))
    made.pop("title", None)
    return made


def _member(
    kind: str,
    options: type[BaseModel],
    definitions: dict[str, Any],
    group: str,
    more: Mapping[str, Any],
    needed: list[str],
    summary: str,
) -> dict[str, Any]:
    """A reference to the schema of one type of layer, loss or rule."""
    made = _options(options, definitions)
    made["description"] = summary or made.get("description", "")
    made["properties"] = {"type": {"const": kind}, **more, **made.get("properties", {})}
    made["required"] = ["type", *needed, *made.get("required", ())]
    name = f"{group}_{kind}"
    definitions[name] = made
    return {"$ref": f"#/$defs/{name}"}


def _rule(rows: Mapping[str, Any], definitions: dict[str, Any], group: str) -> dict[str, Any]:
    members = [_member(kind, row.options, definitions, group, {}, [], row.reference) for kind, row in rows.items()]
    bare = [kind for kind, row in rows.items() if not any(f.is_required() for f in row.options.model_fields.values())]
    return {"anyOf": [*members, {"enum": bare}] if bare else members}
