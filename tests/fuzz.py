"""The long search for wrong numbers: ``python -m tests.fuzz --seconds 300 --seed 1``.

Draws programs of ``tests/programs.py`` and holds each at every stage (``tests/stages.py``). Each fault is printed as the
smallest program found, as equation text with the keys and sizes that show it and a call that runs it again; then the search goes
on. Exit status 1 if there was any.
"""

from __future__ import annotations

import argparse
import itertools
import re
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from symbolic.errors import SpecError
from tests.emitting import dirty
from tests.programs import Case, drawn
from tests.stages import NoVerdict, Wrong, hold

APART = 1_000_000
"""Between the programs of one seed and those of the next."""
REDUCE_SECONDS = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Search for programs whose numbers come out wrong.")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    warnings.simplefilter("error")
    with dirty():
        counts = search(time.monotonic() + asked.seconds, asked.seed)
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    return 1 if counts["faults"] else 0


def search(end: float, first: int) -> Counter[str]:
    """Programs until the time is over; what became of them."""
    counts = Counter[str](programs=0, faults=0)

    for number in itertools.count(first * APART):
        if time.monotonic() > end:
            break
        case = drawn(number)
        counts["programs"] += 1
        fault = fault_of(case)
        if isinstance(fault, NoVerdict):
            counts[str(fault).partition(":")[0]] += 1
        elif fault is not None:
            counts["faults"] += 1
            report(*reduced(case, fault), f"fault {counts['faults']}, program {number}")
    return counts


def fault_of(case: Case) -> Exception | None:
    try:
        hold(case)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return error
    return None


def report(case: Case, fault: Exception, head: str) -> None:
    where = "".join(traceback.format_list(traceback.extract_tb(fault.__traceback__)[-1:]))
    print(f"---- {head}\n{case}\n{where}{type(fault).__name__}: {fault}\n\nto run again: hold({case!r})\n", flush=True)


# ---- smaller programs that show the same -------------------------------------------------------------------------------


def reduced(case: Case, fault: Exception) -> tuple[Case, Exception]:
    """The case without the lines, terms, factors and functions that the fault does not need."""
    end, wanted = time.monotonic() + REDUCE_SECONDS, kind_of(fault)
    going = True
    while going and time.monotonic() < end:
        going = False
        for text in smaller(case.text):
            other = without_unused(replace(case, text=text))
            found = fault_of(other)
            if found is not None and kind_of(found) == wanted:
                case, fault, going = other, found, True
                break
    return case, fault


def kind_of(fault: Exception) -> tuple[str, str]:
    """What a smaller program must show too."""
    stage = str(fault).partition(":")[0] if isinstance(fault, Wrong) else str(fault)[:40] if isinstance(fault, SpecError) else ""
    return type(fault).__name__, stage


def smaller(text: str) -> Iterator[str]:
    lines = text.split("\n")

    def put(number: int, line: str) -> str:
        return "\n".join([*lines[:number], line, *lines[number + 1 :]])

    for number in range(len(lines) if len(lines) > 1 else 0):
        yield "\n".join(lines[:number] + lines[number + 1 :])
    for number, line in enumerate(lines):
        found = re.match(r"(.*? \+?= )(.*)", line)
        if found is None:
            continue
        terms = apart(found[2], (" + ", " - "))
        yield from (put(number, found[1] + "".join(rest)) for rest in one_less(terms))
        for k in range(0, len(terms), 2):
            inner = [*map("".join, one_less(apart(terms[k], ("*",))))]
            call = re.match(r"^-?[a-z]\w*\(([^,]*)\)$", terms[k])
            for piece in [*inner, *([call[1]] if call else [])]:
                yield put(number, found[1] + "".join([*terms[:k], piece, *terms[k + 1 :]]))


def one_less(parts: list[str]) -> Iterator[list[str]]:
    """The parts without one of them and the sign beside it; signs stand at odd places."""
    for k in range(0, len(parts) if len(parts) > 1 else 0, 2):
        yield parts[2:] if k == 0 else parts[: k - 1] + parts[k + 1 :]


def apart(text: str, signs: tuple[str, ...]) -> list[str]:
    """A text cut at the signs outside of its brackets; the signs are kept, at odd places."""
    parts, depth, place = [""], 0, 0
    while place < len(text):
        sign = next((s for s in signs if depth == 0 and text.startswith(s, place)), "")
        if sign:
            parts += [sign, ""]
        else:
            depth += (text[place] in "([") - (text[place] in ")]")
            parts[-1] += text[place]
        place += len(sign) or 1
    return parts


def without_unused(case: Case) -> Case:
    words = set(re.findall(r"\w+", case.text))
    spec = {**case.spec, "outputs": [name for name in case.spec.get("outputs", []) if name in words]}
    for key in ("states", "shapes"):
        spec[key] = {name: value for name, value in case.spec.get(key, {}).items() if name in words}
    return replace(case, spec=spec)


if __name__ == "__main__":
    raise SystemExit(main())
