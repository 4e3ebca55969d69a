"""Damage small files of every format, read each with medssl and with a second reader, and count: ``make fuzz``.

Every mutant is a function of format, seed and number, so a line of the table can be looked at again:
``python -m tests.fuzz --formats laz --seed 1 --only 1234 --keep FOLDER``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from medssl.pool import file_limits, run_jobs
from tests.fuzz.mutations import mutant
from tests.fuzz.seeds import SEEDS, seed_of
from tests.fuzz.trial import Outcome, compared, tried

__all__ = ["fuzz", "main"]

KINDS = (
    "refused",
    "read",
    "alike",
    "different",
    "silent",
    "foreign",
    "unnamed",
    "death",
    "hang",
    "memory",
    "second died",
)
FAULTS = ("silent", "foreign", "unnamed", "death", "hang", "memory")
_SECONDS, _MEMORY_GB = 20.0, 1.0


def fuzz(
    name: str, numbers: Iterable[int], seed: int, scratch: Path, *, workers: int = 1
) -> Iterator[tuple[int, Outcome]]:
    """Yield the number of each mutant of a format, and what became of it."""
    jobs = {number: (name, seed, number, str(scratch)) for number in numbers}
    with file_limits(seconds=_SECONDS, memory_gb=_MEMORY_GB):
        accepted = []
        for number, outcome in run_jobs(tried, jobs, workers=workers, crashed=_dead):
            if outcome.kind == "read":
                accepted.append(number)
            else:
                yield number, outcome
        again = {number: jobs[number] for number in sorted(accepted)}
        second = run_jobs(compared, again, workers=workers, crashed=lambda _, why: Outcome("second died", "", why))
        yield from second


def _dead(job: tuple[str, int, int, str], why: str) -> Outcome:
    what = mutant(job[0], seed_of(job[0]), job[1], job[2])[1]
    kind = "hang" if "longer than" in why else "memory" if why.startswith("There was not enough memory") else "death"
    return Outcome(kind, what, why)


def main(words: list[str]) -> int:
    """Run the fuzzer; 1 where anything was found that should not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--n", type=int, default=300, help="mutants of each format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--formats", default="", help="with commas between them; all of " + ",".join(SEEDS))
    parser.add_argument("--only", type=int, help="the one mutant of this number")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for what was found; with it, counts.json is written too")
    given = parser.parse_args(words)
    names = [name for name in given.formats.split(",") if name] or list(SEEDS)
    total: Counter[str] = Counter()
    counts: dict[str, Mapping[str, int]] = {}
    print(f"{'format':<14}" + "".join(f"{kind:>12}" for kind in KINDS) + f"{'s':>8}", flush=True)
    for name in names:
        numbers = range(given.n) if given.only is None else [given.only]
        begin = time.monotonic()
        found: Counter[str] = Counter()
        with tempfile.TemporaryDirectory(prefix="medssl-fuzz-") as scratch:
            for number, outcome in fuzz(name, numbers, given.seed, Path(scratch), workers=given.workers):
                found[outcome.kind] += 1
                if outcome.kind in FAULTS:
                    line = f"  {name} {number} ({outcome.what}): {outcome.kind}: {outcome.said.strip()[-500:]}"
                    print(line, file=sys.stderr, flush=True)
                if given.keep and (outcome.kind in FAULTS or given.only is not None):
                    given.keep.mkdir(parents=True, exist_ok=True)
                    sound = seed_of(name)
                    kept = given.keep / f"{name}-{given.seed}-{number}-{outcome.kind}{sound.suffix}"
                    kept.write_bytes(mutant(name, sound, given.seed, number)[0])
        total += found
        counts[name] = dict(found)
        print(_line(name, found, time.monotonic() - begin), flush=True)
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            (given.keep / "counts.json").write_text(json.dumps({"seed": given.seed, "counts": counts}, indent=1))
    print(_line("all", total, 0))
    print(f"{total.total()} mutants; {sum(total[kind] for kind in FAULTS)} of them found a fault")
    return int(any(total[kind] for kind in FAULTS))


def _line(name: str, found: Mapping[str, int], seconds: float) -> str:
    return f"{name:<14}" + "".join(f"{found.get(kind, 0):>12}" for kind in KINDS) + f"{seconds:>8.0f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
