"""Every wrong spec gets a SpecError with file, line, column, path, what was expected and what was found."""

# Rows of these tables are read whole, not wrapped.
# ruff: noqa: E501, ISC004

from __future__ import annotations

from pathlib import Path

import pytest

from symbolic import EquationError, SpecError, load
from tests.spoiling import DENSE, OWN, changed, refuse

EXTENT = "expected an extent (an integer, or an expression of sizes such as T+1, 2*H, floor((L-K)/S)+1)"
NAME = "(a letter, then letters, digits and _)"


def test_the_specs_that_are_spoilt_here_are_good() -> None:
    assert load(DENSE).program().loss == load(OWN).program().loss == "loss"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        # keys
        ("unit", "unitz: 3, unit", "7:30: layers[0].unitz: expected the keys of a layer of type dense (name, type, from, units,"
         "...), found 'unitz'; did you mean 'units'?"),
        ("units: H", "unit: H", "7:30: layers[0].unit: expected the keys of...found 'unit'; did you mean 'units'?"),
        (", units: 3", "", "8:5: layers[1].units: expected the key 'units' of a layer of type dense, found none; add it"),
        ("name: m\n", "", "1:1: name: expected the key 'name' of a spec, found none; add it"),
        ("name: m\n", "name:\n", "1:6: name: expected the key 'name' of a spec, found none; add it"),
        ("name: hid, ", "", "7:5: layers[0].name: expected the key 'name' of a layer, found none; add it"),
        ("sizes:", "size:", "2:1: size: expected the keys of a spec (name, dtype,...), found 'size'; did you mean 'sizes'?"),
        ("H: 5}", "H: 5, H: 6}", "2:15: sizes.H: expected each key once, found 'H' again (first at line 2); remove one"),
        ("loss: {", "name: b\nloss: {", "9:1: name: expected each key once, found 'name' again (first at line 1);..."),
        ("loss: {type: softmax_cross_entropy, target: y}", "",
         "1:1: loss: expected the key 'loss' of a spec, found none; add it"),
        (", target: y", "", "9:7: loss.target: expected the key 'target' of a loss of type softmax_cross_entropy, found none;..."),
        (", below: 3", "", "5:6: inputs.y.below: expected the key 'below' of an index input (...), found none; add it"),
        # a loss by its name alone
        ("{type: softmax_cross_entropy, target: y}", "softmax_cross_entropy", "9:7: loss.target: expected the key 'target' of a "
         "loss of type softmax_cross_entropy, found none; name an input"),
        ("{type: softmax_cross_entropy, target: y}", "mse",
         "9:7: loss.target: expected the key 'target' of a loss of type mse, found none; name an input"),
        ("{type: softmax_cross_entropy, target: y}", "mze",
         "9:7: loss: expected the name of a tensor without axes, found 'mze'; known: hid, out"),
        # lines and lists
        ("  x: [N, 4]", "\tx: [N, 4]", "4:1: expected lines indented with spaces, found a tab; use spaces"),
        ("  - {name: out", " - {name: out", "8:2: expected the items of a list, or the keys of a mapping, in one column, found "
         "one in another; indent it alike"),
        ("  - {name: out", "    - {name: out", "8:5: expected..."),
        ("[N, 4]", "[N 4]", "4:9: inputs.x[0]: expected an extent such as T+1 or 2*H; is a comma missing between two of them?\n...^"),
        ("[N, 4]", "[N, 4+]", "4:10: inputs.x[1]: expected an extent such as T+1 or 2*H\n    4+\n    ^"),
        # types of layers, losses, optimisers
        ("type: dense, units: H", "type: densee, units: H",
         "7:23: layers[0].type: expected the type of a layer, found 'densee'; did you mean 'dense'?"),
        ("type: dense, units: H", "type: 3, units: H", "7:23: layers[0].type: expected the type of a layer, found 3;..."),
        ("softmax_cross_entropy", "cross_entropy", "9:14: loss.type: expected the type of a loss (...), found 'cross_entropy'; "
         "did you mean 'softmax_cross_entropy' or 'binary_cross_entropy'?"),
        ("loss:", "optimizer: {type: adm}\nloss:",
         "9:19: optimizer.type: expected the type of optimizer (...), found 'adm'; did you mean 'adam'?"),
        ("loss:", "optimizer: {type: adam, rate: fast}\nloss:", "9:31: optimizer.rate: expected a number, found 'fast'"),
        ("loss:", "optimizer: {type: adam, rate: -1}\nloss:", "9:31: optimizer.rate: expected a number above 0, found -1"),
        ("loss:", "clip: {type: value}\nloss:", "9:7: clip.limit: expected the key 'limit' of clip value, found none; add it"),
        ("loss:", "dtype: float16\nloss:", "9:8: dtype: expected one of float32, float64, found 'float16'; did you mean..."),
        ("kind: index", "kind: indx", "5:25: inputs.y.kind: expected 'real' or 'index', found 'indx'; did you mean 'index'?"),
        ("tanh", "tanhh", "7:52: layers[0].activation: expected an activation (...), found 'tanhh'; did you mean 'tanh'? To leave one "
         "unspecified, declare its name in the spec, functions: [f]"),
        # values
        ("units: 3", "units: [3]", "8:37: layers[1].units: expected an integer or text, found [3]"),
        ("units: 3", "units: 0", "8:37: layers[1].units: expected a number of at least 1 or text, found 0"),
        ("units: 3", "units: 2.5", "8:37: layers[1].units: expected an integer or text, found 2.5"),
        ("units: 3", "units: true", "8:37: layers[1].units: expected an integer or text, found true"),
        ("[N, 4]", "[N, -4]", "4:10: inputs.x[1]: expected a number of at least 1 or text, found -4"),
        ("[N, 4]", "4", "4:6: inputs.x: expected a shape such as [N, D], or a mapping with the key 'shape', found 4"),
        ("[N, 4]", "[N, 4-H]", "4:10: inputs.x[1]: expected an extent of at least 1, found 4 - H = -1"),
        ("[N, 4]", "[N, H/2]", "4:10: inputs.x[1]: expected an integer extent, found 'H/2' = 5/2"),
        ("[N, 4]", "[N, H/0]", "4:10: inputs.x[1]: expected an integer extent, found 'H/0' = zoo"),
        ("H: 5", "H: -1", "2:12: sizes.H: expected an integer of at least 1 (null leaves the size free), found -1"),
        ("H: 5", "H: 0.5", "2:12: sizes.H: expected an integer of at least 1 (null leaves the size free), found 0.5"),
        ("H: 5", "H: " + "9" * 5000, "2:12: expected an integer of at most 2**53, found '999..."),
        ("H: 5", "H: .nan", "2:12: expected a finite number, found '.nan'"),
        ("H: 5", "H: 1e999", "2:12: expected a finite number, found '1e999'"),
        ("loss:", "seed: -1\nloss:", "9:7: seed: expected an integer from 0 to 2**32 - 1, found -1"),
        ("loss:", "init: {out.Q: zeros}\nloss:", "9:15: init['out.Q']: expected the name of a parameter, found 'out.Q'..."),
        ("loss:", "init: {out.W: zeroes}\nloss:", "9:15: init['out.W']: unknown initialiser 'zeroes'; did you mean 'zeros'?..."),
        ("loss:", "init: {out.W: constant(9**9**9)}\nloss:", "9:15: init['out.W']:..."),
        # exponent towers
        ("units: 3", "units: 9**9**9**9", f"8:37: layers[1].units: {EXTENT}, found a power in '9**9**9**9'; write..."),
        ("below: 3", "below: 9**9**9**9", f"5:39: inputs.y.below: {EXTENT}, found a power in '9**9**9**9'; write..."),
        ("[N, 4]", "[N, 9**9**9**9]", f"4:10: inputs.x[1]: {EXTENT}, found a power in '9**9**9**9'; write..."),
        # names of other things
        ("target: y", "target: z", "9:45: loss.target: expected the name of an input, found 'z'; known: x, y"),
        ("target: y", "target: out",
         "9:45: loss.target: expected the name of an input, found 'out', which is a layer; known: x, y"),
        ("units: 3}", "units: 3, from: hidd}",
         "8:46: layers[1].from: expected the name of an input or of an earlier layer, found 'hidd'; did you mean 'hid'?; "
         "known: x, y, hid"),
        ("units: 3}", "units: 3, from: q}",
         "8:46: layers[1].from: expected the name of an input or of an earlier layer, found 'q'; known: x, y, hid"),
        ("target: y", "target: y, prediction: q",
         "9:60: loss.prediction: expected the name of a layer, found 'q'; known: hid, out"),
        ("units: H,", "units: H, from: out,",
         "7:46: layers[0].from: expected...found 'out'; it comes later: layers follow one another"),
        ("units: 3}", "units: 3, from: [hid, x]}",
         "8:46: layers[1].from: expected 1 inputs for a layer of type dense, found 2; say from: ..."),
        ("units: H", "units: h", "7:37: layers[0].units: expected a known size, found 'h'; did you mean 'H'?..."),
        ("loss:", "outputs: [hid, nope]\nloss:",
         "9:16: outputs[1]: expected the name of a layer or a tensor, found 'nope'; known: hid, out"),
        ("name: hid", "name: out", "8:12: layers[1].name: expected each input and layer to have a name of its own, found 'out' "
         "again (first at line 7); rename one"),
        ("name: hid", "name: x", "7:12: layers[0].name: expected each input and layer to have a name of its own, found 'x'..."),
        ("x: [N, 4]", "H: [N, 4]", "4:3: inputs.H: expected the name of an input, found 'H', which is a size; rename one"),
        # names that are none
        ("name: hid", "name: double", "7:12: layers[0].name: expected the name of a layer, found the C keyword 'double';..."),
        ("name: hid", "name: lambda", "7:12: layers[0].name:...found the Python keyword 'lambda'; choose another"),
        ("name: hid", "name: hid.x", f"7:12: layers[0].name: expected the name of a layer {NAME}, found 'hid.x'"),
        ("name: hid", "name: häd", f"7:12: layers[0].name: expected the name of a layer {NAME}, found 'häd'"),
        ("name: hid", "name: 'a b'", f"7:12: layers[0].name: expected the name of a layer {NAME}, found 'a b'"),
        ("name: hid", "name: d_out", "7:12: layers[0].name:...found 'd_out', which is reserved (adjoints are called d_...);..."),
        ("x: [N", "np: [N", "4:3: inputs.np: expected the name of an input, found 'np', which is reserved (the generated..."),
        ("x: [N", "exp: [N", "4:3: inputs.exp: expected a name of your own, found 'exp', which is a function..."),
        ("{H: 5}", "{H: 5, for: 2}", "2:15: sizes.for: expected the name of a size, found the Python keyword 'for'..."),
        ("name: m", "name: class", "1:7: name: expected the name of a model, found the Python keyword 'class'; choose another"),
        ("name: m", "name: 3", f"1:7: name: expected the name of a model {NAME}, found 3"),
        ("name: m", "name: random", "1:7: name:...found 'random', which is a Python module; a file random.py would hide it"),
        ("name: m", "name: con", "1:7: name: expected the name of a model, found 'con', which Windows reserves; choose another"),
        ("name: m", "name: " + "a" * 61, "1:7: name: expected a name of at most 60 characters, found 61 in 'aaa..."),
        # shapes: both of them, and both places
        ("shape: [N], kind", "shape: [M], kind",
         "9:45: loss.target: expected a target of shape [N] for the prediction 'out.y' of shape [N, 3], found 'y' of shape [M]; "
         "out.y has shape [N, 3] (at m.yaml:8:5), y has shape [M] (at m.yaml:5:6)"),
        ("softmax_cross_entropy", "mse",
         "9:27: loss.target: expected a target of shape [N, 3]...found 'y' of shape [N]; out.y has shape [N, 3] (at m.yaml:8:5), "
         "y has shape [N] (at m.yaml:5:6)"),
        ("{shape: [N], kind: index, below: 3}", "[N]",
         "9:45: loss.target: expected labels (integers), or one number for each class, found the real input 'y' of shape [N] "
         "for the prediction 'out.y'; for labels write y: {shape: [N], kind: index, below: 3}; y has shape [N] (at m.yaml:5:6), "
         "out.y has shape [N, 3] (at m.yaml:8:5)"),
        ("y: {shape: [N], kind: index, below: 3}\n", "y: [N, 1]\n",
         "9:45: loss.target: expected labels (integers),...for labels write y: {shape: [N], kind: index, below: 3}; y has..."),
        # a size that an option brings up is free
        ("units: 3", "units: four, activation: relu}\n  - {name: more, type: reshape, shape: [7]",
         "9:40: layers[2].shape: expected as many entries as 'out.y' [N, four] has, found [7]; 'four' (at m.yaml:8:37) was taken as a free size, because no size has that name"),
        ("below: 3", "below: 4", "9:45: loss.target: expected labels below 3, the last axis of 'out.y' [N, 3], found 'y' below 4;"
         "...(at m.yaml:8:5), y has shape [N] (at m.yaml:5:6)"),
    ],
)  # fmt: skip
def test_a_model_of_layers(tmp_path: Path, before: str, after: str, expected: str) -> None:
    refuse(tmp_path, changed(DENSE, before, after), f"m.yaml:{expected}")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        # indices and shapes
        ("x[t,n,k]", "x[t,n,i]", "10:25: layers[0].equations: index 'i' is used at two extents: H in cell.W[i, k] and D in "
         "x[t, n, i]...; cell.W has shape [H, D] (at m.yaml:7:21), x has shape [T, N, D] (at m.yaml:3:13)\n...^"),
        ("W: [H, D]", "W: [H, 7]", "10:25: layers[0].equations: index 'k' is used at two extents: 7 in...; "
         "cell.W has shape [H, 7] (at m.yaml:7:21), x has shape [T, N, D] (at m.yaml:3:13)\n...^"),
        ("[t,n,i] = tanh", "[t,n] = tanh", "...layers[0].equations: 'h'..."),
        ("tanh(a", "tanh(\u202ea", "9:16: layers[0].equations: expected printable text, found the character U+202E in line 2"),
        ("b[i]\n", "b[i]  # \u202e\n", "9:16: layers[0].equations: expected printable text, found the character U+202E in line 1"),
        ("    equations: |", "    ranges: {a-b: 3}\n    equations: |", f"9:14: layers[0].ranges['a-b']: expected the name of an index {NAME},..."),
        ("tanh(a[t,n,i])", "tanh(W[i,k]*x[t,n,k])", "11:18: layers[0].equations: index 'k' is missing on the left and stands "
         "inside the function tanh(...): ambiguous. Write sum(tanh(W[i,k]*x[t,n,k]), over=k) to sum outside, or "
         "tanh(sum(W[i,k]*x[t,n,k], over=k)) to sum inside\n...^"),
        ("tanh(a[t,n,i])", "sum(0*b[j], over=j)", "11:18: layers[0].equations: index 'j' is reduced but vanished, because the "
         "expression '0*b[j]' is 0; leave it out\n...^"),
        ("tanh(a[t,n,i])", "tanh(sum(b[j] - b[j], over=j))", "11:23: layers[0].equations: index 'j' is reduced but vanished, "
         "because the expression 'b[j] - b[j]' is 0; leave it out\n...^"),
        ("tanh(a[t,n,i])", "mean(b[j]/b[j], over=j)", "11:18: layers[0].equations: index 'j' is reduced but vanished, because the "
         "expression 'b[j]/b[j]' does not depend on it; simplify it\n...^"),
        ("tanh(a[t,n,i])", "sum(b[i], over=j)",
         "11:18: layers[0].equations: index 'j' is reduced but does not occur in the expression\n...^"),
        # names
        ("b[i]\n", "c[i]\n", "10:56: layers[0].equations: undefined tensor 'c'; known: a, h, x, y, W, U, b\n...^"),
        ("b[i]\n", "zz.q[i]\n", "10:56: layers[0].equations: undefined tensor 'zz.q'; known: a, h, x, y, W, U, b\n...^"),
        ("W: [H, D]", "W: [H, four]", "10:25: layers[0].equations: index 'k' is used at two extents: four in cell.W[i, k] and D "
         "in...; 'four' (at m.yaml:7:25) was taken as a free size, because no size has that name\n...^"),
        ("tanh(", "tahn(", "11:18: layers[0].equations: unknown function 'tahn'; did you mean 'tan'?...^"),
        ("tanh(", "floor(", "11:18: layers[0].equations: 'floor' is not differentiable and has no place in an equation; "
         "compute it outside the model and give it as an input\n...^"),
        ("output: h", "output: g", "12:13: layers[0].output: expected the name of a tensor that the equations define, found 'g';"
         " known: h, a"),
        ("b: [H]}", "b: [H], x: [H]}", "7:51: layers[0].parameters.x: expected a name of its own, found 'x', which means an "
         "input of the model here; rename one"),
        ("b: [H]}", "b: [H], h: [H]}", "8:17: layers[0].states.h: expected each name once, found 'h' as parameter and as state"),
        ("b: [H]}", "b: [H], for: [H]}", "7:48: layers[0].parameters.for:...found the Python keyword 'for'; choose another"),
        ("b: [H]}", "b: [H], int: [H]}", "7:48: layers[0].parameters.int:...found the C keyword 'int'; choose another"),
        ("b: [H]}", "b: [H], 'q r': [H]}", f"7:48: layers[0].parameters['q r']: expected the name of a parameter {NAME},..."),
        ("b: [H]}", "b: {shape: [H], ini: zeros}}", "7:56: layers[0].parameters.b.ini: expected the keys of b (shape, init), "
         "found 'ini'; did you mean 'init'?"),
        ("b: [H]}", "b: {shape: [H], init: zeroes}}", "7:62: layers[0].parameters.b.init: unknown initialiser 'zeroes'..."),
        ("b: [H]}", "b: [H]}\n    init: zeros", "8:5: layers[0].init: expected the keys of a layer of type equations (...), "
         "found 'init'"),
        ("y: [T, N, H]}", "y: [T, N, H], cell_W: [N]}", "7:21: layers[0].parameters.W: expected names that stay apart in generated "
         "code, found 'cell_W' and 'cell.W', both 'cell_W' there (...); rename one"),
        # definitions
        ("h[t,n,i] = ", "a[t,n,i] = ", "11:7: layers[0].equations: 'a' is defined twice, here and at line 10; write +=..."),
        ("h[t,n,i] = ", "y[t,n,i] = ", "11:7: layers[0].equations: expected each tensor to be defined once, found an equation "
         "for 'y', which exists already ('y' is at m.yaml:3:27); choose another name"),
        ("b[i]\n", "b[i]\n      x[t,n,k] = 1\n", "11:7: layers[0].equations: expected each tensor to be defined once, found an "
         "equation for 'x', which exists already ('x' is at m.yaml:3:13); choose another name"),
        ("      h[t,n,i] = tanh(a[t,n,i])\n", "", "8:17: layers[0].states.h: expected an equation that defines 'h', found none;..."),
        ("h[t-1,n,j]", "h[t,n,j]", "10:7: layers[0].equations: expected tensors that do not need themselves, found the cycle "
         "cell.a <- cell.h <- cell.a; read an earlier step..."),
        # states
        ("{h: [T, N, H]}", "{h: {shape: [T, N, H], initial: zeros}}", "8:45: layers[0].states.h.initial: expected zero, given, "
         "carry, learned or the name of an input, found 'zeros'; did you mean 'zero'?"),
        ("{h: [T, N, H]}", "{h: {shape: [T, N, H], initial: y}}", "8:45: layers[0].states.h.initial: expected a real input of "
         "shape [N, H] to start 'cell.h' of shape [T, N, H], found 'y' of shape [T, N, H] ('y' is at m.yaml:3:27)"),
        ("{h: [T, N, H]}", "{h: {shape: [T, N, H], axis: 3}}", "8:42: layers[0].states.h.axis: expected an axis of 'h' (0 to 2),"
         " found 3"),
        ("{h: [T, N, H]}", "{h: {shape: [T, N, H], lag: 0}}",
         "8:41: layers[0].states.h.lag: expected a number of at least 1, found 0"),
        ("    equations: |", "    equations:", "10:61: layers[0].equations: not an equation: invalid syntax; YAML joined the lines "
         "into one: write 'equations: |' to keep them\n...^"),
        # the language
        ("tanh(a[t,n,i])", "a[t,n,i]^2", "11:18: layers[0].equations: 'a[t,n,i] ^ 2' is no power; write '**' instead of '^'\n...^"),
        ("tanh(a[t,n,i])", "tanh(a[t,n,m])", "11:18:...ambiguous. Write sum(tanh(a[t,n,m]), over=m) to sum outside, or "
         "tanh(sum(a[t,n,m], over=m)) to sum inside; or is 'm' a slip for 'i'?\n...^"),
        ("tanh(a[t,n,i])", "tanh(a[t,n,m] + x[t,n,m])", "11:18:...to sum inside\n...^"),
        ("x[t,n,k] +", "x[t,n,k] + 9**9**9**9 +", "10:39: layers[0].equations: expected an exponent of at most 64...^"),
        ("tanh(a[t,n,i])", "__import__('os').system('id')", "11:18: layers[0].equations: expected a call of a known function by "
         "its name, found '__import__('os').system('id')'\n...^"),
        ("tanh(a[t,n,i])", "__import__('os')", "11:18: layers[0].equations: unknown function '__import__'; known: abs,...^"),
        ("tanh(a[t,n,i])", "x[t,n,i].sum()", "11:18: layers[0].equations: expected a call of a known function by its name, found "
         "'x[t,n,i].sum()'\n...^"),
        ("tanh(a[t,n,i])", "x.T", "11:18: layers[0].equations: expected a tensor with its indices, found the attribute 'T' of 'x'; "
         "equations know no attributes: write the indices in the other order for a transpose, x[j,i]\n...^"),
        ("tanh(a[t,n,i])", "a.__class__[t]", "11:18: layers[0].equations: expected a tensor with its indices, found the attribute "
         "'__class__' of 'a'; equations know no attributes: write indices\n...^"),
        ("tanh(a[t,n,i])", "x[0][t,n,i]", "11:18: layers[0].equations: expected a name, found 'x[0]'\n...^"),
        ("tanh(a[t,n,i])", "a[t,n,i] % 2", "11:18: layers[0].equations: 'a[t,n,i] % 2' is not part of the equation language;...^"),
        ("tanh(a[t,n,i])", "sum(a[t,n,i], over='k')", "11:37: layers[0].equations: expected the name of an index, found 'k'\n...^"),
        ("tanh(a[t,n,i])", "(lambda: 1)()", "11:18: layers[0].equations:..."),
        ("tanh(a[t,n,i])", "open('/etc/passwd')", "11:18: layers[0].equations: unknown function 'open'..."),
        ("tanh(a[t,n,i])", "class[t,n,i]", "11:18: layers[0].equations: expected a name, found the Python keyword 'class'; choose "
         "another\n...^"),
        ("tanh(a[t,n,i])", "tanh(a[t,n,i]", "11:22: layers[0].equations: not an equation: '(' was never closed\n...^"),
        ("tanh(a[t,n,i])", "(" * 300 + "1" + ")" * 300, "...layers[0].equations:..."),
        ("tanh(a[t,n,i])", "x" + ".y" * 2000 + "[t]", "...layers[0].equations:..."),
        ("h[t,n,i] = tanh(a[t,n,i])", "import os", "11:7: layers[0].equations: expected an equation 'name[indices] = ..."),
        ("tanh(a[t,n,i])", "2*1" + "0" * 5000, "11:20: layers[0].equations: expected a number below 1e18, found one of 5001 digits\n"
         "    h[t,n,i] = 2*1" + "0" * 225 + "...\n                 ^"),
        ("tanh(a[t,n,i])", "a[t,n,i]*q[t,n]\n      q[t,n] = tanh(sum(x[t+1,n+1,k], over=k))", "12:21: layers[0].equations: the shape of 'sum(x[t + 1,n + 1,k], "
         "over=k)' cannot be found: index 't' has no range. Use the index bare on a tensor of known shape, or declare its range;..."),
        ("tanh(a[t,n,i])", "a[t,n,i]*log(sum(exp(y[t,k,i]), over=k))*log(sum(W[n,k], over=k))", "11:18: layers[0].equations: "
         "index 'n' is used at two extents: N in cell.a[t, n, i] and H in sum(W[n,k], over=k). Make..."),
        ("tanh(a[t,n,i])", "tanh(sum(U[i,j]*h[t,n,j], over=j))", "11:23: layers[0].equations: expected tensors that do not need "
         "themselves, found the cycle cell.h <- cell.h; read an earlier step (such as t-1) somewhere in it"),
    ],
)  # fmt: skip
def test_a_model_of_equations(tmp_path: Path, before: str, after: str, expected: str) -> None:
    refuse(tmp_path, changed(OWN, before, after), f"m.yaml:{expected}" if expected[0] != "." else expected)


