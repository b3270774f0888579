"""Tables for the terminal: the outcome of a check, and what a model consists of and costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from codegen.folding import fold

if TYPE_CHECKING:
    from codegen.pipeline import Stages
    from codegen.verify import Report, Verdict
    from symbolic.model import Model
    from symbolic.program import Program

__all__ = ["print_model", "print_report"]

STYLES = {"OK": "green", "WRONG": "bold red", "KINK": "yellow", "UNDECIDED": "yellow"}


def console() -> Console:
    """The screen; where it is no terminal, lines are as long as they are."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=200)


def _say(screen: Console, text: str, further: str = "  ") -> None:
    """A line as it stands, broken between words on a terminal."""
    screen.print(fold(text, screen.width if screen.is_terminal else None, further), markup=False, soft_wrap=True)


def print_report(report: Report) -> None:
    """The report of ``check`` as a table, one row a parameter."""
    screen = console()
    _say(screen, f"{report.name}: {report.target}, {report.dtype}, {_sizes(report.sizes)}, seed {report.seed}, "
                 f"loss {report.loss:.6g}")
    _print_verdicts(screen, "gradient of", report.parameters)
    if report.nodes:
        _say(screen, f"Adjoints of named intermediates, their entries nudged one by one, at {_sizes(report.node_sizes)}:")
        _print_verdicts(screen, "adjoint of", report.nodes)
    for name in report.frozen:
        _say(screen, f"{name} is constant for differentiation and was frozen at its value.")
    for note in report.notes:
        _say(screen, f"note: {note}")
    if report.costs is not None:
        costs = report.costs
        _say(screen, f"Cost: perturbing every entry takes {costs.forward_passes:,} forward passes; backpropagation takes "
                     f"the time of {costs.ratio:.1f} ({1e3 * costs.both_seconds:.3g} ms; one forward pass "
                     f"{1e3 * costs.forward_seconds:.3g} ms).")
    counts = {v.verdict: 0 for v in (*report.parameters, *report.nodes)}
    for verdict in (*report.parameters, *report.nodes):
        counts[verdict.verdict] += 1
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    screen.print(f"[{STYLES[report.verdict]}]{report.verdict}[/]: {summary}")
    if report.verdict in ("KINK", "UNDECIDED"):
        _say(screen, "warning: for some entries there is no verdict; another --seed moves the point")


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sizes.items()) or "no sizes"


def _print_verdicts(screen: Console, what: str, verdicts: tuple[Verdict, ...]) -> None:
    """A table, or a paragraph for each verdict where the terminal is too narrow for the table."""
    oracles = list(dict.fromkeys(oracle for v in verdicts for oracle in v.digits))
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for column in (what, "shape", "perturbed"):
        table.add_column(column)
    for oracle in oracles:
        table.add_column("\n".join((*oracle.split(), "digits")), justify="right")
    table.add_column("verdict")
    for v in verdicts:
        digits = [f"{v.digits[oracle]:.1f}" if oracle in v.digits else "-" for oracle in oracles]
        verdict = f"[{STYLES[v.verdict]}]{v.verdict}[/]" + (f"  {escape(v.note)}" if v.note else "")
        tried = _tried(v)
        table.add_row(escape(v.name), escape(str(list(v.shape))), tried.replace(", ", ",\n") if screen.is_terminal else tried,
                      *digits, verdict)
    if not screen.is_terminal or screen.measure(table, options=screen.options.update_width(1000)).maximum <= screen.width:
        screen.print(table)
        return
    screen.print()
    for v in verdicts:
        screen.print(f"  {escape(v.name)} {escape(str(list(v.shape)))}: [{STYLES[v.verdict]}]{v.verdict}[/]")
        digits = [f"{oracle} {value:.1f}" for oracle, value in v.digits.items()]
        for text in (v.note, f"perturbed: {_tried(v)}", f"digits: {', '.join(digits) or '-'}"):
            if text:
                _say(screen, f"    {text}")
    screen.print()


def _tried(v: Verdict) -> str:
    """``5 entries, 2 directions``"""
    counts = ((v.entries, "entry", "entries"), (v.directions, "direction", "directions"))
    return ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts if count) or "-"


