"""``medssl check-split``: whether train and test share a patient or an image; exit 1 where they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from medssl.command import Command
from medssl.errors import DataError
from medssl.settings import resolve
from medssl.workflows import copies, events
from medssl.workflows.check_mending import reduce_command
from medssl.workflows.copies import CopySettings
from medssl.workflows.page_files import page_files
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest
    from medssl.reduction.leaks import Leak

__all__ = ["CheckSplitSettings", "SplitResult", "check_split"]

_SHOWN = 20
_PAGE = "check-split.html"


class CheckSplitSettings(CopySettings):
    """Settings of ``medssl check-split``."""

    verb: ClassVar[str] = "check-split"

    pictures: int = Field(default=20, ge=0, le=200, description="How many pairs to show on the page.")


@dataclass(frozen=True)
class SplitResult(Result):
    """What lies on both sides of a split.

    Attributes:
        leaks: Every pair.
        unread: id -> why a scan could not be compared.
        doubts: What makes it doubtful whose scans are: (severity, kind, what, what to do).
    """

    leaks: tuple[Leak, ...]
    unread: dict[str, str]
    doubts: tuple[tuple[str, str, str, str], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is no pair, and no label map that several patients share."""
        return not self.leaks and not any(severity == "error" for severity, *_ in self.doubts)


@takes_places
def check_split(
    manifest: str | Path | Manifest,
    *,
    test: str | Path | Manifest | None = None,
    out: str | Path | None = None,
    index: str | Path | None = None,
    workers: int | None = None,
    jobs: int | None = None,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
) -> SplitResult:
    """Find patients and images that are on both sides of a split. If called again, it reads no scan twice.

    Args:
        manifest: A manifest with splits, or its file. After ``reduce``, only the kept scans are checked.
        test: A second manifest: its scans count as test scans, and those of ``manifest`` as training scans.
        out: The page; a .json of the same name is written beside it. By default ``check-split.html`` beside the
            manifest.
        index: Folder of fingerprints. Default: the one that ``reduce`` used, or NAME.prints beside the manifest.
        workers: Processes.
        jobs: The old name of ``workers``.
        preset: A preset or a YAML file of settings.
        overrides: ``key=value``; see ``medssl show check-split``.
        dry_run: Only say what would be read.

    Returns:
        The pairs. ``result.ok`` is false if there is one; the command line then exits with 1.

    Raises:
        ConfigError: A setting is wrong, or ``out`` cannot be written.
        ManifestError: A manifest cannot be read.
        DataError: There are not two sides to compare.
        CacheError: The folder of fingerprints cannot be written to.
    """
    from medssl.manifest.check_patients import patients_together
    from medssl.manifest.schema import Manifest, read_manifest
    from medssl.reduction.fingerprint import targets_of
    from medssl.reduction.leaks import leaks_of
    from medssl.reporting.split_page import split_page

    settings = resolve(
        CheckSplitSettings,
        preset=preset,
        overrides=list(overrides),
        command_line={"workers": jobs if workers is None else workers},
    ).settings
    file = Path("manifest.parquet") if isinstance(manifest, Manifest) else Path(manifest)
    files = page_files(file, out, _PAGE)
    source = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
    if test is not None:
        source = _joined(source, test if isinstance(test, Manifest) else read_manifest(test))
    rows = [row for row in source.usable().rows() if row["split"]]
    sides = {name: sum(row["split"] == name for row in rows) for name in ("train", "val", "test")}
    if sum(count > 0 for count in sides.values()) < 2:
        raise DataError(
            f"{file}: there is nothing to compare: {sides['train']} scans are in train, {sides['val']} in val and "
            f"{sides['test']} in test. Draw a split with medssl index, or name the other side with --test."
        )
    events.message(", ".join(f"{name} {count}" for name, count in sides.items()))
    targets = targets_of(rows)
    folder = copies.index_folder(source, file if test is None else file.with_name(f"{file.stem}-and-test"), index)
    figures = copies.say_plan(targets, folder)
    if dry_run:
        figures |= copies.say_pairs(rows, targets, folder, settings)
        return events.written(SplitResult((), {}, next=Command("check-split", file), figures=figures))
    prints = copies.fingerprints(rows, targets, folder, settings, figures=figures, manifest=source)
    assert prints is not None, "nothing is left to other shards"
    found, _ = copies.find_all(prints, rows, targets, folder, settings, manifest=source)
    leaks = leaks_of(rows, found)
    doubts = tuple(patients_together([row for row in rows if row["kind"] == "volume"], source.root))
    result = SplitResult(tuple(leaks), dict(found.failures), doubts)
    if leaks:
        told = [
            (*one.splits, one.first, one.second, one.level, "" if one.score is None else f"{one.score:.3f}")
            for one in leaks
        ]
        events.table("On both sides", ("one side", "other side", "scan", "is in", "as", "score"), told[:_SHOWN])
        if len(leaks) > _SHOWN:
            events.message(f"... and {len(leaks) - _SHOWN} more pairs; the page lists all")
    guessed = any(kind == "patient-guessed" for _, kind, *_ in doubts)
    as_far = ", as far as the names of files distinguish patients" if guessed else ""
    events.message(
        f"{len(leaks)} pairs lie on both sides" if leaks else f"no patient and no image is on both sides{as_far}"
    )
    names = source.nameless()
    for severity, _, what, todo in names.value(doubts) if source.pseudonymous else doubts:
        if severity == "error":
            events.warning(f"an error: {what}. {todo}")
        elif severity == "warning":
            events.warning(f"{what}. {todo}")
        else:
            events.message(f"{what}. {todo}")
    html = split_page(
        rows, leaks, found, name=file.name, sides=sides, pictures=settings.pictures, clouds=copies.cloud_look()
    )
    listed = {
        "ok": result.ok,
        "sides": sides,
        "pairs": [one.to_dict() for one in leaks],
        "unread": result.unread,
        "doubts": [
            dict(zip(("severity", "kind", "what", "todo"), names.value(doubt), strict=True)) for doubt in doubts
        ],
        "search_recall": found.recall,
    }
    written = files.write(html, listed)
    following = Command("cache", file, "--out", f"stores/{file.stem}")
    if leaks:  # two manifests are mended by hand
        following = reduce_command(file) if test is None else Command()
    figures |= copies.counted(found) | {"ok": result.ok, "pairs": listed["pairs"], "sides": sides}
    return events.written(replace(result, written=written, next=following, figures=figures))


def _joined(train: Manifest, test: Manifest) -> Manifest:
    """Return both manifests in one, split by where each row came from; ids that both have get their side's name."""
    import polars as pl

    both = set(train.frame["id"]) & set(test.frame["id"])

    def side(manifest: Manifest, name: str) -> pl.DataFrame:
        ids = [f"{one} ({name})" if one in both else one for one in manifest.frame["id"].to_list()]
        return manifest.frame.with_columns(id=pl.Series(ids), split=pl.lit(name))

    frame = pl.concat([side(train, "train"), side(test, "test")])
    kept = {name: train.settings[name] for name in ("privacy",) if name in train.settings}
    return replace(train, frame=frame, settings=kept, file="")
