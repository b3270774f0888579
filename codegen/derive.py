"""The derivation of a model's gradients, read off the origins that the passes left on the equations.

Nothing is derived here: each line is an equation of a program, with the rule that made it and the equations it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from codegen.text import equation_text, ranges, text, unusual
from symbolic.functions import Unspecified
from symbolic.program import Equation, Kind, Program, Role, Tensor, tensor_of

if TYPE_CHECKING:
    from codegen.pipeline import Stages
    from symbolic.model import Model

__all__ = ["Change", "Derivation", "Result", "Rewrite", "Step", "as_text", "derivation_of", "derive", "differentiated"]

CONVENTIONS = (
    "An entry read outside its tensor's bounds is 0. Each sum runs over the whole axis that its index subscripts, unless a "
    "range is given. [condition] is 1 where it holds; a term whose leading condition fails does not exist. dL/dX has the "
    "shape of X."
)

UNSPECIFIED = "Functions left unspecified: {}; a prime marks a derivative."


@dataclass(frozen=True)
class Step:
    """One numbered line: the equations that share the number, in the program they belong to."""

    number: int
    equations: tuple[Equation, ...]
    program: Program

    @property
    def rule(self) -> str:
        return self.equations[0].origin.rule

    @property
    def parents(self) -> tuple[int, ...]:
        return self.equations[0].origin.parents

    @property
    def text(self) -> str:
        return equation_text(self.equations, self.program)

    @property
    def indices(self) -> str:
        """The ranges worth printing."""
        return ranges(dict.fromkeys(i for e in self.equations for i in unusual(e, self.program)))


@dataclass(frozen=True)
class Change:
    """One change that a rewrite made: the lines before and after it."""

    before: tuple[Step, ...]
    after: tuple[Step, ...]


@dataclass(frozen=True)
class Rewrite:
    """A named rewrite, its law in words, and every change it made to this model."""

    rule: str
    law: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Result:
    """The gradient of one tensor as it stands after all rewrites."""

    name: str
    adjoint: str
    shape: tuple[object, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Derivation:
    """Forward equations, the adjoint equations of each tensor, the rewrites in their order, and the results.

    ``adjoints``: tensor -> the lines that add into its adjoint. ``prepared``: rewrites of the forward program, before the
    adjoint.
    """

    name: str
    forward_program: Program
    adjoint_program: Program
    forward: tuple[Step, ...]
    prepared: tuple[Rewrite, ...]
    adjoints: Mapping[str, tuple[Step, ...]]
    rewrites: tuple[Rewrite, ...]
    final: tuple[Step, ...]
    results: tuple[Result, ...]

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions that the spec leaves unspecified and the model applies."""
        return tuple(sorted({f.base for e in self.forward_program.equations for f in e.body.atoms(Unspecified)}))

    @property
    def symbols(self) -> tuple[Tensor, ...]:
        """The tensors of the forward program, parameters first."""
        order = (Role.PARAMETER, Role.INPUT, Role.STATE, Role.INTERMEDIATE, Role.OUTPUT)
        return tuple(t for role in order for t in self.forward_program.tensors if t.role is role)


def derive(model: Model, wrt: str = "params", unroll: int | None = None) -> Derivation:
    """The derivation of a model's gradient, as the pipeline makes it for ``generate``.

    ``wrt``: ``params``, ``all``, or names with commas. Raises ChainruleError for a name that is no real tensor of the model.
    """
    from codegen.pipeline import Options, stages

    return derivation_of(stages(model, Options(wrt=wrt, unroll=unroll)))


def derivation_of(stages: Stages) -> Derivation:
    """The derivation that the stages of the pipeline hold."""
    from symbolic.rewrite import RULES

    given, prepared, derived, last = stages.program, stages.stabilised, stages.adjoint, stages.optimised
    laws = {rule.name: (rule.phase, rule.law) for rule in RULES}
    known = _together(given, prepared, derived, last)
    rewrites: dict[str, list[Change]] = {}
    for step in stages.steps:
        start, end = (given, prepared) if laws[step.rule][0] == "forward" else (derived, last)
        change = Change(_steps(step.before, replace(known, equations=start.equations)),
                        _steps(step.after, replace(known, equations=end.equations)))
        rewrites.setdefault(step.rule, []).append(change)
    made = [Rewrite(rule, laws[rule][1], tuple(changes)) for rule, changes in rewrites.items()]

    forward = set(prepared.equations)
    names = {adjoint: name for name, adjoint in derived.gradients.items()}
    groups: dict[str, list[Step]] = {}
    for line in _steps([e for e in derived.equations if e not in forward], derived):
        target = line.equations[0].name
        groups.setdefault(names.get(target, target), []).append(line)
    results = tuple(
        Result(name, last.gradients[name], last.tensor(last.gradients[name]).shape,
               _steps(last.writers.get(last.gradients[name], ()), last))
        for name in stages.wrt
    )
    return Derivation(
        given.name, prepared, derived, _steps(given.equations, given),
        tuple(r for r in made if laws[r.rule][0] == "forward"),
        {name: tuple(steps) for name, steps in groups.items()},
        tuple(r for r in made if laws[r.rule][0] == "backward"),
        _steps([e for e in last.equations if last.tensor(e.name).role is Role.ADJOINT], last), results,
    )


