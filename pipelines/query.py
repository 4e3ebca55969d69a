"""``medssl query``: whether a scan, or a copy of it, is among those of an index already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from medssl.errors import DataError
from medssl.settings import Settings, resolve
from pipelines import console

if TYPE_CHECKING:
    from medssl.reduction.query import Answer

__all__ = ["QuerySettings", "query"]


class QuerySettings(Settings):
    """Settings of ``medssl query``."""

    verb: ClassVar[str] = "query"

    radius: int = Field(
        default=77, ge=0, le=200, description="Differing bits of 511 up to which a stored scan is looked at."
    )
    turned: bool = Field(default=True, description="Look for flipped, swapped and negated copies as well.")
    nearest: int = Field(
        default=3, ge=0, le=100, description="How many to name that come nearest without being copies."
    )


def query(
    scan: str | Path,
    *,
    index: str | Path,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> list[Answer]:
    """Ask one scan, or each of a folder, against stored fingerprints. Nothing is written.

    Args:
        scan: A file, the folder of a DICOM series, or a folder of scans.
        index: The folder of fingerprints that ``medssl reduce`` or ``medssl check-split`` made.
        preset: A preset or a YAML file of settings.
        overrides: ``key=value``; see ``medssl show query``.

    Returns:
        For one scan: its copies first, then related scans, then those that only come nearest. Of a folder: of all its
        scans, one after the other.

    Raises:
        ConfigError: A setting is wrong.
        CacheError: There is no index.
        ManifestError: There is no such scan.
        DataError: None of the scans can be read.
    """
    from medssl.manifest.build import build_manifest
    from medssl.reduction.fingerprint import Failure, fingerprint, read_target, targets_of
    from medssl.reduction.index import read_index
    from medssl.reduction.places import read_places
    from medssl.reduction.query import Stored, ask

    settings = resolve(QuerySettings, preset=preset, overrides=list(overrides)).settings
    places = read_places(index)
    stored = Stored(read_index(index))
    asked = targets_of(list(build_manifest(Path(scan), depth="header", workers=1)[0].rows()))
    if not asked:
        raise DataError(f"{scan}: there is no scan that can be read here. Look at it with: medssl index {scan}")
    targets = {name: place.target for name, place in places.items()}
    answers: list[Answer] = []
    table: list[tuple[Any, ...]] = []
    copies = failed = 0
    with console.progress(len(asked), "scans asked") as shown:
        for target in asked:
            one = fingerprint(target)
            shown.advance()
            if isinstance(one, Failure):
                console.warn(f"{target.path}: {one.reason}")
                failed += 1
                continue
            found = ask(
                stored, one, read_target(target), targets, radius=settings.radius, turned=settings.turned,
                nearest=settings.nearest,
            )  # fmt: skip
            answers += found
            copies += any(answer.verdict is not None and answer.verdict.level.is_copy for answer in found)
            table += [_row(target.id, answer, places) for answer in found]
    if failed == len(asked):
        raise DataError(f"{scan}: none of its {failed} scans can be read; the reasons are above.")
    if table:
        columns = ("asked", "level", "stored", "score", "hash", "patient", "split", "turned")
        console.table(f"Against {len(stored.index)} scans", columns, table, key="answers")
    told = f"{len(asked) - failed} scans asked, {copies} have" if len(asked) > 1 else "the scan has"
    console.say(f"{told} {'a copy' if copies else 'no copy'} among the {len(stored.index)} of {index}")
    console.done(None, copies=copies, asked=len(asked), failed=failed, indexed=len(stored.index))
    return answers


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
