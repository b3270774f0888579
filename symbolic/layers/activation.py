"""Activations, as layers and as the ``activation:`` of other layers: one row each, with torch's defaults.

Every formula stays finite where its value is (``expm1(min2(x, 0))`` never sees a large x), and has torch's slope at its
kinks: leaky_relu, prelu, elu, selu and celu take the left slope at 0, relu 0; hard_tanh, hard_sigmoid and
thresholded_relu have slope 0 at their corners. softmax, log_softmax and glu work along one axis and are written
plainly: that log(sum(exp(x))) must not overflow is a rewrite's task, for these as for a user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import sympy as sp
from pydantic import Field, ValidationError, create_model

from symbolic.errors import nearest
from symbolic.layers.base import Block, Context, Layer, LayerOptions, Parameter, at, leading, scalar
from symbolic.program import Tensor

__all__ = ["ACTIVATIONS", "CATALOGUE", "Activation", "Applied", "apply", "elementwise"]

Activation = str | dict[str, Any]
"""The ``activation:`` of a spec: a name, or ``{type: leaky_relu, slope: 0.2}``."""


@dataclass(frozen=True)
class Applied:
    """An activation written out: its equations and what they declare."""

    equations: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=dict)
    ranges: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """Where an activation is applied: from ``source[names]`` of ``shape`` to ``target[names]``; ``axis`` counts from
    0."""

    source: str
    target: str
    names: tuple[str, ...]
    shape: tuple[Any, ...]
    options: Mapping[str, Any]
    context: Context
    key: str
    axis: int = 0

    def along(self, subscript: str) -> tuple[str, ...]:
        """The subscripts with another one at the axis."""
        return (*self.names[: self.axis], subscript, *self.names[self.axis + 1 :])

    @property
    def others(self) -> tuple[str, ...]:
        """The indices of the other axes."""
        return (*self.names[: self.axis], *self.names[self.axis + 1 :])


@dataclass(frozen=True)
class Row:
    """One activation.

    ``text``: a template over ``{x}`` and its options for one that works entry by entry, else a function that writes the
    equations at a site. ``options``: name -> (type, default).
    """

    text: str | Callable[[Site], Applied]
    reference: str
    options: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    form: str = ""


def _exponentials(site: Site) -> tuple[str, str, str]:
    """The entries e = exp(x) and s = sum(e) along the axis, and the equations that give them."""
    e, s = at("e", *site.names), at("s", *site.others)
    return e, s, f"{e} = exp({at(site.source, *site.names)})\n{s} = sum({e}, over={site.names[site.axis]})"


def _softmax(site: Site) -> Applied:
    e, s, equations = _exponentials(site)
    return Applied(f"{equations}\n{at(site.target, *site.names)} = {e}/{s}")


def _log_softmax(site: Site) -> Applied:
    _, s, equations = _exponentials(site)
    return Applied(f"{equations}\n{at(site.target, *site.names)} = {at(site.source, *site.names)} - log({s})")


def _glu(site: Site) -> Applied:
    half = site.context.share(site.shape[site.axis], sp.Integer(2), "an axis for glu", site.key)
    first, second = (at(site.source, *site.along(subscript)) for subscript in ("j+0", "G+j"))
    return Applied(f"{at(site.target, *site.along('j'))} = {first}*sigmoid({second})", sizes={"G": half},
                   ranges={"j": half})


def _prelu(site: Site) -> Applied:
    shared = site.options["shared"]
    x = at(site.source, *site.names)
    slope = at("slope", *(() if shared else (site.names[site.axis],)))
    extent = () if shared else (site.shape[site.axis],)
    return Applied(f"{at(site.target, *site.names)} = relu({x}) + {slope}*min2({x}, 0)",
                   {"slope": Parameter(extent, f"constant({scalar(site.options['slope'])})")})


_AXIS = {"axis": (int, -1)}
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

ACTIVATIONS: Mapping[str, Row] = MappingProxyType(
    {
        "identity": Row("{x}", "y = x"),
        "sigmoid": Row("sigmoid({x})", "logistic function, 1/(1 + exp(-x))"),
        "tanh": Row("tanh({x})", "hyperbolic tangent"),
        "relu": Row("relu({x})", "Nair, Hinton 2010; slope 0 at 0"),
        "leaky_relu": Row("relu({x}) + {slope}*min2({x}, 0)", "Maas, Hannun, Ng 2013", {"slope": (float, 0.01)}),
        "prelu": Row(
            _prelu, "He, Zhang, Ren, Sun 2015, eq. 1; one trained slope, or one for each entry of an axis",
            {"slope": (float, 0.25), "shared": (bool, True), "axis": (int, 1)}, "relu(x) + slope*min2(x, 0)",
        ),
        "elu": Row("relu({x}) + {alpha}*expm1(min2({x}, 0))", "Clevert, Unterthiner, Hochreiter 2016, eq. 15",
                   {"alpha": (float, 1.0)}),
        "selu": Row(f"{_SELU_SCALE}*(relu({{x}}) + {_SELU_ALPHA}*expm1(min2({{x}}, 0)))",
                    "Klambauer, Unterthiner, Mayr, Hochreiter 2017, eq. 2"),
        "celu": Row("relu({x}) + {alpha}*expm1(min2({x}, 0)/{alpha})", "Barron 2017, eq. 2", {"alpha": (float, 1.0)}),
        "gelu": Row("{x}*(1 + erf({x}/sqrt(2)))/2", "Hendrycks, Gimpel 2016; approximate: tanh for their eq. 2",
                    {"approximate": (Literal["none", "tanh"], "none")}),
        "silu": Row("{x}*sigmoid({x})", "Elfwing, Uchibe, Doya 2018; Hendrycks, Gimpel 2016"),
        "mish": Row("{x}*tanh(softplus({x}))", "Misra 2019"),
        "softplus": Row("softplus({beta}*{x})/{beta}", "Dugas et al. 2001", {"beta": (float, 1.0)}),
        "softsign": Row("{x}/(1 + abs({x}))", "Bergstra et al. 2009"),
        "hard_sigmoid": Row("min2(6, max2(0, {x} + 3))/6", "Courbariaux, Bengio, David 2015; torch's slope of 1/6"),
        "hard_tanh": Row("min2({high}, max2({low}, {x}))", "Collobert 2004",
                         {"low": (float, -1.0), "high": (float, 1.0)}),
        "hard_swish": Row("{x}*min2(6, max2(0, {x} + 3))/6", "Howard et al. 2019"),
        "thresholded_relu": Row("where({x} > {threshold}, {x}, {value})", "Konda, Memisevic, Krueger 2015",
                                {"threshold": (float, 1.0), "value": (float, 0.0)}),
        "softmax": Row(_softmax, "Bridle 1990", _AXIS, "exp(x[k])/sum(exp(x[j]), over=j)"),
        "log_softmax": Row(_log_softmax, "logarithm of softmax", _AXIS, "x[k] - log(sum(exp(x[j]), over=j))"),
        "glu": Row(_glu, "Dauphin, Fan, Auli, Grangier 2017, eq. 1", _AXIS, "x[k]*sigmoid(x[H+k])"),
    }
)

_GELU_TANH = "{x}*(1 + tanh(sqrt(2/pi)*({x} + 0.044715*{x}**3)))/2"


def _options_class(name: str, row: Row) -> type[LayerOptions]:
    if not row.options:
        return LayerOptions
    fields: dict[str, Any] = {key: (kind, Field(default)) for key, (kind, default) in row.options.items()}
    made: type[LayerOptions] = create_model(f"{name}_options", __base__=LayerOptions, **fields)
    return made


OPTIONS: Mapping[str, type[LayerOptions]] = MappingProxyType(
    {name: _options_class(name, row) for name, row in ACTIVATIONS.items()}
)


def _chosen(value: Activation, context: Context, key: str) -> tuple[str, dict[str, Any]]:
    """Name and checked options of an ``activation:`` value. Raises SpecError."""
    given = {"type": value} if isinstance(value, str) else dict(value)
    name = given.pop("type", None)
    if isinstance(name, str) and name in context.functions:
        if given:
            raise context.error(f"expected no options for the unspecified function '{name}', found '{next(iter(given))}'", key)
        return name, {}
    if not isinstance(name, str) or name not in ACTIVATIONS:
        known = [*context.functions, *ACTIVATIONS]
        near = nearest(str(name), known)
        raise context.error(f"expected an activation ({', '.join(known)}), found {name!r}{near}{' To' if near else '; to'} leave "
                            "one unspecified, declare its name in the spec, functions: [f]", key)
    try:
        return name, OPTIONS[name](**given).model_dump()
    except (ValidationError, TypeError) as error:
        what = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("?",), "msg": str(error)}
        place = ".".join(map(str, what["loc"]))
        options = ", ".join(OPTIONS[name].model_fields) or "none"
        raise context.error(f"activation {name}: {place}: {what['msg']} (options: {options})", key) from None


def _text(name: str) -> str | Callable[[Site], Applied]:
    """The text of an activation; a function that the spec leaves unspecified is applied by its name."""
    return ACTIVATIONS[name].text if name in ACTIVATIONS else f"{name}({{x}})"


def _template(name: str, options: Mapping[str, Any]) -> str:
    text = _text(name)
    assert isinstance(text, str)
    if name == "gelu" and options["approximate"] == "tanh":
        return _GELU_TANH
    return text


def _fill(name: str, argument: str, options: Mapping[str, Any]) -> str:
    text, numbers = _template(name, options), {k: v for k, v in options.items() if isinstance(v, float)}
    for key in (key for key, number in numbers.items() if number == 1):
        text = text.replace(f"{{{key}}}*", "").replace(f"/{{{key}}}", "")
    return text.format(x=argument, **{key: scalar(number) for key, number in numbers.items()})


def elementwise(value: Activation, argument: str, context: Context, key: str = "activation") -> str:
    """Equation text of an activation without parameters applied to one entry: ``tanh(a[t,n,i])``.

    Raises SpecError for one that is not of this kind (softmax, log_softmax, glu, prelu).
    """
    name, options = _chosen(value, context, key)
    if not isinstance(_text(name), str):
        fit = ", ".join(other for other, row in ACTIVATIONS.items() if isinstance(row.text, str))
        raise context.error(f"expected an activation that works entry by entry ({fit}), found '{name}'; "
                            f"write it as a layer of its own", key)
    return _fill(name, argument, options)


def apply(value: Activation, source: str, target: str, names: tuple[str, ...], shape: tuple[Any, ...],
          context: Context, key: str = "activation") -> Applied:
    """Equations that give ``target[names]`` from ``source[names]``, a tensor of this shape. Raises SpecError."""
    name, options = _chosen(value, context, key)
    text = _text(name)
    if isinstance(text, str):
        return Applied(f"{at(target, *names)} = {_fill(name, at(source, *names), options)}")
    axis = options["axis"]
    if options.get("shared"):
        axis = 0
    elif not -len(names) <= axis < len(names):
        raise context.error(f"expected an axis of [{', '.join(map(str, shape))}], found {axis}", key)
    return text(Site(source, target, names, shape, options, context, key, axis % max(len(names), 1)))


def _layer(name: str) -> Layer:
    def build(options: LayerOptions, inputs: tuple[Tensor, ...], context: Context) -> Block:
        (x,) = inputs
        context.real(x, 1 if "axis" in options.model_dump() and name != "prelu" else 0)
        names = (*leading(x.shape[:-1]), "k") if x.rank else ()
        done = apply({"type": name, **options.model_dump()}, "x", "y", names, x.shape, context, "")
        return Block(done.equations, "y", {"x": x}, done.parameters, sizes=done.sizes, ranges=done.ranges,
                     reference=row.reference)

    row = ACTIVATIONS[name]
    return Layer(OPTIONS[name], build, row.reference, example_inputs=("N, 2*D" if name == "glu" else "N, D",))


CATALOGUE: Mapping[str, Layer] = MappingProxyType({name: _layer(name) for name in ACTIVATIONS})
