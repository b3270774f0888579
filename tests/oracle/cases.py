"""Every layer and loss held against torch: the one table that the recorder and the tests both read.

Sizes differ on every axis, T >= 3 and N >= 2, so that no transposed axis can hide. ``FAMILIES`` maps the name of a
table to its cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.oracle.case import Case
from tests.oracle.cases_convolution import CONVOLUTION, POOLING
from tests.oracle.cases_loss import LOSSES
from tests.oracle.cases_recurrent import RECURRENT

T, N, D, H, V = 5, 3, 4, 2, 7

X = {"x": ["T", "N", "D"]}
TOKENS = [[0, 6, 3], [2, 2, 5], [1, 6, 0], [4, 3, 2], [5, 0, 6]]


def _dense() -> list[Case]:
    w = {"out.W": (H, D), "out.b": (H,)}

    def linear(torch: Any, v: Any) -> Any:
        return torch.nn.functional.linear(v["x"], v["out.W"], v["out.b"])

    layer = {"name": "out", "type": "dense", "units": H}
    cases = [
        Case("dense_vector", [layer], {"x": ["D"]}, {"x": (D,), **w}, linear, (H,)),
        Case("dense_batch", [layer], {"x": ["N", "D"]}, {"x": (N, D), **w}, linear, ("N", H)),
        Case("dense_steps", [layer], X, {"x": (T, N, D), **w}, linear, ("T", "N", H)),
        Case(
            "dense_no_bias",
            [{**layer, "bias": False}],
            X,
            {"x": (T, N, D), "out.W": (H, D)},
            lambda torch, v: torch.nn.functional.linear(v["x"], v["out.W"]),
            ("T", "N", H),
        ),
    ]
    for name, function in (
        ("tanh", lambda torch, a: torch.tanh(a)),
        ("softmax", lambda torch, a: torch.softmax(a, -1)),
        ("log_softmax", lambda torch, a: torch.log_softmax(a, -1)),
    ):
        cases.append(
            Case(
                f"dense_{name}",
                [{**layer, "activation": name}],
                X,
                {"x": (T, N, D), **w},
                lambda torch, v, f=function: f(torch, linear(torch, v)),
                ("T", "N", H),
            )
        )
    cases.append(
        Case(
            "dense_leaky",
            [{**layer, "activation": {"type": "leaky_relu", "slope": 0.2}}],
            X,
            {"x": (T, N, D), **w},
            lambda torch, v: torch.nn.functional.leaky_relu(linear(torch, v), 0.2),
            ("T", "N", H),
        )
    )
    cases.append(
        Case(
            "dense_glu",
            [{**layer, "units": 2 * H, "activation": "glu"}],
            X,
            {"x": (T, N, D), "out.W": (2 * H, D), "out.b": (2 * H,)},
            lambda torch, v: torch.nn.functional.glu(linear(torch, v)),
            ("T", "N", H),
        )
    )
    cases.append(
        Case(
            "two_layers",
            [{"name": "inner", "type": "dense", "units": 6, "activation": "relu"}, layer],
            {"x": ["N", "D"]},
            {"x": (N, D), "inner.W": (6, D), "inner.b": (6,), "out.W": (H, 6), "out.b": (H,)},
            lambda torch, v: torch.nn.functional.linear(
                torch.relu(torch.nn.functional.linear(v["x"], v["inner.W"], v["inner.b"])), v["out.W"], v["out.b"]
            ),
            ("N", H),
        )
    )
    return cases


def _tokens() -> list[Case]:
    inputs = {"tok": {"shape": ["T", "N"], "kind": "index", "below": V}}

    def hot(torch: Any, v: Any) -> Any:
        return torch.nn.functional.one_hot(v["tok"], V).to(torch.float64)

    return [
        Case(
            "one_hot",
            [{"name": "hot", "type": "one_hot", "classes": V}, {"name": "out", "type": "dense", "units": H}],
            inputs,
            {"out.W": (H, V), "out.b": (H,)},
            lambda torch, v: torch.nn.functional.linear(hot(torch, v), v["out.W"], v["out.b"]),
            ("T", "N", H),
            given={"tok": TOKENS},
        ),
        Case(
            "embedding",
            [{"name": "emb", "type": "embedding", "units": D}],
            inputs,
            {"emb.E": (V, D)},
            lambda torch, v: torch.nn.functional.embedding(v["tok"], v["emb.E"]),
            ("T", "N", D),
            given={"tok": TOKENS},
        ),
        Case(
            "embedding_padding",
            [{"name": "emb", "type": "embedding", "units": D, "classes": V, "padding": 6}],
            inputs,
            {"emb.E": (V, D)},
            lambda torch, v: torch.nn.functional.embedding(
                v["tok"], v["emb.E"] * (torch.arange(V) != 6)[:, None], padding_idx=6
            ),
            ("T", "N", D),
            given={"tok": TOKENS},
        ),
    ]


def _torch_activations() -> dict[str, tuple[dict[str, Any], Any]]:
    def functional(name: str, **options: Any) -> Any:
        return lambda torch, x: getattr(torch.nn.functional, name)(x, **options)

    return {
        "identity": ({}, lambda torch, x: x * 1.0),
        "sigmoid": ({}, lambda torch, x: torch.sigmoid(x)),
        "tanh": ({}, lambda torch, x: torch.tanh(x)),
        "relu": ({}, functional("relu")),
        "leaky_relu": ({}, functional("leaky_relu")),
        "elu": ({}, functional("elu")),
        "selu": ({}, functional("selu")),
        "celu": ({}, functional("celu")),
        "gelu": ({}, functional("gelu")),
        "silu": ({}, functional("silu")),
        "mish": ({}, functional("mish")),
        "softplus": ({}, functional("softplus")),
        "softsign": ({}, functional("softsign")),
        # torch's own hardsigmoid and celu differentiate with a factor in single precision (1e-8 off): composed here.
        "hard_sigmoid": ({}, lambda torch, x: torch.nn.functional.relu6(x + 3) / 6),
        "hard_tanh": ({}, functional("hardtanh")),
        "hard_swish": ({}, functional("hardswish")),
        "thresholded_relu": ({}, functional("threshold", threshold=1.0, value=0.0)),
        "softmax": ({}, functional("softmax", dim=-1)),
        "log_softmax": ({}, functional("log_softmax", dim=-1)),
        "glu": ({}, functional("glu")),
        "gelu_tanh": ({"type": "gelu", "approximate": "tanh"}, functional("gelu", approximate="tanh")),
        "leaky_relu_slope": ({"type": "leaky_relu", "slope": 0.3}, functional("leaky_relu", negative_slope=0.3)),
        "elu_alpha": ({"type": "elu", "alpha": 0.7}, functional("elu", alpha=0.7)),
        "celu_alpha": (
            {"type": "celu", "alpha": 1.7},
            lambda torch, x: torch.where(x > 0, x, 1.7 * torch.expm1(torch.clamp(x, max=0) / 1.7)),
        ),
        "softplus_beta": ({"type": "softplus", "beta": 2.5}, functional("softplus", beta=2.5)),
        "hard_tanh_range": (
            {"type": "hard_tanh", "low": -0.5, "high": 1.5},
            functional("hardtanh", min_val=-0.5, max_val=1.5),
        ),
        "threshold_value": (
            {"type": "thresholded_relu", "threshold": 0.25, "value": -2.0},
            functional("threshold", threshold=0.25, value=-2.0),
        ),
        "softmax_axis": ({"type": "softmax", "axis": 0}, functional("softmax", dim=0)),
        "log_softmax_axis": ({"type": "log_softmax", "axis": 1}, functional("log_softmax", dim=1)),
        "glu_axis": ({"type": "glu", "axis": 0}, functional("glu", dim=0)),
    }


KINKS = [-3.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 3.0, 2.0]
"""Points at which some activation has a kink: torch's slope there is part of the contract."""


