"""The part of ``medssl demo`` on point clouds: made-up shapes through the same verbs, and a page of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medssl.evaluation.statistics.wording import interval_text, sentences
from medssl.quoting import quoted
from medssl.workflows.cache import cache
from medssl.workflows.evaluate import evaluate
from medssl.workflows.index import index
from medssl.workflows.pretrain import pretrain
from medssl.workflows.report import report
from medssl.workflows.score_files import Scored
from medssl.writing import atomic_write
from pipelines import console
from pointcloud.shapes import CLASSES, shape

__all__ = ["demo_points"]

_POINTS = 256
_PROBE = "knn"  # what the last sentence names


def demo_points(out: Path, *, clouds: int, steps: int, seed: int, overwrite: bool, dry_run: bool) -> Path | None:
    """Pretrain on made-up shapes, and see what frozen features know that fresh weights do not.

    Args:
        out: The folder for everything that is made.
        clouds: Shapes of each class.
        steps: Of pretraining.
        seed: Names the shapes, and every random number.
        overwrite: Train anew.
        dry_run: Say what would be done; write nothing.

    Returns:
        The page; None after a dry run.
    """
    said = f"{clouds * len(CLASSES)} made-up shapes of {len(CLASSES)} classes"
    if dry_run:
        console.say(f"would take {said} as point clouds through index, cache, pretrain, evaluate and report")
        return None
    console.say(f"\n== points: {said}, turned in any direction, noisy and half hidden; in {out / 'shapes'}", lines=True)
    _write(out / "shapes", clouds, seed)
    store, run = out / "store", out / "point_mae"
    with console.part("points", quiet=True) as facts:
        indexed = index(out / "shapes", out=out / "shapes.parquet", overrides=["val=0", "test=0.3", f"seed={seed}"])
        cache(indexed.manifest, out=store, overrides=["points=1024"])
        if overwrite or not (run / "card.json").is_file():
            pretrain(
                "point_mae_small",
                data=store,
                out=run,
                overwrite=run.exists(),
                overrides=[
                    f"method.points={_POINTS}",
                    "method.spatial.rotate=any",
                    "encoder.width=64",
                    "encoder.depth=3",
                    f"train.steps={steps}",
                    f"train.seed={seed}",
                    "train.threads=1",
                    f"train.probe_every={max(1, steps // 4)}",
                    "data.held_out_share=0.15",
                ],
            )
        found = evaluate(
            run,
            data=store,
            out=out / "probe",
            protocol="probe",
            overrides=["probe.few_shot=[[5,5]]", f"probe.seed={seed}", "probe.shares=[1]", "probe.metric=accuracy"],
        )
        title = "title=Made-up shapes as point clouds"
        page = report(run, out / "probe", out=out / "report.html", overrides=[title]).path
        facts["probe"] = {
            arm: {score.how: score.interval.estimate for score in found.scores if score.arm == arm}
            for arm in dict.fromkeys(score.arm for score in found.scores)
        }
    console.say(_sentence(found))
    console.done(
        page,
        f"medssl evaluate {quoted(run)} --data {quoted(store)} --protocol probe --out {quoted(out / 'again')}",
    )
    return page


def _write(folder: Path, clouds: int, seed: int) -> None:
    """Write the shapes as NumPy files in a folder a class, those that are not there."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(clouds):
            path = folder / name / f"{name}-{number:03d}.npy"
            if not path.exists():
                points = shape(name, number, seed=seed, points=2 * _POINTS).points
                with atomic_write(path) as aside, aside.open("wb") as file:
                    np.save(file, points, allow_pickle=False)


def _sentence(found: Scored) -> str:
    """Return what pretraining brought to the features, in the words of the comparison."""
    own = [score for score in found.scores if score.how == _PROBE]
    told = ", ".join(f"{score.arm} {interval_text(score.interval)}" for score in own)
    compared = [row for row in found.comparisons if row.how == _PROBE]
    return f"Nearest neighbours: {told}. {sentences(compared)[1]}"
