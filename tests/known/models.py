"""The models: names, orientation and axes are those of the sources, vectors without a batch where the source has none."""

from __future__ import annotations

from typing import Any

from symbolic import Model, load

__all__ = ["BINARY", "ELMAN", "LSTM", "NERVA", "NERVA_SOFTMAX", "NIELSEN", "SOFTMAX", "TRANSPOSED", "TRANSPOSED_LAYERS", "model"]

CLASSES = """
e[k] = exp(z[k])
s = sum(e[k], over=k)
p[k] = e[k]/s
"""
STEPS = """
e[t,i] = exp(o[t,i])
s[t] = sum(e[t,i], over=i)
p[t,i] = e[t,i]/s[t]
loss = -sum(log(p[t,y[t]]), over=t)
"""

SOFTMAX = {
    "inputs": {"x": ["D"], "y": ["K"]}, "parameters": {"W": ["K", "D"]}, "sizes": {"D": 3, "K": 4}, "output": "p",
    "equations": f"z[k] = W[k,d]*x[d]\n{CLASSES}loss = -sum(y[k]*log(p[k]), over=k)",
}
BINARY = {
    "inputs": {"x": ["N", "D"], "y": ["N"]}, "parameters": {"w": ["D"]}, "sizes": {"N": 5, "D": 3}, "output": "p",
    "equations": "z[n] = w[d]*x[n,d]\np[n] = sigmoid(z[n])\nloss = -sum(y[n]*log(p[n]) + (1 - y[n])*log(1 - p[n]), over=n)",
}
NIELSEN = {
    "functions": ["sigma"], "sizes": {"I": 3, "J": 4, "K": 2}, "inputs": {"x": ["I"], "y": ["K"]}, "output": "a_3",
    "parameters": {"w_2": ["J", "I"], "b_2": ["J"], "w_3": ["K", "J"], "b_3": ["K"]},
    "equations": """
z_2[j] = w_2[j,k]*x[k] + b_2[j]
a_2[j] = sigma(z_2[j])
z_3[j] = w_3[j,k]*a_2[k] + b_3[j]
a_3[j] = sigma(z_3[j])
loss = sum((y[j] - a_3[j])**2/2, over=j)
""",
}
NERVA = {
    "functions": ["act"], "sizes": {"N": 5, "D": 3, "K": 4, "L": 2}, "inputs": {"X": ["N", "D"], "T": ["N", "L"]},
    "output": "Y_2",
    "parameters": {"W_1": ["K", "D"], "b_1": ["K"], "W_2": ["L", "K"], "b_2": ["L"]},
    "equations": """
Z_1[n,k] = X[n,d]*W_1[k,d] + b_1[k]
Y_1[n,k] = act(Z_1[n,k])
Z_2[n,l] = Y_1[n,k]*W_2[l,k] + b_2[l]
Y_2[n,l] = act(Z_2[n,l])
loss = sum((Y_2[n,l] - T[n,l])**2, over=(n,l))
""",
}
NERVA_SOFTMAX = {
    "sizes": {"N": 5, "D": 3, "K": 4}, "inputs": {"X": ["N", "D"], "T": ["N", "K"]}, "output": "Y",
    "parameters": {"W": ["K", "D"], "b": ["K"]},
    "equations": """
Z[n,k] = X[n,d]*W[k,d] + b[k]
E[n,k] = exp(Z[n,k])
s[n] = sum(E[n,k], over=k)
Y[n,k] = E[n,k]/s[n]
""",
}
ELMAN = {
    "sizes": {"T": 6, "D": 3, "H": 4, "K": 2}, "inputs": {"x": ["T", "D"], "y": {"shape": ["T"], "kind": "index", "below": "K"}},
    "parameters": {"W": ["H", "H"], "U": ["H", "D"], "V": ["K", "H"], "b": ["H"], "c": ["K"]},
    "states": {"h": ["T", "H"]}, "output": "p",
    "equations": f"""
a[t,i] = b[i] + W[i,j]*h[t-1,j] + U[i,k]*x[t,k]
h[t,i] = tanh(a[t,i])
o[t,i] = c[i] + V[i,j]*h[t,j]
{STEPS}""",
}
LSTM = {
    "functions": ["sigma", "g", "h"], "sizes": {"T": 5, "M": 3, "N": 4}, "inputs": {"x": ["T", "M"], "r": ["T", "N"]},
    "output": "y",
    "parameters": {
        **{f"W_{gate}": ["N", "M"] for gate in "zifo"}, **{f"R_{gate}": ["N", "N"] for gate in "zifo"},
        **{f"p_{gate}": ["N"] for gate in "ifo"}, **{f"b_{gate}": ["N"] for gate in "zifo"},
    },
    "states": {"y": ["T", "N"], "c": ["T", "N"]},
    "equations": """
zbar[t,n] = W_z[n,m]*x[t,m] + R_z[n,k]*y[t-1,k] + b_z[n]
z[t,n] = g(zbar[t,n])
ibar[t,n] = W_i[n,m]*x[t,m] + R_i[n,k]*y[t-1,k] + p_i[n]*c[t-1,n] + b_i[n]
i[t,n] = sigma(ibar[t,n])
fbar[t,n] = W_f[n,m]*x[t,m] + R_f[n,k]*y[t-1,k] + p_f[n]*c[t-1,n] + b_f[n]
f[t,n] = sigma(fbar[t,n])
c[t,n] = z[t,n]*i[t,n] + c[t-1,n]*f[t,n]
obar[t,n] = W_o[n,m]*x[t,m] + R_o[n,k]*y[t-1,k] + p_o[n]*c[t,n] + b_o[n]
o[t,n] = sigma(obar[t,n])
y[t,n] = h(c[t,n])*o[t,n]
loss = sum(r[t,n]*y[t,n], over=(t,n))
""",
}
TRANSPOSED = {
    "functions": ["f"], "sizes": {"T": 6, "D": 3, "H": 4, "K": 2},
    "inputs": {"x": ["T", "D"], "y": {"shape": ["T"], "kind": "index", "below": "K"}},
    "parameters": {"W_x": ["D", "H"], "W_h": ["H", "H"], "W_o": ["H", "K"]}, "states": {"h": ["T", "H"]}, "output": "p",
    "equations": f"""
a[t,i] = W_x[k,i]*x[t,k] + W_h[j,i]*h[t-1,j]
h[t,i] = f(a[t,i])
o[t,i] = W_o[j,i]*h[t,j]
{STEPS}""",
}
TRANSPOSED_LAYERS = {
    **{key: TRANSPOSED[key] for key in ("functions", "sizes", "inputs")},
    "layers": [
        {"name": "rnn", "type": "rnn", "units": "H", "activation": "f", "bias": False, "weights": "in_out"},
        {"name": "out", "type": "dense", "units": "K", "bias": False, "weights": "in_out"},
    ],
    "loss": {"type": "softmax_cross_entropy", "target": "y", "reduction": "sum"},
}


def model(spec: dict[str, Any], more: str = "") -> Model:
    """The model of a spec of this file; ``more``: the equation of its loss where the spec leaves it open."""
    whole: dict[str, Any] = {"name": "known", "dtype": "float64", **spec}
    return load({**whole, "equations": whole["equations"] + more} if more else whole)
