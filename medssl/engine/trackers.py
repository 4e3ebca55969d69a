"""Where a run's curves go beside metrics.jsonl: TensorBoard, MLflow, Weights & Biases. One row and one class each.

All write into the run's folder and need no network; a server is taken where the tool's own environment variable names
one. What they hold is what run.yaml and metrics.jsonl hold: no name of the machine or the user, no code, no paths.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from medssl.extras import library
from medssl.settings import flatten, load_yaml
from medssl.table import Row, Table
from medssl.writing import atomic_write

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["TRACKERS", "MLflow", "TensorBoard", "Tracker", "WandB"]

TRACKERS = Table(
    "tracker",
    (
        Row(
            name="tensorboard",
            target="medssl.engine.trackers:TensorBoard",
            take_when="The default: tensorboard --logdir runs shows the curves of all runs below a folder.",
            needs="the extra tensorboard",
        ),
        Row(
            name="mlflow",
            target="medssl.engine.trackers:MLflow",
            take_when="Your group keeps its experiments in MLflow: MLFLOW_TRACKING_URI names the server, "
            "else mlflow.db in the run's folder.",
            needs="the extra mlflow",
        ),
        Row(
            name="wandb",
            target="medssl.engine.trackers:WandB",
            take_when="Your group keeps its experiments in Weights & Biases: offline in the run's folder for "
            "wandb sync, or at once with WANDB_MODE=online.",
            needs="the extra wandb",
        ),
    ),
)

PROJECT = "medssl"
_ARTIFACTS = "mlflow-artifacts:/"  # of MLflow's runs: none are given
_NAMES = "trackers.json"  # what each service calls this run, so that a resumed run goes on in it
# What W&B would gather of its own accord.
_GATHERED = ("disable_git", "disable_code", "x_disable_meta", "x_disable_stats", "x_disable_machine_info")
_NAMELESS = {"host": "host", "username": "user"}  # in place of the machine's and the person's


class Tracker(Protocol):
    """What takes a run's numbers.

    Built with the run's folder and the first step that will be recorded, which in a resumed run is not the first of
    all. It raises MissingDependencyError where its library is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None: ...

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Take a row of metrics.jsonl."""

    def close(self) -> None:
        """Flush all and let go; the run may go on later."""


class TensorBoard:
    """Event files in ``tensorboard/``."""

    def __init__(self, folder: Path, step: int) -> None:
        library("tensorboard", purpose="for the curves in tensorboard/")
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder / "tensorboard"
        self._writer = SummaryWriter(str(self._folder), purge_step=step)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Take a row of metrics.jsonl."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the file, and take this machine's name, and with it often a person's, out of its name."""
        self._writer.close()
        host = f".{socket.gethostname()}."
        for path in self._folder.glob("events.out.tfevents.*"):
            if host in path.name:
                path.rename(path.with_name(path.name.replace(host, ".host.")))


class MLflow:
    """A run of MLflow: in ``mlflow.db``, or on the server that ``MLFLOW_TRACKING_URI`` names.

    MLflow keeps what was recorded: the rows that a resumed run makes again, which are the same, stand there twice.
    """

    def __init__(self, folder: Path, step: int) -> None:
        purpose = "for train.trackers=[mlflow]"
        library("mlflow", purpose=purpose)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / 'mlflow.db').absolute()}"
        if place.startswith("sqlite:"):
            # The store that MLflow would make itself notes the working folder as the place of artifacts.
            library("mlflow.store.tracking.sqlalchemy_store", purpose=purpose).SqlAlchemyStore(place, _ARTIFACTS)
        self._client = MlflowClient(tracking_uri=place)
        names = _names(folder)
        try:
            self._run = self._client.get_run(names["mlflow"]).info.run_id
            self._client.update_run(self._run, status="RUNNING")
        except (KeyError, MlflowException):  # the first time, or another server than then
            group = self._client.get_experiment_by_name(PROJECT)
            number = group.experiment_id if group else self._client.create_experiment(PROJECT, _ARTIFACTS)
            self._run = self._client.create_run(number, run_name=folder.absolute().name).info.run_id
            for key, value in _settings(folder).items():
                self._client.log_param(self._run, key, value)
            _keep_name(folder, "mlflow", self._run)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Take a row of metrics.jsonl."""
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        """Say that the run has ended."""
        self._client.set_terminated(self._run)


class WandB:
    """A run of Weights & Biases: offline in ``wandb/``, unless ``WANDB_MODE`` says otherwise.

    ``WANDB_PROJECT`` names the project, "medssl" when it is not set. A resumed run goes on under the same id.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._wandb: ModuleType = library("wandb", purpose="for train.trackers=[wandb]")
        name = _names(folder).get("wandb") or uuid4().hex[:8]
        quiet = self._wandb.Settings(silent=True, console="off", **dict.fromkeys(_GATHERED, True), **_NAMELESS)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=name,
            name=folder.absolute().name,
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE") or "offline",
            config=_settings(folder),
            resume="allow",
            settings=quiet,
        )
        self._folder = folder / "wandb"
        _keep_name(folder, "wandb", name)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Take a row of metrics.jsonl."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """End the run; the service's logs of itself, which name places of this machine, are dropped."""
        self._run.finish()
        for logs in self._folder.glob("*run-*/logs"):
            shutil.rmtree(logs, ignore_errors=True)
        for link in self._folder.glob("debug*.log"):
            link.unlink()


def _settings(folder: Path) -> dict[str, Any]:
    """Return a run's settings as run.yaml has them, by dotted key."""
    return flatten(load_yaml(folder / "run.yaml"))


def _names(folder: Path) -> dict[str, str]:
    """Return what services call this run."""
    path = folder / _NAMES
    return json.loads(path.read_text()) if path.is_file() else {}


def _keep_name(folder: Path, tracker: str, name: str) -> None:
    """Note what a service calls this run."""
    with atomic_write(folder / _NAMES) as aside:
        aside.write_text(json.dumps(_names(folder) | {tracker: name}, indent=1) + "\n")
