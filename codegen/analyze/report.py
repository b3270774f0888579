"""An analysis on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from codegen.analyze.values import VANISHED, Analysis, Bound, Clipping, Depth, Formula, Growth, Recurrent, Tried
from codegen.folding import fold
from codegen.report import console

__all__ = ["print_analysis"]

STYLES = {"vanishing": "yellow", "exploding": "bold red", "steady": "green", "overflow": "bold red"}
MOMENTS = 9
"""Steps of a run that are shown."""

CITED = "Pascanu, Mikolov, Bengio 2013"


def print_analysis(found: Analysis) -> None:
    """Each recurrence, then depth, then clipping."""
    screen = console()
    sizes = ", ".join(f"{name}={value}" for name, value in found.sizes.items()) or "no sizes"
    point = "fresh parameters" if found.fresh else "the given parameters"
    _say(screen, f"{found.name}: {sizes}, {point}, seed {found.seed}, loss {_number(found.loss)}")
    for each in found.recurrences:
        _recurrence(screen, each)
    if found.depth is not None and len(found.depth.layers) > 1:
        _depth(screen, found.depth)
    _clipping(screen, found.clipping)


def _say(screen: Console, text: str, further: str = "    ") -> None:
    screen.print(fold(text, screen.width if screen.is_terminal else None, further), markup=False, soft_wrap=True)


def _title(screen: Console, text: str) -> None:
    screen.print()
    screen.print(f"[bold]{escape(text)}[/]")


def _recurrence(screen: Console, each: Recurrent) -> None:
    _title(screen, f"Recurrence of {', '.join(each.states)} along {each.axis}{', in reverse' if each.reverse else ''}")
    if each.formula:
        _say(screen, "  One step:")
        for formula in each.formula:
            for line in _lines(formula):
                _say(screen, f"    {line}", "        ")
    for note in each.notes:
        _say(screen, f"  note: {note}")
    if each.bound is not None:
        _bound(screen, each.bound)
    if each.injected is not None:
        end = "first" if each.reverse else "last"
        grown = _growth(each.injected, "step")
        _say(screen, f"  An error put in at the {end} step, carried back {each.steps - 1} steps: {grown}")
        _verdict(screen, each.injected, "steps")
    _moments(screen, each)
    _tried(screen, each.tried, f"  Factor of a step with other weights ({', '.join(each.weights)}), measured:")


def _lines(formula: Formula) -> list[str]:
    """The formula on one line where it has one term, else a line for each."""
    if len(formula.terms) == 1:
        return [str(formula)]
    where = f" {formula.condition} times" if formula.condition else ""
    return [f"d{formula.of}/d{formula.by} ={where}",
            *(f"    - {term[1:]}" if term.startswith("-") else f"    + {term}" for term in formula.terms)]


def _bound(screen: Console, bound: Bound) -> None:
    for matrix in bound.matrices:
        radius = f", spectral radius {_number(matrix.radius)}" if matrix.radius is not None else ""
        _say(screen, f"  {matrix.name}: norm {_number(matrix.norm)}{radius}")
    if len(bound.blocks) > 1 or bound.factor is None:
        for block in bound.blocks:
            ranges = ", ".join(f"{name} in {_number(low)}..{_number(high)}" for name, (low, high) in block.open.items())
            always = f"at most {_number(block.proven)}" if block.proven is not None else "no bound"
            why = f" ({ranges} in this run, not bounded)" if ranges else ""
            here = f"; in this run at most {_number(block.here)}" if block.here is not None else ""
            _say(screen, f"  |d{block.of}/d{block.by}| {always}{why}{here}")
    if bound.slope is not None and len(bound.matrices) == 1:
        _say(screen, f"  {_condition(bound)}")
    elif bound.factor is not None:
        means = _by_size(bound.factor, "below 1: the gradient must vanish", "it may vanish but not explode",
                         "above 1: it may vanish or explode")
        _say(screen, f"  Factor of a step: at most {_number(bound.factor)} in the long run, {means} ({CITED})")
    elif bound.here is not None:
        _say(screen, f"  Factor of a step: no bound; in this run at most {_number(bound.here)} in the long run")


def _condition(bound: Bound) -> str:
    """The two conditions of the paper: sufficient for vanishing, necessary for exploding; and what the spectral radius says."""
    (matrix,), slope = bound.matrices, bound.slope
    assert slope is not None
    product = slope * matrix.norm
    head = f"Factor of a step: at most slope * norm = {_number(slope)} * {_number(matrix.norm)} = {_number(product)}"
    says = _by_size(product, "below 1, which suffices for the gradient to vanish", "it may vanish but not explode",
                    "above 1: exploding is possible (this is necessary for it, not sufficient)")
    if matrix.radius is None:
        return f"{head}; {says} ({CITED})"
    flat = slope * matrix.radius
    way = _by_size(flat, "dies out", "stays", "grows")
    return (f"{head}; {says} ({CITED}). Where all slopes stay at {_number(slope)}, the spectral radius decides: an error {way} "
            f"in the long run, {_number(slope)} * {_number(matrix.radius)} = {_number(flat)}")


def _by_size(factor: float, below: str, one: str, above: str) -> str:
    """What is said of a factor of a step: of 1 too where rounding hides it."""
    return one if math.isclose(factor, 1, rel_tol=1e-9) else below if factor < 1 else above


def _growth(found: Growth, what: str) -> str:
    return (f"{_number(found.mean)} a {what} (geometric mean; least {_number(found.least)}, greatest {_number(found.greatest)}), "
            f"{_number(found.left)} of it is left")


def _verdict(screen: Console, found: Growth, of: str) -> None:
    meaning = {"vanishing": f"less than {VANISHED:g} is left after all {of}",
               "exploding": f"it grows more than {1 / VANISHED:g} times over all {of}",
               "steady": f"between {VANISHED:g} and {1 / VANISHED:g} of it is left after all {of}",
               "overflow": "the states themselves are not finite; give fewer steps, or other weights",
               "none": "nothing to compare"}[found.verdict]
    screen.print(f"  [{STYLES.get(found.verdict, 'yellow')}]{found.verdict}[/]: {meaning}")


def _moments(screen: Console, each: Recurrent) -> None:
    """The norms at a few steps, the last step first."""
    if each.steps < 2:
        return
    chosen = sorted({round(k * (each.steps - 1) / (MOMENTS - 1)) for k in range(MOMENTS)}, reverse=not each.reverse)
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("step", justify="right")
    if each.injected is not None:
        table.add_column("error put in", justify="right")
    for name in each.loss_norms:
        table.add_column(escape(f"|dL/d{name}|"), justify="right")
    for step in chosen:
        row = [str(step)]
        if each.injected is not None:
            row.append(_number(each.injected.norms[step if each.reverse else each.steps - 1 - step]))
        table.add_row(*row, *(_number(norms[step]) for norms in each.loss_norms.values()))
    screen.print(table)


def _tried(screen: Console, rows: Sequence[Tried], title: str) -> None:
    if not rows:
        return
    _say(screen, title)
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("weights")
    table.add_column("factor", justify="right")
    table.add_column("verdict")
    for row in rows:
        mark = "  <- nearest to 1" if row.nearest else ""
        table.add_row(escape(row.what), _number(row.factor), f"[{STYLES.get(row.verdict, 'yellow')}]{row.verdict}[/]{mark}")
    screen.print(table)


def _depth(screen: Console, depth: Depth) -> None:
    _title(screen, "Depth")
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("output of")
    table.add_column("|dL/d(output)|", justify="right")
    table.add_column("factor", justify="right")
    norms = depth.growth.norms
    for k, name in enumerate(depth.layers):
        factor = _number(norms[k] / norms[k - 1]) if k and norms[k - 1] > 0 and math.isfinite(norms[k - 1]) else ""
        table.add_row(escape(name), _number(norms[k]), factor)
    screen.print(table)
    _say(screen, f"  From the last layer back to the first: {_growth(depth.growth, 'layer')}")
    _verdict(screen, depth.growth, "layers")
    _tried(screen, depth.tried, f"  Factor of a layer with other weights ({_few(depth.weights)}), measured:")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]}, ..., {names[-1]}"


def _clipping(screen: Console, found: Clipping) -> None:
    _title(screen, "Clipping")
    norm, entry = _number(found.norm), _number(found.greatest)
    _say(screen, f"  The gradient of all parameters has the norm {norm}, its largest entry is {entry}.")
    for kind, limit, factor in found.factors:
        if found.own:
            _say(screen, f"  The spec's clip ({kind}, limit {limit:g}) would leave {_number(factor)} of the norm.")
        else:
            _say(screen, f"  Clipped to a global norm of {limit:g}, it would be scaled by {_number(factor)}.")


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.3g}"


