from __future__ import annotations

import numpy as np
import polars
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, load_encoder, save_encoder
from medssl.errors import CheckpointError, ConfigError, DataError
from medssl.store.in_memory import Item, store_from_arrays
from medssl.tasks.class_features import class_features
from medssl.tasks.class_samples import samples_of
from medssl.tasks.class_settings import ClassificationSettings
from medssl.workflows.embed import embed
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.shapes import CLASSES, shape
from pointcloud.store_writing import CloudItem, store_from_clouds
from tests.perturbing import perturbed


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    encoder = perturbed(build_encoder({"name": "unet", "channels": [4, 8]}))
    card = Card(
        encoder=encoder.settings.model_dump(mode="json"), in_channels=1, channels=encoder.channels,
        strides=encoder.strides, spacing_mm=(2.0, 2.0, 2.0), modality="CT", scale=(-1000.0, 1000.0), window=(9, 8, 8),
    )  # fmt: skip
    (tmp_path / "run").mkdir()
    save_encoder(encoder, card, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def store(tmp_path):
    generator = np.random.default_rng(0)
    return store_from_arrays(
        tmp_path / "store",
        [
            Item(id=f"s{i}", values=generator.integers(-900, 900, (10, 12, 14)).astype(np.int16), patient=f"p{i // 2}",
                 split="train" if i < 3 else "test", targets={"grade": "high" if i % 2 else "low"} if i else {})
            for i in range(4)
        ],
    )  # fmt: skip


def test_a_row_a_scan(run, store, tmp_path) -> None:
    table = embed(run, data=store.folder, out=tmp_path / "new" / "features.parquet").table
    frame = polars.read_parquet(tmp_path / "new" / "features.parquet")
    assert frame.columns == ["id", "patient", "split", "modality", "windows", "target_grade", "run", "vector"]
    assert frame["target_grade"].to_list() == [None, "high", "low", "high"]
    assert set(frame["run"]) == {"run"}
    assert frame["id"].to_list() == ["s0", "s1", "s2", "s3"]
    assert frame["patient"].to_list() == ["p0", "p0", "p1", "p1"]
    assert frame["split"].to_list() == ["train"] * 3 + ["test"]
    assert set(frame["windows"].to_list()) == {1}
    np.testing.assert_array_equal(np.array(frame["vector"].to_list(), np.float32), table.vectors)
    assert np.ptp(table.vectors, axis=0).min() > 0
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["features.parquet"]


def test_vectors_are_those_of_the_probe_and_windows_are_there_on_request(run, store, tmp_path) -> None:
    """One code for both: what `embed` writes is what the probe fits its classifiers on."""
    table = embed(run, data=store.folder, out=tmp_path / "f.npz", overrides=["levels=all", "batch_size=3"]).table
    settings = ClassificationSettings(target="grade", window=(8, 8, 8))
    samples = samples_of(store, settings, ("high", "low"))
    theirs = class_features(load_encoder(run), samples, settings, levels="all", batch_size=8)
    np.testing.assert_allclose(table.vectors, theirs.vectors, rtol=1e-5, atol=1e-6)
    covering = embed(run, data=store.folder, out=tmp_path / "w.npz", overrides=["coverage=windows"]).table
    assert set(covering.windows) == {8}
    with np.load(tmp_path / "f.npz", allow_pickle=False) as found:
        assert found["target_grade"].tolist() == ["", "high", "low", "high"]
        assert found["run"].tolist() == ["run"] * 4


def test_clouds_carry_their_class(tmp_path) -> None:
    encoder = CLOUD_ENCODERS.build({"name": "point_vit", "width": 32, "depth": 1, "heads": 2})
    card = Card(kind="cloud", encoder=encoder.settings.model_dump(mode="json"), in_channels=3,
                channels=encoder.channels, points=64, method={"name": "point_mae"})  # fmt: skip
    (tmp_path / "run").mkdir()
    save_encoder(encoder, card, tmp_path / "run")
    items = [CloudItem(id=f"c{n}", cloud=shape("cylinder", n, seed=0, points=90), patient=f"p{n}", split="train")
             for n in range(3)]  # fmt: skip
    store_from_clouds(tmp_path / "store", items, classes=dict(enumerate(CLASSES)))
    embed(tmp_path / "run", data=tmp_path / "store", out=tmp_path / "c.parquet")
    frame = polars.read_parquet(tmp_path / "c.parquet")
    assert frame["class"].to_list() == ["cylinder"] * 3
    assert frame["patient"].to_list() == ["p0", "p1", "p2"]


def test_arrays_hold_the_same(run, store, tmp_path) -> None:
    table = embed(run, data=store.folder, out=tmp_path / "f.npz", overrides=["coverage=whole", "splits=[test]"]).table
    with np.load(tmp_path / "f.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["vectors"], table.vectors)
        assert found["id"].tolist() == ["s3"]
        assert found["windows"].tolist() == [1]


def test_one_bad_scan_is_told_and_all_bad_is_an_error(run, store, tmp_path, capsys) -> None:
    (store.folder / store.entries[1].file).write_bytes(b"damaged")
    assert len(embed(run, data=store.folder, out=tmp_path / "f.npz").table) == 3
    assert "s1" in capsys.readouterr().err
    for entry in store.entries:
        (store.folder / entry.file).write_bytes(b"damaged")
    with pytest.raises(DataError, match="none of its 4 scans"):
        embed(run, data=store.folder, out=tmp_path / "g.npz")
    assert not (tmp_path / "g.npz").exists()


def test_what_cannot_be_is_refused(run, store, tmp_path) -> None:
    with pytest.raises(ConfigError, match="parquet"):
        embed(run, data=store.folder, out=tmp_path / "f.csv")
    with pytest.raises(ConfigError, match="multiples"):
        embed(run, data=store.folder, out=tmp_path / "f.npz", overrides=["window=[9,8,8]"])
    with pytest.raises(ConfigError, match="device"):
        embed(run, data=store.folder, out=tmp_path / "f.npz", overrides=["device=abacus"])
    with pytest.raises(DataError, match="splits"):
        embed(run, data=store.folder, out=tmp_path / "f.npz", overrides=["splits=[val]"])
    with pytest.raises(CheckpointError):
        embed(tmp_path, data=store.folder, out=tmp_path / "f.npz")


def test_a_dry_run_writes_nothing(run, store, tmp_path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert len(embed(run, data=store.folder, out=tmp_path / "f.npz", dry_run=True).table) == 0
    assert sorted(tmp_path.rglob("*")) == before
