r"""The grammar of mathematics as people write it: marks to a tree.

A product is what stands side by side; ``\sum`` and ``\max`` take all that follows up to the next ``+`` or ``-``; a function takes
what stands in the brackets after it, or the one thing that follows. What a letter means is not decided here.
"""

from __future__ import annotations

from tests.latex_reader.tokens import LatexError, Token, tokens
from tests.latex_reader.tree import (
    Accent,
    Apply,
    Big,
    Bold,
    Cases,
    Compare,
    Dots,
    Entrywise,
    Fence,
    Fraction,
    Hadamard,
    Name,
    Negative,
    Node,
    Number,
    Partial,
    Product,
    Quotient,
    Root,
    Script,
    Slice,
    Statement,
    Sum,
    Transpose,
)

__all__ = ["formula", "statement"]

FUNCTIONS = frozenset(
    "tanh sinh cosh sin cos tan arctan exp log ln max min relu sign erf softplus expm1 log1p clip diag".split()) | {r"\sigma"}
RELATIONS = frozenset(("=", "<", "<=", ">", ">=", "!="))


def formula(text: str) -> Node:
    """The tree of a formula, or of a comparison. Raises LatexError."""
    parser = _Parser(tokens(text))
    found = parser.relation()
    parser.end()
    return found


def statement(text: str) -> Statement:
    r"""The tree of a displayed line: an equation, perhaps with ``\qquad`` and a condition in brackets after it."""
    parser = _Parser(tokens(text))
    left = None if parser.at("sign", "=") else parser.sum()
    if parser.take("sign", "+"):
        parser.need("sign", "=")
        sign = "+="
    else:
        parser.need("sign", "=")
        sign = "="
    right = parser.sum()
    where: tuple[Node, ...] = ()
    if parser.take("sign", "apart"):
        parser.need("open", "(")
        where = parser.list()
        parser.need("close", "(")
    parser.end()
    return Statement(left, sign, right, where)


