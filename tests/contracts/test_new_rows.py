"""A toy method, encoder and task, added as CONTRIBUTING says and nowhere else, are listed, shown, fitted, and train."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOYS = Path(__file__).parent / "toys"
COPIED = (
    "medssl",
    "pointcloud",
    "pipelines",
    "configs",
    "data_manifests",
    "tests",
    "docs",
    "benchmarks",
    "pyproject.toml",
)
METHOD_ROW = """        Row(
            name="toy",
            target="medssl.methods.toy.Toy",
            settings="medssl.methods.settings.toy.ToySettings",
            paper="none",
            take_when="a toy is wanted",
            needs="nothing",
        ),
"""
ENCODER_ROW = """        Row(
            name="toy_net",
            target="medssl.encoders.toy_net.ToyEncoder",
            settings="medssl.encoders.settings.toy_net.ToyEncoderSettings",
            paper="none",
            take_when="A toy is wanted.",
        ),
"""
TASK_ROW = """        Row(
            name="brightness",
            target="medssl.tasks.task_brightness.Brightness",
            settings="medssl.tasks.settings.brightness.BrightnessSettings",
            take_when="a toy is wanted",
            needs="scans",
        ),
"""
METRIC_ROW = """    Metric(
        name="brightness_error",
        words="error of brightness",
        better="lower",
        function="medssl.tasks.task_brightness.Brightness",
        definition="|measured - true|, in thousands.",
        high=math.inf,
    ),
"""
PRESET = """# Purpose:  a toy.
# Paper:    none.
# Hardware: any.
# Command:  medssl pretrain toy --data STORE --out runs/toy
# Expected: nothing.
method:
  name: toy
  window: [16, 16, 16]
encoder:
  name: toy_net
train:
  steps: 2
  batch_size: 2
"""
SIGNAL = "| `toy_small` | none |\n"
USED = """
import sys
from pathlib import Path
import numpy as np
import medssl
from medssl.store.in_memory import Item, store_from_arrays
from medssl.volumes.recipe import Grid, decide_recipe
from medssl.domains.deciding import Machine
from medssl.chains.auto_settings import AutoSettings
from medssl.workflows.pretrain import pretrain
from medssl.workflows.show import show

here = Path(medssl.__file__).parents[1]
assert here == Path(sys.argv[1]), here
draw = np.random.default_rng(0)
items = [Item(id=f"s{n}", values=draw.integers(0, 300, (18, 20, 18)).astype(np.int16), patient=f"p{n}") for n in "abcd"]
store_from_arrays(here / "store", items)
medssl.set_verbosity("info")
show("toy")
show("toy_net")
pretrain("toy", data=here / "store", out=here / "run", overrides=["train.accelerator=cpu"])
recipe = decide_recipe([Grid((40, 40, 40), (1.0, 1.0, 1.0))] * 5, AutoSettings(method="toy"),
                       Machine(gpu="", amx=False, cores=1), patients=5)
assert recipe.pretrain["method.window"] == recipe.finetune["segmentation.window"]
"""
VERBS = (  # the toy task through every verb that asks a task
    "finetune run --data store --task brightness --out tuned train.steps=4 train.accelerator=cpu",
    "finetune run --data store --task brightness --from-scratch --out scratch train.steps=4 train.accelerator=cpu",
    "evaluate tuned --against scratch --data store --out scores",
    "report scores --out report.html",
    "predict tuned scans --out predicted device=cpu",
    "evaluate run --data store --protocol few-label --out few few_label.sizes=[2,3] few_label.draws=2 "
    "few_label.finetune.task=brightness few_label.finetune.train.steps=2 "
    "few_label.finetune.train.accelerator=cpu",
)
STORED = """
from pathlib import Path
import sys
from medssl.phantoms import write_cohort
from medssl.workflows.cache import cache
from medssl.workflows.index import index
from medssl.workflows.pretrain import pretrain

write_cohort(Path("scans"), subjects=8, shape=(18, 20, 20), spacing_mm=(12.0, 15.0, 12.0))
index("scans", out="m.parquet", overrides=["workers=1", "test=0.4"])
cache("m.parquet", out="store", overrides=["workers=1"])
pretrain("toy", data="store", out="run", overrides=["train.accelerator=cpu"])
"""


def said_to_touch(heading: str, name: str) -> set[str]:
    """Return the files that a section of CONTRIBUTING names."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, flags=re.M | re.S)
    assert section, heading
    lines = re.findall(r"^\d\. (.*)", section.group(1), flags=re.M)
    return {found.replace("NAME", name) for line in lines for found in re.findall(r"`([\w/]+\.\w+)`", line)}


def with_row(table: Path, row: str) -> None:
    text = table.read_text(encoding="utf-8")
    head, end, tail = text.rpartition("    ),\n)\n")
    table.write_text(head + row + end + tail, encoding="utf-8")


