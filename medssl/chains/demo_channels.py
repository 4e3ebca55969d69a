"""The part of ``medssl demo`` on cases of several channels: synthetic heads, t1 alone against all four sequences."""

from __future__ import annotations

from pathlib import Path

from medssl.command import Command
from medssl.evaluation.statistics.wording import sentences
from medssl.workflows import events
from medssl.workflows.cache import cache
from medssl.workflows.evaluate import evaluate
from medssl.workflows.finetune import finetune
from medssl.workflows.index import index
from medssl.workflows.report import report
from medssl.workflows.result import Result

__all__ = ["demo_channels"]

_SHAPE, _SPACING = (32, 40, 32), (5.0, 5.0, 5.0)
_RECIPE = [
    "encoder.name=unet",
    "encoder.channels=[8,16,32]",
    "segmentation.window=[16,16,16]",
    "train.batch_size=2",
    "train.lr=0.02",
    "train.schedule=cosine",
    "train.warmup=0.05",
    "train.threads=1",
    "data.held_out_scans=0",
    "inference.overlap=0.25",
]


def demo_channels(out: Path, *, cases: int, steps: int, seed: int, overwrite: bool, dry_run: bool) -> Result:
    """Train one segmenter on t1 alone and one on all four sequences, and compare them on the same test heads.

    Args:
        out: The output folder.
        cases: Synthetic heads, half of them to test on.
        steps: Of each segmenter.
        seed: Names the heads, and every random number.
        overwrite: Train anew.
        dry_run: Only say what would be done.

    Returns:
        The page; nothing after a dry run.
    """
    from medssl.phantoms import SEQUENCES, write_brains

    said = f"{cases} synthetic heads in {', '.join(SEQUENCES)}, with a lesion whose rim shows in t1ce alone"
    if dry_run:
        events.message(f"would take {said} through index, cache, finetune, evaluate and report")
        return Result()
    events.message(f"\n== channels: {said}; in {out / 'scans'}", lines=True)
    write_brains(out / "scans", subjects=cases, shape=_SHAPE, spacing_mm=_SPACING, seed=seed)
    runs = {"four": out / "all-four", "t1": out / "t1-alone"}
    with events.part("channels", quiet=True) as facts:
        shares = ["val=0", "test=0.5", f"seed={seed}", "modality=MR"]
        manifest = index(out / "scans", out=out / "heads.parquet", overrides=shares).manifest
        for name, channels in (("four", "auto"), ("t1", "t1")):
            store, run = out / "stores" / name, runs[name]
            cache(manifest, out=store, overrides=[f"channels={channels}"])
            if overwrite or not (run / "predictions").is_dir():
                finetune(
                    data=store,
                    out=run,
                    overwrite=run.exists(),
                    overrides=[
                        *_RECIPE,
                        f"train.steps={steps}",
                        f"train.checkpoint_every={steps}",
                        f"train.seed={seed}",
                    ],
                )
        found = evaluate(runs["four"], data=out / "stores" / "four", against=[runs["t1"]])
        made = report(
            runs["four"], runs["t1"], out=out / "report.html", overrides=["title=Synthetic heads of four channels"]
        )
        facts["dice"] = {
            score.arm: score.interval.estimate for score in found.scores if score.metric == "dice" and not score.target
        }
    events.message(sentences([row for row in found.comparisons if row.of.words == "Dice"])[-1])
    following = Command("predict", runs["four"], out / "scans", "--out", out / "again")
    return events.written(Result(written=made.written, next=following))
