"""Optimisers and clipping as equations over one entry: ``p[i]`` of a parameter, ``g[i]`` of its gradient.

    momentum:  v_next[i] = momentum*v[i] + g[i]
               p_next[i] = p[i] - rate*v_next[i]

``X_next`` is the new value of ``X``; state slots have one entry for each of the parameter; hyperparameters and the step
count ``k`` are of rank 0. Defaults and formulas are torch's, so that trajectories agree. Clipping runs before the
optimiser, over the gradients of all parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from symbolic.layers.base import LayerOptions
from symbolic.program import Program, Role, Tensor, size

__all__ = ["CLIPS", "OPTIMIZERS", "Clip", "ClipType", "Optimizer", "OptimizerType"]

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]


def _program(name: str, equations: str, entries: tuple[str, ...], scalars: tuple[str, ...], outputs: tuple[str, ...]
             ) -> Program:
    """The Program of an update over a vector of P entries."""
    from symbolic.parser import Scope, parse

    tensors = {entry: Tensor(entry, (size("P"),), Role.INPUT) for entry in entries}
    tensors |= {scalar: Tensor(scalar, (), Role.INPUT) for scalar in scalars}
    parsed = parse(equations, Scope(tensors=tensors))
    return Program(name, (*tensors.values(), *parsed.tensors), parsed.equations, {"P": None}, outputs=outputs)


@dataclass(frozen=True)
class Optimizer:
    """An optimiser with its numbers put in place.

    ``equations``: text over ``p[i]``, ``g[i]``, the slots and the hyperparameters. ``slots``: name -> value of every
    entry before the first step. ``counts``: whether there is a step count ``k`` (0 before the first step). ``hyper``:
    name -> value.
    """

    name: str
    equations: str
    hyper: Mapping[str, float]
    slots: Mapping[str, float] = field(default_factory=dict)
    counts: bool = False
    reference: str = ""

    @property
    def state(self) -> tuple[str, ...]:
        """Everything that is kept from step to step."""
        return (*self.slots, *(("k",) if self.counts else ()))

    def program(self) -> Program:
        """The update as a Program over a vector of P entries."""
        return _program(self.name, self.equations, ("p", "g", *self.slots),
                        (*self.hyper, *(("k",) if self.counts else ())), ("p_next", *(f"{s}_next" for s in self.state)))


@dataclass(frozen=True)
class Clip:
    """Clipping with its limit put in place.

    ``equations`` give ``g_next[i]`` from ``g[i]``. Where ``total`` is not empty, it is the text that adds one gradient
    to the rank-0 ``total``, ``scale`` the text that makes the rank-0 ``scale`` of it, and ``together`` says whether one
    total is taken over all parameters.
    """

    name: str
    equations: str
    hyper: Mapping[str, float]
    total: str = ""
    scale: str = ""
    together: bool = False
    reference: str = ""

    def program(self) -> Program:
        """The clipping of one gradient of P entries; with a scale, ``total`` is an output too."""
        lines = "\n".join(text for text in (self.total, self.scale, self.equations) if text)
        return _program(f"clip_{self.name}", lines, ("g",), tuple(self.hyper),
                        ("g_next", *(("total", "scale") if self.total else ())))


class SGD(LayerOptions):
    """``weight_decay``: adds that share of the parameter to its gradient."""

    rate: Positive = 1e-3
    weight_decay: Weight = 0.0


class Momentum(SGD):
    """``nesterov``: look ahead by one step of the momentum."""

    momentum: Share = 0.9
    nesterov: bool = False


class Adagrad(LayerOptions):
    """``initial``: the accumulator before the first step."""

    rate: Positive = 1e-2
    eps: Weight = 1e-10
    initial: Weight = 0.0


class RMSprop(LayerOptions):
    """``alpha``: share of the old mean square that is kept."""

    rate: Positive = 1e-2
    alpha: Share = 0.99
    eps: Weight = 1e-8


class Adam(LayerOptions):
    """``beta1``, ``beta2``: share of the old mean and of the old mean square that is kept."""

    rate: Positive = 1e-3
    beta1: Share = 0.9
    beta2: Share = 0.999
    eps: Weight = 1e-8


class AdamW(Adam):
    """``weight_decay``: decay of the parameter apart from the gradient."""

    weight_decay: Weight = 1e-2


class Limit(LayerOptions):
    """``limit``: the greatest absolute value, or the greatest norm, that stays as it is."""

    limit: Positive


def _decayed(options: SGD) -> tuple[str, str, dict[str, float]]:
    """The first line and the name of a gradient with weight decay."""
    if not options.weight_decay:
        return "", "g[i]", {}
    return "w[i] = g[i] + weight_decay*p[i]\n", "w[i]", {"weight_decay": options.weight_decay}


def _sgd(options: SGD) -> Optimizer:
    first, g, more = _decayed(options)
    return Optimizer("sgd", f"{first}p_next[i] = p[i] - rate*{g}", {"rate": options.rate, **more})


def _momentum(options: Momentum) -> Optimizer:
    first, g, more = _decayed(options)
    step = f"({g} + momentum*v_next[i])" if options.nesterov else "v_next[i]"
    return Optimizer("momentum", f"{first}v_next[i] = momentum*v[i] + {g}\np_next[i] = p[i] - rate*{step}",
                     {"rate": options.rate, "momentum": options.momentum, **more}, {"v": 0.0})


def _adagrad(options: Adagrad) -> Optimizer:
    return Optimizer("adagrad", "s_next[i] = s[i] + g[i]**2\n"
                     "p_next[i] = p[i] - rate*g[i]/(sqrt(s_next[i]) + eps)",
                     {"rate": options.rate, "eps": options.eps}, {"s": options.initial})


def _rmsprop(options: RMSprop) -> Optimizer:
    return Optimizer("rmsprop", "s_next[i] = alpha*s[i] + (1 - alpha)*g[i]**2\n"
                     "p_next[i] = p[i] - rate*g[i]/(sqrt(s_next[i]) + eps)",
                     {"rate": options.rate, "alpha": options.alpha, "eps": options.eps}, {"s": 0.0})


def _adam(options: Adam) -> Optimizer:
    decay = isinstance(options, AdamW)
    kept = "(1 - rate*weight_decay)*p[i]" if decay else "p[i]"
    hyper = {"rate": options.rate, "beta1": options.beta1, "beta2": options.beta2, "eps": options.eps}
    if isinstance(options, AdamW):
        hyper["weight_decay"] = options.weight_decay
    return Optimizer("adamw" if decay else "adam",
                     "k_next = k + 1\n"
                     "m_next[i] = beta1*m[i] + (1 - beta1)*g[i]\n"
                     "v_next[i] = beta2*v[i] + (1 - beta2)*g[i]**2\n"
                     f"p_next[i] = {kept} - rate/(1 - beta1**k_next)*m_next[i]"
                     "/(sqrt(v_next[i]/(1 - beta2**k_next)) + eps)",
                     hyper, {"m": 0.0, "v": 0.0}, True)


@dataclass(frozen=True)
class OptimizerType:
    """A row of the table: the options of a spec and the equations they give."""

    options: type[LayerOptions]
    make: Callable[[Any], Optimizer]
    reference: str

    def build(self, options: LayerOptions) -> Optimizer:
        """The optimiser for these options."""
        return replace(self.make(options), reference=self.reference)


@dataclass(frozen=True)
class ClipType:
    """A row of the table of clippings."""

    options: type[Limit]
    make: Callable[[Limit], Clip]
    reference: str

    def build(self, options: Limit) -> Clip:
        """The clipping for these options."""
        return replace(self.make(options), reference=self.reference)


def _by_value(options: Limit) -> Clip:
    return Clip("value", "g_next[i] = clip(g[i], -limit, limit)", {"limit": options.limit})


def _by_norm(name: str) -> Callable[[Limit], Clip]:
    def make(options: Limit) -> Clip:
        # torch adds 1e-6 to the norm; a norm of 0 divides by no zero.
        return Clip(name, "g_next[i] = scale*g[i]", {"limit": options.limit}, "total = sum(g[i]**2, over=i)",
                    "scale = min2(1, limit/(sqrt(total) + 1e-6))", together=name == "global_norm")

    return make


OPTIMIZERS: Mapping[str, OptimizerType] = MappingProxyType(
    {
        "sgd": OptimizerType(SGD, _sgd, "Robbins, Monro 1951; torch.optim.SGD"),
        "momentum": OptimizerType(Momentum, _momentum, "Polyak 1964; Nesterov 1983; torch.optim.SGD"),
        "adagrad": OptimizerType(Adagrad, _adagrad, "Duchi, Hazan, Singer 2011; torch.optim.Adagrad"),
        "rmsprop": OptimizerType(RMSprop, _rmsprop, "Tieleman, Hinton 2012; torch.optim.RMSprop"),
        "adam": OptimizerType(Adam, _adam, "Kingma, Ba 2015, algorithm 1; torch.optim.Adam"),
        "adamw": OptimizerType(AdamW, _adam, "Loshchilov, Hutter 2019, algorithm 2; torch.optim.AdamW"),
    }
)
"""Type name -> optimiser."""

CLIPS: Mapping[str, ClipType] = MappingProxyType(
    {
        "value": ClipType(Limit, _by_value, "torch.nn.utils.clip_grad_value_"),
        "global_norm": ClipType(Limit, _by_norm("global_norm"), "Pascanu, Mikolov, Bengio 2013; "
                                                               "torch.nn.utils.clip_grad_norm_"),
        "norm": ClipType(Limit, _by_norm("norm"), "the norm of each parameter's gradient by itself"),
    }
)
"""Type name -> clipping."""
