"""The verb ``match``: a place of one scan, found in others by a frozen encoder's features, with a picture."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from medssl.domains.dense import Values
from medssl.domains.domain import domain_of_card
from medssl.engine.card import Card, load_card
from medssl.errors import ConfigError, DataError, MedSSLError
from medssl.evaluation.dense_probe import Scales
from medssl.evaluation.matching import nearest
from medssl.geometry import to_index, to_world
from medssl.reporting.matches import draw_matches
from medssl.settings import resolve
from medssl.store.alone import job_alone, recipe_of, store_alone
from medssl.tasks.dense_samples import ScanPlaces
from medssl.workflows import events
from medssl.workflows.match_settings import RIVAL_MM, MatchSettings
from medssl.workflows.predict_inputs import Item, Takes, find_inputs
from medssl.workflows.predict_settings import PredictSettings
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places
from medssl.writing import atomic_write, folder_for

__all__ = ["Match", "MatchSettings", "Matched", "match"]

Triple = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Match:
    """A place found in another scan.

    Attributes:
        scan: Its file, as it was named.
        point: Voxel of that file, (z, y, x).
        point_mm: The same in mm, RAS+, (x, y, z).
        distance: Of its features from those asked for.
        ratio: The same over that of the best place elsewhere: near 1 means that another place is as good.
        back_mm: How far from the point one comes out who looks from here for the way back; the certainty.
    """

    scan: str
    point: Triple
    point_mm: tuple[float, float, float]
    distance: float
    ratio: float
    back_mm: float

    @property
    def certainty(self) -> str:
        """In words, by rules of thumb that nothing was calibrated on."""
        if self.back_mm <= RIVAL_MM and self.ratio < 0.9:
            return "the way back ends near the point"
        if self.back_mm <= RIVAL_MM:
            return "the way back ends near the point, but another place is nearly as alike"
        return "doubtful: the way back ends elsewhere"


@dataclass(frozen=True, kw_only=True)
class Matched(Result):
    """What ``medssl.match(...)`` returns.

    Attributes:
        matches: One for each scan that could be read, in their order; none after a dry run.
        failed: Scans that could not be read, and why.
    """

    matches: tuple[Match, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Seen:
    """One scan: places, what the encoder says of each, and a picture of it."""

    name: str
    entry: Any
    voxels: npt.NDArray[np.int64]
    features: list[Values]
    values: npt.NDArray[np.int16]


@takes_places
def match(
    run: str | Path,
    scan: str | Path,
    *,
    point: str | Sequence[int],
    into: Sequence[str | Path],
    out: str | Path = "match",
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
) -> Matched:
    """Find a place of one scan in other scans.

    Args:
        run: A run with an encoder of scans.
        scan: The scan, of any format that ``predict`` reads.
        point: Voxel of that file, "Z,Y,X" or three numbers, counted from 0.
        into: The other scans.
        out: Folder for match.json and match.png.
        preset: Settings by name or file.
        overrides: Settings as ``key=value``.
        dry_run: Only say what would be done.

    Returns:
        A match for each scan that could be read, in their order.

    Raises:
        ConfigError: A setting is wrong, the run is of clouds, or the point lies outside the scan.
        CheckpointError: The run has no finished encoder.
        DataError: The scan, or every other, cannot be read.
    """
    run, out = Path(run), folder_for(out)
    settings = resolve(MatchSettings, preset=preset, overrides=overrides).settings
    card = load_card(run)
    point = point if isinstance(point, str) else ",".join(map(str, point))
    asked = _voxel(point)
    if card.kind != "volume":
        raise ConfigError(f"{run}: its encoder is of clouds, and match looks for places of scans.")
    window = settings.window or card.window
    if window is None:
        raise ConfigError("The card of the run names no window. Set one with window=[z,y,x].")
    encoder = domain_of_card(card).encoder(run).eval()
    encoder.check_size(window)  # type: ignore[operator]
    (first,) = _items(Path(scan), card, run, one=True)
    others = [item for place in into for item in _items(Path(place), card, run)]
    if not others:
        raise DataError("No scan to look in can be read; the reasons are above.")
    events.message(f"{first.shown}, voxel {point}, looked for in {len(others)} scans by windows of {window}")
    if dry_run:
        return events.written(Matched())
    found: list[Match] = []
    pictures = []
    failed: dict[str, str] = {}
    with settings.limits(), events.progress(len(others) + 1, "scans read") as bar:
        here = _seen(first, card, encoder, window, settings, point=asked)
        start = here.voxels[-1]
        bar.advance(note=first.shown)
        for item in others:
            try:
                there = _seen(item, card, encoder, window, settings)
            except (MedSSLError, OSError) as error:
                failed[item.shown] = str(error)
                events.warning(f"{item.shown}: {error}")
                continue
            one, voxel = _match(here, there, start, settings.rival_mm)
            found.append(one)
            pictures.append((there.name, there.values, voxel))
            bar.advance(note=item.shown)
    if not found:
        raise DataError(f"None of the {len(others)} scans could be read; the reasons are above.")
    events.table(
        f"Where voxel {point} of {first.shown} lies in others",
        ["scan", "voxel (z, y, x)", "distance", "over the next best", "way back, mm", "certainty"],
        [
            [
                m.scan,
                ",".join(map(str, m.point)),
                f"{m.distance:.3f}",
                f"{m.ratio:.2f}",
                f"{m.back_mm:.1f}",
                m.certainty,
            ]
            for m in found
        ],
        key="matches",
    )
    events.message(
        "certainty is a rule of thumb, not a probability: the match leads back to within 10 mm, "
        "and no other place is as similar"
    )
    listing, figure = out / "match.json", out / "match.png"
    with atomic_write(listing) as aside:
        content = {"scan": first.shown, "point": asked, "matches": [asdict(m) for m in found], "failed": failed}
        aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    draw_matches((here.name, here.values, (int(start[0]), int(start[1]), int(start[2]))), pictures, figure)
    figures = {"matches": [asdict(m) for m in found], "failed": failed}
    return events.written(Matched(matches=tuple(found), failed=failed, written=(listing, figure), figures=figures))


def _voxel(point: str) -> Triple:
    try:
        z, y, x = (int(word) for word in point.split(","))
    except ValueError as error:
        raise ConfigError(f"--point: three whole numbers Z,Y,X are wanted, such as 20,64,58. Got '{point}'.") from error
    return z, y, x


def _items(path: Path, card: Card, run: Path, *, one: bool = False) -> list[Item]:
    """Describe what is named as ``predict`` does; what cannot be read is said, and fatal where one scan is wanted.

    Raises:
        ManifestError: The path is not there.
        DataError: One scan is wanted, and it is none or several.
    """
    takes = Takes(domain=domain_of_card(card), channels=card.inputs_known, fills=False, run=str(run))
    try:
        found = find_inputs([path], takes, PredictSettings(), progress=lambda done, of: None)
    except DataError as error:
        if one:
            raise
        events.warning(f"{path}: {error}")
        return []
    for bad in found.failed:
        events.warning(f"{bad.shown}: {bad.reason}")
    if one and len(found.items) != 1:
        raise DataError(f"{path}: one scan is wanted here, and {len(found.items)} can be read.")
    return found.items


def _seen(
    item: Item,
    card: Card,
    encoder: nn.Module,
    window: Triple,
    settings: MatchSettings,
    point: Triple | None = None,
) -> _Seen:
    """Read a scan as the training store did, and what the encoder says of its places; of the point it comes last.

    Raises:
        ConfigError: The point, a voxel of the file, lies outside it.
    """
    recipe = recipe_of(dict(card.data.get("store_settings", {})))
    dense = ScanPlaces({}, window, "whole")
    with tempfile.TemporaryDirectory(prefix="medssl-") as folder:
        store, _ = store_alone(Path(folder), job_alone(item.manifest, recipe, channels=item.channels))
        entry = store.entries[0]
        values, also = store.values(0), None
        if point is not None:
            also = _stored(point, entry, item.shown)
        spacing, rows_of = np.array(entry.spacing_mm), np.random.default_rng(0)
        samples = list(dense.samples(store, 0, card))
        voxels, parts = [], []
        last: tuple[npt.NDArray[np.int64], list[Values]] | None = None
        for sample in samples:
            own = np.rint(sample.place_mm / spacing).astype(np.int64)
            inside = np.flatnonzero((own >= 0).all(axis=1) & (own < np.array(entry.shape)).all(axis=1))
            some = max(20, settings.places // len(samples))
            rows = inside if len(inside) <= some else np.sort(rows_of.choice(inside, some, replace=False))
            pyramid = dense.pyramid(encoder, sample)
            voxels.append(own[rows])
            parts.append(dense.at(pyramid, sample, rows))
            if also is not None and last is None:
                exact = np.flatnonzero((own == also).all(axis=1))
                last = (own[exact], list(dense.at(pyramid, sample, exact))) if len(exact) else None
        if last is not None:
            voxels.append(last[0])
            parts.append(last[1])
    levels = [np.concatenate(level) for level in zip(*parts, strict=True)]
    return _Seen(item.shown, entry, np.concatenate(voxels), levels, values)


def _stored(point: Triple, entry: Any, shown: str) -> npt.NDArray[np.int64]:
    """Return the voxel of the store in which a voxel of the file lies."""
    if not all(0 <= n < size for n, size in zip(point, entry.source_shape, strict=True)):
        size = " x ".join(map(str, entry.source_shape))
        raise ConfigError(f"--point: {','.join(map(str, point))} lies outside {shown}, which has {size} voxels.")
    place = to_world(np.array(entry.source_affine), point)
    found = np.rint(to_index(np.array(entry.affine), place)).astype(np.int64)
    return np.clip(found, 0, np.array(entry.shape) - 1)


def _match(here: _Seen, there: _Seen, start: npt.NDArray[np.int64], rival_mm: float) -> tuple[Match, Triple]:
    """Return the place of the other scan that is nearest to the last of this one's, and how sure that is."""
    scales = [Scales.of([np.concatenate(pair)]) for pair in zip(here.features, there.features, strict=True)]
    own, other = (
        np.concatenate([s.applied([level]) for s, level in zip(scales, seen.features, strict=True)], axis=1)
        for seen in (here, there)
    )
    far = np.linalg.norm(other - own[-1], axis=1)
    best = int(far.argmin())
    apart = np.linalg.norm((there.voxels - there.voxels[best]) * np.array(there.entry.spacing_mm), axis=1)
    rivals = far[apart > rival_mm]
    ratio = float(far[best] / rivals.min()) if len(rivals) and rivals.min() > 0 else 1.0
    back, _ = nearest(other[best : best + 1], own)
    gap = (here.voxels[int(back[0, 0])] - start) * np.array(here.entry.spacing_mm)
    place = to_world(np.array(there.entry.affine), there.voxels[best])
    source = np.rint(to_index(np.array(there.entry.source_affine), place)).astype(int)
    z, y, x = (int(np.clip(n, 0, size - 1)) for n, size in zip(source, there.entry.source_shape, strict=True))
    found = Match(
        scan=there.name,
        point=(z, y, x),
        point_mm=(float(place[0]), float(place[1]), float(place[2])),
        distance=float(far[best]),
        ratio=ratio,
        back_mm=float(np.linalg.norm(gap)),
    )
    return found, (int(there.voxels[best][0]), int(there.voxels[best][1]), int(there.voxels[best][2]))