def _together(*programs: Program) -> Program:
    """A program that knows the tensors of all: a rewrite may bring some and a later one take them away."""
    tensors = {tensor.name: tensor for program in programs for tensor in program.tensors}
    return replace(programs[-1], tensors=tuple(tensors.values()), gradients=programs[-2].gradients)


def _steps(equations: Iterable[Equation], program: Program) -> tuple[Step, ...]:
    """Equations by (number, target), in the order of their first appearance."""
    groups: dict[tuple[int, str], list[Equation]] = {}
    for equation in equations:
        groups.setdefault((equation.number, equation.name), []).append(equation)
    return tuple(Step(number, tuple(rows), program) for (number, _), rows in groups.items())


def as_text(derivation: Derivation) -> str:
    """The whole derivation as plain text."""
    program = derivation.forward_program
    lines = [f"{derivation.name}: the gradient, derived", ""]
    sizes = ", ".join(f"{n} = {v}" if v is not None else f"{n} free" for n, v in program.sizes.items())
    lines += [f"Sizes: {sizes or 'none'}.", CONVENTIONS]
    lines += [UNSPECIFIED.format(", ".join(derivation.functions))] if derivation.functions else []
    lines += ["", "Tensors"]
    width = max((len(t.name) for t in derivation.symbols), default=0)
    lines += [f"  {t.name:<{width}}  {_described(t)}" for t in derivation.symbols]

    lines += ["", "Forward"]
    lines += [_line(step) for step in derivation.forward]
    for rewrite in derivation.prepared:
        lines += ["", *_rewrite_lines(rewrite, "Forward, rewritten")]

    lines += ["", "Backward: Y += f(X) gives dL/dX += dL/dY * df/dX over the same indices"]
    for name, steps in derivation.adjoints.items():
        lines += ["", f"  dL/d{name}" if name in derivation.adjoint_program.gradients else f"  {name}"]
        for step in steps:
            lines += _adjoint_lines(step, derivation.adjoint_program)
    for rewrite in derivation.rewrites:
        lines += ["", *_rewrite_lines(rewrite, "Rewritten")]

    lines += ["", "Backward, as it is computed"]
    lines += [_line(step) for step in derivation.final]
    lines += ["", "Results"]
    for result in derivation.results:
        lines += ["", f"  dL/d{result.name} [{', '.join(map(text, result.shape))}]"]
        lines += [_line(step, "    ") for step in result.steps] or ["    0: the loss does not depend on it"]
    return "\n".join(lines) + "\n"


def _described(tensor: Tensor) -> str:
    shape = f"[{', '.join(map(text, tensor.shape))}]" if tensor.shape else "scalar"
    words = [f"{shape:<14}", str(tensor.role)]
    if tensor.kind is Kind.INDEX:
        below = f"{text(tensor.low)} <= entry < {text(tensor.below)}" if tensor.below is not None else "integers"
        words.append(below + (f", or {tensor.ignore} (ignored)" if tensor.ignore is not None else ""))
    if tensor.constant:
        words.append(f"constant: {tensor.constant}")
    if tensor.note:
        words.append(f"({tensor.note})")
    return "  ".join(words)


def _line(step: Step, indent: str = "  ") -> str:
    where = f"    for {step.indices}" if step.indices else ""
    number = f"({step.number}) " if step.number else ""
    return f"{indent}{number}{step.text}{where}"


def _adjoint_lines(step: Step, program: Program) -> list[str]:
    lines = [_line(step, "    ")]
    origin = step.equations[0].origin
    parents = ", ".join(f"({n})" for n in origin.parents)
    if origin.rule == "seed":
        lines.append("        seed: the derivative of the loss by itself")
    elif origin.read is not None and origin.partial is not None:
        by = text(origin.read)
        source = differentiated(step.equations[0], program)
        over = f"d{text(source.target)}/d{by}" if source is not None else f"the derivative by {by}"
        lines.append(f"        {origin.rule} on {parents}, {over} = {text(origin.partial)}")
    else:
        lines.append(f"        {origin.rule}{f' of {parents}' if parents else ''}")
    return lines


def differentiated(adjoint: Equation, program: Program) -> Equation | None:
    """The forward equation whose derivative a term of an adjoint is. Equations may share a number: a sum inside a function stands
    under that of its reader."""
    origin, seen = adjoint.origin, {tensor_of(entry) for entry in adjoint.reads}
    parents = [e for e in program.equations if e.number in origin.parents and program.gradients.get(e.name) in seen]
    return next((e for e in parents if origin.read in e.reads), parents[0] if parents else None)


def _rewrite_lines(rewrite: Rewrite, title: str) -> list[str]:
    lines = [f"{title}: {rewrite.rule} ({rewrite.law})"]
    for change in rewrite.changes:
        if not change.after:
            lines += [f"    drop {step.text.split(' ')[0]}  ({step.number})" for step in change.before]
            continue
        lines += [_line(step, "    was ") for step in change.before]
        lines += [_line(step, "    now ") for step in change.after]
    return lines
