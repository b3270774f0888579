"""What the tests of the NumPy target share: modules from spec text, values for them, the interpreter as their oracle, and a
module whose every subscript is checked."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import sympy as sp

import symbolic
from codegen.pipeline import Options, render
from symbolic.interpreter import evaluate
from symbolic.program import Program, size

__all__ = [
    "agree", "checked_module", "compiled", "dirty", "expected", "module_text", "split", "values_for",
]

TIGHT = 1e-12
"""Two ways through the same float64 arithmetic: only the order of sums differs."""


def module_text(model: symbolic.Model, **options: Any) -> str:
    """The text of the NumPy module."""
    (text,) = render(model, "numpy", Options(**options)).values()
    return text


def compiled(model: symbolic.Model, **options: Any) -> Any:
    """The module, every subscript of it checked."""
    return checked_module(module_text(model, **options))


def checked_module(text: str) -> Any:
    """The module of a text in which every subscript of an array is in range and not negative, else IndexError.

    NumPy takes ``h[-1]`` for the last entry and cuts slices that reach too far; here both are errors.
    """
    tree = ast.fix_missing_locations(_Checks().visit(ast.parse(text)))
    module = types.ModuleType("checked")
    module.__dict__["_subscript"] = _subscript
    exec(compile(tree, "<checked>", "exec"), module.__dict__)
    return module


class _Checks(ast.NodeTransformer):
    """``a[k]`` becomes ``a[_subscript(a, k)]``."""

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        self.generic_visit(node)
        again = ast.parse(ast.unparse(node.value), mode="eval").body
        key = _as_expression(node.slice)
        call = ast.Call(ast.Name("_subscript", ast.Load()), [self.visit(again), key], [])
        return ast.copy_location(ast.Subscript(node.value, call, node.ctx), node)


def _as_expression(key: ast.expr) -> ast.expr:
    """Slices as calls of ``slice``, so that a subscript can be an argument."""
    if isinstance(key, ast.Slice):
        parts = [part if part is not None else ast.Constant(None) for part in (key.lower, key.upper, key.step)]
        return ast.Call(ast.Name("slice", ast.Load()), parts, [])
    if isinstance(key, ast.Tuple):
        return ast.Tuple([_as_expression(part) for part in key.elts], ast.Load())
    return key


def _subscript(array: Any, key: Any) -> Any:
    if isinstance(array, np.ndarray):
        parts = key if isinstance(key, tuple) else (key,)
        if any(isinstance(p, np.ndarray | np.bool_) and p.dtype == bool for p in parts):
            return key
        axes = iter(array.shape)
        for part in parts:
            if part is None or part is Ellipsis:
                continue
            _in_range(part, next(axes), array, key)
    return key


def _in_range(part: Any, extent: int, array: Any, key: Any) -> None:
    if isinstance(part, slice):
        step = 1 if part.step is None else part.step
        first = part.start if part.start is not None else 0 if step > 0 else extent - 1
        last = part.stop if part.stop is not None else extent if step > 0 else -1
        explicit = [p for p in (part.start, part.stop) if p is not None]
        fine = all(0 <= p <= extent for p in explicit) and (first <= last if step > 0 else last <= first < max(extent, 1))
    else:
        entries = np.asarray(part)
        fine = not entries.size or (entries.min() >= 0 and entries.max() < extent)
    if not fine:
        raise IndexError(f"the subscript {key} leaves an array of shape {array.shape}")


@contextmanager
def dirty() -> Iterator[None]:
    """``np.empty`` gives what nobody may read: NaN."""
    plain = np.empty

    def empty(shape: Any, dtype: Any = float, *rest: Any, **named: Any) -> Any:
        array = plain(shape, dtype, *rest, **named)
        if array.dtype.kind == "f":
            array.fill(np.nan)
        return array

    np.empty = empty  # type: ignore[misc]
    try:
        yield
    finally:
        np.empty = plain  # type: ignore[misc]


def values_for(program: Program, sizes: Mapping[str, int], seed: int = 0, **given: Any) -> dict[str, Any]:
    """Random arrays for parameters and inputs (index inputs within their range), and the given ones."""
    rng = np.random.default_rng(seed)
    number = {size(n): sp.Integer(v) for n, v in {**{k: v for k, v in program.sizes.items() if v is not None}, **sizes}.items()}
    found: dict[str, Any] = {}
    for tensor in (*program.parameters, *program.inputs):
        shape = [int(e.xreplace(number)) for e in tensor.shape]
        if tensor.is_index:
            low, below = (int(sp.sympify(e).xreplace(number)) for e in (tensor.low, tensor.below))
            found[tensor.name] = np.asarray(rng.integers(low, below, shape))
        else:
            found[tensor.name] = np.asarray(rng.uniform(-1, 1, shape))
    assert set(given) <= set(found), f"no parameters or inputs: {set(given) - set(found)}"
    return {**found, **{name: np.asarray(value) for name, value in given.items()}}


def split(program: Program, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """``params`` and ``batch``, read-only: an emitted function that writes to what it is given raises."""
    for array in values.values():
        array.setflags(write=False)
    return ({t.name: values[t.name] for t in program.parameters}, {t.name: values[t.name] for t in program.inputs})


def expected(
    program: Program, values: Mapping[str, Any], sizes: Mapping[str, int], wrt: tuple[str, ...]
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Loss, gradients and outputs under the interpreter, of the plain program and its plain adjoint."""
    gradient = symbolic.gradient(program, wrt)
    names = {name: gradient.gradients[name] for name in wrt}
    found = evaluate(gradient, values, sizes, [program.loss, *names.values(), *program.outputs])
    return found[program.loss], {n: found[a] for n, a in names.items()}, {n: found[n] for n in program.outputs}


def close(got: Any, want: Any, tolerance: float, what: str) -> None:
    """The greatest difference in units of the greatest entry; an array of zeros needs 1e-15."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: expected shape {want.shape}, found {got.shape}"
    if want.size:
        error, scale = np.max(np.abs(got - want)), np.max(np.abs(want))
        assert error <= max(tolerance * scale, 1e-15), f"{what}: error {error:.2e} at scale {scale:.2e}\n{got}\n{want}"


def agree(
    model: symbolic.Model, sizes: Mapping[str, int], seed: int = 0, tolerance: float = TIGHT, module: Any = None, **given: Any
) -> Any:
    """Loss, outputs and every gradient of the generated module equal the interpreter's; the module is returned. A module that is
    given may have the gradients of the parameters alone."""
    program = model.program()
    wrt = tuple(t.name for t in (*program.parameters, *program.inputs) if not t.is_index)
    promised = [list(wrt)] if module is None else [list(wrt), [t.name for t in program.parameters]]
    module = module or compiled(model, wrt="all", dtype="float64")
    values = values_for(program, sizes, seed, **given)
    params, batch = split(program, values)
    loss, grads, aux = module.value_and_grad(params, batch, aux=True)
    assert list(grads) in promised
    want_loss, want, outputs = expected(program, values, sizes, tuple(grads))
    close(loss, want_loss, tolerance, "loss")
    for name in grads:
        close(grads[name], want[name], tolerance, f"gradient of {name}")
    for name in program.outputs:
        close(aux[program.links.get(name, name)], outputs[name], tolerance, f"output {name}")
    close(module.loss(params, batch), want_loss, tolerance, "loss alone")
    for name, array in module.predict(params, batch).items():
        close(array, aux[name], tolerance, f"predicted {name}")
    return module
