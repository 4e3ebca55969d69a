"""A folder of cases with four sequences taken the whole way, verb by verb and by ``auto``."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest

import medssl
from medssl.chains.auto import auto
from medssl.engine.card import load_card
from medssl.manifest.schema import read_manifest
from medssl.phantoms import SEQUENCES, write_brains
from medssl.store.read import Store

SHAPE = (16, 20, 16)
QUICK = [
    "train.batch_size=2", "train.warmup=0", "train.accelerator=cpu", "train.threads=1", "train.precision=32-true",
    "train.checkpoint_every=100", "train.log_every=5",
]  # fmt: skip
UNET = ["encoder.name=unet", "encoder.channels=[4,8]", "encoder.blocks=1"]


def dice(one: np.ndarray, two: np.ndarray) -> float:
    return float(2 * (one & two).sum() / max(1, one.sum() + two.sum()))


@pytest.mark.slow
def test_from_a_folder_of_brats_to_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_brains(tmp_path / "d", subjects=8, shape=SHAPE)
    file, store = tmp_path / "found.parquet", tmp_path / "store"
    medssl.index(tmp_path / "d", out=file, overrides=["test=0.3", "val=0.15"])
    assert "8 cases x 4 channels (t1, t1ce, t2, flair), 8 labelled" in capsys.readouterr().out
    assert medssl.check(file).ok
    medssl.cache(file, out=store, overrides=["workers=1"])
    opened = Store.open(store)
    assert opened.channels == SEQUENCES
    assert len(opened) == 8
    medssl.pretrain(method="masked", data=store, out=tmp_path / "run",
                    overrides=[*QUICK, *UNET, "method.name=masked", "train.steps=20", "method.window=[16,16,16]",
                               "method.patch=[4,4,4]"])  # fmt: skip
    assert [channel.name for channel in load_card(tmp_path / "run").inputs] == list(SEQUENCES)
    fine = tmp_path / "fine"
    medssl.finetune(tmp_path / "run", data=store, out=fine,
                    overrides=[*QUICK, "train.steps=20", "segmentation.window=[16,16,16]"])  # fmt: skip
    predicted = sorted((fine / "predictions").glob("*.nii.gz"))
    test = {entry.id for entry in opened.split("test").entries}
    assert {path.name.removesuffix(".nii.gz") for path in predicted} == test
    found = {}
    for reference in (store, file):  # a store and a manifest name the same truth by the case
        result = medssl.evaluate(
            fine, data=reference, out=tmp_path / f"scores-{reference.name}", overrides=["workers=1"]
        )
        rows = result.table.frame.filter(pl.col("metric") == "dice").select("item", "target", "value").rows()
        assert result.failed == {} or not any(result.failed.values())
        found[reference.name] = {(case, structure): dice_of for case, structure, dice_of in rows}
    assert found["store"] == found["found.parquet"]
    assert {case for case, _ in found["store"]} == test
    case = min(test)
    guess = np.asarray(nib.load(fine / "predictions" / f"{case}.nii.gz").dataobj)
    truth = np.asarray(nib.load(tmp_path / "d" / case / f"{case}_seg.nii.gz").dataobj)
    names = {value: name for value, name in opened.classes.items() if value}
    for value, name in names.items():
        assert found["store"][case, name] == pytest.approx(dice(guess == value, truth == value), abs=1e-6)
    page = medssl.report(tmp_path / "run", fine, store, file, out=tmp_path / "report")
    assert page is not None


@pytest.mark.slow
def test_auto_takes_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = write_brains(tmp_path / "d", subjects=6, shape=SHAPE)
    (folders[2] / f"{folders[2].name}_flair.nii.gz").unlink()
    tiny = [
        "pretrain_steps=4", "finetune_steps=4", "window=[16,16,16]", "test=0.4", "workers=1", "method=masked",
        "pretrain.encoder.channels=[4,8]", "pretrain.encoder.strides=[1,2]", "pretrain.train.threads=1",
        "finetune.train.threads=1", "pretrain.train.precision=32-true", "finetune.train.precision=32-true",
        "finetune.inference.overlap=0",
    ]  # fmt: skip
    auto(tmp_path / "d", out=tmp_path / "out", overrides=tiny)
    said = capsys.readouterr().out
    assert "6 cases of 4 (t1, t1ce, t2, flair)" in said
    store = Store.open(tmp_path / "out/store")
    assert store.channels == SEQUENCES
    assert len(store) == 5
    assert load_card(tmp_path / "out/runs/encoder").in_channels == 4
    splits = {entry.split for entry in store.entries}
    assert {"train", "test"} <= splits
    scores = json.loads(next((tmp_path / "out/runs").glob("*/scores.json")).read_text())
    assert scores
    assert set(read_manifest(tmp_path / "out/manifest.parquet").frame["case"]) == {folder.name for folder in folders}
