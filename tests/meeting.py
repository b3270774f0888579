"""Models whose maxima meet: several equations, or several instances of one, write the same entry (law 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import symbolic

__all__ = ["MEETING", "SIZES", "meeting"]

SIZES: tuple[Mapping[str, int], ...] = (
    {"T": 4, "N": 3, "K": 2, "J": 5, "M": 6}, {"T": 1, "N": 1, "K": 1, "J": 1, "M": 1}, {"T": 9, "N": 2, "K": 17, "J": 3, "M": 4})
CHOICE = {"kind": "index", "below": "M", "ignore": -1}
LEARNED: dict[str, Any] = {"parameters": {"c": ["M"], "d": [], "p": ["T", "N"]},
                           "inputs": {"x": ["T", "N", "K"], "lab": {**CHOICE, "shape": ["N"]}}}
Row = tuple[str, Mapping[str, Any]]
"""Equations, and what they need besides."""
_MODELS: dict[str, Row] = {
    "two": ("y[t,n] = max(x[t,n,k], over=k)\ny[t,n] += max(z[t,n,j], over=j)", {}),
    "three scalars": ("y = max(x[t,n,k], over=(t,n,k))\ny += max(z[t,n,j], over=(t,n,j))\ny += max(-x[t,n,k], over=(t,n,k))", {}),
    "a row of a matrix": ("y[t,n] = max(x[t,n,k], over=k)\ny[0,n] += max(z[t,n,j], over=(t,j))", {}),
    "a diagonal": ("y[n,m] = max(x[t,n,k]*x[t,m+0,k], over=(t,k))\ny[n,n] += max(z[t,n,j], over=(t,j))",
                   {"shapes": {"y": ["N", "N"]}, "ranges": {"m": "N"}}),
    "turned round": ("y[t,n] = max(x[t,n,k], over=k)\ny[T-1-t,n] += max(z[t,n,j], over=j)", {}),
    "of maxima": (("v = max(x[t,n,k], over=(t,n,k))\nv += max(z[t,n,j], over=(t,n,j))\ny[n] = max(x[t,n,k]*v, over=(t,k))"
                   "\ny[n] += max(v - x[t,n,k], over=(t,k))"), {}),
    "shifted": ("y[t,n] = max(x[t,n,k], over=k)\ny[t+1,n] += max(z[t,n,j], over=j)", {"shapes": {"y": ["T", "N"]}}),
    "even and odd": ("y[2*t,n] = max(x[t,n,k], over=k)\ny[2*t+1,n] += max(z[t,n,j], over=j)", {"shapes": {"y": ["2*T", "N"]}}),
    "guards that part": ("y[t,n] = max((t < 2)*x[t,n,k], over=k)\ny[t,n] += max((t >= 2)*z[t,n,j], over=j)", {}),
    "guards that meet": ("y[t,n] = max((t < 3)*x[t,n,k], over=k)\ny[t,n] += max((k < n)*z[t,n,j]*x[t,n,k], over=(j,k))", {}),
    "nowhere": ("y[t,n] = max((t > 1)*x[t,n,k], over=k)\ny[t,n] += max((x[t,n,k] > 0.5)*x[t,n,k]*z[t,n,j], over=(j,k))", {}),
    "through an index": ("y[ix[t],n] = max(x[t,n,k], over=k)", {"shapes": {"y": ["M", "N"]}}),
    "two through an index": ("y[ix[t],n] = max(x[t,n,k], over=k)\ny[ix[t]+1,n] += max(z[t,n,j], over=j)",
                             {"shapes": {"y": ["M", "N"]}}),
    "a window": ("y[t+k,n] = max(x[t,n,k]*z[t,n,j], over=j)", {"shapes": {"y": ["T+1", "N"]}}),
    "digits with a gap": ("y[n*(K+1)+k+1] = max(x[t,n,k], over=t)", {"shapes": {"y": ["N*(K+1)"]}}),
    "a recurrence": ("y[t,n] = max(0.5*y[t-1,n] + x[t,n,k], over=k)\ny[t,n] += max(z[t,n,j] - y[t-1,n], over=j)",
                     {"states": {"y": ["T", "N"]}}),
    "a recurrence with guards": (
        "y[t,n] = max((k < t)*(0.5*y[t+1,n] + x[t,n,k]), over=k)\ny[t,n] += max((z[t,n,j] > y[t+2,n])*z[t,n,j], over=j)",
        {"states": {"y": ["T", "N"]}}),
    "a recurrence written ahead": (
        ("y[0,n] = max(x[t,n,k], over=(t,k))\ny[t+1,n] += max(y[t,n] + z[t,n,j], over=j)"
         "\ny[t+1,n] += max((n > 0)*x[t,n,k], over=k)"),
        {"shapes": {"y": ["T", "N"]}}),
    "a recurrence through an index": (
        ("y[t,ix[t],n] = max(h[t-1,n] + x[t,n,k], over=k)\ny[t,m,n] += max(z[t,n,j]*(m+1), over=j)"
         "\nh[t,n] = tanh(sum(y[t,m,n], over=m))"),
        {"states": {"y": ["T", "M", "N"], "h": ["T", "N"]}}),
    # Each instance of these has an entry of its own, which an index chooses: they may be differentiated.
    "differentiated": ("y[lab[n],n] = max(p[t,n]*x[t,n,k], over=(t,k))", {"shapes": {"y": ["M", "N"]}, **LEARNED}),
    "differentiated in a loop": (
        "y[t,lab[n],n] = max(p[k,n]*x[t,n,k] + 0.5*h[t-1,n], over=k)\nh[t,n] = tanh(sum(y[t,m,n]*c[m], over=m))",
        {"states": {"y": ["T", "M", "N"], "h": ["T", "N"]}, **LEARNED, "parameters": {"c": ["M"], "d": [], "p": ["K", "N"]}}),
}
RANKS = {"three scalars": "", "of maxima": "a", "digits with a gap": "a", "a recurrence through an index": "a,b,f",
         "differentiated in a loop": "a,b,f"}
"""The subscripts of y in the loss."""
MEETING = tuple(_MODELS)


def meeting(name: str) -> symbolic.Model:
    """The model, its loss of every entry of y."""
    text, more = _MODELS[name]
    places = RANKS.get(name, "a,b")
    entry = f"y[{places}]" if places else "y"
    loss = f"{entry}**2*c[0] + tanh({entry}*d)"
    return symbolic.load(f"{text}\nloss = {f'sum({loss}, over=({places}))' if places else loss}", **{
        "loss": "loss", "dtype": "float64", "name": "m", "outputs": ["y"], "parameters": {"c": ["M"], "d": []},
        "inputs": {"x": ["T", "N", "K"], "z": ["T", "N", "J"], "ix": {**CHOICE, "shape": ["T"]}}, **more})
