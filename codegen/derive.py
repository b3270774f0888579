"""The derivation of a model's gradients, read off the origins that the passes left on the equations.

Nothing is derived here: each line is an equation of a program, with the rule that made it and the equations it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codegen.text import equation_text, ranges, text, unusual
from symbolic.program import Equation, Kind, Program, Role, Tensor

if TYPE_CHECKING:
    from symbolic.model import Model

__all__ = ["Change", "Derivation", "Result", "Step", "as_text", "derive", "derive_stages"]

CONVENTIONS = (
    "An entry read outside its tensor's bounds is 0. Each sum runs over the whole axis that its index subscripts, unless a "
    "range is given. [condition] is 1 where it holds; a term whose leading condition fails does not exist. dL/dX has X's shape."
)


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
    """What a named rewrite did to one target: the lines before and after it."""

    target: str
    before: tuple[Step, ...]
    after: tuple[Step, ...]


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
    adjoint. ``rewrites``: (name of the rule, its changes).
    """

    name: str
    forward_program: Program
    adjoint_program: Program
    forward: tuple[Step, ...]
    prepared: tuple[tuple[str, tuple[Change, ...]], ...]
    adjoints: Mapping[str, tuple[Step, ...]]
    rewrites: tuple[tuple[str, tuple[Change, ...]], ...]
    results: tuple[Result, ...]

    @property
    def symbols(self) -> tuple[Tensor, ...]:
        """The tensors of the forward program, parameters first."""
        order = (Role.PARAMETER, Role.INPUT, Role.STATE, Role.INTERMEDIATE, Role.OUTPUT)
        return tuple(t for role in order for t in self.forward_program.tensors if t.role is role)


def derive(model: Model, wrt: str = "params", unroll: int | None = None) -> Derivation:
    """The derivation of a model's gradient.

    ``wrt``: ``params``, ``all``, or names with commas. Raises ChainruleError for a name that is no real tensor of the model.
    """
    from codegen.pipeline import stages

    found = stages(model, wrt=wrt, unroll=unroll)
    return derive_stages(found.forward, found.adjoint, found.wrt)


def derive_stages(
    forward: Sequence[tuple[str, Program]], adjoint: Sequence[tuple[str, Program]], wrt: Iterable[str]
) -> Derivation:
    """The derivation from the programs before and after each pass.

    ``forward``: (name of the pass, program after it), the first being the spec's own program; ``adjoint``: the same, the first
    being the program that the chain rule made of the last forward one.
    """
    given, prepared, derived, last = forward[0][1], forward[-1][1], adjoint[0][1], adjoint[-1][1]
    new = [e for e in derived.equations if e.origin.rule != "spec" and e not in prepared.equations]
    names = {adjoint_name: name for name, adjoint_name in derived.gradients.items()}
    groups: dict[str, list[Step]] = {}
    for step in _steps(new, derived):
        target = step.equations[0].name
        groups.setdefault(names.get(target, target), []).append(step)
    results = tuple(
        Result(name, last.gradients[name], last.tensor(last.gradients[name]).shape,
               _steps(last.writers.get(last.gradients[name], ()), last))
        for name in wrt
    )
    return Derivation(
        given.name, prepared, derived, _steps(given.equations, given), _changes(forward),
        {name: tuple(steps) for name, steps in groups.items()}, _changes(adjoint), results,
    )


def _steps(equations: Iterable[Equation], program: Program) -> tuple[Step, ...]:
    """Equations by (number, target), in the order of their first appearance."""
    groups: dict[tuple[int, str], list[Equation]] = {}
    for equation in equations:
        groups.setdefault((equation.number, equation.name), []).append(equation)
    return tuple(Step(number, tuple(rows), program) for (number, _), rows in groups.items())


def _changes(stages: Sequence[tuple[str, Program]]) -> tuple[tuple[str, tuple[Change, ...]], ...]:
    """For each pass that changed something: the equations that went and those that came, by target."""
    found = []
    for (_, before), (rule, after) in zip(stages, stages[1:], strict=False):
        kept = set(before.equations) & set(after.equations)
        gone = [e for e in before.equations if e not in kept]
        come = [e for e in after.equations if e not in kept]
        targets = dict.fromkeys([e.name for e in gone] + [e.name for e in come])
        changes = tuple(
            Change(target, _steps([e for e in gone if e.name == target], before),
                   _steps([e for e in come if e.name == target], after))
            for target in targets
        )
        if changes:
            found.append((rule, changes))
    return tuple(found)


def as_text(derivation: Derivation) -> str:
    """The whole derivation as plain text."""
    program = derivation.forward_program
    lines = [f"{derivation.name}: the gradient, derived", ""]
    sizes = ", ".join(f"{n} = {v}" if v is not None else f"{n} free" for n, v in program.sizes.items())
    lines += [f"Sizes: {sizes or 'none'}.", CONVENTIONS, "", "Tensors"]
    width = max((len(t.name) for t in derivation.symbols), default=0)
    lines += [f"  {t.name:<{width}}  {_described(t)}" for t in derivation.symbols]

    lines += ["", "Forward"]
    lines += [_line(step) for step in derivation.forward]
    for rule, changes in derivation.prepared:
        lines += ["", f"Forward, rewritten: {rule}", *_change_lines(changes)]

    lines += ["", "Backward: Y += f(X) gives dL/dX += dL/dY * df/dX over the same indices"]
    for name, steps in derivation.adjoints.items():
        lines += ["", f"  dL/d{name}"]
        for step in steps:
            lines += _adjoint_lines(step, derivation.adjoint_program)
    for rule, changes in derivation.rewrites:
        lines += ["", f"Rewritten: {rule}", *_change_lines(changes)]

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
        source = next((e for e in program.equations if e.number in origin.parents), None)
        over = f"d{text(source.target)}/d{by}" if source is not None else f"the derivative by {by}"
        lines.append(f"        {origin.rule} on {parents}, {over} = {text(origin.partial)}")
    else:
        lines.append(f"        {origin.rule}{f' of {parents}' if parents else ''}")
    return lines


def _change_lines(changes: Iterable[Change]) -> list[str]:
    lines = []
    for change in changes:
        if change.before and not change.after:
            lines.append(f"  {change.target}: " + ", ".join(f"({s.number})" for s in change.before) + " is not needed")
            continue
        lines += [_line(step, "    was ") for step in change.before]
        lines += [_line(step, "    now ") for step in change.after]
    return lines
