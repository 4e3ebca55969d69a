"""How many processes: what torchrun and SLURM say, and what is refused because it is not what was asked."""

import os

import pytest

from medssl.engine.processes import Processes, launcher_words, processes_of
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError


def started(monkeypatch, around):
    """Let the environment be that of a launcher, and of nothing else."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_", "MASTER_")) or name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"):
            monkeypatch.delenv(name)
    for name, value in around.items():
        monkeypatch.setenv(name, value)


def slurm(tasks, nodes=1, each=None, **more):
    told = {"SLURM_PROCID": "0", "SLURM_NTASKS": str(tasks), "SLURM_NNODES": str(nodes), "SLURM_JOB_NAME": "train"}
    return told | ({"SLURM_NTASKS_PER_NODE": str(each)} if each else {}) | more


def torch_run(world, here):
    return {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": str(here), "WORLD_SIZE": str(world)}


@pytest.mark.parametrize(
    ("around", "asked", "found"),
    [
        ({}, {"devices": 3, "nodes": 2}, Processes(3, 2)),
        ({}, {"devices": "auto"}, Processes("auto", 1)),
        (torch_run(8, 4), {}, Processes(4, 2, "torchrun")),
        (torch_run(8, 4), {"devices": 4, "nodes": 2}, Processes(4, 2, "torchrun")),
        (slurm(1), {}, Processes(1, 1, "srun")),
        (slurm(8, 2, 4), {"devices": "auto"}, Processes(4, 2, "srun")),
        (slurm(1, SLURM_JOB_NAME="interactive"), {"devices": 2}, Processes(2, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NNODES": "1"}, {"devices": 2}, Processes(2, 1)),  # a batch script without tasks
    ],
)
def test_the_launcher_decides_and_else_the_settings(around, asked, found, monkeypatch):
    started(monkeypatch, around)
    assert processes_of(TrainSettings(**asked)) == found


@pytest.mark.parametrize(
    ("around", "asked", "told"),
    [
        (
            slurm(1),
            {"devices": 2},
            r"train\.devices is 2, and srun started 1 on each.*srun --nodes 1 --ntasks-per-node 2",
        ),
        (slurm(4, 2, 2), {"nodes": 3}, r"train\.nodes is 3, and srun started 2 machines"),
        (torch_run(2, 2), {"devices": 4}, r"train\.devices is 4, and torchrun started 2.*torchrun --nproc-per-node 4"),
        (torch_run(3, 2), {}, r"torchrun started 3 processes, 2 of them"),
        (slurm(2), {}, r"2 tasks on 1 node, without --ntasks-per-node:.*srun --nodes 1 --ntasks-per-node 2"),
        (slurm(2, 2), {}, r"2 tasks on 2 nodes, without --ntasks-per-node"),
        (slurm(3, 2, 2, SLURM_TASKS_PER_NODE="2,1"), {}, r"3 tasks on 2 nodes, 2,1 each, and --ntasks-per-node is 2"),
    ],
)
def test_what_is_not_as_asked_is_refused_with_the_line_that_starts_it(around, asked, told, monkeypatch):
    started(monkeypatch, around)
    with pytest.raises(ConfigError, match=told):
        processes_of(TrainSettings(**asked))


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
    started(monkeypatch, around)
    assert " ".join(launcher_words()) == words
