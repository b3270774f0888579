"""Convolution and pooling against torch.nn.functional."""

from __future__ import annotations

from typing import Any

from tests.oracle.case import Case

N, C, A, B, OUT = 2, 3, 7, 6, 5


def _list(value: Any, axes: int) -> list[Any]:
    return list(value) if isinstance(value, list) else [value] * axes


def _extents(axes: int, options: dict[str, Any]) -> list[str]:
    """The extents of the result as texts over A and B: floor((A + 2*P - D*(K-1) - 1)/S) + 1, or A where it is kept."""
    if options.get("padding") == "same":
        return ["A", "B"][:axes]
    padding = 0 if options.get("padding") == "valid" else options.get("padding", 0)
    numbers = zip(
        ["A", "B"],
        *(
            _list(value, axes)
            for value in (options["kernel"], options.get("stride", 1), padding, options.get("dilation", 1))
        ),
        strict=False,
    )
    return [f"floor(({side} + {2 * p - d * (k - 1) - 1})/{s}) + 1".replace("+ -", "- ") for side, k, s, p, d in numbers]


def _conv(
    name: str,
    axes: int,
    kernel: Any,
    batch: bool = True,
    channels: int = C,
    outer: int = OUT,
    activation: str = "",
    **options: Any,
) -> Case:
    sides = (A, B)[:axes] if axes == 2 else (9,)
    kernels = tuple(kernel) if isinstance(kernel, list) else (kernel,) * axes
    groups = options.get("groups", 1)
    shapes: dict[str, tuple[int, ...]] = {
        "x": (*((N,) if batch else ()), channels, *sides),
        "conv.W": (outer, channels // groups, *kernels),
    }
    bias = options.get("bias", True)
    if bias:
        shapes["conv.b"] = (outer,)
    torchs = {
        key: options[key] if not isinstance(options[key], list) else tuple(options[key])
        for key in ("stride", "padding", "dilation", "groups")
        if key in options
    }

    def run(torch: Any, v: Any) -> Any:
        convolve = torch.nn.functional.conv1d if axes == 1 else torch.nn.functional.conv2d
        y = convolve(v["x"], v["conv.W"], v["conv.b"] if bias else None, **torchs)
        return torch.relu(y) if activation else y

    layer = {"name": "conv", "type": f"conv{axes}d", "channels": outer, "kernel": kernel, **options}
    if activation:
        layer["activation"] = activation
    names = ["N"] * batch + [channels] + ["A", "B"][:axes]
    out = _extents(axes, {"kernel": kernel, **options})
    return Case(name, [layer], {"x": names}, shapes, run, (*(("N",) if batch else ()), outer, *out))


CONVOLUTION = [
    _conv("conv1d", 1, 3),
    _conv("conv1d_stride", 1, 3, stride=2),
    _conv("conv1d_stride_uneven", 1, 4, stride=3),
    _conv("conv1d_padding", 1, 3, padding=2),
    _conv("conv1d_same", 1, 4, padding="same"),
    _conv("conv1d_same_dilated", 1, 4, padding="same", dilation=2),
    _conv("conv1d_valid", 1, 4, padding="valid"),
    _conv("conv1d_dilation", 1, 3, dilation=2),
    _conv("conv1d_all", 1, 3, stride=3, padding=1, dilation=2),
    _conv("conv1d_batchless", 1, 3, batch=False, stride=2, padding=1),
    _conv("conv1d_no_bias", 1, 2, bias=False),
    _conv("conv1d_groups", 1, 3, channels=4, outer=6, groups=2),
    _conv("conv1d_depthwise", 1, 3, channels=4, outer=4, groups=4, padding=1),
    _conv("conv1d_depthwise_multiplier", 1, 3, channels=2, outer=6, groups=2, stride=2),
    _conv("conv2d", 2, 3),
    _conv("conv2d_uneven", 2, [4, 2]),
    _conv("conv2d_stride", 2, [3, 2], stride=[2, 1]),
    _conv("conv2d_padding", 2, [3, 2], padding=[1, 2]),
    _conv("conv2d_same", 2, [4, 3], padding="same"),
    _conv("conv2d_dilation", 2, [3, 2], dilation=[2, 3]),
    _conv("conv2d_all", 2, [3, 2], stride=[2, 3], padding=[1, 1], dilation=[2, 1]),
    _conv("conv2d_relu", 2, 3, activation="relu", stride=2, padding=1),
    _conv("conv2d_batchless", 2, 3, batch=False),
    _conv("conv2d_groups", 2, [3, 2], channels=4, outer=6, groups=2, padding=[1, 1], stride=[2, 1]),
    _conv("conv2d_depthwise", 2, 3, channels=4, outer=4, groups=4, padding=1),
]


def _pool(name: str, kind: str, axes: int, batch: bool = True, sign: float = 1.0, **options: Any) -> Case:
    """``sign`` -1 feeds negative numbers alone, so that a padding of 0 would win a maximum."""
    sides = (A, B)[:axes] if axes == 2 else (9,)
    shape = (*((N,) if batch else ()), C, *sides)
    torchs = {
        "kernel_size" if key == "kernel" else "count_include_pad" if key == "count_padding" else key: tuple(value)
        if isinstance(value, list)
        else value
        for key, value in options.items()
    }

    def run(torch: Any, v: Any) -> Any:
        function = getattr(torch.nn.functional, f"{kind}_pool{axes}d")
        return function(v["x"] if sign > 0 else -(v["x"] ** 2) - 1, **torchs)

    layers: list[dict[str, Any]] = [{"name": "pool", "type": f"{kind}_pool{axes}d", **options}]
    names = ["N"] * batch + [C] + ["A", "B"][:axes]
    if sign < 0:
        subscripts = ",".join("ncuv"[: len(shape)] if batch else "cuv"[: len(shape)])
        layers.insert(
            0, {"name": "below", "type": "equations", "equations": f"z[{subscripts}] = -x[{subscripts}]**2 - 1"}
        )
    out = _extents(axes, {"stride": options["kernel"], **options})
    return Case(name, layers, {"x": names}, {"x": shape}, run, (*(("N",) if batch else ()), C, *out))


def _ties() -> Case:
    """Entries that tie: the first of the window takes the slope."""
    x = [[[1.0, 1.0, 0.0, 2.0, 2.0, 2.0], [-1.0, -1.0, -1.0, -1.0, -1.0, -1.0]]]
    return Case(
        "max_pool1d_ties",
        [{"name": "pool", "type": "max_pool1d", "kernel": 3, "stride": 1}],
        {"x": ["N", "C", "L"]},
        {},
        lambda torch, v: torch.nn.functional.max_pool1d(v["x"], 3, 1),
        ("N", "C", "L-2"),
        given={"x": x},
    )


POOLING = [
    _pool("max_pool1d", "max", 1, kernel=2),
    _pool("max_pool1d_overlap", "max", 1, kernel=3, stride=1),
    _pool("max_pool1d_padding", "max", 1, kernel=3, stride=2, padding=1),
    _pool("max_pool1d_padding_negative", "max", 1, sign=-1.0, kernel=3, stride=2, padding=1),
    _pool("max_pool1d_dilation", "max", 1, kernel=3, stride=2, dilation=2),
    _pool("max_pool1d_batchless", "max", 1, batch=False, kernel=3),
    _pool("max_pool2d", "max", 2, kernel=2),
    _pool("max_pool2d_uneven", "max", 2, kernel=[3, 2], stride=[2, 3]),
    _pool("max_pool2d_padding_negative", "max", 2, sign=-1.0, kernel=[3, 2], stride=2, padding=1),
    _ties(),
    _pool("avg_pool1d", "avg", 1, kernel=3),
    _pool("avg_pool1d_padding", "avg", 1, kernel=3, stride=2, padding=1),
    _pool("avg_pool1d_counted", "avg", 1, kernel=3, stride=2, padding=1, count_padding=False),
    _pool("avg_pool2d", "avg", 2, kernel=2),
    _pool("avg_pool2d_padding", "avg", 2, kernel=[3, 2], stride=2, padding=1),
    _pool("avg_pool2d_counted", "avg", 2, kernel=[3, 2], stride=2, padding=1, count_padding=False),
    Case(
        "global_avg_pool",
        [{"name": "pool", "type": "global_avg_pool"}],
        {"x": ["N", "C", "A", "B"]},
        {"x": (N, C, A, B)},
        lambda torch, v: torch.nn.functional.adaptive_avg_pool2d(v["x"], 1).flatten(1),
        ("N", "C"),
    ),
    Case(
        "global_max_pool",
        [{"name": "pool", "type": "global_max_pool"}],
        {"x": ["N", "C", "A", "B"]},
        {"x": (N, C, A, B)},
        lambda torch, v: torch.nn.functional.adaptive_max_pool2d(v["x"], 1).flatten(1),
        ("N", "C"),
    ),
]
