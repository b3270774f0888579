"""The mathematics of Chainrule: specs, programs of index equations, and the one rule that differentiates them.

Everything here is loaded when it is first asked for, so that ``import symbolic`` alone costs nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # not typing's, which takes longer to load than all that is here
if TYPE_CHECKING:
    from typing import Any

    from symbolic.adjoint import gradient
    from symbolic.errors import (
        ArgumentError,
        ChainruleError,
        EquationError,
        GradientError,
        Location,
        MachineError,
        ProgramError,
        ScheduleError,
        SpecError,
    )
    from symbolic.model import Model, load
    from symbolic.program import Equation, Program, Tensor

__all__ = [
    "ArgumentError",
    "ChainruleError",
    "Equation",
    "EquationError",
    "GradientError",
    "Location",
    "MachineError",
    "Model",
    "Program",
    "ProgramError",
    "ScheduleError",
    "SpecError",
    "Tensor",
    "gradient",
    "load",
]

_HOMES = {
    "load": "model",
    "Model": "model",
    "gradient": "adjoint",
    "Equation": "program",
    "Program": "program",
    "Tensor": "program",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'symbolic' has no attribute {name!r}")
    value = getattr(import_module(f"symbolic.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
