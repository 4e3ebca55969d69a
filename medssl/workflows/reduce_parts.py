"""``medssl reduce --unit slice`` and ``--unit block``: which parts of the scans to train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.workflows import events

if TYPE_CHECKING:
    from medssl.reduction.descriptors import Descriptor, Recipe
    from medssl.reduction.fingerprint import Target
    from medssl.reduction.index import Index
    from medssl.reduction.leaders import Choice
    from medssl.reduction.parts import Part
    from medssl.workflows.reduce_settings import ReduceSettings

__all__ = ["PartCounts", "described", "parts_path", "recipe_of", "reduce_parts"]

_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class PartCounts:
    """What choosing among parts came to.

    Attributes:
        path: The table.
        parts: Slices or blocks in all.
        kept: Those that are kept.
        shares: id -> share that is kept, of the scans that were thinned out.
        failed: id -> why a scan could not be described.
    """

    path: Path
    parts: int
    kept: int
    shares: Mapping[str, float]
    failed: Mapping[str, str]


def parts_path(out: Path, unit: str) -> Path:
    """Return where the table goes: ``kept.slices.parquet`` beside ``kept.parquet``."""
    return out.with_suffix(f".{unit}s.parquet")


def recipe_of(settings: ReduceSettings, unit: str | None = None) -> Recipe | None:
    """Return what is to be made of each scan; None where names are enough."""
    from medssl.reduction.descriptors import Recipe
    from medssl.reduction.networks import check_network
    from medssl.reduction.parts import AXES
    from medssl.reduction.table import STRATEGIES

    needs = STRATEGIES[settings.by].needs
    if not needs:
        return None
    if settings.network and needs == "vectors":
        check_network(settings.network)
    return Recipe(
        unit=unit or settings.unit,  # type: ignore[arg-type]
        kind=needs,  # type: ignore[arg-type]
        axis=AXES.index(settings.axis),
        block=settings.block,
        stretch=settings.stretch,
        network=settings.network if needs == "vectors" else "",
    )


def reduce_parts(
    kept: Mapping[str, str],
    thinned: Sequence[str],
    prints: Index,
    targets: Mapping[str, Target],
    folder: Path,
    out: Path,
    settings: ReduceSettings,
) -> PartCounts:
    """Choose slices or blocks of the scans that are kept, and write the table.

    Args:
        kept: Scans that are kept, of a case the one that leads it -> the name that a store gives it: that of its case.
            Of those that are not thinned out every part is kept.
        thinned: Scans of which parts are chosen.
        prints: Their fingerprints.
        targets: id -> where a scan lies.
        folder: The folder of fingerprints, where descriptors are kept as well.
        out: The reduced manifest; the table goes beside it.
        settings: The settings.

    Raises:
        ConfigError: The strategy does not choose among parts, or sizes are out of range.
        CacheError: The folder cannot be written to.
    """
    import numpy as np

    from medssl.reduction.leaders import chosen_of, joined
    from medssl.reduction.parts import parts_frame, write_parts

    recipe = recipe_of(settings)
    made, failed = described([targets[name] for name in kept], recipe, folder, settings)
    shapes = {one.id: one.shape for one in prints.fingerprints}
    cut = {name: _parts(kept[name], shapes[name], made.get(name), settings) for name in kept if name not in failed}
    pools = [name for name in thinned if name in cut]
    others = [name for name in cut if name not in set(pools)]
    parts = [one for name in (*pools, *others) for one in cut[name]]
    rest = sum(len(cut[name]) for name in others)
    choice = joined([_chosen(pools, cut, made, settings), chosen_of(rest, np.arange(rest, dtype=np.int64))])
    path = parts_path(out, settings.unit)
    about = {"by": settings.by, "keep": settings.keep, "within": settings.within, "seed": settings.seed}
    write_parts(parts_frame(parts, choice), path, {**about, "near": settings.near, "unit": settings.unit})
    remaining = Counter(parts[place].id for place in choice.kept)
    shares = {kept[name]: remaining[kept[name]] / max(1, len(cut[name])) for name in pools}
    number = len(choice.kept)
    for name, reason in list(failed.items())[:_SHOWN]:
        events.warning(f"{name}: {reason}")
    noun = "scans" if all(name == scan for scan, name in kept.items()) else "cases, by their first channel"
    events.message(f"{settings.by} keeps {number:,} of {len(parts):,} {settings.unit}s of {len(cut)} {noun}")
    if shares:
        few, most = min(shares, key=lambda n: (shares[n], n)), max(shares, key=lambda n: (shares[n], n))
        events.message(f"from {shares[few]:.0%} ({few}) to {shares[most]:.0%} ({most}) of a scan")
    return PartCounts(path=path, parts=len(parts), kept=number, shares=shares, failed=failed)


def described(
    targets: Sequence[Target], recipe: Recipe | None, folder: Path, settings: ReduceSettings
) -> tuple[dict[str, Descriptor], dict[str, str]]:
    """Return id -> descriptor and id -> why there is none, with progress."""
    from medssl.reduction.descriptors import descriptors

    if recipe is None:
        return {}, {}
    with settings.limits(), events.progress(len(targets), f"scans read for their {settings.unit}s") as shown:
        return descriptors(
            targets,
            recipe,
            folder,
            workers=settings.hands,
            engine=settings.engine,
            progress=lambda done, _: shown.reach(done),
        )


def _parts(name: str, shape: tuple[int, int, int], made: Descriptor | None, settings: ReduceSettings) -> list[Part]:
    """Return the parts of a scan."""
    from medssl.reduction.descriptors import cut_places
    from medssl.reduction.parts import AXES, Part

    axis = AXES.index(settings.axis)
    starts, stops = (made.starts, made.stops) if made else cut_places(shape, settings.unit, axis, settings.block)
    return [
        Part(
            id=name,
            axis=settings.axis if settings.unit == "slice" else "",
            index=number,
            start=(int(a[0]), int(a[1]), int(a[2])),
            stop=(int(b[0]), int(b[1]), int(b[2])),
            shape=shape,
        )
        for number, (a, b) in enumerate(zip(starts, stops, strict=True))
    ]


def _chosen(
    pools: Sequence[str], cut: Mapping[str, list[Part]], made: Mapping[str, Descriptor], settings: ReduceSettings
) -> Choice:
    """Return what is chosen of the parts of these scans, within each or over all of them."""
    import numpy as np

    from medssl.reduction.leaders import joined
    from medssl.reduction.strategies import Things, choose, parse_keep
    from medssl.reduction.table import STRATEGIES

    size, share = parse_keep(settings.keep) if settings.keep else (None, None)
    needs = STRATEGIES[settings.by].needs
    # On slices the default is the 6 of 64 bits of the paper; blocks have longer hashes.
    near = settings.near if settings.near is not None or settings.unit == "slice" else _BLOCK_NEAR.get(settings.by)

    def select(names: Sequence[str]) -> Choice:
        parts = [one for name in names for one in cut[name]]
        table: dict[str, Any] = {needs: np.concatenate([made[name].table for name in names])} if needs else {}
        things = Things(ids=[one.name for one in parts], by_name=False, **table)
        wanted = None if size is None else min(size, len(parts))
        return choose(
            settings.by,
            things,
            size=wanted,
            share=share,
            step=settings.step,
            radius=near,
            keep=settings.prefer,
            seed=settings.seed,
        )

    if settings.within == "dataset" and pools:
        return select(pools)
    return joined([select([name]) for name in pools])


_BLOCK_NEAR = {"hash": 77.0}  # differing bits of 511
