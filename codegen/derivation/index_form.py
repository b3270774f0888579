"""Index form: expressions and statements as formulas, entry by entry.

    dL/da[t,n,i] = dL/dh[t,n,i] (1 - h[t,n,i]^2)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sympy as sp
from sympy import Indexed, Mul
from sympy.printing.printer import Printer

from codegen.derivation.formula import (
    Bar,
    Big,
    Call,
    Cases,
    Fence,
    Formula,
    Fraction,
    Letter,
    Line,
    List,
    Number,
    Product,
    Root,
    Row,
    Script,
    Sign,
    Term,
    Terms,
    Word,
    brackets,
    row,
    summand,
    summed_up,
)
from codegen.derivation.statements import Statement
from codegen.derivation.symbols import Symbol, letter_or_word
from symbolic.functions import Unspecified
from symbolic.program import Equation, Index, Program, Reduction, index_symbols, tensor_of

__all__ = ["HEADS", "RELATIONS_OF", "IndexForm", "partial_of", "signed_terms"]

RELATIONS_OF = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "=", "ne": "!="}
_RELATIONS = {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "==": "=", "!=": "!="}
HEADS: Mapping[str, Formula] = {
    "sigmoid": Letter("sigma"), "atan": Word("arctan"), "max2": Word("max"), "min2": Word("min"),
    "log_sigmoid": Row((Word("log"), Letter("sigma"))), "sign": Word("sign"),
}


def partial_of(of: Formula, by: Formula) -> Formula:
    """The fraction of a partial derivative."""
    return Fraction(Row((Letter("partial"), of)), Row((Letter("partial"), by)))


class IndexForm(Printer):  # type: ignore[misc]
    """SymPy expressions as formulas; reads are symbols with subscripts, a read of an adjoint is dL/dX.

    ``program`` must know every tensor that is shown.
    """

    printmethod = "_chainrule_formula"  # else SymPy asks Indexed itself

    def __init__(self, program: Program, symbols: Mapping[str, Symbol], adjoint: str = "frac") -> None:
        super().__init__()
        self.program, self.symbols, self.adjoint = program, symbols, adjoint
        self.primal = program.primals
        self._known: dict[Any, Formula] = {}

    def show(self, expr: Any) -> Formula:
        """The formula of an expression."""
        if expr not in self._known:
            self._known[expr] = self._print(expr)
        return self._known[expr]

    def _print(self, expr: Any, **settings: Any) -> Formula:
        """A function that a spec leaves unspecified may be called like one of SymPy's classes; methods are found by name."""
        found: Formula = self._print_Function(expr) if isinstance(expr, Unspecified) else super()._print(expr, **settings)
        return found

    # ---- entries ---------------------------------------------------------------------------------------------------

    def entry(self, name: str, subscripts: Sequence[Any]) -> Formula:
        """An entry of a tensor, or of its adjoint."""
        below = [self.show(part) for part in subscripts]
        if name not in self.primal:
            return (self.symbols.get(name) or Symbol(Word(name))).entry(below)
        return self.adjoint_of(self.primal[name], below)

    def adjoint_of(self, name: str, below: Sequence[Formula] = ()) -> Formula:
        """dL/dX for the entry of X at these subscripts."""
        return self.derivative(name, self.symbols[name], below)

    def derivative(self, name: str, symbol: Symbol, below: Sequence[Formula], bold: bool = False) -> Formula:
        """The derivative of the loss by a tensor of this symbol, as ``adjoint`` has it."""
        if self.adjoint == "code":
            return Symbol(Word(self.program.gradients[name])).entry(below)
        if self.adjoint == "bar":
            return symbol.entry(below, Bar(symbol.base))
        if self.adjoint == "delta":
            return Script(Letter("delta", bold), List(tuple(below)) if below else None, Fence(symbol.entry()))
        return partial_of(self.symbols[self.program.loss].entry(), symbol.entry(below))

    def _print_Indexed(self, expr: Any) -> Formula:
        return self.entry(tensor_of(expr), expr.indices)

    _print_Scalar = _print_Indexed

    def _print_Symbol(self, expr: Any) -> Formula:
        return letter_or_word(str(expr.name))

    # ---- arithmetic ------------------------------------------------------------------------------------------------

    def _print_Integer(self, expr: Any) -> Formula:
        return Number(str(expr.p)) if expr.p >= 0 else Terms((("-", Number(str(-expr.p))),))

    def _print_Rational(self, expr: Any) -> Formula:
        shown = Fraction(Number(str(abs(expr.p))), Number(str(expr.q)))
        return Terms((("-", shown),)) if expr.p < 0 else shown

    def _print_Float(self, expr: Any) -> Formula:
        if float(expr).is_integer() and abs(float(expr)) < 1e6:
            return self._print_Integer(sp.Integer(int(expr)))
        mantissa, mark, exponent = repr(float(expr)).partition("e")
        if not mark:
            return Number(mantissa)
        power = Script(Number("10"), None, Number(str(int(exponent))))
        return power if mantissa == "1" else Row((Number(mantissa), Sign("times"), power))

    def _print_NumberSymbol(self, expr: Any) -> Formula:
        return Letter({"Pi": "pi", "Exp1": "e"}[type(expr).__name__])

    def _print_Infinity(self, expr: Any) -> Formula:
        return Letter("infinity")

    def _print_NegativeInfinity(self, expr: Any) -> Formula:
        return Terms((("-", Letter("infinity")),))

    def _print_Add(self, expr: Any) -> Formula:
        return Terms(tuple((sign, self._beside(part)) for sign, part in signed_terms(expr)))

    def _print_Mul(self, expr: Any) -> Formula:
        if expr.could_extract_minus_sign():
            return Terms((("-", self._beside(-expr)),))
        factors = self.factors(expr)
        return factors[0] if len(factors) == 1 else Product(factors)

    def _beside(self, expr: Any) -> Formula:
        """An operand of a sum."""
        return summand(self.show(expr))

    def factors(self, expr: Any) -> tuple[Formula, ...]:
        """The factors of a product without a sign: numbers and sizes, parameters and values, the adjoint, then what stands in
        brackets. What is divided by goes under a fraction, together with all that is no adjoint and no sum."""
        over: list[Any] = []
        under: list[Any] = []
        for part in Mul.make_args(expr):
            if part.is_Pow and part.exp.is_number and part.exp.is_negative:
                under.append(part.base ** -part.exp)
            elif part.is_Rational and not part.is_Integer:
                over += [sp.Integer(part.p)] if part.p != 1 else []
                under.append(sp.Integer(part.q))
            elif part != 1 or not part.is_Float:  # 0.5*2
                over.append(part)
        over.sort(key=self.rank)
        if not under:
            return tuple(self._factor(part, len(over) > 1) for part in over) or (Number("1"),)
        apart = [p for p in over if self._is_adjoint(p) and self.adjoint == "frac" or p.is_Add]
        top = [p for p in over if p not in apart]
        below = sorted(under, key=self.rank)
        fraction = Fraction(self._side(top), self._side(below))
        return (fraction, *(self._factor(part, True) for part in apart))

    def _side(self, parts: Sequence[Any]) -> Formula:
        if not parts:
            return Number("1")
        if len(parts) == 1:
            return self.show(parts[0])
        return Product(tuple(self._factor(part, True) for part in parts))

    def _factor(self, part: Any, several: bool) -> Formula:
        shown = self.show(part)
        return brackets(shown) if several and isinstance(shown, Terms | Cases) else shown

    def _is_adjoint(self, part: Any) -> bool:
        return isinstance(part, Indexed) and tensor_of(part) in self.primal

    def rank(self, part: Any) -> Any:
        """Where a factor stands in a product: numbers, sizes, values, adjoints, functions, sums."""
        if part.is_number:
            group = 0
        elif not part.atoms(Indexed):
            group = 1
        elif isinstance(part, Indexed):
            group = 3 if self._is_adjoint(part) else 2
        else:
            group = 5 if part.is_Add else 4
        position = self.program.position(part) if isinstance(part, Indexed) else 0
        return group, position, sp.default_sort_key(part)

    def _print_Pow(self, expr: Any) -> Formula:
        base, exponent = expr.base, expr.exp
        if exponent.is_number and exponent.is_negative:
            return Fraction(Number("1"), self.show(base**-exponent))
        if exponent == sp.Rational(1, 2):
            return Root(self.show(base))
        shown, above = self.show(base), self.show(exponent)
        if isinstance(shown, Call) and isinstance(shown.head, Word | Letter) and not isinstance(base, Unspecified):
            return Call(Script(shown.head, None, above), shown.arguments)
        plain = isinstance(shown, Letter | Word | Number) or isinstance(shown, Fence) and shown.kind in "()||"
        if isinstance(shown, Script) and shown.above is None and not isinstance(shown.base, Bar):
            return Script(shown.base, shown.below, above)
        return Script(shown if plain else brackets(shown), None, above)

    # ---- functions -------------------------------------------------------------------------------------------------

    def _print_Function(self, expr: Any) -> Formula:
        name = type(expr).__name__
        if name in RELATIONS_OF:
            left, right = map(self.show, expr.args)
            return Fence(Row((left, Sign(RELATIONS_OF[name]), right)), "[]")
        if name == "where":
            condition, yes, no = map(self.show, expr.args)
            if isinstance(condition, Fence) and condition.kind == "[]":
                condition = condition.inner
            return Cases(((yes, condition), (no, None)))
        if name == "square":
            return self.show(sp.Pow(expr.args[0], 2, evaluate=False))
        if name == "absolute":
            return Fence(self.show(expr.args[0]), "||")
        return Call(self.head(expr, HEADS), tuple(map(self.show, expr.args)))

    def head(self, expr: Any, heads: Mapping[str, Formula]) -> Formula:
        """The name of a function as it is written."""
        if isinstance(expr, Unspecified):
            base = letter_or_word(expr.base)
            return Script(base, None, Word("'" * expr.order)) if expr.order else base
        name = type(expr).__name__
        return (None if self.adjoint == "code" else heads.get(name)) or letter_or_word(name)

    def _print_exp(self, expr: Any) -> Formula:
        return Call(Word("exp"), (self.show(expr.args[0]),))

    _print_ExpBase = _print_exp

    def _print_floor(self, expr: Any) -> Formula:
        return Fence(self.show(expr.args[0]), "floor")

    def _print_Relational(self, expr: Any) -> Formula:
        return Row((self.show(expr.lhs), Sign(_RELATIONS[expr.rel_op]), self.show(expr.rhs)))

    def emptyPrinter(self, expr: Any) -> Formula:
        """What has no formula of its own is shown as SymPy writes it."""
        return Call(letter_or_word(type(expr).__name__), tuple(map(self.show, expr.args))) if expr.args else Word(str(expr))

    # ---- statements ------------------------------------------------------------------------------------------------

    def line(self, statement: Statement) -> Line:
        """A statement as a displayed line."""
        terms = (t for e in statement.terms for t in self.terms(e))
        return self.stated(statement, self.show(statement.target), terms, statement.free)

    def stated(self, statement: Statement, head: Formula, terms: Iterable[Term], told: Iterable[Index]) -> Line:
        """The line of a statement, what is added before what is subtracted, with the ranges of those ``told`` indices that do not
        run over a whole axis."""
        odd = [i for i in told if any(self.is_odd(i, e, statement.target) for e in statement.terms)]
        where = List(tuple(map(self.range_of, odd))) if odd else None
        return Line(head, tuple(sorted(terms, key=lambda term: term.sign == "-")), statement.numbers, where)

    def is_odd(self, over: Index, equation: Equation, target: Any = None) -> bool:
        """Whether an index has another range than an axis that it subscripts: of a free one the axis on the left counts, and only
        where there is none, those on the right; all of them must agree."""
        places = [target] if target is not None and over.symbol in target.indices else [equation.target, *equation.reads]
        shapes = [(entry, self.program.tensor(tensor_of(entry)).shape) for entry in places if tensor_of(entry) in self.program]
        axes = {n for entry, shape in shapes for part, n in zip(entry.indices, shape, strict=True) if part == over.symbol}
        return over.lower != 0 or axes != {over.upper}

    def terms(self, equation: Equation) -> list[Term]:
        """An equation's body as terms, under its sum and its guards."""
        front: list[Formula] = [self.big(equation, equation.reduced)] if equation.reduced else []
        front += [Fence(self.show(guard), "[]") for guard in equation.guards]
        body = equation.body
        if not front and body.is_Add:
            return [Term(sign, self.factors(part)) for sign, part in signed_terms(body)]
        sign = "+"
        if body.could_extract_minus_sign() and not body.is_Add and equation.reduction is Reduction.SUM:
            body, sign = -body, "-"
        if equation.reduction is Reduction.ARGMAX:
            inner = row(*front, self._beside(body))
            return [Term(sign, (Script(Fence(inner), self.show(equation.component)),))]
        if body == 1 and front:
            return [Term(sign, tuple(front) if not equation.reduced else (*front, Number("1")))]
        inner_factors = (brackets(self.show(body)),) if body.is_Add else self._signless(body)
        return [Term(sign, (*front, *inner_factors))]

    def slope(self, source: Equation, read: Indexed, partial: Any) -> Formula:
        """The derivative of an equation by one of its reads: under the equation's guards, and under the sum over what the read
        does not tell (of a maximum it tells all)."""
        lost = [i for i in source.reduced if i.symbol not in index_symbols(read)]
        if source.reduction is not Reduction.SUM or not lost and not source.guards:
            return self.show(partial)
        (term,) = self.terms(replace(source, body=partial, indices=(*source.free, *lost), reduction=Reduction.SUM))
        return summed_up((term,))

    def _signless(self, body: Any) -> tuple[Formula, ...]:
        return (brackets(self.show(body)),) if body.could_extract_minus_sign() else self.factors(body)

    def big(self, equation: Equation, over: Sequence[Index]) -> Formula:
        """The sign of an equation's sum or maximum over some of its indices, with their ranges where they need saying."""
        kind = {Reduction.SUM: "sum", Reduction.MAX: "max", Reduction.ARGMAX: "argmax"}[equation.reduction]
        odd = {i for i in over if self.is_odd(i, equation)}
        if len(over) == 1 and over[0] in odd:
            (one,) = over
            return Big(kind, Row((self.show(one.symbol), Sign("="), self.show(one.lower))), self.show(one.upper - 1))
        parts = [self.range_of(i) if i in odd else self.show(i.symbol) for i in over]
        return Big(kind, List(tuple(parts)) if len(parts) > 1 else parts[0])

    def range_of(self, over: Index) -> Formula:
        """``0 <= p < 4``."""
        return Row((self.show(over.lower), Sign("<="), self.show(over.symbol), Sign("<"), self.show(over.upper)))


def signed_terms(expr: Any) -> Iterable[tuple[str, Any]]:
    """The terms of a sum with their signs, what is added before what is subtracted."""
    pairs = [("-", -t) if t.could_extract_minus_sign() else ("+", t) for t in sp.Add.make_args(expr)]
    return sorted(pairs, key=lambda pair: (pair[0] == "-", bool(pair[1].is_number), sp.default_sort_key(pair[1])))