def test_an_equation_for_what_exists_has_its_line_without_a_file_too() -> None:
    data = {
        "name": "m", "inputs": {"x": ["N"]},
        "layers": [{"name": "c", "type": "equations", "parameters": {"w": ["N"]}, "output": "y",
                    "equations": "y[n] = w[n]*x[n]\n  \nw[n] = 3"}],
        "loss": {"type": "mse", "target": "x"},
    }  # fmt: skip
    message = r"^<equations>:3:1: layers\[0\]\.equations: expected each tensor to be defined once, found an equation for 'c\.w'"
    with pytest.raises(SpecError, match=message):
        load(data)


def test_a_layer_with_the_name_of_a_loss_is_itself() -> None:
    text = changed(OWN, "name: cell", "name: mse").replace("output: h", "output: total").replace(
        "      h[t,n,i] = tanh", "      total = h[t,n,i]\n      h[t,n,i] = tanh")
    assert load(changed(text, "loss: {type: mse, target: y}", "loss: mse")).program().loss


def test_a_lag_beyond_the_start_is_refused(tmp_path: Path) -> None:
    text = changed(changed(OWN, "{h: [T, N, H]}", "{h: {shape: [T, N, H], initial: learned}}"), "h[t-1", "h[t-3")
    refuse(
        tmp_path,
        text,
        "m.yaml:10:7: layers[0].equations: expected reads of 'h' at most 1 steps away (its lag), found "
        "cell.h[t - 3, n, j]; write lag: 3 for it, and a start of 3 steps",
    )


