"""What a layer is: equation text, the tensors it declares, and nothing else.

A layer file has a pydantic class of options (its fields are the keys of that layer in a spec, apart from ``name``,
``type`` and ``from``, which the spec itself reads) and a function ``build(options, inputs, context) -> Block``. A Block
is text in the layer's own local names; the model puts the layer's name before each of them, parses the text with the
same parser that reads a user's own equations, and knows nothing else about layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Annotated, Any, Literal

import sympy as sp
from pydantic import BaseModel, ConfigDict, Field
from sympy import Expr

from symbolic.errors import Location, SpecError, listed, nearest
from symbolic.program import Tensor, size

__all__ = [
    "Block",
    "Context",
    "Extent",
    "Inits",
    "Layer",
    "LayerOptions",
    "LayerType",
    "Matrix",
    "Parameter",
    "State",
    "Weights",
    "at",
    "batch",
    "final_name",
    "final_text",
    "initial_name",
    "initial_text",
    "leading",
    "parameters",
    "scalar",
]

Extent = Annotated[int, Field(ge=1)] | str
"""A size in a spec: a number, or an integer expression of sizes (``H``, ``2*H``, ``floor((L-K)/S)+1``)."""

Inits = str | dict[str, str]
"""The ``init:`` of a layer: an initialiser for its weights (rank 2 and more), or one for each parameter by name."""


Weights = Literal["out_in", "in_out"]
"""How a layer stores its matrices: [out, in], as torch does (``W[i,k]*x[k]``), or [in, out], the transposed (``W[k,i]*x[k]``)."""


class LayerOptions(BaseModel):
    """Base of every layer's options: unknown keys and wrong types are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


@dataclass(frozen=True)
class Parameter:
    """A trained tensor of a layer: its shape and the text of its initialiser (see ``symbolic.initialisers``).

    ``transposed``: a matrix that is stored [in, out]; its initialiser makes the one that is [out, in].
    """

    shape: tuple[Expr, ...]
    init: str = "default"
    transposed: bool = False


@dataclass(frozen=True)
class Matrix:
    """A matrix of weights in equation text: ``W("i", "k")`` is ``W[i,k]``, or ``W[k,i]`` where it is stored [in, out].

    All that is to know of ``weights: in_out`` is here; the shape of a gate's part follows from its subscript.
    """

    name: str
    weights: Weights = "out_in"

    def __call__(self, out: str, into: str) -> str:
        return at(self.name, *self._stored(out, into))

    def parameter(self, out: Expr, into: Expr, init: str) -> Parameter:
        """Its declaration: how many rows of the map it has (``out``), and how many columns."""
        return Parameter(self._stored(out, into), init, self.weights == "in_out")

    def _stored(self, out: Any, into: Any) -> tuple[Any, Any]:
        return (into, out) if self.weights == "in_out" else (out, into)


@dataclass(frozen=True)
class State:
    """A recurrent tensor, read at ``axis`` one or more steps back (ahead where ``reverse``).

    ``shape`` includes the time axis. ``initial``: ``zero`` (zero extension does it: no margin, no tensor), ``given``
    (an input), ``carry`` (an input, linked to the final state, which becomes an output), ``learned`` (a parameter), or
    the name of an input of the model. ``start`` and ``final`` are equation texts over the initial state (``h0``) and
    the carried one (``hT``) that replace :func:`initial_text` and :func:`final_text`; a state with a ``start`` needs no
    margin.
    """

    shape: tuple[Expr, ...]
    initial: str = "zero"
    axis: int = 0
    lag: int = 1
    reverse: bool = False
    start: str = ""
    final: str = ""

    @property
    def learned(self) -> bool:
        """Whether the initial state is trained (and shared by the batch)."""
        return self.initial == "learned"


@dataclass(frozen=True)
class Block:
    """The equations of one layer.

    ``equations``: equation text in local names. ``output``: the local name of the output tensor. ``inputs``: local name
    -> tensor that exists already. ``shapes``: shapes of intermediate tensors that bare subscripts alone do not give (a
    concatenation written in two slices). ``sizes``: local name -> extent. ``ranges``: index -> extent, or (lower,
    upper), for indices that no bare subscript fixes. ``below``: index input -> a bound that its entries must keep beside
    their own, as the equations need it and free sizes decide whether it is kept.
    """

    equations: str
    output: str
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)
    shapes: Mapping[str, tuple[Expr, ...]] = field(default_factory=dict)
    sizes: Mapping[str, Expr] = field(default_factory=dict)
    ranges: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    below: Mapping[str, Expr] = field(default_factory=dict)


