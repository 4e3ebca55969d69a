"""How many processes a run has: what torchrun, SLURM or the settings start, checked against what was asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError

__all__ = ["Processes", "launcher_words", "processes_of"]

_MEETING_PORT = 29400  # torchrun's own default
_BY_HAND = ("bash", "interactive")  # names of SLURM jobs in which Fabric leaves the start of processes to the user


@dataclass(frozen=True)
class Processes:
    """What a run is started with.

    Attributes:
        here: Processes on this machine; "auto" where the devices decide.
        machines: Machines, each with as many.
        launcher: Who started them: "torchrun", "srun", or "" for none, and they are still to be started.
    """

    here: int | Literal["auto"]
    machines: int
    launcher: Literal["", "torchrun", "srun"] = ""


def processes_of(settings: TrainSettings) -> Processes:
    """Return the launcher's numbers where there is one, else those of the settings.

    Raises:
        ConfigError: The launcher started another number than the settings ask for, or machines have unequal numbers.
    """
    found = _started()
    if found is None:
        return Processes(settings.devices, settings.nodes)
    for name, asked, there, what in (
        ("train.devices", settings.devices, found.here, "on each machine"),
        ("train.nodes", settings.nodes, found.machines, "machines"),
    ):
        if asked not in (1, "auto", there):
            raise ConfigError(
                f"{name} is {asked}, and {found.launcher} started {there} {what}. Start it with: "
                f"{_start_line(found.launcher, settings)}; or leave {name} out to train with what was started."
            )
    return found


def launcher_words() -> list[str]:
    """Return the words that start the command line as it was started here: by torchrun, by SLURM's srun, or plainly.

    torchrun over several machines is started on each; they meet at the first one, at the usual port.

    Raises:
        ConfigError: Machines have unequal numbers of processes.
    """
    found = _started()
    if found is None:
        return ["medssl"]
    if found.launcher == "srun":
        machines = ["--nodes", str(found.machines)] if "SLURM_NNODES" in os.environ else []
        return ["srun", *machines, "--ntasks-per-node", str(found.here), "medssl"]
    meeting = ["--nnodes", str(found.machines), "--rdzv-backend", "c10d", "--rdzv-endpoint"]
    meeting += [f"{os.environ.get('MASTER_ADDR', 'localhost')}:{_MEETING_PORT}"]
    return [
        "torchrun",
        *(meeting if found.machines > 1 else []),
        *("--nproc-per-node", str(found.here), "-m", "medssl"),
    ]


def _started() -> Processes | None:
    """Return what a launcher started; None where there is none."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _by_torchrun()
    if "SLURM_PROCID" in os.environ and os.environ.get("SLURM_JOB_NAME") not in _BY_HAND:
        return _by_slurm()
    return None


def _by_torchrun() -> Processes:
    here, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if world % here:
        raise ConfigError(
            f"torchrun started {world} processes, {here} of them on this machine: each machine must have as many. "
            "Give all the same --nproc-per-node."
        )
    return Processes(here, world // here, "torchrun")


def _by_slurm() -> Processes | None:
    """Return what srun started; None in a job of which SLURM says no number of tasks, such as a plain batch script."""
    around = os.environ
    machines = int(around.get("SLURM_NNODES", 1))
    told = around.get("SLURM_NTASKS_PER_NODE")
    tasks = int(around.get("SLURM_NTASKS") or (int(told) * machines if told else 0))
    if not tasks:
        return None
    here = int(told) if told else 1
    if here * machines != tasks or (tasks > 1 and not told):
        nodes = f"{machines} node" + "s" * (machines > 1)
        each = f", {around['SLURM_TASKS_PER_NODE']} each" if "SLURM_TASKS_PER_NODE" in around else ""
        raise ConfigError(
            f"SLURM started {tasks} tasks on {nodes}{each}, "
            f"{f'and --ntasks-per-node is {told}' if told else 'without --ntasks-per-node'}: "
            "each node must have as many, and be told so. Start it with: "
            f"srun --nodes {machines} --ntasks-per-node {max(1, tasks // machines)} medssl ..."
        )
    return Processes(here, machines, "srun")


def _start_line(launcher: str, settings: TrainSettings) -> str:
    if launcher == "srun":
        alone = ", or SLURM_JOB_NAME=interactive before medssl, which then starts its own on this machine"
        line = f"srun --nodes {settings.nodes} --ntasks-per-node {settings.devices} medssl ..."
        return line + alone * (settings.nodes == 1)
    return f"torchrun --nproc-per-node {settings.devices} -m medssl ..."
