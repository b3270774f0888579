"""The memory of the C function ``value_and_grad``, known before anything is compiled: each array in its part, and the plan.

The parts of the workspace are sums of arrays; the plan is less, for arrays that are never needed at once share their place. The
bound is the greatest sum of what is needed at once, between any two steps of the function: no layout can do with less.

Requires: a routine and its slots. Ensures: bytes as the emitted file asks for them. Cost: linear in the arrays and the nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sympy import Expr

from codegen.loops.ir import SCRATCH, Place, Routine
from codegen.loops.memory import Slot, bound, number, plan_memory, total, weight
from codegen.loops.uses import written
from symbolic.cost import volume
from symbolic.program import Program, Tensor

if TYPE_CHECKING:
    from codegen.pipeline import Stages

__all__ = ["PARTS", "Memory", "Part", "likely_sizes", "memory", "of_stages"]

PARTS: Mapping[str, str] = {
    "kept": "written before the loss is known, read after",
    "outputs": "outputs for which the caller has no place",
    "other": "needed before the loss is known, or after, alone",
    "packed": "weights in the order in which a loop reads them",
    "scratch": "what products of matrices lay out for themselves",
    "offsets": "places of the entries of windows",
}
"""The parts of the workspace, and what is in each."""
LIKELY = (48, 192, 768, 3072)
"""What a free size may be taken as, the first that leaves no tensor without entries."""


@dataclass(frozen=True)
class Part:
    """One part of the workspace: its bytes, and the arrays in it, the largest first."""

    name: str
    bytes: int
    arrays: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """Bytes of one call at ``sizes``. ``parameters``, ``gradients`` and ``inputs`` are the caller's, each held once.

    ``parts``: of the workspace, each array counted in full. ``alignment``: what is lost between arrays, because each begins at a
    cache line. ``workspace``: what the plan takes for all parts. ``bound``: the least that any plan could take.
    """

    sizes: Mapping[str, int]
    parameters: int
    gradients: int
    inputs: int
    parts: tuple[Part, ...]
    alignment: int
    workspace: int
    bound: int

    @property
    def excess(self) -> float:
        """How much more the plan takes than the bound, as a fraction of it."""
        return self.workspace / self.bound - 1 if self.bound else 0.0


def memory(routine: Routine, slots: Sequence[Slot], program: Program, wrt: Sequence[str], real_bytes: int,
           sizes: Mapping[str, int]) -> Memory:
    """The memory of a routine at these sizes. ``wrt``: what the gradients are taken by."""

    def bytes_of(entries: Expr, tensor: Tensor) -> int:
        return int(number(entries, program, sizes, real_bytes)) * (8 if tensor.is_index else real_bytes)

    def together(tensors: Iterable[Tensor]) -> int:
        return sum(bytes_of(volume(t.shape), t) for t in tensors)

    weights = {slot.buffer.name: bytes_of(slot.buffer.entries, slot.buffer.tensor) for slot in slots}
    rooms = [weight(slot.buffer, program, real_bytes, sizes) for slot in slots]
    known = _known(routine, program)
    members: dict[str, list[str]] = {name: [] for name in PARTS}
    for slot in slots:
        members[_part(slot, known)].append(slot.buffer.name)
    parts = tuple(
        Part(name, sum(weights[n] for n in found), tuple(n.strip() for n in sorted(found, key=lambda n: (-weights[n], n))))
        for name, found in members.items())
    return Memory(
        sizes, together(program.parameters), together(map(program.tensor, wrt)), together(program.inputs), parts,
        alignment=sum(rooms) - sum(weights.values()), workspace=total(slots, program, real_bytes, sizes),
        bound=bound(routine, program, real_bytes, sizes),
    )


def of_stages(done: Stages, real_bytes: int, sizes: Mapping[str, int]) -> Memory:
    """The memory of a model's ``value_and_grad``, its loops made and planned as for the C file."""
    from codegen.c.function import routine_of
    from codegen.pipeline import units

    unit = next(unit for unit in units(done) if unit.kind == "value_and_grad")
    made = routine_of(unit, real_bytes, done.options.block)
    return memory(made, plan_memory(made, unit.program, real_bytes), unit.program, unit.wrt, real_bytes, sizes)


def likely_sizes(program: Program, given: Mapping[str, int]) -> dict[str, int] | None:
    """The given sizes, those that the spec fixes, and likely ones for the rest; none where those leave a tensor empty."""
    from codegen.trial import choose_sizes
    from symbolic.errors import ChainruleError

    for likely in LIKELY:
        try:
            return choose_sizes(program, given, dict.fromkeys(program.sizes, likely))
        except ChainruleError:
            continue
    return None


# ---- an array's part ---------------------------------------------------------------------------------------------------


def _part(slot: Slot, known: int) -> str:
    buffer, (first, last) = slot.buffer, slot.life
    match buffer.place:
        case Place.OFFSETS:
            return "offsets"
        case Place.PACKED:
            return "scratch" if buffer.name == SCRATCH else "packed"
        case Place.OUTPUT:
            return "outputs"
        case _:
            return "kept" if first <= known < last else "other"


def _known(routine: Routine, program: Program) -> int:
    """The top-level node after which the loss is known."""
    return max((top for top, node in enumerate(routine.body) if program.loss in written((node,))), default=len(routine.body))