def _activations() -> list[Case]:
    cases = []
    a, b, c = 6, 3, 4
    for name, (options, function) in _torch_activations().items():
        layer = {"name": "act", "type": name, **options}
        halved = {"glu": ("A", "B", 2), "glu_axis": (3, "B", "C")}
        shape = {"glu": ["A", "B", 4], "glu_axis": [6, "B", "C"]}.get(name, ["A", "B", "C"])
        cases.append(
            Case(
                f"act_{name}",
                [layer],
                {"x": shape},
                {"x": (a, b, c)},
                lambda torch, v, f=function: f(torch, v["x"]),
                halved.get(name, ("A", "B", "C")),
                scale=2.0,
            )
        )
        if not name.startswith(("softmax", "log_softmax", "glu")):
            cases.append(
                Case(
                    f"kink_{name}",
                    [layer],
                    {"x": ["K"]},
                    {},
                    lambda torch, v, f=function: f(torch, v["x"]),
                    ("K",),
                    given={"x": KINKS},
                )
            )
    for name, options, shape in (("prelu", {}, ()), ("prelu_channels", {"type": "prelu", "shared": False}, (b,))):
        layer = {"name": "act", "type": "prelu", **options}
        cases.append(
            Case(
                f"act_{name}",
                [layer],
                {"x": ["A", "B", "C"]},
                {"x": (a, b, c), "act.slope": shape},
                lambda torch, v: torch.nn.functional.prelu(v["x"], v["act.slope"].reshape(-1)),
                ("A", "B", "C"),
            )
        )
    cases.append(
        Case(
            "kink_prelu",
            [{"name": "act", "type": "prelu"}],
            {"x": ["K"]},
            {},
            lambda torch, v: torch.nn.functional.prelu(v["x"], v["act.slope"].reshape(-1)),
            ("K",),
            given={"x": KINKS, "act.slope": 0.25},
        )
    )
    return cases


