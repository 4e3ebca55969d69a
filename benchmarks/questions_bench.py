"""What the questions of docs/questions.md share: stores, pretraining runs and protocols, each made once and kept.

Every step leaves a file that says that it is done; a step whose file is there is passed over, so that a stopped script
goes on where it was. With ``plan`` nothing is done: what would be is printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

import medssl
from pipelines import console

CPU = ("train.threads=1", "train.precision=32-true")


@dataclass(frozen=True)
class Data:
    """One data set: its folder, what it is indexed and stored with, and how the small encoders see it.

    Attributes:
        folder: In MEDSSL_DATA.
        spacing: Of the store, mm.
        whole: A window that covers what matters, voxels.
        crop: A view of it.
        strides: Of the encoder, as a setting; "" for those of the preset.
        patch: What masked methods hide at once.
        index: Further settings of index.
    """

    folder: str
    spacing: str
    whole: tuple[int, int, int]
    crop: tuple[int, int, int]
    strides: str
    patch: tuple[int, int, int]
    index: tuple[str, ...] = ("val=0", "test=0.4")


DATA = {
    "hippocampi": Data("hippocampus", "[1,1,1]", (32, 48, 32), (24, 32, 24), "", (8, 8, 8), ()),
    "hearts": Data("acdc", "[8,4,4]", (8, 48, 48), (8, 32, 32), "[1,[1,2,2],[1,2,2],2]", (2, 8, 8)),
    "brains": Data("lgg_flair", "[2,4,4]", (8, 48, 48), (8, 32, 32), "[1,[1,2,2],[1,2,2],2]", (2, 8, 8)),
}
TWO_CROPS = ("simclr", "moco", "byol", "simsiam", "barlow", "vicreg", "cvrl")
MANY_CROPS = ("swav", "dino", "ibot")


def setting(name: str, value: Sequence[int]) -> str:
    """Return ``name=[z,y,x]``."""
    return f"{name}=[{','.join(map(str, value))}]"


def views(data: Data, method: str) -> list[str]:
    """Return the settings that fit a method's windows to a data set; hippocampi are what presets are made for."""
    if not data.strides:
        return []
    z, y, x = data.whole
    found = [f"encoder.strides={data.strides}"]
    if method in TWO_CROPS or method in MANY_CROPS:
        found += [setting("method.window", data.whole), setting("method.crop", data.crop)]
    if method in MANY_CROPS:
        found.append(setting("method.local_crop", (data.crop[0] // 2, data.crop[1] // 2, data.crop[2] // 2)))
    if method in ("global_contrast", "local_contrast"):
        found.append(setting("method.window", (z // 2, y, x)))
    if method in ("masked", "spark", "spark_s3d"):
        found += [setting("method.window", data.whole), setting("method.patch", data.patch)]
    if method == "voco":
        found += [setting("method.window", data.whole), setting("method.crop", (z // 2, y // 2, x // 2))]
        found += ["method.grid=[2,2,2]", "method.random_crops=4"]
    if method == "joined":
        part = "method.parts"
        found += [
            setting(f"{part}.contrast.method.window", data.whole),
            setting(f"{part}.masked.method.window", data.whole),
        ]
        found += [
            setting(f"{part}.contrast.method.crop", data.crop),
            setting(f"{part}.masked.method.patch", data.patch),
        ]
    return found


@dataclass(frozen=True)
class Bench:
    """A folder in which questions are answered.

    Attributes:
        out: The folder.
        small: Whether presets are those called _small, on one core in float32.
        plan: Whether steps are only printed.
    """

    out: Path
    small: bool = True
    plan: bool = False

    @contextmanager
    def step(self, done: Path, what: str) -> Iterator[bool]:
        """Yield whether a step is to be done; ``done`` is there where it was."""
        wanted = not done.exists() and not self.plan
        print(f"{'done' if done.exists() else 'would do' if self.plan else 'now'}: {what}", flush=True)
        with console.speaking(console.Manner(quiet=True)):
            yield wanted

    def manifest(self, name: str) -> Path:
        """Index a data set; return its manifest."""
        data, file = DATA[name], self.out / f"{name}.parquet"
        with self.step(file, f"index {name}") as wanted:
            if wanted:
                medssl.index(
                    Path(os.environ["MEDSSL_DATA"]) / data.folder,
                    out=file,
                    modality="MR",
                    overrides=list(data.index),
                )
        return file

    def store(self, name: str, spacing: str, rows: Callable[[], pl.DataFrame] | None = None) -> Path:
        """Store a data set, or rows of manifests; return the store."""
        folder = self.out / "stores" / name
        with self.step(folder / "store.json", f"store {name}") as wanted:
            if wanted:
                manifest = self.out / f"{name}.parquet"
                if rows is not None:
                    rows().write_parquet(manifest)
                medssl.cache(manifest, out=folder, overrides=[f"spacing_mm={spacing}", "workers=1"])
        return folder

    def data(self, name: str) -> Path:
        """Index and store a data set; return the store."""
        self.manifest(name)
        return self.store(name, DATA[name].spacing)

    def run(
        self,
        method: str,
        store: Path,
        data: Data,
        *,
        steps: int,
        seed: int,
        name: str = "",
        after: Path | None = None,
        splits: str = "",
    ) -> Path:
        """Pretrain one run of a method on a store; return its folder, METHOD-STEPS-seedN."""
        run = self.out / "runs" / store.name / f"{name or method}-{steps}-seed{seed}"
        with self.step(run / "card.json", f"pretrain {run.relative_to(self.out)}") as wanted:
            if wanted:
                medssl.pretrain(
                    f"{method}_small" if self.small else method,
                    data=store,
                    out=run,
                    resume=(run / "run.yaml").is_file(),
                    init_from=None if (run / "run.yaml").is_file() else after,
                    overrides=[
                        *views(data, method),
                        *(CPU if self.small else ()),
                        *([f"data.splits={splits}"] if splits else []),
                        f"train.steps={steps}",
                        f"train.seed={seed}",
                        f"train.probe_every={max(1, steps // 3)}",
                    ],
                )
        return run

    def runs(self, method: str, store: Path, data: Data, *, steps: int, count: int, name: str = "") -> list[Path]:
        """Pretrain the runs of an arm, those of ``local_contrast`` from the global ones of the same seed."""
        before: list[Path | None] = [None] * count
        if method == "local_contrast":
            before = [*self.runs("global_contrast", store, data, steps=steps, count=count)]
        return [
            self.run(method, store, data, steps=steps, seed=seed, name=name, after=before[seed])
            for seed in range(count)
        ]

    def ask(self, name: str, protocol: str, store: Path, runs: Sequence[Path], settings: Sequence[str]) -> Path:
        """Put a protocol of ``evaluate`` to runs; return the folder of what it wrote."""
        out = self.out / "asked" / name
        with self.step(out / f"{protocol.replace('-', '_')}.json", f"{protocol} of {len(runs)} runs: {name}") as wanted:
            if wanted:
                medssl.evaluate(runs[0], against=runs[1:], data=store, out=out, protocol=protocol, overrides=settings)
        return out


def dev_split(manifest: Path, count: int = 18) -> pl.DataFrame:
    """Return the training rows of a manifest with some of their patients as its test set, to look at recipes."""
    rows = pl.read_parquet(manifest).filter(pl.col("split") == "train")
    patients = np.random.default_rng(0).permutation(np.unique(rows["patient"].to_numpy()))
    tested = pl.col("patient").is_in(patients[:count].tolist())
    return rows.with_columns(split=pl.when(tested).then(pl.lit("test")).otherwise(pl.lit("train")))