def test_an_equation_error_shows_its_line_and_a_caret(tmp_path: Path) -> None:
    error = refuse(tmp_path, changed(OWN, "b[i]\n", "c[i]\n"), "m.yaml:10:56:...")
    assert isinstance(error, EquationError)
    _, line, caret = str(error).splitlines()
    assert line.index("c[i]") == caret.index("^")


def test_no_more_than_twelve_known_names_are_listed(tmp_path: Path) -> None:
    more = ", ".join(f"p{k}: [H]" for k in range(20))
    text = changed(changed(OWN, "b: [H]}", f"b: [H], {more}}}"), "b[i]\n", "zz[i]\n")
    refuse(tmp_path, text, "...undefined tensor 'zz'; known: a, h, x, y, W, U, b, p0, p1, p2, p3, p4, ...\n...^")


@pytest.mark.parametrize(("key", "meant"), [("units", "channels"), ("out_channels", "channels"), ("chanels", "channels"),
                                            ("kernel_size", "kernel"), ("nonsense", "")])  # fmt: skip
def test_an_unknown_key_suggests_what_is_meant(tmp_path: Path, key: str, meant: str) -> None:
    text = changed(DENSE, "{name: hid, type: dense, units: H, activation: tanh}", f"{{name: hid, type: conv2d, {key}: 4}}")
    refuse(
        tmp_path,
        text,
        f"m.yaml:7:31: layers[0].{key}: expected the keys of a layer of type conv2d (name, type, from, channels, kernel, "
        "stride, padding, dilation, groups, bias, activation, init), found "
        f"'{key}'" + (f"; did you mean '{meant}'?" if meant else ""),
    )


