"""From a folder of scans to masks of new ones, and whether pretraining helped: the verbs, called from Python.

python examples/few_labels.py [FOLDER]      (synthetic patients without a folder; about a minute)
"""

import sys
import tempfile
from pathlib import Path

import medssl


def main(scans: Path, room: Path, steps: int = 40) -> None:
    """Index, store, pretrain, fine-tune twice, compare, predict."""
    manifest = medssl.index(scans, out=room / "scans.parquet", overrides=["test=0.4"]).manifest
    print(manifest)
    store = room / "store"
    medssl.cache(manifest, out=store)
    short = [f"train.steps={steps}"]  # leave it out for the preset's own number
    medssl.pretrain("global_contrast_small", data=store, out=room / "encoder", overrides=short)
    medssl.finetune(room / "encoder", data=store, out=room / "seg", labels=2, overrides=short)
    medssl.finetune(room / "encoder", data=store, out=room / "scratch", labels=2, from_scratch=True, overrides=short)
    found = medssl.evaluate(room / "seg", data=store, against=[room / "scratch"])
    for compared in found.comparisons:
        print(compared.of.words, compared.verdict if hasattr(compared, "verdict") else compared)

    model = medssl.load_model(room / "seg")
    scan = next(path for path in sorted(scans.rglob("*.nii.gz")) if "label" not in str(path))
    answer = model.predict(scan)
    print(scan.name, answer.labels.shape, answer.names)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 1:
            main(Path(sys.argv[1]), Path(folder))
        else:
            from medssl.phantoms import write_cohort

            made = Path(folder) / "scans"
            write_cohort(made, subjects=12, modality="MR", shape=(32, 32, 32), spacing_mm=(8.0, 8.0, 8.0))
            main(made, Path(folder) / "runs")
