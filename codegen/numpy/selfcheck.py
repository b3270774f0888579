"""The gradient check that an emitted module carries with it: it needs nothing but the module."""

from __future__ import annotations

from codegen.numpy.door import free_sizes
from codegen.numpy.printer import integer_text
from symbolic.program import Program

__all__ = ["selfcheck_text"]


def selfcheck_text(program: Program) -> str:
    """The source of ``selfcheck``."""
    free = free_sizes(program)
    lines = ["def selfcheck(seed=0, **sizes):",
             '    """Hold the gradients against central differences in random directions, in float64; raise if they differ."""',
             "    global DTYPE",
             "    rng = np.random.default_rng(seed)"]
    for k, name in enumerate(free):
        lines.append(f'    {name} = sizes.get("{name}", {3 + k})')
    lines.append("    dtype, DTYPE = DTYPE, np.float64")
    lines.append("    try:")
    lines.append("        params = {")
    for t in program.parameters:
        shape = ", ".join(map(integer_text, t.shape)) + ("," if t.rank == 1 else "")
        lines.append(f'            "{t.name}": np.asarray(rng.uniform(-0.5, 0.5, ({shape}))),')
    lines.append("        }")
    lines.append("        batch = {")
    for t in program.inputs:
        shape = ", ".join(map(integer_text, t.shape)) + ("," if t.rank == 1 else "")
        if t.is_index:
            lines.append(f'            "{t.name}": np.asarray(rng.integers({integer_text(t.low)}, '
                         f"{integer_text(t.below) if t.below is not None else 2}, ({shape}))),")
        else:
            lines.append(f'            "{t.name}": np.asarray(rng.uniform(0.1, 0.9, ({shape}))),')
    lines.append("        }")
    lines += [
        "        _, grads = value_and_grad(params, batch)",
        "        for name in (name for name in grads if name in params):",
        "            array = params[name]",
        "            direction = rng.standard_normal(array.shape)",
        "            step = 1e-6 / max(1.0, float(np.abs(direction).max()))",
        "            above = loss({**params, name: array + step * direction}, batch)",
        "            below = loss({**params, name: array - step * direction}, batch)",
        "            expected, found = (above - below) / (2 * step), float(np.sum(grads[name] * direction))",
        "            error = abs(found - expected) / max(abs(expected), 1e-3)",
        '            print(f"{name}: slope {found:.9g}, perturbation {expected:.9g}, error {error:.1e}")',
        "            if not error < 1e-5:",
        '                raise AssertionError(f"the gradient of {name} is wrong")',
        "    finally:",
        "        DTYPE = dtype",
        "",
    ]
    return "\n".join(lines)
