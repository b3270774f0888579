"""How the arrays of a module lie in memory: products as what they meet, samples innermost where images are sliced. The order is
a matter of speed alone: each case is held against the interpreter, with NaN in every array that nobody has filled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symbolic
from tests.emitting import agree, module_text

CLASSES = {"type": "softmax_cross_entropy", "target": "y"}


@pytest.fixture(autouse=True)
def dirty_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """``np.empty`` and ``np.empty_like`` give what nobody may read: NaN."""
    for name in ("empty", "empty_like"):
        monkeypatch.setattr(np, name, _dirty(getattr(np, name)))


def _dirty(make: Any) -> Any:
    def made(*arguments: Any, **named: Any) -> Any:
        array = make(*arguments, **named)
        if array.dtype.kind == "f":
            array.fill(np.nan)
        return array

    return made


def dense(activation: str) -> symbolic.Model:
    return symbolic.load({
        "name": "net", "inputs": {"x": ["N", 5], "y": {"shape": ["N"], "kind": "index", "below": 4}}, "loss": CLASSES,
        "layers": [{"name": "a", "type": "dense", "units": 3, "activation": activation},
                   {"name": "b", "type": "dense", "units": 4}],
    })


def test_the_adjoint_of_an_activation_lies_as_the_activation() -> None:
    """``a @ W.T`` is written as the transpose of ``W @ a.T``; what comes back to it, mask or slope, is laid out the same way."""
    for activation in ("relu", "tanh"):
        text = module_text(dense(activation))
        assert "a_a = a_W.dot(x.T).T" in text
        assert "d_a_y = b_W.T.dot(d_b_y.T).T" in text
        agree(dense(activation), {"N": 3})


def test_a_product_that_meets_nothing_is_written_plainly() -> None:
    """Without an activation the adjoint goes into products alone."""
    text = module_text(dense("identity"))
    assert "= d_b_y.dot(b_W)" in text
    agree(dense("identity"), {"N": 3})


def test_what_a_loop_writes_step_by_step_stays_in_order() -> None:
    """The product before the loop is turned, but a step of its adjoint is a row: it is stored into, in one piece."""
    model = symbolic.load(
        "a[t,i] = W[i,k]*x[t,k]\nh[t,i] = tanh(a[t,i] + g[t,i])\ng[t,i] = U[i,j]*h[t-1,j]\n"
        "loss = sum(h[t,i]**2, over=(t,i)) + sum(a[t,i]**2, over=(t,i))", loss="loss", dtype="float64",
        inputs={"x": ["T", 3]}, parameters={"W": [4, 3], "U": [4, 4]}, states={"h": ["T", 4], "g": ["T", 4], "a": ["T", 4]},
    )
    text = module_text(model)
    assert "a = W.dot(x.T).T" in text
    assert "DTYPE).transpose" not in text
    agree(model, {"T": 4})


def test_ones_are_made_once() -> None:
    """Both biases add the rows of one batch."""
    body = module_text(dense("relu")).split("\ndef loss", 1)[0]
    assert body.count("np.empty(N, DTYPE)") == 1
    assert body.count("ones.dot(") == 2


def images(*layers: dict[str, Any], size: tuple[int, int] = (7, 6)) -> symbolic.Model:
    named = [{"name": f"l{k}", **layer} for k, layer in enumerate(layers)]
    return symbolic.load({
        "name": "net", "inputs": {"x": ["N", 2, *size], "y": {"shape": ["N"], "kind": "index", "below": 3}}, "loss": CLASSES,
        "layers": [*named, {"name": "flat", "type": "flatten"}, {"name": "out", "type": "dense", "units": 3}],
    })


def conv(kernel: int = 3, **options: Any) -> dict[str, Any]:
    return {"type": "conv2d", "channels": 4, "kernel": kernel, "activation": "relu", **options}


POOL = {"type": "max_pool2d", "kernel": 2}
NETS = [
    pytest.param(images(conv(2), POOL), id="pooled"),
    pytest.param(images(conv(), {"type": "max_pool2d", "kernel": 2, "stride": 1}), id="windows that overlap"),
    pytest.param(images(conv(padding=1), conv(padding=1)), id="padded"),
    pytest.param(images(conv(padding=1), POOL, conv(2, padding=1)), id="pooled into a padded array"),
    pytest.param(images(conv(padding=1, stride=2), conv(2, stride=2)), id="strides"),
    pytest.param(images(conv(2, dilation=2), {"type": "avg_pool2d", "kernel": 2}), id="dilated, averaged"),
    pytest.param(images({"type": "max_pool2d", "kernel": 2}, conv(2)), id="pooled first"),
    pytest.param(images(conv(2), {"type": "max_pool2d", "kernel": 3, "stride": 2, "padding": 1}), id="guarded maximum"),
    pytest.param(images(conv(1), conv(1)), id="kernels of one"),
    pytest.param(images(conv(3, groups=2), POOL), id="groups"),
    pytest.param(images(conv((1, 3)), size=(4, 5)), id="a kernel along one axis"),
]


@pytest.mark.parametrize("model", NETS)
@pytest.mark.parametrize("samples", [1, 3])
def test_convolutions_agree_with_the_interpreter(model: symbolic.Model, samples: int) -> None:
    agree(model, {"N": samples}, tolerance=1e-11)


def test_samples_lie_innermost_where_images_are_sliced() -> None:
    """From the patches of the input to the adjoint of the first layer no array with the axes of an image is in their order."""
    text = module_text(images(conv(2), POOL, conv(2), size=(7, 7)))
    body = text.split("\ndef loss", 1)[0]
    assert "x_turned = np.ascontiguousarray(x.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2)  # axis 0 innermost" in body
    assert "l0_a = (l0_W.reshape(4, 8) @ x_patches).reshape(6, 4, 6, N).transpose(3, 1, 0, 2)" in body
    assert "l1_y_turned" not in body, "what is pooled lies right already"
    assert "d_l1_y = np.zeros((3, 4, 3, N), DTYPE).transpose(3, 1, 0, 2)" in body
    assert "d_l0_a = l0_a  # nobody reads it after this: written over" in body


def test_patches_are_taken_up_again_over_the_same_range_alone() -> None:
    """A pool that leaves a column out needs the forward product without it; the weights' gradient reads every column."""
    model = images({"type": "conv2d", "channels": 4, "kernel": 2}, POOL)
    body = module_text(model).split("\ndef loss", 1)[0]
    assert "l0_y[:, :, :, :4] = " in body
    assert "(x_patches @" not in body
    agree(model, {"N": 3}, tolerance=1e-11)


