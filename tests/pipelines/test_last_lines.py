"""The command that each verb proposes last can be pasted, whatever the folder is called."""

import shlex

import numpy as np
import pytest
from typer.testing import CliRunner

import medssl
from medssl.errors import CacheError, ManifestError
from medssl.formats.nifti import write_nifti
from medssl.workflows.verbs import VERBS
from pipelines.cli import app
from pointcloud.shapes import CLASSES, shape
from pointcloud.store_writing import CloudItem, store_from_clouds
from tests.pipelines.test_finetune_clouds import BRIEF
from tests.pipelines.test_pretrain_clouds import QUICK

FOLDER = "Anna's  scans"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home") / FOLDER
    (home / "in").mkdir(parents=True)
    for n in range(4):
        values = np.random.default_rng(n).integers(0, 300, (8, 9, 10)).astype(np.int16)
        write_nifti(home / "in" / f"patient{n:03d}.nii.gz", values, np.eye(4))
    items = [
        CloudItem(id=f"{name}-{n}", cloud=shape(name, n, seed=0, points=64), patient=f"{name}-{n}",
                  split="test" if n == 3 else "train")
        for name in CLASSES[:2] for n in range(4)
    ]  # fmt: skip
    store_from_clouds(home / "clouds", items, classes=dict(enumerate(CLASSES)))
    return home


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    import medssl.engine.reporter
    import pointcloud.training

    for name in ("draw_progress", "draw_views"):
        monkeypatch.setattr(medssl.engine.reporter, name, lambda *_: None)
    monkeypatch.setattr(pointcloud.training, "draw_attention", lambda *_: None)


# In an order in which each finds what it needs: verb, then its words, with {home} for the folder.
CHAIN = [
    ("index {home}/in --dry-run", "{home}/in"),
    ("index {home}/in --out {home}/m.parquet modality=MR test=0.25 val=0", "{home}/m.parquet"),
    ("check {home}/m.parquet --dry-run", "{home}/m.parquet"),
    ("check {home}/m.parquet pictures=0", "{home}/m.parquet"),
    ("check-split {home}/m.parquet --dry-run", "{home}/m.parquet"),
    ("check-split {home}/m.parquet pictures=0", "{home}/m.parquet"),
    ("reduce {home}/m.parquet --out {home}/k.parquet --dry-run", "{home}/k.parquet"),
    ("reduce {home}/m.parquet --out {home}/k.parquet --shard 1/2", "{home}/k.parquet"),
    ("reduce {home}/m.parquet --out {home}/k.parquet pictures=0", "{home}/k.parquet"),
    ("cache {home}/m.parquet --out {home}/store --dry-run", "{home}/store"),
    ("cache {home}/m.parquet --out {home}/store", "{home}/store"),
    ("copy pretrain/voco {home}/my.yaml --dry-run", "{home}/my.yaml"),
    ("copy pretrain/voco {home}/my.yaml", "{home}/my.yaml"),
    ("validate {home}/my.yaml --for pretrain", "{home}/my.yaml"),
    ("demo --out {home}/demo --dry-run", "{home}/demo"),
    ("auto {home}/in --out {home}/auto --dry-run", "{home}/auto"),
    ("fetch msd-hippocampus --out {home}/data --dry-run", "{home}/data"),
    ("pretrain point_mae_small --data {home}/clouds --out {home}/run " + " ".join(QUICK), "{home}/run"),
    ("finetune {home}/run --data {home}/clouds --out {home}/fine --task classification " + " ".join(BRIEF),
     "{home}/fine"),
    ("evaluate {home}/fine --data {home}/clouds --dry-run", "{home}/fine"),
    ("evaluate {home}/fine --data {home}/clouds", "{home}/fine"),
]  # fmt: skip


def test_every_last_line_names_its_paths_whole(home):
    proposed = 0
    for line, path in CHAIN:
        told = CliRunner().invoke(app, [word.format(home=home) for word in shlex.split(line)])
        assert told.exit_code == 0, (line, told.output)
        following = [said.removeprefix("next: ") for said in told.stdout.splitlines() if said.startswith("next: ")]
        words = shlex.split(following[-1])
        assert words[:1] == ["medssl"]
        assert words[1] in VERBS
        assert path.format(home=home) in words, (line, following)
        proposed += 1
    assert proposed >= 20


def test_so_do_errors(home):
    (home / "list.csv").write_text("file\nx.nii.gz\n")
    for wrong, call in [
        (ManifestError, lambda: medssl.check(home / "none.parquet")),
        (ManifestError, lambda: medssl.check(home / "list.csv")),
        (CacheError, lambda: medssl.query(home / "in", index=home / "none").answers),
    ]:
        with pytest.raises(wrong) as raised:
            call()
        words = shlex.split(str(raised.value).rpartition(": ")[2])
        assert words[0] == "medssl"
        assert any(word.startswith(str(home)) for word in words), words
