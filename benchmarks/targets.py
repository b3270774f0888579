"""What Chainrule generates from the spec of a row: the NumPy module, the C function, the C function through its door."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import re
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import native
from benchmarks.contestant import Contestant, Missing, Result, same
from benchmarks.rows import Arrays, Row

LINE = 64
"""Where the workspace begins: at a cache line."""


def numpy_module(row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """The NumPy module, called through its public door with all its checks."""
    codegen, model = _model("numpy", row, params)
    module = codegen.compile(model, target="numpy")
    return Contestant(partial(module.value_and_grad, params, batch), same)


def c_door(row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """The C function through `NAME_c.py`: checks, conversions and fresh gradients are counted."""
    path = generated_c(row, params) / f"{row.name}_c.py"
    os.environ["CHAINRULE_C_FLAGS"] = " ".join(threaded(row.name))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"no module in {path.name}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Contestant(partial(module.value_and_grad, params, batch), same)


def c_function(row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """The C function on prepared pointers, called by a loop in C."""
    native.compiler()
    return prepared(generated_c(row, params), row, params, batch)


def generated_c(row: Row, params: Arrays) -> Path:
    """The folder with NAME.c, NAME.h and NAME_c.py. Raises `Missing` where Chainrule has no target c."""
    codegen, model = _model("c", row, params)
    folder = Path(tempfile.mkdtemp(prefix="c-"))
    codegen.generate(model, target="c", out=folder)
    return folder


def prepared(folder: Path, row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """`NAME_value_and_grad` of the C file in `folder` with `c/chainrule.c`, on these arrays.

    Gradients are NaN before an untimed call, so that an entry the function leaves out shows in the check.
    """
    name = row.name
    header = (folder / f"{name}.h").read_text(encoding="utf-8")
    dtype = next(iter(params.values())).dtype
    flags = (f"-I{folder}", f"-DMODEL={name}", f'-DHEADER="{name}.h"', *threaded(name))
    library = native.shared_library([folder / f"{name}.c", native.SOURCES / "chainrule.c"], folder / "bench.so", *flags)
    structs = {struct: fields(header, f"{name}_{struct}") for struct in ("dims", "params", "inputs", "grads")}
    _same_size(library, structs)

    loss, grads = np.empty((), dtype), {key: np.empty_like(array) for key, array in params.items()}
    sizes = (ctypes.c_size_t * len(structs["dims"]))(*(row.sizes.get(field, 0) for field in structs["dims"]))
    library.bench_workspace.restype, library.bench_run.restype = ctypes.c_size_t, ctypes.c_int64
    room = library.bench_workspace(sizes)
    workspace = np.empty(room + LINE, np.uint8)
    start = workspace.ctypes.data + -workspace.ctypes.data % LINE
    pointers = [
        in_order(structs["params"], params), in_order(structs["inputs"], batch), ctypes.c_void_p(loss.ctypes.data),
        in_order(structs["grads"], grads), ctypes.c_void_p(start), ctypes.c_size_t(room),
    ]  # fmt: skip
    kept = (params, batch, workspace)  # C sees addresses alone: the arrays must live as long as the contestant

    def timed(calls: int) -> float:
        spent: int = library.bench_run(ctypes.c_int64(calls), sizes, *pointers)
        if spent < 0 or not kept:
            raise RuntimeError(f"{name}_value_and_grad: status {-spent}")
        return spent * 1e-9

    def call() -> Result:
        for array in (loss, *grads.values()):
            array.fill(np.nan)
        timed(1)
        return float(loss), grads

    return Contestant(call, same, timed)


def threaded(name: str) -> tuple[str, ...]:
    """The flags with which a generated file uses as many threads as the harness lets every library use."""
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    return (f"-D{name.upper()}_THREADS={threads}", "-fopenmp") if threads > 1 else ()


def fields(header: str, struct: str) -> tuple[str, ...]:
    """The members of `typedef struct { ... } STRUCT;` in their order.

    >>> fields("typedef struct { const real *W, *b; /* [H] */ size_t n; } line_params;", "line_params")
    ('W', 'b', 'n')
    """
    plain = re.sub(r"/\*.*?\*/|//[^\n]*", " ", header, flags=re.DOTALL)
    found = re.search(r"typedef\s+struct\s*\w*\s*\{([^{}]*)\}\s*" + re.escape(struct) + r"\s*;", plain)
    if found is None:
        raise RuntimeError(f"the header has no struct {struct}")
    declarators = [part for line in found[1].split(";") for part in line.split(",") if part.strip()]
    return tuple(re.findall(r"\w+", part)[-1] for part in declarators)


def in_order(names: Sequence[str], arrays: Arrays) -> Any:
    """The addresses of the arrays in the order of a struct's fields; the field `none` of an empty struct is NULL."""
    by_field = {re.sub(r"\W", "_", key): array for key, array in arrays.items()} if tuple(names) != ("none",) else {}
    if by_field and set(by_field) != set(names):
        raise RuntimeError(f"fields {', '.join(names)}; arrays {', '.join(by_field)}")
    return (ctypes.c_void_p * len(names))(*(by_field[name].ctypes.data if by_field else None for name in names))


def _same_size(library: ctypes.CDLL, structs: dict[str, tuple[str, ...]]) -> None:
    """Holds the fields that were read against the sizes that the compiler sees."""
    seen = (ctypes.c_size_t * len(structs))()
    library.bench_bytes(seen)
    for (struct, names), size in zip(structs.items(), seen, strict=True):
        if size != len(names) * ctypes.sizeof(ctypes.c_void_p):
            raise RuntimeError(f"{struct}: {size} bytes in C, fields read: {', '.join(names)}")


def _model(target: str, row: Row, params: Arrays) -> tuple[Any, Any]:
    """Chainrule's entry, and the row's model in the dtype of its arrays. Raises `Missing` where it has no such target."""
    try:
        codegen: Any = importlib.import_module("codegen")
        symbolic: Any = importlib.import_module("symbolic")
        targets = importlib.import_module("codegen.pipeline").TARGETS
    except (ImportError, AttributeError, SyntaxError) as error:
        raise Missing(str(error)) from error
    if target not in targets:
        raise Missing(f"no target {target}")
    dtype = str(next(iter(params.values())).dtype)
    return codegen, symbolic.load(row.spec if dtype == "float32" else with_dtype(row, dtype))


def with_dtype(row: Row, dtype: str) -> dict[str, Any]:
    """The row's spec as a dict, in another dtype."""
    import yaml

    spec: dict[str, Any] = yaml.safe_load(row.spec.read_text(encoding="utf-8"))
    return spec | {"dtype": dtype}
