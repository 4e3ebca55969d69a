"""The curves in TensorBoard, MLflow and W&B: the numbers of metrics.jsonl, read back by their own libraries."""

import getpass
import json
import socket
import struct
import sys
from typing import get_args

import pytest

from medssl.engine.run import Run, read_metrics
from medssl.engine.trackers import TRACKERS
from medssl.engine.train_settings import TrainSettings
from medssl.settings import Settings, resolve


class Whole(Settings):
    train: TrainSettings = TrainSettings()
    store: str = "../stores/ct"


@pytest.fixture(autouse=True)
def _at_home(monkeypatch):
    """Whoever runs the tests may have a server of their own."""
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def opened(folder, *names, by=Run.create, **more):
    return by(folder, settings=resolve(Whole), trackers=names, **more)


def test_the_settings_know_every_row():
    values = TrainSettings.model_fields["trackers"].annotation
    assert set(get_args(get_args(values)[0])) == set(TRACKERS)


def test_tensorboard_holds_the_same_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = opened(tmp_path / "run", "tensorboard")
    run.record(5, {"loss": 0.25, "signal/spread": 0.5})
    run.close()
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(5, 0.25)]
    assert events.Scalars("signal/spread")[0].value == 0.5


def test_mlflow_holds_the_same_numbers_in_one_run_over_a_resume(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    run = opened(tmp_path / "run", "mlflow")
    run.record(5, {"loss": 0.25, "signal/spread": 0.5})
    run.close()
    run = opened(tmp_path / "run", "mlflow", by=Run.reopen)
    run.record(10, {"loss": 0.125})
    run.close()
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{run.folder / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("medssl").experiment_id])
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    assert [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, "loss")] == [(5, 0.25), (10, 0.125)]
    assert found.data.metrics["signal/spread"] == 0.5
    assert found.data.params["train.lr"] == "0.0002"


@pytest.mark.slow
def test_wandb_keeps_the_same_numbers_offline_under_one_name(tmp_path):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    run = opened(tmp_path / "run", "wandb")
    run.record(5, {"loss": 0.25, "signal/spread": 0.5})
    run.close()
    run = opened(tmp_path / "run", "wandb", by=Run.reopen)
    run.record(10, {"loss": 0.125})
    run.close()
    files = sorted((run.folder / "wandb").glob("offline-run-*/*.wandb"))
    assert len({path.name for path in files}) == 1  # one name, which wandb sync joins by
    assert [row for path in files for row in _rows(path)] == [
        {"_step": 5, "loss": 0.25, "signal/spread": 0.5},
        {"_step": 10, "loss": 0.125},
    ]


def _rows(path):
    """Return the rows of a file of W&B: a head of seven bytes, then records with checksum, length and kind each."""
    from wandb.proto.wandb_internal_pb2 import Record

    held, place, rows = path.read_bytes(), 7, []
    while place < len(held):
        length, kind = struct.unpack_from("<HB", held, place + 4)
        assert kind == 1, "a record in parts: longer than this test's are"
        record = Record.FromString(held[place + 7 : place + 7 + length])
        place += 7 + length
        if record.HasField("history"):
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            rows.append({key: value for key, value in row.items() if key not in ("_timestamp", "_runtime")})
    return rows


@pytest.mark.parametrize("name", [pytest.param("wandb", marks=pytest.mark.slow), "mlflow", "tensorboard"])
def test_nothing_says_whose_machine_it_was(tmp_path, name):
    pytest.importorskip(name, reason=f"the extra {name} is not installed")
    run = opened(tmp_path / "run", name)
    run.record(5, {"loss": 0.25})
    run.close()
    words = {socket.gethostname(), str(tmp_path.resolve()), sys.argv[0]} | {f"user={getpass.getuser()}"}
    for path in run.folder.rglob("*"):
        if path.is_file() and path.name != "environment.json":
            held = path.read_bytes()
            assert not [word for word in words if word and word.encode() in held], path
            assert socket.gethostname() not in path.name


@pytest.mark.parametrize("broken", ["record", "close", "__init__"])
def test_a_tracker_that_fails_is_left_out_and_said_once(tmp_path, monkeypatch, broken):
    def fails(*_):
        raise OSError("no such server")

    monkeypatch.setattr(f"medssl.engine.trackers.TensorBoard.{broken}", fails)
    told = []
    run = opened(tmp_path / "run", "tensorboard", say=told.append)
    for step in (1, 2):
        run.record(step, {"loss": 1.0})
    run.close()
    assert [row["step"] for row in read_metrics(run.folder)] == [1, 2]
    assert told == [
        "warning: tensorboard failed and is left out: no such server (metrics.jsonl holds the same numbers)"
    ]


def test_none_is_none(tmp_path):
    run = opened(tmp_path / "run")
    run.record(1, {"loss": 1.0})
    run.close()
    assert {path.name for path in run.folder.iterdir()} == {"run.yaml", "environment.json", "metrics.jsonl"}
