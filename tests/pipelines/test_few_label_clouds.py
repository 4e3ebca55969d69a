"""The few-label protocol on clouds: every arm at the same objects, through the verb, and what it leaves."""

import json

import pytest

from medssl.errors import ConfigError
from medssl.workflows.evaluate import evaluate
from medssl.workflows.finetune import finetune
from medssl.workflows.pretrain import pretrain
from medssl.workflows.report import report
from pointcloud.shapes import CLASSES, PART_NAMES, parts_of, shape
from pointcloud.store_writing import CloudItem, store_from_clouds
from tests.pipelines.test_finetune_clouds import BRIEF
from tests.pipelines.test_pretrain_clouds import QUICK

FEW = ["few_label.sizes=[2,4]", "few_label.draws=2",
       *(f"few_label.finetune.{setting}" for setting in BRIEF if "held_out" not in setting)]  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    import medssl.engine.reporter
    import pointcloud.training

    folder = tmp_path_factory.mktemp("few")
    items = [
        CloudItem(id=f"{name}-{n}", cloud=shape(name, n, seed=0, points=64), patient=f"{name}-{n}",
                  split="test" if n > 3 else "train")
        for name in CLASSES[:2] for n in range(7)
    ]  # fmt: skip
    store_from_clouds(folder / "store", items, classes=dict(enumerate(CLASSES)))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_progress", "draw_views"):
            patch.setattr(medssl.engine.reporter, name, lambda *_: None)
        patch.setattr(pointcloud.training, "draw_attention", lambda *_: None)
        pretrain("point_mae_small", data=folder / "store", out=folder / "run", overrides=QUICK)
    return folder


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    import medssl.engine.reporter

    for name in ("draw_progress", "draw_views"):
        monkeypatch.setattr(medssl.engine.reporter, name, lambda *_: None)


