"""Looking at candidate pairs in processes, each verdict kept in a file: a run that was killed looks at none twice."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from medssl.errors import DiskError, MedSSLError
from medssl.pool import Engine, run_jobs
from medssl.reduction import fingerprint, verify
from medssl.reduction.agreement import Agreement
from medssl.reduction.decoded import Decoded
from medssl.reduction.fingerprint import Fingerprint, Target
from medssl.reduction.hashes import Variant
from medssl.reduction.verify import Level, Verdict

__all__ = ["JOURNAL", "Pair", "compare_pairs", "processor_seconds", "unseen"]

JOURNAL = "verdicts.jsonl"
_TOGETHER = 8  # pairs that share their first scan and a worker, and that a kill may cost
# What a stored verdict was judged by; one that was judged by something else is judged again.
_LIMITS = (verify.SAME_IMAGE, verify.SAME_VALUES, verify.EXPLAINED, verify.UNEVEN, verify.EQUAL)
_OTHERS = (verify.EVIDENCE, verify.SHARED, verify.BEYOND, verify.RELATED, verify.RELATED_STRANGERS)
_RULES = "/".join(map(str, (fingerprint.VERSION, *_LIMITS, *_OTHERS)))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two scans to look at. Plain values only, so that it travels to a worker process.

    Attributes:
        first: Fingerprint of the first.
        second: Fingerprint of the second.
        targets: Where the two scans lie.
        variant: How the second's axes are to be turned first.
        same_patient: Whether the manifest says so.
    """

    first: Fingerprint
    second: Fingerprint
    targets: tuple[Target, Target]
    variant: Variant
    same_patient: bool

    @property
    def needs_voxels(self) -> bool:
        """Whether the hashes of file and contents do not decide alone."""
        return self.first.file_hash != self.second.file_hash and self.first.content_hash != self.second.content_hash

    @property
    def key(self) -> str:
        """A name of what is judged and by which rules; the same for the same files."""
        turn = "".join(map(str, (*self.variant.order, *map(int, self.variant.flips), int(self.variant.negated))))
        files = f"{self.first.file_hash[:24]}:{self.second.file_hash[:24]}"
        return f"{files}:{turn}:{int(self.same_patient)}:{_RULES}"


_decoded = Decoded(lambda target: fingerprint.read_target(target))


def compare_pairs(
    pairs: Sequence[Pair],
    *,
    journal: Path | None = None,
    workers: int = 1,
    engine: Engine = "processes",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Verdict], dict[str, str]]:
    """Return a verdict for each pair, and id -> reason for scans that could not be read any more.

    Pairs go in the order of the groups that they make, and each worker keeps the scans that it read last, up to
    `decoded.MOST_BYTES`: so it reads a scan about once. A pair of which one scan cannot be read is judged by
    its fingerprints alone.

    Args:
        pairs: What to look at.
        journal: File of verdicts, added to as they come; None keeps none.
        workers: Processes that read.
        engine: Where they run, see `medssl.pool.run_jobs`.
        progress: Called with (pairs done, pairs in all).

    Raises:
        DiskError: The journal cannot be written to.
    """
    known = _read(journal)
    verdicts: dict[int, Verdict] = {}
    jobs: dict[int, list[int]] = {}
    by_first: dict[str, int] = {}
    for place in _group_by_group(pairs):
        pair = pairs[place]
        if not pair.needs_voxels:
            verdicts[place] = verify.verify(pair.first, pair.second)
        elif pair.key in known:
            verdicts[place] = known[pair.key]
        else:
            job = by_first.setdefault(pair.first.id, place)
            if len(jobs.get(job, ())) >= _TOGETHER:
                job = by_first[pair.first.id] = place
            jobs.setdefault(job, []).append(place)
    failures: dict[str, str] = {}
    if progress:
        progress(len(verdicts), len(pairs))
    work = {number: (tuple(pairs[place] for place in places),) for number, places in jobs.items()}
    try:
        if journal is not None and work:
            journal.parent.mkdir(parents=True, exist_ok=True)
        for number, (seen, failed) in run_jobs(_compare, work, workers=workers, crashed=_crashed, engine=engine):
            failures |= failed
            verdicts |= dict(zip(jobs[number], seen, strict=True))
            if journal is not None:
                _append(journal, [(pairs[p], v) for p, v in zip(jobs[number], seen, strict=True)], failed)
            if progress:
                progress(len(verdicts), len(pairs))
    except OSError as error:
        raise DiskError.of(journal or "journal", error) from error
    finally:
        _decoded.forget()  # where no worker but this very process has read
    return [verdicts[place] for place in range(len(pairs))], failures


