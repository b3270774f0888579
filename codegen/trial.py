"""A point at which a model is tried: small sizes, random parameters and inputs that its declarations allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sympy as sp

from symbolic.errors import ChainruleError, nearest
from symbolic.program import Program, Size, Tensor, size

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["Trial", "choose_sizes", "draw", "extent", "instances", "moved_to", "shape_of", "sizes_of"]

USUAL = {"T": 5, "N": 3}
"""Time and batch; every other size gets a number of its own, so that a transposed axis cannot hide."""

OTHERS = (4, 6, 7, 2, 8, 9, 10, 11, 12, 13, 14, 15)


@dataclass(frozen=True)
class Trial:
    """``values`` holds every parameter and input by name, as float64 and int64, reals exactly representable in float32."""

    sizes: Mapping[str, int]
    values: Mapping[str, Array]
    seed: int


def extent(expr: Any, sizes: Mapping[str, int]) -> int:
    """An extent as a number. Raises ChainruleError where the sizes do not give one."""
    value = sp.sympify(expr).xreplace({size(name): sp.Integer(number) for name, number in sizes.items()})
    if not value.is_Integer:
        missing = sorted(map(str, value.free_symbols)) or [str(expr)]
        raise ChainruleError(f"expected a value of each size, found none for {', '.join(missing)}; give --size {missing[0]}=4")
    return int(value)


def shape_of(tensor: Tensor, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """A tensor's shape in numbers."""
    return tuple(extent(part, sizes) for part in tensor.shape)


def choose_sizes(program: Program, given: Mapping[str, int], usual: Mapping[str, int] | None = None) -> dict[str, int]:
    """A value for every size: the given ones, the ones that the spec fixes, and small distinct ones for the rest.

    Where the small ones leave a tensor without entries (an image smaller than its kernels), they grow. Raises ChainruleError
    for an unknown size, or where no choice was found.
    """
    for name, value in given.items():
        if name not in program.sizes:
            known = ", ".join(program.sizes) or "none"
            raise ChainruleError(f"--size {name}={value}: expected a size of {program.name} ({known}), found '{name}'"
                                 f"{nearest(name, program.sizes)}")
        fixed = program.sizes[name]
        if fixed is not None and fixed != value:
            raise ChainruleError(f"--size {name}={value}: the spec fixes {name} = {fixed}; change it there")
        if value < 1:
            raise ChainruleError(f"--size {name}={value}: expected a number of at least 1")
    known_sizes = {name: value for name, value in program.sizes.items() if value is not None}
    usual = {**USUAL, **(usual or {})}
    for growth in (1, 2, 4, 8, 16):
        sizes = {**known_sizes, **given}
        for name in program.sizes:
            if name not in sizes:
                small = usual.get(name) or next(n for n in OTHERS if n not in (*sizes.values(), *usual.values()))
                sizes[name] = small if name in usual else small * growth
        if all(part >= 1 for tensor in program.tensors for part in shape_of(tensor, sizes)):
            return sizes
    empty = next(t for t in program.tensors if min(shape_of(t, sizes), default=1) < 1)
    raise ChainruleError(f"{empty.name} has no entries at {_shown(sizes)}: its shape is {list(shape_of(empty, sizes))}; "
                         "give larger sizes with --size")


def draw(program: Program, sizes: Mapping[str, int], parameters: Mapping[str, Any], seed: int, positive: bool = False) -> Trial:
    """Random values for a trial around the given parameters.

    Parameters are jittered: a bias of zeros would hide a wrong gradient. Index inputs keep to their declared range, and a
    fifth of the entries are the ignored value where there is one. ``positive`` draws the real inputs from (0, 1).
    """
    import numpy as np

    rng = np.random.default_rng([seed, 1])
    values: dict[str, Array] = {}
    for tensor in program.parameters:
        start = np.asarray(parameters[tensor.name], dtype=np.float64)
        spread = 0.1 * float(np.sqrt(np.mean(start**2))) if start.size and np.any(start) else 0.1
        values[tensor.name] = (start + spread * rng.standard_normal(start.shape)).astype(np.float32).astype(np.float64)
    for tensor in program.inputs:
        values[tensor.name] = _input(tensor, sizes, rng, positive)
    return Trial(dict(sizes), values, seed)


def sizes_of(program: Program, given: Mapping[str, int], point: Mapping[str, Array]) -> dict[str, int]:
    """The given sizes, and those that the arrays of a point tell. Raises ChainruleError for an unknown name."""
    known = {t.name: t for t in (*program.parameters, *program.inputs)}
    sizes = {**{name: value for name, value in program.sizes.items() if value is not None}, **given}
    for name, array in point.items():
        if name not in known:
            raise ChainruleError(f"--params: expected parameters and inputs of {program.name} ({', '.join(known)}), "
                                 f"found '{name}'{nearest(name, known)}")
        if len(array.shape) == known[name].rank:
            sizes = {**{str(e): n for e, n in zip(known[name].shape, array.shape, strict=True) if isinstance(e, Size)}, **sizes}
    return {name: value for name, value in sizes.items() if name in given or program.sizes.get(name) is None}


def moved_to(trial: Trial, program: Program, point: Mapping[str, Array]) -> Trial:
    """The trial with the arrays of a point in place of the drawn ones. Raises ChainruleError where one does not fit."""
    import numpy as np

    values = dict(trial.values)
    for name, array in point.items():
        tensor, wanted = program.tensor(name), values[name]
        kinds = "iu" if tensor.is_index else "iuf"
        if array.shape != wanted.shape or array.dtype.kind not in kinds:
            numbers = "integers" if tensor.is_index else "real numbers"
            raise ChainruleError(f"--params: expected '{name}' of shape {list(wanted.shape)} and {numbers}, found "
                                 f"{list(array.shape)} and {array.dtype}; the sizes are {_shown(trial.sizes)}")
        values[name] = array.astype(np.int64 if tensor.is_index else np.float64)
    return Trial(trial.sizes, values, trial.seed)


def _input(tensor: Tensor, sizes: Mapping[str, int], rng: Any, positive: bool) -> Array:
    import numpy as np

    shape = shape_of(tensor, sizes)
    if tensor.is_index:
        low = extent(tensor.low, sizes)
        below = extent(tensor.below, sizes) if tensor.below is not None else max(low + 1, 2)
        drawn: Array = rng.integers(low, below, size=shape)
        if tensor.ignore is not None and drawn.size > 1:
            ignored = rng.random(shape) < 0.2
            ignored.flat[0] = False
            drawn = np.where(ignored, tensor.ignore, drawn)
        return np.asarray(drawn, dtype=np.int64)
    real = rng.uniform(0.05, 0.95, size=shape) if positive else rng.standard_normal(shape)
    return np.asarray(real).astype(np.float32).astype(np.float64)


def instances(program: Program, sizes: Mapping[str, int]) -> int:
    """How many instances an evaluation of the whole program visits."""
    rule: dict[Size, Any] = {size(name): sp.Integer(value) for name, value in sizes.items()}
    return sum(int(sp.Mul(*(i.extent for i in e.indices)).xreplace(rule)) for e in program.equations)


def _shown(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sizes.items())