class _Parser:
    """Recursive descent over the marks of one formula."""

    def __init__(self, marks: list[Token]) -> None:
        self.marks, self.place = marks, 0
        self.barred = False

    # ---- marks -----------------------------------------------------------------------------------------------------

    @property
    def here(self) -> Token:
        return self.marks[self.place] if self.place < len(self.marks) else Token("end", "")

    def at(self, kind: str, *texts: str) -> bool:
        return self.here.kind == kind and (not texts or self.here.text in texts)

    def take(self, kind: str, *texts: str) -> Token | None:
        if not self.at(kind, *texts):
            return None
        self.place += 1
        return self.marks[self.place - 1]

    def need(self, kind: str, *texts: str) -> Token:
        found = self.take(kind, *texts)
        if found is None:
            raise LatexError(f"expected {' or '.join(texts) or kind}, found {self.here.text or 'the end'!r} after "
                             f"{' '.join(m.text for m in self.marks[max(0, self.place - 6) : self.place])!r}")
        return found

    def end(self) -> None:
        if self.place < len(self.marks):
            self.need("end")

    # ---- sums and products -----------------------------------------------------------------------------------------

    def relation(self) -> Node:
        """A sum, or a chain of comparisons of sums."""
        sides, signs = [self.sum()], []
        while self.at("sign", *RELATIONS):
            signs.append(self.need("sign").text)
            sides.append(self.sum())
        return Compare(tuple(sides), tuple(signs)) if signs else sides[0]

    def list(self) -> tuple[Node, ...]:
        """Comparisons or sums with commas between them."""
        found = [self.relation()]
        while self.take("sign", ","):
            found.append(self.relation())
        return tuple(found)

    def sum(self) -> Node:
        terms = [(-1 if self.take("sign", "-") else 1, self.term())]
        while self.at("sign", "+", "-") and self.marks[self.place : self.place + 2] != [Token("sign", "+"), Token("sign", "=")]:
            sign = 1 if self.need("sign").text == "+" else -1
            terms.append((sign, self.term()))
        if len(terms) == 1:
            sign, term = terms[0]
            return term if sign == 1 else Negative(term)
        return Sum(tuple(terms))

    def term(self) -> Node:
        r"""Products with ``\odot`` between them."""
        parts = [self.product()]
        while self.take("sign", "odot"):
            parts.append(self.product())
        return parts[0] if len(parts) == 1 else Hadamard(tuple(parts))

    def product(self) -> Node:
        factors: list[Node] = [self.factor()]
        while True:
            if self.take("sign", "/"):
                factors[-1] = Quotient(factors[-1], self.factor())
            elif self.take("sign", "*") or self.starts():
                factors.append(self.factor())
            else:
                return factors[0] if len(factors) == 1 else Product(tuple(factors))

    def starts(self) -> bool:
        """Whether another factor begins here."""
        return (self.here.kind in ("name", "bold", "number", "open") or self.here.kind == "bar" and not self.barred
                or self.at("command", r"\frac", r"\sqrt", r"\sum", r"\prod", r"\bar", r"\partial", r"\begin{cases}", "{"))

    # ---- one factor ------------------------------------------------------------------------------------------------

    def factor(self) -> Node:
        big = {r"\sum": "sum", r"\prod": "prod"}
        if self.at("command", *big):
            return self.big(big[self.need("command").text])
        if self.at("name", "arg max", "max", "min") and self.marks[self.place + 1 : self.place + 2] == [Token("command", "_")]:
            return self.big(self.need("name").text.replace(" ", ""))
        if self.at("name", *FUNCTIONS) and self._applies():
            return self.application()
        if self.take("command", r"\partial"):
            return Partial(self.factor())
        return self.scripted(self.atom())

    def _applies(self) -> bool:
        """Whether the name of a function here is used as one: brackets follow, perhaps after a power, or another function."""
        after = self.place + 1
        if self.marks[after : after + 1] == [Token("command", "^")]:
            depth, after = 0, after + 1
            while after < len(self.marks):
                depth += {"{": 1, "}": -1}.get(self.marks[after].text, 0) if self.marks[after].kind == "command" else 0
                after += 1
                if not depth:
                    break
        following = self.marks[after : after + 1]
        return any(mark == Token("open", "(") or mark.kind == "name" and mark.text in FUNCTIONS for mark in following)

    def application(self) -> Node:
        function = self.need("name").text
        power = self.group() if self.take("command", "^") else None
        if isinstance(power, Negative):
            raise LatexError(f"{function} to the power of minus one is an inverse function or a reciprocal")
        if self.at("open", "("):
            return Apply(function, power, self.fence().inner)
        return Apply(function, power, (self.factor(),))

    def big(self, kind: str) -> Node:
        over: tuple[Node, ...] = ()
        upper: Node | None = None
        while self.at("command", "_", "^"):
            if self.need("command").text == "_":
                self.need("command", "{")
                over = self.list()
                self.need("command", "}")
            else:
                upper = self.group()
        if not over:
            raise LatexError(f"nothing stands below the {kind}")
        return Big(kind, over, upper, self.term())

    def atom(self) -> Node:
        if found := self.take("number"):
            return Number(float(found.text) if "." in found.text else int(found.text))
        if found := self.take("name"):
            return Name(found.text)
        if found := self.take("bold"):
            return Bold(found.text)
        if self.at("open") or self.at("bar"):
            return self.fence()
        if self.take("command", r"\frac"):
            return Fraction(self.group(), self.group())
        if self.take("command", r"\sqrt"):
            return Root(self.group())
        if self.take("command", r"\bar"):
            return Accent(self.group())
        if self.take("command", r"\begin{cases}"):
            return self.cases()
        if self.take("sign", "dots"):
            return Dots()
        if self.at("command", "{"):
            return self.group()
        raise LatexError(f"expected a value, found {self.here.text or 'the end'!r}")

    def fence(self) -> Node:
        """What stands between brackets; a bar opens where none is open within them, or where it must."""
        outer, opening = self.barred, self.marks[self.place]
        self.place += 1
        self.barred = opening.kind == "bar"
        inner = self.list()
        self.need("bar" if opening.kind == "bar" else "close", opening.text)
        self.barred = outer
        return Fence(opening.text, inner)

    def group(self) -> Node:
        """What stands in braces; one mark needs none."""
        if not self.take("command", "{"):
            return self.atom()
        found = self.relation()
        self.need("command", "}")
        return found

    def scripted(self, base: Node) -> Node:
        below: tuple[Node, ...] | None = None
        above: Node | None = None
        exponent: Node | None = None
        turned = False
        while self.at("command", "_", "^"):
            sign = self.need("command").text
            if sign == "_":
                if below is not None:
                    raise LatexError("two things stand below one letter")
                if self.take("command", "{"):
                    below = self.subscripts()
                    self.need("command", "}")
                else:
                    below = (self.atom(),)
            else:
                if above is not None or exponent is not None or turned:
                    raise LatexError("two things stand above one letter")
                above, exponent, turned = self.above()
        shown = base if below is None and above is None else Script(base, below, above)
        shown = shown if exponent is None else Entrywise(shown, exponent)
        return Transpose(shown) if turned else shown

    def above(self) -> tuple[Node | None, Node | None, bool]:
        r"""What stands above a letter: a label or a power, the power of each entry (after ``\odot``), and whether ``\top``."""
        if not self.take("command", "{"):
            return (None, None, True) if self.take("command", r"\top") else (self.atom(), None, False)
        found = exponent = None
        if self.take("sign", "odot"):
            exponent = self.sum()
        elif not self.at("command", r"\top"):
            found = self.relation()
        turned = self.take("command", r"\top") is not None
        self.need("command", "}")
        return found, exponent, turned

    def subscripts(self) -> tuple[Node, ...]:
        """A list in which slices may stand."""
        found: list[Node] = []
        while True:
            low = None if self.at("sign", ":") else self.relation()
            if self.take("sign", ":"):
                high = None if self.at("sign", ",") or self.at("command", "}") else self.sum()
                found.append(Slice(low, high))
            else:
                assert low is not None
                found.append(low)
            if not self.take("sign", ","):
                return tuple(found)

    def cases(self) -> Node:
        rows: list[tuple[Node, Node | None]] = []
        while True:
            value = self.sum()
            self.need("command", "&")
            condition = None if self.take("text", "otherwise") else self.relation()
            rows.append((value, condition))
            if not self.take("sign", "row"):
                break
        self.need("command", r"\end{cases}")
        return Cases(tuple(rows))