def unseen(pairs: Sequence[Pair], journal: Path | None) -> list[Pair]:
    """Return the pairs that `compare_pairs` would read scans for."""
    known = _read(journal)
    return [pair for pair in pairs if pair.needs_voxels and pair.key not in known]


def processor_seconds(pairs: Sequence[Pair], timed: int = 3) -> float:
    """Return about how long a processor looks at pairs, from a few of them that are looked at here and now.

    They are the middle ones of as many equal parts of the pairs in the order of their voxels.
    """
    if not pairs:
        return 0.0
    order = np.argsort([sum(math.prod(one.shape) for one in (p.first, p.second)) for p in pairs], kind="stable")
    chosen = np.unique(order[((np.arange(timed) + 0.5) * len(pairs) / timed).astype(int)]).tolist()
    jobs = {place: ((pairs[place],),) for place in chosen}
    spent: list[float] = [seconds for _, seconds in run_jobs(_timed, jobs, workers=1, crashed=lambda job, why: 0.0)]
    return sum(spent) / len(spent) * len(pairs)


def _timed(pairs: tuple[Pair, ...]) -> float:
    _compare(pairs)  # the first time, modules are loaded
    _decoded.forget()
    begin = process_time()
    _compare(pairs)
    return process_time() - begin


def _group_by_group(pairs: Sequence[Pair]) -> list[int]:
    """Return the places of the pairs so that those whose scans hang together follow each other."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number: dict[str, int] = {}
    ends = np.array([[number.setdefault(one.id, len(number)) for one in (p.first, p.second)] for p in pairs])
    if not len(pairs):
        return []
    links = coo_array((np.ones(len(pairs)), (ends[:, 0], ends[:, 1])), shape=(len(number),) * 2)
    group = connected_components(links, directed=False)[1]
    order: list[int] = np.argsort(group[ends[:, 0]], kind="stable").tolist()
    return order


def _compare(pairs: tuple[Pair, ...]) -> tuple[list[Verdict], dict[str, str]]:
    """Judge pairs that share their first scan."""
    failures: dict[str, str] = {}
    first = _scan(pairs[0].targets[0], failures)
    verdicts = []
    for pair in pairs:
        second = _scan(pair.targets[1], failures) if first is not None else None
        scans = (first, second) if first is not None and second is not None else None
        verdicts.append(
            verify.verify(pair.first, pair.second, scans, variant=pair.variant, same_patient=pair.same_patient)
        )
    return verdicts, failures


def _scan(target: Target, failures: dict[str, str]) -> Any:
    try:
        return _decoded(target)
    except (MedSSLError, OSError) as error:
        failures[target.id] = str(error)
        return None


def _crashed(job: tuple[Any, ...], why: str) -> tuple[list[Verdict], dict[str, str]]:
    pairs: tuple[Pair, ...] = job[0]
    blind = [verify.verify(p.first, p.second, variant=p.variant, same_patient=p.same_patient) for p in pairs]
    return blind, {pairs[0].first.id: why}


def _append(journal: Path, judged: Sequence[tuple[Pair, Verdict]], failed: dict[str, str]) -> None:
    lines = [
        # A line that a killed run left unfinished ends here and is skipped when read.
        b"\n" + json.dumps({"key": pair.key, **dataclasses.asdict(verdict)}).encode() + b"\n"
        for pair, verdict in judged
        if pair.first.id not in failed and pair.second.id not in failed
    ]
    with journal.open("ab") as file:
        file.write(b"".join(lines))


def _read(journal: Path | None) -> dict[str, Verdict]:
    if journal is None or not journal.is_file():
        return {}
    return dict(_lines(journal))


def _lines(journal: Path) -> Iterator[tuple[str, Verdict]]:
    with journal.open("rb") as lines:
        for line in lines:
            try:
                row = json.loads(line)
                seen, turn = row["agreement"], row["variant"]
                agreement = Agreement(**{**seen, "shift_mm": tuple(seen["shift_mm"])})
                variant = Variant(tuple(turn["order"]), tuple(turn["flips"]), turn["negated"])
                yield row["key"], Verdict(level=Level(row["level"]), agreement=agreement, variant=variant)
            except (ValueError, KeyError, TypeError):
                continue  # empty, or cut short when its writer was killed
