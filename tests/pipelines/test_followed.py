"""What each verb proposes runs as it is printed: a user pastes it, and fills in words in capitals alone."""

import re
import shlex

import numpy as np
import pytest
from typer.testing import CliRunner

from medssl.formats.nifti import write_nifti
from medssl.phantoms import write_cohort
from medssl.phantoms.anatomy import phantom
from medssl.workflows.protocols import PROTOCOLS
from pipelines.cli import app
from pointcloud.shapes import CLASSES, shape
from tests.pipelines.test_auto import TINY as TINY_SCANS
from tests.pipelines.test_auto_clouds import TINY as TINY_CLOUDS
from tests.pipelines.test_dense_probe import run_of
from tests.pipelines.test_finetune_clouds import BRIEF
from tests.pipelines.test_last_lines import FOLDER
from tests.pipelines.test_place_edges import BRIEF as PLACES
from tests.pipelines.test_place_protocols import scans as labelled_store
from tests.pipelines.test_pretrain_clouds import QUICK

# These train at length; their dry run reads the same settings and data.
LONG = {"pretrain", "finetune", "auto", "demo"}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    import medssl.engine.reporter
    import pointcloud.training

    for name in ("draw_progress", "draw_views"):
        monkeypatch.setattr(medssl.engine.reporter, name, lambda *_: None)
    monkeypatch.setattr(pointcloud.training, "draw_attention", lambda *_: None)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = tmp_path / FOLDER
    home.mkdir()
    return home


def run(line, **fill):
    """Run a line; return what it proposes, "on new scans" as well."""
    words = [word.format(**fill) for word in shlex.split(line)]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, f"{words}\n{told.output}"
    lines = [said for said in told.stdout.splitlines() if re.match(r"(next|on new \w+): medssl ", said)]
    return [said.partition(": ")[2] for said in lines]


def follow(proposed, fill=(), more=()):
    """Run what was proposed as it was printed; of verbs that train at length the dry run."""
    words = [dict(fill).get(word, word) for word in shlex.split(proposed)[1:]]
    assert not [word for word in words if re.fullmatch("[A-Z_]+", word)], proposed
    return run(shlex.join([*words, *(["--dry-run"] if words[0] in LONG and not more else []), *more]))


def labelled_clouds(folder, *, each=5):
    for name in CLASSES[:2]:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            np.save(folder / name / f"{name}{number}.npy", shape(name, number, seed=0, points=128).points)
    return folder


def test_from_a_folder_of_scans_to_their_copies(home):
    write_cohort(home / "in", subjects=5, modality="MR", shape=(18, 16, 20), spacing_mm=(12.0, 15.0, 12.0))
    steps = run("index {home}/in --out {home}/m.parquet modality=MR test=0.4 val=0", home=home)
    went = ["index"]
    while steps:
        went.append(shlex.split(steps[0])[1])
        if went[-1] in LONG:
            follow(steps[0])
            break
        steps = follow(steps[0])
    assert went == ["index", "check", "reduce", "cache", went[-1]]
    assert went[-1] in LONG
    assert run("query {home}/in --index {home}/m.prints", home=home) == []
    follow(*run("check-split {home}/m.parquet", home=home))


def test_from_a_folder_of_clouds_to_their_scores(home):
    labelled_clouds(home / "in")
    steps = run("index {home}/in --out {home}/m.parquet test=0.4 val=0", home=home)
    went = ["index"]
    while shlex.split(steps[0])[1] != "pretrain":
        went.append(shlex.split(steps[0])[1])
        steps = follow(steps[0])
    assert went == ["index", "check", "reduce", "cache"]
    follow(steps[0])
    assert run("query {home}/in --index {home}/m.prints", home=home) == []
    store = shlex.split(steps[0])[shlex.split(steps[0]).index("--data") + 1]
    steps = run("pretrain point_mae_small --data {store} --out {home}/run " + " ".join(QUICK), home=home, store=store)
    for line in steps:
        follow(line, {"STORE": store, "SCANS": str(home / "in")})
    steps = run(
        "finetune {home}/run --data {store} --out {home}/fine --task classification " + " ".join(BRIEF),
        home=home,
        store=store,
    )
    steps = follow(steps[0])  # evaluate
    assert len(steps) == 2
    for line in steps:
        follow(line, {"SCANS": str(home / "in"), "CLOUDS": str(home / "in"), "PREDICTIONS": str(home / "new")})
    assert run("embed {home}/run --data {store} --out {home}/v.npz", home=home, store=store)


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name in PLACES])
def test_a_protocol_on_frozen_encoders(protocol, home):
    encoder, store = run_of(home / "run"), labelled_store(home / "store")
    group = protocol.replace("-", "_")
    brief = " ".join(f"{group}.{word}" for word in (*PLACES[protocol], "random=1"))
    line = f"evaluate {{run}} --data {{store}} --protocol {protocol} --out {{home}}/out {brief}"
    (again,) = run(f"{line} --dry-run", run=encoder, store=store, home=home)
    (report,) = follow(again)
    assert shlex.split(report)[1] == "report"
    assert follow(report) == []


def test_a_place_in_other_scans(home):
    encoder = run_of(home / "run")
    for number in range(2):
        made = phantom(number, shape=(16, 32, 32), spacing_mm=(5.0, 5.0, 5.0))
        write_nifti(home / f"s{number}.nii.gz", made.values, made.affine)
    line = "match {run} {home}/s0.nii.gz --point 7,12,20 --in {home}/s1.nii.gz --out {home}/found"
    assert run(line, run=encoder, home=home) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scans", "clouds"])
def test_the_chain_ends_in_a_line_that_runs(kind, home):
    if kind == "scans":
        write_cohort(home / "in", subjects=6, modality="MR", shape=(18, 16, 20), spacing_mm=(12.0, 15.0, 12.0))
        brief = TINY_SCANS
    else:
        labelled_clouds(home / "in")
        brief = TINY_CLOUDS
    (again,) = run("auto {home}/in --out {home}/auto --dry-run " + " ".join(brief), home=home)
    follow(again)
    steps = run("auto {home}/in --out {home}/auto " + " ".join(brief), home=home)
    assert steps
    for line in steps:
        fill = {"SCANS": str(home / "in"), "CLOUDS": str(home / "in"), "PREDICTIONS": str(home / "new")}
        follow(line, fill)
