"""How often do 95 % intervals hold the truth where pretraining does nothing? The project's interval and the old one.

    python benchmarks/coverage.py [--tables 2000] [--runs 1 2 3 5] [--draws 2 3 5 8] [--patients 6 12 30]

Tables of scores are drawn with no effect: pretraining runs, draws of labelled patients and test patients have luck of
their own and with each other, in the shares of a scenario. Beside the coverage stands the share of tables that would be
called an improvement or a loss at 0.05. "Old" is what the project did before: a percentile bootstrap that resamples
every axis, and Wilcoxon's test over the patients' means. AUROC is drawn from normal scores and goes through
pseudo-values; "old" is the bootstrap over patients there.

With one run the truth is that of all runs, so that an interval that cannot see a run's luck is charged for it.

The last table is of probes of clouds whose points are drawn (`--clouds` alone): synthetic features of clouds, which a
draw of points moves, read by the nearest labelled cloud. The truth is the mean over draws of points of all clouds and
over test clouds without end, given who is labelled; "one" is the interval from one draw, "eight" that from eight.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy.stats import norm, t, wilcoxon

from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.class_resampling import resampled_scores
from medssl.evaluation.statistics.crossed import crossed_interval, crossed_variance, p_of
from medssl.evaluation.statistics.jackknife import pseudo_values

LEVEL = 0.95
KINDS, WIDTH = 5, 6  # classes and features of synthetic clouds
ENDLESS = 1500  # clouds that stand for all
# Standard deviation of the difference that is owed to: run, draw, patient, run x draw, run x patient, draw x patient,
# and what is left in every single score.
SCENARIOS = {
    "patients differ most": (0.3, 0.3, 1.0, 0.3, 0.3, 0.5, 0.5),
    "draws differ most": (0.3, 1.0, 1.0, 0.5, 0.3, 1.0, 1.0),
    "runs differ most": (1.0, 0.3, 1.0, 0.3, 0.5, 0.5, 1.0),
    "noise": (0.1, 0.1, 0.3, 0.5, 0.3, 0.5, 1.0),
    "skewed patients": (0.3, 0.3, 1.0, 0.3, 0.3, 0.5, 0.5),
}


def drawn_tables(
    rng: np.random.Generator, scenario: str, tables: int, runs: int, draws: int, patients: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores of an arm, (tables, runs, draws, patients), and of a baseline with one run; no true difference."""
    run, draw, patient, run_draw, run_patient, draw_patient, rest = SCENARIOS[scenario]
    shape = (tables, runs, draws, patients)

    def luck(spread: float, *axes: int, skewed: bool = False) -> np.ndarray:
        size = [tables, *(shape[axis] if axis in axes else 1 for axis in (1, 2, 3))]
        return spread * (rng.exponential(size=size) - 1 if skewed else rng.standard_normal(size))

    gap = (
        luck(run, 1)
        + luck(draw, 2)
        + luck(patient, 3, skewed=scenario.startswith("skewed"))
        + luck(run_draw, 1, 2)
        + luck(run_patient, 1, 3)
        + luck(draw_patient, 2, 3)
        + luck(rest, 1, 2, 3)
    )
    hardness = luck(2.0, 3) + luck(1.0, 2)  # of patients and draws, the same for both arms
    return gap + hardness, np.broadcast_to(hardness, (tables, 1, draws, patients))


