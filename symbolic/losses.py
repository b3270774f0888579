"""Losses: equation text over a prediction ``x`` and a target ``y``, giving the rank-0 tensor ``loss``.

They are written as a textbook has them, log(sum(exp(x))) and y*log(sigmoid(x)) + (1 - y)*log(1 - sigmoid(x)): making
them safe against overflow is a rewrite's task. Conventions, torch's: mse, mae, huber, log_cosh and binary_cross_entropy
average over all elements, softmax_cross_entropy and nll over all targets that are neither ignored nor masked.
``reduction: sum`` adds them, ``batch`` divides the sum by the extent of the batch axis (the one of size N, else the
first that is not time).

``lengths: len`` leaves out the steps t >= len[n] of a [T, N, ...] prediction; ``at: last`` takes its last step alone
(the last valid one with lengths), and the target then has no time axis.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal

import sympy as sp
from pydantic import Field
from sympy import Expr

from symbolic.layers.base import Block, Context, LayerOptions, at, leading, scalar
from symbolic.program import Tensor, size

__all__ = ["LOSSES", "Loss", "LossOptions"]


class LossOptions(LayerOptions):
    """The options of every loss (``type``, ``prediction`` and ``target`` are read by the spec itself)."""

    reduction: Literal["mean", "sum", "batch"] = Field(
        "mean", description="average, sum, or sum divided by the extent of the batch")
    lengths: str | None = Field(None, description="name of an index input: how many steps of each sequence count")
    at: Literal["all", "last"] = Field("all", description="every step, or the last one alone")


class HuberOptions(LossOptions):
    """``delta``: where the parabola becomes a straight line."""

    delta: Annotated[float, Field(gt=0)] = 1.0


class BinaryOptions(LossOptions):
    """``from``: whether the prediction holds logits or probabilities."""

    source: Literal["logits", "probabilities"] = Field("logits", alias="from")


class CategoricalOptions(LossOptions):
    """``smoothing``: this share of each target is spread evenly over the classes (Szegedy et al. 2016)."""

    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


@dataclass(frozen=True)
class Loss:
    """A row of the table: options, the function that writes the equations, a reference.

    ``example_inputs``: the shapes of a prediction and of a target to show the equations on (an integer tensor where the text ends
    in ``below ...``).
    """

    options: type[LossOptions]
    build: Callable[[Any, Tensor, Tensor, Context], Block]
    reference: str
    summary: str
    example_inputs: tuple[str, str] = ("N, K", "N, K")


@dataclass
class _Writer:
    """The parts of one loss while it is written: where each element stands, its guard, and what is averaged."""

    options: LossOptions
    x: Tensor
    y: Tensor
    context: Context
    classes: bool
    lines: list[str] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    sizes: dict[str, Expr] = field(default_factory=dict)
    ranges: dict[str, Any] = field(default_factory=dict)
    guards: list[str] = field(default_factory=list)
    source: str = "x"

    def __post_init__(self) -> None:
        self.inputs.update({"x": self.x, "y": self.y})
        self.context.real(self.x, 1 if self.classes else 0)
        rank = self.x.rank - self.classes
        names = leading(self.x.shape[:rank]) if self.classes else (*leading(self.x.shape[:rank - 1]), "i") if rank else ()
        if self.options.at == "last" or self.options.lengths is not None:
            names = self._time(rank)
        self.names, self.shape = names, self.x.shape[: rank]
        if self.options.at == "last":
            self._last()

    def _time(self, rank: int) -> tuple[str, ...]:
        if rank < 1:
            raise self.context.error(f"expected a prediction with a time axis, found shape [{_show(self.x)}]", "at")
        return leading(self.x.shape[:rank]) if rank > 1 else ("t",)

    def _lengths(self) -> tuple[Tensor, str] | None:
        name = self.options.lengths
        if name is None:
            return None
        lengths = self.context.tensor(name, "lengths")
        expected = self.x.shape[1 : 1 + lengths.rank]
        if not lengths.is_index or lengths.shape != expected:
            shape = ", ".join(map(str, expected))
            raise self.context.error(f"expected an index tensor of shape [{shape}], found '{lengths.name}' of shape "
                                     f"[{_show(lengths)}]", "lengths")
        self.context.lengths(lengths, self.x.shape[0])
        self.inputs["len"] = lengths
        return lengths, at("len", *self.names[1 : 1 + lengths.rank])

    def _last(self) -> None:
        """z[n,k] = x[T-1,n,k], or x[len[n]-1,n,k]."""
        found = self._lengths()
        end = f"{found[1]}-1" if found else "T-1"
        self.sizes["T"] = self.x.shape[0]
        rest = (*self.names[1:], "k") if self.classes else self.names[1:]
        self.lines.append(f"{at('z', *rest)} = {at('x', end, *rest)}")
        self.source, self.names, self.shape = "z", self.names[1:], self.shape[1:]

    def fit(self, shape: tuple[Expr, ...]) -> None:
        """Require the target's shape. Raises SpecError with both shapes."""
        if self.y.shape != tuple(shape):
            raise self.context.error(
                f"expected a target of shape [{', '.join(map(str, shape))}] for the prediction '{self.x.name}' of "
                f"shape [{_show(self.x)}], found '{self.y.name}' of shape [{_show(self.y)}]", "target")

    def entry(self, *last: str) -> str:
        """One entry of the prediction."""
        return at(self.source, *self.names, *last)

    def finish(self, element: str, reference: str) -> Block:
        """Reduce the elements ``l[names]`` and hand over the block."""
        if self.options.lengths is not None and self.options.at == "all":
            found = self._lengths()
            assert found is not None
            self.guards.insert(0, f"({self.names[0]} < {found[1]})*")
        guard = "".join(self.guards)
        over = f"({','.join(self.names)})" if len(self.names) > 1 else "".join(self.names)
        if not self.names:
            self.lines.append(f"loss = {element}")
        else:
            added = f"sum({guard}{element}, over={over})"
            if self.options.reduction == "sum":
                self.lines.append(f"loss = {added}")
            elif self.options.reduction == "batch":
                self.sizes["B"] = self._batch()
                self.lines += [f"total = {added}", "loss = total/B"]
            elif guard:
                self.lines += [f"total = {added}", self._count(guard), "loss = total/count"]
            else:
                self.lines.append(f"loss = mean({element}, over={over})")
        for name, extent in zip(self.names, self.shape, strict=True):
            self.ranges[name] = extent
        return Block("\n".join(self.lines), "loss", self.inputs, sizes=self.sizes, ranges=self.ranges,
                     reference=reference)

    def _count(self, guard: str) -> str:
        """How many elements the guards leave: indices that no guard names count by their extent."""
        named = [name for name in self.names if re.search(rf"\b{name}\b", guard)]
        rest = [extent for name, extent in zip(self.names, self.shape, strict=True) if name not in named]
        if rest:
            self.sizes["R"] = sp.prod(rest)
        over = f"({','.join(named)})" if len(named) > 1 else named[0]
        return f"count = sum({guard}{'R' if rest else '1'}, over={over})"

    def _batch(self) -> Expr:
        if size("N") in self.shape:
            return size("N")
        found = self.shape[1] if len(self.names) > 1 and self.names[0] == "t" else self.shape[0]
        return sp.sympify(found)


