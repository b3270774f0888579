"""Handwritten digits with the committed small convolutional network (LeNet on 8 by 8 pixels): over 97 % of unseen digits.

    .venv/bin/pip install '.[examples]' && .venv/bin/python examples/digits_lenet.py
"""

from __future__ import annotations

import sys
from pathlib import Path

# The checkout that this file is in comes before an installed package.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from digits import accuracy, load_digits, shifted, train

from generated import lenet_digits

GOAL = 0.97


def main() -> int:
    """Train, test, and say whether the goal is reached (the exit status)."""
    (images, labels), (unseen, answers) = load_digits()
    params = train(lenet_digits, (images[:, None], labels), epochs=150, rate=0.004, vary=shifted)
    share = accuracy(lenet_digits, params, "out.y", {"x": unseen[:, None]}, answers)
    print(f"test accuracy {share:.2%} of {len(answers)} digits, goal {GOAL:.0%}")
    return 0 if share > GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