def ours(own: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each table whether the interval holds 0, and p."""
    middle = own.mean(axis=(1, 2, 3)) - other.mean(axis=(1, 2, 3))
    variance, freedom = crossed_variance(own, other)
    p = 2 * t.sf(np.abs(middle) / np.sqrt(variance), freedom)
    return np.abs(middle) <= t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(variance), p


def old(rng: np.random.Generator, own: np.ndarray, other: np.ndarray, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the same of a percentile bootstrap over all axes and Wilcoxon's test over patients."""
    gap = own - other
    held = []
    for table in gap:
        weights = [rng.multinomial(size, np.full(size, 1 / size), size=resamples) / size for size in table.shape]
        means = np.einsum("gdp,rg,rd,rp->r", table, *weights, optimize=True)
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        held.append(low <= 0 <= high)
    return np.array(held), wilcoxon(gap.mean(axis=(1, 2)), axis=-1).pvalue


def auroc_tables(
    rng: np.random.Generator, tables: int, runs: int, draws: int, patients: int, skill: float, resamples: int
) -> list[tuple[float, ...]]:
    """Return for each table whether ours and the old interval of an arm's AUROC and of a difference hold the truth."""
    found = []
    truth = np.arange(patients) % 2
    area = norm.cdf(skill / np.sqrt(2 * (1 + 0.5**2)))
    for _ in range(tables):
        body = rng.standard_normal(patients)  # how a patient looks to every classifier

        def arm(count: int, body: np.ndarray = body) -> list[list[ClassPredictions]]:
            own = 0.3 * rng.standard_normal(patients)
            return [
                [
                    cases(truth, skill * truth + 0.9 * body + own + 0.57 * rng.standard_normal(patients))
                    for _ in range(draws)
                ]
                for _ in range(count)
            ]

        arms = [arm(runs), arm(1)]
        scored = [
            [[pseudo_values(lambda w, c=c: resampled_scores(c, "auroc", w), patients) for c in line] for line in own]
            for own in arms
        ]
        grids = [np.array([[v for _, v in line] for line in own]) for own in scored]
        means = [np.mean([[s for s, _ in line] for line in own]) for own in scored]
        single = crossed_interval(grids[0], estimate=float(means[0]), bounds=(0, 1), logit=True)
        gap = crossed_interval(grids[0], grids[1], estimate=float(means[0] - means[1]))
        weight = rng.multinomial(patients, np.full(patients, 1 / patients), size=resamples).astype(float)
        again = [np.array([[resampled_scores(c, "auroc", weight) for c in line] for line in own]) for own in arms]
        picks = [rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n for n in (runs, draws)]
        one = np.einsum("gdr,rg,rd->r", again[0], picks[0], picks[1])
        two = np.einsum("gdr,rd->r", again[1], picks[1])
        bounds = [np.nanquantile(v, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) for v in (one, one - two)]
        found.append(
            (
                single.low <= area <= single.high if single.known else np.nan,
                bounds[0][0] <= area <= bounds[0][1],
                gap.low <= 0 <= gap.high if gap.known else np.nan,
                bounds[1][0] <= 0 <= bounds[1][1],
                p_of(gap) < 1 - LEVEL if gap.known else 0.0,
            )
        )
    return found


def cloud_tables(
    rng: np.random.Generator, tables: int, labelled: int, tested: int, share: float
) -> list[tuple[bool, bool, bool, bool, float]]:
    """Return for each table whether intervals from one draw of points and from eight hold the truth, of two encoders.

    First of an encoder's accuracy, then of the difference of two; last the standard deviation over draws.

    Args:
        rng: Where numbers are drawn from.
        tables: How many tables.
        labelled: Clouds that are fitted to.
        tested: Clouds that are asked.
        share: Variance over draws of a cloud's points as a share of that between clouds, of a vector as it is read.
    """
    found = []
    for _ in range(tables):
        kinds = [rng.integers(0, KINDS, size) for size in (labelled, tested, ENDLESS)]
        arms, truths = [], []
        for _ in range(2):
            middle = rng.standard_normal((KINDS, WIDTH))
            known, asked, every = (middle[kind] + rng.standard_normal((len(kind), WIDTH)) for kind in kinds)
            spread = np.sqrt(share * 2)  # classes and clouds give a variance of 1 each

            fit = (known, kinds[0])
            arms.append(np.array([[nearest_right(rng, fit, (asked, kinds[1]), spread) for _ in range(8)]]))
            truths.append(float(np.mean([nearest_right(rng, fit, (every, kinds[2]), spread) for _ in range(24)])))
        held = []
        for draws in (1, 8):
            own, other = (arm[:, :draws] for arm in arms)
            single, gap = crossed_interval(own, bounds=(0, 1)), crossed_interval(own, other)
            held += [single.low <= truths[0] <= single.high, gap.low <= truths[0] - truths[1] <= gap.high]
        found.append((held[0], held[2], held[1], held[3], float(arms[0].mean(axis=2).std(ddof=1))))
    return found


def nearest_right(
    rng: np.random.Generator, fit: tuple[np.ndarray, np.ndarray], asked: tuple[np.ndarray, np.ndarray], spread: float
) -> np.ndarray:
    """Return which clouds are of the class of the nearest labelled one, features of either moved by a draw."""
    known, seen = (each + spread * rng.standard_normal(each.shape) for each, _ in (fit, asked))
    gaps = (known**2).sum(axis=1) - 2 * seen @ known.T
    return (fit[1][gaps.argmin(axis=1)] == asked[1]).astype(float)


def show_clouds(rng: np.random.Generator, tables: int) -> None:
    """Print the table of probes of clouds."""
    print(f"\nProbes of clouds whose points are drawn, {tables} tables\n")
    print(
        row(
            [
                "variance by drawing",
                "labelled",
                "tested",
                "accuracy: one",
                "eight",
                "difference: one",
                "eight",
                "SD over draws",
            ]
        )
        + "\n|"
        + "--:|" * 8
    )
    for share in (0.02, 0.1, 0.3):
        for labelled, tested in ((20, 100), (100, 100), (20, 400), (100, 400)):
            means = np.array(cloud_tables(rng, tables, labelled, tested, share), dtype=float).mean(axis=0)
            print(row([f"{share:.0%}", labelled, tested, *map(float, means)]), flush=True)


def cases(truth: np.ndarray, score: np.ndarray) -> ClassPredictions:
    """Return a classifier's predictions, one case a patient."""
    positive = 1 / (1 + np.exp(-score))
    names = tuple(f"p{number:03d}" for number in range(len(truth)))
    probability = np.stack([1 - positive, positive], axis=1)
    return ClassPredictions(names, names, truth, probability, probability.argmax(axis=1), ("ill", "well"))


def show_wider(rng: np.random.Generator, tables: int, patients: Sequence[int]) -> None:
    """Print how often intervals with fewer degrees of freedom hold the truth, and how much wider they are.

    Satterthwaite's freedom is 1 / sum(share^2 / freedom) over the parts of a variance. "Shares" takes them unsquared;
    "Cochran" the mean of the parts' own quantiles, weighted by their shares.
    """
    heads = ["scenario", "runs", "draws", "patients", "ours", "shares", "width", "Cochran", "width"]
    print(row(heads) + "\n|---|" + "--:|" * (len(heads) - 1))
    for scenario in SCENARIOS:
        for runs, draws, count in product((2, 3), (2, 8), patients):
            own, other = drawn_tables(rng, scenario, tables, runs, draws, count)
            gap = own.mean(axis=1) - other.mean(axis=1)
            means = [own.mean(axis=(2, 3)), gap.mean(axis=2), gap.mean(axis=1)]
            part = np.array([each.var(axis=1, ddof=1) / each.shape[1] for each in means])
            freedom = np.array([each.shape[1] - 1.0 for each in means])[:, None]
            share, error = part / part.sum(axis=0), np.sqrt(part.sum(axis=0))
            quantiles = [t.ppf((1 + LEVEL) / 2, 1 / (share**power / freedom).sum(axis=0)) for power in (2, 1)]
            quantiles.append((share * t.ppf((1 + LEVEL) / 2, freedom)).sum(axis=0))
            held = [float((np.abs(gap.mean(axis=(1, 2))) <= q * error).mean()) for q in quantiles]
            wide = [float(np.median(q * error) / np.median(quantiles[0] * error)) for q in quantiles]
            print(row([scenario, runs, draws, count, held[0], held[1], wide[1], held[2], wide[2]]), flush=True)


def row(cells: Sequence[object]) -> str:
    """Return a row of Markdown."""
    return f"| {' | '.join(f'{c:.3f}' if isinstance(c, float) else str(c) for c in cells)} |"


def main() -> None:
    """Print the tables."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--tables", type=int, default=2000, help="tables of each row; a tenth of them for AUROC")
    words.add_argument("--resamples", type=int, default=400, help="of the old bootstrap")
    words.add_argument("--runs", type=int, nargs="+", default=[1, 2, 3, 5])
    words.add_argument("--draws", type=int, nargs="+", default=[2, 3, 5, 8])
    words.add_argument("--patients", type=int, nargs="+", default=[6, 12, 30])
    words.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), choices=list(SCENARIOS))
    words.add_argument("--clouds", action="store_true", help="only the table of probes of clouds")
    words.add_argument("--wider", action="store_true", help="only that of intervals with fewer degrees of freedom")
    given = words.parse_args()
    rng = np.random.default_rng(0)
    if given.clouds:
        return show_clouds(rng, given.tables)
    if given.wider:
        return show_wider(rng, given.tables, given.patients)
    print("Means over patients (Dice, accuracy, ...), no effect\n")
    print(row(["scenario", "runs", "draws", "patients", "coverage", "old", "false alarms", "old (Wilcoxon)"]))
    print("|---|" + "--:|" * 7)
    worst: dict[int, list[list[float]]] = {}
    for scenario in given.scenarios:
        for runs in given.runs:
            for draws in given.draws:
                for patients in given.patients:
                    pair = drawn_tables(rng, scenario, given.tables, runs, draws, patients)
                    (held, p), (before, w) = ours(*pair), old(rng, *pair, given.resamples)
                    found = [
                        float(held.mean()),
                        float(before.mean()),
                        float((p < 0.05).mean()),
                        float((w < 0.05).mean()),
                    ]
                    worst.setdefault(runs, []).append(found)
                    print(row([scenario, runs, draws, patients, *found]), flush=True)
    print("\nOver all rows: lowest and highest\n")
    print(row(["runs", "coverage", "old", "false alarms", "old (Wilcoxon)"]) + "\n|--:|" + "---|" * 4)
    for runs, found in worst.items():
        ends = [f"{min(column):.3f} to {max(column):.3f}" for column in zip(*found, strict=True)]
        print(row([runs, *ends]))
    print("\nAUROC (true value .80, or no difference)\n")
    print(
        row(
            [
                "runs",
                "draws",
                "patients",
                "score: coverage",
                "old",
                "difference: coverage",
                "old",
                "false alarms",
                "no interval",
            ]
        )
        + "\n|"
        + "--:|" * 9
    )
    skill = float(norm.ppf(0.8) * np.sqrt(2 * (1 + 0.5**2)))
    for runs in given.runs:
        for draws in sorted({1, given.draws[0], given.draws[-1]}):
            for patients in sorted({20, *given.patients[1:]}):
                tables = auroc_tables(rng, max(20, given.tables // 10), runs, draws, patients, skill, given.resamples)
                rows = np.array(tables, dtype=float)
                print(
                    row(
                        [
                            runs,
                            draws,
                            patients,
                            *(float(v) for v in np.nanmean(rows, axis=0)),
                            float(np.isnan(rows[:, 2]).mean()),
                        ]
                    ),
                    flush=True,
                )
    show_clouds(rng, max(20, given.tables // 4))


if __name__ == "__main__":
    main()
