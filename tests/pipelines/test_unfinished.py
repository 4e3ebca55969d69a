"""Every verb that takes a run says, of one that has not ended, how to close it at the step that it reached."""

import re
import shlex

import pytest
from typer.testing import CliRunner

import medssl
from medssl.engine.card import load_card
from medssl.errors import CheckpointError
from medssl.tasks.scored_masks import find_predictions
from medssl.workflows.arms import arms_of
from pipelines.cli import app
from tests.pipelines.test_finetune import SCRATCH, store  # noqa: F401 - a fixture
from tests.pipelines.test_plan_time import QUICK, _no_pictures  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def halves(store, tmp_path_factory):  # noqa: F811
    """Two runs that were killed after their last checkpoint: an encoder's, and a segmenter's."""
    home = tmp_path_factory.mktemp("my runs")
    medssl.pretrain("masked_small", data=store.folder, out=home / "pre", overrides=[*QUICK, "train.steps=4"])
    medssl.finetune(data=store.folder, out=home / "seg", overrides=SCRATCH, predict=[])
    for name in ("pre", "seg"):
        for file in ("card.json", "encoder.safetensors", "network.safetensors"):
            (home / name / file).unlink(missing_ok=True)
    return home


VERBS = {
    "finetune": lambda home, data, out: medssl.finetune(home / "pre", data=data, out=out),
    "init-from": lambda home, data, out: medssl.pretrain(
        "masked_small", data=data, out=out, init_from=home / "pre", overrides=[*QUICK, "train.steps=4"]
    ),
    "predict": lambda home, data, out: medssl.predict(home / "seg", data, out=out),
    "load_model": lambda home, data, out: medssl.load_model(home / "seg"),
    "load": lambda home, data, out: medssl.load(home / "pre"),
    "export": lambda home, data, out: medssl.export(home / "seg", to="onnx", out=out),
    "embed": lambda home, data, out: medssl.embed(home / "pre", data=data, out=out.with_suffix(".parquet")),
    "evaluate": lambda home, data, out: find_predictions(home / "seg"),
    "probe": lambda home, data, out: medssl.evaluate(home / "pre", data=data, protocol="probe", out=out),
    "few-label": lambda home, data, out: arms_of([home / "pre"], "scratch"),
}


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_it_is_said_how_to_close_it(verb, halves, store, tmp_path):  # noqa: F811
    with pytest.raises(CheckpointError) as raised:
        VERBS[verb](halves, store.folder, tmp_path / "out")
    found = re.search(r"close it at the step that it reached: (medssl .* --finish)$", str(raised.value))
    assert found, str(raised.value)
    run = halves / ("seg" if "seg" in found[1] else "pre")
    assert shlex.split(found[1])[1:] == ["finetune" if run.name == "seg" else "pretrain", "--out", str(run), "--finish"]


def test_the_command_works_as_printed(halves, store):  # noqa: F811
    for name, steps in (("pre", 4), ("seg", 4)):
        verb = "finetune" if name == "seg" else "pretrain"
        told = CliRunner().invoke(app, [verb, "--out", str(halves / name), "--finish"])
        assert told.exit_code == 0, told.output
        assert load_card(halves / name).steps == steps
