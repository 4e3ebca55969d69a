"""Without the libraries of the extras, index to evaluate works on volumes; what needs one names its extra."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from medssl.extras import EXTRAS
from medssl.formats.label_files import MapSource, write_map

ROOT = Path(__file__).parents[2]
BLOCKED = tuple(module for modules in EXTRAS.values() for module in modules)
WITHOUT = f"""
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in {BLOCKED!r}:
            return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""
CHAIN = """
from pathlib import Path
from medssl.phantoms import write_cohort
from medssl.workflows.cache import cache
from medssl.workflows.evaluate import evaluate
from medssl.workflows.export import export
from medssl.workflows.finetune import finetune
from medssl.workflows.index import index
from medssl.workflows.pretrain import pretrain
from medssl.errors import MissingDependencyError

out = Path(sys.argv[1])
write_cohort(out / "scans", subjects=8, shape=(18, 20, 20), spacing_mm=(12.0, 15.0, 12.0))
index(out / "scans", out=out / "m.parquet", overrides=["workers=1", "test=0.3"])
cache(out / "m.parquet", out=out / "store", overrides=["workers=1"])
small = ["encoder.name=unet", "encoder.channels=[4,8]", "encoder.blocks=1", "train.steps=2", "train.batch_size=2",
         "train.accelerator=cpu"]
run = pretrain(method="masked", data=out / "store", out=out / "run",
               overrides=[*small, "method.window=[8,8,8]", "method.patch=[4,4,4]"])
assert "metrics.jsonl holds the same" in (out / "run" / "log.txt").read_text()
tuned = finetune(out / "run", data=out / "store", out=out / "tuned",
                 overrides=["segmentation.window=[8,8,8]", "train.steps=2", "train.accelerator=cpu"])
evaluate(out / "tuned", data=out / "store")
export(out / "tuned", to="safetensors", out=out / "kept")
try:
    export(out / "tuned", to="onnx", out=out / "net.onnx")
except MissingDependencyError as error:
    print("SAID", error)
print("DONE", sorted(name for name in sys.modules if name.partition(".")[0] in BLOCKED))
"""


def test_the_table_of_extras_is_that_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["optional-dependencies"]
    assert set(declared) == {*EXTRAS, "all", "dev", "docs"}
    (everything,) = declared["all"]
    assert set(re.search(r"\[(.*)\]", everything).group(1).split(",")) == set(EXTRAS)
    hard = {re.match(r"[\w.-]+", line).group().lower() for line in project["dependencies"]}
    for extra, modules in EXTRAS.items():
        listed = " ".join(declared[extra]).lower()
        for module in modules:
            assert module in listed, (extra, module)
            assert module not in hard


@pytest.mark.parametrize(
    ("call", "extra"),
    [
        ("from pointcloud.formats.las import read; read(Path('a.las'))", "points"),
        ("from pointcloud.formats.hdf5 import read; read(Path('a.h5'))", "points"),
        ("from pointcloud.formats.scenes import read; read(Path('a.glb'))", "points"),
        (
            "from medssl.pool import run_jobs as do; list(do(print, {1: ()}, workers=1, crashed=print, engine='ray'))",
            "ray",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_extra(call, extra, tmp_path):
    with pytest.importorskip("h5py").File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.random.default_rng(0).random((1, 64, 3), dtype=np.float32)
    cloud = pytest.importorskip("laspy").create(point_format=3)
    cloud.x = cloud.y = cloud.z = np.arange(9.0)
    cloud.write(tmp_path / "a.las")
    pytest.importorskip("trimesh").creation.box().export(tmp_path / "a.glb")
    code = f"{WITHOUT}\nfrom pathlib import Path\n{call}"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"Install it with: pip install 'medssl[{extra}]'" in ran.stderr, ran.stderr[-800:]


def test_without_highdicom_maps_of_a_series_are_nifti_and_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    source = MapSource(path=tmp_path / "series", paths=(), format="dicom", affine=np.eye(4))
    path, why = write_map(tmp_path / "map", np.ones((2, 3, 4), np.int16), source, {1: "liver"})
    assert path == tmp_path / "map.nii.gz"
    assert path.is_file()
    assert "not as DICOM SEG: highdicom is needed to write DICOM SEG" in why
    assert "pip install 'medssl[dicom-seg]'" in why


@pytest.mark.slow
def test_volumes_go_the_whole_way_without_any_extra(tmp_path):
    code = f"{WITHOUT}\nBLOCKED = {BLOCKED!r}\n{CHAIN}"
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "DONE []" in ran.stdout, ran.stdout[-2000:]
    if importlib.util.find_spec("onnx"):
        assert "SAID onnx is needed to export ONNX, and is not installed. Install it with: pip install" in ran.stdout