@pytest.mark.parametrize(("layers", "size", "over"), [
    ((conv(2), POOL), (7, 7), True),
    ((conv(2, activation="tanh"), POOL), (7, 7), False),  # the slope of tanh reads its value after that
    ((conv(2), POOL), (7, 6), False),  # a column beyond the last window has no place in the loop: it stays 0
    ((conv(2), {"type": "max_pool2d", "kernel": 2, "stride": 1}), (7, 7), False),  # windows overlap: an entry is read again
    ((conv(2), {"type": "max_pool2d", "kernel": 2, "stride": 3}), (7, 7), False),  # gaps between windows
    (({"type": "max_pool2d", "kernel": 2}, conv(2)), (6, 6), False),  # the caller's own array
])
def test_the_adjoint_of_a_maximum_is_written_over_what_nobody_reads_again(
    layers: tuple[dict[str, Any], ...], size: tuple[int, int], over: bool
) -> None:
    model = images(*layers, size=size)
    assert ("written over, entry by entry" in module_text(model, wrt="all")) is over
    agree(model, {"N": 3}, tolerance=1e-11)


def test_an_output_is_not_written_over() -> None:
    """What a caller gets keeps its values: the loss reads the maximum, the caller the array under it."""
    model = symbolic.load({
        "name": "net", "inputs": {"x": ["N", 2, 4, 4], "y": ["N", 2, 2, 2]},
        "layers": [{"name": "a", "type": "conv2d", "channels": 2, "kernel": 1}, {"name": "b", **POOL}],
        "outputs": ["a"], "loss": {"type": "mse", "target": "y", "prediction": "b"},
    })
    assert "written over" not in module_text(model)
    agree(model, {"N": 2})


