"""The IR: a Program is tensors, and Equations between their entries in index notation.

    target[psi(i)] += body(i)        for all i in the domain

The body is a scalar SymPy expression over ``Indexed`` reads. A read outside a tensor's bounds is 0 and a write there does not
happen. Indices that the target does not carry are reduced (sum, or max, or the argument of the maximum). Several
equations may add into one target; a read sees the finished value. Everything is frozen; passes are functions
``Program -> Program``. The laws are in docs/ir.md.

Here are the Program and the supply of fresh names; entries, tensors and equations have files of their own, and all of their
names can be had from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from types import MappingProxyType

import sympy as sp
from sympy import Expr, Indexed

from symbolic.display import Shown
from symbolic.entries import (
    IndexName,
    Scalar,
    Size,
    TensorName,
    index,
    index_symbols,
    is_index_read,
    operands,
    read,
    reads,
    size,
    tensor_of,
)
from symbolic.equation import Equation, Index, Origin, Reduction
from symbolic.errors import ProgramError
from symbolic.places import Shelf
from symbolic.tensor import Kind, Role, Tensor

__all__ = [
    "Equation",
    "Index",
    "IndexName",
    "Kind",
    "Names",
    "Origin",
    "Program",
    "Reduction",
    "Role",
    "Scalar",
    "Size",
    "Tensor",
    "TensorName",
    "index",
    "index_symbols",
    "is_index_read",
    "operands",
    "read",
    "reads",
    "size",
    "tensor_of",
]


@dataclass(frozen=True)
class Program(Shown):
    """Tensors and the equations between them.

    Equations of which a guard is plainly false have no instance, and are dropped (law 3).
    ``sizes``: every size symbol by name, with its value where the spec fixes one. ``loss``: the rank-0 tensor that is
    differentiated. ``outputs``: tensors that must be computed. ``links``: output -> input of the next window (carried states).
    ``gradients``: tensor -> its adjoint, ``tangents``: tensor -> its tangent; filled by the two differentiation passes.
    """

    name: str
    tensors: tuple[Tensor, ...]
    equations: tuple[Equation, ...]
    sizes: Mapping[str, int | None] = field(default_factory=dict)
    loss: str = ""
    outputs: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    gradients: Mapping[str, str] = field(default_factory=dict)
    tangents: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("sizes", "links", "gradients", "tangents"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if not all(equation.has_instances for equation in self.equations):
            object.__setattr__(self, "equations", tuple(e for e in self.equations if e.has_instances))

    @cached_property
    def _by_name(self) -> dict[str, Tensor]:
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def _positions(self) -> dict[str, int]:
        ordered = sorted(self.tensors, key=lambda tensor: tensor.role is not Role.PARAMETER)
        return {tensor.name: k for k, tensor in enumerate(ordered)}

    def in_order(self, entries: Iterable[Indexed]) -> list[Indexed]:
        """Reads in the order in which their tensors were declared: what is made of a program does not hang on its names."""
        return sorted(entries, key=lambda entry: (self.position(entry), sp.default_sort_key(entry)))

    def position(self, entry: Indexed) -> int:
        """Where the tensor of a read stands: parameters first (``W*x``), then as declared; those that are not there last."""
        return self._positions.get(tensor_of(entry), len(self.tensors))

    def tensor(self, name: str) -> Tensor:
        """The tensor of this name. Raises ProgramError where there is none."""
        try:
            return self._by_name[name]
        except KeyError:
            raise ProgramError(f"{self.name}: no tensor named '{name}'") from None

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @cached_property
    def writers(self) -> Mapping[str, tuple[Equation, ...]]:
        """For each tensor the equations that write it, in order."""
        table: dict[str, list[Equation]] = {}
        for equation in self.equations:
            table.setdefault(equation.name, []).append(equation)
        return MappingProxyType({name: tuple(rows) for name, rows in table.items()})

    @cached_property
    def _shelf(self) -> Shelf[Equation]:
        return Shelf(self.equations, lambda equation: equation.target)

    def writers_near(self, entry: Indexed) -> list[Equation]:
        """The equations that may write this entry, as far as the numbers in their targets tell, in order."""
        return self._shelf.near(entry)

    @cached_property
    def readers(self) -> Mapping[str, tuple[Equation, ...]]:
        """For each tensor the equations that read it, in order."""
        table: dict[str, list[Equation]] = {}
        for equation in self.equations:
            for name in dict.fromkeys(tensor_of(entry) for entry in equation.reads):
                table.setdefault(name, []).append(equation)
        return MappingProxyType({name: tuple(rows) for name, rows in table.items()})

    @cached_property
    def primals(self) -> Mapping[str, str]:
        """For each adjoint the tensor that it belongs to: ``gradients`` the other way round."""
        return MappingProxyType({adjoint: name for name, adjoint in self.gradients.items()})

    def of_role(self, *roles: Role) -> tuple[Tensor, ...]:
        """The tensors of these roles, in order."""
        return tuple(tensor for tensor in self.tensors if tensor.role in roles)

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        return self.of_role(Role.PARAMETER)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.of_role(Role.INPUT)

    @cached_property
    def fixed(self) -> Mapping[Size, Expr]:
        """The sizes that have a value, as a substitution."""
        return MappingProxyType({size(n): sp.Integer(value) for n, value in self.sizes.items() if value is not None})

    def with_equations(self, equations: Iterable[Equation], tensors: Iterable[Tensor] | None = None) -> Program:
        """The program with other equations and, where given, other tensors."""
        return replace(
            self, equations=tuple(equations), tensors=self.tensors if tensors is None else tuple(tensors)
        )

    def pruned(self) -> Program:
        """Without tensors that nothing reads, writes or promises (parameters and inputs always stay)."""
        used = {self.loss, *self.outputs, *self.gradients.values(), *self.tangents.values()}
        used.update(tensor.name for tensor in self.of_role(Role.PARAMETER, Role.INPUT))
        for equation in self.equations:
            used.add(equation.name)
            used.update(tensor_of(entry) for entry in equation.reads)
        return replace(self, tensors=tuple(t for t in self.tensors if t.name in used))

    @property
    def next_number(self) -> int:
        """The least number above every equation's."""
        return 1 + max((n for equation in self.equations for n in equation.numbers), default=0)

    def __str__(self) -> str:
        sizes = ", ".join(f"{n}={v}" if v is not None else n for n, v in self.sizes.items())
        lines = [f"program {self.name} ({sizes})"]
        lines += [f"  {tensor}" for tensor in self.tensors]
        lines += [f"  {equation}" for equation in self.equations]
        return "\n".join(lines)

    def _plain_latex(self) -> str:
        rows = (e.latex(r"&\mathrel{+}=") for e in self.equations)
        return "$\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}$"

    def _plain_html(self) -> str:
        return f"<pre>{escape(str(self), quote=False)}</pre>"


@dataclass
class Names:
    """A supply of fresh names, apart from all names that a program uses. One supply per pass."""

    taken: set[str]

    @classmethod
    def of(cls, program: Program) -> Names:
        """The supply that knows every tensor, size and index of a program."""
        taken = {tensor.name for tensor in program.tensors} | set(program.sizes)
        for equation in program.equations:
            taken.update(i.name for i in equation.indices)
        return cls(taken)

    def fresh(self, wanted: str) -> str:
        """``wanted`` itself where it is free, else ``wanted_2``, ``wanted_3``, ..."""
        name, count = wanted, 1
        while name in self.taken:
            count += 1
            name = f"{wanted}_{count}"
        self.taken.add(name)
        return name

    def index(self, wanted: str = "k") -> IndexName:
        """A fresh index symbol."""
        return index(self.fresh(wanted))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.taken))
