"""Which pairs fingerprints should propose: recall beside pairs of strangers, by the limits of `candidates.Limits`.

The scans are those of benchmarks/reduction_recall.py, and the half is the one that is for setting; bodies of one
outline, bodies of many, and recombined brains (benchmarks/reduction_growth.py), a tenth of each altered copies, say how
many pairs strangers that look alike make. Every pair is weighed once; each row then is one limit moved, the others as
they are in the code. A copy counts where it is proposed with the scan that it was made of.

    MEDSSL_DATA=/data python benchmarks/reduction_proposals.py --work FOLDER    # some minutes of a core; 1 with FOLDER
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from reduction_growth import COPY_OF, printed
from reduction_scans import HALVES, build, one_body, originals

from medssl.reduction.candidates import LIMITS, Candidate, Limits, Weighed, keep, weigh
from medssl.reduction.index import Index, make_fingerprints, read_index

EACH = {"ct": 3, "hippocampus": 7, "acdc": 2, "lgg": 6, "phantom": 1}
MOVED: dict[str, tuple[float, ...]] = {
    "sure": (3.0, 4.0, 5.0, 7.0, 10.0),
    "worth_a_look": (1.0, 1.5, 2.0, 2.5, 3.0, 4.0),
    "nothing": (0.0, 0.1, 0.25, 0.5, 1.0, 2.0),
    "nearest": (0, 1, 2, 4, 8),
    "plain": (10, 20, 30, 40, 50, 60, 77),
    "doubtful": (4, 8, 16, 32),
    "chance": (0.0, 0.15, 0.2, 0.25, 0.3),
    "fewer": (0.0, 4.0, 5.0, 6.0),
}
GROUPS = ("same array", "re-export", "cut", "turned", "rotated")
Told = Callable[[Candidate], str]


def of_scans(data: Path | None, work: Path, half: str, each: dict[str, int]) -> tuple[Weighed, Told, Counter[str]]:
    """Return the weighed pairs of one half, what each is, and how many copies of each group there are."""
    items = [one for one in build(originals(data, work, 8), work, each, (half,), {}) if one.half == half]
    make_fingerprints([item.target for item in items], work / f"prints-{half}")
    by_id = {item.id: item for item in items}
    index = read_index(work / f"prints-{half}")
    index = Index(tuple(one for one in index.fingerprints if one.id in by_id))
    ordered = [by_id[name] for name in index.ids]

    def told(one: Candidate) -> str:
        first, second = ordered[one.first], ordered[one.second]
        changes = [item.change for item in (first, second) if item.change is not None]
        if first.original.id == second.original.id:
            return changes[0].group if len(changes) == 1 else ""
        strange = first.original.patient != second.original.patient and one_body(first, second) is False
        return "strangers" if strange else ""

    return weigh(index), told, Counter(item.change.group for item in ordered if item.change is not None)


def of_kind(kind: str, count: int, data: Path | None) -> tuple[Weighed, Told, Counter[str]]:
    """Return the same of so many scans of benchmarks/reduction_growth.py."""
    index = Index(tuple(printed(kind, number, data)[0] for number in range(count)))

    def told(one: Candidate) -> str:
        return "copy" if one.second == one.first + 1 and one.second % COPY_OF == COPY_OF - 1 else "strangers"

    return weigh(index), told, Counter(copy=count // COPY_OF)


def _moved(name: str, value: float) -> Limits:
    """Return the limits of the code with one of them moved."""
    moved: dict[str, Any] = {name: value}
    return replace(LIMITS, **moved)


def main() -> None:
    """Weigh every pair once, and print a row for each limit that is moved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=HALVES, default=HALVES[0])
    parser.add_argument("--each", nargs="*", default=[], metavar="KIND=N", help="as in reduction_recall.py")
    parser.add_argument("--work", type=Path, help="where files are kept for the next call")
    parser.add_argument("--count", type=int, default=200, help="scans of each made-up kind (default 200)")
    chosen = parser.parse_args()
    root = os.environ.get("MEDSSL_DATA")
    data = Path(root) if root else None
    each = EACH | {kind: int(n) for kind, n in (one.split("=") for one in chosen.each)}
    with tempfile.TemporaryDirectory() as scratch:
        kinds = ["outline", "bodies", *(["brains"] if data else [])]
        sets = [of_scans(data, chosen.work or Path(scratch), chosen.half, each)]
        sets += [of_kind(kind, chosen.count, data) for kind in kinds]
    many = sets[0][2]
    heads = [f"{group}, of {many[group]}" for group in GROUPS] + ["strangers"]
    for kind in kinds:
        heads += [f"{kind}: copies of {chosen.count // COPY_OF}", "strangers"]
    print(f"| limit | {' | '.join(heads)} |\n|---|{'--:|' * len(heads)}")
    rows: list[tuple[str, Limits]] = [("as in the code", LIMITS)]
    for name, values in MOVED.items():
        rows += [(f"{name} {value:g}", _moved(name, value)) for value in values]
    for name, limits in rows:
        cells = []
        for weighed, told, _ in sets:
            seen = Counter(told(one) for one in keep(weighed, limits).pairs)
            cells += [seen[group] for group in (GROUPS if "copy" not in seen else ("copy",))] + [seen["strangers"]]
        print(f"| {name} | {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
