"""The derivation told: sections of prose and formulas, from the equations and where they came from.

Nothing here knows a layer: what is said of an equation is read off its form, so a user's own cell gets the same page as a
catalogue's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from codegen.derivation.conventions import conventions, described
from codegen.derivation.document import (
    Block,
    Box,
    Bullets,
    Code,
    Display,
    Document,
    Inline,
    LikeRow,
    LikeTable,
    Math,
    Paragraph,
    Section,
    Strong,
    SymbolRow,
    SymbolTable,
    Words,
    listed,
    words,
)
from codegen.derivation.formula import Big, Line, Number, Sign, Term, row
from codegen.derivation.index_form import partial_of
from codegen.derivation.notation import Notation
from codegen.derivation.provenance import Change, Derivation, is_part, replaced, whole, with_the_rest
from codegen.derivation.repeats import layer_of, repeats
from codegen.derivation.rules import FORWARD, MACHINE, RESCALES
from codegen.derivation.steps import Steps
from codegen.derivation.symbols import free
from codegen.derivation.unrolled import rolled_out
from symbolic.analysis import may_meet
from symbolic.program import Equation, Program, tensor_of
from symbolic.recurrence import recurrences

__all__ = ["Narrator", "narrate"]


def narrate(derivation: Derivation, notation: Notation) -> Document:
    """The document of a derivation; ``notation`` writes its equations."""
    return Narrator(derivation, notation).document()


class Narrator(Steps):
    """Writes the sections of one document."""

    def __init__(self, derivation: Derivation, notation: Notation) -> None:
        super().__init__(derivation, notation)
        self.repeats = repeats(derivation)

    def document(self) -> Document:
        """All of it."""
        name = self.derivation.name
        rolled = rolled_out(self.derivation, self.notation, self.repeats.told)
        sections = [self.symbols(), *rolled, self.forward(), *self.stable(), self.backward(), self.results(), *self.machine()]
        return Document(name, words("The gradient of ", Code(name)), tuple(sections))

    # ---- symbols and conventions -----------------------------------------------------------------------------------

    def symbols(self) -> Section:
        """What the symbols are, and what holds throughout."""
        derivation, form = self.derivation, self.form
        loss = self.symbol(derivation.given.loss)
        names = derivation.wrt
        by = listed([self.symbol(n) for n in names]) if len(names) <= 9 else words(
            f"{len(names)} tensors, ", self.symbol(names[0]), ", ", self.symbol(names[1]), ", ..., ", self.symbol(names[-1]))
        opening = Paragraph(words(
            "The loss is ", loss, ", and its derivatives by ", by, " are wanted. One rule gives them all, the chain rule, "
            "applied to one equation after another from the loss back to the start."
        ))
        rows = tuple(
            SymbolRow(self.notation.defined(t.name), t.name, tuple(map(form.show, t.shape)),
                      described(t, form, derivation.softmaxes))
            for t in derivation.symbols if self.repeats.told(t.name)
        )
        others = [words("The tensors of ", _layers(self.repeats.of(first)), " are called like those of ", Code(first), ".")
                  for first in dict.fromkeys(self.repeats.like.values())]
        return Section("symbols", words("Symbols and conventions"),
                       (opening, SymbolTable(rows), Bullets((*conventions(derivation, self.notation), *others))))

    # ---- forward ---------------------------------------------------------------------------------------------------

    def forward(self) -> Section:
        """The equations of the model, layer by layer, as the spec has them."""
        program = self.derivation.given
        loops = recurrences(program) if self.derivation.rolled is None else ()  # rolled out, it has a section of its own
        carried = {name for loop in loops for name in loop.states}
        parts = []
        for layer, rows in by_layer(program).items():
            if layer in self.repeats.like:
                continue
            blocks: list[Block] = [
                shown for equations in by_entry(rows, program) for shown in self.lines(equations, program)
            ]
            again = [name for name in dict.fromkeys(e.name for e in rows) if name in carried]
            if again:
                blocks.append(Paragraph(words(
                    listed([self.symbol(n) for n in again]), " at one step ", "are" if len(again) > 1 else "is",
                    " read again at another: this is the recurrence."
                )))
            if self.repeats.of(layer):
                blocks += self._alike(layer, program.equations)
            parts.append(Section(f"forward-{layer or 'model'}", layer_title(layer, program), tuple(blocks)))
        staged = len({(e.number, e.name) for e in program.equations}) > len({e.number for e in program.equations})
        more = "; a sum inside a function stands as a tensor of its own" if staged else ""
        opening = Paragraph(words(
            f"The model, as its spec has it{more}. Each equation holds for every value of its free indices."))
        if len(parts) == 1:
            return Section("forward", words("Forward"), (opening, *parts[0].blocks))
        return Section("forward", words("Forward"), (opening,), tuple(parts))

    def stable(self) -> list[Section]:
        """What is not computed as it was written, with the reason, the old form and the new one."""
        derivation = self.derivation
        blocks: list[Block] = []
        current = derivation.given.equations
        for rewrite in derivation.prepared:
            title, why = FORWARD[rewrite.rule]
            blocks.append(Paragraph(words(Strong(title), f" {why}")))
            later = current
            for change in rewrite.changes:
                later = replaced(later, change.before, change.after)
            for change in rewrite.changes:
                blocks += self._changed(whole(change, current, later), rewrite.rule not in RESCALES)
            current = later
        if not blocks:
            return []
        opening = Paragraph(words("Some equations are not computed as they were written, but in a form with the same loss that "
                                  "is safe in floating point, or shorter. All that follows differentiates these forms."))
        return [Section("stable", words("Stable forms"), (opening, *blocks))]

    def _is_told(self, name: str) -> bool:
        return self.repeats.told(self.derivation.known.primals.get(name, name))

    def _changed(self, change: Change, chained: bool) -> list[Block]:
        """The equations before a change and after it; ``chained``: every tensor has the value that it had."""
        known = self.derivation.known
        old, new = ([line for rows in by_target(part).values() for line in self.lines(rows, replace(known, equations=part))]
                    for part in (change.before, change.after))
        if not new:
            return [because(shown, "not needed") for shown in old]
        heads = {shown.line.head for shown in new}
        found: list[Block] = [because(shown, "as written") for shown in old if shown.line.head not in heads]
        for shown in new:
            first = next((other for other in old if other.line.head == shown.line.head), None)
            if first is None:
                found.append(because(shown, "as computed") if found else shown)
                continue
            found.append(because(first, "as written"))
            same = chained and first.line.numbers == shown.line.numbers
            now = replace(shown, line=replace(shown.line, head=None)) if same else shown
            found.append(because(now, "as computed"))
        return found

    # ---- backward --------------------------------------------------------------------------------------------------

    def backward(self) -> Section:
        """The adjoint of each tensor, from the loss back."""
        y, x, f = (free(letters, self.form.symbols, self.derivation.derived)
                   for letters in (("Y", "Z", "Q"), ("X", "V", "P"), ("f", "g", "phi", "psi")))
        loss = self.form.symbols[self.derivation.given.loss].entry()
        rule = Display(Line(partial_of(loss, x), (
            Term("+", (Big("sum", y), partial_of(loss, y), partial_of(f, x))), Term("+", (Sign("dots"),)))))
        blocks: list[Block] = [
            Paragraph(words(
                "If ", Math(row(y, Sign("="), f)), " reads ", Math(x), ", a change of ", Math(x), " changes ", Math(loss),
                " through ", Math(y), ". This is the ", Strong("chain rule"), ": each equation that reads ", Math(x),
                " adds one term, a path from ", Math(x), " to the loss, and the adjoint of ", Math(x), " is the ",
                Strong("sum over the paths"), ", each summed over the entries of ", Math(y), " that read the entry of ",
                Math(x), ",",
            )),
            rule,
            Paragraph(words("An adjoint is complete when all equations that read its tensor have been differentiated, so the "
                            "work goes from the loss backwards.")),
        ]
        if self.derivation.arguments:
            blocks.append(Paragraph(words("A maximum passes its adjoint to the entry that attains it first. The places of "
                                          "these entries:")))
            blocks += [line for rows in by_target(self.derivation.arguments).values()
                       for line in self.lines(rows, self.derivation.known)]
        sections: list[Section] = []
        told: set[str] = set()
        for name, adjoint in self.derivation.adjoints.items():
            layer = layer_of(name)
            first = self.repeats.like.get(layer, layer)
            if first == layer and not self.repeats.of(layer):
                sections.append(self.step(adjoint))
            elif first not in told:  # the steps of the one that is told, where the first that is like it is due
                told.add(first)
                sections += [self.step(a) for n, a in self.derivation.adjoints.items() if layer_of(n) == first]
                made = [e for a in self.derivation.adjoints.values() for e in (p.adjoint for p in a.paths)]
                sections.append(Section(f"d-like-{first}", words("Likewise ", _layers(self.repeats.of(first))),
                                        tuple(self._alike(first, made)), step=True))
        return Section("backward", words("Backward"), tuple(blocks), tuple(sections))

    def _alike(self, first: str, equations: Iterable[Equation]) -> list[Block]:
        """The layers that are like ``first``, with the numbers of their own among these equations."""
        numbers: dict[str, dict[int, None]] = {}
        read: set[str] = set()
        primal = self.derivation.derived.primals
        for equation in equations:
            layer = layer_of(primal.get(equation.name, equation.name))
            numbers.setdefault(layer, {})[equation.number] = None
            if layer == first:
                read |= {primal.get(tensor_of(r), tensor_of(r)) for r in equation.reads}
        rows = []
        for layer in self.repeats.of(first):
            pairs = [words(Code(here), " for ", Code(there)) for there, here in self.repeats.reads[layer] if there in read]
            rows.append(LikeRow(layer, listed(pairs), tuple(numbers.get(layer, ()))))
        return [
            Paragraph(words(_layers(self.repeats.of(first)), " have the same equations, under numbers of their own, with these "
                            "tensors in place of those that ", Code(first), " reads:")),
            LikeTable(tuple(rows)),
        ]

    # ---- results ---------------------------------------------------------------------------------------------------

    def results(self) -> Section:
        """The gradient of each tensor asked for, in a box."""
        boxes: list[Block] = []
        for name in self.derivation.wrt:
            if not self.repeats.told(name):
                continue
            adjoint = self.derivation.adjoints.get(name)
            title = words(Code(name))
            if adjoint is None:
                zero = Line(self.notation.adjoint(name), (Term("+", (Number("0"),)),))
                boxes.append(Box(title, (Display(zero, words("the loss does not depend on it")),)))
                continue
            lines = self.lines(adjoint.forms[-1].equations, self.derivation.known)
            boxes.append(Box(title, tuple(lines)))
            if alike := self.repeats.of(layer_of(name)):
                boxes.append(Paragraph(words("and likewise for ", _layers(alike), ".")))
        return Section("results", words("The gradient"), tuple(boxes))

    def machine(self) -> list[Section]:
        """What is computed: equations put together, with the numbers of all that they came from."""
        derivation = self.derivation
        blocks: list[Block] = []
        for rewrite in derivation.rewrites:
            parts: list[Display] = []
            for change in rewrite.changes:
                if rewrite.rule == "dead":
                    continue
                for name, rows in by_target(change.after).items():
                    if not self._is_told(name):
                        continue
                    computed = with_the_rest(rows, derivation)
                    sign = "+=" if is_part(computed, derivation) else "="
                    parts += [replace(d, line=replace(d.line, relation=sign, numbers=all_numbers(d.line, computed, derivation)))
                              for d in self.lines(computed, replace(derivation.known, equations=computed))]
            if parts:
                title, why = MACHINE[rewrite.rule]
                blocks.append(Paragraph(words(Strong(title), f" {why}" if why else "")))
                blocks += parts
        if not blocks:
            return []
        partly = any(isinstance(block, Display) and block.line.relation == "+=" for block in blocks)
        opening = Paragraph(words(
            "The generated code computes these equations in another order, and puts some of them together, with the same values. "
            "A line of code stands under the numbers of all equations that went into it.",
            *((" ", Code("+="), " stands where an equation is one of several that add into its left side.")
              if partly else ())))
        return [Section("computed", words("As it is computed"), (opening, *blocks))]


def because(display: Display, reason: str) -> Display:
    """A displayed line with a reason before what is said of it already."""
    return replace(display, reason=words(reason, *(("; ", *display.reason) if display.reason else ())))


def all_numbers(line: Line, rows: Iterable[Equation], derivation: Derivation) -> tuple[int, ...]:
    """The numbers of all equations of the tensor that were put together in a line."""
    return tuple(dict.fromkeys(
        n for row in rows if row.number in line.numbers for n in row.numbers
        if n in line.numbers or any(e.number == n for e in derivation.derived.writers.get(row.name, ()))
    ))


# ---- words -------------------------------------------------------------------------------------------------------------


def _layers(names: Sequence[str]) -> Words:
    """``fc2, fc3, ..., fc63``."""
    shown: list[Inline] = [Code(n) for n in (names if len(names) <= 4 else (*names[:2], names[-1]))]
    return listed(shown) if len(names) <= 4 else words(shown[0], ", ", shown[1], ", ..., ", shown[2])


def by_layer(program: Program) -> dict[str, list[Equation]]:
    """Equations by the layer of their target, in order; a loss outside all layers by itself."""
    found: dict[str, list[Equation]] = {}
    for equation in program.equations:
        found.setdefault(layer_of(equation.name) or (program.loss if equation.name == program.loss else ""), []).append(equation)
    return found


def layer_title(layer: str, program: Program) -> Words:
    """The title of the equations of a layer."""
    if not layer:
        return words("The equations")
    return words("The loss") if layer == program.loss else words("Layer ", Code(layer))


def by_entry(equations: Iterable[Equation], program: Program) -> list[list[Equation]]:
    """Equations by number and target, the lines of the spec, in order; those that add into common entries are one line."""
    found: list[list[Equation]] = []
    for equation in equations:
        same = next((rows for rows in found if rows[0].name == equation.name and any(
            row.number == equation.number or may_meet(row, equation, program) for row in rows)), [])
        found = [rows for rows in found if rows is not same]
        found.append([*same, equation])
    return found


def by_target(equations: Iterable[Equation]) -> dict[str, list[Equation]]:
    """Equations by their target, in order."""
    found: dict[str, list[Equation]] = {}
    for equation in equations:
        found.setdefault(equation.name, []).append(equation)
    return found
