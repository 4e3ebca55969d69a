"""``medssl predict``: a fine-tuned run on new scans or clouds, without labels and without a store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.domains.predicting import Worker
from medssl.errors import ConfigError, DataError, DiskError, MedSSLError, UnfitError
from medssl.locking import holds
from medssl.prediction import Wanted
from medssl.quoting import quoted
from medssl.reporting.prose import counted
from medssl.settings import Resolved, resolve
from medssl.tasks.inference import prediction_file
from medssl.workflows import events
from medssl.workflows.devices import autocast_as, device_named
from medssl.workflows.file_limits import FileLimits
from medssl.workflows.predict_inputs import Inputs, Item, find_inputs
from medssl.workflows.predict_journal import WORK, Done, Journal
from medssl.workflows.predict_runs import Predicting, load_runs
from medssl.workflows.predict_settings import PredictSettings
from medssl.workflows.predict_table import write_table
from medssl.workflows.predict_work import cleared, target_of
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places
from medssl.writing import atomic_write, folder_for

__all__ = ["PredictSettings", "Predicted", "predict"]

if TYPE_CHECKING:
    import torch

LABELS = "labels.json"
_SHOWN = 10
_NOT_IN_KEY = {"device", "workers", "table", "unit", "channels", "modality", "picture_channel", "cloud_class"} | {
    "privacy",
    *FileLimits.model_fields,
}


@dataclass(frozen=True, kw_only=True)
class Predicted(Result):
    """What ``medssl.predict(...)`` returns.

    Attributes:
        folder: Where the predictions are.
        table: The table; None after a dry run.
        files: The predictions by the item's id; empty of classes, which are in the table.
        done: Items that were predicted, by this call or an earlier one.
        failed: Items that could not be, id -> reason.
        skipped: Reason -> how many things were passed over.
    """

    folder: Path
    table: Path | None = None
    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    done: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def place(self) -> Path | None:
        """The folder of predictions; None after a dry run."""
        return None if self.table is None else self.folder


@takes_places
@holds("medssl predict", lambda given: Path(given["out"]))
def predict(
    run: str | Path | Sequence[str | Path],
    *inputs: str | Path,
    out: str | Path,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    dry_run: bool = False,
) -> Predicted:
    """Predict new scans or clouds. If called again, it keeps finished predictions and retries failed ones.

    Args:
        run: A fine-tuning run; several for the mean of their probabilities.
        inputs: Files, folders (all below them), folders of DICOM series, manifests, or CSVs that list scans.
        out: The folder for predictions: a new one, or that of an earlier call.
        preset: A preset or a YAML file of settings.
        overrides: ``key=value``; see ``medssl show predict``.
        overwrite: Replace what predict wrote there with another run or other settings.
        dry_run: Only say what would be done.

    Returns:
        What was predicted, what failed, and where it is.

    Raises:
        CheckpointError: A run has not ended, or is a pretraining run.
        ConfigError: A setting is wrong, runs do not go together, or ``out`` holds something else.
        DataError: There is nothing to predict, or nothing could be.
    """
    resolved = resolve(PredictSettings, preset=preset, overrides=list(overrides))
    with resolved.settings.limits():
        return _predict(run, inputs, folder_for(out), resolved, overwrite=overwrite, dry_run=dry_run)


def _predict(
    run: str | Path | Sequence[str | Path],
    inputs: Sequence[str | Path],
    folder: Path,
    resolved: Resolved[PredictSettings],
    *,
    overwrite: bool,
    dry_run: bool,
) -> Predicted:
    settings = resolved.settings
    named = [run] if isinstance(run, str | Path) else list(run)
    runs = [Path(one) for one in named]
    if not inputs:
        raise ConfigError(
            f"There is nothing to predict. Name scans: medssl predict {quoted(*runs)} SCANS --out {quoted(folder)}"
        )
    device = device_named(settings.device)
    ready = load_runs(runs, settings, device)
    _introduce(ready, runs, str(device))
    return _predict_found(ready, resolved, [Path(path) for path in inputs], folder, overwrite, dry_run, device)


def _predict_found(
    ready: Predicting,
    resolved: Resolved[PredictSettings],
    inputs: Sequence[Path],
    folder: Path,
    overwrite: bool,
    dry_run: bool,
    device: torch.device,
) -> Predicted:
    """Find what there is, and predict it one by one."""
    settings = resolved.settings
    with events.progress(None, "files looked at") as shown:

        def show(count: int, total: int) -> None:
            shown.total = total
            shown.reach(count)

        found = find_inputs(inputs, ready.takes, settings, progress=show)
    for note in found.notes:
        events.message(note)
    noun = f"{ready.takes.domain.noun}s"
    events.message(f"{counted(len(found.items), noun[:-1])} to predict; {len(found.failed)} cannot be read")
    if dry_run:
        return _plan(found, folder)
    journal = Journal.open(folder, _made_with(ready, resolved), overwrite=overwrite)
    table = folder / f"predictions.{settings.table}"
    _claim(journal, [table.name, *([LABELS] if ready.predictor.names else [])])
    if ready.predictor.names:
        _write_names(folder / LABELS, ready)
    worker = ready.takes.domain.new_items.worker(ready.predictor, ready.card)
    wanted = Wanted(settings.probabilities, settings.uncertainty)
    ended: dict[str, Done] = {}
    kept = 0
    try:
        with events.progress(len(found.items), f"{noun} predicted") as bar, autocast_as(ready.precision, device):
            for item in found.items:
                done, fresh = _one(item, worker, ready, journal, wanted)
                ended[item.id], kept = done, kept + (not fresh)
                bar.advance(note=item.id, kept=not fresh)
    except KeyboardInterrupt:
        events.message(
            f"{len(ended)} of {len(found.items)} are done and kept; run the same command to continue from there"
        )
        raise
    finally:
        shutil.rmtree(folder / WORK, ignore_errors=True)
        rows = _rows(found, ended, paths=settings.privacy == "paths")
        write_table(table, rows, settings.table)
    return _close(found, ended, journal, table, kept, noun)


def _one(item: Item, worker: Worker, ready: Predicting, journal: Journal, wanted: Wanted) -> tuple[Done, bool]:
    """Predict one item, or keep what is there; say how it ended, and whether it was done now."""
    key = ""
    try:
        key = worker.key(item)
        before = journal.finished(item.id, key)
        if before is not None:
            return before, False
        stem = prediction_file(item.id).removesuffix(".nii.gz")
        target = target_of(item, journal.folder, stem, wanted)
        names = ready.predictor.files(target)
        strange = journal.name_of(names)
        if strange:
            raise DataError(f"{journal.folder / strange[0]} is there and is not of predict. Give another --out.")
        prepared = worker.prepare(item, cleared(journal.folder / WORK))
        found = prepared.predicted()
        journal.begin(item.id, names)
        written = prepared.write(found, target)
        done = Done(
            key=key,
            files=tuple(path.name for path in written.files),
            rows=written.rows,
            differs=(*prepared.differs, *written.notes),
        )
    except DiskError:
        raise  # no fault of the item: it would befall every other as well
    except UnfitError as error:
        done = Done(key=key, reason=f"{error.kind}: {error.reason.partition(' accept=')[0]}")
    except MedSSLError as error:
        done = Done(key=key, reason=getattr(error, "reason", str(error)))
    except MemoryError:
        done = Done(key=key, reason="There was not enough memory to predict it.")
    except OSError as error:
        done = Done(key=key, reason=f"It cannot be read: {error.strerror or error}.")
    except Exception as error:  # what a library raises over one file is that file's fault, not the folder's
        done = Done(
            key=key, reason=f"It could not be predicted ({type(error).__name__}: {' '.join(str(error).split())[:200]})."
        )
    nameless = item.manifest.nameless()
    differs = tuple(nameless.text(one) for one in done.differs)
    done = replace(done, reason=nameless.text(done.reason), differs=differs)
    journal.end(item.id, done)
    return done, True


def _introduce(ready: Predicting, runs: Sequence[Path], device: str) -> None:
    mean = f"the mean of {len(runs)} runs, " if len(runs) > 1 else ""
    events.message(f"{mean}{', '.join(map(str, runs))}: {ready.predictor.said}; on {device}")
    if len(ready.takes.names) > 1:
        events.message(f"channels, in this order: {', '.join(ready.takes.names)}")
    for note in ready.notes:
        events.warning(note)


def _plan(found: Inputs, folder: Path) -> Predicted:
    for item in found.items[:_SHOWN]:
        events.message(f"  would predict {item.id} ({item.shown})")
    if len(found.items) > _SHOWN:
        events.message(f"  ... and {len(found.items) - _SHOWN} more")
    _say_failed({one.id: f"{one.shown}: {one.reason}" for one in found.failed})
    _say_skipped(found)
    failed = {one.id: one.reason for one in found.failed}
    figures = {"items": len(found.items), "failed": len(failed)}
    return events.written(Predicted(folder=folder, failed=failed, skipped=dict(found.skipped), figures=figures))


def _made_with(ready: Predicting, resolved: Resolved[PredictSettings]) -> str:
    import hashlib

    said = resolved.settings.model_dump(mode="json", exclude=_NOT_IN_KEY)
    return hashlib.sha256(json.dumps([ready.predictor.key, said], sort_keys=True).encode()).hexdigest()


def _claim(journal: Journal, names: Sequence[str]) -> None:
    strange = journal.name_of(names)
    if strange:
        raise ConfigError(f"{journal.folder / strange[0]} is there and is not of predict. Give another --out.")
    journal.begin("", names)


def _write_names(path: Path, ready: Predicting) -> None:
    content = ready.predictor.sidecar()
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _rows(found: Inputs, ended: dict[str, Done], *, paths: bool) -> list[dict[str, Any]]:
    """Return the table: items in their order, then what could not be read; with their files where paths are kept."""
    rows: list[dict[str, Any]] = []
    for item in found.items:
        done = ended.get(item.id)
        if done is None:
            continue  # the call was interrupted before
        first = {
            "id": item.id,
            **({"source": str(item.row["path"])} if paths else {}),
            "status": "failed" if done.reason else "done",
            "file": done.files[0] if done.files else None,
            "differs": "; ".join(done.differs) or None,
            "reason": done.reason or None,
        }
        rows += [{**first, **row} for row in done.rows or ({},)]
    rows += [
        {
            "id": one.id,
            **({"source": one.path} if paths else {}),
            "status": "failed",
            "file": None,
            "differs": None,
            "reason": one.reason,
        }
        for one in found.failed
    ]
    return rows


def _close(found: Inputs, ended: dict[str, Done], journal: Journal, table: Path, kept: int, noun: str) -> Predicted:
    """Say how all of it ended."""
    shown = {item.id: item.shown for item in found.items}
    for name, done in ended.items():
        if done.differs and not done.reason:
            events.message(f"{shown[name]}: {'; '.join(done.differs)}")
    failed = {name: done.reason for name, done in ended.items() if done.reason}
    failed |= {one.id: one.reason for one in found.failed}
    shown |= {one.id: one.shown for one in found.failed}
    _say_failed({name: f"{shown[name]}: {why}" for name, why in failed.items()})
    _say_skipped(found)
    good = tuple(name for name, done in ended.items() if not done.reason)
    if not good:
        raise DataError(
            f"{journal.folder}: none of the {len(failed)} {noun} could be predicted. The reasons are above, and in "
            f"{table}."
        )
    again = f" ({kept} of them by an earlier call)" if kept else ""
    skipped = sum(found.skipped.values())
    told = events.written(
        Predicted(
            folder=journal.folder,
            table=table,
            files={name: tuple(journal.folder / file for file in ended[name].files) for name in good},
            done=good,
            failed=failed,
            skipped=dict(found.skipped),
            written=(table,),
            figures={
                "predicted": len(good),
                "kept": kept,
                "failed": failed,
                "skipped": dict(found.skipped),
                "files": {name: list(ended[name].files) for name in good},
            },
        )
    )
    events.message(
        f"{counted(len(good), noun[:-1])} done{again}, {len(failed)} failed, {skipped} skipped; in {journal.folder}"
    )
    return told


def _say_failed(failed: dict[str, str]) -> None:
    for line in list(failed.values())[:_SHOWN]:
        events.warning(line)
    if len(failed) > _SHOWN:
        events.warning(f"... and {len(failed) - _SHOWN} more; the table lists all")


def _say_skipped(found: Inputs) -> None:
    for why, count in found.skipped.most_common():
        events.message(f"skipped {count}: {why}")
