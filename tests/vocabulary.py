"""The words of random programs: tensors, subscripts, guards, scales and functions."""

from __future__ import annotations

import re
from typing import Any

__all__ = [
    "GUARDS", "INPUTS", "KINKED", "LABELS", "MASKED", "OWN", "PARAMETERS", "RANGES", "READS", "SCALES", "SHAPES", "SMOOTH",
    "WRITES", "Axes", "letters",
]

Axes = tuple[str, ...]

PARAMETERS: dict[str, Axes] = {
    "U": ("H", "H"), "W": ("H", "H"), "b": ("H",), "g": ("T",), "c": ("N",), "s": (), "w": ("K",), "E": ("V", "H"),
    "B": ("T", "H"), "D": ("T", "T"), "A": ("T", "N"), "Q": ("2*H", "H"), "p": ("2*H",), "O": ("1", "H"), "Z": ("N*H",),
}
INPUTS: dict[str, Axes] = {"x": ("T", "N", "H"), "z": ("T", "N"), "o": ("N", "H"), "q": ("T", "N", "2*H")}
LABELS: dict[str, dict[str, Any]] = {
    "tok": {"shape": ["T", "N"], "below": "V", "ignore": -1}, "len": {"shape": ["N"], "below": "T+1"},
    "ix": {"shape": ["N"], "below": "T"}, "pos": {"shape": ["T", "N"], "below": "N"},
    "lab": {"shape": ["N"], "below": "H", "ignore": -100}, "nxt": {"shape": ["T"], "below": "T"},
}
RANGES = {"t": "T", "u": "T", "n": "N", "m": "N", "i": "H", "j": "H", "l": "H", "k": "K", "v": "V", "r": "2*H",
          "e": "1", "d": "N*H"}
OWN = {"T": "tu", "N": "nm", "H": "ijl", "K": "k", "V": "v", "2*H": "r", "3*H": "r", "1": "e", "N*H": "d"}

READS = {
    "T": ("t", "t", "t", "u", "u", "t-1", "t+1", "t-2", "T-1-t", "0", "T-1", "ix[n]", "ix[n]-1", "len[n]-1", "t+k-1", "2*t-k",
          "nxt[t]", "u+k", "t-u", "t+0", "T-1-ix[n]", "ix[n+1]", "nxt[t-1]", "nxt[t+1]-1", "nxt[nxt[t]]"),
    "N": ("n", "n", "n", "m", "m", "n+1", "N-1-n", "0", "pos[t,n]", "n+k-1", "m-1", "m+0", "pos[t-1,n]"),
    "H": ("i", "i", "i", "j", "j", "l", "H-1-i", "i-1", "0", "lab[n]", "lab[n-1]", "i+0", "j+0", "j+k", "i+k-1", "j-1"),
    "V": ("v", "tok[t,n]", "tok[t,n]-1", "tok[t-1,n]", "tok[t+1,n]", "0"),
    "K": ("k", "0", "1"),
    "2*H": ("i+0", "i+H", "j+0", "j+H", "r", "2*i", "2*i+1", "H-1+i", "H", "2*H-1-i"),
    "3*H": ("i+0", "i+H", "i+2*H", "j+H", "3*H-1-i", "2*H"), "1": ("0", "e"),
    "N*H": ("H*n+i", "N*i+n", "H*n+i+1", "H*m+j", "d", "0", "H*n"),
}
WRITES = {
    "T": ("t", "t", "t+1", "T-1-t", "2*t", "t-1", "ix[n]", "t+k-1", "nxt[t]", "len[n]-1"),
    "N": ("n", "n", "N-1-n", "pos[t,n]", "n+1"),
    "H": ("i", "i", "H-1-i", "lab[n]", "i-1", "i+1", "i+0"),
    "V": ("tok[t,n]", "tok[t-1,n]"),
    "2*H": ("i+0", "i+H", "2*i", "2*i+1", "2*H-1-i"), "N*H": ("H*n+i", "N*i+n", "H*n+i-1"),
}
GUARDS = {
    "t": ("(t > 0)", "(t < T-1)", "(t != 1)", "(t >= 2)", "(t == 0)", "(t < 3)"), "i": ("(i > 0)", "(i < H-1)", "(i != 1)"),
    "tn": ("(t < len[n])", "(t >= len[n])", "(t == ix[n])", "(n <= t)", "(tok[t,n] > 0)", "(tok[t,n] != 1)", "(n == pos[t,n])",
           "(tok[t-1,n] < 2)", "(tok[t-1,n] != tok[t,n])"),
    "tu": ("(u < t)", "(u <= t)", "(u == t)", "(u > t)", "(u + 1 == t)"), "nu": ("(u < len[n])", "(u == ix[n])"),
    "ij": ("(i < j)", "(i != j)", "(i == j)", "(j == H-1-i)"), "in": ("(i == lab[n])",), "jn": ("(j == lab[n])",),
    "nm": ("(m != n)", "(m < n)"), "tk": ("(t + k < T)", "(k <= t)"), "ni": ("(i <= n)",),
}
SCALES = {
    "": ("", "", "", "-", "0.5*", "-2*", "3*", "-0.1*", "T*", "-1/3*"), "t": ("(t+1)*", "-(t+1)*", "t*", "0.5*(2*t-1)*"),
    "i": ("(i+1)*", "-i*"), "n": ("-(n+1)*",), "u": ("(u+1)*",), "j": ("(j+1)*", "-j*"), "k": ("(k-1)*",),
}
SMOOTH = ("tanh({0})", "sigmoid({0})", "exp(-{0}*{0})", "cos({0})", "{0}**2", "1/(2 + {0}**2)", "sqrt(1 + {0}**2)",
          "1/(1 + exp(-{0}))", "log(1 + exp({0}))", "softplus({0})", "{0}**3", "(1 - {0})", "square({0})", "log(1 + {0}**2)",
          "exp({0})", "(1 - tanh({0})**2)", "expm1({0})", "(0.3 + {0})", "(1 - {0}**2)**2")
KINKED = ("relu({0})", "abs({0})", "clip({0}, -0.5, 0.4)", "max2({0}, 0.2)", "min2({0}, 0.1)", "where({0} > 0.1, {0}, 0.3*{0})",
          "max2({0}, {1})", "min2({0}, {1})", "where({1} < 0, {0}, {1})", "clip({0}, -1, {1}**2)", "tanh({0} + {1})",
          "({0} - {1})**2", "{0}/(2 + {1}**2)", "sigmoid(2*{0} - {1})", "tanh({0} + {1} - 0.5)")
MASKED = {
    "": ("where({0} > {1}, {0}*{1}, 0)",), "i": ("where(i == 0, {0}, {1})", "tanh(sum(W[i,j]*{0}, over=j))"),
    "tn": ("where(t < len[n], {0}, {1})", "where(n == pos[t,n], 0, {0})"),
    "t": ("where(t < 2, {0}, 0)", "sum(D[t,u]*{0}, over=u)**2"),
    "n": ("exp(-mean(A[u,n]*{0}, over=u))",),
}
SHAPES: tuple[Axes, ...] = (
    ("T",), ("T", "N"), ("T", "N", "H"), ("N", "H"), ("H",), ("T", "H"), ("H", "H"), ("T", "T"), ("N", "2*H"), ("T", "N", "2*H"),
    (), ("1", "H"), ("N", "T"), ("V", "H"), ("N*H",),
)


def letters(text: str) -> frozenset[str]:
    """The indices in a piece of text: letters that are no part of a word, and no tensor's."""
    return frozenset(word for word in re.findall(r"[A-Za-z_]\w*", text) if word in RANGES)
