"""Train, validation and test splits by patient: a pure function of the patients, the shares and the seed."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

from medssl.errors import ConfigError

__all__ = ["split_patients"]


def split_patients(
    patients: Iterable[str],
    *,
    val: float,
    test: float,
    seed: int = 0,
    fixed: Mapping[str, str] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Give every patient a split.

    Patients are ordered by a hash of (seed, key), so neither their order nor their number of scans matters. The first
    go to the test set, the next to validation, the rest to training, each share rounded to whole patients. A patient
    that has a split already keeps it and counts towards its share, so that a cohort can grow without a test patient
    ever turning into a training patient. Where patients are of several kinds, each kind has its share of every split,
    as nearly as whole patients allow.

    Args:
        patients: Patient keys; repeats are ignored.
        val: Share of patients for validation, in [0, 1).
        test: Share of patients for testing, in [0, 1).
        seed: Any integer.
        fixed: Patient -> split, of those that have one.
        kinds: Patient -> class, of those that have one.

    Raises:
        ConfigError: The shares are out of range, or leave nothing to train on.

    Example:
        >>> sorted(split_patients("abcdefghij", val=0.1, test=0.2).values()).count("train")
        7
    """
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise ConfigError(
            f"The shares of the split must be in [0, 1) and sum to less than 1. Got val {val} and test {test}."
        )
    known = {patient: split for patient, split in (fixed or {}).items() if split}
    everyone = sorted(set(patients))
    result = {patient: known[patient] for patient in everyone if patient in known}
    free = _in_turn((p for p in everyone if p not in known), kinds or {}, seed)
    taken = list(result.values())
    for name, share in (("test", test), ("val", val)):
        # Half a patient rounds up: a share that was asked for is not silently empty in a small cohort.
        wanted = int(len(everyone) * share + 0.5) - taken.count(name)
        count = min(max(0, wanted), max(0, len(free) - 1))
        result |= dict.fromkeys(free[:count], name)
        free = free[count:]
    return result | dict.fromkeys(free, "train")


def _in_turn(patients: Iterable[str], kinds: Mapping[str, str], seed: int) -> list[str]:
    """Return patients by their hashes, those of each kind spread evenly over the whole."""
    by_kind: defaultdict[str, list[str]] = defaultdict(list)
    for patient in sorted(patients, key=lambda p: (_rank(p, seed), p)):
        by_kind[kinds.get(patient, "")].append(patient)
    placed = []
    for kind, own in by_kind.items():
        start = _rank(f"\0{kind}", seed)[0] / 256
        placed += [((place + start) / len(own), _rank(patient, seed), patient) for place, patient in enumerate(own)]
    return [patient for *_, patient in sorted(placed)]


def _rank(patient: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{patient}".encode()).digest()
