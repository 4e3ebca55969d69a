import os
import subprocess
import sys
from unittest.mock import MagicMock

import pytest
import torch
from lightning_fabric import Fabric

from medssl.encoders.table import build_encoder
from medssl.engine.launch import launch, on_first_rank, peers, stop_signals
from medssl.engine.loop import fit
from medssl.engine.run import Run, read_metrics
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError, DataError, PeerLostError


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
    monkeypatch.setattr("medssl.engine.launch.Fabric", lambda **_: MagicMock(world_size=2))
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
        assert a.get("loss", 0.0) == pytest.approx(b.get("loss", 0.0), rel=1e-4)  # step 0 has none


@pytest.mark.slow
def test_an_error_of_the_first_of_two_processes_ends_both(tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("here")
    two = torchrun(tiny, tmp_path / "run", "steps=4")
    assert two.returncode != 0
    assert "not empty" in two.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["mine.txt"]


class Peers:
    """Two ranks as one of them sees them: the other's vote and pace are told beforehand."""

    world_size, global_rank, device = 2, 0, "cpu"

    def __init__(self, pace=0.0, stops_at=None):
        self.pace, self.stops_at, self.asked, self.done = pace, stops_at, [], 0

    def all_reduce(self, mine, reduce_op):
        assert reduce_op == "max"
        self.asked.append(self.done)
        told = self.stops_at is not None and self.done >= self.stops_at
        return torch.maximum(mine, torch.tensor([float(told), self.pace]))


@pytest.mark.parametrize(
    ("pace", "asked"), [(0.001, [1, 2, 12, 22]), (3.0, list(range(1, 31))), (0.5, [1, 2, 6, 10, 14])]
)
def test_ranks_agree_on_stopping_by_the_time_of_the_slowest(pace, asked):
    fabric = Peers(pace=pace)
    with stop_signals() as stop:
        for fabric.done in range(1, 31):
            assert not stop(fabric, fabric.done)
    assert fabric.asked[: len(asked)] == asked


def test_a_rank_stops_where_another_was_told_to():
    fabric = Peers(pace=3.0, stops_at=4)
    with stop_signals() as stop:
        told = [stop(fabric, fabric.done) for fabric.done in range(1, 6)]
    assert told == [False, False, False, True, True]


@pytest.mark.parametrize(
    "error",
    [
        torch.distributed.DistNetworkError("recv failed\nC++ trace"),
        RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"),
    ],
)
def test_a_lost_rank_is_said_in_one_line(error):
    with pytest.raises(PeerLostError, match=r"^process 0 of 2: another process.*--resume\.$"), peers(Peers()):
        raise error


def test_an_error_of_the_network_itself_stays_what_it_was():
    with pytest.raises(RuntimeError, match=r"^shapes cannot be multiplied$"), peers(Peers()):
        raise RuntimeError("shapes cannot be multiplied")


def test_processes_that_do_not_meet_are_said_in_one_line(monkeypatch):
    asked = MagicMock()
    asked.return_value.launch.side_effect = torch.distributed.DistNetworkError("client socket timed out\ntrace")
    monkeypatch.setattr("medssl.engine.launch.Fabric", asked)
    monkeypatch.setenv("MASTER_ADDR", "node7")
    with pytest.raises(ConfigError, match=r"did not meet at node7.*timed out\. See") as told:
        launch(TrainSettings(accelerator="cpu", devices=2))
    assert "trace" not in str(told.value)


def test_fewer_processes_than_were_asked_for_are_an_error(monkeypatch):
    asked = MagicMock()
    asked.return_value.world_size = 1
    monkeypatch.setattr("medssl.engine.launch.Fabric", asked)
    with pytest.raises(ConfigError, match=r"2 processes were asked for .*and 1 run\."):
        launch(TrainSettings(accelerator="cpu", devices=2))


@pytest.mark.slow
def test_a_killed_rank_ends_the_other_with_one_line(tiny, tmp_path):
    two = torchrun(tiny, tmp_path / "run", "steps=400", "--die-at-30")
    assert two.returncode != 0
    assert "another process of this run ended" in two.stderr


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
