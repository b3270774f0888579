"""Random index equations through the whole pipeline: the generated module against the interpreter of plain equations.

Shifts, reflections, strides, windows, index reads, guards, maxima, mixed radix, scalars, several contributions to one target,
slices packed in one tensor, recurrences; every subscript of the module is checked, every given array is read-only.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import symbolic
from tests.emitting import agree

INPUTS: dict[str, Any] = {
    "x": ["T", "N"],
    "ix": {"shape": ["N"], "kind": "index", "below": "T"},
    "jx": {"shape": ["T", "N"], "kind": "index", "below": "N"},
    "len": {"shape": ["N"], "kind": "index", "below": "T+1"},
    "lab": {"shape": ["T"], "kind": "index", "below": "N", "ignore": -1},
}
PARAMETERS = {"a": ["T"], "b": ["T", "N"], "c": ["N"], "w": ["K"], "q": ["T*N"], "s": []}
SHAPES = {"x": "TN", "a": "T", "b": "TN", "c": "N", "w": "K", "q": "Q", "s": ""}
SUBSCRIPTS = {
    # axis -> (the index it needs, or "" -> subscripts)
    "T": {"t": ("t", "t", "t-1", "t+1", "t-3", "T-1-t", "T-t", "2*t-1", "t+k-1", "2*t-k", "t-2*k"),
          "n": ("ix[n]", "ix[n]-1", "len[n]-1", "T-1-ix[n]"), "": ("0", "T-1", "u", "2*u+k", "u+1")},
    "N": {"n": ("n", "n", "n+1", "N-1-n", "n+k-1"), "tn": ("jx[t,n]", "jx[t,n]-1"), "t": ("lab[t]",), "": ("0", "m", "m-1")},
    "K": {"": ("k", "0", "2")},
    "Q": {"tn": ("N*t+n", "T*n+t", "N*t+n+1"), "t": ("t+0",), "": ("N*u+m", "0")},
}
TARGETS = {
    "T": {"t": ("t", "t", "t", "t+1", "T-1-t", "2*t", "t+k-1", "2*t+k"), "n": ("ix[n]", "len[n]-1")},
    "N": {"n": ("n", "n", "n", "n-1", "N-1-n"), "t": ("lab[t]",)},
    "Q": {"tn": ("N*t+n", "T*n+t")},
    "2T": {"t": ("t+0", "T+t", "2*T-1-t", "2*t", "2*t+1")},
}
FUNCTIONS = ("{}", "{}", "{}", "tanh({})", "sigmoid({})", "exp(-{0}*{0})", "relu({})", "cos({})", "1/(2 + {0}*{0})")
GUARDS = {
    "t": ("(t < 3)*", "(t >= 1)*", "(t != 1)*", "(t == T-1)*"), "n": ("(len[n] > 1)*", "(n > 0)*"),
    "tn": ("(t < len[n])*", "(n == jx[t,n])*", "(t <= ix[n])*", "(n <= t)*"),
    "tu": ("(u <= t)*", "(u < t)*", "(u != t)*"), "nu": ("(u < len[n])*",), "nm": ("(m != n)*", "(m < n)*"),
}


class Text:
    """Draws the text of a model; ``shapes`` holds what was defined so far."""

    def __init__(self, data: Any) -> None:
        self.draw = data.draw
        self.shapes = dict(SHAPES)
        self.declared: dict[str, list[str]] = {}

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def places(self, table: Any, shape: str, carried: str, inner: bool) -> list[str]:
        found = []
        for axis in axes(shape):
            options = [s for needs, row in table[axis].items() if set(needs) <= set(carried) for s in row]
            found.append(self.pick(*[s for s in options if inner or not set(s) & set("kum")]))
        return found

    def factor(self, carried: str, names: list[str], function: bool = True) -> str:
        name = self.pick(*names)
        around = self.pick(*FUNCTIONS) if function else "{}"
        usable = all(axis in SUBSCRIPTS for axis in axes(self.shapes[name]))
        if not usable or not self.possible(self.shapes[name], carried, around == "{}"):
            name = "s"
        inside = ",".join(self.places(SUBSCRIPTS, self.shapes[name], carried, around == "{}"))
        return str(around.format(f"{name}[{inside}]" if inside else name))

    def possible(self, shape: str, carried: str, inner: bool) -> bool:
        return all(any(set(needs) <= set(carried) and (inner or not set(s) & set("kum"))
                       for needs, row in SUBSCRIPTS[axis].items() for s in row) for axis in axes(shape))

    def term(self, carried: str, names: list[str]) -> str:
        body = "*".join(self.factor(carried, names) for _ in range(self.pick(1, 2, 2, 3)))
        here = set(carried) | {s for s in "um" if f"{s}" in indices(body)}
        options = [g for needs, row in GUARDS.items() if set(needs) <= here for g in row]
        guard = self.pick(*([""] * 2 * max(1, len(options) // 2)), *options)
        scale = self.pick("", "", "-", "0.5*", "-2*")
        return f"{scale}{guard}{body}"

    def equation(self, number: int) -> list[str]:
        name, names = f"y{number}", list(self.shapes)
        kind = self.pick("plain", "plain", "plain", "scatter", "max", "recurrence", "packed", "scalar")
        if kind == "max":
            shape = self.pick("T", "TN")
            carried = shape.lower()
            guard = self.pick("", "", "(k < 2)*", "(t + k < T)*", "(k <= t)*", *(["(t < len[n])*"] if "n" in carried else []))
            body = self.pick(*["b[t+k,n]", "x[2*t+k-1,n]*c[n]", "tanh(b[t-k,n])", "x[t,n]*w[k]"] if "n" in carried
                             else ["a[t+k-1]", "a[t-k]*w[k]", "a[t+2*k]"])
            lines = [f"{name}[{','.join(carried)}] = max({guard}{body}, over=k)"]
        elif kind == "recurrence":
            shape = self.pick("T", "TN")
            carried, step = shape.lower(), self.pick("t-1", "t+1", "t-2")
            own = f"{name}[{step}{',n' if 'N' in shape else ''}]"
            guard = self.pick("", "", "(t < len[n])*" if "N" in shape else "(t > 0)*")
            first = self.term(carried, names)
            self.shapes[f"r{number}"] = shape
            self.declare(f"r{number}", shape)
            lines = [f"r{number}[{','.join(carried)}] = {first}",
                     f"{name}[{','.join(carried)}] = {guard}tanh(r{number}[{','.join(carried)}] + 0.7*{own})"]
        elif kind == "scalar":
            shape = ""
            lines = [f"{name} = {self.term('', names)} + {self.factor('', names)}"]
        else:
            shape = "2T" if kind == "packed" else self.pick("T", "N", "TN", "Q")
            lines = []
            for k in range(self.pick(1, 2, 2, 3)):
                carried = self.pick("t", "tn") if kind == "packed" else "tn" if shape == "Q" else shape.lower()
                plain = kind == "plain" and shape != "Q"
                if kind == "scatter" and shape != "Q":
                    carried = "tn"
                places = list(carried) if plain else self.places(TARGETS, shape, carried, True)
                used = "".join(c for c in "tn" if any(c in indices(p) for p in places))
                lines.append(f"{name}[{','.join(places)}] {'=' if k == 0 else '+='} {self.term(used, names)}")
        self.shapes[name] = shape
        self.declare(name, shape)
        return lines

    def declare(self, name: str, shape: str) -> None:
        if shape:
            self.declared[name] = [{"Q": "T*N", "2T": "2*T"}.get(axis, axis) for axis in axes(shape)]

    def model(self) -> symbolic.Model:
        lines: list[str] = []
        for number in range(self.pick(1, 2, 3)):
            lines += self.equation(number)
        made = [n for n in self.shapes if n[0] == "y"]
        for name in made:
            places = {"": "", "T": "[t]", "N": "[n]", "TN": "[t,n]", "Q": "[r]", "2T": "[r]"}[self.shapes[name]]
            over = places.strip("[]")
            lines.append(f"loss {'=' if name == made[0] else '+='} "
                         + (f"sum(sin({name}{places})*{name}{places}, over=({over},))" if over else f"sin({name})*{name}"))
        return symbolic.load("\n".join(lines), inputs=INPUTS, parameters=PARAMETERS, loss="loss", dtype="float64", sizes={"K": 3},
                             states=self.declared, ranges={"t": "T", "n": "N", "u": "T", "m": "N", "k": "K"}, outputs=made)


def axes(shape: str) -> list[str]:
    return ["2T"] if shape == "2T" else list(shape)


def indices(text: str) -> set[str]:
    """The single letters of a text that are no part of a word."""
    import re

    return {word for word in re.findall(r"[a-z]\w*", text) if len(word) == 1}


@settings(max_examples=60, derandomize=True, deadline=None, database=None,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])
@given(st.data())
def test_random_models(data: Any) -> None:
    text = Text(data)
    try:
        model = text.model()
    except symbolic.SpecError as error:
        pytest.fail(f"the test wrote a model that is none: {error}")
    sizes = data.draw(st.sampled_from([{"T": 4, "N": 3}, {"T": 5, "N": 2}, {"T": 1, "N": 1}, {"T": 2, "N": 3}]))
    agree(model, sizes, seed=data.draw(st.integers(0, 3)), tolerance=1e-11)
