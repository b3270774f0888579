"""Prints the catalogue: every entry is its equations, so that is what is shown."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from symbolic.errors import ChainruleError, listed, nearest

__all__ = ["print_catalogue", "print_entry"]


def print_catalogue() -> None:
    """One line for each layer, loss, optimiser, clipping rule and initialiser."""
    from symbolic.layers import SUMMARIES

    width = max(map(len, SUMMARIES))
    print("Layers")
    for name, (_, summary) in SUMMARIES.items():
        print(f"  {name:<{width}}  {summary}")
    for title, table in _others().items():
        print(f"\n{title}")
        print(textwrap.fill(", ".join(table), 100, initial_indent="  ", subsequent_indent="  "))
    print("\nEquations, shapes and options of one entry: chainrule layers NAME")


def print_entry(name: str) -> None:
    """Everything about one entry. Raises ChainruleError with the nearest name for an unknown one."""
    from symbolic.layers import SUMMARIES

    if name in SUMMARIES:
        _print_layer(name)
        return
    others = _others()
    for title, table in others.items():
        if name in table:
            _print_row(name, {"Losses": "loss"}.get(title, title.lower().rstrip("s")), table[name])
            return
    known = [*SUMMARIES, *(entry for table in others.values() for entry in table)]
    raise ChainruleError(f"expected an entry of the catalogue, found '{name}'{nearest(name, known)}"
                         f"{listed(known, len(known))}")


def _others() -> dict[str, Mapping[str, Any]]:
    from symbolic.initialisers import INITIALISERS
    from symbolic.losses import LOSSES
    from symbolic.optimizers import CLIPS, OPTIMIZERS

    return {"Losses": LOSSES, "Optimizers": OPTIMIZERS, "Clipping rules": CLIPS, "Initialisers": INITIALISERS}


def _print_layer(name: str) -> None:
    from symbolic.layers import LAYERS
    from symbolic.layers.base import Context

    row = LAYERS[name]
    layer = row.load()
    print(f"{name}: {row.summary}\n")
    print(f"{(import_module(row.module).__doc__ or '').strip()}\n")
    inputs = tuple(_input(f"x{k}" if k else "x", text) for k, text in enumerate(layer.example_inputs))
    sizes = _sizes(layer.example, inputs)
    options = layer.options.model_validate(dict(layer.example))
    block = layer.build(options, inputs, Context(name, sizes, {t.name: t for t in inputs}))
    given = "".join(f", {key}: {_plain(value)}" for key, value in layer.example.items())
    print(f"Example: {{type: {name}{given}}} on " + ", ".join(map(_shape, inputs)))
    for parameter, declared in block.parameters.items():
        start = f"  init {declared.init}" if declared.init != "default" else ""
        print(f"  {parameter} [{', '.join(map(str, declared.shape))}]  parameter{start}")
    for state, declaration in block.states.items():
        print(f"  {state} [{', '.join(map(str, declaration.shape))}]  state, initially {declaration.initial}")
    equations = _with_extents(block.equations.strip(), block.sizes)
    above = re.split(r"\n| {3,}", import_module(row.module).__doc__ or "")
    if not set(map(_bare, equations.splitlines())) <= set(map(_bare, above)):
        print(textwrap.indent(equations, "    "))
    print(f"  gives {block.output}\n")
    _print_options(layer.options)
    print(f"Reference: {layer.reference}")


def _with_extents(text: str, sizes: Mapping[str, Any]) -> str:
    """Equations with the extents of the example for sizes of the layer's own."""
    for name, extent in sizes.items():
        text = re.sub(rf"\b{name}\b", str(extent) if extent.is_Atom else f"({extent})", text)
    return text


def _bare(line: str) -> str:
    """An equation without what does not change it."""
    return re.sub(r"\s|\+0(?=\])", "", line)


def _print_row(name: str, what: str, row: Any) -> None:
    about = getattr(row, "summary", "") or what
    print(f"{name}: {about}\n")
    if text := _equations(name, what, row):
        print(textwrap.indent(text.strip(), "    ") + "\n")
    if hasattr(row, "options"):
        _print_options(row.options, _OF_EVERY_LOSS if what == "loss" else ())
    if row.reference:
        print(f"Reference: {row.reference}")