def test_a_signal_of_one_axis_stays_in_order() -> None:
    """With one axis to slice there is no other to lead the products: one for each position would be too small."""
    model = symbolic.load({
        "name": "net", "inputs": {"x": ["N", 2, 9], "y": ["N", 3, 7]}, "loss": {"type": "mse", "target": "y"},
        "layers": [{"name": "c", "type": "conv1d", "channels": 3, "kernel": 3, "activation": "relu"}],
    })
    assert "_turned" not in module_text(model)
    agree(model, {"N": 3})


def test_a_window_over_the_samples_keeps_them_in_their_place() -> None:
    """A filter over neighbouring samples slices their axis too."""
    model = symbolic.load(
        "y[n,o,u,v] = K[o,c,m,p]*x[n+m,c,u+p,v]\nloss = sum(y[n,o,u,v]**2, over=(n,o,u,v))", loss="loss", dtype="float64",
        inputs={"x": ["N", 2, 5, 3]}, parameters={"K": [4, 2, 2, 2]}, states={"y": ["N-1", 4, 4, 3]},
    )
    assert "_turned" not in module_text(model)
    agree(model, {"N": 4})


def test_a_turned_array_is_written_through_a_split_axis() -> None:
    """Splitting an axis gives a view in whatever order an array lies: nothing is added to a copy."""
    model = symbolic.load(
        "y[n,i] = W[i,k]*x[n,k]\ny[n,2*u+v] += z[n,u,v]\nloss = sum(y[n,i]**3, over=(n,i))", loss="loss", dtype="float64",
        inputs={"x": ["N", 3], "z": ["N", 2, 2]}, parameters={"W": [4, 3]}, ranges={"u": 2, "v": 2}, states={"y": ["N", 4]},
    )
    assert "y = W.dot(x.T).T" in module_text(model)
    agree(model, {"N": 3})


def test_what_a_condition_made_is_made_again_after_it() -> None:
    """At T = 1 there is no u: the first sum is not written, and the second must not count on its ones."""
    model = symbolic.load(
        "z[u,i] = 2*x[2*u+1,i]\nm[i] = sum(x[2*u,i], over=u)\nk[i] = sum(z[u,i], over=u)\n"
        "loss = sum(m[i]*w[i] + k[i]**2, over=i)", loss="loss", dtype="float64",
        inputs={"x": ["T", 3]}, parameters={"w": [3]}, ranges={"u": "floor((T-1)/2)"},
        states={"z": ["floor((T-1)/2)", 3], "m": [3], "k": [3]},
    )
    for steps in (1, 2, 3, 6):
        agree(model, {"T": steps})


@pytest.mark.parametrize("steps", [1, 4])
def test_the_margin_of_a_turned_array_is_zero(steps: int) -> None:
    model = symbolic.load(
        "m[t,n] = sum(D[n,j]*x[t,j], over=j)\nh[t,n] = m[t,n]*m[t,n]\nloss = sum(h[t-1,n]*x[t,n] + h[t,n], over=(t,n))",
        loss="loss", dtype="float64", inputs={"x": ["T", 3]}, parameters={"D": [3, 3]}, shapes={"m": ["T", 3], "h": ["T", 3]},
    )
    assert ".transpose(1, 0)  # axis 0 has 1 more before" in module_text(model)
    agree(model, {"T": steps})
