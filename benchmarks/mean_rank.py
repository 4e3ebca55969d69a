"""Rank methods over data sets, from the tables that `medssl evaluate` wrote: one table a data set.

    python benchmarks/mean_rank.py few-store-150-draws0/few_label.csv probe/diagnosis/probe.csv

Each number of labelled patients of a file is a task of its data set, and each data set counts once; a score is Dice of
segmenters and AUROC of classifiers (of a probe, the linear one). METHOD-seed0, METHOD-seed1, ... and random encoders
are averaged draw by draw. Methods that not every file has are left out and named; draws that a method has not been
through yet are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl
from ranks import mean_ranks

from medssl.evaluation.statistics.grid import method_of
from medssl.evaluation.statistics.wording import interval_text

_BASELINES = {"random": "random initialization", "scratch": "random initialization"}


def read(path: Path, how: str) -> pl.DataFrame:
    """Return (data set, task, method, draw, score) of one table."""
    table = pl.read_csv(path)
    metric = "dice" if "dice" in table.columns else "auroc"
    if "how" in table.columns and how in table["how"].to_list():
        table = table.filter(pl.col("how") == how)
    named = table.with_columns(
        method=pl.col("arm").map_elements(lambda a: _BASELINES.get(method_of(a), method_of(a)), return_dtype=pl.String),
        data=pl.lit(str(path)),
        task=pl.lit(f"{path.parent.name}, n = ") + pl.col("n").cast(pl.String),
    )
    return named.group_by("data", "task", "method", "draw").agg(score=pl.col(metric).mean())


def main() -> None:
    """Print the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("tables", nargs="+", type=Path, metavar="CSV")
    words.add_argument("--how", default="linear", help="Which probe of a table of probes.")
    words.add_argument("--leave-out", nargs="*", default=["majority"], help="Methods that are not ranked.")
    given = words.parse_args()
    rows = pl.concat([read(path, given.how) for path in given.tables]).filter(~pl.col("method").is_in(given.leave_out))
    number = rows["task"].n_unique()
    everywhere = rows.group_by("method").agg(tasks=pl.col("task").n_unique())
    missing = everywhere.filter(pl.col("tasks") < number)["method"].sort().to_list()
    if missing:
        print(f"not in every table, and not ranked: {', '.join(missing)}")
    rows = rows.filter(~pl.col("method").is_in(missing))
    methods = rows["method"].n_unique()
    whole = rows.group_by("task", "draw").agg(arms=pl.len()).filter(pl.col("arms") == methods)
    rows = rows.join(whole, on=["task", "draw"]).sort("task", "method", "draw")
    sets: dict[str, dict[str, dict[str, list[float]]]] = {}
    for data, task, method, score in rows.select("data", "task", "method", "score").iter_rows():
        sets.setdefault(data, {}).setdefault(task, {}).setdefault(method, []).append(score)
    found = mean_ranks(sets)
    tasks = {task: scores for of_set in sets.values() for task, scores in of_set.items()}
    drawn = "; ".join(f"{task} ({len(next(iter(own.values())))} draws)" for task, own in tasks.items())
    print(f"{found.data_sets} data sets: {drawn}")
    print("| method | mean rank | " + " | ".join(tasks) + " |\n|---|---|" + "--:|" * len(tasks))
    for method, rank in zip(found.methods, found.ranks, strict=True):
        means = " | ".join(f"{sum(t[method]) / len(t[method]):.3f}" for t in tasks.values())
        print(f"| {method} | {interval_text(rank, digits=1)} | {means} |")
    print(f"Friedman p = {found.p:.3g}; methods nearer than {found.critical:.1f} ranks do not differ (Nemenyi, 0.05)")


if __name__ == "__main__":
    main()
