"""The drawing of a model's graph as SVG: layers or equations, tensors with their shapes between them, gradients beside them.

    Program -> Graph (model.py) -> Drawing (layout.py, by Graphviz) -> text (svg.py)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codegen.pipeline import Stages
    from symbolic.model import Model
    from symbolic.program import Program

__all__ = ["drawing", "drawing_of"]


def drawing(model: Model, level: str = "layers", unroll: int | None = None, backward: bool = True, wrt: str = "params") -> str:
    """The graph of a model as the text of an SVG file.

    ``level``: ``layers`` or ``equations``. ``unroll``: so many steps of the recurrence side by side. ``backward``: with the flow
    of the gradients, as the adjoint equations have it; ``wrt``: to what (``params``, ``all`` or names). Raises SpecError for an
    unknown level or too many nodes, ProgramError where there is nothing to unroll, MachineError where Graphviz is missing.
    """
    from codegen.pipeline import Options, stages

    return drawing_of(stages(model, Options(wrt=wrt, unroll=unroll)), level, backward)


def drawing_of(done: Stages, level: str = "layers", backward: bool = True, standalone: bool = True, prefix: str = "") -> str:
    """The same of stages that are there already: the equations as the spec has them and, with ``backward``, the adjoint equations
    as the chain rule gives them. Both are lines that the derivation lists.

    ``standalone=False`` gives an element for a page; ``prefix`` is what the ids in it begin with.
    """
    from codegen.graph.layout import place
    from codegen.graph.model import graph_of
    from codegen.graph.svg import svg_of

    program = _with_adjoints(done) if backward else done.program
    rolled = done.model.program() if done.options.unroll is not None else None
    return svg_of(place(graph_of(program, level, rolled)), standalone, prefix)


def _with_adjoints(done: Stages) -> Program:
    """What was given and its adjoints. Between the two the forward program was made stable; a drawing shows how it was written,
    and no adjoint line is joined to a forward value."""
    from symbolic.program import Role

    adjoint = done.adjoint
    tensors = {tensor.name: tensor for tensor in (*done.program.tensors, *adjoint.tensors)}
    lines = [equation for equation in adjoint.equations if adjoint.tensor(equation.name).role is Role.ADJOINT]
    return adjoint.with_equations((*done.program.equations, *lines), tensors.values())
