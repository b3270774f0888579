"""Losses against torch.nn.functional: every reduction, kind of target, mask, and inputs that overflow a naive
formula."""

from __future__ import annotations

from typing import Any

from tests.oracle.case import Case

T, N, K = 4, 3, 5
LABELS = [[0, 4, 2], [3, 3, 1], [1, 0, 4], [2, 4, 0]]
IGNORED = [[0, -100, 2], [3, 3, 1], [-100, 0, 4], [2, -100, 0]]
LENGTHS = [4, 1, 3]
PASS = [{"name": "out", "type": "identity"}]
REAL = {"x": ["T", "N", "K"]}


def _functional(name: str, **options: Any) -> Any:
    def run(torch: Any, v: Any) -> Any:
        return getattr(torch.nn.functional, name)(v["x"], v["y"], **options)

    return run


def _steps(name: str, **options: Any) -> Any:
    """torch's losses of classes over [T*N, K]."""

    def run(torch: Any, v: Any) -> Any:
        y = v["y"].reshape(-1) if v["y"].dim() == 2 else v["y"].reshape(T * N, K)
        return getattr(torch.nn.functional, name)(v["x"].reshape(T * N, K), y, **options)

    return run


def _elements() -> list[Case]:
    made = []
    pairs = {"mse": ("mse_loss", {}), "mae": ("l1_loss", {}), "huber": ("huber_loss", {"delta": 0.8})}
    for kind, (function, options) in pairs.items():
        ours = {"delta": 0.8} if kind == "huber" else {}
        for reduction in ("mean", "sum", "batch"):

            def run(torch: Any, v: Any, f: str = function, o: dict[str, Any] = options, r: str = reduction) -> Any:
                value = getattr(torch.nn.functional, f)(v["x"], v["y"], reduction="mean" if r == "mean" else "sum", **o)
                return value / N if r == "batch" else value

            made.append(
                Case(
                    f"{kind}_{reduction}",
                    PASS,
                    {**REAL, "y": ["T", "N", "K"]},
                    {"x": (T, N, K), "y": (T, N, K)},
                    run,
                    loss={"type": kind, "target": "y", "reduction": reduction, **ours},
                )
            )
    made.append(
        Case(
            "mse_vector",
            PASS,
            {"x": ["K"], "y": ["K"]},
            {"x": (K,), "y": (K,)},
            _functional("mse_loss"),
            loss={"type": "mse", "target": "y"},
        )
    )
    made.append(
        Case(
            "mae_tie",
            PASS,
            {"x": ["K"], "y": ["K"]},
            {},
            _functional("l1_loss"),
            loss={"type": "mae", "target": "y"},
            given={"x": [0.5, 1.0, -2.0], "y": [0.5, 0.0, 1.0]},
        )
    )
    made.append(
        Case(
            "huber_corner",
            PASS,
            {"x": ["K"], "y": ["K"]},
            {},
            _functional("huber_loss"),
            loss={"type": "huber", "target": "y"},
            given={"x": [1.0, -1.0, 0.0, 5.0], "y": [0.0, 0.0, 0.0, 1.0]},
        )
    )
    made.append(
        Case(
            "log_cosh",
            PASS,
            {**REAL, "y": ["T", "N", "K"]},
            {"x": (T, N, K), "y": (T, N, K)},
            lambda torch, v: torch.log(torch.cosh(v["x"] - v["y"])).mean(),
            loss={"type": "log_cosh", "target": "y"},
        )
    )

    def masked(torch: Any, v: Any) -> Any:
        keep = torch.arange(T)[:, None] < v["len"]
        return ((v["x"] - v["y"]) ** 2)[keep].mean()

    lengths = {"shape": ["N"], "kind": "index", "below": "T+1"}
    made.append(
        Case(
            "mse_lengths",
            PASS,
            {**REAL, "y": ["T", "N", "K"], "len": lengths},
            {"x": (T, N, K), "y": (T, N, K)},
            masked,
            loss={"type": "mse", "target": "y", "lengths": "len"},
            given={"len": LENGTHS},
        )
    )
    made.append(
        Case(
            "mse_last",
            PASS,
            {**REAL, "y": ["N", "K"]},
            {"x": (T, N, K), "y": (N, K)},
            lambda torch, v: ((v["x"][-1] - v["y"]) ** 2).mean(),
            loss={"type": "mse", "target": "y", "at": "last"},
        )
    )
    made.append(
        Case(
            "mse_last_lengths",
            PASS,
            {**REAL, "y": ["N", "K"], "len": lengths},
            {"x": (T, N, K), "y": (N, K)},
            lambda torch, v: ((v["x"][v["len"] - 1, torch.arange(N)] - v["y"]) ** 2).mean(),
            loss={"type": "mse", "target": "y", "at": "last", "lengths": "len"},
            given={"len": LENGTHS},
        )
    )
    return made


