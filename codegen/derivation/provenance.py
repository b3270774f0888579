"""The derivation of a model's gradients, read off the origins that the passes left on the equations.

Nothing is derived here: each line is an equation of a program, with the rule that made it and the equations it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sympy import Indexed

from codegen.derivation.statements import groups
from symbolic.analysis import index_reads
from symbolic.program import Equation, IndexName, Origin, Program, Role, Tensor, index_symbols, tensor_of

if TYPE_CHECKING:
    from codegen.derivation.softmax import Softmax
    from codegen.pipeline import Stages
    from symbolic.model import Model

__all__ = [
    "Adjoint", "Change", "Derivation", "Form", "Path", "Rewrite", "Rolled", "derivation_of", "derive", "is_part", "replaced",
    "whole", "with_the_rest",
]

READ_AS_MATHEMATICS = ("constants", "zeros", "reuse", "cancel")
"""The rewrites that a reader follows line by line in the adjoint of one tensor; the others put equations together for the
machine, past the tensors that have names."""


@dataclass(frozen=True)
class Path:
    """One way from a tensor to the loss: ``adjoint`` is its contribution, the derivative of ``source`` by ``origin.read``."""

    adjoint: Equation
    source: Equation | None

    @property
    def origin(self) -> Origin:
        return self.adjoint.origin


@dataclass(frozen=True)
class Form:
    """The equations of an adjoint as they stand after a rule (the first time: ``chain rule``)."""

    rule: str
    equations: tuple[Equation, ...]


@dataclass(frozen=True)
class Adjoint:
    """How dL/dX comes about: the paths from X to the loss, and the sum over them in the forms that it takes one after another."""

    name: str
    adjoint: str
    paths: tuple[Path, ...]
    forms: tuple[Form, ...]
    final: tuple[Equation, ...]
    """As it is computed; nothing where other equations have taken it up."""

    @property
    def seed(self) -> bool:
        """Whether it is the derivative of the loss by itself."""
        return any(path.origin.rule == "seed" for path in self.paths)


@dataclass(frozen=True)
class Change:
    """One change that a rewrite made: the equations before and after it."""

    before: tuple[Equation, ...]
    after: tuple[Equation, ...]


@dataclass(frozen=True)
class Rewrite:
    """A named rewrite, and every change it made to this model."""

    rule: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Rolled:
    """What an unrolled model was before: its forward program with the loop, the tensor it predicts, and the steps written out."""

    program: Program
    prediction: str
    steps: int


@dataclass(frozen=True)
class Derivation:
    """The forward equations, how they were made stable, the adjoint of each tensor in the order of the backward pass, and what
    was put together for the machine.

    ``given``, ``stable``, ``derived``, ``computed``: the programs of the four stages. ``known``: a program that knows every
    tensor of them. ``arguments``: equations for the places of maxima. ``wrt``: what the loss is differentiated by.
    """

    name: str
    given: Program
    stable: Program
    derived: Program
    computed: Program
    known: Program
    wrt: tuple[str, ...]
    prepared: tuple[Rewrite, ...]
    adjoints: Mapping[str, Adjoint]
    arguments: tuple[Equation, ...]
    rewrites: tuple[Rewrite, ...]
    """Those that put equations together for the machine."""
    closed: Mapping[str, tuple[Form, ...]] = field(default_factory=dict)
    """Further forms of an adjoint, with others put in, for the reader alone."""
    softmaxes: tuple[Softmax, ...] = ()
    """Those that these forms name."""
    rolled: Rolled | None = None

    @property
    def symbols(self) -> tuple[Tensor, ...]:
        """All tensors but the adjoints, parameters first; those that rewrites of the backward pass brought at the end."""
        order = (Role.PARAMETER, Role.INPUT, Role.STATE, Role.INTERMEDIATE, Role.OUTPUT, Role.ADJOINT)
        adjoints = set(self.known.gradients.values())
        return tuple(t for role in order for t in self.known.tensors if t.role is role and t.name not in adjoints)


def derive(model: Model, wrt: str | tuple[str, ...] = "params", unroll: int | None = None) -> Derivation:
    """The derivation of a model's gradient, as the pipeline makes it for ``generate``.

    ``wrt``: ``params``, ``all``, or names with commas. Raises ChainruleError for a name that is no real tensor of the model.
    """
    from codegen.pipeline import Options, stages

    return derivation_of(stages(model, Options(wrt=wrt, unroll=unroll)))


def derivation_of(stages: Stages) -> Derivation:
    """The derivation that the stages of the pipeline hold."""
    from codegen.derivation.closed import with_closed_forms
    from symbolic.rewrite import RULES

    given, stable, derived, computed = stages.program, stages.stabilised, stages.adjoint, stages.optimised
    phases = {rule.name: rule.phase for rule in RULES}
    kinds: dict[str, dict[str, list[Change]]] = {"forward": {}, "backward": {}}
    for step in stages.steps:
        rule = step.rule
        if phases[rule] == "forward" or rule not in READ_AS_MATHEMATICS:
            kinds[phases[rule]].setdefault(rule, []).append(Change(step.before, step.after))
    forward = frozenset(stable.equations)
    made = [e for e in derived.equations if e not in forward]
    steps = stages.options.unroll
    return with_closed_forms(Derivation(
        given.name, given, stable, derived, computed, _together(given, stable, derived, computed), stages.wrt,
        _rewrites(kinds["forward"]),
        _adjoints(stages, made),
        tuple(e for e in made if e.name not in set(derived.gradients.values())),
        _rewrites(kinds["backward"]),
        rolled=None if steps is None else Rolled(stages.model.program(), stages.model.prediction, steps),
    ))


def _rewrites(changes: Mapping[str, list[Change]]) -> tuple[Rewrite, ...]:
    return tuple(Rewrite(rule, tuple(rows)) for rule, rows in changes.items())


def _adjoints(stages: Stages, made: Iterable[Equation]) -> dict[str, Adjoint]:
    """The adjoint of each tensor, in the order in which the backward pass first reaches it."""
    derived, computed = stages.adjoint, stages.optimised
    names = derived.primals
    raw: dict[str, list[Equation]] = {}
    for equation in made:
        if equation.name in names:
            raw.setdefault(equation.name, []).append(equation)
    forms = {adjoint: [Form("chain rule", tuple(rows))] for adjoint, rows in raw.items()}
    for step in stages.steps:
        if step.rule not in READ_AS_MATHEMATICS:
            continue
        for adjoint in dict.fromkeys(e.name for e in (*step.before, *step.after) if e.name in forms):
            now = forms[adjoint][-1].equations
            # What an earlier rule put together for the machine (``inline``, then ``reuse`` again) is no form of its own.
            if all(e in now for e in step.before if e.name == adjoint):
                kept = replaced(now, [e for e in step.before if e.name == adjoint], [e for e in step.after if e.name == adjoint])
                if forms[adjoint][-1].rule == step.rule:
                    forms[adjoint].pop()
                forms[adjoint].append(Form(step.rule, kept))
    return {
        names[adjoint]: Adjoint(
            names[adjoint], adjoint, tuple(Path(e, differentiated(e, derived)) for e in raw[adjoint]), tuple(forms[adjoint]),
            tuple(e for e in computed.writers.get(adjoint, ())),
        )
        for adjoint in _in_order(raw)
    }


def _in_order(raw: Mapping[str, list[Equation]]) -> list[str]:
    """The adjoints so that each comes after those that it reads within one step; a read of another step (``d_a[t+1]``) is of a
    cycle that the recurrence makes, and asks for nothing."""
    needs = {
        adjoint: {
            tensor_of(read) for e in rows for read in e.reads
            if tensor_of(read) in raw and tensor_of(read) != adjoint and not _is_shifted(e, read)
        }
        for adjoint, rows in raw.items()
    }
    done: dict[str, None] = {}
    while len(done) < len(raw):
        waiting = [a for a in raw if a not in done]
        done[next((a for a in waiting if needs[a] <= set(done)), waiting[0])] = None
    return list(done)


def _is_shifted(adjoint: Equation, read: Indexed) -> bool:
    """Whether the target lies at a composite subscript in an index that the read has bare: at another step than the read's."""
    own = {part for part in read.indices if isinstance(part, IndexName)}
    return any(
        not isinstance(part, IndexName) and not index_reads((part,)) and len(s := index_symbols(part)) == 1 and s <= own
        and (part - min(s, key=str)).is_Integer
        for part in adjoint.target.indices
    )


