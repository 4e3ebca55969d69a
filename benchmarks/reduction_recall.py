"""Which copies of a scan are found, and how many strangers are called copies: a generated benchmark.

Each scan is written again in every way of benchmarks/reduction_changes.py. All files, and the scans that were left as
they are, then go through the real pass and the real search. Scans are halved by patient: on one half the rule of
benchmarks/reduction_limits.py gives the limits, and the table is of the other. Beside it, on the same files: equal
bytes, a 2D perceptual hash of the middle slice at distance 10 (imagededup's default) and at 0 (cleanvision's), and
Hash-6 of "Less is More".

    MEDSSL_DATA=/data python benchmarks/reduction_recall.py             # under 10 minutes of one core
    MEDSSL_DATA=/data python benchmarks/reduction_recall.py --half choose             # and the limits by the rule
    MEDSSL_DATA=/data python benchmarks/reduction_recall.py --half report --each ct=7 hippocampus=14 acdc=12 phantom=4
    MEDSSL_DATA=/data python benchmarks/reduction_recall.py --work F --workers 2    # a stopped run goes on
    MEDSSL_DATA=/data python benchmarks/reduction_recall.py --full      # every scan; hours
    python benchmarks/reduction_recall.py                               # phantoms alone
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from processor_time import processor_seconds
from reduction_changes import CHANGES
from reduction_limits import Seen, limits_by_rule
from reduction_other_ways import CLEANVISION, IMAGEDEDUP, hash_6_share, other_false, slices_of
from reduction_scans import HALVES, ONE_BODY, SEED, Item, build, one_body, originals

from medssl.reduction.candidates import candidates
from medssl.reduction.compare_pairs import compare_pairs
from medssl.reduction.duplicates import pairs_of
from medssl.reduction.index import Index, make_fingerprints, read_index
from medssl.reduction.verify import Level, Verdict

# --- the search -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """A pair that was proposed and looked at."""

    first: Item
    second: Item
    how: str
    distance: float
    verdict: Verdict

    @property
    def is_copy(self) -> bool:
        """Whether the two are told as copies."""
        return self.verdict.level.is_copy


def search(items: list[Item], index: Index, journal: Path | None = None, workers: int = 1) -> list[Compared]:
    """Look at the proposed pairs of two patients, and at those of one patient of which one is an original.

    Nobody is told whose scans are. Verdicts are kept in the journal, so a run that was stopped goes on.
    """
    by_id = {item.id: item for item in items}
    ordered = [by_id[name] for name in index.ids]
    chosen = []
    for one in candidates(index):
        first, second = ordered[one.first], ordered[one.second]
        if first.original.patient == second.original.patient and first.change is not None and second.change is not None:
            continue  # two copies of one scan, or of two of one patient: too many to look at
        chosen.append(one)
    pairs = pairs_of(index, chosen, {item.id: item.target for item in items})
    verdicts, unread = compare_pairs(pairs, journal=journal, workers=workers)
    assert not unread, unread
    return [
        Compared(ordered[one.first], ordered[one.second], one.how, one.distance, verdict)
        for one, verdict in zip(chosen, verdicts, strict=True)
    ]


def seen_by_rule(compared: list[Compared]) -> Iterator[Seen]:
    """Yield the pairs that the rule of benchmarks/reduction_limits.py names, each as what it is."""
    for pair in compared:
        first, second, agreement = pair.first, pair.second, pair.verdict.agreement
        changes = [item.change for item in (first, second) if item.change is not None]
        is_what = ""
        if first.original.id == second.original.id:
            change = changes[0]
            judged = pair.verdict.level not in (Level.SAME_FILE, Level.SAME_ARRAY)
            if judged and (change.group in ("same array", "re-export", "turned") or change.name == "crop along z"):
                is_what = "copy"
        elif first.original.patient == second.original.patient:
            again = all(change.group == "re-export" for change in changes)
            is_what = (
                ("phase, exported again" if changes else "phase") if first.original.kind == "acdc" and again else ""
            )
        elif one_body(first, second) is False:
            is_what = "stranger"
        if is_what:
            yield Seen(is_what, agreement.score, agreement.explained, agreement.function, agreement.unevenness)


def report_alone(mine: list[Item], index: Index) -> None:
    """Print how many re-exports are found where each scan is searched among its own copies, without all other files."""
    prints = {one.id: one for one in index.fingerprints}
    families: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(mine, key=lambda item: item.id):
        if item.id in prints:
            families[item.original.id].append(item)
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for name, members in families.items():
        compared = search(members, Index(tuple(prints[item.id] for item in members))) if len(members) > 1 else []
        of = {pair.second.id if pair.first.id == name else pair.first.id: pair for pair in compared}
        for item in members:
            if item.change is not None and item.change.group == "re-export":
                pair = of.get(item.id)
                told = ["files", *(["proposed"] if pair else []), *(["found"] if pair and pair.is_copy else [])]
                rows[item.original.kind].update(told)
    print("\n| re-exports of | files | proposed | found |\n|---|--:|--:|--:|")
    for kind, row in (*rows.items(), ("all", sum(rows.values(), Counter()))):
        print(f"| {kind} | {row['files']} | {row['proposed']} | {row['found']} |")


# --- the table --------------------------------------------------------------------------------------------------------


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (E. B. Wilson, 1927)."""
    z = 1.959964
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - half, middle + half


