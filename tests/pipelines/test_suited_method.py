"""One rule says which method suits a set of scans: cache names it, auto takes it."""

from dataclasses import replace

import numpy as np
import pytest

import medssl
from medssl.domains.suited_method import suited_method
from medssl.store.in_memory import Item, store_from_arrays
from medssl.workflows.cache import _suited
from medssl.workflows.pretrain import pretrain

SAME = [(40, 60, 60)] * 6
ONE_MM = [(1.0, 1.0, 1.0)] * 6


@pytest.mark.parametrize(
    ("shapes", "patients", "segmented", "wanted"),
    [
        (SAME, 6, True, "global_contrast"),
        (SAME, 6, False, "voco_masked"),
        (SAME, 3, True, "masked"),  # too few patients to compare positions between
        ([(40, 60, 60), (90, 60, 60)] * 3, 6, True, "masked"),  # other regions
        ([(4, 60, 60)] * 6, 6, True, "voco_masked"),  # too flat to be cut into parts
    ],
)
def test_what_suits(shapes, patients, segmented, wanted):
    assert suited_method(shapes, ONE_MM, patients=patients, segmented=segmented)[0] == wanted


def scans(folder, shape, patients=4):
    draw = np.random.default_rng(0)
    items = []
    for number in range(patients):
        values = draw.normal(0, 20, shape).astype(np.int16)
        values[2:-2, 2:-2, 2:-2] += 300
        labels = (values > 200).astype(np.int16)
        items.append(Item(id=f"s{number}", values=values, labels=labels, patient=f"p{number}", modality="CT"))
    return store_from_arrays(folder, items)


def test_cache_names_it_with_the_preset_for_this_machine(tmp_path, monkeypatch, capsys):
    store = scans(tmp_path / "store", (20, 24, 24))
    monkeypatch.setattr("medssl.workflows.cache._has_gpu", lambda: False)
    assert _suited(store) == "global_contrast_small"
    assert "that it saves labels is not shown" in capsys.readouterr().out
    monkeypatch.setattr("medssl.workflows.cache._has_gpu", lambda: True)
    assert _suited(store) == "global_contrast"


def test_windows_that_are_mostly_padding_are_said_to_be(tmp_path, capsys):
    store = scans(tmp_path / "store", (8, 32, 32))
    padded = "75% of a window is padding beyond the scans, whose median size is 8 x 32 x 32"
    for window, said in (("[32,32,32]", padded), ("[8,32,32]", "")):
        pretrain(
            "masked_small", data=store.folder, out=tmp_path / "run", dry_run=True,
            overrides=[f"method.window={window}", "method.patch=[8,8,8]", "encoder.channels=[4,8]"],
        )  # fmt: skip
        shown = capsys.readouterr().out
        assert ("padding" in shown) == bool(said)
        assert said in shown


def test_only_patients_to_train_on_are_counted_as_auto_does(tmp_path, monkeypatch):
    store = scans(tmp_path / "store", (20, 24, 24), patients=6)
    monkeypatch.setattr("medssl.workflows.cache._has_gpu", lambda: False)
    assert _suited(store) == "global_contrast_small"
    kept = [replace(entry, split="train" if n < 3 else "test") for n, entry in enumerate(store.entries)]
    monkeypatch.setattr(type(store), "entries", property(lambda _: kept))
    assert _suited(store) == "masked_small"  # three of the six are trained on


@pytest.mark.parametrize(
    ("clouds", "gpu", "wanted"),
    [
        (15, False, "point_mae_small"),
        (16, False, "point_distil_contrast_small"),
        (16, True, "point_distil_contrast"),
    ],
)
def test_cache_names_for_clouds_what_auto_takes(tmp_path, monkeypatch, capsys, clouds, gpu, wanted):
    monkeypatch.setattr("medssl.workflows.cache._has_gpu", lambda: gpu)
    draw = np.random.default_rng(0)
    (tmp_path / "in" / "train").mkdir(parents=True)
    for n in range(clouds):
        np.savetxt(tmp_path / "in" / "train" / f"shape{n}.xyz", draw.normal(size=(80, 3)))
    medssl.index(tmp_path / "in", out=tmp_path / "m.parquet", unit="mm", val=0.0, test=0.0)
    capsys.readouterr()
    medssl.cache(tmp_path / "m.parquet", out=tmp_path / "store")
    assert f"next: medssl pretrain {wanted} --data" in capsys.readouterr().out