def replaced(rows: Iterable[Equation], before: Sequence[Equation], after: Sequence[Equation]) -> tuple[Equation, ...]:
    """The rows with those of ``before`` replaced by those of ``after``, in the place of the first."""
    found: list[Equation] = []
    waiting = list(after)
    for row in rows:
        if row not in before:
            found.append(row)
            continue
        found += [e for e in waiting if e.number == row.number]
        waiting = [e for e in waiting if e.number != row.number]
    return (*found, *waiting)


def whole(change: Change, before: Sequence[Equation], after: Sequence[Equation]) -> Change:
    """A change with the other equations of the tensors that it writes, so that a line says all of what a tensor is."""
    if not all(e in before for e in change.before):
        return change  # rewrites are told by their names, not in the order in which they came
    names = {e.name for e in change.after}
    return Change(tuple(e for e in before if e in change.before or e.name in names), tuple(e for e in after if e.name in names))


def with_the_rest(rows: Sequence[Equation], derivation: Derivation) -> tuple[Equation, ...]:
    """Equations of a forward tensor together with the others that make it, as they are computed; those of an adjoint alone."""
    writers = derivation.computed.writers.get(rows[0].name, ())
    adjoint = rows[0].name in derivation.derived.gradients.values()
    return tuple(rows) if adjoint or not all(row in writers for row in rows) else writers


def is_part(rows: Sequence[Equation], derivation: Derivation) -> bool:
    """Whether these equations of one tensor are some of several that add into its entries."""
    writers = derivation.derived.writers.get(rows[0].name, ())
    numbers = {number for row in rows for number in row.numbers}
    others = [e for e in writers if e.number not in numbers]
    mixed = (group for group in groups([*rows, *others], derivation.known) if any(e in group for e in others))
    return len(writers) - len(others) > len(rows) or any(row in group for group in mixed for row in rows)


def _together(*programs: Program) -> Program:
    """A program that knows the tensors of all: a rewrite may bring some and a later one take them away."""
    tensors = {tensor.name: tensor for program in programs for tensor in program.tensors}
    return replace(programs[-1], tensors=tuple(tensors.values()), gradients=programs[-2].gradients)


def differentiated(adjoint: Equation, program: Program) -> Equation | None:
    """The forward equation whose derivative a term of an adjoint is. Equations may share a number: a sum inside a function stands
    under that of its reader."""
    origin, seen = adjoint.origin, {tensor_of(entry) for entry in adjoint.reads}
    parents = [e for e in program.equations if e.number in origin.parents and program.gradients.get(e.name) in seen]
    return next((e for e in parents if origin.read in e.reads), parents[0] if parents else None)