_OF_EVERY_LOSS = (
    "prediction  text  (default the last layer): name of a layer or tensor",
    "target  text  (required): name of an input",
    "weight  number  (default 1): factor in the sum of several losses",
    "name  text  (default loss; of several loss_1, loss_2, ...): the tensor that holds it",
)
"""What the spec reads itself, beside the options of each loss."""


def _equations(name: str, what: str, row: Any) -> str:
    """The equations (of an initialiser: its words in a spec, and the source) of a row, on an example where it needs one."""
    if what == "initialiser":
        given = f"({', '.join(row.arguments)})" if row.arguments else ""
        usual = ", ".join(f"{key} {value:g}" for key, value in row.arguments.items() if value is not None)
        quote = '"' if "," in given else ""  # inside braces a comma of YAML's ends the value
        return (f"init: {{default: {quote}{name}{given}{quote}}}{f'    left out: {usual}' if usual else ''}\n\n"
                f"as Python:\n\n{textwrap.indent(textwrap.dedent(row.source), '    ')}")
    if what == "loss":
        from symbolic.layers.base import Context

        x, y = (_input(tensor, shape) for tensor, shape in zip("xy", row.example_inputs, strict=True))
        block = row.build(row.options(), x, y, Context(name, _sizes({}, (x, y)), {"x": x, "y": y}))
        return f"on {_shape(x)} and y {_shape(y)[2:]}\n{block.equations}"
    needed = {key: 1.0 for key, field in row.options.model_fields.items() if field.is_required()}
    made = row.build(row.options(**needed))
    return "\n".join(text for text in (getattr(made, "total", ""), getattr(made, "scale", ""), made.equations) if text)


def _print_options(options: Any, further: Iterable[str] = ()) -> None:
    """The options from their JSON Schema: the same text that an editor shows; ``further``: lines of options beside it."""
    schema = options.model_json_schema()
    required = set(schema.get("required", ()))
    properties = schema.get("properties", {})
    if not properties and not further:
        print("No options.")
        return
    about = inspect.cleandoc(options.__doc__ or "")
    print("Options" + (f": {about}" if about else ""))
    for key, value in properties.items():
        default = "required" if key in required else f"default {_plain(value.get('default'))}"
        print(f"  {key}  {_kind(value)}  ({default})")
    for line in further:
        print(f"  {line}")
    print()


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_kind(part) for part in schema["anyOf"]))
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    names = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "null": "none",
             "array": "list", "object": "mapping"}
    return names.get(str(schema.get("type")), "value")


def _plain(value: Any) -> str:
    """A value as YAML writes it."""
    import json

    if value is None:
        return "none"
    return str(value) if isinstance(value, str) else json.dumps(value)


def _input(name: str, text: str) -> Any:
    """An input from its shape as text: ``T, N below V`` is an index tensor."""
    from symbolic.program import Kind, Role, Tensor

    shape, _, below = text.partition(" below ")
    names = _names(text)
    extents = tuple(_extent(part.strip(), names) for part in shape.split(",") if part.strip())
    if below:
        return Tensor(name, extents, Role.INPUT, Kind.INDEX, below=_extent(below.strip(), names))
    return Tensor(name, extents, Role.INPUT)


def _extent(text: str, names: set[str]) -> Any:
    from symbolic.parser import parse_extent
    from symbolic.program import size

    return parse_extent(text, {name: size(name) for name in names})


def _names(text: str) -> set[str]:
    return {name for name in re.findall(r"[A-Za-z]\w*", text) if name != "below"}


def _sizes(example: Mapping[str, Any], inputs: tuple[Any, ...]) -> dict[str, Any]:
    """The sizes that an example's inputs and options name."""
    from symbolic.program import size

    names: set[str] = set()
    for tensor in inputs:
        for extent in (*tensor.shape, *([tensor.below] if tensor.below is not None else [])):
            names |= {str(symbol) for symbol in extent.free_symbols}
    stack: list[Any] = list(example.values())
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            stack += value.values()
        elif isinstance(value, list | tuple):
            stack += value
        elif isinstance(value, str) and "=" not in value and "[" not in value:
            names |= {name for name in _names(value) if name[0].isupper()}
    return {name: size(name) for name in sorted(names)}


def _shape(tensor: Any) -> str:
    below = f" below {tensor.below}" if tensor.below is not None else ""
    return f"{tensor.name} [{', '.join(map(str, tensor.shape))}]{below}"
