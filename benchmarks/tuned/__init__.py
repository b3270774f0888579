"""Hand-written NumPy tuned as far as it goes, at the price of reading well: one file a family.

Each function is `(params, batch, workspace) -> (loss, grads)`, with fresh gradients and scratch that outlives the call.
What makes them fast is the same everywhere: products of all steps outside the loops, `ndarray.dot` with an output array
(a call costs a third of `matmul`'s on small operands), products whose operands need no transposition, the batch as the
last axis so that gates and channels are contiguous blocks, and bias gradients as products with ones.
"""

from __future__ import annotations

from functools import partial

from benchmarks.contestant import Contestant, same
from benchmarks.rows import Arrays, Row
from benchmarks.tuned import gru, lenet, lstm, mlp, rnn
from benchmarks.tuned.workspace import Workspace

FUNCTIONS = {
    "mlp_small": mlp.value_and_grad,
    "mlp_large": mlp.value_and_grad,
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
    """The tuned function of this row on the given arrays."""
    return Contestant(partial(FUNCTIONS[row.name], params, batch, Workspace()), same)
