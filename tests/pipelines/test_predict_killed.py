"""``medssl predict`` on two hundred files, ten of them broken, killed twice: nothing lost, nothing done twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.formats.nifti import write_nifti
from medssl.workflows.finetune import finetune
from tests.pipelines.test_predict import QUICK, scan

FILES, BROKEN = 200, 10


def ended(out: Path) -> Counter[str]:
    """Return how often each item was done, by the whole lines of the journal."""
    found: Counter[str] = Counter()
    try:
        lines = (out / "journal.jsonl").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if "item" in said and "reason" not in said:
            found[said["item"]] += 1
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_files_killed_twice_and_resumed(tmp_path):
    from medssl.store.in_memory import Item, store_from_arrays

    items = [Item(id=f"s{n}", values=v, labels=lab, split="train") for n in range(2) for v, lab in [scan(n)]]
    store_from_arrays(tmp_path / "store", items, classes={1: "left", 2: "right"})
    finetune(data=tmp_path / "store", out=tmp_path / "run", overrides=QUICK)
    for number in range(FILES):
        values, _ = scan(number, (14, 16, 14) if number % 20 else (14, 16, 15))
        write_nifti(tmp_path / f"new/p{number:03d}.nii.gz", values, np.eye(4))
    for number in range(5, FILES, FILES // BROKEN):
        path = tmp_path / f"new/p{number:03d}.nii.gz"
        path.write_bytes(path.read_bytes()[:700])
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipelines.cli", "predict", str(tmp_path / "run"), str(tmp_path / "new"), "--out",
               str(out), "modality=CT", "device=cpu", "workers=1"]  # fmt: skip
    root = Path(__file__).resolve().parents[2]
    for wanted in (30, 90):
        with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            limit = time.monotonic() + 600
            while len(ended(out)) < wanted and running.poll() is None and time.monotonic() < limit:
                time.sleep(0.02)
            assert running.poll() is None, "it had ended before it was killed"
            running.send_signal(signal.SIGKILL)
        assert wanted <= len(ended(out)) < FILES - BROKEN
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{FILES - BROKEN} scans done (" in done.stdout.splitlines()[-1]
    assert f"{BROKEN} failed, 0 skipped" in done.stdout.splitlines()[-1]
    counts = ended(out)
    assert len(counts) == FILES - BROKEN
    assert set(counts.values()) == {1}
    maps = sorted(path.name for path in out.glob("p*.nii.gz"))
    assert maps == sorted(f"p{n:03d}.nii.gz" for n in range(FILES) if (n - 5) % (FILES // BROKEN))
    for name in maps:
        image = nib.load(out / name)
        assert np.asarray(image.dataobj).shape == nib.load(tmp_path / "new" / name).shape
    assert {path.name for path in out.iterdir()} == {*maps, "journal.jsonl", "labels.json", "predictions.csv"}
    rows = (out / "predictions.csv").read_text().splitlines()
    assert len(rows) == 1 + FILES
    assert sum(",failed," in row for row in rows) == BROKEN
