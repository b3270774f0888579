"""The IR: a Program is tensors, and Equations between their entries in index notation.

    target[psi(i)] += body(i)        for all i in the domain

The body is a scalar SymPy expression over ``Indexed`` reads. A read outside a tensor's bounds is 0 and a write there does not
happen. Indices that the target does not carry are reduced (sum, or max, or the argument of the maximum). Several
equations may add into one target; a read sees the finished value. Everything is frozen; passes are functions
``Program -> Program``. The laws are in docs/ir.md.

Tensors, indices and sizes are three namespaces: their SymPy symbols are of three classes, so a gate ``i`` read at index ``i``
is no clash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy import Expr, Indexed, IndexedBase
from sympy.core.relational import Relational

from symbolic.errors import Location, ProgramError

if TYPE_CHECKING:
    from symbolic.places import Shelf

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
    "Size",
    "Tensor",
    "TensorName",
    "index",
    "operands",
    "read",
    "reads",
    "size",
    "tensor_of",
]


class _Label(sp.Symbol):  # type: ignore[misc]
    """A symbol whose ``str`` is its name, without a printer: names are compared and sorted everywhere."""

    __slots__ = ()

    def __str__(self) -> str:
        return str(self.name)


class TensorName(_Label):
    """The label of a tensor; never equal to an index or a size of the same name."""

    __slots__ = ()


class IndexName(_Label):
    """An iteration index: an integer of any sign."""

    __slots__ = ()


class Size(_Label):
    """A symbolic extent: an integer of at least 1."""

    __slots__ = ()


@lru_cache(maxsize=65536)
def index(name: str) -> IndexName:
    """The index symbol of this name."""
    return IndexName(name, integer=True)


@lru_cache(maxsize=65536)
def size(name: str) -> Size:
    """The size symbol of this name."""
    return Size(name, integer=True, positive=True)


class Role(StrEnum):
    """What a tensor is for."""

    PARAMETER = "parameter"
    INPUT = "input"
    STATE = "state"
    INTERMEDIATE = "intermediate"
    ADJOINT = "adjoint"
    TANGENT = "tangent"
    OUTPUT = "output"


class Kind(StrEnum):
    """What a tensor's entries are: real numbers, or integers used in subscripts and guards."""

    REAL = "real"
    INDEX = "index"


class Reduction(StrEnum):
    """How the instances that write one entry combine. ``ARGMAX`` gives one component of the first maximiser."""

    SUM = "sum"
    MAX = "max"
    ARGMAX = "argmax"


@lru_cache(maxsize=65536)
def _base(name: str, integer: bool) -> IndexedBase:
    return IndexedBase(TensorName(name, integer=True) if integer else TensorName(name))


@dataclass(frozen=True)
class Tensor:
    """A named array.

    ``shape``: the extents of its axes, bare indices run over 0 <= i < extent. ``margin``: entries before and after that
    range on each axis (``((1, 0), (0, 0), (0, 0))`` for a state that has an entry h[-1]); inside the margin is in bounds.
    For ``kind`` index, the entries are integers ``low <= v < below`` or ``ignore``; anything else is refused at the door.
    ``constant`` names the law by which the tensor is taken as constant by differentiation, for all its reads.
    """

    name: str
    shape: tuple[Expr, ...] = ()
    role: Role = Role.INTERMEDIATE
    kind: Kind = Kind.REAL
    margin: tuple[tuple[int, int], ...] = ()
    low: Expr = sp.S.Zero
    below: Expr | None = None
    ignore: int | None = None
    constant: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(sp.sympify(extent) for extent in self.shape))
        if not self.margin:
            object.__setattr__(self, "margin", ((0, 0),) * len(self.shape))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_index(self) -> bool:
        return self.kind is Kind.INDEX

    @property
    def base(self) -> IndexedBase:
        """The SymPy base whose ``Indexed`` reads this tensor."""
        return _base(self.name, self.is_index)

    def bounds(self, axis: int) -> tuple[Expr, Expr]:
        """The half-open range ``[lower, upper)`` of subscripts in bounds on an axis."""
        before, after = self.margin[axis]
        return sp.Integer(-before), self.shape[axis] + after if after else self.shape[axis]

    def __getitem__(self, subscripts: Any) -> Indexed:
        return self.at(subscripts if isinstance(subscripts, tuple) else (subscripts,))

    def at(self, subscripts: Sequence[Expr]) -> Indexed:
        """The read at these subscripts (also for rank 0, where ``[]`` has no Python spelling)."""
        return read(self.name, subscripts, self.is_index)

    def __str__(self) -> str:
        shape = ", ".join(map(str, self.shape))
        below = f" below {self.below}" if self.below is not None else ""
        margin = f" margin {self.margin}" if any(map(any, self.margin)) else ""
        constant = f" constant ({self.constant})" if self.constant else ""
        return f"{self.name}[{shape}] {self.role} {self.kind}{below}{margin}{constant}"