def _binary() -> list[Case]:
    share = [[0.1, 0.9, 0.0], [1.0, 0.5, 0.3]]
    real = {"x": ["N", "K"], "y": ["N", "K"]}
    labels = {"x": ["N", "K"], "y": {"shape": ["N", "K"], "kind": "index", "below": 2}}
    logits = _functional("binary_cross_entropy_with_logits")
    return [
        Case(
            "bce",
            PASS,
            real,
            {"x": (2, 3)},
            logits,
            given={"y": share},
            constant=("y",),
            loss={"type": "binary_cross_entropy", "target": "y"},
        ),
        Case(
            "bce_sum",
            PASS,
            real,
            {"x": (2, 3)},
            _functional("binary_cross_entropy_with_logits", reduction="sum"),
            given={"y": share},
            constant=("y",),
            loss={"type": "binary_cross_entropy", "target": "y", "reduction": "sum"},
        ),
        Case(
            "bce_labels",
            PASS,
            labels,
            {"x": (2, 3)},
            lambda torch, v: torch.nn.functional.binary_cross_entropy_with_logits(v["x"], v["y"].double()),
            given={"y": [[0, 1, 1], [1, 0, 0]]},
            loss={"type": "binary_cross_entropy", "target": "y"},
        ),
        Case(
            "bce_extreme",
            PASS,
            real,
            {},
            logits,
            constant=("y",),
            loss={"type": "binary_cross_entropy", "target": "y"},
            given={"x": [[800.0, -800.0, 1e4], [-1e4, 30.0, 0.0]], "y": [[1.0, 1.0, 0.0], [0.0, 0.25, 0.5]]},
        ),
        Case(
            "bce_probabilities",
            PASS,
            real,
            {},
            _functional("binary_cross_entropy"),
            constant=("y",),
            loss={"type": "binary_cross_entropy", "target": "y", "from": "probabilities"},
            given={"x": [[0.2, 0.7, 0.01], [0.99, 0.5, 0.4]], "y": share},
        ),
    ]


