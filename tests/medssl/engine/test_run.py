import json

import pytest
import yaml

from medssl.engine.run import Run, describe_environment, differences, read_metrics
from medssl.engine.train_settings import TrainSettings
from medssl.errors import CheckpointError, ConfigError
from medssl.settings import Settings, resolve


class Whole(Settings):
    train: TrainSettings = TrainSettings()


def resolved(*overrides):
    return resolve(Whole, overrides=overrides)


def test_run_yaml_says_where_each_value_comes_from(tmp_path):
    Run.create(tmp_path / "run", settings=resolved("train.lr=0.5"))
    lines = (tmp_path / "run" / "run.yaml").read_text().splitlines()
    (line,) = [line for line in lines if line.strip().startswith("lr:")]
    assert line.split("#")[1].strip() == "command line"
    assert yaml.safe_load("\n".join(lines))["train"]["lr"] == 0.5
    assert all("#" in line for line in lines if not line.rstrip().endswith(":"))


def test_a_folder_with_something_in_it_is_refused_or_moved_aside(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    Run.create(folder, settings=resolved())  # empty is fine
    (folder / "mine.txt").write_text("precious")
    with pytest.raises(ConfigError, match=r"--resume.*--overwrite"):
        Run.create(folder, settings=resolved())
    told = []
    Run.create(folder, settings=resolved(), overwrite=True, say=told.append)
    Run.create(folder, settings=resolved(), overwrite=True, say=told.append)
    assert (tmp_path / "run.old" / "mine.txt").read_text() == "precious"
    assert (tmp_path / "run.old1" / "run.yaml").is_file()
    assert not (folder / "mine.txt").exists()
    assert len(told) == 2


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(ConfigError, match="not empty"):
        Run.create(tmp_path / "run", settings=resolved())


def test_a_resumed_run_must_have_its_settings(tmp_path):
    folder = tmp_path / "run"
    Run.create(folder, settings=resolved("train.lr=1e-5", "train.clip=null"))
    Run.reopen(folder, settings=resolved("train.lr=0.00001", "train.clip=null"))
    Run.reopen(folder, settings=resolved("train.lr=1e-5", "train.clip=null", "train.threads=7"))
    with pytest.raises(ConfigError) as error:
        Run.reopen(folder, settings=resolved("train.lr=2e-5", "train.betas=[0.9,0.95]", "train.clip=null"))
    message = str(error.value)
    assert "train.lr: 1e-05 -> 2e-05" in message
    assert "train.betas" in message
    assert "clip" not in message
    assert "--init-from" in message


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match="no run to resume"):
        Run.reopen(tmp_path, settings=resolved())


def test_differences_name_what_is_missing_on_either_side():
    old, new = {"a": {"b": 1, "c": 2}, "d": 0}, {"a": {"b": 1, "e": 3}, "d": 1}
    assert differences(old, new, ignore={"d"}) == [("a.c", 2, "absent"), ("a.e", "absent", 3)]


def test_rows_past_the_resumed_step_are_dropped_and_a_cut_line_is_passed_over(tmp_path):
    run = Run.create(tmp_path / "run", settings=resolved())
    for step in (10, 20, 30):
        run.record(step, {"loss": 1.0 / step})
    run.close()
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')
    assert [row["step"] for row in read_metrics(run.folder)] == [10, 20, 30]
    run.rewind(20)
    run.record(30, {"loss": 9.0})
    run.close()
    assert [(row["step"], row["loss"]) for row in read_metrics(run.folder)] == [(10, 0.1), (20, 0.05), (30, 9.0)]


def test_a_rank_that_does_not_write_writes_nothing(tmp_path):
    run = Run(tmp_path / "absent", writes=False, say=lambda text: pytest.fail(text))
    run.log("x")
    run.say("x")
    run.record(1, {"loss": 1.0})
    run.rewind(0)
    run.write_text("a", "b")
    run.close()
    assert not (tmp_path / "absent").exists()


def test_the_environment_is_plain_json():
    found = describe_environment()
    assert json.loads(json.dumps(found)) == found
    assert found["versions"]["torch"]


def test_another_number_of_processes_may_go_on(tmp_path):
    Run.create(tmp_path / "run", settings=resolved())
    assert (
        Run.reopen(tmp_path / "run", settings=resolved("train.devices=2", "train.nodes=3")).folder == tmp_path / "run"
    )
