"""The part of ``medssl demo`` on point clouds: synthetic shapes through the same verbs, and a page of its own."""

from __future__ import annotations

import importlib
from pathlib import Path

from medssl.command import Command
from medssl.evaluation.statistics.wording import interval_text, sentences
from medssl.workflows import events
from medssl.workflows.cache import cache
from medssl.workflows.evaluate import evaluate
from medssl.workflows.index import index
from medssl.workflows.pretrain import pretrain
from medssl.workflows.report import report
from medssl.workflows.result import Result
from medssl.workflows.score_files import Scored

__all__ = ["demo_points"]

_SHAPES = "pointcloud.shape_files"  # a dotted path: this package knows nothing of clouds
_POINTS = 256
_PROBE = "knn"  # what the last sentence names
_PROBES = ("probe.shares=[1]", "probe.metric=accuracy")
_ALL = ("probe.few_shot=[[5,5]]",)
_FAST = ("probe.how=[knn,ridge]", "probe.few_shot=[]", "probe.random=1", "probe.point_draws=2")


def demo_points(
    out: Path, *, clouds: int, steps: int, seed: int, all_probes: bool, overwrite: bool, dry_run: bool
) -> Result:
    """Pretrain on synthetic shapes, and see what frozen features know that random initialization does not.

    Args:
        out: The output folder.
        clouds: Shapes of each class.
        steps: Of pretraining.
        seed: Names the shapes, and every random number.
        all_probes: All probes and few-shot tasks, beside two random encoders; else the two fast probes beside one.
        overwrite: Train anew.
        dry_run: Only say what would be done.

    Returns:
        The page; nothing after a dry run.
    """
    shapes = importlib.import_module(_SHAPES)
    said = f"{clouds * len(shapes.CLASSES)} synthetic shapes of {len(shapes.CLASSES)} classes"
    if dry_run:
        events.message(f"would take {said} as point clouds through index, cache, pretrain, evaluate and report")
        return Result()
    events.message(f"\n== points: {said}, turned any way, noisy and half hidden; in {out / 'shapes'}", lines=True)
    shapes.write_shapes(out / "shapes", each=clouds, seed=seed, points=2 * _POINTS)
    store, run = out / "store", out / "point_mae"
    with events.part("points", quiet=True) as facts:
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
            overrides=[*_PROBES, f"probe.seed={seed}", *(_ALL if all_probes else _FAST)],
        )
        title = "title=Synthetic shapes as point clouds"
        page = report(run, out / "probe", out=out / "report.html", overrides=[title])
        facts["probe"] = {
            arm: {score.how: score.interval.estimate for score in found.scores if score.arm == arm}
            for arm in dict.fromkeys(score.arm for score in found.scores)
        }
    events.message(_sentence(found))
    following = Command("evaluate", run, "--data", store, "--protocol", "probe", "--out", out / "again")
    return events.written(Result(written=page.written, next=following))


def _sentence(found: Scored) -> str:
    """Return what pretraining brought to the features, in the words of the comparison."""
    own = [score for score in found.scores if score.how == _PROBE]
    told = ", ".join(f"{score.arm} {interval_text(score.interval)}" for score in own)
    compared = [row for row in found.comparisons if row.how == _PROBE]
    return f"Nearest neighbours: {told}. {sentences(compared)[1]}"
