"""Recurrent layers against torch.nn.RNN, LSTM and GRU (their own modules, with the weights of the case put in)."""

from __future__ import annotations

from typing import Any

from tests.oracle.case import Case

T, N, D, H, K = 5, 3, 4, 2, 6
LENGTHS = [5, 2, 4]
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
STATES = {"rnn": ("h",), "lstm": ("h", "c"), "gru": ("h",)}


def _module(torch: Any, kind: str, v: Any, direction: str, levels: int, bias: bool, activation: str) -> tuple[Any, Any]:
    """torch's module and its weights by torch's names; our one bias is its first, the second is zero (but for bn)."""
    kinds = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    more = {"nonlinearity": activation} if kind == "rnn" else {}
    features = v["x"].shape[-1]
    module = kinds[kind](features, H, num_layers=levels, bias=bias, bidirectional=direction == "both", **more).double()
    weights = {}
    for level in range(1, levels + 1):
        mark = f"_{level}" if level > 1 else ""
        for reverse, suffix in ((False, ""), (True, "_reverse")):
            if (reverse and direction == "forward") or (not reverse and direction == "reverse"):
                continue
            ours = f"cell.{{}}{'r' * reverse}{mark}"
            theirs = f"{{}}_l{level - 1}{suffix if direction == 'both' else ''}"
            weights[theirs.format("weight_ih")] = v[ours.format("W")]
            weights[theirs.format("weight_hh")] = v[ours.format("U")]
            if bias:
                weights[theirs.format("bias_ih")] = v[ours.format("b")]
                second = torch.zeros(GATES[kind] * H, dtype=torch.float64)
                if kind == "gru":
                    second = torch.cat([second[: 2 * H], v[ours.format("bn")]])
                weights[theirs.format("bias_hh")] = second
    return module, weights


def _torch(
    kind: str,
    direction: str = "forward",
    output: str = "all",
    state: str = "zero",
    lengths: bool = False,
    levels: int = 1,
    bias: bool = True,
    activation: str = "tanh",
) -> Any:
    def run(torch: Any, v: Any) -> Any:
        module, weights = _module(torch, kind, v, direction, levels, bias, activation)
        x = v["x"]
        if direction == "reverse":
            x = _flipped(torch, x, v.get("len"))
        start = None
        if state != "zero":
            starts = [
                torch.stack(
                    [
                        _start(v, s, level, reverse, x.shape[1:-1], state)
                        for level in range(1, levels + 1)
                        for reverse in {"forward": [False], "reverse": [True], "both": [False, True]}[direction]
                    ]
                )
                for s in STATES[kind]
            ]
            start = tuple(starts) if kind == "lstm" else starts[0]
        if lengths:
            packed = torch.nn.utils.rnn.pack_padded_sequence(x, v["len"], enforce_sorted=False)
            y, end = torch.func.functional_call(module, weights, (packed, start))
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=x.shape[0])
        else:
            y, end = torch.func.functional_call(module, weights, (x, start))
        if direction == "reverse":
            y = _flipped(torch, y, v.get("len"))
        end = end if kind == "lstm" else (end,)
        if output == "last":
            h = end[0]
            y = torch.cat([h[-2], h[-1]], -1) if direction == "both" else h[-1]
        if state == "carry":
            return y, {f"cell.{s}T": e[-1] for s, e in zip(STATES[kind], end, strict=True)}
        return y

    return run


def _flipped(torch: Any, x: Any, lengths: Any) -> Any:
    """Time reversed, within the length of each sequence."""
    if lengths is None:
        return x.flip(0)
    columns = []
    for n, length in enumerate(lengths.tolist()):
        columns.append(torch.cat([x[:length, n].flip(0), x[length:, n]]))
    return torch.stack(columns, 1)


def _start(v: Any, state: str, level: int, reverse: bool, batch: Any, how: str) -> Any:
    value = v[f"cell.{state}0{'_r' * reverse}{f'_{level}' if level > 1 else ''}"]
    return value.expand(*batch, value.shape[-1]) if how == "learned" else value


