"""Random programs of index equations, written as a user writes them: what the searches for wrong numbers draw from.

Sums of products with signs, scales, powers and indices as factors; recurrences in groups, forwards and backwards, at several
lags, over two axes, over their own past, with starts of every kind; diagonals; slices packed in one tensor and gates that need
each other; guards; reads and writes through index tensors; maxima over windows; kinks and masks; scalars and axes of extent 1.
Programs are legal by construction, except that a loop over them need not exist.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import symbolic
from tests.vocabulary import (
    GUARDS,
    INPUTS,
    KINKED,
    LABELS,
    MASKED,
    OWN,
    PARAMETERS,
    RANGES,
    READS,
    SCALES,
    SHAPES,
    SMOOTH,
    WRITES,
    Axes,
    letters,
)

__all__ = ["Case", "drawn"]

@dataclass(frozen=True)
class Case:
    """A model as text and keys, and how it is run: ``sizes``, the seed of its values, the tensors to differentiate by."""

    text: str
    spec: Mapping[str, Any]
    sizes: Mapping[str, int]
    seed: int = 0
    wrt: str = "all"
    unrolled: bool = False
    curved: bool = False

    def model(self) -> symbolic.Model:
        return symbolic.load(self.text, **self.spec)

    def __str__(self) -> str:
        rows = [f"    {key}={value!r}," for key, value in self.spec.items() if value]
        how = f"sizes={dict(self.sizes)}, seed={self.seed}, wrt={self.wrt!r}, unrolled={self.unrolled}, curved={self.curved}"
        return "\n".join([self.text, *rows, f"  with {how}"])


class Author:
    """Writes one program; ``shapes`` holds the tensors that may be read so far."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.shapes: dict[str, Axes] = {**PARAMETERS, **INPUTS}
        self.made: list[str] = []
        self.lines: list[str] = []
        self.states: dict[str, Any] = {}
        self.outputs: list[str] = []

    def pick(self, *options: Any) -> Any:
        return self.chance.choice(options)

    def seldom(self, one_in: int = 4) -> bool:
        return bool(self.pick(*[False] * (one_in - 1), True))

    # ---- terms -----------------------------------------------------------------------------------------------------------

    def name(self) -> str:
        """A tensor to read: as a rule one that the program made."""
        return str(self.pick(*self.made[::-1])) if self.made and self.pick(True, False) else str(self.pick(*self.shapes))

    def read(self, allowed: frozenset[str], name: str = "") -> str:
        """An entry of a tensor at subscripts that need no other indices than those allowed."""
        name = name or self.name()
        parts = []
        for axis in self.shapes[name]:
            options = [s for s in READS[axis] if letters(s) <= allowed]
            moving = [s for s in options if letters(s)]
            parts.append(self.pick(*(moving if moving and not self.seldom(8) else options)))
        return f"{name}[{','.join(parts)}]" if parts else name

    def function(self, carried: frozenset[str], inner: str = "") -> str:
        """A function of an entry, or of two; no index may be missing on the left."""
        masked = [m for needs, row in MASKED.items() if set(needs) <= carried and not inner for m in row]
        pattern = self.pick(*SMOOTH, *KINKED, *masked)
        first, second = inner or self.read(carried), self.read(carried)
        return str(pattern.format(first, second if second != first else "0.3"))

    def guard(self, allowed: frozenset[str]) -> str:
        options = [g for needs, row in GUARDS.items() if set(needs) <= allowed for g in row]
        return f"{self.pick(*options)}*" if options and self.seldom(4) else ""

    def scale(self, allowed: frozenset[str]) -> str:
        return str(self.pick(*[s for needs, row in SCALES.items() if set(needs) <= allowed for s in row]))

    def missing(self, carried: frozenset[str]) -> frozenset[str]:
        """Indices that a term may sum over."""
        wanted = self.pick("", "j", "j", "u", "k", "m", "ju", "jk", "l", "uk", "jl", "rv")
        return frozenset(wanted) - carried

    def term(self, carried: frozenset[str]) -> str:
        allowed = carried | self.missing(carried)
        factors = [self.function(carried) if self.seldom(3) else self.read(allowed) for _ in range(self.pick(1, 2, 2, 3))]
        return f"{self.scale(allowed)}{self.guard(allowed)}{'*'.join(factors)}"

    def terms(self, carried: frozenset[str], count: int = 0) -> str:
        return self.sum(self.term(carried) for _ in range(count or self.pick(1, 1, 2, 3)))

    @staticmethod
    def sum(terms: Any) -> str:
        return " + ".join(terms).replace("+ -", "- ")

    # ---- equations -------------------------------------------------------------------------------------------------------

    def fresh(self, letter: str) -> str:
        return f"{letter}{len(self.made) + len(self.states) + sum(line.startswith('a') for line in self.lines)}"

    def keep(self, name: str, axes: Axes) -> None:
        self.shapes[name] = axes
        self.made.append(name)

    def bare(self, axes: Axes) -> list[str]:
        found: list[str] = []
        for axis in axes:
            found.append(next(letter for letter in OWN[axis] if letter not in found))
        return found

    def plain(self) -> None:
        """Entries written bare, along a diagonal, shifted, or through index tensors."""
        axes = self.pick(*SHAPES)
        name = self.fresh("y")
        count = self.pick(1, 1, 2)
        lines = []
        for number in range(count):
            square = ["diagonal"] * 3 if len(set(axes)) < len(axes) else []
            kind = self.pick("bare", "bare", "moved", "scattered", *square)
            places = self.bare(axes)
            if kind == "moved":
                places = [self.pick(*WRITES.get(axis, (place,))) for axis, place in zip(axes, places, strict=True)]
            elif kind == "scattered":
                table = {axis: [s for s in row if "[" in s] for axis, row in WRITES.items()}
                places = [self.pick(*(table.get(axis) or (place,))) for axis, place in zip(axes, places, strict=True)]
            elif kind == "diagonal":
                places = [OWN[axis][0] for axis in axes]
            carried = letters(",".join(places))
            target = f"{name}[{','.join(places)}]" if places else name
            lines.append(f"{target} {'+=' if number else '='} {self.terms(carried)}")
        self.lines += lines
        self.keep(name, axes)

    def maximum(self) -> None:
        """A maximum over a window or over axes."""
        axes, over = self.pick((("T", "N"), "k"), (("T",), "k"), (("N", "H"), "u"), (("T", "N"), "j"), (("N",), "u,j"),
                               (("T", "N", "H"), "k"), ((), "j"))
        name, places = self.fresh("y"), self.bare(axes)
        carried = letters(",".join(places))
        allowed = carried | letters(over)
        body = "*".join(self.read(allowed) for _ in range(self.pick(1, 2)))
        body += "".join({"k": "*w[k]", "u": "*g[u]", "j": "*b[j]"}[s] for s in over.split(",") if s not in letters(body))
        body = self.pick(body, f"tanh({body})", f"-{body}", f"relu({body})", f"0.5*{body}*{self.read(carried)}")
        target = f"{name}[{','.join(places)}]" if places else name
        self.lines.append(f"{target} = max({self.guard(allowed)}{body}, over={over if len(over) == 1 else f'({over})'})")
        self.keep(name, axes)

    def normalised(self) -> None:
        """Exponentials, their sum, and what is made of them."""
        y, e, total = self.fresh("y"), f"{self.fresh('e')}", f"{self.fresh('v')}"
        carried = frozenset("tni")
        inner = self.read(carried)
        mask = self.pick("", "", "z[t,n]**2*", "(t < len[n])*", "(i <= n)*", "(i != lab[n])*")
        axes: Axes = ("T", "N", "H")
        self.lines.append(f"{e}[t,n,i] = {mask}exp({self.pick('', '', '-', '5*')}{inner})")
        self.shapes[e] = axes
        self.lines.append(f"{total}[t,n] = sum({e}[t,n,i], over=i)" + self.pick("", "", " + 0.5"))
        self.shapes[total] = ("T", "N")
        self.lines.append(self.pick(f"{y}[t,n,i] = {e}[t,n,i]/(1 + {total}[t,n])", f"{y}[t,n,i] = log(1 + {total}[t,n])*{inner}",
                                    f"{y}[t,n,i] = {e}[t,n,i]*{self.read(carried)}/(0.1 + {total}[t,n])**2"))
        self.keep(y, axes)

    def gates(self) -> None:
        """Slices packed in one tensor and functions of each, some of them needing another within the step."""
        name, width = self.fresh("a"), self.pick(2, 3)
        looped = self.pick(False, True)
        axes: Axes = ("T", "N", f"{width}*H") if looped or self.pick(True, False) else ("N", f"{width}*H")
        places = "t,n" if "T" in axes else "n"
        carried = frozenset(f"{places},i".split(","))
        state, step = f"h{name[1:]}", self.pick("t-1", "t+1")
        gates = [f"{letter}{name}" for letter in "pqs"[:width]]
        pattern = self.pick("tanh({})", "sigmoid({})", "sigmoid({}*(i+1))", "tanh(2*{})", "tanh({} + b[i])", "{}*s", "relu({})")
        needy = self.pick(-1, 0, 1)
        for k, gate in enumerate(gates):
            offset = ("i+0", "i+H", "i+2*H")[k]
            terms = [self.terms(carried, 1)]
            if looped:
                terms.append(f"{self.scale(carried)}{self.pick('U[i,j]', 'Q[i+H,j]', 'U[i,i]*W[i,j]')}*{state}[{step},n,j]")
            self.lines.append(f"{name}[{places},{offset}] {'+=' if k else '='} {self.sum(terms)}")
            if k and needy == k - 1:
                self.lines.append(f"{name}[{places},{offset}] += W[i,j]*{gates[needy]}[{places},j]")
            other = pattern if self.pick(True, True, False) else "cos({})"
            self.lines.append(f"{gate}[{places},i] = {other.format(f'{name}[{places},{offset}]')}")
        self.shapes |= dict.fromkeys(gates, ("T", "N", "H") if "T" in axes else ("N", "H"))  # only now, as in a group of states
        if looped:
            added = "*".join(f"{gate}[t,n,i]" for gate in gates[1:])
            self.lines.append(f"{state}[t,n,i] = {gates[0]}[t,n,i]*{state}[{step},n,i] + {added}")
            self.start(state, ("T", "N", "H"), step == "t+1", 1)
            self.keep(state, ("T", "N", "H"))
        else:
            self.made += gates[:1]
            result = f"y{name[1:]}"
            self.lines.append(f"{result}[{places},i] = {'*'.join(f'{g}[{places},i]' for g in gates)} + {self.terms(carried, 1)}"
                              .replace("+ -", "- "))
            self.keep(result, self.shapes[gates[0]])
        self.shapes[name] = axes

    def start(self, state: str, axes: Axes, backwards: bool, lag: int) -> None:
        """A state's declaration, with one of the ways to start."""
        initial = self.pick("zero", "zero", "learned", "given", "carry") if len(axes) > 1 else "zero"
        if initial != "zero":
            lag = max(lag, 2)  # for readers further on
        self.states[state] = {"shape": list(axes), "initial": initial, "reverse": backwards, "lag": lag}

    def recurrence(self) -> None:
        """A group of states that need one another at earlier (or later) steps, and at the same step in their order."""
        axes: Axes = self.pick(("T",), ("T", "N"), ("T", "N", "H"), ("T", "N", "H"), ("T", "H"))
        places = self.bare(axes)
        carried = frozenset(places)
        sign = self.pick("-", "+")
        base = self.fresh("h")
        names = [f"{base}{'abc'[k]}" for k in range(self.pick(1, 1, 2, 3))]
        lags = dict.fromkeys(names, 1)
        maxima: set[str] = set()
        inners: dict[str, str] = {}

        def past(name: str, letter: str = "i", lag: int = 0) -> str:
            lag = lag or self.pick(1, 1, 1, 2, 3)
            lags[name] = max(lags[name], lag)
            at = {"t": f"t{sign}{lag}", "n": self.pick("n", "n", "n", "N-1-n"), "i": letter}
            return f"{name}[{','.join(at[p] for p in places)}]"

        def lagged(number: int) -> str:
            name = self.pick(*names)
            here = [f"{other}[{','.join(places)}]" for other in names[:number]]
            if here and self.seldom(3):
                entry = self.pick(*here)
                return self.scale(carried) + self.pick(entry, f"tanh({entry})", f"{entry}*{past(name)}")
            kind = self.pick("matrix", "matrix", "entry", "function", "product", "past")
            guard = self.guard(carried)
            if kind == "matrix" and "i" in carried:
                matrix = self.pick("U[i,j]", "U[j,i]", "W[i,j]", "Q[i+H,j]", "Q[j+0,i]", "U[i,j]*W[j,j]", "B[t,i]*U[i,j]")
                return f"{self.scale(carried | {'j'})}{guard}{matrix}*{past(name, 'j')}"
            if kind == "function":
                return f"{self.scale(carried)}{guard}{self.function(carried, past(name))}"
            if kind == "product":
                return f"{self.scale(carried)}{guard}{past(name)}*{past(self.pick(*names))}*{self.read(carried)}"
            if kind == "past":
                order = "<" if sign == "-" else ">"
                at = {"t": "u", "n": "n", "i": "i"}
                return f"{self.scale(carried)}(u {order} t)*D[t,u]*{name}[{','.join(at[p] for p in places)}]"
            return f"{self.scale(carried)}{guard}{past(name)}*{self.read(carried)}"

        place = ",".join(places)
        for number, name in enumerate(names):
            body = self.sum([*(lagged(number) for _ in range(self.pick(1, 1, 2))), self.term(carried)])
            form = self.pick("plain", "staged", "blend", "copied", "maximum")
            if form == "copied" and "n" not in carried or form == "maximum" and len(names) > 1:
                form = "staged"
            if form == "plain":
                self.lines.append(f"{name}[{place}] = {body}")
                continue
            inner = inners[name] = f"a{name}"
            self.lines.append(f"{inner}[{place}] = {body}")
            if form == "staged":
                self.lines.append(f"{name}[{place}] = {self.pick('tanh({0})', 'tanh({0})', 'sigmoid({0})', 'relu({0})', '{0}')}"
                                  .format(f"{inner}[{place}]") + self.pick("", "", f" + {self.scale(carried)}{past(name)}"))
            elif form == "blend":
                gate = f"sigmoid({self.read(carried)})"
                self.lines.append(f"{name}[{place}] = {gate}*{past(name, lag=1)} + (1 - {gate})*tanh({inner}[{place}])")
            elif form == "copied":
                self.lines.append(f"{name}[{place}] = (t < len[n])*tanh({inner}[{place}]) + (t >= len[n])*{past(name, lag=1)}")
            else:
                maxima.add(name)
                self.lines.append(f"{name}[{place}] = max(w[k]*tanh({inner}[{place}]), over=k)")
        for name in names:
            if name in maxima:
                self.states[name] = list(axes)
            else:
                self.start(name, axes, sign == "+", lags[name])
            self.keep(name, axes)
        self.shapes |= dict.fromkeys(inners.values(), axes)  # only now: a term of the group may not read it
        self.lines = [line.replace("+ -", "- ") for line in self.lines]

    def grid(self) -> None:
        """A recurrence over two axes, each in its own direction."""
        name = self.fresh("h")
        with_units = self.pick(False, True)
        places = ["t", "n", "i"] if with_units else ["t", "n"]
        carried = frozenset(places)
        first, second = self.pick("t-1", "t+1", "t-2"), self.pick("n-1", "n+1")
        rest, other = (",i", ",j") if with_units else ("", "")
        matrix = self.pick("U[i,j]*", "W[j,i]*") if with_units else ""
        terms = [f"{self.scale(carried)}{self.guard(carried)}{matrix}{name}[{first},n{other}]",
                 f"{self.scale(carried)}{self.guard(carried)}{self.pick('tanh({0})', '{0}')}".format(f"{name}[t,{second}{rest}]"),
                 self.term(carried)]
        if self.seldom(3):
            terms.append(f"0.2*{name}[{first},{second}{rest}]")
        self.lines.append(f"{name}[{','.join(places)}] = {self.sum(terms)}")
        self.keep(name, ("T", "N", "H") if with_units else ("T", "N"))

    def written_ahead(self) -> None:
        """A recurrence that writes the next entry; the last write does not happen."""
        name, step = self.fresh("h"), self.pick(1, 2)
        first, places = self.pick(("0", "t"), ("0,n", "t,n"), ("0,n,i", "t,n,i"))
        carried = letters(places)
        ahead = places.replace("t", f"t+{step}", 1)
        if self.pick(True, False):
            self.lines.append(f"{name}[{first}] = {self.term(letters(first))}")
        body = self.pick("{}", "tanh({})", "0.5*{}", "-{}").format(f"{name}[{places}]")
        if "i" in carried and self.pick(True, False):
            body = f"{self.scale(carried | {'j'})}U[i,j]*{name}[{places.replace('i', 'j')}]"
        mark = "+=" if any(line.startswith(f"{name}[") for line in self.lines) else "="
        self.lines.append(f"{name}[{ahead}] {mark} {self.sum([body, self.term(carried)])}")
        self.keep(name, tuple({"t": "T", "n": "N", "i": "H"}[p] for p in places.split(",")))

    def crossed(self) -> None:
        """Two recurrences, one reading ahead by less than the other reads behind."""
        a, b = self.fresh("h"), self.fresh("g")
        ahead, behind = self.pick((0, 1), (1, 2), (1, 3))
        carried = frozenset("tn")
        self.shapes[a] = self.shapes[b] = ("T", "N")
        self.lines.append(f"{a}[t,n] = {self.scale(carried)}{self.pick('tanh({0})', '{0}', '{0}*A[t,n]')} + z[t,n]"
                          .format(f"{b}[t+{ahead},n]"))
        self.lines.append(f"{b}[t,n] = {self.scale(carried)}{self.pick('sigmoid({0})', '{0}', '{0}*c[n]')} + 0.3*A[t,n]"
                          .format(f"{a}[t-{behind},n]"))
        self.made += [a, b]

    # ---- the whole -------------------------------------------------------------------------------------------------------

    def loss(self) -> None:
        first = True
        for name in self.made if self.pick(True, False) else self.made[-1:]:
            places = self.bare(self.shapes[name])
            entry = f"{name}[{','.join(places)}]" if places else name
            over = places[0] if len(places) == 1 else f"({','.join(places)})"
            body = self.pick("{0}**2", "{0}", "sin({0})*{0}", "cos({0})").format(entry)
            body = self.pick("", "", "0.5*", "-") + (f"{self.pick('sum', 'mean')}({body}, over={over})" if places else body)
            self.lines.append(f"loss {'=' if first else '+='} {body}")
            first = False

    def case(self) -> Case:
        blocks = (self.plain, self.plain, self.plain, self.recurrence, self.recurrence, self.gates, self.maximum, self.grid,
                  self.normalised, self.written_ahead, self.crossed)
        for _ in range(self.pick(1, 1, 2, 2, 3)):
            self.pick(*blocks)()
        self.loss()
        if self.seldom(3):
            self.outputs = [self.pick(*self.made)]
            if self.seldom(2) and self.made[0] not in self.outputs:
                self.outputs.append(self.made[0])
        text = "\n".join(self.lines)
        rank = {"T": self.pick(3, 4, 1, 2, 5), "N": self.pick(2, 3, 1), "H": self.pick(2, 3, 1), "V": self.pick(3, 2)}
        words = set(re.findall(r"[A-Za-z_]\w*", text))
        labels = {name: {**spec, "kind": "index"} for name, spec in LABELS.items() if name in words}
        spec: dict[str, Any] = {
            "parameters": {n: list(axes) for n, axes in PARAMETERS.items() if n in words} or {"s": []},
            "inputs": {**{n: list(axes) for n, axes in INPUTS.items() if n in words}, **labels},
            "states": self.states,
            "shapes": {n: list(axes) for n, axes in self.shapes.items()
                       if n not in PARAMETERS and n not in INPUTS and n not in self.states and axes},
            "ranges": {letter: extent for letter, extent in RANGES.items() if letter in words},
            "outputs": self.outputs, "loss": "loss", "dtype": "float64",
        }
        fixed = {"K": self.pick(2, 3)} | {n: rank[n] for n in rank if self.seldom(5)}
        told = {axis for shape in spec["parameters"].values() for axis in shape}
        told |= {axis for shape in spec["inputs"].values() for axis in (shape["shape"] if isinstance(shape, dict) else shape)}
        untold = sorted({"T", "N", "H", *("V" for axes in self.shapes.values() if "V" in axes)} - told - set(fixed))
        if untold:
            spec["inputs"]["told"] = untold
        spec["sizes"] = fixed
        free = {n: value for n, value in rank.items() if n not in fixed}
        made = Case(text, spec, free, self.pick(0, 1, 2, 3), self.wrt([*spec["parameters"], *INPUTS.keys() & words]),
                    self.seldom(4), self.seldom(4))
        return self.renamed(made) if self.seldom(8) else made

    def wrt(self, names: list[str]) -> str:
        """Everything, the parameters, or one or two tensors by name."""
        one, two = self.pick(*sorted(names)), self.pick(*sorted(names))
        return str(self.pick("all", "params", one, f"{one},{two}" if one != two else one))

    def renamed(self, case: Case) -> Case:
        """The same program with indices that are called as tensors or functions are."""
        valued = letters(re.sub(r"\[[^\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", re.sub(r"over=\S+", "", case.text))))
        others = {"t": "x", "n": "max", "i": "U", "j": "np", "k": "loss", "u": "b"}
        table = {letter: other for letter, other in others.items() if other in ("max", "np") or letter not in valued}
        text = re.sub(r"(?<![\w.])([a-z])(?![\w(\[])", lambda found: table.get(found[1], found[1]), case.text)
        spec = {**case.spec, "ranges": {table.get(n, n): extent for n, extent in case.spec["ranges"].items()}}
        return Case(text, spec, case.sizes, case.seed, case.wrt, case.unrolled, case.curved)


def drawn(seed: int) -> Case:
    """The random case of a seed, the same in every run."""
    return Author(seed).case()