def test_arms_meet_the_same_objects_and_what_is_done_is_kept(house, tmp_path, capsys):
    def compare():
        return evaluate(house / "run", data=house / "store", out=tmp_path / "few", protocol="few-label", overrides=FEW)

    outcome = compare()
    said = capsys.readouterr().out
    assert "n = 2, 4 of 8 labelled objects; 2 draws, 1 seeds: 8 runs, 0 done already; 6 test objects" in said
    assert "6 test objects [95 % t interval over draws and objects; one run: variation" in said
    assert "patient" not in said
    assert not outcome.failed
    assert {(row.arm, row.labels) for row in outcome.scores} == {(a, n) for a in ("scratch", "run") for n in (2, 4)}
    assert {row.interval.patients for row in outcome.scores} == {6}
    written = json.loads((tmp_path / "few" / "few_label.json").read_text())
    assert (written["unit"], written["classes"]) == ("object", sorted(CLASSES[:2]))
    again = compare()
    assert "8 runs, 8 done already" in capsys.readouterr().out
    assert again.scores == outcome.scores
    report(tmp_path / "few", out=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "labelled objects" in page
    assert "labelled patients" not in page


def test_a_comparison_of_fewer_draws_of_an_earlier_release_is_gone_on_with(house, tmp_path, capsys, monkeypatch):
    """Up to 0.2 the key of a class's cell held every draw: with another number of draws all were refused."""
    from medssl.evaluation.few_label import FewLabelPlan
    from medssl.workflows import few_label as module

    def compare(*words):
        told = {"data": house / "store", "out": tmp_path / "few", "protocol": "few-label"}
        outcome = evaluate(house / "run", overrides=[*FEW, *words], **told)
        return outcome, capsys.readouterr().out

    with monkeypatch.context() as patch:
        patch.setattr(module, "FewLabelPlan", lambda **told: FewLabelPlan(**told | {"keys": {}}))
        compare("few_label.sizes=[2]", "few_label.draws=2")
    old = {path: path.read_bytes() for path in (tmp_path / "few/cells").rglob("*.json")}
    more, said = compare("few_label.sizes=[2]", "few_label.draws=3")
    assert "6 runs, 4 done already" in said
    assert {row.interval.draws for row in more.scores} == {3}
    _, said = compare("few_label.sizes=[2,4]", "few_label.draws=3")
    assert "12 runs, 6 done already" in said
    fewer, said = compare("few_label.sizes=[2]", "few_label.draws=1")
    assert "2 runs, 2 done already" in said
    assert {row.interval.draws for row in fewer.scores} == {1}
    assert all(path.read_bytes() == content for path, content in old.items())
    with pytest.raises(ConfigError, match="another recipe, other weights or other data"):
        compare("few_label.sizes=[2]", "few_label.draw_seed=1")


def test_what_does_not_fit_says_why(house, tmp_path):
    with pytest.raises(ConfigError, match=r"no labels of points to segment by.*few_label.finetune.task=classification"):
        evaluate(house / "run", data=house / "store", out=tmp_path, protocol="few-label",
                 overrides=[*FEW, "few_label.recipe=point_parts_small"])  # fmt: skip
    with pytest.raises(ConfigError, match="metric of segmenters"):
        evaluate(house / "run", data=house / "store", out=tmp_path, protocol="few-label",
                 overrides=[*FEW, "few_label.metric=dice"])  # fmt: skip


@pytest.fixture(scope="module")
def parts(house):
    """Write clouds of two classes whose points have labels."""
    names = [name for name in CLASSES if parts_of(name)][:2]
    items = [
        CloudItem(id=f"{name}-{n}", cloud=shape(name, n, seed=0, points=64, parts=True), patient=f"{name}-{n}",
                  split="test" if n > 3 else "train")
        for name in names for n in range(7)
    ]  # fmt: skip
    return store_from_clouds(
        house / "parts", items, classes=dict(enumerate(CLASSES)), parts=dict(enumerate(PART_NAMES))
    ).folder


def test_the_task_is_the_one_that_finetune_takes(house, parts, tmp_path, capsys):
    told = {"out": tmp_path / "out", "dry_run": True}
    for store, recipe in ((parts, "point_parts_small"), (house / "store", "point_classification_small")):
        finetune(house / "run", data=store, preset=None, **told)
        chosen = "segmentation" if "which --task classification learns" in capsys.readouterr().out else "classification"
        evaluate(house / "run", data=store, protocol="few-label", overrides=FEW, **told)
        said = capsys.readouterr().out
        assert f"recipe {recipe}" in said
        assert ("which few_label.finetune.task=classification learns" in said) == (chosen == "segmentation")
        assert (chosen == "segmentation") == (store == parts)


def test_parts_of_points_are_compared_at_few_labels_as_anything_else(house, parts, tmp_path, capsys):
    def compare(*words, **told):
        return evaluate(house / "run", data=parts, out=tmp_path / "few", protocol="few-label",
                        overrides=[*FEW, "few_label.finetune.task=segmentation", *words], **told)  # fmt: skip

    assert len(compare(shard="1/2").missing) == 4
    outcome = compare()
    said = capsys.readouterr().out
    assert "recipe point_parts_small; arms scratch, run; n = 2, 4 of 8 labelled objects" in said
    assert not outcome.failed
    assert not outcome.missing
    assert {(row.arm, row.labels, row.metric) for row in outcome.scores} == {
        (arm, n, "instance_miou") for arm in ("scratch", "run") for n in (2, 4)
    }
    assert {row.interval.patients for row in outcome.scores} == {6}
    assert {(row.arm, row.baseline, row.change) for row in outcome.comparisons} == {("run", "scratch", "pretraining")}
    written = json.loads((tmp_path / "few" / "few_label.json").read_text())
    assert (written["kind"], written["metric"], written["unit"]) == ("parts", "instance_miou", "object")
    assert (tmp_path / "few/few_label.csv").read_text().startswith("how,n,arm,draw,seed,instance_miou,class_miou")
    # another metric of the same cells; each is one figure of each cloud, of which both are made
    by_class = compare("few_label.metric=class_miou")
    assert "8 runs, 8 done already" in capsys.readouterr().out
    assert {row.metric for row in by_class.scores} == {"class_miou"}
    report(tmp_path / "few", out=tmp_path / "report.html")
    assert "mean IoU of shapes" in (tmp_path / "report.html").read_text()
    with pytest.raises(ConfigError, match="auroc is a metric of classifiers"):
        compare("few_label.metric=auroc")


def test_a_cell_scores_what_evaluate_scores_of_the_same_run(house, parts, tmp_path):
    words = ["few_label.sizes=[8]", "few_label.draws=1", "few_label.finetune.task=segmentation", *FEW[2:]]
    few = evaluate(house / "run", data=parts, out=tmp_path / "few", protocol="few-label", overrides=words)
    brief = [word.removeprefix("few_label.finetune.") for word in FEW[2:]]
    finetune(house / "run", data=parts, out=tmp_path / "tuned", preset="point_parts_small", task="segmentation",
             overrides=[*brief, "train.seed=0", "data.held_out_scans=0"])  # fmt: skip
    alone = evaluate(tmp_path / "tuned", data=parts)
    figures = ["item", "patient", "target", "metric", "value"]
    cell = few.table.frame.filter(run="run").select(figures).sort(figures[:4])
    assert cell.equals(alone.table.frame.select(figures).sort(figures[:4]))
