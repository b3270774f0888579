"""How models, programs and equations look in a notebook: as documents, in the words and with the symbols of a derivation.

``symbolic.display`` asks here, once ``codegen`` was imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import sympy as sp

from codegen.derivation.conventions import described, sizes_of
from codegen.derivation.document import (
    Code,
    Display,
    Document,
    Paragraph,
    Section,
    SymbolRow,
    SymbolTable,
    displays,
    words,
)
from codegen.derivation.index_form import IndexForm
from codegen.derivation.narrative import by_layer, layer_title
from codegen.derivation.statements import Statement, statements
from codegen.derivation.symbols import symbols
from codegen.html.emit import fragment
from codegen.latex.printer import latex as tex
from codegen.latex.printer import line_pieces
from symbolic.model import Model
from symbolic.program import Equation, IndexName, Program, Role, Tensor, tensor_of

__all__ = ["document_of", "html", "latex"]


def html(value: object) -> str | None:
    """The value as a piece of a page, with MathML; nothing for what is no model, program or equation."""
    document = document_of(value)
    return None if document is None else fragment(document)


def latex(value: object) -> str | None:
    """The formulas of the value, under one another with their numbers; nothing for what is no model, program or equation."""
    document = document_of(value)
    if document is None:
        return None
    rows = []
    for shown in displays(document):
        line = shown.line
        right = " ".join(r" \, ".join(pieces) for pieces in line_pieces(replace(line, head=None)))
        number = rf" && ({', '.join(map(str, line.numbers))})" if any(line.numbers) else ""
        rows.append(f"{'' if line.head is None else tex(line.head)} &{right}{number}")
    if isinstance(value, Equation):
        (row,) = rows
        return "$\\displaystyle " + row.partition(" && ")[0].replace(" &", " ", 1) + "$"
    return "$\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}$"


def document_of(value: object) -> Document | None:
    """The document that shows a model (its tensors, then its equations by layer), a program, or an equation."""
    match value:
        case Model():
            return _of_model(value)
        case Program():
            return _of_program(value)
        case Equation():
            return _of_equation(value)
    return None


def _of_model(model: Model) -> Document:
    program = model.program()
    form = _form(program)
    rows = tuple(
        SymbolRow((form.symbols[t.name].entry(),), t.name, tuple(map(form.show, t.shape)), described(t, form))
        for t in program.tensors
    )
    parts = tuple(
        Section(layer or "model", layer_title(layer, program), _lines(made, program, form))
        for layer, made in by_layer(program).items()
    )
    return Document(f"{model.name}-model", words("The model ", Code(model.name), f", {model.dtype}"), (
        Section("tensors", words("Tensors"), (SymbolTable(rows), Paragraph(sizes_of(program)))),
        Section("equations", words("Equations"), (), parts),
    ))


def _of_program(program: Program) -> Document:
    form = _form(program)
    derived = {*program.gradients.values(), *program.tangents.values()}
    made = {n for n in derived if n in program.writers}
    parts = []
    for title, rows in (
        ("Forward", [e for e in program.equations if e.name not in made]),
        ("Derivatives", [e for e in program.equations if e.name in made]),
    ):
        if rows:
            parts.append(Section(title.lower(), words(title), _lines(rows, program, form)))
    if len(parts) == 1:
        parts = [replace(parts[0], title=words("Equations"))]
    return Document(f"{program.name}-program", words("The program ", Code(program.name)), (
        Section("sizes", (), (Paragraph(sizes_of(program)),)), *parts))


def _of_equation(equation: Equation) -> Document:
    """An equation alone says what it adds; that nothing else writes its target is not known here."""
    program = _program_of(equation)
    line = _form(program).line(Statement(equation.target, (equation,)))
    return Document("equation", (), (Section("equation", (), (Display(replace(line, relation="+=")),)),))


def _lines(equations: Iterable[Equation], program: Program, form: IndexForm) -> tuple[Display, ...]:
    """The statements that the equations make: those of the spec line by line, an adjoint's with all that adds to it."""
    derived = {*program.gradients.values(), *program.tangents.values()}
    groups: dict[tuple[int, str], list[Equation]] = {}
    for equation in equations:
        groups.setdefault((0 if equation.name in derived else equation.number, equation.name), []).append(equation)
    return tuple(Display(form.line(s)) for rows in groups.values() for s in statements(rows, program))


def _form(program: Program) -> IndexForm:
    return IndexForm(program, symbols(program))


def _program_of(equation: Equation) -> Program:
    """A program that knows what an equation speaks of: tensors as large as its bare subscripts say; where the chain rule made it,
    ``d_X`` is an adjoint."""
    shapes: dict[str, list[sp.Expr]] = {}
    ranges = {i.symbol: i for i in equation.indices}
    for entry in (equation.target, *equation.reads):
        shape = shapes.setdefault(tensor_of(entry), [sp.S.One] * len(entry.indices))
        for axis, part in enumerate(entry.indices):
            if isinstance(part, IndexName) and part in ranges and ranges[part].lower == 0:
                shape[axis] = ranges[part].upper
    made = equation.origin.rule != "spec"
    gradients = {name[2:]: name for name in shapes if made and name.startswith("d_")}
    tensors = [Tensor(name, tuple(shape), Role.ADJOINT if name in gradients.values() else Role.INTERMEDIATE)
               for name, shape in shapes.items()]
    tensors += [Tensor(name, tuple(shapes[adjoint])) for name, adjoint in gradients.items() if name not in shapes]
    if "loss" not in {t.name for t in tensors}:
        tensors.append(Tensor("loss"))
    return Program("", tuple(tensors), (equation,), loss="loss", gradients=gradients)
