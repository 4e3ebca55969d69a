import os
import subprocess
import sys
from unittest.mock import MagicMock

import pytest
import torch
from lightning_fabric import Fabric

from medssl.encoders.table import build_encoder
from medssl.engine.launch import launch, launcher_words, on_first_rank
from medssl.engine.loop import fit
from medssl.engine.run import Run, read_metrics
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError, DataError


def test_one_process_on_the_cpu_is_float32():
    fabric = launch(TrainSettings(accelerator="cpu", devices="auto"))
    assert fabric.world_size == 1
    assert fabric.device.type == "cpu"
    assert fabric._precision.precision == "32-true"


def test_more_gpus_than_there_are_is_an_error():
    with pytest.raises(ConfigError, match=r"train\.devices is 99"):
        launch(TrainSettings(accelerator="cuda", devices=99))


@pytest.mark.parametrize(("pool", "told"), [("mean", False), ("prenorm", True)])
def test_what_reads_before_the_last_norm_is_told_to_ddp(pool, told, monkeypatch):
    """That norm gets no gradient, and DDP would stop the second step for it."""
    asked = []
    monkeypatch.setattr("medssl.engine.launch.DDPStrategy", lambda **words: asked.append(words))
    monkeypatch.setattr("medssl.engine.launch.Fabric", MagicMock())
    encoder = build_encoder({"name": "unet", "channels": [4, 6], "pool": pool})
    launch(TrainSettings(accelerator="cpu", devices=2), torch.nn.Sequential(encoder))
    assert asked == [{"find_unused_parameters": told}]


def test_the_first_rank_hands_on_its_result_or_its_error():
    fabric = Fabric(accelerator="cpu", devices=1)

    def fail():
        raise DataError("no scans")

    assert on_first_rank(fabric, lambda: 7) == 7
    with pytest.raises(DataError, match="no scans"):
        on_first_rank(fabric, fail)


def torchrun(tiny, folder, *words):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", tiny.__file__, str(folder), *words,
    ]  # fmt: skip
    return subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)


@pytest.mark.slow
def test_two_processes_end_where_one_does(tiny, tmp_path):
    words = ["steps=20", "--no-dropout"]
    one = subprocess.run(
        [sys.executable, tiny.__file__, str(tmp_path / "one"), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert one.returncode == 0, one.stderr
    two = torchrun(tiny, tmp_path / "two", *words)
    assert two.returncode == 0, two.stderr
    finals = [torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("one", "two")]
    for name, value in finals[0].items():
        assert torch.allclose(value.float(), finals[1][name].float(), atol=1e-5), name
    rows = [read_metrics(tmp_path / name) for name in ("one", "two")]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
    for a, b in zip(*rows, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)


@pytest.mark.slow
def test_an_error_of_the_first_of_two_processes_ends_both(tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("here")
    two = torchrun(tiny, tmp_path / "run", "steps=4")
    assert two.returncode != 0
    assert "not empty" in two.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["mine.txt"]


@pytest.mark.parametrize(
    ("around", "words"),
    [
        ({}, "medssl"),
        (
            {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "4"},
            "torchrun --nproc-per-node 4 -m medssl",
        ),
        (
            {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8", "MASTER_ADDR": "node1"},
            "torchrun --nnodes 2 --rdzv-backend c10d --rdzv-endpoint node1:29400 --nproc-per-node 4 -m medssl",
        ),
        (
            {"SLURM_PROCID": "0", "SLURM_NTASKS_PER_NODE": "8", "SLURM_NNODES": "2"},
            "srun --nodes 2 --ntasks-per-node 8 medssl",
        ),
    ],
)
def test_the_command_to_go_on_is_of_the_launcher_that_was_used(around, words, monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in around.items():
        monkeypatch.setenv(name, value)
    assert " ".join(launcher_words()) == words


@pytest.mark.slow
def test_two_processes_go_on_where_one_stopped_and_end_where_one_does(tiny, tmp_path):
    resolved = tiny.settings()

    def run_of(name, before=lambda step: None):
        run = Run.create(tmp_path / name, settings=resolved)
        method = tiny.TinyMethod(dropout=0.0)
        fit(method, tiny.TinyLoader(before=before), resolved.settings, run=run, held_out=[tiny.TinyLoader().batch(9)])
        return method

    def fail(step):
        if step == 9:
            raise RuntimeError("pulled the plug")

    whole = run_of("whole").state_dict()
    with pytest.raises(RuntimeError, match="plug"):
        run_of("half", fail)
    two = torchrun(tiny, tmp_path / "half", "--resume", "--no-dropout")
    assert two.returncode == 0, two.stderr
    assert "going on with 2 processes in place of 1 process: the same batches and steps" in two.stdout
    final = torch.load(tmp_path / "half" / "final.pt", weights_only=True)
    for name, value in whole.items():
        assert torch.allclose(value.float(), final[name].float(), atol=1e-5), name