def _show(tensor: Tensor) -> str:
    return ", ".join(map(str, tensor.shape))


def _elementwise(element: str, reference: str) -> Callable[[Any, Tensor, Tensor, Context], Block]:
    """A loss of the difference ``r = x - y``, entry by entry."""

    def build(options: LossOptions, x: Tensor, y: Tensor, context: Context) -> Block:
        writer = _Writer(options, x, y, context, classes=False)
        writer.fit(writer.shape)
        context.real(y, 0)
        r = at("r", *writer.names)
        writer.lines.append(f"{r} = {writer.entry()} - {at('y', *writer.names)}")
        delta = scalar(options.delta) if isinstance(options, HuberOptions) else ""
        return writer.finish(element.format(r=r, d=delta), reference)

    return build


def _binary(options: BinaryOptions, x: Tensor, y: Tensor, context: Context) -> Block:
    writer = _Writer(options, x, y, context, classes=False)
    writer.fit(writer.shape)
    p, target, element = writer.entry(), at("y", *writer.names), at("l", *writer.names)
    if options.source == "logits":
        yes, no = f"log(sigmoid({p}))", f"log(1 - sigmoid({p}))"
    else:
        # Of a probability of 0 the logarithm is taken at 1e-30: 0*log(0) is 0 then, and single precision can hold it.
        yes, no = f"log(max2({p}, 1e-30))", f"log(max2(1 - {p}, 1e-30))"
    if y.is_index:
        likely = at("q", *writer.names)
        writer.lines += [f"{likely} = ({target} == 1)*{yes} + ({target} == 0)*{no}", f"{element} = -{likely}"]
        if y.ignore is not None:
            writer.guards.append(f"({target} != {y.ignore})*")
    else:
        writer.lines.append(f"{element} = -({target}*{yes} + (1 - {target})*{no})")
    return writer.finish(element, "Good 1952; torch.nn.BCEWithLogitsLoss, torch.nn.BCELoss")


