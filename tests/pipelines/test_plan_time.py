"""Without a GPU the time of a plan is said before it starts, and where it is long a smaller one that works."""

import shlex

import pytest
import torch
from typer.testing import CliRunner

import medssl
from medssl.engine.card import load_card, load_weights
from medssl.engine.checkpoint import step_of_newest
from medssl.engine.loop import Interrupted
from medssl.engine.run import read_metrics
from medssl.engine.trial import StepTime
from medssl.errors import ConfigError
from medssl.settings import load_yaml
from medssl.workflows import plan_time
from medssl.workflows.plan_time import LONG_S, fewer_steps, plan_words
from pipelines.cli import app
from tests.pipelines.test_finetune import QUICK as TUNED
from tests.pipelines.test_finetune import pretrained, store  # noqa: F401 - fixtures

QUICK = [
    "train.batch_size=2", "train.log_every=2", "train.probe_every=100", "train.checkpoint_every=4",
    "train.accelerator=cpu", "encoder.name=unet", "encoder.channels=[4,8]", "method.window=[16,16,16]",
    "method.patch=[8,8,8]",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    import medssl.engine.reporter

    for name in ("draw_progress", "draw_views"):
        monkeypatch.setattr(medssl.engine.reporter, name, lambda *_: None)


def smaller_of(text):
    lines = [line.removeprefix("smaller: ") for line in text.splitlines() if line.startswith("smaller: ")]
    assert len(lines) < 2
    return lines[0] if lines else ""


def times_of(text):
    return [line for line in text.splitlines() if line.startswith("time: ")]


def test_a_plan_that_is_short_is_told_and_nothing_is_offered(store, tmp_path, capsys):  # noqa: F811
    medssl.pretrain("masked_small", data=store.folder, out=tmp_path / "run", overrides=QUICK, dry_run=True)
    said = capsys.readouterr().out
    (line,) = times_of(said)
    assert line.startswith("time: 3,000 steps, about ")
    assert "on this processor (an estimate, from 4 steps, " in line
    assert not smaller_of(said)


def test_a_long_plan_names_a_small_one_that_works_as_printed(store, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(plan_time, "time_steps", lambda *_: StepTime(10.0, 0))
    out = tmp_path / "my runs" / "run"
    chosen = [*QUICK, "data.held_out_scans=1", "encoder.blocks=1"]
    medssl.pretrain("masked", data=store.folder, out=out, overrides=chosen, dry_run=True)
    said = capsys.readouterr().out
    (line,) = times_of(said)
    assert "more than 29 days on this processor (a step was tried, and given up after 10 s)" in line
    words = shlex.split(smaller_of(said))
    assert words[:3] == ["medssl", "pretrain", "masked_small"]
    assert "data.held_out_scans=1" in words
    assert words[-2:] == ["--out", str(out.with_name("run-small"))]
    monkeypatch.undo()
    told = CliRunner().invoke(app, [*words[1:], "--dry-run", "train.accelerator=cpu", "method.window=[16,16,16]"])
    assert told.exit_code == 0, told.output
    assert not smaller_of(told.stdout)


def test_where_the_preset_is_the_small_one_fewer_steps_are_named(store, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(plan_time, "time_steps", lambda *_: StepTime(36.0, 3))
    medssl.pretrain("masked_small", data=store.folder, out=tmp_path / "run", overrides=QUICK, dry_run=True)
    words = shlex.split(smaller_of(capsys.readouterr().out))
    assert "train.steps=100" in words  # an hour
    assert set(QUICK) - set(words) <= {"encoder.channels=[4,8]", "method.window=[16,16,16]", "method.patch=[8,8,8]"}
    told = CliRunner().invoke(app, [*words[1:], "--dry-run"])
    assert told.exit_code == 0, told.output


def test_steps_that_nobody_chose_are_said_and_fewer_named(pretrained, store, tmp_path, capsys):  # noqa: F811
    out = tmp_path / "run"
    few = [one for one in TUNED if "steps" not in one]
    medssl.finetune(pretrained, data=store.folder, out=out, overrides=few, labels=2, dry_run=True)
    said = capsys.readouterr().out
    assert times_of(said)[0].startswith("time: 5,000 steps, about ")
    assert "5,000 steps are the default, which is for a GPU" in said
    words = shlex.split(smaller_of(said))
    assert words[:3] == ["medssl", "finetune", str(pretrained)]
    assert {"--preset", "segmentation_small", "data.labels=2", "segmentation.window=[16, 16, 16]"} <= set(words)
    told = CliRunner().invoke(app, [*words[1:], "--dry-run", "train.accelerator=cpu"])
    assert told.exit_code == 0, told.output
    assert "plan: 300 steps of 2 windows of 16 x 16 x 16" in told.stdout


def test_nothing_is_tried_on_a_gpu_and_of_a_plan_of_a_moment(store, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(plan_time, "time_steps", lambda *_: pytest.fail("a step was tried"))
    medssl.pretrain("masked_small", data=store.folder, out=tmp_path / "run", overrides=[*QUICK, "train.steps=50"],
                    dry_run=True)  # fmt: skip
    monkeypatch.setattr(plan_time, "on_cpu", lambda _: False)
    medssl.pretrain("masked_small", data=store.folder, out=tmp_path / "run", overrides=QUICK, dry_run=True)
    assert not times_of(capsys.readouterr().out)


def test_a_trial_that_fails_stops_no_run_and_is_said(store, tmp_path, capsys, monkeypatch):  # noqa: F811
    def fails(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(plan_time, "time_steps", fails)
    medssl.pretrain("masked_small", data=store.folder, out=tmp_path / "run", overrides=QUICK, dry_run=True)
    assert "could not be tried beforehand" in times_of(capsys.readouterr().out)[0]


@pytest.mark.parametrize("preset", ["masked_small", "moco_small"])
def test_what_is_tried_changes_nothing_of_the_run(store, tmp_path, monkeypatch, preset):  # noqa: F811
    quick = [*QUICK, "train.steps=3"]
    if preset == "moco_small":
        quick = [one for one in quick if "patch" not in one] + ["method.crop=[16,16,16]", "method.queue=4"]
    medssl.pretrain(preset, data=store.folder, out=tmp_path / "untried", overrides=quick)
    monkeypatch.setattr(plan_time, "_SHORT", 0)
    medssl.pretrain(preset, data=store.folder, out=tmp_path / "tried", overrides=quick)
    assert "time: 3 steps, about" in (tmp_path / "tried" / "log.txt").read_text()
    ours, theirs = (load_weights(tmp_path / name) for name in ("untried", "tried"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_words():
    assert plan_words(1500, StepTime(8.0, 3), whole=1500) == (
        "time: 1,500 steps, about 3 h 20 m on this processor (an estimate, from 3 steps, 8.0 s each)"
    )
    assert plan_words(10, StepTime(0.05, 1), whole=15) == (
        "time: 10 of 15 steps are left, about 0 s on this processor (an estimate, from 1 step, 50 ms)"
    )
    assert fewer_steps(StepTime(0.21, 4)) == 17_000
    assert fewer_steps(StepTime(5000.0, 0)) == 1
    assert LONG_S == 6 * 60 * 60


def test_lowered_steps_close_a_run_and_its_plan_stays(store, tmp_path, capsys, monkeypatch):  # noqa: F811
    out = tmp_path / "run"
    medssl.pretrain("masked_small", data=store.folder, out=tmp_path / "whole", overrides=[*QUICK, "train.steps=12"])

    from medssl.volumes.training import WindowLoader

    class Stopped(WindowLoader):
        def batches(self, start_step, stop_step):
            for step, batch in enumerate(super().batches(start_step, stop_step), start_step):
                if step == 5:
                    import os
                    import signal

                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    with monkeypatch.context() as patched:
        patched.setattr("medssl.volumes.training.WindowLoader", Stopped)
        with pytest.raises(Interrupted):
            medssl.pretrain("masked_small", data=store.folder, out=out, overrides=[*QUICK, "train.steps=12"])
    assert step_of_newest(out / "checkpoints") == 6
    capsys.readouterr()
    medssl.pretrain(out=out, resume=True, overrides=["train.steps=8"])
    said = capsys.readouterr().out
    assert "train.steps=8 is below the 12 steps that were planned: the run is closed at step 8" in said
    assert "closed at step 8 of 12; the learning rate stood at" in said
    assert load_card(out).steps == 8
    assert load_yaml(out / "run.yaml")["train"]["steps"] == 12
    medssl.pretrain(out=out, resume=True, overrides=["train.steps=4"])  # it cannot go back
    assert load_card(out).steps == 8
    medssl.pretrain(out=out, resume=True)
    assert load_card(out).steps == 12
    assert [row["step"] for row in read_metrics(out)][-1] == 12
    ours, theirs = load_weights(out), load_weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)  # the schedule was that of the plan throughout
    with pytest.raises(ConfigError, match=r"train\.steps: 12 -> 14"):
        medssl.pretrain(out=out, resume=True, overrides=["train.steps=14"])


def test_a_preset_with_fewer_steps_lowers_nothing(store, tmp_path):  # noqa: F811
    out = tmp_path / "run"
    medssl.pretrain("masked_small", data=store.folder, out=out, overrides=[*QUICK, "train.steps=4"])
    text = (out / "run.yaml").read_text()
    (out / "run.yaml").write_text(text.replace("steps: 4", "steps: 4000"))
    with pytest.raises(ConfigError, match=r"train\.steps: 4000 -> 3000"):
        medssl.pretrain("masked_small", data=store.folder, out=out, overrides=QUICK, resume=True)


def test_a_dry_run_tries_a_step_once(store, tmp_path, capsys, monkeypatch):  # noqa: F811
    """For the time that it takes, or by itself where no time is asked."""
    from medssl.methods.masked import MaskedReconstruction

    counted = []
    forward = MaskedReconstruction.forward
    monkeypatch.setattr(
        MaskedReconstruction, "forward", lambda self, *given: counted.append(1) or forward(self, *given)
    )
    for steps, tried in (("train.steps=60", False), ("train.steps=4", True)):
        counted.clear()
        medssl.pretrain(
            "masked_small", data=store.folder, out=tmp_path / "run", overrides=[*QUICK, steps], dry_run=True
        )
        said = capsys.readouterr().out
        assert ("tried: the first batch can be read" in said) is tried
        assert ("an estimate, from" in said) is not tried
        assert counted
