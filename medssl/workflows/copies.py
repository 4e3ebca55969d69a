"""What ``reduce`` and ``check-split`` share: fingerprints of a manifest's scans, and pairs that repeat each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from medssl.pool import default_workers
from medssl.workflows import events
from medssl.workflows.file_limits import FileLimits
from medssl.workflows.intake import Print
from medssl.workflows.intake import clouds as cloud_intake

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest
    from medssl.reduction.duplicates import Found
    from medssl.reduction.fingerprint import Target
    from medssl.reduction.index import Index
    from medssl.reporting.scan_figures import CloudLook

__all__ = [
    "CopySettings",
    "cloud_look",
    "counted",
    "find",
    "find_all",
    "fingerprints",
    "index_folder",
    "say_pairs",
    "say_plan",
]

_SHOWN = 8
_PLANE_BITS, _BITS = 63, 511


class CopySettings(FileLimits):
    """How copies are searched for."""

    radius: int = Field(
        default=77, ge=0, le=200, description="Differing bits of 511 up to which a pair of scans is looked at."
    )
    turned: bool = Field(default=True, description="Look for flipped, swapped and negated copies as well.")
    workers: int = Field(default=0, ge=0, description="Processes; 0 takes one a processor that is allowed, at most 8.")
    engine: Literal["processes", "ray"] = Field(
        default="processes",
        description="Where they run: on this machine, or as tasks of Ray (the cluster of RAY_ADDRESS, or a local one).",
    )

    @property
    def hands(self) -> int:
        """How many jobs run at a time."""
        return self.workers if self.workers or self.engine == "ray" else default_workers()


def index_folder(manifest: Manifest, file: Path, asked: str | Path | None) -> Path:
    """Return the folder of fingerprints: the asked one, the one a reduced manifest names, or NAME.prints beside it."""
    if asked is not None:
        return Path(asked)
    named = manifest.settings.get("prints")
    if named and Path(named).is_dir():
        return Path(named)
    return file.with_name(f"{file.stem}.prints")


def say_plan(targets: Sequence[Target], folder: Path) -> dict[str, Any]:
    """Say what is to be read, and return the figures of it."""
    from medssl.reduction.index import known_fingerprints

    if not targets:
        return {}
    known = known_fingerprints(targets, folder)
    todo = [target for target in targets if target.id not in known]
    size = 0
    for target in todo:
        for file in target.files:
            size += file.stat().st_size if file.is_file() else 0
    there = len(targets) - len(todo)
    said = f"{len(targets)} scans: {there} have fingerprints in {folder}, {len(todo)} have to be read"
    events.message(f"{said} ({size / 1e9:.3g} GB)" if todo else said)
    return {"scans": len(targets), "to_read": len(todo), "bytes_to_read": size}


def say_pairs(
    rows: Sequence[Mapping[str, Any]], targets: Sequence[Target], folder: Path, settings: CopySettings
) -> dict[str, Any]:
    """Say how many pairs are to be looked at and about how long that takes, where all scans have fingerprints.

    Returns:
        The same as figures; none where it is not known yet.
    """
    from medssl.reduction.candidates import LIMITS, propose
    from medssl.reduction.compare_pairs import JOURNAL, processor_seconds, unseen
    from medssl.reduction.duplicates import pairs_of
    from medssl.reduction.index import Index, known_fingerprints, read_index

    wanted = {target.id for target in targets}
    if not targets or len(known_fingerprints(targets, folder, table_only=True)) < len(wanted):
        events.message(
            "the number of pairs to compare is known once all scans have fingerprints; each scan is in at most about "
            f"{LIMITS.doubtful} doubtful and {LIMITS.likely} likely pairs"
        )
        return {}
    index = Index(tuple(one for one in read_index(folder).fingerprints if one.id in wanted))
    proposals = propose(index, radius=settings.radius, turned=settings.turned)
    patients = {row["id"]: row["patient"] for row in rows}
    pairs = pairs_of(index, proposals.pairs, {target.id: target for target in targets}, patients)
    todo = unseen(pairs, folder / JOURNAL)
    seconds = processor_seconds(todo)
    events.message(
        f"{len(pairs)} pairs may be copies, {len(todo)} of them have to be compared: about {seconds:.0f} s of "
        f"processor time, estimated from {min(3, len(todo))} pairs"
    )
    if proposals.crowded:
        events.message(f"{proposals.crowded} more would not be compared, because both scans have likelier pairs")
    return {
        "pairs": len(pairs),
        "to_look_at": len(todo),
        "crowded": proposals.crowded,
        "processor_s": round(seconds, 1),
    }


def fingerprints(
    rows: Sequence[Mapping[str, Any]],
    targets: Sequence[Target],
    folder: Path,
    settings: CopySettings,
    shard: tuple[int, int] = (0, 1),
    *,
    figures: dict[str, Any],
    manifest: Manifest | None = None,
) -> Index | None:
    """Make the fingerprints that are missing, and return all of the targets; None while other shards make theirs.

    How many were read goes to ``figures``.
    """
    from medssl.manifest.pointer import pointer_to
    from medssl.reduction.index import Index, known_fingerprints, make_fingerprints, read_index
    from medssl.reduction.places import same_places, write_places

    if not targets:
        return Index(())
    pointer = pointer_to(manifest, folder) if manifest else ""
    wanted = {target.id for target in targets}
    # A table of more scans than these, all of them up to date, stays as it is.
    if shard == (0, 1) and len(known_fingerprints(targets, folder, table_only=True)) == len(targets):
        index = read_index(folder)
        if {one.id for one in index.fingerprints} <= wanted and not same_places(targets, folder, manifest=pointer):
            write_places(rows, targets, folder, manifest=pointer)
    else:
        with settings.limits(), events.progress(None, "scans read") as shown:

            def show(done: int, total: int) -> None:
                shown.total = total
                shown.reach(done)

            made = make_fingerprints(
                targets, folder, workers=settings.hands, engine=settings.engine, shard=shard, progress=show
            )
        events.message(f"{made.read} scans were read, {made.reused} already had fingerprints")
        figures |= {"read": made.read, "reused": made.reused}
        if made.table is None:
            events.message(f"{made.waiting} scans are left to other shards; the shard that ends last continues")
            return None
        write_places(rows, targets, folder, manifest=pointer)
        index = read_index(folder)
    return Index(
        tuple(one for one in index.fingerprints if one.id in wanted),
        tuple(one for one in index.failures if one.id in wanted),
    )


def find_all(
    index: Index,
    rows: Sequence[Mapping[str, Any]],
    targets: Sequence[Target],
    folder: Path,
    settings: CopySettings,
    worth: Mapping[str, float] | None = None,
    *,
    look: bool = True,
    manifest: Manifest | None = None,
) -> tuple[Found, list[Print]]:
    """Look at every pair of volumes and every pair of clouds; return the prints of the clouds as well.

    With ``look=False`` no pair of volumes is looked at, for where nothing would be done with copies: it takes minutes.
    """
    from medssl.manifest.pointer import pointer_to
    from medssl.reduction.duplicates import Found, groups_of, together
    from medssl.reduction.fingerprint import Target
    from medssl.reduction.index import Index
    from medssl.reduction.places import CLOUD_PLACES, same_places, write_places

    pictures = {row["id"] for row in rows if row["format"] == "image"}
    volumes, flat = (
        Index(
            tuple(one for one in index.fingerprints if (one.id in pictures) is wanted),
            tuple(one for one in index.failures if (one.id in pictures) is wanted),
        )
        for wanted in (False, True)
    )
    if not look:
        found = Found((), groups_of(index, (), worth=worth), {one.id: one.reason for one in index.failures}, 1.0)
    else:
        found = find(volumes, rows, targets, folder, settings, worth)
    if look and len(flat):  # of the 511 frequencies of a picture all but 63 are nothing
        near = settings.model_copy(update={"radius": settings.radius * _PLANE_BITS // _BITS})
        found = together(found, find(flat, rows, targets, folder, near, worth))
    clouds = [row for row in rows if row["kind"] == "cloud"]
    if not clouds:
        return found, []
    with settings.limits(), events.progress(len(clouds), "clouds read") as shown:
        prints, failed = cloud_intake().prints(
            clouds,
            folder,
            workers=settings.hands,
            engine=settings.engine,
            progress=lambda done, _: shown.reach(done),
        )
    # As with scans, a list of more clouds than these stays as it is.
    pointer = pointer_to(manifest, folder) if manifest else ""
    held = [Target(id=row["id"], path=row["path"]) for row in clouds]
    if not same_places(held, folder, CLOUD_PLACES, manifest=pointer):
        write_places(rows, held, folder, CLOUD_PLACES, manifest=pointer)
    with settings.limits(), events.progress(None, "pairs of clouds looked at") as shown:
        pairs = cloud_intake().copies(
            prints,
            clouds,
            radius=settings.radius,
            worth=worth,
            progress=lambda done, _: shown.reach(done),
        )
    failed |= pairs.failures
    if pairs.crowded:
        events.message(
            f"{pairs.crowded} pairs of clouds were not compared: each cloud is compared with its nearest ones"
        )
    for name, reason in list(failed.items())[:_SHOWN]:
        events.warning(f"{name}: {reason}")
    return together(found, replace(pairs, failures=failed)), prints


def cloud_look() -> CloudLook:
    """Return how a page draws and judges clouds."""
    from medssl.reporting.scan_figures import CloudLook

    return CloudLook(cloud_intake().draw, cloud_intake().same_from)


def counted(found: Found) -> dict[str, int]:
    """Return as figures how many pairs were looked at, how many are unlike, and how many were not looked at."""
    return {"looked_at": len(found.matches), "unlike": found.unlike, "crowded": found.crowded}


def find(
    index: Index,
    rows: Sequence[Mapping[str, Any]],
    targets: Sequence[Target],
    folder: Path,
    settings: CopySettings,
    worth: Mapping[str, float] | None = None,
) -> Found:
    """Look at every pair that may be copies, and say how many of what level there are."""
    from medssl.reduction.candidates import LIMITS
    from medssl.reduction.compare_pairs import JOURNAL
    from medssl.reduction.duplicates import find_copies, kernels_of

    with settings.limits(), events.progress(None, "pairs looked at") as shown:

        def show(done: int, total: int) -> None:
            shown.total = total
            shown.reach(done)

        found = find_copies(
            index,
            {target.id: target for target in targets},
            radius=settings.radius,
            turned=settings.turned,
            patients={row["id"]: row["patient"] for row in rows},
            channels={row["id"]: row["channel"] for row in rows},
            kernels=kernels_of(rows),
            worth=worth,
            journal=folder / JOURNAL,
            workers=settings.hands,
            engine=settings.engine,
            progress=show,
        )
    if found.crowded:
        events.message(
            f"{found.crowded} pairs that may be copies were not compared: each scan is compared in its "
            f"{LIMITS.doubtful} likeliest doubtful pairs, {LIMITS.alone} pairs with too few points to decide, and "
            f"{LIMITS.likely} others"
        )
    for name, reason in list(found.failures.items())[:_SHOWN]:
        events.warning(f"{name}: {reason}")
    if len(found.failures) > _SHOWN:
        events.warning(f"... and {len(found.failures) - _SHOWN} more that cannot be read")
    return found
