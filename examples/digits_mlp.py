"""Handwritten digits with the committed multi-layer perceptron, 784-128-64-10: over 95 % of unseen digits.

    .venv/bin/pip install '.[examples]' && .venv/bin/python examples/digits_mlp.py

The images of 8 by 8 pixels are enlarged to the 28 by 28 that ``specs/mlp.yaml`` expects.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The checkout that this file is in comes before an installed package.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from digits import accuracy, enlarged, load_digits, train

from generated import mlp

GOAL = 0.95


def main() -> int:
    """Train, test, and say whether the goal is reached (the exit status)."""
    (images, labels), (unseen, answers) = load_digits()
    params = train(mlp, (enlarged(images), labels), epochs=20, rate=0.001)
    share = accuracy(mlp, params, "out.y", {"x": enlarged(unseen)}, answers)
    print(f"test accuracy {share:.2%} of {len(answers)} digits, goal {GOAL:.0%}")
    return 0 if share > GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
