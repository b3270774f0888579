"""Published gradients written out by hand in NumPy, in the notation of their sources: nothing of this project is used."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["act", "act_slope", "elman", "lstm", "nerva", "nielsen", "sigmoid", "sigmoid_slope", "softmax", "transposed"]

Arrays = dict[str, Any]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def sigmoid_slope(x: Any) -> Any:
    return sigmoid(x) * (1 - sigmoid(x))


def act(x: Any) -> Any:
    """A function with no symmetry and act(0) = 1: what takes a zero for granted shows."""
    return np.cos(x) + x


def act_slope(x: Any) -> Any:
    return 1 - np.sin(x)


def softmax(z: Any) -> Any:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def nielsen(v: Arrays) -> Arrays:
    """Nielsen 2015, chapter 2, BP1 to BP4, for two layers and the quadratic cost."""
    z_2 = v["w_2"] @ v["x"] + v["b_2"]
    a_2 = sigmoid(z_2)
    z_3 = v["w_3"] @ a_2 + v["b_3"]
    delta_3 = (sigmoid(z_3) - v["y"]) * sigmoid_slope(z_3)  # BP1
    delta_2 = (v["w_3"].T @ delta_3) * sigmoid_slope(z_2)  # BP2
    return {
        "z_3": delta_3, "z_2": delta_2, "b_3": delta_3, "b_2": delta_2,  # BP3
        "w_3": np.outer(delta_3, a_2), "w_2": np.outer(delta_2, v["x"]),  # BP4
    }


def nerva(v: Arrays) -> Arrays:
    """Wesselink et al. 2025, an activation layer on an activation layer, squared error; rows are samples."""
    z_1 = v["X"] @ v["W_1"].T + v["b_1"]
    y_1 = act(z_1)
    z_2 = y_1 @ v["W_2"].T + v["b_2"]
    dz_2 = 2 * (act(z_2) - v["T"]) * act_slope(z_2)
    dy_1 = dz_2 @ v["W_2"]
    dz_1 = dy_1 * act_slope(z_1)
    return {
        "Z_2": dz_2, "W_2": dz_2.T @ y_1, "b_2": dz_2.sum(0), "Y_1": dy_1, "Z_1": dz_1, "W_1": dz_1.T @ v["X"],
        "b_1": dz_1.sum(0),
    }


def elman(v: Arrays) -> Arrays:
    """Goodfellow, Bengio and Courville 2016, equations 10.17 to 10.28."""
    steps, units = len(v["x"]), len(v["b"])
    h = np.zeros((steps + 1, units))  # h[-1], the last row, is the state before the first step
    for t in range(steps):
        h[t] = np.tanh(v["b"] + v["W"] @ h[t - 1] + v["U"] @ v["x"][t])
    grad_o = softmax(h[:steps] @ v["V"].T + v["c"]) - np.eye(len(v["c"]))[v["y"]]  # 10.18
    grad_h = np.zeros((steps + 1, units))
    grad_h[steps - 1] = v["V"].T @ grad_o[steps - 1]  # 10.19
    for t in reversed(range(steps - 1)):
        grad_h[t] = v["W"].T @ np.diag(1 - h[t + 1] ** 2) @ grad_h[t + 1] + v["V"].T @ grad_o[t]  # 10.21
    through = [np.diag(1 - h[t] ** 2) @ grad_h[t] for t in range(steps)]
    return {
        "o": grad_o, "h": grad_h[:steps], "c": sum(grad_o), "b": sum(through),  # 10.22, 10.23
        "V": sum(np.outer(grad_o[t], h[t]) for t in range(steps)),  # 10.24
        "W": sum(np.outer(through[t], h[t - 1]) for t in range(steps)),  # 10.26
        "U": sum(np.outer(through[t], v["x"][t]) for t in range(steps)),  # 10.28
    }


def lstm(v: Arrays) -> Arrays:
    """Greff et al. 2017, section II: the vanilla LSTM with peepholes; sigma the logistic function, g = h = tanh."""
    x, steps, units = v["x"], len(v["x"]), len(v["b_z"])
    bar = {gate: np.zeros((steps + 1, units)) for gate in "zifo"}
    out = {gate: np.zeros((steps + 1, units)) for gate in "zifo"}
    y, c = np.zeros((2, steps + 1, units))  # the last row is both what stands before the first step and beyond the last one
    for t in range(steps):
        for gate in "zifo":
            bar[gate][t] = v[f"W_{gate}"] @ x[t] + v[f"R_{gate}"] @ y[t - 1] + v[f"b_{gate}"]
            if gate in "if":
                bar[gate][t] += v[f"p_{gate}"] * c[t - 1]
            if gate == "o":
                c[t] = out["z"][t] * out["i"][t] + c[t - 1] * out["f"][t]
                bar["o"][t] += v["p_o"] * c[t]
            out[gate][t] = np.tanh(bar[gate][t]) if gate == "z" else sigmoid(bar[gate][t])
        y[t] = np.tanh(c[t]) * out["o"][t]
    z, i, f, o = (out[gate] for gate in "zifo")
    d = {name: np.zeros((steps + 1, units)) for name in ("y", "c", "z", "i", "f", "o")}
    for t in reversed(range(steps)):
        d["y"][t] = v["r"][t] + sum(v[f"R_{gate}"].T @ d[gate][t + 1] for gate in "zifo")
        d["o"][t] = d["y"][t] * np.tanh(c[t]) * sigmoid_slope(bar["o"][t])
        d["c"][t] = (d["y"][t] * o[t] * (1 - np.tanh(c[t]) ** 2) + v["p_o"] * d["o"][t] + v["p_i"] * d["i"][t + 1]
                     + v["p_f"] * d["f"][t + 1] + d["c"][t + 1] * f[t + 1])
        d["f"][t] = d["c"][t] * c[t - 1] * sigmoid_slope(bar["f"][t])
        d["i"][t] = d["c"][t] * z[t] * sigmoid_slope(bar["i"][t])
        d["z"][t] = d["c"][t] * i[t] * (1 - np.tanh(bar["z"][t]) ** 2)
    found = {"y": d["y"][:-1], "c": d["c"][:-1], **{f"{gate}bar": d[gate][:-1] for gate in "zifo"}}
    for gate in "zifo":
        found[f"W_{gate}"] = sum(np.outer(d[gate][t], x[t]) for t in range(steps))
        found[f"R_{gate}"] = sum(np.outer(d[gate][t + 1], y[t]) for t in range(steps - 1))
        found[f"b_{gate}"] = sum(d[gate][t] for t in range(steps))
    found["p_i"] = sum(c[t] * d["i"][t + 1] for t in range(steps - 1))
    found["p_f"] = sum(c[t] * d["f"][t + 1] for t in range(steps - 1))
    found["p_o"] = sum(c[t] * d["o"][t] for t in range(steps))
    return found


def transposed(v: Arrays) -> Arrays:
    """h_t = f(W_x^T x_t + W_h^T h_{t-1}), y_t = softmax(W_o^T h_t), by backpropagation through time (Werbos 1990)."""
    steps, units = len(v["x"]), v["W_h"].shape[0]
    a, h = np.zeros((2, steps + 1, units))
    for t in range(steps):
        a[t] = v["W_x"].T @ v["x"][t] + v["W_h"].T @ h[t - 1]
        h[t] = act(a[t])
    do = softmax(h[:steps] @ v["W_o"]) - np.eye(v["W_o"].shape[1])[v["y"]]
    dh, da = np.zeros((2, steps + 1, units))
    for t in reversed(range(steps)):
        dh[t] = v["W_o"] @ do[t] + v["W_h"] @ da[t + 1]
        da[t] = dh[t] * act_slope(a[t])
    return {
        "W_x": sum(np.outer(v["x"][t], da[t]) for t in range(steps)), "W_o": sum(np.outer(h[t], do[t]) for t in range(steps)),
        "W_h": sum(np.outer(h[t - 1], da[t]) for t in range(steps)),
    }