def with_field(settings: Path) -> None:
    text = settings.read_text(encoding="utf-8")
    at, first = text.index("    encoder: EncoderSettings"), "from medssl.tasks.settings.inference"
    field = '    brightness: BrightnessSettings = Field(default=BrightnessSettings(), description="The toy task.")\n'
    asked = "from medssl.tasks.settings.brightness import BrightnessSettings\n"
    settings.write_text(f"{text[:at]}{field}{text[at:]}".replace(first, asked + first, 1), encoding="utf-8")


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> tuple[Path, set[str]]:
    """A copy of the project with the toys, and the files that adding them touched."""
    folder = tmp_path_factory.mktemp("house")
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    shutil.copy(TOYS / "toy_method.txt", folder / "medssl/methods/toy.py")
    shutil.copy(TOYS / "toy_method_settings.txt", folder / "medssl/methods/settings/toy.py")
    shutil.copy(TOYS / "toy_encoder.txt", folder / "medssl/encoders/toy_net.py")
    shutil.copy(TOYS / "toy_encoder_settings.txt", folder / "medssl/encoders/settings/toy_net.py")
    with_row(folder / "medssl/methods/table.py", METHOD_ROW)
    with_row(folder / "medssl/encoders/table.py", ENCODER_ROW)
    shutil.copy(TOYS / "toy_task.txt", folder / "medssl/tasks/task_brightness.py")
    shutil.copy(TOYS / "toy_task_learn.txt", folder / "medssl/tasks/learn_brightness.py")
    shutil.copy(TOYS / "toy_task_settings.txt", folder / "medssl/tasks/settings/brightness.py")
    with_row(folder / "medssl/tasks/table.py", TASK_ROW)
    with_field(folder / "medssl/workflows/finetune_settings.py")
    metrics = folder / "medssl/evaluation/metrics.py"
    text = metrics.read_text(encoding="utf-8")
    metrics.write_text(text.replace("_ROWS = (\n", f"_ROWS = (\n{METRIC_ROW}"), encoding="utf-8")
    page, signals = folder / "docs/methods.md", folder / "benchmarks/method_signals.py"
    text = page.read_text(encoding="utf-8")
    shown = "| `toy` | none | none | nothing | `tests/oracles/test_toy.py::test_oracle` |\n"
    at = text.index("| `voco` |")
    page.write_text(f"{text[:at]}{shown}{text[at:]}\n{SIGNAL}", encoding="utf-8")
    known = signals.read_text(encoding="utf-8")
    row = '    "byol_small":'
    signals.write_text(known.replace(row, f'    "toy_small": (("retrieval", True),),\n{row}'), encoding="utf-8")
    (folder / "configs/pretrain/toy.yaml").write_text(PRESET, encoding="utf-8")
    (folder / "tests/oracles/test_toy.py").write_text("def test_oracle():\n    assert (1 + 2) / 2 == 1.5\n")
    (folder / "tests/oracles/test_toy_net.py").write_text("def test_oracle():\n    assert 2 * 2 == 4\n")
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    touched = {path.relative_to(folder).as_posix() for path in after if after[path] != before.get(path)}
    return folder, touched


def ran(house: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(house), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=house,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def test_what_is_touched_is_what_is_said(house):
    said = {"A new method": "toy", "A new encoder": "toy_net", "A new task": "brightness"}
    assert house[1] == set().union(*(said_to_touch(heading, name) for heading, name in said.items()))


def test_toys_are_shown_fitted_and_train(house):
    folder, _ = house
    done = ran(folder, "-c", USED, str(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Method toy" in done.stderr
    assert "Encoder toy_net" in done.stderr
    assert (folder / "run" / "encoder.safetensors").is_file()


@pytest.mark.slow
def test_a_toy_task_goes_the_whole_way_to_scores_verdicts_and_new_scans(house, tmp_path):
    folder, _ = house
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}

    def done(*words):
        return subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    made = done("-c", STORED)
    assert made.returncode == 0, made.stderr[-3000:]
    for line in VERBS:
        went = done("-m", "medssl", *shlex.split(line))
        assert went.returncode == 0, (line, went.stdout[-1500:], went.stderr[-3000:])
    assert list(json.loads((tmp_path / "tuned" / "brightness.json").read_text()))
    found = json.loads((tmp_path / "scores" / "brightness_scores.json").read_text())
    assert found["kind"] == "brightness"
    assert found["comparisons"][0]["verdict"] in {"better", "worse", "inconclusive"}
    assert "error of brightness" in (tmp_path / "report.html").read_text()
    listed = (tmp_path / "predicted" / "predictions.csv").read_text().splitlines()
    assert len(listed) == 9
    assert "predicted" in listed[0]
    shown = done("-m", "medssl", "show", "finetune")
    assert "brightness" in shown.stdout


@pytest.mark.slow
def test_the_contract_tests_take_them_up_by_themselves(house):
    folder, _ = house
    files = ("test_methods.py", "test_encoders.py", "test_methods_channels.py", "test_two_channels.py")
    done = ran(
        folder, "-m", "pytest", "-m", "", "-k", "toy", *(f"tests/contracts/{name}" for name in files),
        "tests/architecture/test_presets.py",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 20
