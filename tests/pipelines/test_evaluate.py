"""``evaluate`` on label maps written as real files: scores, bad cases, pairs of runs, what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import polars as pl
import pytest
from scipy.stats import ttest_rel

from medssl.errors import CacheError, ConfigError, DataError
from medssl.formats.nifti import write_nifti
from medssl.store.index import write_index
from medssl.store.write import write_entry
from medssl.tasks.truths import grid_difference
from medssl.workflows.evaluate import evaluate
from pipelines import console

AFFINE = np.array([[-1.5, 0, 0, 20], [0, 1.5, 0, -10], [0, 0, 4.0, 5], [0, 0, 0, 1]])
CASES = [f"case{i}" for i in range(8)]


def truth_of(index):
    labels = np.zeros((8, 16, 18), np.uint8)
    labels[2:6, 3 : 9 + index % 3, 4:12] = 1
    labels[3:5, 11:14, 4 : 8 + index % 4] = 2
    return labels


def poorer(labels, index):
    worse = np.roll(labels, 1, axis=2)
    if index % 2:
        worse = np.roll(worse, 1, axis=1)
    return worse


@pytest.fixture
def cohort(tmp_path):
    """A store of eight test cases of four patients and one of training, two runs, and the labels."""
    entries = []
    for index, case in enumerate([*CASES, "train0"]):
        labels = truth_of(index)
        write_nifti(tmp_path / "labels" / f"{case}.nii.gz", labels, AFFINE)
        record = write_entry(
            tmp_path / "store", case, labels.astype(np.int16) * 100, AFFINE, labels, modality="MR",
            patient=f"patient{index // 2}", split="test" if case in CASES else "train",
            label_path=str(tmp_path / "labels" / f"{case}.nii.gz"),
        )  # fmt: skip
        entries.append(record.entry)
        if case in CASES:
            write_nifti(tmp_path / "good/predictions" / f"{case}.nii.gz", np.roll(labels, index % 2, axis=1), AFFINE)
            write_nifti(tmp_path / "poor/predictions" / f"{case}.nii.gz", poorer(labels, index), AFFINE)
    write_index(tmp_path / "store", entries, settings={}, classes={0: "background", 1: "head", 2: "tail"})
    return tmp_path


def test_scores_of_a_run(cohort):
    result = evaluate(cohort / "good", data=cohort / "store")
    assert result.written[0] == cohort / "good/scores.parquet"
    frame = pl.read_parquet(result.written[0]).pivot("metric", index=["item", "patient", "target"], values="value")
    assert frame.height == 16
    assert set(frame["target"]) == {"head", "tail"}
    assert frame["patient"].n_unique() == 4
    perfect = frame.filter(pl.col("item") == "case0")
    assert perfect["dice"].to_list() == [1.0, 1.0]
    moved = frame.filter((pl.col("item") == "case1") & (pl.col("target") == "head")).row(0, named=True)
    assert moved["dice"] == pytest.approx(1 - 1 / 7)  # one row of seven
    assert moved["hd95_mm"] == pytest.approx(1.5)
    assert moved["truth_ml"] == pytest.approx(4 * 7 * 8 * 9 / 1000)
    assert [score.target for score in result.scores if score.metric == "dice"] == ["head", "tail", ""]
    assert result.score("good", "dice").interval.patients == 4


def test_a_file_in_place_of_the_folder_is_refused_before_a_case_is_scored(cohort, monkeypatch):
    (cohort / "file").touch()
    monkeypatch.setattr("medssl.workflows.evaluate._evaluate", lambda *_, **__: pytest.fail("cases were scored"))
    for protocol in (None, "few-label"):
        with pytest.raises(ConfigError, match="file: a folder is wanted"):
            evaluate(cohort / "good", data=cohort / "store", out=cohort / "file", protocol=protocol)


def test_summary_file_states_definitions_and_intervals(cohort):
    result = evaluate(cohort / "good", data=cohort / "store", out=cohort / "elsewhere")
    content = json.loads((cohort / "elsewhere/scores.json").read_text())
    assert "MONAI" in content["definitions"]["hd95_mm"]
    assert content["runs"]["good"]["counts"]["head"]["cases"] == 8
    head = content["scores"][0]
    assert (head["target"], head["metric"]) == ("head", "dice")
    dice = head["interval"]
    assert dice["low"] <= dice["estimate"] <= dice["high"]
    assert dice["patients"] == 4
    assert not (cohort / "good/scores.parquet").exists()
    assert sorted(p.name for p in (cohort / "elsewhere").iterdir()) == ["scores.json", "scores.parquet"]
    assert result.comparisons == []


def test_pretrained_against_scratch(cohort, capsys):
    result = evaluate(cohort / "good", data=cohort / "store", against=[cohort / "poor"], overrides=["tolerance_mm=2"])
    dice = next(c for c in result.comparisons if c.metric == "dice")
    assert (dice.arm, dice.baseline) == ("good", "poor")
    assert dice.above == 4
    frame = pl.read_parquet(result.written[0]).filter(pl.col("metric") == "dice")
    own, other = (
        frame.filter(pl.col("run") == run).group_by("item", "patient").agg(pl.col("value").mean())
        .group_by("patient").agg(pl.col("value").mean()).sort("patient")["value"]
        for run in ("good", "poor")
    )  # fmt: skip
    assert dice.p == pytest.approx(ttest_rel(own, other).pvalue)  # four patients, not eight cases
    assert dice.p_holm >= dice.p
    assert dice.verdict == "inconclusive"  # for four patients settle nothing
    assert set(frame["run"]) == {"good", "poor"}
    printed = capsys.readouterr().out
    assert "good" in printed
    assert "directed 95th percentiles" in printed
    assert "next: medssl report" in printed


def test_one_bad_case_does_not_stop_the_others(cohort, capsys):
    folder = cohort / "good/predictions"
    (folder / "case0.nii.gz").unlink()
    (folder / "case1.nii.gz").write_bytes(b"\x1f\x8b not really gzip")
    write_nifti(folder / "case2.nii.gz", truth_of(2)[:, :, 1:], AFFINE)
    shifted = AFFINE.copy()
    shifted[0, 3] += 5
    write_nifti(folder / "case3.nii.gz", truth_of(3), shifted)
    write_nifti(folder / "case4.nii.gz", truth_of(4) + 0.25, AFFINE)
    result = evaluate(cohort / "good", data=cohort / "store")
    failed = result.failed["good"]
    assert list(failed) == CASES[:5]
    assert "no prediction" in failed["case0"]
    assert "case1.nii.gz" in failed["case1"]
    assert "shape" in failed["case2"]
    assert "5.00 mm apart" in failed["case3"]
    assert "whole numbers" in failed["case4"]
    assert set(result.table.frame["item"]) == set(CASES[5:])
    assert "case2 has no score" in capsys.readouterr().err
    assert json.loads((cohort / "good/scores.json").read_text())["runs"]["good"]["failed"]["case0"]


def test_no_case_scored_is_an_error(cohort):
    for path in (cohort / "good/predictions").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no case could be scored"):
        evaluate(cohort / "good", data=cohort / "store")


def test_axis_order_of_the_file_does_not_matter(cohort):
    before = evaluate(cohort / "poor", data=cohort / "store")
    for path in (cohort / "poor/predictions").iterdir():
        image = nibabel.load(path)
        turned = image.as_reoriented(nibabel.orientations.axcodes2ornt(("P", "S", "L")))
        data = np.asarray(turned.dataobj)
        nibabel.save(nibabel.Nifti1Image(data, turned.affine), path)
    assert evaluate(cohort / "poor", data=cohort / "store").scores == before.scores


def test_a_folder_of_label_maps(cohort, capsys):
    (cohort / "labels/train0.nii.gz").unlink()
    result = evaluate(cohort / "good/predictions", data=cohort / "labels", out=cohort / "out")
    assert set(result.table.frame["target"]) == {"structure 1", "structure 2"}
    assert result.score("predictions", "dice").interval.patients == 8
    assert "patient of its own" in capsys.readouterr().err


def test_a_manifest(cohort):
    rows = [{"id": case, "path": f"{case}.nii.gz", "label_path": str(cohort / "labels" / f"{case}.nii.gz"),
             "patient": f"p{i}", "split": "test"} for i, case in enumerate(CASES)]  # fmt: skip
    pl.DataFrame(rows).write_csv(cohort / "manifest.csv")
    result = evaluate(cohort / "good", data=cohort / "manifest.csv", overrides=["structures=null"])
    assert result.score("good", "dice").interval.patients == 8


def test_split_and_structures_are_settings(cohort):
    result = evaluate(cohort / "good", data=cohort / "store", overrides=["structures=[tail]", "tolerances_mm.tail=3"])
    assert set(result.table.frame["target"]) == {"tail"}
    tight = evaluate(cohort / "good", data=cohort / "store", overrides=["structures=[tail]"])
    assert result.score("good", "nsd").interval.estimate > tight.score("good", "nsd").interval.estimate
    with pytest.raises(DataError, match="split 'val'"):
        evaluate(cohort / "good", data=cohort / "store", overrides=["split=val"])
    with pytest.raises(ConfigError, match="Did you mean 'tail'"):
        evaluate(cohort / "good", data=cohort / "store", overrides=["structures=[tial]"])
    with pytest.raises(ConfigError, match="Did you mean 'head'"):
        evaluate(cohort / "good", data=cohort / "store", overrides=["tolerances_mm.haed=2"])


def test_dry_run_writes_nothing(cohort):
    before = sorted(cohort.rglob("*"))
    evaluate(cohort / "good", data=cohort / "store", out=cohort / "new", dry_run=True)
    assert sorted(cohort.rglob("*")) == before


def test_what_is_not_there_is_said(cohort):
    with pytest.raises(DataError, match="no such folder"):
        evaluate(cohort / "nothing", data=cohort / "store")
    with pytest.raises(DataError, match="none of these"):
        evaluate(cohort / "good", data=cohort / "nothing")
    (cohort / "damaged").mkdir()
    (cohort / "damaged/store.json").write_text("{")
    with pytest.raises(CacheError):
        evaluate(cohort / "good", data=cohort / "damaged")
    with pytest.raises(ConfigError, match="Did you mean 'few-label'"):
        evaluate(cohort / "good", data=cohort / "store", protocol="few-labels")
    with pytest.raises(ConfigError, match="shard"):
        evaluate(cohort / "good", data=cohort / "store", shard="1/2")
    with pytest.raises(ConfigError, match="itself"):
        evaluate(cohort / "good", data=cohort / "store", against=[cohort / "good"])


def test_json_object(cohort, capsys):
    with console.speaking(console.Manner(as_json=True)):
        evaluate(cohort / "good", data=cohort / "store", against=[cohort / "poor"])
    content = json.loads(capsys.readouterr().out)
    assert content["comparisons"][0]["arm"] == "good"
    assert content["next"].startswith("medssl report")


def test_grid_difference():
    shape = (8, 16, 18)
    assert grid_difference(shape, AFFINE, shape, AFFINE) == ""
    nearly = AFFINE.copy()
    nearly[:3, 3] += 0.05
    assert grid_difference(shape, AFFINE, shape, nearly) == ""
    stretched = AFFINE.copy()
    stretched[0, 0] *= 1.02  # 0.03 mm a voxel adds up over the image
    assert "0.51 mm apart" in grid_difference(shape, AFFINE, shape, stretched)


def test_a_row_of_the_protocols_is_all_that_evaluate_asks(cohort, monkeypatch):
    """A protocol that serves points alone is refused for scans; one for scans is called with its settings' group."""
    from medssl.workflows.evaluate_settings import EvaluateSettings
    from medssl.workflows.protocols import PROTOCOLS, Protocol

    for row in PROTOCOLS.values():
        assert EvaluateSettings.model_fields[row.group].annotation is PROTOCOLS.settings_class(row.name)
        assert set(row.domains) <= {"volumes", "points"}

    asked = {}
    monkeypatch.setattr(
        "medssl.workflows.protocols.toy", lambda runs, **more: asked.update(more, runs=runs), raising=False
    )
    toy = Protocol(name="toy", target="medssl.workflows.protocols.toy", summary="A toy.", domains=("points",))
    monkeypatch.setitem(PROTOCOLS, "toy", toy)
    with pytest.raises(ConfigError, match=r"holds scans, and --protocol toy is for clouds\. Allowed: few-label, probe"):
        evaluate(cohort / "good", data=cohort / "store", protocol="toy")
    monkeypatch.setitem(PROTOCOLS, "toy", replace(toy, domains=("points", "volumes")))
    with pytest.raises(ConfigError, match="'toy' has none"):
        evaluate(cohort / "good", data=cohort / "store", protocol="toy", shard="1/2")
    evaluate(cohort / "good", data=cohort / "store", protocol="toy", overrides=["level=0.9"])
    assert asked["runs"] == [cohort / "good"]
    assert asked["out"] == Path("runs/toy")
    assert asked["settings"].level == 0.9
    assert "shard" not in asked
    with pytest.raises(ConfigError, match=r"There is no protocol 'few'"):
        evaluate(cohort / "good", data=cohort / "store", protocol="few")
