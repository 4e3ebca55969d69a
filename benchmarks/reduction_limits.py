"""The rule by which benchmarks/reduction_recall.py sets the limits of `medssl.reduction.verify`, on one half alone.

Of each number, what is to be kept and what is to be rejected are named beforehand. K is what the wanted share of the
kept ones reaches, R the most that a rejected one reaches (of phases, what all but a twentieth stay below, for some of
them hardly move), and the limit lies halfway, in hundredths. Where R is not
below K there is no room: the limit is then just above R, for a copy that is missed costs less than a wrong one.

| limit | kept, and how many of them | rejected |
|---|---|---|
| `SAME_IMAGE`, score | re-exports, cuts along z and turned copies, 99 % | pairs of two patients |
| `EXPLAINED`, share of the variance | the same, where it is known, 99 % | pairs of two patients that score `RELATED` |
| `UNEVEN`, a most and not a least | the same, 99 % | the two phases of one heart, one of them exported again or not |
| `RELATED_STRANGERS`, score | the two phases of one heart, both as they came, 95 % | pairs of two patients |

Copies that are a function of the other's numbers (`SAME_VALUES`) are judged by that, and are left out of the kept ones.
Four limits are not set here: `SAME_VALUES`, for no rejected pair comes near it, `EVIDENCE` and `EQUAL`, which follow
from what chance gives (`benchmarks/reduction_strangers.py`), and `RELATED`, for it is asked of scans of one patient
alone, where being wrong moves none to another split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from medssl.reduction import verify

__all__ = ["Limit", "Seen", "halfway", "limits_by_rule"]

COPIES, PHASES = 0.99, 0.95


@dataclass(frozen=True)
class Seen:
    """A pair that was looked at.

    Attributes:
        is_what: "copy" of a kind that is to be found, "phase" of the same heart, "phase, exported again",
            or "stranger".
        score: Correlation of the detail.
        explained: Share of the variance that the other's intensities explain; None where voxels lie apart.
        function: How far one is a function of the other's numbers; None where voxels lie apart.
        unevenness: See `medssl.reduction.agreement.Agreement`.
    """

    is_what: str
    score: float
    explained: float | None
    function: float | None
    unevenness: float


@dataclass(frozen=True)
class Limit:
    """A limit as the code has it and as the rule gives it.

    Attributes:
        name: Name in `medssl.reduction.verify`.
        in_code: What it is there.
        kept: K, what the wanted share of the kept ones reaches; None where there are none.
        rejected: R, the most that a rejected one reaches; None where there are none.
        by_rule: What the rule gives; None where one of the two is missing.
        counts: Kept and rejected pairs.
    """

    name: str
    in_code: float
    kept: float | None
    rejected: float | None
    by_rule: float | None
    counts: tuple[int, int]


def halfway(
    kept: Iterable[float], rejected: Iterable[float], share: float, of_rejected: float = 1.0
) -> tuple[float, float, float]:
    """Return K, R and the limit; all are such that larger means more alike."""
    ordered, against = (np.sort(np.fromiter(many, dtype=np.float64)) for many in (kept, rejected))
    reached = float(ordered[int(np.floor((1 - share) * len(ordered) + 1e-9))])
    most = float(against[int(np.ceil(of_rejected * len(against) - 1e-9)) - 1])
    limit = (reached + most) / 2 if reached > most else most + 0.01
    return reached, most, round(limit, 2)


def limits_by_rule(pairs: Sequence[Seen]) -> list[Limit]:
    """Apply the rule to what was looked at on one half."""
    of = {
        what: [one for one in pairs if one.is_what == what]
        for what in ("copy", "phase", "phase, exported again", "stranger")
    }
    copies = [one for one in of["copy"] if one.function is None or one.function < verify.SAME_VALUES]
    near = [one for one in of["stranger"] if one.score >= verify.RELATED]
    phases = [*of["phase"], *of["phase, exported again"]]
    known = [one.explained for one in copies if one.explained is not None]
    chosen = (
        ("SAME_IMAGE", 1, [one.score for one in copies], [one.score for one in of["stranger"]], COPIES, 1.0),
        ("EXPLAINED", 1, known, [one.explained for one in near if one.explained is not None], COPIES, 1.0),
        ("UNEVEN", -1, [-one.unevenness for one in copies], [-one.unevenness for one in phases], COPIES, PHASES),
        (
            "RELATED_STRANGERS",
            1,
            [one.score for one in of["phase"]],
            [one.score for one in of["stranger"]],
            PHASES,
            1.0,
        ),
    )
    limits = []
    for name, sign, kept, rejected, share, of_rejected in chosen:
        in_code, counts = float(getattr(verify, name)), (len(kept), len(rejected))
        if not kept or not rejected:
            limits.append(Limit(name, in_code, None, None, None, counts))
            continue
        reached, most, limit = (sign * number for number in halfway(kept, rejected, share, of_rejected))
        limits.append(Limit(name, in_code, reached, most, limit, counts))
    return limits
