"""NAME_update in C against ``update`` in Python: every optimiser under every clipping, over a few steps."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import codegen
import symbolic
from codegen import build
from codegen.pipeline import Options, render

OPTIMIZERS: list[dict[str, Any]] = [
    {"type": "sgd"}, {"type": "sgd", "weight_decay": 0.1}, {"type": "momentum"}, {"type": "momentum", "nesterov": True},
    {"type": "adagrad", "initial": 0.1}, {"type": "rmsprop"}, {"type": "adam"}, {"type": "adamw"},
]
CLIPS: list[dict[str, Any] | None] = [
    None, {"type": "value", "limit": 0.3}, {"type": "global_norm", "limit": 0.5}, {"type": "norm", "limit": 0.4},
]


def pointers(arrays: list[Any]) -> Any:
    return (ctypes.c_void_p * max(1, len(arrays)))(*(a.ctypes.data for a in arrays))


@pytest.mark.parametrize("clip", CLIPS, ids=lambda c: c["type"] if c else "plain")
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: "_".join(map(str, o.values())))
def test_trajectories_agree(optimizer: dict[str, Any], clip: dict[str, Any] | None) -> None:
    spec = {
        "name": "net", "dtype": "float64", "inputs": {"x": ["N", "D"], "t": ["N", 2]}, "optimizer": optimizer,
        "layers": [{"name": "d", "type": "dense", "units": 2}], "loss": {"type": "mse", "target": "t"},
        **({"clip": clip} if clip else {}),
    }
    model = symbolic.load(spec)
    module: Any = codegen.compile(model)
    texts = render(model, "c", Options())
    library = build.load("net", texts["net.c"], texts["net.h"], ("-O1",))
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape) for name, shape in {"d.W": (2, 3), "d.b": (2,)}.items()}
    mine = {name: array.copy() for name, array in params.items()}
    slots = model.update.optimizer.slots
    kept = [np.full_like(array, value) for value in slots.values() for array in params.values()]
    state: Any = None
    count = np.zeros(1)
    hyper = np.array([*model.update.optimizer.hyper.values(), *(model.update.clip.hyper.values() if clip else ())])
    free = {"D": 3, "N": 4}
    dims = (ctypes.c_size_t * 2)(*(free[n] for n in model.program().sizes))
    for _ in range(4):
        grads = {name: rng.standard_normal(array.shape) for name, array in params.items()}
        before = {name: array.copy() for name, array in grads.items()}
        params, state = module.update(params, grads, state)
        fields = [*kept, *([count] if model.update.optimizer.counts else [])]
        given = pointers(list(mine.values())), pointers(list(grads.values())), pointers(fields)
        assert library.net_update(dims, *given, hyper.ctypes.data_as(ctypes.c_void_p)) == 0
        for name, array in params.items():
            np.testing.assert_allclose(mine[name], array, rtol=1e-13, atol=1e-15)
            assert np.array_equal(grads[name], before[name]), "gradients are only read"
    for array, slot in zip(kept, [state[s][n] for s in slots for n in params], strict=True):
        np.testing.assert_allclose(array, slot, rtol=1e-13, atol=1e-15)


def test_the_spec_s_numbers_are_there() -> None:
    model = symbolic.load({
        "name": "net", "inputs": {"x": ["N", 3], "t": ["N", 2]}, "optimizer": {"type": "adam", "rate": 0.25},
        "layers": [{"name": "d", "type": "dense", "units": 2}], "loss": {"type": "mse", "target": "t"},
        "clip": {"type": "global_norm", "limit": 2},
    })
    source = render(model, "c", Options())["net.c"]
    assert "const net_hyper hyper = { (real)0.25, (real)0.9, (real)0.999, (real)1e-08, (real)2.0 };" in source


def test_null_pointers_are_refused() -> None:
    model = symbolic.load({
        "name": "net", "dtype": "float64", "inputs": {"x": ["N", 3], "t": ["N", 2]}, "optimizer": {"type": "sgd"},
        "layers": [{"name": "d", "type": "dense", "units": 2}], "loss": {"type": "mse", "target": "t"},
    })
    texts = render(model, "c", Options())
    library = build.load("net", texts["net.c"], texts["net.h"], ("-O1",))
    dims = (ctypes.c_size_t * 1)(4)
    arrays = pointers([np.zeros((2, 3)), np.zeros(2)])
    hyper = (ctypes.c_double * 1)(0.1)
    assert library.net_update(dims, arrays, arrays, None, hyper) == 0
    for k in (0, 1, 2, 4):
        given: list[Any] = [dims, arrays, arrays, None, hyper]
        given[k] = None
        assert library.net_update(*given) == 1


def test_the_header_says_how_large_the_state_is() -> None:
    header = render(symbolic.load({
        "name": "net", "inputs": {"x": ["N", "D"], "t": ["N", 2]}, "optimizer": {"type": "momentum"},
        "layers": [{"name": "d", "type": "dense", "units": 2}], "loss": {"type": "mse", "target": "t"},
    }), "c", Options())["net.h"]
    assert "    net_real *d_W;  /* d.W [2][D] */\n    net_real *d_b;  /* d.b [2] */\n} net_weights;" in header
    assert "    net_real *v_d_W;  /* as d.W */\n    net_real *v_d_b;  /* as d.b */\n} net_state;" in header
