"""One step of a derivation: the adjoint of one tensor, from the equations that read it to the form in which it is computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from codegen.derivation.document import (
    Block,
    Bullets,
    Code,
    Display,
    Inline,
    Math,
    Paragraph,
    Ref,
    Section,
    Strong,
    Words,
    continued,
    listed,
    words,
)
from codegen.derivation.formula import Formula, Sign, row
from codegen.derivation.index_form import partial_of
from codegen.derivation.notation import Notation
from codegen.derivation.provenance import Adjoint, Derivation, Path
from codegen.derivation.rules import FORMS, rules_of, shift_of
from codegen.derivation.statements import Statement, statements
from symbolic.analysis import index_reads
from symbolic.program import Equation, Program, index, index_symbols, tensor_of

__all__ = ["Steps"]


class Steps:
    """Writes the steps of one derivation."""

    def __init__(self, derivation: Derivation, notation: Notation) -> None:
        self.derivation, self.notation, self.form = derivation, notation, notation.index

    def symbol(self, name: str) -> Math:
        """A tensor's symbol without subscripts."""
        return Math(self.notation.symbol(name))

    def adjoint(self, name: str) -> Math:
        """dL/dX without subscripts."""
        return Math(self.notation.adjoint(name))

    def lines(self, equations: Sequence[Equation], program: Program) -> list[Display]:
        """The statements that equations of one tensor make, displayed."""
        return [Display(*self.notation.line(s)) for s in statements(equations, program)]

    def step(self, adjoint: Adjoint) -> Section:
        """One step: the adjoint of one tensor."""
        name = adjoint.name
        blocks: list[Block] = []
        if adjoint.seed:
            blocks.append(Paragraph(words("The start: the derivative of the loss by itself.")))
        else:
            blocks += self._opening(adjoint)
        blocks += self._chain(adjoint)
        return Section(f"d-{name}", words(self.adjoint(name), "  ", Code(name)), tuple(blocks), step=True)

    def _opening(self, adjoint: Adjoint) -> list[Block]:
        """Where the tensor is read, and what each of these equations passes back."""
        name = self.symbol(adjoint.name)
        if len(adjoint.paths) == 1:
            (path,) = adjoint.paths
            return [Paragraph(words(name, " is read in ", Ref(path.origin.parents[0]), " alone: ", *self._passed(path), "."))]
        sources = list(dict.fromkeys(n for path in adjoint.paths for n in path.origin.parents))
        met = " in " if len(sources) == 1 else ", in "
        slices = len(statements(adjoint.forms[0].equations, self.derivation.known)) == len(adjoint.paths)
        then = ("Each writes a slice of its own of the adjoint:",) if slices else (
            "Its adjoint is the ", Strong("sum over these paths"), ":")
        return [
            Paragraph(words(name, " is read in ", _count(len(adjoint.paths)), " places", met, *listed([Ref(n) for n in sources]),
                            ". ", *then)),
            Bullets(tuple(words("through ", Ref(p.origin.parents[0]), ": ", *self._passed(p)) for p in adjoint.paths)),
        ]

    def _passed(self, path: Path) -> Words:
        """What one equation passes back: the partial derivative, and the rules that give it."""
        origin, source = path.origin, path.source
        if source is None or origin.read is None:
            return words(origin.rule)
        over = partial_of(self.form.show(source.target), self.form.show(origin.read))
        said: list[Inline] = [Math(row(over, Sign("="), self.form.slope(source, origin.read, origin.partial))), ", by the "]
        said += listed([Strong(rule) for rule in rules_of(path)])
        for symbol, distance in shift_of(source, origin.read):
            here = index(symbol)
            if distance.is_Integer:
                said += ["; ", Strong("shift of the index"), " ", Math(self.form.show(here)), ": what is read at ",
                         Math(self.form.show(here + distance)), " gets its part from ", Math(self.form.show(here - distance))]
            else:
                said += ["; of a ", Strong("slice"), ", at ", Math(self.form.show(here + distance))]
        for part in origin.read.indices:
            if len(index_symbols(part)) > 1 and not index_reads((part,)):
                said += ["; of a ", Strong("window"), ": the entry at ", Math(self.form.show(part)),
                         " is read for every pair that leads to it, and their parts are added up"]
        lost = [i for i in source.free if i.symbol not in index_symbols(origin.read)]
        if lost:
            said += ["; the same entry is read for every ", *listed([Math(self.form.show(i.symbol)) for i in lost]),
                     ", so their parts are added up"]
        return words(*said)

    def _chain(self, adjoint: Adjoint) -> list[Block]:
        """The adjoint in its forms, one after another, with the reason for each; slices that are written apart one by one."""
        forms = [*adjoint.forms, *self.derivation.closed.get(adjoint.name, ())]
        known = self.derivation.known
        stages = [(form, {s.target: s for s in statements(form.equations, known)}) for form in forms]
        shown: list[Display] = []
        for target in dict.fromkeys(t for _, rows in stages for t in rows):
            last: Statement | None = None
            head: Formula | None = None
            for form, rows in stages:
                now = rows.get(target)
                if now is None or last is not None and _same(now, last):
                    continue
                reason = () if last is None else self._reason(form.rule, last, now)
                line, written = self.notation.line(now)
                said = reason if shown and written else words(*reason, *(("; ",) if reason and written else ()), *written)
                display = Display(line, said)
                shown.append(continued(display) if last is not None and line.head == head else display)
                head = line.head
                last = now
        return list(shown)

    def _reason(self, rule: str, last: Statement, now: Statement) -> Words:
        """Why a statement may be written in another form."""
        before, after = ({tensor_of(r) for e in s.terms for r in e.reads} for s in (last, now))
        primal = self.derivation.derived.primals
        if rule == "constants":
            gone = [self.adjoint(primal[n]) for n in primal if n in before - after]
            return words(*listed(gone), " ", FORMS[rule]) if gone else words("a number put in")
        if rule == "reuse":
            new = {tensor_of(r): r for e in now.terms for r in e.reads if tensor_of(r) not in primal}
            stored = [(n, [e.number for e in self.derivation.stable.writers_near(r)]) for n, r in new.items()]
            said = listed([*(words(self.symbol(n), " is ", Ref(numbers[-1])) for n, numbers in stored
                             if numbers and (n not in before or len(stored) == 1))])
            return words(Strong(FORMS[rule]), *((": ", *said) if said else ()))
        if rule == "normalised":
            return self._softmax(after)
        if rule == "composed":
            gone = [self.adjoint(primal[n]) for n in before if n not in after and n in primal]
            return words(*listed(gone), " put in")
        return words(FORMS[rule])

    def _softmax(self, names: Iterable[str]) -> Words:
        """What the softmaxes with these names are."""
        said: list[Words] = []
        for softmax in self.derivation.softmaxes:
            if softmax.name in names:
                e, s = (self.symbol(tensor_of(entry)) for entry in (softmax.exponential, softmax.total))
                number = (Ref(softmax.equation.number), ", ") if softmax.given else ()
                said.append(words(self.symbol(softmax.name), " is ", *number, e, " over its sum ", s))
        return words(FORMS["normalised"], " ", *listed(said))


def _same(one: Statement, other: Statement) -> bool:
    return [(e.body, e.guards, e.indices) for e in one.terms] == [(e.body, e.guards, e.indices) for e in other.terms]


def _count(number: int) -> str:
    return ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")[number] if number < 10 else str(number)
