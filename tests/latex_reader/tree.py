"""The tree of a formula: what is said, before anybody asks what a letter means."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Accent", "Apply", "Big", "Bold", "Cases", "Compare", "Dots", "Entrywise", "Fence", "Fraction", "Hadamard", "Name", "Negative",
    "Node", "Number", "Partial", "Product", "Quotient", "Root", "Script", "Slice", "Statement", "Sum", "Transpose", "below_of",
    "is_bold",
]


class Node:
    """Any piece of a formula."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Number(Node):
    value: float | int


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A letter or an upright word."""

    text: str


@dataclass(frozen=True, slots=True)
class Bold(Node):
    """A bold letter: a whole vector or matrix."""

    text: str


@dataclass(frozen=True, slots=True)
class Script(Node):
    """A base with what stands below it, a list, and above it."""

    base: Node
    below: tuple[Node, ...] | None
    above: Node | None


@dataclass(frozen=True, slots=True)
class Accent(Node):
    """A bar over a letter."""

    base: Node


@dataclass(frozen=True, slots=True)
class Fence(Node):
    """What stands between brackets, parted by commas."""

    kind: str
    inner: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Fraction(Node):
    top: Node
    bottom: Node


@dataclass(frozen=True, slots=True)
class Quotient(Node):
    """``a/b``."""

    top: Node
    bottom: Node


@dataclass(frozen=True, slots=True)
class Root(Node):
    inner: Node


@dataclass(frozen=True, slots=True)
class Negative(Node):
    inner: Node


@dataclass(frozen=True, slots=True)
class Sum(Node):
    """Terms with signs, at least two."""

    terms: tuple[tuple[int, Node], ...]


@dataclass(frozen=True, slots=True)
class Product(Node):
    factors: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Hadamard(Node):
    """What is multiplied entry by entry."""

    factors: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Transpose(Node):
    inner: Node


@dataclass(frozen=True, slots=True)
class Entrywise(Node):
    """A power of each entry."""

    base: Node
    exponent: Node


@dataclass(frozen=True, slots=True)
class Slice(Node):
    """As a subscript: from ``low`` to below ``high``, ``None`` for the ends of the axis."""

    low: Node | None = None
    high: Node | None = None


@dataclass(frozen=True, slots=True)
class Apply(Node):
    """A function of arguments; ``power`` stands at its name, as in the square of a tanh."""

    function: str
    power: Node | None
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Big(Node):
    """``sum``, ``prod``, ``max``, ``argmax`` over indices: each a name, a chain of comparisons, or ``p = a`` up to ``upper``."""

    kind: str
    over: tuple[Node, ...]
    upper: Node | None
    body: Node


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """``a < b <= c``: one more side than signs."""

    sides: tuple[Node, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cases(Node):
    """Values with conditions; ``None`` is otherwise."""

    rows: tuple[tuple[Node, Node | None], ...]


@dataclass(frozen=True, slots=True)
class Partial(Node):
    """The curly d before something."""

    inner: Node


@dataclass(frozen=True, slots=True)
class Dots(Node):
    """And so on."""


@dataclass(frozen=True, slots=True)
class Statement:
    """``left sign right``, for all indices where ``where`` holds; ``left`` is ``None`` where the line above goes on."""

    left: Node | None
    sign: str
    right: Node
    where: tuple[Node, ...] = ()


def below_of(node: Node) -> tuple[Node, ...]:
    """The pieces of a tree, one level down."""
    match node:
        case Script(base, below, above):
            return (base, *(below or ()), *((above,) if above is not None else ()))
        case Fence(_, inner):
            return inner
        case Big(_, over, upper, body):
            return (*over, *((upper,) if upper is not None else ()), body)
        case Fraction(top, bottom) | Quotient(top, bottom):
            return top, bottom
        case Sum(terms):
            return tuple(term for _, term in terms)
        case Product(factors) | Hadamard(factors):
            return factors
        case Entrywise(base, exponent):
            return base, exponent
        case Slice(low, high):
            return tuple(part for part in (low, high) if part is not None)
        case Apply(_, power, arguments):
            return (*((power,) if power is not None else ()), *arguments)
        case Compare(sides):
            return sides
        case Cases(rows):
            return tuple(part for row in rows for part in row if part is not None)
        case Accent(single) | Root(single) | Negative(single) | Partial(single) | Transpose(single):
            return (single,)
    return ()


def is_bold(node: Node) -> bool:
    """Whether a formula speaks of matrices."""
    return isinstance(node, Bold) or any(map(is_bold, below_of(node)))
