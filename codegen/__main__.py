"""The way into the command: an interrupt while the command itself is still being loaded has its message, too."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command and run it."""
    try:
        from codegen.cli import main as run

        run()
    except KeyboardInterrupt:
        print("chainrule: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
