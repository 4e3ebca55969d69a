"""Stopped at any moment and in any way, a run ends with the weights of the run that was never stopped."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from medssl.engine.checkpoint import checkpoints_of
from medssl.engine.loop import Interrupted, fit
from medssl.engine.run import Run, read_metrics
from medssl.errors import CheckpointError

VARYING = {"time", "seconds_per_step", "data_wait"}


def weights(method):
    return {name: value.clone() for name, value in method.state_dict().items()}


def identical(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rows_of(run):
    return [{k: v for k, v in row.items() if k not in VARYING} for row in read_metrics(run.folder)]


@pytest.fixture
def whole(tiny, tmp_path):
    return once(tiny, tmp_path / "whole")


def once(tiny, folder, *overrides, resume=False, before=lambda step: None):
    resolved = tiny.settings(*overrides)
    told = []
    run = (Run.reopen if resume else Run.create)(folder, settings=resolved, say=told.append)
    method = tiny.TinyMethod()
    held_out = [tiny.TinyLoader().batch(1000)]
    loader = tiny.TinyLoader(before=before)
    fit(method, loader, resolved.settings, run=run, held_out=held_out, resume=resume)
    return method, run, loader, told


def raising(at, error):
    def before(step):
        if step == at:
            raise error

    return before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [0, 5, 7])
def test_told_to_stop_it_saves_and_exits_with_130(tiny, tmp_path, whole, number, at):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as stop:
        once(tiny, tmp_path / "run", before=lambda step: os.kill(os.getpid(), number) if step == at else None)
    assert stop.value.code == 130
    assert stop.value.step == at + 1
    assert stop.value.checkpoint.name == f"step-{at + 1:07d}"
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    method, _, loader, told = once(tiny, tmp_path / "run", resume=True)
    assert loader.asked == list(range(at + 1, 12))  # no step is made twice
    assert identical(weights(method), weights(whole[0]))
    assert any(f"step-{at + 1:07d}" in text for text in told)


@pytest.mark.parametrize("at", [3, 4, 6, 11])
def test_cut_off_without_warning_it_ends_the_same(tiny, tmp_path, whole, at):
    with pytest.raises(RuntimeError, match="the power failed"):
        once(tiny, tmp_path / "run", before=raising(at, RuntimeError("the power failed")))
    method, run, loader, _ = once(tiny, tmp_path / "run", resume=True)
    assert loader.asked[0] == at // 4 * 4
    assert identical(weights(method), weights(whole[0]))
    assert rows_of(run) == rows_of(whole[1])


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(tiny, tmp_path, whole):
    with pytest.raises(RuntimeError):
        once(tiny, tmp_path / "run", before=raising(10, RuntimeError()))
    newest = checkpoints_of(tmp_path / "run" / "checkpoints")[0]
    (newest / "model.safetensors").write_bytes(b"")
    method, run, loader, told = once(tiny, tmp_path / "run", resume=True)
    assert loader.asked[0] == 4
    assert any("warning" in text and newest.name in text for text in told)
    assert identical(weights(method), weights(whole[0]))
    assert rows_of(run) == rows_of(whole[1])


def test_a_finished_run_is_left_as_it_is(tiny, tmp_path, whole):
    method, _, loader, _ = once(tiny, tmp_path / "whole", resume=True)
    assert loader.asked == []
    assert identical(weights(method), weights(whole[0]))


def test_another_methods_checkpoint_is_refused(tiny, tmp_path, whole):
    resolved = tiny.settings()
    run = Run.reopen(tmp_path / "whole", settings=resolved)
    method = tiny.TinyMethod()
    method.head = torch.nn.Conv3d(4, 2, 1)
    with pytest.raises(CheckpointError, match="another method or encoder"):
        fit(method, tiny.TinyLoader(), resolved.settings, run=run, resume=True)


def command(tiny, folder, *words):
    return [sys.executable, tiny.__file__, str(folder), *words]


@pytest.mark.slow
@pytest.mark.timeout(900)  # several processes, each of which imports torch
@pytest.mark.parametrize("draw", range(2))
def test_killed_at_a_random_moment_it_ends_bit_for_bit_the_same(tiny, tmp_path, draw):
    words = ["steps=60", "checkpoint_every=5", "--slow"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command(tiny, tmp_path / "whole", *words), check=True, env=environment, capture_output=True)
    folder = tmp_path / "run"
    chance = random.Random(draw)
    kills = 0
    process = subprocess.Popen(command(tiny, folder, *words), env=environment, stdout=subprocess.DEVNULL)
    while kills < 2:
        seen = len(checkpoints_of(folder / "checkpoints"))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(checkpoints_of(folder / "checkpoints")) <= min(seen, 1) - kills:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.4))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        process = subprocess.Popen(
            command(tiny, folder, *words, "--resume"), env=environment, stdout=subprocess.DEVNULL
        )  # fmt: skip
    assert process.wait(timeout=120) == 0
    assert kills >= 1
    final, expected = (torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("run", "whole"))
    assert identical(final, expected)
    assert [row["step"] for row in read_metrics(folder)] == [row["step"] for row in read_metrics(tmp_path / "whole")]


@pytest.mark.slow
def test_a_process_that_is_terminated_exits_with_130(tiny, tmp_path):
    process = subprocess.Popen(
        command(tiny, tmp_path / "run", "steps=5000", "--slow"), env=os.environ | {"OMP_NUM_THREADS": "1"}
    )  # fmt: skip
    while not checkpoints_of(tmp_path / "run" / "checkpoints"):
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=60) == 130
    (newest, *_) = checkpoints_of(tmp_path / "run" / "checkpoints")
    assert re.fullmatch(r"step-\d{7}", newest.name)
    assert Path(newest / "state.json").is_file()
