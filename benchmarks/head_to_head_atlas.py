"""The arms "affine" and "deformable" of head_to_head.py: labels of each labelled scan by registration, most votes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from medssl.evaluation.registration import registered_labels


def main(file: str) -> None:
    """Do a job."""
    job = json.loads(Path(file).read_text())
    out = Path(job["out"]) / "predictions"
    out.mkdir(exist_ok=True)
    atlases = [(_read(image), _read(label)) for image, label in zip(job["images"], job["labels"], strict=True)]
    for name, path in job["tests"].items():
        fixed, spacing, image = _read(path)
        votes = np.zeros((max(map(int, job["names"])) + 1, *fixed.shape), np.int16)
        for (moving, moving_mm, _), (labels, *_) in atlases:
            found, _ = registered_labels(
                fixed, moving, labels.astype(np.int16), (spacing, moving_mm), way=job["arm"], seed=job["seed"]
            )
            for number in range(len(votes)):
                votes[number] += found == number
        nib.save(nib.Nifti1Image(votes.argmax(0).astype(np.int16).T, image.affine), out / f"{name}.nii.gz")
    (out.parent / "trained.json").write_text(json.dumps({"training": 0.0}))


def _read(path: str) -> tuple[np.ndarray, list[float], nib.Nifti1Image]:
    image = nib.load(path)
    return np.asarray(image.dataobj).T, [float(v) for v in reversed(image.header.get_zooms()[:3])], image


if __name__ == "__main__":
    main(sys.argv[1])
