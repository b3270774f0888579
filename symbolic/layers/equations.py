"""Your own equations: a layer, a recurrence, or a whole model in index notation.

    parameters: {W: [H, D], U: [H, H], b: {shape: [H], init: zeros}}
    states: {h: [T, N, H]}
    equations: |
      a[t,n,i] = W[i,k]*x[t,n,k] + U[i,j]*h[t-1,n,j] + b[i]
      h[t,n,i] = tanh(a[t,n,i])
    output: h

``x`` is the layer's input; the model's inputs and earlier layers go by their own names, any tensor of an earlier
layer by its dotted name (``rnn.a``); ``from: {z: embed}`` gives names. A state starts at zero, or at ``initial: given
| carry | learned`` or the name of an input; ``lag: 2`` where it is read two steps back from a start that is not zero;
``reverse: true`` where it is read ahead. ``shapes`` declares tensors whose axes no bare subscript fixes, ``ranges``
such indices.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from symbolic.layers.base import Block, Context, Extent, Layer, LayerOptions, Parameter, State, initial_name
from symbolic.program import Tensor

REFERENCE = "Einstein 1916 (summation convention)"

Shape = Annotated[list[Extent], Field(max_length=12)]
Bounds = Annotated[list[int | str], Field(min_length=2, max_length=2)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    shape: Shape


class ParameterOptions(_Part):
    """A parameter: ``shape``, and ``init``, the name of an initialiser."""

    init: str = "default"


class StateOptions(_Part):
    """A state: ``shape``, where it starts, the axis it recurs over, how many steps back it is read, its direction."""

    initial: str = "zero"
    axis: Annotated[int, Field(ge=0, le=11)] = 0
    lag: Annotated[int, Field(ge=1, le=1000)] = 1
    reverse: bool = False


class Options(LayerOptions):
    """``parameters``, ``states``, ``shapes``: name -> shape, or a mapping with more.

    ``ranges``: index -> extent, or [from, below]. ``output``: the tensor that goes on; the target of the last equation.
    """

    equations: Annotated[str, Field(min_length=1)]
    output: str | None = None
    parameters: dict[str, ParameterOptions | Shape] = Field(default_factory=dict)
    states: dict[str, StateOptions | Shape] = Field(default_factory=dict)
    shapes: dict[str, Shape] = Field(default_factory=dict)
    ranges: dict[str, Extent | Bounds] = Field(default_factory=dict)


def build(options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    """Whatever the equations say; ``output`` defaults to the target of the last one."""
    _readable(options.equations, context)
    visible = dict(context.tensors)
    if "x" not in visible and inputs and re.search(r"(?<![\w.])x(?![\w.])", _without_comments(options.equations)):
        raise context.error(
            f"'x' could be the input 'x' or the layer before, '{inputs[0].name}'; say from: {{x: ...}}", "equations"
        )
    parameters = {}
    for name, given in options.parameters.items():
        place = f"parameters.{name}"
        part = ParameterOptions(shape=given) if isinstance(given, list) else given
        parameters[name] = Parameter(_shape(part.shape, place, not isinstance(given, list), context), part.init)
    states = {}
    for name, start in options.states.items():
        place = f"states.{name}"
        kept = StateOptions(shape=start) if isinstance(start, list) else start
        shape = _shape(kept.shape, place, not isinstance(start, list), context)
        if kept.axis >= len(shape):
            raise context.error(
                f"expected an axis of '{name}' (0 to {len(shape) - 1}), found {kept.axis}", f"{place}.axis"
            )
        states[name] = State(shape, kept.initial, kept.axis, kept.lag, kept.reverse)
    shapes = {name: _shape(extents, f"shapes.{name}", False, context) for name, extents in options.shapes.items()}
    _apart({"parameter": parameters, "state": states, "shape": shapes}, visible, context)
    return Block(
        options.equations,
        _last_target(options.equations) if options.output is None else options.output,
        visible,
        parameters,
        states,
        shapes,
        context.sizes,
        {name: _range(value, name, context) for name, value in options.ranges.items()},
        REFERENCE,
    )


def _shape(extents: Iterable[int | str], place: str, long: bool, context: Context) -> tuple[Any, ...]:
    base = f"{place}.shape" if long else place
    return tuple(context.extent(extent, f"{base}[{axis}]") for axis, extent in enumerate(extents))


def _readable(text: str, context: Context) -> None:
    """Equations stand in comments of generated code: nothing may hide there, and lines must be what they seem."""
    for number, line in enumerate(text.split("\n"), 1):
        plain = line.partition("#")[0]
        for letter in line:
            if not letter.isprintable() and letter not in "\t\r":
                raise context.error(
                    f"expected printable text, found the character U+{ord(letter):04X} in line {number}", "equations"
                )
        if not plain.isascii():
            letter = next(letter for letter in plain if not letter.isascii())
            raise context.error(
                f"expected ASCII outside comments, found the character U+{ord(letter):04X} in line {number}",
                "equations",
            )


def _range(value: int | str | list[int | str], name: str, context: Context) -> Any:
    if not isinstance(value, list):
        return context.extent(value, f"ranges.{name}")
    return tuple(context.extent(bound, f"ranges.{name}[{k}]") for k, bound in enumerate(value))


def _apart(groups: dict[str, Any], visible: dict[str, Tensor], context: Context) -> None:
    """Every name means one thing. An input or a layer hidden behind a name of this layer would be read by mistake."""
    seen: dict[str, str] = {}
    for what, names in groups.items():
        for name in names:
            if name in seen:
                raise context.error(
                    f"expected each name once, found '{name}' as {seen[name]} and as {what}", f"{what}s.{name}"
                )
            if name in visible:
                raise context.error(
                    f"expected a name of its own, found '{name}', which means {_meaning(name, visible[name])} here; "
                    "rename one",
                    f"{what}s.{name}",
                )
            seen[name] = what
    for name, state in groups["state"].items():
        if state.initial in ("given", "carry", "learned") and initial_name(name) in seen:
            raise context.error(
                f"expected no tensor '{initial_name(name)}', which is the initial state of '{name}'; rename it",
                f"{seen[initial_name(name)]}s.{initial_name(name)}",
            )


def _meaning(name: str, tensor: Tensor) -> str:
    return f"the {tensor.role} '{tensor.name}'" if tensor.name != name else f"an {tensor.role} of the model"


def _without_comments(text: str) -> str:
    return re.sub(r"#[^\n]*", "", text)


def _last_target(text: str) -> str:
    """The name that the last equation defines; empty where the text is none, of which the parser speaks."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    match statements[-1] if statements else None:
        case ast.Assign(targets=[target]) | ast.AugAssign(target=target):
            base = target.value if isinstance(target, ast.Subscript) else target
            return base.id if isinstance(base, ast.Name) else ""
    return ""


CATALOGUE = {
    "equations": Layer(
        Options,
        build,
        REFERENCE,
        (0, None),
        example={"parameters": {"W": ["H", "D"]}, "equations": "y[n,i] = W[i,k]*x[n,k]", "output": "y"},
    )
}
