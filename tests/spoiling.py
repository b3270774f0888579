"""What the tests of bad input share: two good specs, and the claim that a spoilt one is refused with this message."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from symbolic import SpecError, load

DENSE = """\
name: m
sizes: {H: 5}
inputs:
  x: [N, 4]
  y: {shape: [N], kind: index, below: 3}
layers:
  - {name: hid, type: dense, units: H, activation: tanh}
  - {name: out, type: dense, units: 3}
loss: {type: softmax_cross_entropy, target: y}
"""

OWN = """\
name: own
sizes: {D: 3, H: 4}
inputs: {x: [T, N, D], y: [T, N, H]}
layers:
  - name: cell
    type: equations
    parameters: {W: [H, D], U: [H, H], b: [H]}
    states: {h: [T, N, H]}
    equations: |
      a[t,n,i] = W[i,k]*x[t,n,k] + U[i,j]*h[t-1,n,j] + b[i]
      h[t,n,i] = tanh(a[t,n,i])
    output: h
loss: {type: mse, target: y}
"""


def anchored(expected: str) -> str:
    """A pattern for the whole message, in which ``...`` stands for anything within one line or after it."""
    return "^" + ".*".join(map(re.escape, expected.split("..."))) + r"\Z"


def refuse(tmp_path: Path, text: str | bytes, expected: str, name: str = "m.yaml") -> SpecError:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SpecError) as caught:
        load(path)
    shown = str(caught.value).replace(f"{tmp_path}/", "")
    assert re.match(anchored(expected), shown, re.DOTALL), shown
    assert caught.value.exit_status == 2
    return caught.value


def changed(text: str, before: str, after: str) -> str:
    assert before in text
    return text.replace(before, after)
