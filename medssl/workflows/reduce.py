"""``medssl reduce``: which scans of a manifest to train on, and why; nothing is deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.command import Command
from medssl.errors import ConfigError, DataError
from medssl.locking import holds, part_of
from medssl.quoting import quoted
from medssl.settings import resolve
from medssl.workflows import copies, events
from medssl.workflows.intake import Print
from medssl.workflows.reduce_settings import ReduceSettings
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest
    from medssl.reduction.duplicates import Found
    from medssl.reduction.fingerprint import Target
    from medssl.reduction.index import Index
    from medssl.reduction.leaders import Choice
    from medssl.reduction.marks import Mark

__all__ = ["ReduceSettings", "Reduced", "reduce"]

_HASH_RADIUS = 77.0  # differing bits of 511 for whole scans; slices have the 6 of 64 of the paper
_KEPT_SHOWN = 8


@dataclass(frozen=True)
class Reduced(Result):
    """What ``reduce`` came to.

    Attributes:
        manifest: The manifest with its marks; None after a dry run, or while other shards have scans to read.
        found: Every pair that was looked at.
        recall: Kind of change -> (altered copies found, made).
    """

    manifest: Manifest | None
    found: Found | None = None
    recall: Mapping[str, tuple[int, int]] | None = None

    @property
    def kept(self) -> list[str]:
        """Ids of the scans that are kept."""
        return [] if self.manifest is None else self.manifest.usable().frame["id"].to_list()


@takes_places
@holds("medssl reduce", lambda given: part_of(given["out"], given["overrides"], given["shard"]))
def reduce(
    manifest: str | Path | Manifest,
    *,
    out: str | Path = "kept.parquet",
    by: str | None = None,
    keep: str | float | None = None,
    unit: str | None = None,
    index: str | Path | None = None,
    shard: str | None = None,
    workers: int | None = None,
    jobs: int | None = None,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
) -> Reduced:
    """Mark copies, and choose among the remaining scans. If called again, it reads no scan twice.

    Args:
        manifest: A manifest, or its file. A reduced one is reduced further.
        out: The manifest with its marks, .parquet or .csv; beside it go the pairs as CSV and a page.
        by: The strategy.
        keep: How many scans (or slices of each) to keep, or which share.
        unit: "scan", or "slice" or "block" to choose among those of the scans that are kept.
        index: Folder of fingerprints; by default NAME.prints beside the manifest.
        shard: Read the i-th of n parts, such as "2/8".
        workers: Processes.
        jobs: The old name of ``workers``.
        preset: A preset or a YAML file of settings.
        overrides: ``key=value``; see ``medssl show reduce``.
        dry_run: Only say what would be read.

    Returns:
        The marked manifest, the pairs and the recall.

    Raises:
        ConfigError: A setting is wrong.
        ManifestError: The manifest cannot be read, or ``out`` is no path of one.
        DataError: It has no scan that can be read.
        CacheError: The folder of fingerprints cannot be written to.
    """
    from medssl.manifest.file_name import manifest_file
    from medssl.manifest.schema import Manifest, read_manifest, write_manifest
    from medssl.reduction.duplicates import write_pairs
    from medssl.reduction.fingerprint import targets_of
    from medssl.reduction.marks import mark_copies, one_side
    from medssl.reduction.reduced import counts_of, marked
    from medssl.reduction.whole_cases import case_members, followed, followers_of, whole_cases
    from medssl.reduction.worth import keep_priority
    from medssl.reporting.reduction_page import reduction_page
    from medssl.settings import flatten
    from medssl.store.plan import shard_of
    from medssl.workflows.reduce_parts import reduce_parts
    from medssl.writing import atomic_write, file_for

    given = {
        "by": by,
        "unit": unit,
        "keep": None if keep is None else str(keep),
        "shard": shard,
        "workers": jobs if workers is None else workers,
    }
    settings = resolve(ReduceSettings, preset=preset, overrides=list(overrides), command_line=given).settings
    part = shard_of(settings.shard)
    _check(settings)
    out = file_for(manifest_file(out))
    pairs, page = (file_for(out.with_suffix(ending)) for ending in (".pairs.csv", ".html"))
    source = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
    file = Path("manifest.parquet") if isinstance(manifest, Manifest) else Path(manifest)
    rows = list(source.usable().rows())
    targets = targets_of(rows)
    if not rows:
        raise DataError(f"{file}: there is no readable scan in it. Look at it with: medssl check {quoted(file)}")
    folder = copies.index_folder(source, file if not isinstance(manifest, Manifest) else out, index)
    reading = copies.say_plan(targets, folder)
    again = Command("reduce", file, "--out", out)
    if dry_run:
        reading |= copies.say_pairs(rows, targets, folder, settings)
        how_many = f", keeping {settings.keep}" if settings.keep else ""
        plan = "would mark copies" if settings.by == "copies" else f"would choose by {settings.by}{how_many}"
        events.message(plan)
        return events.written(Reduced(None, next=again, figures=reading))
    prints = copies.fingerprints(rows, targets, folder, settings, part, figures=reading, manifest=source)
    if prints is None:
        following = f"{(part[0] + 1) % part[1] + 1}/{part[1]}"
        onwards = Command(*again, "--shard", following)
        return events.written(Reduced(None, written=(folder,), next=onwards, figures=reading))
    with_prints = {*prints.ids, *(one.id for one in prints.failures)}
    scans = [row for row in rows if row["id"] in with_prints or row["kind"] == "cloud"]
    worth = keep_priority(scans, prints.fingerprints, test_first=settings.splits == "leave")
    look = settings.copies or settings.splits == "mend"
    if not look:
        events.message("no pairs are compared, because copies=false and splits=leave ignore copies")
    found, clouds = copies.find_all(prints, scans, targets, folder, settings, worth.values, look=look, manifest=source)
    by_id = {target.id: target for target in targets}
    recall = _planted(prints, found, by_id, folder, settings)
    marks = mark_copies(scans, found, worth, related=settings.related)
    cases = case_members(scans, source.settings.get("channels", ()))
    marks = whole_cases(marks, cases)
    if cases:
        events.message(
            f"{len(cases)} cases of several channels are kept or left out as a whole, by their first channel"
        )
    if not settings.copies:
        marks = _all_kept(marks)
    others = followers_of(cases)
    led = [row for row in scans if row["id"] not in others]
    marks, radius = _chosen(marks, led, prints, source, settings, by_id, folder, clouds)
    marks = followed(marks, cases)
    parts = None
    if settings.unit != "scan":
        # Of a case its first channel chooses, for its channels lie on one grid, and a store cuts them alike.
        whole = [row for row in led if marks[row["id"]].keep and row["id"] in by_id]
        kept = {row["id"]: row["case"] or row["id"] for row in whole}
        thinned = [row["id"] for row in whole if row["split"] in settings.thin]
        parts = reduce_parts(kept, thinned, prints, by_id, folder, out, settings)
    moved = one_side(scans, marks) if settings.splits == "mend" else {}
    result = marked(source, marks, moved, str(folder.absolute()))
    moved = {name: split for name, split in moved.items() if marks[name].keep}  # of the others nobody need be told
    write_manifest(result, out)
    write_pairs(found, pairs)
    counts = counts_of(scans, marks)
    unreadable = {row["id"]: row["error"] for row in source.rows() if row["error"] is not None}
    html = reduction_page(
        rows,
        marks,
        found,
        counts,
        name=file.name,
        strategy=settings.by,
        recall=recall,
        moved=moved,
        settings=flatten(settings),
        unreadable=unreadable,
        radius=radius,
        pictures=settings.pictures,
        clouds=copies.cloud_look(),
    )
    with atomic_write(page) as aside:
        aside.write_text(html, encoding="utf-8")
    _say(counts.kept, rows, counts.levels, marks, moved, found)
    figures = {
        **copies.counted(found),
        **reading,
        "scans": len(rows),
        "kept": counts.kept,
        "left_out": counts.levels,
        "moved": moved,
        "parts": {"unit": settings.unit, "kept": parts.kept, "of": parts.parts} if parts else None,
        "recall": {kind: list(numbers) for kind, numbers in recall.items()},
        "search_recall": found.recall,
    }
    written = (out, *((parts.path,) if parts else ()), pairs, page)
    onwards = Command("cache", out, "--out", f"stores/{out.stem}")
    return events.written(Reduced(result, found, recall, written=written, next=onwards, figures=figures))


def _check(settings: ReduceSettings) -> None:
    from medssl.reduction.strategies import parse_keep

    if settings.keep:
        parse_keep(settings.keep)
    if settings.unit != "scan" and settings.by == "copies":
        raise ConfigError(
            f"unit={settings.unit} needs a strategy, such as --by hash (Hash-6 of 'Less is More'), or --by random "
            "--keep 0.3. See them with: medssl show reduce"
        )
    if settings.by in ("copies", "all") and (settings.keep or settings.near is not None):
        raise ConfigError(
            f"by={settings.by} keeps what it keeps: it takes neither keep nor near. Choose a strategy, such as "
            "--by kcentre; see: medssl show reduce"
        )


def _planted(
    prints: Index, found: Found, targets: Mapping[str, Any], folder: Path, settings: ReduceSettings
) -> dict[str, tuple[int, int]]:
    """Measure recall on altered copies of a few scans, and say it."""
    from medssl.reduction.planted import JOURNAL, planted_copies

    chosen = [(one, targets[one.id]) for one in prints.fingerprints if one.id not in found.failures]
    if not settings.planted or not chosen:
        return {}
    with settings.limits(), events.progress(min(settings.planted, len(chosen)), "scans with planted copies") as shown:
        recall = planted_copies(
            chosen,
            count=settings.planted,
            radius=settings.radius,
            seed=settings.seed,
            journal=folder / JOURNAL,
            workers=settings.hands,
            engine=settings.engine,
            progress=lambda done, _: shown.reach(done),
        )
    hit, made = (sum(numbers[i] for numbers in recall.values()) for i in (0, 1))
    if made:
        missed = [f"{kind} {n} of {m}" for kind, (n, m) in recall.items() if n < m]
        told = f"recall on planted copies: {hit} of {made} found"
        events.message(f"{told}; {', '.join(missed)}" if missed else told)
    if found.recall < 1.0:
        events.message(f"recall of the search for near hashes, on planted codes: {found.recall:.4f}")
    return recall


def _all_kept(marks: Mapping[str, Mark]) -> dict[str, Mark]:
    from dataclasses import replace

    return {
        name: mark
        if mark.level == "unreadable"
        else replace(mark, keep=True, representative=name, distance=0.0, reason=f"{mark.reason}; copies are kept")
        for name, mark in marks.items()
    }


def _chosen(
    marks: dict[str, Mark],
    rows: Sequence[Mapping[str, Any]],
    prints: Index,
    source: Manifest,
    settings: ReduceSettings,
    targets: Mapping[str, Target],
    folder: Path,
    clouds: Sequence[Print],
) -> tuple[dict[str, Mark], float | None]:
    """Apply the strategy to the scans that are left in the splits that are to be thinned out; return its radius too."""
    from medssl.reduction.reduced import with_choice
    from medssl.reduction.strategies import choose, parse_keep

    if settings.by == "copies" or settings.unit != "scan":
        return marks, None
    pool = [row["id"] for row in rows if row["split"] in settings.thin and marks[row["id"]].keep]
    everyone = sum(row["split"] in settings.thin for row in rows)
    size, share = parse_keep(settings.keep) if settings.keep else (None, None)
    if share is not None:
        from medssl.reduction.selection import target_size

        size = target_size(everyone, share=share)
    if size is not None and size > len(pool):
        events.warning(f"{size} scans are to be kept, and {len(pool)} are left: all of them are kept")
        size = len(pool)
    near = settings.near if settings.near is not None or settings.by != "hash" else _HASH_RADIUS
    choice: Choice = choose(
        settings.by,
        _things(settings, pool, prints, source, targets, folder, clouds),
        size=size,
        step=settings.step,
        radius=near,
        keep=settings.prefer,
        seed=settings.seed,
    )
    events.message(f"{settings.by} chose {len(choice.kept)} of {len(pool)} scans")
    return with_choice(marks, pool, choice, settings.by), choice.radius


def _things(
    settings: ReduceSettings,
    pool: Sequence[str],
    prints: Index,
    source: Manifest,
    targets: Mapping[str, Target],
    folder: Path,
    clouds: Sequence[Print],
) -> Any:
    import numpy as np

    from medssl.reduction.embeddings import read_vectors
    from medssl.reduction.hashes import bits
    from medssl.reduction.strategies import Things
    from medssl.reduction.table import STRATEGIES
    from medssl.workflows.reduce_parts import described, recipe_of

    needs = STRATEGIES[settings.by].needs
    stored = {one.id: one.box for one in prints.fingerprints} | {one.id: one.occupancy for one in clouds}
    if needs == "codes":
        return Things(ids=pool, codes=bits(np.stack([stored[name] for name in pool])) if pool else None)
    if needs == "vectors" and settings.embeddings:
        return Things(ids=pool, vectors=read_vectors(settings.embeddings, pool, source.frame["id"].to_list()))
    if needs == "vectors" and not settings.network:
        flat = [stored[name].astype(np.float32).ravel() for name in pool]
        return Things(ids=pool, vectors=np.stack(flat) if flat else np.zeros((0, 1), np.float32))
    recipe = recipe_of(settings, "scan")
    if recipe is None:
        return Things(ids=pool)
    if clouds:
        raise ConfigError(f"by={settings.by} looks at pictures, and clouds have none. Try hash, kcentre or random.")
    made, failed = described([targets[name] for name in pool], recipe, folder, settings)
    if failed:
        name = min(failed)
        raise DataError(f"{name}: {failed[name]} Its fingerprint was made before; run medssl index and reduce again.")
    tables = [made[name].table for name in pool]
    given: dict[str, Any] = {needs: np.concatenate(tables) if tables else np.zeros((0, 1))}
    return Things(ids=pool, **given)


def _say(
    kept: int,
    rows: Sequence[Mapping[str, Any]],
    levels: Mapping[str, int],
    marks: Mapping[str, Mark],
    moved: Mapping[str, str],
    found: Found,
) -> None:
    alone = bool(rows) and all(row["kind"] == "cloud" for row in rows)
    nouns, owner = ("clouds", "object") if alone else ("scans", "patient")
    table = [
        (level, count, *next((name, m.reason) for name, m in sorted(marks.items()) if m.level == level and not m.keep))
        for level, count in levels.items()
    ]
    if table:
        events.table("Left out", ("why", nouns, "such as", "reason"), table, key="left_out_examples")
    kinds: dict[str, int] = {}
    for one in found.matches:
        kinds[one.verdict.level.value] = kinds.get(one.verdict.level.value, 0) + 1
    related, same = kinds.get("related", 0), kinds.get("same patient", 0)
    if related:
        events.message(
            f"{related} pairs are related (another kernel, phase or echo of one acquisition, or a repetition; --preset "
            "one_per_acquisition leaves these out too)"
        )
    if same:
        events.message(f"{same} pairs are of one {owner} and look alike; they stay on one side of a split")
    for name, split in list(moved.items())[:_KEPT_SHOWN]:
        events.warning(f"{name} was moved to the split '{split}', where its copies, relatives or {owner} are")
    if len(moved) > _KEPT_SHOWN:
        events.warning(f"... and {len(moved) - _KEPT_SHOWN} more were moved to another split")
    events.message(f"{kept} of {len(rows)} {nouns} are kept; nothing was deleted")