def print_model(model: Model, sizes: Mapping[str, int], block: int | None = None) -> None:
    """Tensors, shapes, number of parameters, and cost forward and backward; the memory of its loops, in blocks of ``block`` steps
    where that is given."""
    from codegen.pipeline import Options, stages
    from codegen.text import equation_text, text
    from codegen.trial import choose_sizes
    from symbolic.cost import cost, readable, volume
    from symbolic.program import Role

    screen, program = console(), model.program()
    if sizes:
        choose_sizes(program, sizes)  # refuses an unknown size
    rule = _rule(program, sizes)
    _say(screen, f"{model.name} ({model.dtype}), prediction {model.prediction}")
    known = {**program.sizes, **sizes}
    _say(screen, "sizes: " + (", ".join(f"{n}={v}" if v else f"{n} free" for n, v in known.items()) or "none"))
    table = Table(box=SIMPLE, pad_edge=False)
    for column in ("tensor", "shape", "entries", "role", "kind"):
        table.add_column(column, justify="right" if column == "entries" else "left")
    for role in (Role.PARAMETER, Role.INPUT, Role.STATE, Role.INTERMEDIATE, Role.OUTPUT):
        for tensor in program.of_role(role):
            shape = ", ".join(text(e.xreplace(rule)) for e in tensor.shape)
            ignored = f" or {tensor.ignore}" if tensor.ignore is not None else ""
            below = f", {text(tensor.low)} <= entry < {text(tensor.below)}{ignored}" if tensor.below is not None else ""
            table.add_row(escape(tensor.name), escape(f"[{shape}]"), readable(volume(tensor.shape).xreplace(rule)), str(role),
                          f"{tensor.kind}{below}")
    screen.print(table)
    seen: dict[int, list[Any]] = {}
    for equation in program.equations:
        seen.setdefault(equation.number, []).append(equation)
    for number, equations in seen.items():
        _say(screen, f"  ({number}) {equation_text(equations, program)}", "      ")

    itemsize = 8 if model.dtype == "float64" else 4
    entries = sum(volume(t.shape).xreplace(rule) for t in program.parameters)
    made = stages(model, Options(block=block))
    screen.print()
    _say(screen, f"parameters: {readable(entries)} {'entry' if entries == 1 else 'entries'}, "
                 f"{readable(itemsize * entries)} bytes")
    _say(screen, f"forward: {cost(made.loss, itemsize).at(sizes)}")
    _say(screen, f"forward and backward: {cost(made.optimised, itemsize).at(sizes)}")
    _say(screen, "(as generate counts them, for one call of loss and of value_and_grad. FLOPs: after the rewrites, a term with a "
                 "minus being what the first or last step saves; bytes: every tensor held once)")
    _print_memory(screen, made, itemsize, sizes)


def _print_memory(screen: Console, made: Stages, itemsize: int, given: Mapping[str, int]) -> None:
    """What the C function takes, part by part, and how its plan compares with the least that any plan could take."""
    from codegen.memory_report import PARTS, likely_sizes, of_stages

    sizes = likely_sizes(made.optimised, given)
    if sizes is None:
        return
    found = of_stages(made, itemsize, sizes)
    guessed = [name for name, value in made.optimised.sizes.items() if value is None and name not in given]
    where = f" at {_sizes(sizes)}" if sizes else ""
    told = f" (likely values of {', '.join(guessed)}; --size gives others)" if guessed else ""
    screen.print()
    _say(screen, f"Memory of value_and_grad in C, in bytes{where}{told}:")
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("memory", "bytes", "of", "what"):
        table.add_column(column, justify="right" if column == "bytes" else "left")
    for name in ("parameters", "gradients", "inputs"):
        table.add_row(name, f"{getattr(found, name):,}", "caller", "")
    for part in found.parts:
        if part.arrays:
            more = f" and {len(part.arrays) - 3} more" if len(part.arrays) > 3 else ""
            named = "" if part.name == "scratch" else f": {', '.join(part.arrays[:3])}{more}"
            table.add_row(part.name, f"{part.bytes:,}", "workspace", escape(f"{PARTS[part.name]}{named}"))
    table.add_row("alignment", f"{found.alignment:,}", "workspace", "between arrays, for each begins at a cache line")
    screen.print(table)
    _say(screen, f"workspace as planned: {found.workspace:,} bytes (arrays that are never needed at once share their place; "
                 "the function asks for 64 more, so that it may begin anywhere)")
    _say(screen, f"least for any plan: {found.bound:,} bytes, what is needed at once; the plan takes "
                 f"{100 * found.excess:.1f} % more")


def _rule(program: Program, sizes: Mapping[str, int]) -> dict[Any, Any]:
    import sympy as sp

    from symbolic.program import size

    rule: dict[Any, Any] = dict(program.fixed)
    rule.update({size(name): sp.Integer(value) for name, value in sizes.items()})
    return rule