def _nowhere(_: str) -> Location | None:
    return None


@dataclass(frozen=True)
class Context:
    """What a layer may ask of its model while it is built.

    ``name``: the layer's name. ``sizes``: the spec's sizes, and ``fixed`` the values of those that have one (as in
    ``symbolic.parser.Scope``), ``functions`` those that it leaves unspecified. ``tensors``: what an option may name (inputs
    of the model, outputs of earlier layers).
    ``path`` and ``locate``: where the layer stands in the spec, for errors.
    """

    name: str = "layer"
    sizes: Mapping[str, Expr] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    fixed: Mapping[Any, int] = field(default_factory=dict)
    functions: tuple[str, ...] = ()
    path: str = ""
    locate: Callable[[str], Location | None] = _nowhere

    def extent(self, value: int | str, key: str) -> Expr:
        """The extent that an option gives. Raises SpecError where it is no integer expression of sizes."""
        from symbolic.parser import parse_extent

        try:
            return sp.sympify(parse_extent(value, self.sizes, self.locate(key)))
        except SpecError as error:
            raise error.at(self.locate(key), self.at(key)) from None

    def value(self, extent: Any) -> Expr:
        """An extent with the sizes of known value put in."""
        return sp.sympify(extent).xreplace(dict(self.fixed))

    def share(self, extent: Expr, parts: Expr, what: str, key: str) -> Expr:
        """``extent/parts``, an integer. Raises SpecError where that is not sure."""
        share = extent / parts
        if share.is_integer:
            return share
        if self.value(share).is_integer:
            return sp.floor(share)
        raise self.error(f"expected {what} of an extent that {parts} divides, found {extent}", key)

    def tensor(self, name: str, key: str) -> Tensor:
        """The tensor that an option names. Raises SpecError where there is none."""
        try:
            return self.tensors[name]
        except KeyError:
            hint = nearest(name, self.tensors) + listed(self.tensors)
            raise self.error(f"expected the name of an input, found '{name}'{hint}", key) from None

    def real(self, tensor: Tensor, least: int, most: int | None = None) -> None:
        """Require real numbers of a rank in a range. Raises SpecError."""
        found = f"'{tensor.name}' of shape [{', '.join(map(str, tensor.shape))}]"
        if tensor.is_index:
            raise self.error(f"expected real numbers, found the index tensor {found}; put one_hot or embedding first")
        if tensor.rank < least or (most is not None and tensor.rank > most):
            axes = f"{least}" if most == least else f"{least} to {most}" if most else f"at least {least}"
            raise self.error(f"expected an input with {axes} axes, found {found}")

    def classes(self, tensor: Tensor, given: int | str | None) -> Expr:
        """The number of classes of an index tensor: the option ``classes``, else the tensor's ``below``. Raises
        SpecError."""
        if not tensor.is_index:
            raise self.error(f"expected an index tensor, found the real tensor '{tensor.name}'; declare it with "
                             "kind: index, below: ...")
        if given is None:
            if tensor.below is None:
                raise self.error(f"expected the number of classes, as '{tensor.name}' has no 'below'", "classes")
            return tensor.below
        classes = self.extent(given, "classes")
        if tensor.below is not None and self.value(classes - tensor.below).is_negative:
            raise self.error(f"expected at least {tensor.below} classes, as '{tensor.name}' is below {tensor.below}, "
                             f"found {classes}", "classes")
        return classes

    def lengths(self, tensor: Tensor, steps: Expr) -> None:
        """Require the lengths of sequences of so many steps: entries from 0 to ``steps``. Raises SpecError."""
        if tensor.below is None or sp.expand(self.value(tensor.below - steps - 1)) != 0:
            raise self.error(f"expected lengths from 0 to {steps} (below: {sp.sympify(steps) + 1}), found '{tensor.name}' "
                             f"below {tensor.below}", "lengths")

    def at(self, key: str) -> str:
        """The path of one of the layer's keys (``layers[1].units``)."""
        return f"{self.path}.{key}" if self.path and key else self.path or key

    def error(self, message: str, key: str = "") -> SpecError:
        """A SpecError at one of the layer's keys, for the caller to raise."""
        return SpecError(message, where=self.locate(key), path=self.at(key))


Build = Callable[[Any, tuple[Tensor, ...], Context], Block]


