"""A run's folder: its settings with their origins, its environment, its log and its measurements."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.encoders.table import pooled_as_then
from medssl.engine.kept_paths import kept_command, kept_value, same_place
from medssl.engine.trackers import TRACKERS
from medssl.errors import CheckpointError, ConfigError, MedSSLError
from medssl.locking import LOCK
from medssl.nameless import places_as
from medssl.quoting import visible
from medssl.settings import Resolved, dump_with_origins, flatten, load_yaml
from medssl.writing import atomic_write, disk_faults

if TYPE_CHECKING:
    from medssl.engine.trackers import Tracker

__all__ = [
    "Run",
    "begins_here",
    "describe_environment",
    "differences",
    "read_metrics",
    "recorded_settings",
]

# Settings that change nothing in the result, and so may differ when a run is resumed. Of the number of processes, which
# changes no more than rounding, the loop says that it is another.
AS_BEGUN = "as the release that began the run did"  # why a setting that the record lacks is not at its default
HARMLESS = frozenset({"train.threads", "train.keep_last", "train.devices", "train.nodes", "train.trackers"})
_GONE = frozenset({"transfer.adapt_channels"})  # of an earlier release; a checkpoint has the weights that it led to
_ABSENT = "absent"


class Run:
    """The folder of one run, as the loop writes to it.

    Args:
        folder: Created by `create`, or found by `reopen`.
        writes: False on all ranks but the first: every method that would write then does nothing.
        say: Told of everything that the user should hear at once (warnings, milestones).
        trackers: Names of what takes the numbers beside metrics.jsonl; see `medssl.engine.trackers`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        writes: bool = True,
        say: Callable[[str], None] = lambda _: None,
        trackers: Sequence[str] = (),
    ) -> None:
        self.folder = Path(folder)
        self.writes = writes
        self._say = say
        self._trackers = list(trackers)  # those that have failed are taken out
        self._open: dict[str, Tracker] = {}

    def __fspath__(self) -> str:
        """Return the folder, so that a run may stand where a path is wanted."""
        return str(self.folder)

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        settings: Resolved[Any],
        overwrite: bool = False,
        say: Callable[[str], None] = lambda _: None,
        trackers: Sequence[str] = (),
    ) -> Run:
        """Start a run in an empty or new folder.

        Args:
            folder: Where to.
            settings: Written to run.yaml, each line with its origin.
            overwrite: Move what is in the way aside, to ``NAME.old``; nothing is deleted.
            say: See `Run`.
            trackers: See `Run`.

        Raises:
            ConfigError: The folder holds something and ``overwrite`` is False.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(path.name != LOCK for path in folder.iterdir())):
            if not overwrite:
                raise ConfigError(
                    f"{folder} is not empty. Continue the run in it with --resume, start again with --overwrite "
                    "(which moves it aside and deletes nothing), or choose another --out."
                )
            aside = _free(folder.with_name(folder.name + ".old"))
            folder.rename(aside)
            say(f"{folder} was moved to {aside}")
        folder.mkdir(parents=True, exist_ok=True)
        run = cls(folder, say=say, trackers=trackers)
        run.write_text(
            "run.yaml", _placed(dump_with_origins(settings, lambda values: kept_value(values, folder)), folder)
        )
        run.write_text("environment.json", json.dumps(describe_environment(), indent=1) + "\n")
        return run

    @classmethod
    def reopen(
        cls,
        folder: Path,
        *,
        settings: Resolved[Any],
        say: Callable[[str], None] = lambda _: None,
        trackers: Sequence[str] = (),
    ) -> Run:
        """Find a run to resume.

        Raises:
            CheckpointError: There is no run in the folder.
            ConfigError: ``settings`` are not those it was started with; the message shows the difference.
        """
        folder = Path(folder)
        recorded = pooled_as_then(load_yaml(recorded_settings(folder)))
        now = settings.settings.model_dump(mode="json")
        # What an earlier release had no setting for, it did as the default does.
        new = {key for key, origin in settings.origins.items() if origin in ("default", f"auto ({AS_BEGUN})")}
        changed = [
            (key, old, value)
            for key, old, value in differences(recorded, now, ignore=HARMLESS | _GONE)
            if not (old == _ABSENT and key in new) and not same_place(old, value, folder)
        ]
        if changed:
            listed = "\n".join(f"  {key}: {old} -> {new}" for key, old, new in changed)
            raise ConfigError(
                f"{folder}: a resumed run must have the settings it was started with, and these differ:\n{listed}\n"
                "Give the old values, or no settings at all: with --out and --resume alone a run continues with those "
                "that it recorded. Or start anew from its weights with --init-from."
            )
        return cls(folder, say=say, trackers=trackers)

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / "checkpoints"

    def write_text(self, name: str, text: str) -> None:
        """Write a small file, aside and renamed."""
        if self.writes:
            with atomic_write(self.folder / name) as aside:
                aside.write_text(text)

    def log(self, text: str) -> None:
        """Add a line with the time to log.txt."""
        if self.writes:
            with disk_faults(self.folder / "log.txt"), (self.folder / "log.txt").open("a") as file:
                file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {visible(_placed(text, self.folder))}\n")

    def say(self, text: str) -> None:
        """Tell the user, and log it."""
        if self.writes:
            self.log(text)
            self._say(text)

    def warn(self, text: str) -> None:
        """Tell the user of something that is wrong but not fatal, and log it."""
        self.say(f"warning: {text}")

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row to metrics.jsonl, and give it to the trackers."""
        if not self.writes:
            return
        with disk_faults(self.folder / "metrics.jsonl"), (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name in tuple(self._trackers):
            with self._tracked(name):
                if name not in self._open:
                    self._open[name] = TRACKERS.load(name)(self.folder, step)
                self._open[name].record(step, values)

    @contextmanager
    def _tracked(self, name: str) -> Iterator[None]:
        """Go on without a tracker that fails, said once: no run ends for want of a server or a library."""
        try:
            yield
        except Exception as error:
            self._trackers.remove(name)
            self._open.pop(name, None)
            why = str(error) if isinstance(error, MedSSLError) else f"warning: {name} failed and is left out: {error}"
            self.say(f"{why} (metrics.jsonl holds the same numbers)")

    def rewind(self, step: int) -> None:
        """Drop the rows of metrics.jsonl after ``step``: a resumed run makes those steps again."""
        path = self.folder / "metrics.jsonl"
        if self.writes and path.exists():
            kept = [row for row in read_metrics(self.folder) if row["step"] <= step]
            self.write_text("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))

    def close(self) -> None:
        """Flush and close what the trackers hold open."""
        while self._open:
            name, tracker = self._open.popitem()
            with self._tracked(name):
                tracker.close()


def _placed(text: str, folder: Path) -> str:
    """Return a text in which places of this machine are as seen from the run."""
    return places_as(text, lambda place: str(kept_value(place, folder)))


def recorded_settings(folder: Path) -> Path:
    """Return the file of the settings that a run was started with; `resolve` knows how places stand in it.

    Raises:
        CheckpointError: There is no run in the folder.
    """
    path = Path(folder) / "run.yaml"
    if not path.is_file():
        raise CheckpointError(f"{folder}: there is no run to resume here (no run.yaml). Leave --resume out.")
    return path


def begins_here(folder: Path) -> bool:
    """Tell whether there is nothing to resume in a folder, for it is not there or empty; a hidden file is nothing."""
    try:
        return all(entry.name.startswith(".") for entry in Path(folder).iterdir())
    except FileNotFoundError:
        return True
    except OSError:
        return False


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], *, ignore: Collection[str] = ()
) -> list[tuple[str, Any, Any]]:
    """Return (dotted key, old value, new value) of each setting that differs; "absent" where one side lacks it."""
    before, after = flatten(old), flatten(new)
    keys = sorted((before.keys() | after.keys()) - set(ignore))
    pairs = ((key, before.get(key, _ABSENT), after.get(key, _ABSENT)) for key in keys)
    return [(key, a, b) for key, a, b in pairs if a != b]


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl; a last line that was cut short by a kill is passed over."""
    path = Path(folder) / "metrics.jsonl"
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def describe_environment() -> dict[str, Any]:
    """Return versions, devices and the project's git commit, for environment.json."""
    from importlib import metadata

    import torch

    from medssl import __version__

    versions: dict[str, str | None] = {}
    for name in ("torch", "lightning-fabric", "monai", "numpy", "blosc2", "safetensors"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "medssl": __version__,
        "commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "cuda": torch.version.cuda,
        "gpus": gpus,
        "cpus": os.cpu_count(),
        "command": kept_command([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git_commit() -> str | None:
    """Return the commit of the checkout that this file lies in, with "+" where it has changes; None outside one."""

    def said(*words: str) -> str:
        told = subprocess.run(  # noqa: S603
            ["git", *words],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return told.stdout.strip()

    try:
        return said("rev-parse", "HEAD") + ("+" if said("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _free(path: Path) -> Path:
    """Return ``path``, or the first of its numbered variants that does not exist."""
    return next(p for n in range(1_000_000) if not (p := path.with_name(f"{path.name}{n or ''}")).exists())