# SymPy's Indexed refuses an empty subscript list, so an entry of a rank-0 tensor is read at a single dummy subscript-free
# class: ``Scalar`` is an Indexed with no subscripts.
class Scalar(Indexed):  # type: ignore[misc]
    """The read of a rank-0 tensor: an ``Indexed`` without subscripts."""

    def __new__(cls, base: IndexedBase, **_: Any) -> Scalar:
        obj: Scalar = Expr.__new__(cls, base)
        try:
            IndexedBase._set_assumptions(obj, base.assumptions0)
        except AttributeError:
            IndexedBase._set_assumptions(obj, {})
        return obj

    @property
    def indices(self) -> tuple[Expr, ...]:
        return ()

    def _sympystr(self, printer: Any) -> str:
        return f"{printer._print(self.base)}[]"


def read(name: str, subscripts: Sequence[Expr] = (), integer: bool = False) -> Indexed:
    """``name[subscripts]`` as a SymPy expression."""
    return _entry(name, tuple(map(sp.sympify, subscripts)), integer)


@lru_cache(maxsize=65536)
def _entry(name: str, subscripts: tuple[Expr, ...], integer: bool) -> Indexed:
    base = _base(name, integer)
    return Indexed(base, *subscripts) if subscripts else Scalar(base)


def tensor_of(entry: Indexed) -> str:
    """The name of the tensor that a read or a target belongs to."""
    return str(entry.base.label.name)


def is_index_read(entry: Indexed) -> bool:
    """Whether the read is of an index tensor."""
    return bool(entry.base.label.is_integer)


@lru_cache(maxsize=65536)
def reads(expr: Any) -> tuple[Indexed, ...]:
    """The distinct reads in an expression, outermost first, each before the index reads in its own subscripts; ordered."""
    found: dict[Indexed, None] = {}

    def walk(node: Any) -> None:
        if isinstance(node, Indexed):
            found.setdefault(node)
            for part in node.indices:
                walk(part)
        else:
            for part in node.args:
                walk(part)

    walk(expr)
    return tuple(sorted(found, key=_sort_key))


@lru_cache(maxsize=65536)
def operands(expr: Any) -> tuple[Indexed, ...]:
    """The distinct reads that are operands of an expression: not those that stand only inside the subscripts of others."""
    found: dict[Indexed, None] = {}

    def walk(node: Any) -> None:
        if isinstance(node, Indexed):
            found.setdefault(node)
        else:
            for part in node.args:
                walk(part)

    walk(expr)
    return tuple(sorted(found, key=_sort_key))


@lru_cache(maxsize=65536)
def _sort_key(expr: Any) -> Any:
    return sp.default_sort_key(expr)


@lru_cache(maxsize=65536)
def index_symbols(expr: Any) -> frozenset[IndexName]:
    """The iteration indices that occur in an expression."""
    return frozenset(expr.atoms(IndexName))


@dataclass(frozen=True)
class Index:
    """An iteration index with its half-open range ``lower <= symbol < upper``."""

    symbol: IndexName
    lower: Expr
    upper: Expr

    @classmethod
    def over(cls, symbol: IndexName | str, extent: Any, lower: Any = 0) -> Index:
        """The index that runs over ``lower .. extent - 1``."""
        return cls(index(symbol) if isinstance(symbol, str) else symbol, sp.sympify(lower), sp.sympify(extent))

    @property
    def extent(self) -> Expr:
        return self.upper - self.lower

    @cached_property
    def last(self) -> Expr:
        """The greatest value."""
        return self.upper - 1

    @property
    def name(self) -> str:
        return str(self.symbol.name)

    def __str__(self) -> str:
        return f"{self.symbol}={self.lower}..{self.upper - 1}"


