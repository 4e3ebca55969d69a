"""How often do 95 % intervals hold the truth for AUROC of several classes, and for IoU of parts?

    python benchmarks/coverage_targets.py [--tables 200] [--runs 1 2 3 5] [--draws 8]

Both are no means over patients: they go through pseudo-values (`medssl.evaluation.statistics.jackknife`). Runs, draws
of labelled patients and test patients have luck of their own, and no arm is better than the other.

* Classes: five, unequally many patients; what a classifier says of a patient is the truth times its skill, what the
  patient looks like to every classifier, and noise. Skill differs by run and draw. The true AUROC, the mean over
  classes of one against the others, is that of 400,000 patients under skills without end.
* Parts: six classes of shapes, from 4 to 16 shapes each; the IoU of a shape is that of its class, luck of the shape,
  of a run and of a run with a class, and noise. The true class mIoU is the mean of the classes'.

With one run the truth is that of all runs, so that an interval that cannot see a run's luck is charged for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from scipy.special import softmax

from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.class_resampling import resampled_scores
from medssl.evaluation.classes import auroc
from medssl.evaluation.parts import resampled_parts
from medssl.evaluation.statistics.crossed import crossed_interval, p_of
from medssl.evaluation.statistics.jackknife import pseudo_values

Rng = np.random.Generator
Score = tuple[float, np.ndarray]  # of an arm's run and draw: the score, and the pseudo-value of each patient

SHARES = np.array([0.3, 0.25, 0.2, 0.15, 0.1])  # of five classes
SKILL, BY_RUN, BY_DRAW = 1.4, 0.15, 0.2
BODY, OWN, REST = 0.9, 0.3, 0.6  # what a patient looks like to all, to one arm, to one training
SHAPES = (4, 6, 8, 10, 12, 16)
CLASS_IOU = np.array([0.55, 0.62, 0.7, 0.75, 0.8, 0.85])
PART_LUCK = {"shape": 0.08, "run": 0.02, "run and class": 0.02, "draw": 0.02, "rest": 0.04}


def true_auroc(rng: Rng, patients: int = 4000, skills: int = 100) -> float:
    """Return the AUROC over runs, draws and patients without end."""
    truth = rng.choice(len(SHARES), size=patients, p=SHARES)
    found = []
    for _ in range(skills):
        skill = SKILL + BY_RUN * rng.standard_normal() + BY_DRAW * rng.standard_normal()
        spread = np.sqrt(BODY**2 + OWN**2 + REST**2)
        said = skill * np.eye(len(SHARES))[truth] + spread * rng.standard_normal((patients, len(SHARES)))
        likely = softmax(said, axis=1)
        found.append(np.mean([auroc(likely[:, one], truth == one) for one in range(len(SHARES))]))
    return float(np.mean(found))


def class_arms(rng: Rng, runs: int, draws: int, patients: int) -> list[list[list[Score]]]:
    """Return the scores of two arms of one skill: one of so many runs, one of one."""
    truth = np.sort(np.concatenate([np.arange(len(SHARES)), rng.choice(len(SHARES), patients - len(SHARES), p=SHARES)]))
    truth_PC = np.eye(len(SHARES))[truth]
    body = BODY * rng.standard_normal((patients, len(SHARES)))
    of_draw = BY_DRAW * rng.standard_normal(draws)  # who is labelled is luck for both arms

    def arm(count: int) -> list[list[Score]]:
        own = OWN * rng.standard_normal(body.shape)
        of_run = BY_RUN * rng.standard_normal(count)
        return [
            [
                _auroc((SKILL + a + b) * truth_PC + body + own + REST * rng.standard_normal(body.shape), truth)
                for b in of_draw
            ]
            for a in of_run
        ]

    return [arm(runs), arm(runs)]


def part_arms(rng: Rng, runs: int, draws: int, patients: int) -> list[list[list[Score]]]:
    """Return the class mIoU of two arms that find parts equally well; `patients` times as many shapes of each class."""
    kind = np.repeat(np.arange(len(SHAPES)), [n * patients for n in SHAPES])
    names = [f"s{n:04d}" for n in range(len(kind))]
    shape, of_draw = PART_LUCK["shape"] * rng.standard_normal(len(kind)), rng.standard_normal(draws)
    unused = np.ones((len(kind), 2))

    def once(luck: np.ndarray) -> Score:
        iou = CLASS_IOU[kind] + shape + luck[kind] + PART_LUCK["rest"] * rng.standard_normal(len(kind))
        return pseudo_values(
            lambda weight: resampled_parts(iou, unused, [str(k) for k in kind], names, "class_miou", weight), len(kind)
        )

    def arm(count: int) -> list[list[Score]]:
        of_run = PART_LUCK["run"] * rng.standard_normal((count, 1))
        of_run = of_run + PART_LUCK["run and class"] * rng.standard_normal((count, len(SHAPES)))
        return [[once(own + PART_LUCK["draw"] * b) for b in of_draw] for own in of_run]

    return [arm(runs), arm(runs)]


def held(arms: list[list[list[Score]]], truth: float) -> tuple[float, float, float]:
    """Return whether the interval of an arm and of the difference hold the truth, and whether p is below .05."""
    grids = [np.array([[values for _, values in line] for line in own]) for own in arms]
    means = [float(np.mean([[score for score, _ in line] for line in own])) for own in arms]
    single = crossed_interval(grids[0], estimate=means[0], bounds=(0, 1), logit=True)
    gap = crossed_interval(grids[0], grids[1], estimate=means[0] - means[1])
    return (
        single.low <= truth <= single.high if single.known else np.nan,
        gap.low <= 0 <= gap.high if gap.known else np.nan,
        p_of(gap) < 0.05 if gap.known else 0.0,
    )


def _auroc(said: np.ndarray, truth: np.ndarray) -> Score:
    likely = softmax(said, axis=1)
    names = tuple(f"p{n:05d}" for n in range(len(truth)))
    cases = ClassPredictions(names, names, truth, likely, likely.argmax(axis=1), tuple("abcde"))
    return pseudo_values(lambda w: resampled_scores(cases, "auroc", w), len(truth))


def main() -> None:
    """Print a table for each target."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--tables", type=int, default=200)
    words.add_argument("--runs", type=int, nargs="+", default=[1, 2, 3, 5])
    words.add_argument("--draws", type=int, default=8)
    given = words.parse_args()
    rng = np.random.default_rng(0)
    truth = true_auroc(rng)
    targets: list[tuple[str, float, tuple[int, ...], Callable[..., list[list[list[Score]]]]]] = [
        (f"AUROC of five classes ({truth:.3f})", truth, (40, 90), class_arms),
        (f"class mIoU of parts ({CLASS_IOU.mean():.3f})", float(CLASS_IOU.mean()), (1, 2), part_arms),
    ]
    print("| target | runs | patients | score: coverage | difference: coverage | false alarms |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, true, sizes, arms_of in targets:
        for runs in given.runs:
            for size in sizes:
                found = [held(arms_of(rng, runs, given.draws, size), true) for _ in range(given.tables)]
                many = size if arms_of is class_arms else size * sum(SHAPES)
                shares = " | ".join(f"{v:.3f}" for v in np.nanmean(np.array(found, dtype=float), axis=0))
                print(f"| {name} | {runs} | {many} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
