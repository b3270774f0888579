"""The gradient of a recurrence as a sum over time of products of Jacobians, and how one pass computes it.

    dL/dU = sum_t sum_{k<=t} dL_t/dh_t (prod_{j=k+1..t} dh_j/dh_{j-1}) d+h_k/dU

The Jacobians are those of symbolic.jacobian, for whatever cell the spec has. (Werbos 1990; Pascanu, Mikolov, Bengio 2013.)
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from sympy import Indexed

from codegen.derivation.document import Block, Display, Inline, Math, Paragraph, Strong, Words, listed, words
from codegen.derivation.formula import (
    Big,
    Formula,
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
    brackets,
    row,
)
from codegen.derivation.index_form import partial_of
from codegen.derivation.matrix_parts import NoMatrixForm
from codegen.derivation.recurrent import WRITTEN_OUT, Recurrent, immediate, total
from symbolic.jacobian import Block as JacobianBlock
from symbolic.program import Equation, index, tensor_of
from symbolic.recurrence import recurrences

__all__ = ["JacobianSums"]


class JacobianSums(Recurrent):
    """Writes the sum over time of one recurrence."""

    def blocks(self) -> list[Block]:
        """The general sum, the Jacobians of this cell, and the one pass."""
        if not self.way:
            return [Paragraph(words("Some of its states are made from earlier steps and others from later ones, so there is no "
                                    "sum over time in one direction.")), *self._cell()]
        return [*self._gradient(), *self._cell(), *self._one_pass()]

    def _gradient(self) -> list[Block]:
        """The product rule at one step, the sum that it unrolls to, and its terms one by one."""
        time, k = self.form.show(self.time), Letter(self.letter("kmpq"))
        now, before = self.all_at(time), self.all_at(self.at(1))
        theta = self.parameter()
        weights = self.weights()
        opening: list[Inline | Words] = []
        if self.lags():
            opening += [Math(now), " is the state of a step together with those that later steps still read. "]
        elif len(self.states) > 1:
            opening += [Math(now), " stands for ", listed([Math(self.state(n, time)) for n in self.states]), " together. "]
        if len(weights) > 1:
            opening += [Math(theta), " stands for any of ", listed([Math(self.vectors.symbol(n)) for n in weights]), ". "]
        big, step = self._product_of_steps(k)
        path = brackets(Product((big, step)))
        over = Big("sum", Row((k, Sign("<=" if self.way > 0 else ">="), time)))
        read: list[Block] = [
            Paragraph(words(
                *opening, "The weights ", Math(theta), " are read at every step, so a change of them reaches ",
                Math(now), " at once, with the state before it held fixed, and through that state. This is the ",
                Strong("product rule"), ": the immediate part, marked with a plus, and the Jacobian of the step times the "
                "derivative of the state before,")),
            Display(Line(total(now, theta), (
                Term("+", (immediate(now, theta),)), Term("+", (partial_of(now, before), total(before, theta)))))),
            Paragraph(words(
                "Put into itself down to the first step, it becomes a sum over the steps ", Math(k), " at which the weights were "
                "read, each with the product of the Jacobians from there on, the last of them on the left:")),
            Display(Line(total(now, theta), (Term("+", (over, path, immediate(self.all_at(k), theta))),))),
            Paragraph(self._of_the_loss(now, time)),
            Display(Line(total(self.loss, theta), (
                Term("+", (Big("sum", time), over, self._loss_by(time), path, immediate(self.all_at(k), theta))),
                *self._elsewhere(theta)))),
        ]
        if self.rolled.steps <= WRITTEN_OUT:
            read += [Paragraph(words(f"Written out for {self.rolled.steps} steps:")), Display(self._written_out(theta))]
        return read

    def _product_of_steps(self, k: Formula) -> tuple[Formula, Formula]:
        """The product sign from the step ``k`` to this one, and the Jacobian under it."""
        time, j, one = self.form.show(self.time), Letter(self.letter("jlir")), Number("1")
        if self.way > 0:
            return Big("prod", Row((j, Sign("="), k, Sign("+"), one)), time), partial_of(
                self.all_at(j), self.all_at(Row((j, Sign("-"), one))))
        return Big("prod", Row((j, Sign("="), time)), Row((k, Sign("-"), one))), partial_of(
            self.all_at(j), self.all_at(Row((j, Sign("+"), one))))

    def _loss_by(self, step: Formula) -> Formula:
        """The derivative of the loss by the state of a step with the later states held fixed."""
        state = self.all_at(step)
        return partial_of(Script(self.loss, List((step,))), state) if self._is_sum_over_steps else immediate(self.loss, state)

    def _of_the_loss(self, now: Formula, time: Formula) -> Words:
        if self._is_sum_over_steps:
            part = Math(Script(self.loss, List((time,))))
            return words("The loss is a sum over the steps; ", part, " is the part of it that reads the state of step ",
                         Math(time), ". Over all steps,")
        return words(Math(immediate(self.loss, now)), " is the derivative of the loss by the state of a step with the later "
                     "states held fixed, 0 where the loss hangs on that state through later ones alone. Over all steps,")

    @cached_property
    def _is_sum_over_steps(self) -> bool:
        """Whether each state reaches the loss at its own step alone, and the loss adds the steps up."""
        group, reading = frozenset(self.jacobian.recurrence.tensors), self.reading
        for name in reading - group:
            tensor = self.program.tensor(name)
            axes = self.jacobian.recurrence.axes(tensor)
            if name in self.rolled.program.outputs:
                continue
            for equation in self.program.writers.get(name, ()):
                for entry in equation.reads:
                    places = self.jacobian.recurrence.axes(self.program.tensor(tensor_of(entry)))
                    if tensor_of(entry) not in reading or not places:
                        continue
                    step = entry.indices[places[0]]
                    alone = tensor_of(entry) not in self._other_groups
                    same = equation.target.indices[axes[0]] == step if axes else name == self.program.loss and step in {
                        i.symbol for i in equation.reduced}
                    if not (alone and same):
                        return False
        return True

    @cached_property
    def _other_groups(self) -> frozenset[str]:
        """What lies in another recurrence: it hangs on the states of other steps."""
        own = frozenset(self.jacobian.recurrence.tensors)
        return frozenset(n for r in recurrences(self.program) for n in r.tensors) - own

    def _elsewhere(self, theta: Formula) -> tuple[Term, ...]:
        """What the loss gets from the weights not through this recurrence."""
        group = frozenset(self.jacobian.recurrence.tensors)
        other = any(e.name not in group for n in self.weights() for e in self.program.readers.get(n, ()))
        return (Term("+", (immediate(self.loss, theta),)),) if other else ()

    def _written_out(self, theta: Formula) -> Line:
        """The double sum for as many steps as were unrolled."""
        terms, last = [], self.rolled.steps - 1

        def at(step: int) -> Formula:
            return self.all_at(number(step))

        def number(step: int) -> Formula:
            return Number(str(step if self.way > 0 else last - step))

        for t in range(self.rolled.steps):
            inner: list[tuple[str, Formula]] = []
            for k in range(t, -1, -1):
                jacobians = tuple(partial_of(at(j), at(j - 1)) for j in range(t, k, -1))
                inner.append(("+", Product((*jacobians, immediate(at(k), theta))) if jacobians else immediate(at(k), theta)))
            whole = inner[0][1] if len(inner) == 1 else brackets(Terms(tuple(inner)))
            terms.append(Term("+", (self._loss_by(number(t)), whole)))
        return Line(total(self.loss, theta), (*terms, *self._elsewhere(theta)))

    # ---- the cell --------------------------------------------------------------------------------------------------

    def _cell(self) -> list[Block]:
        """The Jacobians of this cell, and what the recurrent weights give at once."""
        blocks: list[Block] = [Paragraph(words("For this cell the Jacobian of one step is"))]
        blocks += [Display(self._jacobian(b)) for b in self.jacobian.blocks]
        single = self.jacobian.blocks[0] if len(self.jacobian.blocks) == 1 else None
        if single is not None and not single.is_diagonal and (line := self._product(single)) is not None:
            start, end = Math(Letter(self.letter("kmpq"))), Math(self.form.show(self.time))
            blocks.append(Paragraph(words("and the product of the Jacobians from step ", start, " to step ", end)))
            blocks.append(Display(line))
        weights = self.weights()
        direct = [b for b in self.jacobian.direct if tensor_of(b.by) in weights]
        if direct:
            blocks.append(Paragraph(words("At once, with the states before held fixed, the recurrent weights give")))
            blocks += [Display(self._indexed(b, plus=True)) for b in direct]
        others = dict.fromkeys(n for b in self.jacobian.direct if (n := tensor_of(b.by)) not in weights)
        if others:
            names = listed([Math(self.vectors.symbol(n)) for n in others])
            blocks.append(Paragraph(words("What else is read at every step, ", names, ", has the same sum for its gradient, with "
                                          "its own immediate derivative.")))
        return blocks

    def _jacobian(self, block: JacobianBlock) -> Line:
        """A block as a matrix, entry by entry where it has no such form."""
        try:
            return Line(self._head(block), tuple(self._terms(block)))
        except NoMatrixForm:
            return self._indexed(block)

    def _head(self, block: JacobianBlock) -> Formula:
        domain = {i.symbol: i for i in block.indices}
        return partial_of(self.vectors.read(block.of, domain)[0], self.vectors.read(block.by, domain)[0])

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
        k, j = Letter(self.letter("kmpq")), index(self.letter("jlir"))
        rule = {j: index("_j"), self.time: j}  # an index of the block that is called j too does not show in matrices
        moved = replace(block, of=block.of.xreplace(rule), by=block.by.xreplace(rule),
                        indices=tuple(replace(i, symbol=rule.get(i.symbol, i.symbol)) for i in block.indices),
                        terms=tuple(replace(t, coefficient=t.coefficient.xreplace(rule)) for t in block.terms))
        try:
            terms = self._terms(moved)
            head = self._head(moved)
        except NoMatrixForm:
            return None
        big, _ = self._product_of_steps(k)
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
                i for i in equation.indices if i in term.sums or i in equation.free)))
            terms += shown
        over = immediate if plus else partial_of
        return Line(over(self.form.show(block.of), self.form.show(block.by)), tuple(terms))

    # ---- one pass --------------------------------------------------------------------------------------------------

    def _one_pass(self) -> list[Block]:
        """How the rolled code computes the same sum."""
        time, k = self.form.show(self.time), Letter(self.letter("kmpq"))
        now, after = self.all_at(time), self.all_at(self.at(-1))
        theta = self.parameter()
        steps = self.program.tensor(self.states[0]).shape[self.axis]
        start, end = ("last", "first") if self.way > 0 else ("first", "last")
        return [
            Paragraph(words(f"The double sum is never formed. Taken together from the {start} step to the {end}, everything that "
                            "arrives at a state is one row,")),
            Display(Line(total(self.loss, now), (
                Term("+", (self._loss_by(time),)), Term("+", (total(self.loss, after), partial_of(after, now)))))),
            Paragraph(words("and each step adds its part to the gradient,")),
            Display(Line(total(self.loss, theta), (
                Term("+", (Big("sum", k), total(self.loss, self.all_at(k)), immediate(self.all_at(k), theta))),
                *self._elsewhere(theta)))),
            Paragraph(words(
                f"This is one loop from the {start} step to the {end}: the rolled derivation and its code (without ",
                Strong("unrolling"), ") do just this, a row times a Jacobian at each of the ", Math(self.form.show(steps)),
                " steps, and the sum over the steps in one product of matrices after the loop. The same values come out. "
                "(Derivatives by a vector are rows here, so that Jacobians stand in the order in which they are applied.)",
                *((" Where a state is made from another one of the same step, the code passes its part on within the step too.",)
                  if len(self.states) > 1 else ()))),
        ]