def strangers(items: Iterable[Item]) -> int:
    """Return the number of pairs of files of two patients."""
    of = Counter(item.original.patient for item in items)
    count = sum(of.values())
    pairs = count * (count - 1) // 2 - sum(n * (n - 1) // 2 for n in of.values())
    return pairs - sum(of[a] * of[b] for a, b in ONE_BODY)


def report(half: str, mine: list[Item], compared: list[Compared], index: Index) -> None:
    """Print the tables of one half."""
    prints = {one.id: one for one in index.fingerprints}
    slices = {item.id: slices_of(item) for item in mine if item.id in prints}
    found = {frozenset((pair.first.id, pair.second.id)): pair for pair in compared}
    rows: dict[tuple[str, str], Counter[str]] = {(c.name, c.severity): Counter(group=0) for c in CHANGES}
    missed = []
    for item in mine:
        if item.change is None:
            continue
        row = rows[item.change.name, item.change.severity]
        row["files"] += 1
        if item.id not in prints:
            missed.append(f"{item.id}: unreadable")
            continue
        pair = found.get(frozenset((item.id, item.original.id)))
        row["proposed"] += pair is not None
        row["copy"] += pair is not None and pair.is_copy
        array = pair is not None and pair.verdict.level in (Level.SAME_FILE, Level.SAME_ARRAY)
        row["array"] += array
        first, second = slices[item.id], slices[item.original.id]
        row["file"] += prints[item.id].file_hash == prints[item.original.id].file_hash
        apart = (first.perceptual ^ second.perceptual).bit_count()
        row["imagededup"] += apart <= IMAGEDEDUP
        row["cleanvision"] += apart <= CLEANVISION
        row["hash-6"] += hash_6_share(first, second) >= 0.5
        if pair is None or not pair.is_copy:
            score = f"score {pair.verdict.agreement.score:.2f}" if pair else "not proposed"
            missed.append(f"{item.id}: {score}")
    apart = [pair for pair in compared if pair.first.original.patient != pair.second.original.patient]
    apart = [pair for pair in apart if one_body(pair.first, pair.second) is False]
    false = [pair for pair in apart if pair.is_copy]
    for pair in false:
        for item in {pair.first.change, pair.second.change} - {None}:
            rows[item.name, item.severity]["false"] += 1
    chosen = "chosen" if half == HALVES[0] else "not chosen"
    print(f"\n## The half on which thresholds were {chosen}: {half}\n")
    print(
        "| group | change | how much | files | proposed | found [95 %] | false pairs | same bytes | pHash 10 "
        "| pHash 0 | Hash-6 |"
    )
    print("|---|---|---|--:|--:|---|--:|--:|--:|--:|--:|")
    for change in CHANGES:
        row = rows[change.name, change.severity]
        count = row["files"]
        if not count:
            continue
        low, high = wilson(row["copy"], count)
        shares = " | ".join(f"{row[way] / count:.3f}" for way in ("file", "imagededup", "cleanvision", "hash-6"))
        print(
            f"| {change.group} | {change.name} | {change.severity} | {count} | {row['proposed'] / count:.3f} | "
            f"{row['copy'] / count:.3f} [{low:.3f}, {high:.3f}] | {row['false']} | {shares} |"
        )
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for change in CHANGES:
        groups[change.group].update(rows[change.name, change.severity])
    print("\n| group | files | found | as the same array | same bytes | pHash 10 | pHash 0 | Hash-6 |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for group, row in groups.items():
        names = ("copy", "array", "file", "imagededup", "cleanvision", "hash-6")
        print(
            f"| {group} | {row['files']} | " + " | ".join(f"{row[n] / max(1, row['files']):.4f}" for n in names) + " |"
        )
    _false_pairs(mine, apart, false)
    other_false(mine, slices)
    _hard(mine, found)
    print("\nMissed:", *(missed or ["nothing"]), sep="\n  ")
    print("\nFalse:", *([f"{k.first.id} {k.second.id} {k.verdict}" for k in false[:20]] or ["none"]), sep="\n  ")


def _false_pairs(mine: list[Item], apart: list[Compared], false: list[Compared]) -> None:
    """Print how many pairs of two patients there are, of which kind, and how many are called copies at which level."""
    pairs, originals = strangers(mine), strangers(item for item in mine if item.change is None)
    altered = strangers(item for item in mine if item.change is not None)
    images, patients = {item.original.id for item in mine}, {item.original.patient for item in mine}
    mixed = pairs - originals - altered
    print(
        f"\nPairs of two patients: {pairs:,}, from {len(images)} images of {len(patients)} patients: {originals:,} "
        f"of two originals, {mixed:,} of an original and an altered copy, {altered:,} of two altered copies. Looked "
        f"at: {len(apart):,}. The bounds hold were pairs independent; those of one pair of images are not.\n"
    )
    print("| told as | pairs | false | rate at most, 95 % |")
    print("|---|--:|--:|--:|")
    for level in (Level.SAME_FILE, Level.SAME_ARRAY, Level.SAME_IMAGE):
        count = sum(pair.verdict.level is level for pair in false)
        print(f"| {level.value} | {pairs:,} | {count} | {_bound(count, pairs):.1e} |")
    among = sum(pair.first.change is None and pair.second.change is None for pair in false)
    print(f"| any of these, two originals alone | {originals:,} | {among} | {_bound(among, originals):.1e} |")


def _limits(half: str, compared: list[Compared]) -> None:
    """Print the limits of the code beside those that the rule gives on this half."""
    if half != HALVES[0]:
        return
    print("\n| limit | in code | by the rule | kept ones reach | rejected ones reach | pairs kept, rejected |")
    print("|---|--:|--:|--:|--:|---|")
    for one in limits_by_rule(list(seen_by_rule(compared))):
        told = ["-" if n is None else f"{n:.3f}" for n in (one.kept, one.rejected)]
        rule = "-" if one.by_rule is None else f"{one.by_rule:.2f}"
        counts = f"{one.counts[0]}, {one.counts[1]}"
        print(f"| {one.name} | {one.in_code:.2f} | {rule} | {told[0]} | {told[1]} | {counts} |")


def _bound(false: int, pairs: int) -> float:
    """Return the upper end of the exact 95 % interval of a rate (one-sided; 3/n where nothing was false)."""
    from scipy.stats import beta

    return float(beta.ppf(0.95, false + 1, max(1, pairs - false)))


_HARD = {"acdc": "other phase of the heart", "phantom": "other sequence of a phantom"}


def _hard(mine: list[Item], found: dict[frozenset[str], Compared]) -> None:
    """Print what became of the pairs that are hard to distinguish: originals, and those of one patient with all copies.

    Nobody told the search whose the scans are.
    """
    plain = [item for item in mine if item.change is None]
    print("\n| hard pair | pairs | called copies | related | highest score |")
    print("|---|--:|--:|--:|--:|")
    kinds: dict[str, list[Compared | None]] = defaultdict(list)
    for a, b in itertools.combinations(plain, 2):
        if one_body(a, b) is not False or a.original.kind != b.original.kind:
            continue
        label = f"other patient, {a.original.kind}"
        if a.original.patient == b.original.patient:
            label = _HARD.get(a.original.kind, "one patient")
        kinds[label].append(found.get(frozenset((a.id, b.id))))
    for a, b in itertools.product(plain, mine):
        if b.change is not None and a.original.patient == b.original.patient and one_body(a, b) is False:
            label = f"{_HARD.get(a.original.kind, 'one patient')}, changed ({b.change.group})"
            kinds[label].append(found.get(frozenset((a.id, b.id))))
    for label, compared in sorted(kinds.items()):
        seen = [pair for pair in compared if pair is not None]
        related = sum(pair.verdict.level is Level.RELATED for pair in seen)
        highest = max((pair.verdict.agreement.score for pair in seen), default=0.0)
        print(f"| {label} | {len(compared)} | {sum(k.is_copy for k in seen)} | {related} | {highest:.2f} |")


def _counts(words: list[str]) -> dict[str, int]:
    return {kind: int(count) for kind, count in (one.split("=") for one in words)}


def main() -> None:
    """Make the files, run the pass and the search, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="change every scan, not the first few of each kind")
    parser.add_argument(
        "--each", nargs="*", default=[], metavar="KIND=N", help="patients of a kind in each half that are changed"
    )
    parser.add_argument(
        "--after", nargs="*", default=[], metavar="KIND=N", help="leave the first N of a kind in each half unchanged"
    )
    parser.add_argument(
        "--alone", action="store_true", help="search each scan among its own copies; tells re-exports alone"
    )
    parser.add_argument(
        "--work", type=Path, help="where files are kept for the next call; a temporary folder if absent"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that look (default 1)")
    parser.add_argument("--phantoms", type=int, default=8, help="made-up patients, each as CT and MR (default 8)")
    parser.add_argument("--half", choices=(*HALVES, "both"), default="both", help="which tables to print")
    chosen = parser.parse_args()
    each = {} if chosen.full else {"ct": 3, "hippocampus": 7, "acdc": 2, "lgg": 6, "phantom": 1}
    each |= _counts(chosen.each)
    root = os.environ.get("MEDSSL_DATA")
    begin = processor_seconds()
    with tempfile.TemporaryDirectory() as scratch:
        work = chosen.work or Path(scratch)
        scans = originals(Path(root) if root else None, work, chosen.phantoms)
        wanted = HALVES if chosen.half == "both" else (chosen.half,)
        items = build(scans, work, each, wanted, _counts(chosen.after))
        spent = processor_seconds() - begin
        print(f"{len(items)} files of {len(scans)} scans, seed {SEED}, made in {spent:.0f} s of processor time.")
        for half in wanted:
            mine = [item for item in items if item.half == half]
            begin = processor_seconds()
            make_fingerprints([item.target for item in mine], work / f"prints-{half}")
            index = read_index(work / f"prints-{half}")
            printed = processor_seconds()
            if chosen.alone:
                report_alone(mine, index)
                continue
            compared = search(mine, index, work / f"verdicts-{half}.jsonl", chosen.workers)
            looked = processor_seconds()
            _limits(half, compared)
            report(half, mine, compared, index)
            rest = processor_seconds() - looked
            print(
                f"\nProcessor time of this half: fingerprints {printed - begin:.0f} s, {len(compared)} pairs "
                f"{looked - printed:.0f} s, the other ways and the tables {rest:.0f} s."
            )


if __name__ == "__main__":
    main()
