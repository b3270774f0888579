"""Record what torch computes for every case, into ``tests/oracle/*.npz``; needs torch and NumPy alone.

    python -m tests.oracle.record            write the tables
    python -m tests.oracle.record --check    compute again and compare with the tables; exit status 1 where they differ

Every number is float64 on one thread. The tables are the same bytes on the same machine; between machines the last bits
may differ, so ``--check`` compares to 1e-12 of the largest entry of each array.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
import torch

from tests.oracle.case import TABLES, Case
from tests.oracle.cases import FAMILIES
from tests.oracle.updates import CLIPPED, UPDATES

TOLERANCE = 1e-12
Table = dict[str, np.ndarray[Any, Any]]


def record_case(case: Case) -> Table:
    """Forward values and every gradient of a case."""
    given = case.arrays()
    tensors = {}
    for name, array in given.items():
        tensor = torch.tensor(array)
        if tensor.is_floating_point():
            tensor.requires_grad_(name not in case.constant)
        tensors[name] = tensor
    made = case.torch(torch, tensors)
    output, further = made if isinstance(made, tuple) else (made, {})
    table: Table = {f"{case.name}/given/{name}": array for name, array in given.items()}
    if case.loss is None:
        weights = case.cotangent(tuple(output.shape))
        table[f"{case.name}/given/cotangent"] = weights
        loss = (torch.tensor(weights) * output).sum()
        table[f"{case.name}/output/{case.layers[-1]['name']}"] = output.detach().numpy()
    else:
        loss = output
    for name, tensor in further.items():
        table[f"{case.name}/output/{name}"] = tensor.detach().numpy()
    loss.backward()
    table[f"{case.name}/value"] = np.array(loss.item())
    for name, tensor in tensors.items():
        if tensor.requires_grad:
            gradient = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            table[f"{case.name}/gradient/{name}"] = gradient.numpy()
    return table


def record_updates() -> Table:
    """Trajectories of the optimisers, and clipped gradients."""
    table: Table = {}
    for update in UPDATES:
        start, gradients = update.arrays()
        p = torch.tensor(start, requires_grad=True)
        kind, options = update.torch
        optimizer = getattr(torch.optim, kind)([p], **options)
        path = []
        for gradient in gradients:
            p.grad = torch.tensor(gradient)
            optimizer.step()
            path.append(p.detach().numpy().copy())
        table[f"{update.name}/start"], table[f"{update.name}/gradients"] = start, gradients
        table[f"{update.name}/path"] = np.array(path)
    for clipped in CLIPPED:
        tensors = [torch.zeros(*shape, dtype=torch.float64, requires_grad=True) for shape in clipped.shapes]
        for k, (tensor, gradient) in enumerate(zip(tensors, clipped.arrays(), strict=True)):
            tensor.grad = torch.tensor(gradient)
            table[f"{clipped.name}/before/{k}"] = gradient
        if clipped.kind == "value":
            torch.nn.utils.clip_grad_value_(tensors, clipped.limit)
        else:
            for group in [tensors] if clipped.kind == "global_norm" else [[t] for t in tensors]:
                torch.nn.utils.clip_grad_norm_(group, clipped.limit)
        for k, tensor in enumerate(tensors):
            assert tensor.grad is not None
            table[f"{clipped.name}/after/{k}"] = tensor.grad.numpy()
    return table


def tables() -> dict[str, Table]:
    """All tables by name, computed now."""
    made: dict[str, Table] = {}
    for family, cases in FAMILIES.items():
        made[family] = {}
        for case in cases:
            try:
                made[family].update(record_case(case))
            except Exception as error:
                raise RuntimeError(f"{family}: {case.name}: {error}") from error
    made["update"] = record_updates()
    return made


def differences(family: str, table: Table) -> list[str]:
    """How a table computed now differs from the one on disk."""
    path = TABLES / f"{family}.npz"
    if not path.exists():
        return [f"{family}: no table {path.name}"]
    with np.load(path) as stored:
        found = [f"{family}: {key} is recorded and no case has it" for key in stored.files if key not in table]
        for key, array in table.items():
            if key not in stored.files:
                found.append(f"{family}: {key} was never recorded")
                continue
            old = stored[key]
            if old.shape != array.shape:
                found.append(f"{family}: {key} has shape {old.shape}, now {array.shape}")
            elif array.size and not np.array_equal(old, array):
                error = np.max(np.abs(old - array)) / max(np.max(np.abs(old)), 1e-300)
                if not error <= TOLERANCE:
                    found.append(f"{family}: {key} differs by {error:.1e}")
    return found


def say(line: str) -> None:
    """One line to the terminal."""
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """Write or check every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the stored tables instead of writing them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    wrong = []
    for family, table in tables().items():
        if options.check:
            wrong += differences(family, table)
        else:
            np.savez_compressed(TABLES / f"{family}.npz", **dict(sorted(table.items())))
            say(f"{family}.npz: {len(table)} arrays")
    for line in wrong:
        say(line)
    if options.check and not wrong:
        say(f"torch {torch.__version__} agrees with every recorded table")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
