"""``medssl demo``: the whole chain in under two minutes, on synthetic patients and clouds; in full in some minutes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from medssl.chains.auto import AutoResult, auto
from medssl.command import Command
from medssl.errors import ConfigError
from medssl.settings import Settings, resolve
from medssl.workflows import events
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places
from medssl.writing import atomic_write, folder_for

__all__ = ["DemoSettings", "Demonstrated", "demo"]

_REAL = "hippocampus"
_MADE_OF = "made_of.json"  # in the folder of synthetic patients: the settings that name them
_COHORT = {"subjects", "modality", "unlabelled", "dicom", "size", "seed"}
# What --full takes instead of the defaults: enough patients and steps for a comparison that says something.
_FULL = {
    "subjects": 24,
    "unlabelled": 8,
    "size": 48,
    "real_scans": 80,
    "pretrain_steps": 900,
    "finetune_steps": 400,
    "cases": 20,
    "clouds": 16,
    "cloud_steps": 150,
    "cloud_probes": "all",
}


class DemoSettings(Settings):
    """Settings of ``medssl demo``."""

    verb: ClassVar[str] = "demo"

    subjects: int = Field(default=12, ge=6, description="Synthetic patients.")
    modality: Literal["CT", "MR"] = Field(default="MR", description="What the synthetic patients look like.")
    unlabelled: int = Field(default=4, ge=0, description="How many of them come without labels.")
    dicom: int = Field(default=2, ge=0, description="How many of them come as DICOM series.")
    size: int = Field(default=32, ge=24, le=128, description="Voxels of a synthetic scan along each axis.")
    real_scans: int = Field(default=24, ge=6, description="How many scans of a real data set are taken.")
    method: str = Field(default="voco", description="Pretraining method; the cheapest by default.")
    labels: int = Field(default=2, ge=1, description="Patients whose labels fine-tuning uses.")
    pretrain_steps: int = Field(default=40, ge=1, description="Steps of pretraining.")
    finetune_steps: int = Field(default=50, ge=1, description="Steps of each fine-tuning run.")
    cases: int = Field(
        default=0,
        ge=0,
        description="Synthetic heads in four sequences, channels of a case; 0 leaves that part out.",
    )
    case_steps: int = Field(default=200, ge=1, description="Steps of each segmenter of them.")
    clouds: int = Field(
        default=5, ge=0, description="Synthetic shapes of each class as point clouds; 0 leaves that part out."
    )
    cloud_steps: int = Field(default=20, ge=1, description="Steps of pretraining on them.")
    cloud_probes: Literal["fast", "all"] = Field(
        default="fast", description="How their features are probed: by neighbours and ridge, or by every probe."
    )
    seed: int = Field(default=0, ge=0, description="Names the synthetic population, and every random number.")


World = Callable[[DemoSettings, Path, Path | None, bool, bool], Result | None]


@dataclass(frozen=True, kw_only=True)
class Demonstrated(Result):
    """What ``medssl.demo(...)`` returns: the pages that it wrote, and what goes on with the first part.

    Attributes:
        parts: What came of each part: patients as ``auto`` takes them, heads of four channels, clouds.
    """

    parts: tuple[Result, ...] = ()

    @property
    def chain(self) -> AutoResult | None:
        """What ``auto`` found on the patients; None after a dry run."""
        return next((part for part in self.parts if isinstance(part, AutoResult)), None)

    @property
    def place(self) -> Path | None:
        """The fine-tuned run of the first part; None after a dry run."""
        return None if self.chain is None else self.chain.place

    @property
    def ok(self) -> bool:
        """Whether every stage went through."""
        return self.chain is None or self.chain.ok


@dataclass(frozen=True)
class _Scans:
    """What the demo runs on: a folder, a sentence about it, the share of patients to test on."""

    folder: Path
    said: str
    test: float


@takes_places
def demo(
    *,
    out: str | Path | None = None,
    data: str | Path | None = None,
    full: bool = False,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    dry_run: bool = False,
) -> Demonstrated:
    """Run every step on synthetic or real data in under two minutes on two CPU cores, without a network.

    Args:
        out: The folder for everything that is made; ``runs/demo`` when None, and ``runs/demo-full`` in full. The same
            call goes on where an earlier one stopped.
        data: A folder that holds ``hippocampus/`` of the Medical Segmentation Decathlon; the environment variable
            MEDSSL_DATA when None; synthetic patients where neither is given.
        full: Take more patients, larger scans and more steps, and heads of four channels: some minutes.
        preset: Settings by name or file.
        overrides: ``key=value``; see ``medssl show demo``.
        overwrite: Train again; earlier runs are moved aside.
        dry_run: Only say what would be done.

    Returns:
        What came of each part.

    Raises:
        ConfigError: A setting is wrong, or ``data`` holds no such data set.
    """
    defaults = _FULL if full else None
    settings = resolve(DemoSettings, preset=preset, overrides=list(overrides), defaults=defaults).settings
    out, real = folder_for(out or ("runs/demo-full" if full else "runs/demo")), _real_folder(data)
    told = (world(settings, out, real, overwrite, dry_run) for world in _WORLDS)
    parts = tuple(part for part in told if part is not None)
    written = tuple(path for part in parts for path in part.written)
    if not full:
        events.message(f"for more patients and steps, and heads of four channels, run: {_in_full(real)}")
    events.facts(written=[str(path) for path in written], next=str(parts[0].next) or None)
    return Demonstrated(parts=parts, written=written, next=parts[0].next, on_new=parts[0].on_new)


def _in_full(real: Path | None) -> Command:
    return Command("demo", "--full", *(("--data", real.parent) if real else ()))


def _volumes(settings: DemoSettings, out: Path, real: Path | None, overwrite: bool, dry_run: bool) -> Result:
    if dry_run:
        what = f"{settings.real_scans} scans of {real}" if real else f"{settings.subjects} synthetic patients"
        events.message(f"would take {what} through index, check, cache, pretrain, finetune, evaluate and report")
        return events.written(Result(next=Command("demo", "--out", out, *(("--data", real.parent) if real else ()))))
    scans = _real_scans(real, out / "scans", settings) if real else _made_up(out / "scans", settings)
    events.message(scans.said)
    events.facts(data="real" if real else "synthetic", data_folder=str(real or scans.folder))
    return auto(
        scans.folder,
        out=out,
        method=settings.method,
        labels=settings.labels,
        budget="minutes",
        overwrite=overwrite,
        overrides=[
            f"test={scans.test}",
            f"seed={settings.seed}",
            f"pretrain_steps={settings.pretrain_steps}",
            f"finetune_steps={settings.finetune_steps}",
            "finetune.inference.overlap=0.25",
        ],
    )


def _channels(settings: DemoSettings, out: Path, real: Path | None, overwrite: bool, dry_run: bool) -> Result | None:
    if not settings.cases:
        return None
    from medssl.chains.demo_channels import demo_channels

    made = {"cases": settings.cases, "steps": settings.case_steps, "seed": settings.seed}
    return demo_channels(out / "channels", **made, overwrite=overwrite, dry_run=dry_run)


def _points(settings: DemoSettings, out: Path, real: Path | None, overwrite: bool, dry_run: bool) -> Result | None:
    if not settings.clouds:
        return None
    from medssl.chains.demo_points import demo_points

    made = {"clouds": settings.clouds, "steps": settings.cloud_steps, "seed": settings.seed}
    thorough = settings.cloud_probes == "all"
    return demo_points(out / "points", **made, all_probes=thorough, overwrite=overwrite, dry_run=dry_run)


# What the demo shows, one after another: each world takes a kind of data through the same verbs.
_WORLDS: tuple[World, ...] = (_volumes, _channels, _points)


def _real_folder(data: str | Path | None) -> Path | None:
    """Return the real data set to use; None for synthetic patients."""
    named = (
        Path(data) if data is not None else Path(os.environ["MEDSSL_DATA"]) if os.environ.get("MEDSSL_DATA") else None
    )
    if named is None:
        return None
    for folder in (named / _REAL, named):
        if (folder / "dataset.json").is_file() and (folder / "imagesTr").is_dir():
            return folder
    if data is not None:
        raise ConfigError(
            f"{named}: there is no {_REAL}/ with imagesTr, labelsTr and dataset.json in it. Leave --data out for "
            "synthetic patients, or use your own scans: medssl auto SCANS --out runs/first"
        )
    events.warning(f"MEDSSL_DATA names {named}, which has no {_REAL}/ in it; synthetic patients are used")
    return None


def _made_up(folder: Path, settings: DemoSettings) -> _Scans:
    """Write the synthetic patients, unless they are there."""
    from medssl.phantoms import write_cohort

    edge, spacing = settings.size, 240.0 / settings.size
    said = (
        f"synthetic patients: {settings.subjects} torsos as {settings.modality} of {edge} x {edge} x {edge} voxels, "
        f"{settings.unlabelled} without labels, {settings.dicom} as DICOM; in {folder}"
    )
    scans = _Scans(folder, f"You named no real data, so the demo uses {said}", test=0.5)
    kept, made_of = folder / _MADE_OF, settings.model_dump(mode="json", include=_COHORT)
    if kept.is_file() and (found := json.loads(kept.read_text(encoding="utf-8"))) != made_of:
        other = ", ".join(f"{key}={found.get(key)}" for key in made_of if found.get(key) != made_of[key])
        raise ConfigError(
            f"{folder}: other synthetic patients are there ({other}). Give these settings, or another --out."
        )
    if not (folder / "dataset.json").exists():  # written last, so a folder that has it is whole
        write_cohort(
            folder,
            subjects=settings.subjects,
            modality=settings.modality,
            shape=(edge, edge, edge),
            spacing_mm=(spacing, spacing, spacing),
            seed=settings.seed,
            unlabelled=settings.unlabelled,
            dicom=settings.dicom,
        )
        with atomic_write(kept) as aside:
            aside.write_text(json.dumps(made_of), encoding="utf-8")
    return scans


def _real_scans(source: Path, folder: Path, settings: DemoSettings) -> _Scans:
    """Lay out a part of a real data set, as links to its files (copies where links are not allowed)."""
    described = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    training = sorted(described["training"], key=lambda row: str(row["image"]))[: settings.real_scans]
    for row in training:
        for key in ("image", "label"):
            name = str(row[key]).removeprefix("./")
            _link((source / name).resolve(), folder / name)
    described |= {"training": training, "numTraining": len(training), "test": [], "numTest": 0}
    with atomic_write(folder / "dataset.json") as aside:
        aside.write_text(json.dumps(described, indent=1), encoding="utf-8")
    said = f"The demo uses real data: {len(training)} scans of {source} (linked from {folder})"
    return _Scans(folder, said, test=0.25)


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
