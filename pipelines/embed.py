"""The verb ``embed``: one vector for every scan or cloud of a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field

from medssl.encoders.contract import lay_channels_last
from medssl.encoders.pooling import Pool
from medssl.engine.card import load_card, load_encoder
from medssl.errors import ConfigError, DataError
from medssl.exporting.features import CLASS, FeatureTable, embed_store
from medssl.quoting import quoted
from medssl.settings import Resolved, Settings, resolve
from medssl.store.fitting import store_misfits
from medssl.store.normalised import normalised_as
from medssl.store.read import Store
from medssl.writing import atomic_write
from pipelines import console
from pipelines.devices import device_named
from pipelines.store_channels import same_channels
from pointcloud.batch import CloudPlan
from pointcloud.embedding import drawing_words, embed_drawn, load_cloud_encoder
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.point_draws import POINT_DRAWS
from pointcloud.store import CloudStore

__all__ = ["EmbedSettings", "embed"]

Triple = tuple[int, int, int]
AnyStore = TypeVar("AnyStore", Store, CloudStore)
_EMPTY = FeatureTable((), (), (), (), (), np.zeros((0, 0), np.float32))


class EmbedSettings(Settings):
    """How a scan becomes a vector."""

    verb: ClassVar[str] = "embed"

    coverage: Literal["fitted", "windows", "whole"] = Field(
        default="fitted",
        description="'fitted': one look a scan, its body scaled to the window, as the probe and classifiers look; "
        "'windows': the mean over windows that cover the body, many times slower; 'whole': the body in one pass.",
    )
    window: Triple | None = Field(default=None, description="Voxels of a window, (z, y, x). None: as in training.")
    overlap: float = Field(default=0.25, ge=0, lt=1, description="Least share of a window that its neighbour covers.")
    batch_size: int = Field(default=4, ge=1, description="Windows that go through the encoder at once.")
    pool: Pool | None = Field(
        default=None,
        description="How features become one vector: mean, prenorm, grid or levels; see encoder.pool of pretraining. "
        "None: as on the run's card.",
    )
    levels: Literal["coarsest", "all"] = Field(
        default="coarsest", description="'coarsest': the embedding; 'all': the means of finer levels joined to it."
    )
    points: int | None = Field(default=None, ge=2, description="Clouds: points taken of each. None: as in training.")
    point_draws: int = Field(
        default=POINT_DRAWS, ge=1, description="Clouds with more points: draws that a vector is the mean of."
    )
    splits: tuple[str, ...] | None = Field(
        default=None, description="Splits to embed; '' is unassigned scans. None: all."
    )
    device: str = Field(default="auto", description="'auto', 'cpu', 'cuda' or 'cuda:N'.")


def embed(
    run: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
) -> FeatureTable:
    """Write one vector for every scan or cloud of a store, with its id, patient, split and classes.

    Args:
        run: A run with an encoder.
        data: The store.
        out: ``.parquet`` (a row a scan: id, patient, split, modality, windows, its classes, the run's name, vector) or
            ``.npz`` (the same as arrays, ``vectors`` float32 (scans, dim)).
        preset: Settings by name or file.
        overrides: Settings as ``key=value``.
        dry_run: Say what would be done; write nothing, and return an empty table.

    Returns:
        What was written.

    Raises:
        ConfigError: A setting is wrong, or ``out`` is neither kind of file.
        CheckpointError: The run has no finished encoder.
        CacheError, DataError: The store cannot be read, or no scan of it could be embedded.
    """
    run, out = Path(run), Path(out)
    if out.suffix not in (".parquet", ".npz"):
        raise ConfigError(f"--out must end in .parquet or .npz. Got {out}.")
    resolved = resolve(EmbedSettings, preset=preset, overrides=overrides)
    settings = resolved.settings
    device = device_named(settings.device)
    of_clouds = load_card(run).kind == "cloud"
    _refuse_foreign(resolved, of_clouds=of_clouds)
    if of_clouds:
        clouds = _scans(CloudStore.open(data), settings)
        table = _embed_clouds(load_cloud_encoder(run).to(device), clouds, run, settings, dry_run=dry_run)
        return _finished(table, out, run, dry_run=dry_run)
    encoder = load_encoder(run, pool=settings.pool).eval().to(device)
    lay_channels_last(encoder)
    store = _scans(Store.open(data), settings)
    card = load_card(run)
    same_channels(card, store, run=run)
    for misfit in store_misfits(card, store.entries, store.settings) if card.origin is not None else ():
        console.warn(misfit)
    store = normalised_as(store, card.inputs_known)
    window = None if settings.coverage == "whole" else _window(settings, run, encoder.size_multiple)
    fitted = settings.coverage == "fitted"
    size = "" if window is None else " x ".join(map(str, window))
    said = "each in one pass" if window is None else f"each fitted to {size}" if fitted else f"by windows of {size}"
    console.say(
        f"{len(store)} scans, {said}; vectors of the encoder of {run}, pool {encoder.pooling.kind}, on {device}"
    )
    if dry_run:
        return _finished(_EMPTY, out, run, dry_run=True)
    with console.progress(len(store), "scans embedded") as bar:
        table = embed_store(
            encoder,
            store,
            progress=lambda _: bar.advance(),
            window=window,
            fitted=fitted,
            overlap=settings.overlap,
            batch_size=settings.batch_size,
            levels=settings.levels,
        )
    for scan_id, reason in table.failed.items():
        console.warn(f"{scan_id}: {reason}")
    if not len(table):
        raise DataError(f"{data}: none of its {len(store)} scans could be embedded; the reasons are above.")
    return _finished(table, out, run, dry_run=False)


def _finished(table: FeatureTable, out: Path, run: Path, *, dry_run: bool) -> FeatureTable:
    """Write a table and say so; or neither."""
    if dry_run:
        console.done(None)
        return table
    _write(table, out, run.resolve().name)
    console.done(
        out,
        f"medssl report {quoted(run, out)}",
        scans=len(table),
        dimensions=int(table.vectors.shape[1]),
        failed=table.failed,
    )
    return table


def _refuse_foreign(resolved: Resolved[EmbedSettings], *, of_clouds: bool) -> None:
    """See that nothing was set that means nothing for this kind of data."""
    foreign = ("coverage", "window", "overlap", "pool", "levels") if of_clouds else ("points", "point_draws")
    given = [key for key in foreign if resolved.origins[key] != "default"]
    if given:
        kinds = ("clouds", "scans") if of_clouds else ("scans", "clouds")
        raise ConfigError(
            f"The run's encoder is of {kinds[0]}; for {kinds[1]} alone is: {', '.join(given)}. Leave out."
        )


def _embed_clouds(
    encoder: CloudEncoder, store: CloudStore, run: Path, settings: EmbedSettings, *, dry_run: bool
) -> FeatureTable:
    points = settings.points or load_card(run).points
    console.say(f"{len(store)} clouds, {points or 'all'} points of each; vectors of the encoder of {run}")
    if dry_run:
        return _EMPTY
    with console.progress(len(store), "clouds embedded") as bar:
        drawn = embed_drawn(
            encoder,
            store,
            CloudPlan(points=points),
            batch_size=settings.batch_size,
            draws=settings.point_draws,
            progress=bar.advance,
        )
    if told := drawing_words(drawn):
        console.say(told)
    entries = store.entries
    return FeatureTable(
        ids=tuple(e.id for e in entries),
        patients=tuple(e.patient for e in entries),
        splits=tuple(e.split for e in entries),
        modalities=("",) * len(entries),
        windows=(1,) * len(entries),
        vectors=drawn.vectors,
        targets=tuple({} if e.label is None else {CLASS: store.classes.get(e.label, str(e.label))} for e in entries),
    )


def _scans(store: AnyStore, settings: EmbedSettings) -> AnyStore:
    """Return the scans or clouds of the wanted splits."""
    if settings.splits is None:
        return store
    chosen = [entry.id for entry in store.entries if entry.split in settings.splits]
    if not chosen:
        found = sorted({entry.split or "(unassigned)" for entry in store.entries})
        raise DataError(f"{store.folder}: no scan is in the splits {list(settings.splits)}; it has {', '.join(found)}.")
    return store.subset(chosen)


def _window(settings: EmbedSettings, run: Path, multiple: Triple) -> Triple:
    """Return the window: the setting's, which must fit the encoder, or the training window cut to fit."""
    if settings.window is not None:
        wrong = [n for n, m in zip(settings.window, multiple, strict=True) if n < 2 * m or n % m]
        if wrong:
            raise ConfigError(
                f"window: found {list(settings.window)}; allowed are multiples of {list(multiple)}, at least twice it."
            )
        return settings.window
    trained = load_card(run).window or (64, 64, 64)
    z, y, x = (max(2, length // step) * step for length, step in zip(trained, multiple, strict=True))
    return z, y, x


def _write(table: FeatureTable, path: Path, run: str) -> None:
    """Write the table, and the name of the run whose encoder it is of, aside and rename it."""
    columns = {**table.columns(), "run": [run] * len(table)}
    with atomic_write(path) as aside:
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {name: np.array(_told(values)) for name, values in columns.items()}
            np.savez(aside, vectors=table.vectors, **arrays)
        else:
            import polars

            series = polars.Series("vector", table.vectors.tolist(), dtype=polars.List(polars.Float32))
            polars.DataFrame(columns).with_columns(series).write_parquet(aside)


def _told(values: Sequence[Any]) -> list[Any]:
    """Return values for an array of text: what is not known is ""."""
    return ["" if value is None else value for value in values]
