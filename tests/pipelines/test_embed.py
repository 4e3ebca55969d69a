from __future__ import annotations

import numpy as np
import polars
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, save_encoder
from medssl.errors import CheckpointError, ConfigError, DataError
from medssl.exporting.exportable import perturbed
from medssl.store.write import Item, store_from_arrays
from pipelines.embed import embed


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
                 split="train" if i < 3 else "test")
            for i in range(4)
        ],
    )  # fmt: skip


def test_a_row_a_scan(run, store, tmp_path) -> None:
    table = embed(run, data=store.folder, out=tmp_path / "new" / "features.parquet")
    frame = polars.read_parquet(tmp_path / "new" / "features.parquet")
    assert frame.columns == ["id", "patient", "split", "modality", "windows", "vector"]
    assert frame["id"].to_list() == ["s0", "s1", "s2", "s3"]
    assert frame["patient"].to_list() == ["p0", "p0", "p1", "p1"]
    assert frame["split"].to_list() == ["train"] * 3 + ["test"]
    assert set(frame["windows"].to_list()) == {8}
    np.testing.assert_array_equal(np.array(frame["vector"].to_list(), np.float32), table.vectors)
    assert np.ptp(table.vectors, axis=0).min() > 0
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["features.parquet"]


def test_arrays_hold_the_same(run, store, tmp_path) -> None:
    table = embed(run, data=store.folder, out=tmp_path / "f.npz", overrides=["coverage=whole", "splits=[test]"])
    with np.load(tmp_path / "f.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["vectors"], table.vectors)
        assert found["id"].tolist() == ["s3"]
        assert found["windows"].tolist() == [1]


def test_one_bad_scan_is_told_and_all_bad_is_an_error(run, store, tmp_path, capsys) -> None:
    (store.folder / store.entries[1].file).write_bytes(b"damaged")
    assert len(embed(run, data=store.folder, out=tmp_path / "f.npz")) == 3
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
    assert len(embed(run, data=store.folder, out=tmp_path / "f.npz", dry_run=True)) == 0
    assert sorted(tmp_path.rglob("*")) == before