def _case(name: str, kind: str, batch: tuple[str, ...] = ("N",), **options: Any) -> Case:
    """A case by its options; parameters and initial states are listed here as the conventions say they are named."""
    extents = {"N": N, "M": 2}
    units, levels = H, options.get("layers", 1)
    direction, state = options.get("direction", "forward"), options.get("state", "zero")
    reverses = {"forward": [False], "reverse": [True], "both": [False, True]}[direction]
    shapes: dict[str, tuple[int, ...]] = {"x": (T, *(extents[b] for b in batch), D)}
    features = D
    for level in range(1, levels + 1):
        mark = f"_{level}" if level > 1 else ""
        for reverse in reverses:
            end = f"{'r' * reverse}{mark}"
            shapes[f"cell.W{end}"] = (GATES[kind] * units, features)
            shapes[f"cell.U{end}"] = (GATES[kind] * units, units)
            if options.get("bias", True):
                shapes[f"cell.b{end}"] = (GATES[kind] * units,)
                if kind == "gru" and options.get("reset", "after") == "after":
                    shapes[f"cell.bn{end}"] = (units,)
            if state != "zero":
                for s in STATES[kind]:
                    lead = () if state == "learned" else tuple(extents[b] for b in batch)
                    shapes[f"cell.{s}0{'_r' * reverse}{mark}"] = (*lead, units)
        features = units * len(reverses)
    inputs: dict[str, Any] = {"x": ["T", *batch, "D"]}
    given: dict[str, Any] = {}
    layer = {"name": "cell", "type": kind, "units": H, **options}
    if options.get("lengths"):
        inputs["len"] = {"shape": list(batch), "kind": "index", "below": "T+1"}
        given["len"] = LENGTHS
    last = options.get("output") == "last"
    out = (*(() if last else ("T",)), *batch, H * len(reverses))
    constant = tuple(f"cell.{s}0" for s in STATES[kind]) if state == "carry" else ()
    if kind == "gru" and options.get("reset") == "before":
        run = _before
    else:
        run = _torch(
            kind,
            direction,
            options.get("output", "all"),
            state,
            bool(options.get("lengths")),
            levels,
            options.get("bias", True),
            options.get("activation", "tanh"),
        )
    return Case(name, [layer], inputs, shapes, run, out, given=given, constant=constant)


def _before(torch: Any, v: Any) -> Any:
    """GRU with the reset before the product, step by step (torch has no module for it)."""
    x, w, u = v["x"], v["cell.W"], v["cell.U"]
    b = v["cell.b"] if "cell.b" in v else torch.zeros(3 * H, dtype=torch.float64)
    h, out = v.get("cell.h0", torch.zeros(*x.shape[1:-1], H, dtype=torch.float64)), []
    for t in range(x.shape[0]):
        r = torch.sigmoid(x[t] @ w[:H].T + h @ u[:H].T + b[:H])
        z = torch.sigmoid(x[t] @ w[H : 2 * H].T + h @ u[H : 2 * H].T + b[H : 2 * H])
        n = torch.tanh(x[t] @ w[2 * H :].T + (r * h) @ u[2 * H :].T + b[2 * H :])
        h = (1 - z) * n + z * h
        out.append(h)
    return torch.stack(out)


def _cases() -> list[Case]:
    made = []
    variants: dict[str, dict[str, Any]] = {
        "plain": {},
        "last": {"output": "last"},
        "given": {"state": "given"},
        "learned": {"state": "learned"},
        "carry": {"state": "carry"},
        "reverse": {"direction": "reverse"},
        "reverse_given": {"direction": "reverse", "state": "given"},
        "both": {"direction": "both"},
        "both_last": {"direction": "both", "output": "last"},
        "both_given": {"direction": "both", "state": "given"},
        "lengths": {"lengths": "len"},
        "lengths_last": {"lengths": "len", "output": "last"},
        "lengths_given": {"lengths": "len", "state": "given"},
        "lengths_carry": {"lengths": "len", "state": "carry"},
        "lengths_both": {"lengths": "len", "direction": "both"},
        "lengths_both_last": {"lengths": "len", "direction": "both", "output": "last"},
        "lengths_both_given": {"lengths": "len", "direction": "both", "state": "given", "output": "last"},
        "lengths_reverse_learned": {"lengths": "len", "direction": "reverse", "state": "learned"},
        "stacked": {"layers": 2},
        "stacked_both_given": {"layers": 2, "direction": "both", "state": "given"},
        "stacked_lengths_last": {"layers": 2, "lengths": "len", "direction": "both", "output": "last"},
        "no_bias": {"bias": False},
    }
    for kind in GATES:
        made += [_case(f"{kind}_{name}", kind, **options) for name, options in variants.items()]
        made.append(_case(f"{kind}_batchless", kind, ()))
        made.append(_case(f"{kind}_batchless_given", kind, (), state="given"))
    made.append(_case("rnn_relu", "rnn", activation="relu"))
    made.append(_case("gru_before", "gru", reset="before"))
    made.append(_case("gru_before_given", "gru", reset="before", state="given"))
    made.append(_case("gru_before_no_bias", "gru", reset="before", bias=False))
    return made


RECURRENT = _cases()