@dataclass(frozen=True)
class Origin:
    """Where an equation came from: the derivation is printed from these, never from a second algorithm.

    ``rule``: ``spec`` for an equation of the model, ``chain rule``, ``seed``, ``tangent``, ``argument of the maximum`` or the
    name of a rewrite. ``parents``: numbers of the equations it was made from. ``read``: the read X[phi] that was
    differentiated. ``where``: the place in the user's text.
    """

    rule: str = "spec"
    parents: tuple[int, ...] = ()
    read: Indexed | None = None
    partial: Expr | None = None
    text: str = ""
    where: Location | None = None


@dataclass(frozen=True)
class Equation:
    """``target += body`` over the domain ``indices`` where every guard holds; see the module for the meaning.

    ``component`` is set for ``ARGMAX`` alone: the reduced index whose value at the first maximum is the entry.
    ``numbers``: the equation's own number first, then those of all equations that a rewrite merged into it.
    """

    target: Indexed
    body: Expr
    indices: tuple[Index, ...]
    guards: tuple[Relational, ...] = ()
    reduction: Reduction = Reduction.SUM
    component: IndexName | None = None
    numbers: tuple[int, ...] = ()
    origin: Origin = field(default_factory=Origin)

    @cached_property
    def name(self) -> str:
        """The name of the target tensor."""
        return tensor_of(self.target)

    @property
    def number(self) -> int:
        return self.numbers[0] if self.numbers else 0

    @cached_property
    def reads(self) -> tuple[Indexed, ...]:
        """Every distinct read in body, guards and subscripts."""
        found: dict[Indexed, None] = {}
        for part in (self.body, *self.guards, *self.target.indices):
            found.update(dict.fromkeys(reads(part)))
        return tuple(found)

    @cached_property
    def free(self) -> tuple[Index, ...]:
        """The indices that the target carries."""
        carried = frozenset().union(*(index_symbols(part) for part in self.target.indices))
        return tuple(i for i in self.indices if i.symbol in carried)

    @cached_property
    def reduced(self) -> tuple[Index, ...]:
        """The indices that are reduced, in their declared order."""
        carried = {i.symbol for i in self.free}
        return tuple(i for i in self.indices if i.symbol not in carried)

    def index(self, symbol: IndexName) -> Index:
        """The domain of one index symbol."""
        return next(i for i in self.indices if i.symbol == symbol)

    def xreplace(self, rule: Mapping[Any, Any]) -> Equation:
        """Substitute in target, body and guards (not in the domain: the caller owns the indices). A guard that becomes true
        is dropped."""
        guards = tuple(g for g in (guard.xreplace(rule) for guard in self.guards) if g is not sp.true)
        return replace(self, target=self.target.xreplace(rule), body=self.body.xreplace(rule), guards=guards)

    def renamed(self, names: Mapping[IndexName, IndexName]) -> Equation:
        """The same equation under other index names."""
        renamed = self.xreplace(names)
        indices = tuple(
            Index(names.get(i.symbol, i.symbol), i.lower.xreplace(names), i.upper.xreplace(names)) for i in self.indices
        )
        component = names.get(self.component, self.component) if self.component is not None else None
        return replace(renamed, indices=indices, component=component)

    def __str__(self) -> str:
        domain = ", ".join(map(str, self.indices))
        guards = "".join(f" [{guard}]" for guard in self.guards)
        over = ",".join(i.name for i in self.reduced)
        body = f"{self.body}"
        if self.reduction is not Reduction.SUM:
            what = f" of {self.component}" if self.component is not None else ""
            body = f"{self.reduction}{what} over ({over}) {body}"
        number = f"({self.number}) " if self.numbers else ""
        return f"{number}{self.target} += {body}{guards}    for {domain or 'once'}"

    def _repr_latex_(self) -> str:
        return f"${sp.latex(self.target)} \\mathrel{{+}}= {sp.latex(self.body)}$"


@dataclass(frozen=True)
class Program:
    """Tensors and the equations between them.

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

    @cached_property
    def _by_name(self) -> dict[str, Tensor]:
        return {tensor.name: tensor for tensor in self.tensors}

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
        from symbolic.places import Shelf

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

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


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