AMBIGUOUS = (
    ("a[t,n,i]*tanh(W[i,j]*x[t,n,j])", "sum(a[t,n,i]*tanh(W[i,j]*x[t,n,j]), over=j)", "a[t,n,i]*tanh(sum(W[i,j]*x[t,n,j], over=j))"),
    ("tanh(W[i,j]*x[t,n,j] + b[i])", "sum(tanh(W[i,j]*x[t,n,j] + b[i]), over=j)", "tanh(sum(W[i,j]*x[t,n,j], over=j) + b[i])"),
    ("tanh(W[i,j]*U[i,k])", "sum(tanh(W[i,j]*U[i,k]), over=(j, k))", "tanh(sum(W[i,j]*U[i,k], over=(j, k)))"),
    ("(W[i,j]*x[t,n,j])**2", "sum((W[i,j]*x[t,n,j])**2, over=j)", "sum(W[i,j]*x[t,n,j], over=j)**2"),
    ("a[t,n,i]/x[t,n,j]", "sum(a[t,n,i]/x[t,n,j], over=j)", "a[t,n,i]/sum(x[t,n,j], over=j)"),
    ("b[i]*(b[i] + W[i,j])", "sum(b[i]*(b[i] + W[i,j]), over=j)", "b[i]*(b[i] + sum(W[i,j], over=j))"),
    ("-exp(tanh(W[i,j]))", "sum(exp(tanh(W[i,j])), over=j)", "exp(sum(tanh(W[i,j]), over=j)) or exp(tanh(sum(W[i,j], over=j)))"),
    ("(t > 0)*max2(W[i,j], b[i])", "sum((t > 0)*max2(W[i,j], b[i]), over=j)", "(t > 0)*max2(sum(W[i,j], over=j), b[i])"),
    ("where(W[i,j] > 0, b[i], 1)/2", "sum(where(W[i,j] > 0, b[i], 1)/2, over=j)", "where(sum(W[i,j], over=j) > 0, b[i], 1)/2"),
)  # fmt: skip


