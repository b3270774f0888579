"""The gradient of a recurrence as a sum over time of products of Jacobians, and how one pass computes it.

    dL/dU = sum_t sum_{k<=t} dL_t/dh_t (prod_{j=k+1..t} dh_j/dh_{j-1}) d+h_k/dU

The Jacobians are those of symbolic.jacobian, for whatever cell the spec has. (Werbos 1990; Pascanu, Mikolov, Bengio 2013.)
"""

from __future__ import annotations

from dataclasses import replace

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
from codegen.derivation.matrix_form import NoMatrixForm
from codegen.derivation.recurrent import WRITTEN_OUT, Recurrent, immediate, partial, total
from symbolic.jacobian import Block as JacobianBlock
from symbolic.program import Equation, index, tensor_of

__all__ = ["JacobianSums"]


class JacobianSums(Recurrent):
    """Writes the sum over time of one recurrence."""

    def blocks(self) -> list[Block]:
        """The general sum, the Jacobians of this cell, and the one pass."""
        return [*self._gradient(), *self._cell(), *self._one_pass()]

    def _gradient(self) -> list[Block]:
        """The product rule at one step, the sum that it unrolls to, and its terms one by one."""
        time, k, j = self.form.show(self.time), Letter("k"), Letter("j")
        now, before = self.all_at(time), self.all_at(self.form.show(self.time - 1))
        theta = self.parameter()
        weights = self.weights()
        l_t = Script(self.loss, List((time,)))
        opening: list[Inline | Words] = []
        if self.lags():
            opening += [Math(now), " is the state of a step together with those that later steps still read. "]
        elif len(self.states) > 1:
            opening += [Math(now), " stands for ", listed([Math(self.state(n, time)) for n in self.states]), " together. "]
        if len(weights) > 1:
            opening += [Math(theta), " stands for any of ", listed([Math(self.vectors.symbol(n)) for n in weights]), ". "]
        chain = Big("prod", Row((j, Sign("="), k, Sign("+"), Number("1"))), time)
        step = partial(self.all_at(j), self.all_at(Row((j, Sign("-"), Number("1")))))
        path = brackets(Product((chain, step)))
        read: list[Block] = [
            Paragraph(words(
                *opening, "The weights ", Math(theta), " are read at every step, so a change of them reaches ",
                Math(now), " at once, with the state before it held fixed, and through that state. This is the ",
                Strong("product rule"), ": the immediate part, marked with a plus, and the Jacobian of the step times the "
                "derivative of the state before,")),
            Display(Line(total(now, theta), (
                Term("+", (immediate(now, theta),)), Term("+", (partial(now, before), total(before, theta)))))),
            Paragraph(words(
                "Put into itself down to the first step, it becomes a sum over the steps ", Math(k), " at which the weights were "
                "read, each with the product of the Jacobians from there on:")),
            Display(Line(total(now, theta), (Term("+", (
                Big("sum", Row((k, Sign("<="), time))), path, immediate(self.all_at(k), theta))),))),
            Paragraph(words(Math(l_t), " is the part of the loss that reads the state of step ", Math(time),
                            " directly, 0 where there is none. Over all steps,")),
            Display(Line(total(self.loss, theta), (Term("+", (
                Big("sum", time), Big("sum", Row((k, Sign("<="), time))), partial(l_t, now), path,
                immediate(self.all_at(k), theta))),))),
        ]
        if self.rolled.steps <= WRITTEN_OUT:
            read += [Paragraph(words(f"Written out for {self.rolled.steps} steps:")), Display(self._written_out(theta))]
        return read

    def _written_out(self, theta: Formula) -> Line:
        terms = []
        for t in range(self.rolled.steps):
            def at(step: int) -> Formula:
                return self.all_at(Number(str(step)))

            inner: list[tuple[str, Formula]] = []
            for k in range(t, -1, -1):
                jacobians = tuple(partial(at(j), at(j - 1)) for j in range(t, k, -1))
                inner.append(("+", Product((*jacobians, immediate(at(k), theta))) if jacobians else immediate(at(k), theta)))
            part = Script(self.loss, List((Number(str(t)),)))
            whole = inner[0][1] if len(inner) == 1 else brackets(Terms(tuple(inner)))
            terms.append(Term("+", (partial(part, at(t)), whole)))
        return Line(total(self.loss, theta), tuple(terms))

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
        return partial(self.vectors.read(block.of, domain)[0], self.vectors.read(block.by, domain)[0])

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
        over = immediate if plus else partial
        return Line(over(self.form.show(block.of), self.form.show(block.by)), tuple(terms))

    # ---- one pass --------------------------------------------------------------------------------------------------

    def _one_pass(self) -> list[Block]:
        """How the rolled code computes the same sum."""
        time, k = self.form.show(self.time), Letter("k")
        now, after = self.all_at(time), self.all_at(self.form.show(self.time + 1))
        theta, l_t = self.parameter(), Script(self.loss, List((time,)))
        steps = self.program.tensor(self.states[0]).shape[self.axis]
        return [
            Paragraph(words("The double sum is never formed. Taken together from the last step backwards, everything that "
                            "arrives at a "
                            "state is one row,")),
            Display(Line(total(self.loss, now), (
                Term("+", (partial(l_t, now),)), Term("+", (total(self.loss, after), partial(after, now)))))),
            Paragraph(words("and each step adds its part to the gradient,")),
            Display(Line(total(self.loss, theta), (Term("+", (
                Big("sum", k), total(self.loss, self.all_at(k)), immediate(self.all_at(k), theta))),))),
            Paragraph(words(
                "This is one loop from the last step to the first: the rolled derivation and its code (without ",
                Strong("unrolling"), ") do just this, a row times a Jacobian at each of the ", Math(self.form.show(steps)),
                " steps, and the sum over the steps in one product of matrices after the loop. The same values come out. "
                "(Derivatives by a vector are rows here, so that Jacobians stand in the order in which they are applied.)",
                *((" Where a state is made from another one of the same step, the code passes its part on within the step too.",)
                  if len(self.states) > 1 else ()))),
        ]
