"""``medssl query``: whether a scan or a cloud, or a copy of it, is among those of an index already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from medssl.errors import DataError
from medssl.quoting import quoted
from medssl.settings import resolve
from medssl.workflows import events
from medssl.workflows.file_limits import FileLimits
from medssl.workflows.intake import Asked as AskedClouds
from medssl.workflows.intake import clouds as cloud_intake
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places

if TYPE_CHECKING:
    from medssl.reduction.fingerprint import Target
    from medssl.reduction.places import Place
    from medssl.reduction.query import Answer, Stored

__all__ = ["Asked", "QuerySettings", "query"]


class QuerySettings(FileLimits):
    """Settings of ``medssl query``."""

    verb: ClassVar[str] = "query"

    radius: int = Field(
        default=77, ge=0, le=200, description="Differing bits of 511 up to which a stored scan is looked at."
    )
    turned: bool = Field(default=True, description="Look for flipped, swapped and negated copies as well.")
    nearest: int = Field(
        default=3, ge=0, le=100, description="How many to name that come nearest without being copies."
    )


@dataclass(frozen=True)
class Asked(Result):
    """What ``query`` came to.

    Attributes:
        answers: For one scan: its copies first, then related scans, then those that only come nearest. Of a folder: of
            all its scans, one after the other.
    """

    answers: list[Answer]


@takes_places
def query(
    scan: str | Path,
    *,
    index: str | Path,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> Asked:
    """Compare one scan or cloud, or each of a folder, with stored fingerprints. Nothing is written.

    Args:
        scan: A file, the folder of a DICOM series, or a folder of scans or clouds.
        index: The folder of fingerprints that ``medssl reduce`` or ``medssl check-split`` made.
        preset: A preset or a YAML file of settings.
        overrides: ``key=value``; see ``medssl show query``.

    Returns:
        The answers.

    Raises:
        ConfigError: A setting is wrong.
        CacheError: There is no index.
        ManifestError: There is no such scan.
        DataError: None of the scans can be read.
    """
    from medssl.manifest.build import build_manifest
    from medssl.reduction.fingerprint import targets_of

    settings = resolve(QuerySettings, preset=preset, overrides=list(overrides)).settings
    stored = _read_index(Path(index))
    with settings.limits():
        held = build_manifest(Path(scan), depth="header", workers=1, clouds=cloud_intake().reader())[0]
    rows = [row for row in held.rows() if row["error"] is None]
    asked: list[Target | dict[str, Any]] = [*targets_of(rows), *(row for row in rows if row["kind"] == "cloud")]
    if not asked:
        raise DataError(f"{scan}: there is no scan that can be read here. Look at it with: medssl index {quoted(scan)}")
    answers: list[Answer] = []
    table: list[tuple[Any, ...]] = []
    copies = failed = 0
    with settings.limits(), events.progress(len(asked), "scans asked") as shown:
        for one in asked:
            name, path = (one["id"], one["path"]) if isinstance(one, dict) else (one.id, one.path)
            wanted: dict[str, Any] = {"radius": settings.radius, "turned": settings.turned, "nearest": settings.nearest}
            found = stored.clouds.ask(one, **wanted) if isinstance(one, dict) else _asked_scan(one, stored, **wanted)
            shown.advance()
            if isinstance(found, str):
                events.warning(f"{path}: {found}")
                failed += 1
                continue
            answers += found
            copies += any(answer.verdict is not None and answer.verdict.level.is_copy for answer in found)
            table += [_row(name, answer, stored.places) for answer in found]
    if failed == len(asked):
        raise DataError(f"{scan}: none of its {failed} scans can be read; the reasons are above.")
    if table:
        columns = ("asked", "level", "stored", "score", "hash", "patient", "split", "turned")
        noun = "clouds" if stored.scans is None else "scans"
        events.table(f"Against {len(stored.places)} {noun}", columns, table, key="answers")
    told = f"{len(asked) - failed} asked, {copies} have" if len(asked) > 1 else f"{Path(scan).name} has"
    events.message(f"{told} {'a copy' if copies else 'no copy'} among the {len(stored.places)} of {index}")
    figures = {"copies": copies, "asked": len(asked), "failed": failed, "indexed": len(stored.places)}
    return events.written(Asked(answers, figures=figures))


@dataclass(frozen=True)
class _Index:
    """What a folder of fingerprints holds.

    Attributes:
        places: id -> where a scan or a cloud lies.
        scans: The scans' fingerprints, to be asked; None where there are none.
        clouds: The clouds' prints, to be asked.
        targets: id -> the files of a scan or cloud.
    """

    places: dict[str, Place]
    scans: Stored | None
    clouds: AskedClouds
    targets: dict[str, Target]


def _read_index(folder: Path) -> _Index:
    from medssl.reduction.index import read_index
    from medssl.reduction.places import CLOUD_PLACES, PLACES, read_places
    from medssl.reduction.query import Stored

    of_clouds = read_places(folder, CLOUD_PLACES)
    if of_clouds and not (folder / PLACES).is_file():
        places, scans = {}, None
    else:
        places, scans = read_places(folder), Stored(read_index(folder))
    clouds = cloud_intake().asked(folder, of_clouds)
    places = {**places, **of_clouds}
    return _Index(places, scans, clouds, {name: place.target for name, place in places.items()})


def _asked_scan(target: Target, stored: _Index, *, radius: int, turned: bool, nearest: int) -> list[Answer] | str:
    """Return the answers for a scan, or why it cannot be read."""
    from medssl.pool import isolated
    from medssl.reduction.fingerprint import Failure, fingerprint, read_target
    from medssl.reduction.query import ask

    one = isolated(fingerprint, target)
    if isinstance(one, Failure):
        return one.reason
    if stored.scans is None:
        return []
    return ask(
        stored.scans,
        one,
        isolated(read_target, target),
        stored.targets,
        radius=radius,
        turned=turned,
        nearest=nearest,
    )


def _row(name: str, answer: Answer, places: dict[str, Any]) -> tuple[Any, ...]:
    place = places.get(answer.id)
    seen = answer.verdict
    turn = "" if seen is None or seen.variant.name() == "zyx" else seen.variant.name()
    return (
        name,
        "not looked at" if seen is None else seen.level.value,
        answer.id,
        "" if seen is None else f"{seen.agreement.score:.3f}",
        f"{answer.distance:.3f}",
        place.patient if place else "",
        place.split if place else "",
        turn,
    )
