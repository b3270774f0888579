"""The network rolled out: nested compositions, and the gradient as a sum over time of products of Jacobians.

    dL/dU = sum_t sum_{k<=t} dL_t/dh_t (prod_{j=k+1..t} dh_j/dh_{j-1}) d+h_k/dU

The Jacobians are those of symbolic.jacobian, for whatever cell the spec has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sympy as sp
from sympy import Indexed

from codegen.derivation.document import Block, Display, Inline, Math, Paragraph, Section, Strong, Words, listed, words
from codegen.derivation.formula import (
    Big,
    Call,
    Fence,
    Formula,
    Fraction,
    Letter,
    Line,
    List,
    Number,
    Product,
    Row,
    Script,
    Sign,
    Term,
    Terms,
    Word,
    brackets,
    row,
    size,
)
from codegen.derivation.index_form import IndexForm
from codegen.derivation.layouts import layouts
from codegen.derivation.matrix_form import MatrixForm, NoMatrixForm
from codegen.derivation.nested import Nested
from codegen.derivation.notation import Notation
from codegen.derivation.provenance import Derivation, Rolled
from codegen.derivation.statements import statements
from symbolic.jacobian import Block as JacobianBlock
from symbolic.jacobian import StepJacobian, step_jacobians
from symbolic.program import Equation, IndexName, Program, Role, index, operands, tensor_of

__all__ = ["rolled_out"]

LARGEST = 160
"""Symbols of a nested composition at most; what is larger is shown as a function of one step."""

WRITTEN_OUT = 4
"""Steps of which every term of the sum over time is written out, at most."""


def rolled_out(derivation: Derivation, notation: Notation) -> list[Section]:
    """The sections for what was unrolled: one for each recurrence; none where nothing was."""
    if derivation.rolled is None:
        return []
    rolled = derivation.rolled
    found = []
    for jacobian in step_jacobians(rolled.program):
        if any(jacobian.recurrence.axes(jacobian.program.tensor(name)) for name in jacobian.recurrence.states):
            found.append(_Recurrence(derivation, rolled, notation, jacobian).section())
    return found


class _Recurrence:
    """One recurrence, rolled out."""

    def __init__(self, derivation: Derivation, rolled: Rolled, notation: Notation, jacobian: StepJacobian) -> None:
        self.rolled, self.notation, self.jacobian = rolled, notation, jacobian
        self.unrolled, self.program = derivation.given, rolled.program
        names, adjoint = notation.index.symbols, notation.index.adjoint
        self.form = IndexForm(self.program, names, adjoint)
        self.vectors = MatrixForm(self.form, layouts(self.program, self.program.equations, vectors=True))
        self.matrices = MatrixForm(self.form, layouts(self.program, self.program.equations))
        self.states = jacobian.recurrence.states
        first = self.program.tensor(self.states[0])
        self.axis = jacobian.recurrence.axes(first)[0]
        own = jacobian.blocks[0].of.indices[self.axis] if jacobian.blocks else index("t")
        self.time: IndexName = own if isinstance(own, IndexName) else index("t")
        self.loss = self.form.symbols[self.program.loss].entry()

    def section(self) -> Section:
        """All of it."""
        time = Math(self.form.show(self.time))
        names = listed([Math(self._state(name)) for name in self.states])
        blocks: list[Block] = [
            Paragraph(words("The recurrence of ", names, " along ", time, f", rolled out over {self.rolled.steps} steps.")),
            *self._composition(), *self._gradient(), *self._cell(), *self._one_pass(),
        ]
        return Section(f"rolled-{self.states[0]}", words("Rolled out: ", *names), tuple(blocks))

    # ---- symbols ---------------------------------------------------------------------------------------------------

    def _state(self, name: str, at: Formula | None = None) -> Formula:
        return self.vectors.symbol(name, () if at is None else (at,))

    def _all(self, at: Formula) -> Formula:
        """The state of a step: h_t, or s_t for several together."""
        if len(self.states) == 1 and not self._lags():
            return self._state(self.states[0], at)
        return Script(Letter("s", bold=True), List((at,)))

    def _lags(self) -> bool:
        """Whether a step reads further back than the one before."""
        return any(abs(self.jacobian.lag(b)) > 1 for b in self.jacobian.blocks)

    def _weights(self) -> tuple[str, ...]:
        """The parameters that multiply a state of an earlier step."""
        found: dict[str, None] = {}
        for name in self.jacobian.recurrence.tensors:
            for equation in self.program.writers.get(name, ()):
                for term in sp.Add.make_args(equation.body):
                    reads = operands(term)
                    if any(tensor_of(r) in self.jacobian.recurrence.tensors for r in reads):
                        found.update(dict.fromkeys(
                            tensor_of(r) for r in reads if self.program.tensor(tensor_of(r)).role is Role.PARAMETER))
        return tuple(found)

    def _parameter(self) -> Formula:
        weights = self._weights()
        return self.vectors.symbol(weights[0]) if len(weights) == 1 else Letter("theta")

    def _reading(self) -> frozenset[str]:
        """The tensors that depend on the state, the recurrence among them."""
        found, frontier = set(self.jacobian.recurrence.tensors), list(self.jacobian.recurrence.tensors)
        while frontier:
            for equation in self.program.readers.get(frontier.pop(), ()):
                if equation.name not in found:
                    found.add(equation.name)
                    frontier.append(equation.name)
        return frozenset(found)

    def _inside(self, top: str) -> frozenset[str]:
        """What is put in: the recurrence, and what leads from it to ``top``."""
        above, frontier = set(), [top]
        while frontier:
            if (name := frontier.pop()) not in above:
                above.add(name)
                frontier += [tensor_of(r) for e in self.program.writers.get(name, ()) for r in operands(e.body)]
        return self._reading() & above | frozenset(self.jacobian.recurrence.tensors)

    # ---- compositions ----------------------------------------------------------------------------------------------

    def _composition(self) -> list[Block]:
        """One step, what is predicted with earlier steps put in, and the same from the start on; or a function of one step, where
        the cell is too large to be put into itself."""
        if len(self.states) > 1:
            return self._composed()
        for top in self._tops():
            try:
                found = self._nested(top)
            except NoMatrixForm:
                continue
            lines = [block.line for block in found if isinstance(block, Display)]
            if all(sum(size(f) for term in line.terms for f in term.factors) <= LARGEST for line in lines):
                return found
        return self._composed()

    def _tops(self) -> list[str]:
        """What a composition may be shown of: the prediction, the last values of a step that read the state, the state."""
        stepped = [t.name for t in self.program.tensors
                   if self.jacobian.recurrence.axes(t) and t.name not in self.jacobian.recurrence.tensors]
        after = [n for n in reversed(stepped) if n in self._reading()]
        return [*dict.fromkeys([n for n in (self.rolled.prediction,) if n in self._reading()] + after), self.states[0]]

    def _nested(self, top: str) -> list[Block]:
        """The composition of a tensor, as deep as the steps that were asked for."""
        group = frozenset(self.jacobian.recurrence.tensors)
        inside = self._inside(top)
        whole = layouts(self.program, self.program.equations)
        blocks: list[Block] = [Paragraph(words("One step, with what lies between put in:"))]
        blocks.append(self._line(Nested(self.form, whole, group - frozenset(self.states)), self.states[0]))
        if top not in group:
            blocks.append(self._line(Nested(self.form, whole, inside - group), top))
        steps = self.rolled.steps
        blocks.append(Paragraph(words("Put into itself, ", _times(steps), ":")))
        blocks.append(self._line(Nested(self.form, whole, inside, frozenset(self.states), self.time, steps - 1), top))
        if steps <= WRITTEN_OUT:
            blocks.append(Paragraph(words("And from the first step on:")))
            blocks += self._from_the_start(top, inside)
        return blocks

    def _line(self, nested: Nested, name: str) -> Display:
        """The definition of a tensor's entry at its bare indices."""
        equation = next(e for e in self.program.writers[name] if all(isinstance(p, IndexName) for p in e.target.indices))
        free = equation.free
        shown = MatrixForm.read(nested, equation.target, {i.symbol: i for i in free})[0]
        return Display(Line(shown, nested.terms_of(equation.target, free)))

    def _from_the_start(self, name: str, inside: frozenset[str]) -> list[Block]:
        """Each step of the unrolled program, all earlier ones put in."""
        form = replace_program(self.form, self.unrolled)
        nested = Nested(form, layouts(self.unrolled, self.unrolled.equations), inside)
        found: list[Block] = []
        for equations in _by_target(self.unrolled.writers.get(name, ())):
            target, free = equations[0].target, equations[0].free
            shown = MatrixForm.read(nested, target, {i.symbol: i for i in free})[0]
            found.append(Display(Line(shown, nested.terms_of(target, free))))
        return found

    def _composed(self) -> list[Block]:
        """The composition as a function of one step, where the cell is too large to be put into itself."""
        f, inputs = Letter("F"), self._inputs()
        written = [self.notation_of_step(group) for group in _by_target(
            [e for e in self.program.equations if e.name in self.jacobian.recurrence.tensors])]

        def state(back: int) -> Formula:
            at = self.form.show(self.time - back)
            parts = tuple(self._state(n, at) for n in self.states)
            return parts[0] if len(parts) == 1 else Fence(List(parts))

        def fed(back: int) -> tuple[Formula, ...]:
            return tuple(self._state(n, self.form.show(self.time - back)) for n in inputs)

        inner: Formula = Sign("dots")
        for back in reversed(range(self.rolled.steps)):
            inner = Call(f, (inner, *fed(back)))
        return [
            Paragraph(words("One step computes")),
            *written,
            Paragraph(words("This is a function ", Math(f), " of the state before it and of what the step reads,")),
            Display(Line(state(0), (Term("+", (Call(f, (state(1), *fed(0))),)),))),
            Paragraph(words("Put into itself, ", _times(self.rolled.steps), ":")),
            Display(Line(state(0), (Term("+", (inner,)),))),
        ]

    def notation_of_step(self, equations: Sequence[Equation]) -> Display:
        """Equations of the rolled program, without the numbers, which are those of the unrolled one."""
        (found,) = statements(equations, self.program)
        notation = replace(self.notation, index=self.form, matrix=self.matrices if self.notation.matrix is not None else None)
        line, said = notation.line(found)
        return Display(replace(line, numbers=()), said)

    def _inputs(self) -> list[str]:
        """What a step reads from outside, step by step."""
        group = self.jacobian.recurrence.tensors
        read = dict.fromkeys(tensor_of(r) for n in group for e in self.program.writers[n] for r in operands(e.body))
        return [n for n in read if n not in group and self.program.tensor(n).role is not Role.PARAMETER
                and self.jacobian.recurrence.axes(self.program.tensor(n))]

    # ---- the gradient ----------------------------------------------------------------------------------------------

    def _gradient(self) -> list[Block]:
        """The product rule at one step, the sum that it unrolls to, and its terms one by one."""
        time, k, j = self.form.show(self.time), Letter("k"), Letter("j")
        now, before = self._all(time), self._all(self.form.show(self.time - 1))
        theta = self._parameter()
        weights = self._weights()
        l_t = Script(self.loss, List((time,)))
        opening: list[Inline | Words] = []
        if self._lags():
            opening += [Math(now), " is the state of a step together with those that later steps still read. "]
        elif len(self.states) > 1:
            opening += [Math(now), " stands for ", listed([Math(self._state(n, time)) for n in self.states]), " together. "]
        if len(weights) > 1:
            opening += [Math(theta), " stands for any of ", listed([Math(self.vectors.symbol(n)) for n in weights]), ". "]
        chain = Big("prod", Row((j, Sign("="), k, Sign("+"), Number("1"))), time)
        step = _partial(self._all(j), self._all(Row((j, Sign("-"), Number("1")))))
        path = brackets(Product((chain, step)))
        read: list[Block] = [
            Paragraph(words(
                *opening, "The weights ", Math(theta), " are read at every step, so a change of them reaches ",
                Math(now), " at once, with the state before it held fixed, and through that state. This is the ",
                Strong("product rule"), ": the immediate part, marked with a plus, and the Jacobian of the step times the "
                "derivative of the state before,")),
            Display(Line(_total(now, theta), (
                Term("+", (_immediate(now, theta),)), Term("+", (_partial(now, before), _total(before, theta)))))),
            Paragraph(words(
                "Put into itself down to the first step, it becomes a sum over the steps ", Math(k), " at which the weights were "
                "read, each with the product of the Jacobians from there on:")),
            Display(Line(_total(now, theta), (Term("+", (
                Big("sum", Row((k, Sign("<="), time))), path, _immediate(self._all(k), theta))),))),
            Paragraph(words(Math(l_t), " is the part of the loss that reads the state of step ", Math(time),
                            " directly. Over all steps,")),
            Display(Line(_total(self.loss, theta), (Term("+", (
                Big("sum", time), Big("sum", Row((k, Sign("<="), time))), _partial(l_t, now), path,
                _immediate(self._all(k), theta))),))),
        ]
        if self.rolled.steps <= WRITTEN_OUT:
            read += [Paragraph(words(f"Written out for {self.rolled.steps} steps:")), Display(self._written_out(theta))]
        return read

    def _written_out(self, theta: Formula) -> Line:
        terms = []
        for t in range(self.rolled.steps):
            def at(step: int) -> Formula:
                return self._all(Number(str(step)))

            inner: list[tuple[str, Formula]] = []
            for k in range(t, -1, -1):
                jacobians = tuple(_partial(at(j), at(j - 1)) for j in range(t, k, -1))
                inner.append(("+", Product((*jacobians, _immediate(at(k), theta))) if jacobians else _immediate(at(k), theta)))
            part = Script(self.loss, List((Number(str(t)),)))
            whole = inner[0][1] if len(inner) == 1 else brackets(Terms(tuple(inner)))
            terms.append(Term("+", (_partial(part, at(t)), whole)))
        return Line(_total(self.loss, theta), tuple(terms))

    # ---- the cell --------------------------------------------------------------------------------------------------

    def _cell(self) -> list[Block]:
        """The Jacobians of this cell, and what the recurrent weights give at once."""
        blocks: list[Block] = [Paragraph(words("For this cell the Jacobian of one step is"))]
        blocks += [Display(self._jacobian(b)) for b in self.jacobian.blocks]
        single = self.jacobian.blocks[0] if len(self.jacobian.blocks) == 1 else None
        if single is not None and not single.is_diagonal and (line := self._product(single)) is not None:
            blocks.append(Paragraph(words("and the product of the Jacobians from step ", Math(Letter("k")), " to step ",
                                          Math(self.form.show(self.time)))))
            blocks.append(Display(line))
        weights = self._weights()
        direct = [b for b in self.jacobian.direct if tensor_of(b.by) in weights]
        if direct:
            blocks.append(Paragraph(words("At once, with the states before held fixed, the recurrent weights give")))
            blocks += [Display(self._indexed(b, plus=True)) for b in direct]
        return blocks

    def _jacobian(self, block: JacobianBlock) -> Line:
        """A block as a matrix, entry by entry where it has no such form."""
        try:
            return Line(self._head(block), tuple(self._terms(block)))
        except NoMatrixForm:
            return self._indexed(block)

    def _head(self, block: JacobianBlock) -> Formula:
        domain = {i.symbol: i for i in block.indices}
        return _partial(self.vectors.read(block.of, domain)[0], self.vectors.read(block.by, domain)[0])

    def _terms(self, block: JacobianBlock) -> list[Term]:
        domain = {i.symbol: i for i in block.indices}
        rows, columns = (self.vectors.read(e, domain)[1] for e in (block.of, block.by))
        found = []
        for term in block.terms:
            if term.guards:
                raise NoMatrixForm
            found += self.vectors.jacobian_terms(term.coefficient, rows, columns, {**domain, **{i.symbol: i for i in term.sums}})
        return found

    def _product(self, block: JacobianBlock) -> Line | None:
        k, j, time = Letter("k"), index("j"), self.form.show(self.time)
        rule = {j: index("_j"), self.time: j}  # an index of the block that is called j too does not show in matrices
        moved = replace(block, of=block.of.xreplace(rule), by=block.by.xreplace(rule),
                        indices=tuple(replace(i, symbol=rule.get(i.symbol, i.symbol)) for i in block.indices),
                        terms=tuple(replace(t, coefficient=t.coefficient.xreplace(rule)) for t in block.terms))
        try:
            terms = self._terms(moved)
            head = self._head(moved)
        except NoMatrixForm:
            return None
        big = Big("prod", Row((self.form.show(j), Sign("="), k, Sign("+"), Number("1"))), time)
        inner = terms[0].factors if len(terms) == 1 and terms[0].sign == "+" else (
            brackets(Terms(tuple((t.sign, row(*t.factors)) for t in terms))),)
        return Line(Product((big, head)), (Term("+", (big, *inner)),))

    def _indexed(self, block: JacobianBlock, plus: bool = False) -> Line:
        """A block entry by entry."""
        target: Indexed = block.of
        terms: list[Term] = []
        for term in block.terms:
            equation = Equation(target, term.coefficient, (*block.indices, *term.sums), term.guards)
            shown = self.form.terms(replace(equation, indices=tuple(
                i for i in equation.indices if i in term.sums or i in equation.free)), alone=len(block.terms) == 1)
            terms += shown
        over = _immediate if plus else _partial
        return Line(over(self.form.show(block.of), self.form.show(block.by)), tuple(terms))

    # ---- one pass --------------------------------------------------------------------------------------------------

    def _one_pass(self) -> list[Block]:
        """How the rolled code computes the same sum."""
        time, k = self.form.show(self.time), Letter("k")
        now, after = self._all(time), self._all(self.form.show(self.time + 1))
        theta, l_t = self._parameter(), Script(self.loss, List((time,)))
        steps = self.program.tensor(self.states[0]).shape[self.axis]
        return [
            Paragraph(words("The double sum is never formed. Taken together from the last step backwards, everything that "
                            "arrives at a "
                            "state is one row,")),
            Display(Line(_total(self.loss, now), (
                Term("+", (_partial(l_t, now),)), Term("+", (_total(self.loss, after), _partial(after, now)))))),
            Paragraph(words("and each step adds its part to the gradient,")),
            Display(Line(_total(self.loss, theta), (Term("+", (
                Big("sum", k), _total(self.loss, self._all(k)), _immediate(self._all(k), theta))),))),
            Paragraph(words(
                "This is one loop from the last step to the first: the rolled derivation and its code (without ",
                Strong("unrolling"), ") do just this, a row times a Jacobian at each of the ", Math(self.form.show(steps)),
                " steps, and the sum over the steps in one product of matrices after the loop. The same values come out. "
                "(Derivatives by a vector are rows here, so that Jacobians stand in the order in which they are applied.)",
                *((" Where a state is made from another one of the same step, the code passes its part on within the step too.",)
                  if len(self.states) > 1 else ()))),
        ]


def replace_program(form: IndexForm, program: Program) -> IndexForm:
    """The same way of writing for another program."""
    return IndexForm(program, form.symbols, form.adjoint)


def _by_target(equations: Sequence[Equation]) -> list[list[Equation]]:
    found: dict[Indexed, list[Equation]] = {}
    for equation in equations:
        found.setdefault(equation.target, []).append(equation)
    return list(found.values())


def _partial(of: Formula, by: Formula) -> Formula:
    return Fraction(Row((Letter("partial"), of)), Row((Letter("partial"), by)))


def _immediate(of: Formula, by: Formula) -> Formula:
    return Fraction(Row((Script(Letter("partial"), None, Sign("+")), of)), Row((Letter("partial"), by)))


def _total(of: Formula, by: Formula) -> Formula:
    return Fraction(Row((Word("d"), of)), Row((Word("d"), by)))


def _times(steps: int) -> str:
    return {1: "once", 2: "twice"}.get(steps, f"{steps} steps deep")
