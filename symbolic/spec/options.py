"""Holds plain data against a pydantic class of options, and words what does not fit: place, expected, found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from symbolic.errors import SpecError, nearest
from symbolic.spec.reading import Document, Place, show

__all__ = ["check_keys", "validate"]

Options = TypeVar("Options", bound=BaseModel)

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "list_type": "a list",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "nothing",
    "string_type": "text",
    "tuple_type": "a list",
}


_OTHER_WORDS = {
    "channels": ("units", "out_channels", "features"),
    "units": ("channels", "features", "out_features", "neurons", "hidden", "hidden_size", "size"),
    "rate": ("lr", "learning_rate", "step_size"),
}
"""Key -> what the same thing is called in another layer or elsewhere."""


def _meant(key: str, known: Sequence[str]) -> str:
    """``"; did you mean 'channels'?"``: a key with the same meaning, else one with nearly the same letters."""
    same = next((name for name in known if key in _OTHER_WORDS.get(name, ())), None)
    return f"; did you mean '{same}'?" if same else nearest(key, known)


def keys_of(options: type[BaseModel]) -> list[str]:
    """The keys that a class of options knows, in its order."""
    return [field.alias or name for name, field in options.model_fields.items()]


def check_keys(document: Document, place: Place, known: Iterable[str], what: str) -> None:
    """Refuse unknown keys of a mapping, with the nearest known one. Raises SpecError."""
    known = list(known)
    for key in document.get(place):
        if key not in known:
            raise document.error(
                f"expected the keys of {what} ({', '.join(known)}), found {show(key)}{_meant(key, known)}",
                (*place, key),
                key=True,
            )


def validate(
    options: type[Options], data: Any, document: Document, place: Place, what: str, also: Sequence[str] = ()
) -> Options:
    """An instance of ``options`` from plain data at ``place``; ``also`` lists keys that the caller has read itself.

    The data goes through JSON, so that lists serve as tuples while every other type stays strict.
    Raises SpecError for the first fault in the order of the text; an unknown key before the missing one it stands for.
    """
    try:
        return options.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise _worded(error, options, document, place, what, also) from None


def _worded(
    error: ValidationError, options: type[BaseModel], document: Document, place: Place, what: str, also: Sequence[str]
) -> SpecError:
    faults = error.errors(include_url=False, include_context=True)
    unknown = [fault for fault in faults if fault["type"] == "extra_forbidden"]
    if unknown:
        inner, key = _place(document, place, unknown[0]["loc"][:-1]), str(unknown[0]["loc"][-1])
        known = [*also, *keys_of(options)] if inner == place else _keys_near(options, unknown[0]["loc"][:-1])
        listed = f" ({', '.join(known)})" if known else ""
        return document.error(
            f"expected the keys of {what if inner == place else inner[-1]}{listed}, found {show(key)}"
            f"{_meant(key, known)}",
            (*inner, key),
            key=True,
        )
    missing = [fault for fault in faults if fault["type"] == "missing"]
    if missing:
        inner, key = _place(document, place, missing[0]["loc"][:-1]), str(missing[0]["loc"][-1])
        return document.error(f"expected the key '{key}' of {what}, found none; add it", (*inner, key))
    spot = _place(document, place, faults[0]["loc"])
    together = [fault for fault in faults if _place(document, place, fault["loc"]) == spot]
    value = document.get(spot)
    own = next((fault for fault in together if fault["type"] in ("value_error", "assertion_error")), None)
    if own is not None:
        return document.error(re.sub(r"^(Value|Assertion) error, ", "", own["msg"]), spot)
    wanted = " or ".join(dict.fromkeys(_expected(fault) for fault in together))
    names = [name for fault in together for name in _literals(fault)]
    near = nearest(value, names) if isinstance(value, str) else ""
    return document.error(f"expected {wanted}, found {show(value)}{near}", spot)


def _place(document: Document, place: Place, loc: Sequence[int | str]) -> Place:
    """The place that a pydantic location means: it also names the members of a union, which are no keys of the data."""
    for part in loc:
        value = document.get(place)
        in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if in_list or (isinstance(value, Mapping) and part in value):
            place = (*place, part)
    return place


def _keys_near(options: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """The keys of the class inside ``options`` that a location went through, as far as its schema tells."""
    schema = options.model_json_schema()
    for part in reversed(loc):
        found = schema.get("$defs", {}).get(part)
        if found:
            return list(found.get("properties", ()))
    return []


def _literals(fault: Any) -> list[str]:
    return re.findall(r"'([^']*)'", str(fault.get("ctx", {}).get("expected", "")))


def _expected(fault: Any) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind in ("literal_error", "enum"):
        return " or ".join(f"'{name}'" for name in _literals(fault)) or str(context.get("expected"))
    bounds = {"greater_than": "above", "greater_than_equal": "of at least", "less_than": "below"}
    bounds["less_than_equal"] = "of at most"
    if kind in bounds:
        limit = next((context[key] for key in ("gt", "ge", "lt", "le") if key in context), "")
        limit = int(limit) if isinstance(limit, float) and limit.is_integer() else limit
        return f"a number {bounds[kind]} {limit}"
    if kind in ("too_short", "too_long"):
        count, side = (
            (context.get("min_length"), "least") if kind == "too_short" else (context.get("max_length"), "most")
        )
        return f"at {side} {count} values"
    message = str(fault["msg"])
    return re.sub(r"^Input should be ", "", message)