def _categorical(logits: bool) -> Callable[[Any, Tensor, Tensor, Context], Block]:
    """Cross entropy along the last axis, of logits or (nll) of logarithms of probabilities."""

    def build(options: LossOptions, x: Tensor, y: Tensor, context: Context) -> Block:
        writer = _Writer(options, x, y, context, classes=True)
        names, lines = writer.names, writer.lines
        element, scores, target = at("l", *names), writer.entry("k"), at("y", *names)
        log_s = ""
        if logits:
            lines += [f"{at('e', *names, 'k')} = exp({scores})",
                      f"{at('s', *names)} = sum({at('e', *names, 'k')}, over=k)"]
            log_s = f"log({at('s', *names)})"
        below: dict[str, Expr] = {}
        share = options.smoothing if isinstance(options, CategoricalOptions) else 0.0
        kept = "" if not share else f"{scalar(1 - share)}*"
        if y.is_index:
            writer.fit(writer.shape)
            below = _classes(x, y, context)
            if y.ignore is not None:
                writer.guards.append(f"({target} != {y.ignore})*")
            lines.append(f"{element} = {f'{log_s} - ' if logits else '-'}{kept}{writer.entry(target)}")
        else:
            if y.shape in (writer.shape, (*writer.shape, 1)):
                shape = ", ".join(map(str, writer.shape))
                raise context.error(
                    f"expected labels (integers), or one number for each class, found the real input '{y.name}' of "
                    f"shape [{_show(y)}] for the prediction '{x.name}'; for labels write {y.name}: {{shape: [{shape}], "
                    f"kind: index, below: {x.shape[-1]}}}", "target")
            writer.fit((*writer.shape, x.shape[-1]))
            given = at("y", *names, "k")
            if logits:
                lines.append(f"{at('q', *names, 'k')} = {scores} - {log_s}")
                scores = at("q", *names, "k")
            lines.append(f"{element} = -{kept}{given}*{scores}")
        if share:
            lines.append(f"{at('u', *names)} = mean({writer.entry('k') if y.is_index else scores}, over=k)")
            lines.append(f"{element} += -{scalar(share)}*{at('u', *names)}")
        return replace(
            writer.finish(element, "Good 1952; torch.nn.CrossEntropyLoss" if logits else "torch.nn.NLLLoss"), below=below
        )

    return build


def _classes(x: Tensor, y: Tensor, context: Context) -> dict[str, Expr]:
    """The labels must fit the prediction's last axis; where free sizes decide, the bound that the door has to check."""
    if y.below is None:
        return {}
    beyond = context.value(y.below - x.shape[-1])
    if beyond.is_positive:
        values = [f"{e} = {v}" if (v := context.value(e)) != e and v.is_number else f"{e}" for e in (x.shape[-1], y.below)]
        raise context.error(f"expected labels below {values[0]}, the last axis of '{x.name}' [{_show(x)}], found "
                            f"'{y.name}' below {values[1]}", "target")
    return {} if beyond.is_nonpositive else {y.name: x.shape[-1]}


LABELS = ("N, K", "N below K")

LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "mse": Loss(LossOptions, _elementwise("{r}**2", "Gauss 1809; torch.nn.MSELoss"),
                    "Gauss 1809; torch.nn.MSELoss", "(x - y)**2"),
        "mae": Loss(LossOptions, _elementwise("abs({r})", "Laplace 1774; torch.nn.L1Loss"),
                    "Laplace 1774; torch.nn.L1Loss", "|x - y|, slope 0 at 0"),
        "huber": Loss(HuberOptions, _elementwise("where(abs({r}) <= {d}, {r}**2/2, {d}*(abs({r}) - {d}/2))",
                                                 "Huber 1964; torch.nn.HuberLoss"),
                      "Huber 1964; torch.nn.HuberLoss", "parabola near 0, straight line beyond delta"),
        "log_cosh": Loss(LossOptions, _elementwise("(softplus(2*{r}) - {r} - log(2))", "Green 1990"),
                         "Green 1990", "log(cosh(x - y)), written with softplus so that it is finite"),
        "binary_cross_entropy": Loss(BinaryOptions, _binary, "Good 1952; torch.nn.BCEWithLogitsLoss",
                                     "-(y*log(sigmoid(x)) + (1 - y)*log(1 - sigmoid(x)))"),
        "softmax_cross_entropy": Loss(CategoricalOptions, _categorical(True), "Good 1952; torch.nn.CrossEntropyLoss",
                                      "log(sum(exp(x))) - x[y], or -y*log(softmax(x))", LABELS),
        "nll": Loss(LossOptions, _categorical(False), "torch.nn.NLLLoss", "-x[y] of logarithms of probabilities", LABELS),
    }
)
"""Type name -> loss."""