@dataclass(frozen=True)
class Layer:
    """A loaded entry of the catalogue.

    ``inputs``: the least and the greatest number of inputs (``None``: any). ``example`` and ``example_inputs`` build
    one instance to show: options, and for each input its shape (an integer tensor where the text ends in ``below
    ...``).
    """

    options: type[LayerOptions]
    build: Build
    reference: str
    inputs: tuple[int, int | None] = (1, 1)
    example: Mapping[str, Any] = field(default_factory=dict)
    example_inputs: tuple[str, ...] = ("N, D",)


@dataclass(frozen=True)
class LayerType:
    """A row of the catalogue: a type name of a spec, the module that has its equations, and one line about it."""

    name: str
    module: str
    summary: str

    def load(self) -> Layer:
        """Import the module and take the layer from its ``CATALOGUE``."""
        layer: Layer = import_module(self.module).CATALOGUE[self.name]
        return layer


def parameters(own: Mapping[str, Parameter], inits: Inits, context: Context) -> dict[str, Parameter]:
    """A layer's parameters with the initialisers that the spec asks for. Raises SpecError for an unknown parameter."""
    if isinstance(inits, str):
        return {name: replace(p, init=inits) if len(p.shape) > 1 else p for name, p in own.items()}
    for name in inits:
        if name not in own:
            raise context.error(f"expected a parameter of this layer ({', '.join(own) or 'it has none'}), found "
                                f"'{name}'{nearest(name, own)}", f"init.{name}")
    return {name: replace(p, init=inits.get(name, p.init)) for name, p in own.items()}


def scalar(value: float) -> str:
    """A number as equation text that parses back to the same number."""
    return repr(int(value)) if float(value).is_integer() else repr(float(value))


def leading(shape: Sequence[Expr]) -> tuple[str, ...]:
    """Index names of leading axes with these extents: ``()``, ``(n,)``, ``(t, n)``, ``(t, n, m)``, ...; a single axis of extent T
    is that of time, ``(t,)``."""
    if len(shape) == 1:
        return ("t",) if shape[0] == size("T") else ("n",)
    return ("t", *batch(len(shape) - 1)) if shape else ()


def batch(count: int) -> tuple[str, ...]:
    """Index names of ``count`` axes of a batch: ``()``, ``(n,)``, ``(n, m)``, ..."""
    return tuple("nmlqvw"[axis] if axis < 6 else f"n{axis}" for axis in range(count))


def at(name: str, *subscripts: str) -> str:
    """``name[t,n,i]``, or the bare name for rank 0."""
    return f"{name}[{','.join(subscripts)}]" if subscripts else name


def initial_name(state: str) -> str:
    """The name of a state's initial tensor: ``h`` has ``h0``, ``h_2`` has ``h0_2``."""
    stem, mark, level = state.partition("_")
    return f"{stem}0{mark}{level}"


def final_name(state: str) -> str:
    """The name of a carried state's final tensor: ``h`` has ``hT``, ``h_2`` has ``hT_2``."""
    stem, mark, level = state.partition("_")
    return f"{stem}T{mark}{level}"


def _others(state: State) -> tuple[str, ...]:
    """Index names of the axes of a state other than the one it recurs over; the last one is ``i``."""
    count = len(state.shape) - 1
    return (*batch(count - 1), "i") if count else ()


def initial_text(name: str, state: State, extent: str = "T") -> str:
    """The equation that puts the initial state in the margin: ``h[-1,n,i] += h0[n,i]``, or in reverse ``h[T,n,i]``.

    ``extent`` is the local name of the size of the recurrent axis. A learned initial state is shared by the batch: it
    has the last axis alone. With a lag L > 1 the initial state has a first axis of L steps, oldest first.
    """
    if state.start:
        return state.start
    others = list(_others(state))
    if state.lag > 1:
        step = f"{extent}+l" if state.reverse else f"l-{state.lag}"
        front = ["l"]
    else:
        step = extent if state.reverse else "-1"
        front = []
    target = [*others]
    target.insert(state.axis, step)
    source = front + (others[-1:] if state.learned else others)
    return f"{at(name, *target)} += {at(initial_name(name), *source)}"


def final_text(name: str, state: State, extent: str = "T") -> str:
    """The equation of the carried state: ``hT[n,i] = h[T-1,n,i]``, or in reverse ``h[0,n,i]``."""
    if state.final:
        return state.final
    others = list(_others(state))
    if state.lag > 1:
        step, front = ("l+0", ["l"]) if state.reverse else (f"{extent}-{state.lag}+l", ["l"])
    else:
        step, front = ("0" if state.reverse else f"{extent}-1"), []
    source = [*others]
    source.insert(state.axis, step)
    return f"{at(final_name(name), *front, *others)} = {at(name, *source)}"
