"""Write digits.txt: scikit-learn's 1797 handwritten digits, one a line: its label, then 64 pixels as letters, a (0) to q (16).

    .venv/bin/pip install '.[examples]' && .venv/bin/python examples/c/export_digits.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def lines() -> list[str]:
    """The lines of the file, shuffled always alike."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return [f"{data.target[k]}{''.join(chr(ord('a') + int(pixel)) for pixel in data.data[k])}" for k in order]


if __name__ == "__main__":
    Path(__file__).with_name("digits.txt").write_text("\n".join(lines()) + "\n", encoding="ascii")