@pytest.mark.parametrize(("body", "outside", "inside"), AMBIGUOUS)
def test_both_readings_are_written_out_and_are_equations(tmp_path: Path, body: str, outside: str, inside: str) -> None:
    expected = f"...: ambiguous. Write {outside} to sum outside, or {inside} to sum inside\n...^"
    refuse(tmp_path, changed(OWN, "tanh(a[t,n,i])", body), expected)
    for reading in (outside, *inside.split(" or ")):
        load(changed(OWN, "tanh(a[t,n,i])", reading)).program()


def test_an_input_that_could_be_meant_is_asked_for(tmp_path: Path) -> None:
    text = changed(
        DENSE,
        "{name: out, type: dense, units: 3}",
        "{name: out, type: equations, parameters: {W: [3, H]}, equations: 'z[n,i] = W[i,k]*x[n,k]'}",
    )
    refuse(
        tmp_path,
        text,
        "m.yaml:8:70: layers[1].equations: 'x' could be the input 'x' or the layer before, 'hid.y'; say from: {x: ...}",
    )
    text = changed(text, "type: equations", "from: hid, type: equations")
    assert load(text).program().tensor("out.z")


def test_a_free_size_that_no_array_shows_is_refused(tmp_path: Path) -> None:
    text = changed(
        OWN, "    equations: |\n", "    ranges: {q: [0, Q]}\n    equations: |\n      s[n] = 0*q_ + x[0,n,q+0]\n"
    )
    refuse(
        tmp_path,
        changed(text, "0*q_ + ", ""),
        "m.yaml:2:8: sizes.Q: expected a value for the size 'Q', found none, and no "
        "input or parameter has it in its shape; write sizes: {Q: ...}; 'Q' (at m.yaml:9:21) was taken as a free size, "
        "because no size has that name",
    )
