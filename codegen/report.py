"""Tables for the terminal: the outcome of a check, and what a model consists of and costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from codegen.verify import Report, Verdict
    from symbolic.model import Model
    from symbolic.program import Program

__all__ = ["print_model", "print_report"]

STYLES = {"OK": "green", "WRONG": "bold red", "KINK": "yellow", "UNDECIDED": "yellow"}


def console() -> Console:
    """The screen; where it is no terminal, lines are as long as they are."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=200)


def print_report(report: Report) -> None:
    """The report of ``check`` as a table, one row a parameter."""
    screen = console()
    sizes = ", ".join(f"{name}={value}" for name, value in report.sizes.items())
    screen.print(f"{report.name}: {report.target}, {report.dtype}, {sizes or 'no sizes'}, seed {report.seed}, "
                 f"loss {report.loss:.6g}", soft_wrap=True)
    screen.print(_verdicts("gradient of", report.parameters))
    if report.nodes:
        screen.print("Adjoints of named intermediates, their entries nudged one by one:")
        screen.print(_verdicts("adjoint of", report.nodes))
    for name in report.frozen:
        screen.print(f"{escape(name)} is constant for differentiation and was frozen at its value.", soft_wrap=True)
    for note in report.notes:
        screen.print(f"note: {escape(note)}", soft_wrap=True)
    if report.costs is not None:
        costs = report.costs
        screen.print(f"Cost: perturbing every entry takes {costs.forward_passes:,} forward passes; backpropagation takes "
                     f"the time of {costs.ratio:.1f} ({1e3 * costs.both_seconds:.3g} ms; one forward pass "
                     f"{1e3 * costs.forward_seconds:.3g} ms).", soft_wrap=True)
    counts = {v.verdict: 0 for v in (*report.parameters, *report.nodes)}
    for verdict in (*report.parameters, *report.nodes):
        counts[verdict.verdict] += 1
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    screen.print(f"[{STYLES[report.verdict]}]{report.verdict}[/]: {summary}")
    if report.verdict in ("KINK", "UNDECIDED"):
        screen.print("warning: for some entries there is no verdict; another --seed moves the point", soft_wrap=True)


def _verdicts(what: str, verdicts: tuple[Verdict, ...]) -> Table:
    oracles = list(dict.fromkeys(oracle for v in verdicts for oracle in v.digits))
    table = Table(box=SIMPLE, pad_edge=False)
    for column in (what, "shape", "perturbed"):
        table.add_column(column)
    for oracle in oracles:
        table.add_column(f"{oracle}\ndigits", justify="right")
    table.add_column("verdict")
    for v in verdicts:
        tried = f"{v.entries} entries" if v.entries else ""
        tried += f"{', ' if tried else ''}{v.directions} directions" if v.directions else ""
        digits = [f"{v.digits[oracle]:.1f}" if oracle in v.digits else "-" for oracle in oracles]
        verdict = f"[{STYLES[v.verdict]}]{v.verdict}[/]" + (f"  {escape(v.note)}" if v.note else "")
        table.add_row(escape(v.name), escape(str(list(v.shape))), tried or "-", *digits, verdict)
    return table


def print_model(model: Model, sizes: Mapping[str, int]) -> None:
    """Tensors, shapes, number of parameters, and cost forward and backward."""
    from codegen.text import equation_text, text
    from codegen.trial import choose_sizes
    from symbolic.adjoint import gradient
    from symbolic.cost import cost, readable, volume
    from symbolic.program import Role

    screen, program = console(), model.program()
    if sizes:
        choose_sizes(program, sizes)  # refuses an unknown size
    rule = _rule(program, sizes)
    screen.print(f"{model.name} ({model.dtype}), prediction {escape(model.prediction)}", soft_wrap=True)
    known = {**program.sizes, **sizes}
    screen.print("sizes: " + (", ".join(f"{n}={v}" if v else f"{n} free" for n, v in known.items()) or "none"))
    table = Table(box=SIMPLE, pad_edge=False)
    for column in ("tensor", "shape", "entries", "role", "kind"):
        table.add_column(column, justify="right" if column == "entries" else "left")
    for role in (Role.PARAMETER, Role.INPUT, Role.STATE, Role.INTERMEDIATE, Role.OUTPUT):
        for tensor in program.of_role(role):
            shape = ", ".join(text(e.xreplace(rule)) for e in tensor.shape)
            below = f", {text(tensor.low)} <= entry < {text(tensor.below)}" if tensor.below is not None else ""
            table.add_row(escape(tensor.name), escape(f"[{shape}]"), readable(volume(tensor.shape).xreplace(rule)), str(role),
                          f"{tensor.kind}{below}")
    screen.print(table)
    seen: dict[int, list[Any]] = {}
    for equation in program.equations:
        seen.setdefault(equation.number, []).append(equation)
    for number, equations in seen.items():
        screen.print(escape(f"  ({number}) {equation_text(equations, program)}"), soft_wrap=True)

    itemsize = 8 if model.dtype == "float64" else 4
    entries = sum(volume(t.shape).xreplace(rule) for t in program.parameters)
    forward = cost(program, itemsize).at(sizes)
    both = cost(gradient(program), itemsize).at(sizes)
    screen.print(f"\nparameters: {readable(entries)} entries, {readable(itemsize * entries)} bytes", soft_wrap=True)
    screen.print(f"forward: {forward}", soft_wrap=True)
    screen.print(f"forward and backward: {both}", soft_wrap=True)
    screen.print("(bytes: every tensor held once; FLOPs: of the equations as written, before common terms are shared)",
                 soft_wrap=True)


def _rule(program: Program, sizes: Mapping[str, int]) -> dict[Any, Any]:
    import sympy as sp

    from symbolic.program import size

    rule: dict[Any, Any] = dict(program.fixed)
    rule.update({size(name): sp.Integer(value) for name, value in sizes.items()})
    return rule
