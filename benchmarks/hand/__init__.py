"""Good hand-written NumPy, the rival of generated NumPy: one file a family, gradients worked out by a person.

Each function is `(params, batch) -> (loss, grads)` and keeps nothing between calls. The products of all steps are one
product before or after the loop; what a loop writes is allocated before it; what does not depend on the recurrence is
computed for all steps at once. Layouts are those of the specs: [T, N, .], [N, C, rows, columns].
"""

from __future__ import annotations

from functools import partial

from benchmarks.contestant import Contestant, same
from benchmarks.hand import dense, gru, lenet, lstm, rnn
from benchmarks.rows import Arrays, Row

FUNCTIONS = {
    "mlp_small": dense.value_and_grad,
    "mlp_large": dense.value_and_grad,
    "lenet": lenet.value_and_grad,
    "rnn_char": rnn.char_value_and_grad,
    "rnn_small": rnn.value_and_grad,
    "rnn_long": rnn.value_and_grad,
    "lstm_small": lstm.value_and_grad,
    "lstm_tiny": lstm.value_and_grad,
    "lstm_lm": lstm.language_value_and_grad,
    "gru_small": gru.value_and_grad,
}


def build(row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """The hand-written function of this row on the given arrays."""
    return Contestant(partial(FUNCTIONS[row.name], params, batch), same)
