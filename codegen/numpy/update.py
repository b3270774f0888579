"""The optimiser and clipping equations as the body of ``update``: the same machinery, over one parameter at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codegen.fuse import fuse
from codegen.lower import lower, plan_storage
from codegen.numpy.buffers import plan_buffers
from codegen.numpy.names import Identifiers
from codegen.numpy.statements import Writer
from codegen.schedule import schedule
from symbolic.program import Program

__all__ = ["Update", "update_lines"]


@dataclass(frozen=True)
class Update:
    """What the template needs: a name for the docstring and the lines of the body."""

    name: str
    lines: tuple[str, ...]


def update_lines(update: Any) -> Update:
    """The lines of ``update(params, grads, state, **hyper)`` for a model's optimiser and clipping."""
    optimizer, clip = update.optimizer, update.clip
    hyper = dict(optimizer.hyper)
    clip_hyper = dict(clip.hyper) if clip is not None else {}
    both = {**hyper, **clip_hyper}
    lines = [f"known = {{{', '.join(f'{k!r}: {float(v)!r}' for k, v in both.items())}}}".replace("'", '"'),
             "for name, value in hyper.items():",
             "    if name not in known:",
             "        raise ValueError(f\"update: unknown hyperparameter '{name}'; expected {', '.join(known)}\")",
             "    if not isinstance(value, int | float | np.number) or not np.isfinite(value):",
             "        raise ValueError(f\"update: {name}: expected a finite number, found {value!r}\")",
             "known.update(hyper)"]
    lines += [f'{name} = known["{name}"]' for name in both]
    lines.append('_check_like("grads", grads, params)')
    slots = ", ".join(f'"{s}": {{name: np.full_like(p, {float(v)!r}) for name, p in params.items()}}'
                      for s, v in optimizer.slots.items())
    count = (", " if slots else "") + '"k": 0' if optimizer.counts else ""
    lines += ['if state is not None and not hasattr(state, "keys"):',
              '    raise ValueError(f"update: expected the last update\'s state, or None, found {type(state).__name__}")',
              f"state = {{{slots}{count}}} if state is None else state"]
    for slot in optimizer.state:
        lines.append(f'if "{slot}" not in state:')
        lines.append(f'    raise ValueError("update: the state has no \'{slot}\'; give what the last update returned, or None")')
    lines += [f'_check_like("state[\'{s}\']", state["{s}"], params)' for s in optimizer.slots]
    if optimizer.counts:
        lines.append('k = state["k"]')
    name = optimizer.name
    if clip is not None:
        name += f" after clipping by {clip.name.replace('_', ' ')}"
        lines += _clip(clip)
    program = optimizer.program()
    taken = {"p", "g", "k", "known", "name", "value", "clipped", "new", "slots", *optimizer.slots, *hyper, *clip_hyper}
    body, codes = _body(program, taken)
    lines.append("new, slots = {}, {" + ", ".join(f'"{s}": {{}}' for s in optimizer.slots) + "}")
    lines.append("for name, p in params.items():")
    source = "clipped" if clip is not None else "grads"
    lines.append(f"    g = {source}[name]")
    lines += [f'    {s} = state["{s}"][name]' for s in optimizer.slots]
    lines += [f"    {line}" for line in body]
    lines.append(f'    new[name] = np.asarray({codes["p_next"]}, p.dtype)')
    lines += [f'    slots["{s}"][name] = np.asarray({codes[f"{s}_next"]}, p.dtype)' for s in optimizer.slots]
    if optimizer.counts:
        lines.append('slots["k"] = k + 1')
    lines.append("return new, slots")
    return Update(name, tuple(lines))


def _clip(clip: Any) -> list[str]:
    program = clip.program()
    body, codes = _body(program, {"g", *clip.hyper, "known", "name", "value", "clipped"})
    lines = []
    if clip.together:
        total = codes["total"]
        split = next(i for i, line in enumerate(body) if line.startswith(f"{total} ="))
        before = body[: split + 1]
        lines += ["total = 0.0", "for g in grads.values():"]
        lines += [f"    {line}" for line in before[:-1]]
        lines.append(f"    total += float({before[-1].split(' = ', 1)[1]})")
        rest = body[split + 1:]
        scale = next(i for i, line in enumerate(rest) if line.startswith(f"{codes['scale']} ="))
        lines += rest[: scale + 1]
        lines += ["clipped = {}", "for name, g in grads.items():"]
        lines += [f"    {line}" for line in rest[scale + 1:]]
    else:
        lines += ["clipped = {}", "for name, g in grads.items():"]
        lines += [f"    {line}" for line in body]
    lines.append(f"    clipped[name] = np.asarray({codes['g_next']}, g.dtype)")
    return lines


def _body(program: Program, taken: set[str]) -> tuple[list[str], dict[str, str]]:
    """The lines of an element-wise program; its inputs keep their own names."""
    inputs = {t.name: t.name for t in program.inputs}
    indices = {i.name for equation in program.equations for i in equation.indices}
    names = Identifiers({*taken, *inputs.values(), *indices})
    codes = {t.name: inputs.get(t.name) or (t.name if t.name in ("total", "scale") else names.fresh(t.name))
             for t in program.tensors}
    nodes = fuse(lower(schedule(program), program), program)
    storages = plan_storage(nodes, program, codes)
    plan = plan_buffers(nodes, program, storages, codes, names, frozenset(program.outputs))
    plan.last_use.clear()  # nothing is computed in place: a parameter of rank 0 gives numbers, which take no out=
    return Writer(program, storages, plan).write(nodes), codes