def _merges() -> list[Case]:
    """Shapes and merges: flatten, reshape, transpose, add, multiply, concat."""
    a, b, c, d = 3, 2, 4, 5
    x4 = {"x": ["A", "B", "C", "D"]}

    def one(name: str, kind: str, options: dict[str, Any], function: Any, out: tuple[str | int, ...]) -> Case:
        return Case(
            name,
            [{"name": "out", "type": kind, **options}],
            x4,
            {"x": (a, b, c, d)},
            lambda torch, v: function(torch, v["x"]),
            out,
        )

    def two(
        name: str,
        kind: str,
        options: dict[str, Any],
        second: list[str],
        shape: tuple[int, ...],
        function: Any,
        out: tuple[str | int, ...],
    ) -> Case:
        return Case(
            name,
            [{"name": "out", "type": kind, "from": ["x", "z"], **options}],
            {"x": ["A", "B", "C"], "z": second},
            {"x": (a, b, c), "z": shape},
            lambda torch, v: function(torch, v["x"], v["z"]),
            out,
        )

    return [
        one("flatten", "flatten", {}, lambda torch, x: torch.flatten(x, 1), ("A", "B*C*D")),
        one("flatten_part", "flatten", {"start": 0, "end": 2}, lambda torch, x: torch.flatten(x, 0, 2), ("A*B*C", "D")),
        one(
            "reshape",
            "reshape",
            {"shape": ["A", "D", "B*C"]},
            lambda torch, x: x.reshape(a, d, b * c),
            ("A", "D", "B*C"),
        ),
        one(
            "reshape_all",
            "reshape",
            {"shape": ["D*B", "A", "C"]},
            lambda torch, x: x.reshape(d * b, a, c),
            ("D*B", "A", "C"),
        ),
        one(
            "transpose",
            "transpose",
            {"order": [2, 0, 3, 1]},
            lambda torch, x: x.permute(2, 0, 3, 1),
            ("C", "A", "D", "B"),
        ),
        one("transpose_all", "transpose", {}, lambda torch, x: x.permute(3, 2, 1, 0), ("D", "C", "B", "A")),
        two("add", "add", {}, ["A", "B", "C"], (a, b, c), lambda torch, x, z: x + z, ("A", "B", "C")),
        two("multiply", "multiply", {}, ["A", "B", "C"], (a, b, c), lambda torch, x, z: x * z, ("A", "B", "C")),
        two(
            "concat",
            "concat",
            {},
            ["A", "B", "D"],
            (a, b, d),
            lambda torch, x, z: torch.cat([x, z], -1),
            ("A", "B", "C+D"),
        ),
        two(
            "concat_axis",
            "concat",
            {"axis": 0},
            ["D", "B", "C"],
            (d, b, c),
            lambda torch, x, z: torch.cat([x, z], 0),
            ("A+D", "B", "C"),
        ),
        Case(
            "residual",
            [
                {"name": "one", "type": "dense", "units": "D", "activation": "tanh"},
                {"name": "out", "type": "add", "from": ["x", "one"]},
            ],
            {"x": ["N", "D"]},
            {"x": (N, D), "one.W": (D, D), "one.b": (D,)},
            lambda torch, v: v["x"] + torch.tanh(torch.nn.functional.linear(v["x"], v["one.W"], v["one.b"])),
            ("N", "D"),
        ),
    ]


FAMILIES: Mapping[str, list[Case]] = {
    "dense": _dense() + _tokens(),
    "activation": _activations(),
    "shape": _merges(),
    "recurrent": RECURRENT,
    "convolution": CONVOLUTION,
    "pooling": POOLING,
    "loss": LOSSES,
}