def _classes() -> list[Case]:
    index = {**REAL, "y": {"shape": ["T", "N"], "kind": "index", "below": "K"}}
    ignored = {**REAL, "y": {"shape": ["T", "N"], "kind": "index", "below": "K", "ignore": -100}}
    lengths = {"shape": ["N"], "kind": "index", "below": "T+1"}
    logits = {"x": (T, N, K)}
    kind = {"type": "softmax_cross_entropy", "target": "y"}

    def hot(torch: Any, v: Any) -> Any:
        return torch.nn.functional.cross_entropy(v["x"].reshape(T * N, K), v["y"].reshape(T * N, K))

    def batch(torch: Any, v: Any) -> Any:
        return _steps("cross_entropy", reduction="sum")(torch, v) / N

    def masked(torch: Any, v: Any) -> Any:
        keep = (torch.arange(T)[:, None] < v["len"]) & (v["y"] != -100)
        return torch.nn.functional.cross_entropy(v["x"][keep], v["y"][keep])

    def last(torch: Any, v: Any) -> Any:
        return torch.nn.functional.cross_entropy(v["x"][v["len"] - 1, torch.arange(N)], v["y"])

    extreme = [[1e4, -1e4, 0.0, 5.0, 1e4], [-1e4, -1e4, -1e4, -1e4, -1e4], [800.0, 0.0, -800.0, 1.0, 2.0]]
    flat = {"x": ["N", "K"], "y": {"shape": ["N"], "kind": "index", "below": "K"}}
    return [
        Case("ce", PASS, index, logits, _steps("cross_entropy"), given={"y": LABELS}, loss=kind),
        Case(
            "ce_sum",
            PASS,
            index,
            logits,
            _steps("cross_entropy", reduction="sum"),
            given={"y": LABELS},
            loss={**kind, "reduction": "sum"},
        ),
        Case("ce_batch", PASS, index, logits, batch, given={"y": LABELS}, loss={**kind, "reduction": "batch"}),
        Case("ce_ignored", PASS, ignored, logits, _steps("cross_entropy"), given={"y": IGNORED}, loss=kind),
        Case(
            "ce_ignored_sum",
            PASS,
            ignored,
            logits,
            _steps("cross_entropy", reduction="sum"),
            given={"y": IGNORED},
            loss={**kind, "reduction": "sum"},
        ),
        Case(
            "ce_lengths",
            PASS,
            {**ignored, "len": lengths},
            logits,
            masked,
            given={"y": IGNORED, "len": LENGTHS},
            loss={**kind, "lengths": "len"},
        ),
        Case(
            "ce_last",
            PASS,
            {**REAL, "y": {"shape": ["N"], "kind": "index", "below": "K"}, "len": lengths},
            logits,
            last,
            given={"y": [1, 4, 0], "len": LENGTHS},
            loss={**kind, "at": "last", "lengths": "len"},
        ),
        Case("ce_probabilities", PASS, {**REAL, "y": ["T", "N", "K"]}, {**logits, "y": (T, N, K)}, hot, loss=kind),
        Case(
            "ce_smoothing",
            PASS,
            index,
            logits,
            _steps("cross_entropy", label_smoothing=0.1),
            given={"y": LABELS},
            loss={**kind, "smoothing": 0.1},
        ),
        Case(
            "ce_smoothing_ignored",
            PASS,
            ignored,
            logits,
            _steps("cross_entropy", label_smoothing=0.1),
            given={"y": IGNORED},
            loss={**kind, "smoothing": 0.1},
        ),
        Case(
            "ce_smoothing_probabilities",
            PASS,
            {**REAL, "y": ["T", "N", "K"]},
            logits,
            _steps("cross_entropy", label_smoothing=0.1),
            constant=("y",),
            loss={**kind, "smoothing": 0.1},
            given={"y": [[[0.2, 0.2, 0.1, 0.4, 0.1]] * N] * T},
        ),
        Case(
            "ce_vector",
            PASS,
            {"x": ["K"], "y": {"shape": [], "kind": "index", "below": "K"}},
            {"x": (K,)},
            _functional("cross_entropy"),
            given={"y": 3},
            loss=kind,
        ),
        Case(
            "ce_extreme", PASS, flat, {}, _functional("cross_entropy"), given={"x": extreme, "y": [1, 2, 0]}, loss=kind
        ),
        Case("nll", PASS, index, logits, _steps("nll_loss"), given={"y": LABELS}, loss={"type": "nll", "target": "y"}),
        Case(
            "nll_ignored",
            PASS,
            ignored,
            logits,
            _steps("nll_loss"),
            given={"y": IGNORED},
            loss={"type": "nll", "target": "y"},
        ),
        Case(
            "log_softmax_nll",
            [{"name": "out", "type": "log_softmax"}],
            index,
            logits,
            _steps("cross_entropy"),
            given={"y": LABELS},
            loss={"type": "nll", "target": "y"},
        ),
    ]


LOSSES = _elements() + _binary() + _classes()
