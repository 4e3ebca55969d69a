"""The scripts of examples/cluster, run with stand-ins for the scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medssl.manifest.schema import read_manifest
from medssl.phantoms import write_cohort
from medssl.store.read import Store

HERE = Path(__file__).resolve().parents[2] / "examples" / "cluster"
SMALL = ["encoder.name=unet", "encoder.channels=[4,8]", "encoder.blocks=1", "method.window=[8,8,8]",
         "method.patch=[4,4,4]", "train.steps=2", "train.batch_size=2", "data.held_out_scans=0",
         "train.accelerator=cpu", "train.threads=1"]  # fmt: skip
# Runs a job at once, an array's tasks one after another, and says a number.
SBATCH = """#!/bin/bash
array=1-1; script=""
while [ $# -gt 0 ]; do
  case "$1" in
    --array=*) array="${1#--array=}"; shift ;;
    --export=ALL,STEP=*) export STEP="${1#--export=ALL,STEP=}"; shift ;;
    --dependency=*) echo "$1" >> "$LOG"; shift ;;
    --parsable) shift ;;
    *) break ;;
  esac
done
script="$1"; shift
count="${array#1-}"
for number in $(seq 1 "$count"); do
  SLURM_ARRAY_TASK_ID=$number SLURM_ARRAY_TASK_COUNT=$count SLURM_JOB_ID=7 bash "$script" "$@" >> "$LOG" 2>&1 || exit 1
done
echo 7
"""
SRUN = '#!/bin/bash\nexec "$@"\n'


@pytest.fixture
def room(tmp_path: Path) -> dict[str, str]:
    """The environment of a cluster of one machine, with six scans and a copy of one."""
    write_cohort(tmp_path / "scans", subjects=6, shape=(16, 20, 20))
    (tmp_path / "bin").mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN)):
        (tmp_path / "bin" / name).write_text(text, encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    paths = [str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLURM")},
        "PATH": os.pathsep.join(paths),
        "SCANS": str(tmp_path / "scans"),
        "OUT": str(tmp_path / "out"),
        "LOG": str(tmp_path / "log"),
        "PRESET": "masked_small",
        "PARTS": "2",
        "OMP_NUM_THREADS": "1",
    }


def run(script: str, room: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["bash", str(HERE / script), *words], env=room, capture_output=True, text=True, check=False, timeout=600
    )
    log = Path(room["LOG"])
    assert done.returncode == 0, (done.stdout + done.stderr + (log.read_text() if log.exists() else ""))[-4000:]
    return done


def test_scripts_are_bash_and_all_are_listed() -> None:
    scripts = sorted(path.name for path in HERE.iterdir() if path.suffix in (".sh", ".sbatch"))
    told = (HERE / "README.md").read_text(encoding="utf-8")
    for name in scripts:
        assert f"`{name}`" in told
        subprocess.run(["bash", "-n", str(HERE / name)], check=True)
        assert (HERE / name).read_text(encoding="utf-8").startswith("#!/bin/bash\n")


def test_slurm_from_scans_to_an_encoder(room) -> None:
    run("submit.sh", room, *SMALL)
    out = Path(room["OUT"])
    assert len(read_manifest(out / "scans.parquet")) == len(Store.open(out / "store")) == 6
    assert (out / "runs" / "masked_small" / "encoder.safetensors").is_file()
    log = Path(room["LOG"]).read_text()
    assert log.count("--dependency=afterok:7") == 3
    assert "left to other shards" in log


@pytest.mark.slow
def test_torchrun_on_two_processes(room) -> None:
    run("submit.sh", room, *SMALL)
    said = run("torchrun.sh", {**room, "GPUS": "2", "PRESET": "simmim_small"}, *SMALL).stdout
    assert (Path(room["OUT"]) / "runs" / "simmim_small" / "encoder.safetensors").is_file()
    assert "2 processes" in said


@pytest.mark.slow
def test_ray(room) -> None:
    pytest.importorskip("ray")
    run("ray.sh", {name: value for name, value in room.items() if name != "RAY_ADDRESS"})
    assert len(Store.open(Path(room["OUT"]) / "store")) == 6
