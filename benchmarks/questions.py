"""Answer a question of docs/questions.md, as it was fixed there.

    MEDSSL_DATA=FOLDER python benchmarks/questions.py a|b|c|d|g OUT [--plan] [--methods METHOD ...] [--runs 3]
        [--steps N ...] [--draws N] [--tuned 150] [--data hippocampi hearts brains] [--size small|full]

(e) is benchmarks/channels_few_label.py, (f) benchmarks/points_compare.py. Numbers that are not given are those of the
page. Each step is kept and passed over the next time; --plan prints them. A number that differs from the page's, runs
and draws above all, belongs into what is reported.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from pooling_readers import pooled, score
from pooling_targets import cases_of
from questions_bench import CPU, DATA, Bench, dev_split
from questions_pools import mixed, together

import medssl
from medssl.encoders.contract import Encoder
from medssl.encoders.table import build_encoder
from medssl.engine.card import load_card, load_encoder
from medssl.evaluation.score_table import SCORES, ScoreTable
from medssl.evaluation.statistics.comparison import compare
from medssl.evaluation.statistics.crossed import crossed_interval, p_of
from medssl.evaluation.statistics.holm import holm
from medssl.evaluation.statistics.summary_file import comparisons_in, scores_in
from medssl.evaluation.statistics.wording import interval_text
from medssl.store.read import Store

METHODS = ("global_contrast", "voco", "spark_s3d", "masked", "simclr", "vicreg")
READ = ("volume, R2", "side, AUROC", "diagnosis, AUROC", "tumour in slab, AUROC")
WHERE = {"hippocampi": "hippocampus", "hearts": "acdc", "brains": "lgg"}  # in benchmarks/pooling_targets.py
RATES = (0.03, 0.1, 0.3, 1.0)
TUNED_ARMS = ("global_contrast", "local_contrast", "spark_s3d", "joined")
Values = tuple[float, Sequence[float]]


def frozen(bench: Bench, options: argparse.Namespace) -> str:
    """(a): every method's frozen features beside random encoders, on targets of whole scans and crops."""
    file, found = bench.out / "frozen.jsonl", dict[tuple[str, str, str], dict[int, Values]]()
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    for row in done:
        found.setdefault((row["target"], row["pool"], row["arm"]), {})[row["seed"]] = (row["score"], row["patients"])
    for name in options.data:
        store = bench.data(name)
        arms = {
            m: bench.runs(m, store, DATA[name], steps=options.steps[0], count=options.runs, name=f"{m}-after")
            for m in options.methods  # the runs of (b)
        }
        if bench.plan:
            continue
        groups = cases_of(WHERE[name], Store.open(store), 10_000)
        card = load_card(next(iter(arms.values()))[0])
        for arm, seed in ((arm, seed) for arm in ("random", *arms) for seed in range(options.runs)):
            network = _random(card.encoder, seed) if arm == "random" else load_encoder(arms[arm][seed])
            for cases in groups.values():
                wanted = [target for target in cases.truths if target in READ]
                if all(seed in found.get((target, "prenorm", arm), {}) for target in wanted):
                    continue
                for pool, vectors in pooled(network, cases.images, ("prenorm", "levels")).items():
                    for target in wanted:
                        values = score(target, vectors, cases.truths[target], cases.patients)
                        found.setdefault((target, pool, arm), {})[seed] = values
                        row = {"target": target, "pool": pool, "arm": arm, "seed": seed}
                        with file.open("a") as written:
                            text = {**row, "score": values[0], "patients": np.round(values[1], 5).tolist()}
                            written.write(json.dumps(text) + "\n")
    return frozen_table(found)


def _random(settings: Mapping[str, object], seed: int) -> Encoder:
    torch.manual_seed(seed)
    return build_encoder(dict(settings))


def frozen_table(found: Mapping[tuple[str, str, str], Mapping[int, Values]]) -> str:
    """Return each arm's score and its difference from random encoders; Holm's correction over what `prenorm` says."""
    rows, gaps = [], {}
    for (target, pool, arm), own in found.items():
        value, cells = float(np.mean([score for score, _ in own.values()])), ""
        if arm != "random":
            other = found[target, pool, "random"]
            grids = [np.array([[patients] for _, patients in each.values()]) for each in (own, other)]
            gap = crossed_interval(*grids, estimate=value - float(np.mean([score for score, _ in other.values()])))
            cells = f"{gap.estimate:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
            if pool == "prenorm":
                gaps[f"{target} {arm}"] = p_of(gap)
        rows.append((target, pool, arm, f"{len(own)}", f"{value:.3f}", cells))
    corrected = holm(gaps)
    lines = ["| read off | pool | arm | runs | score | minus random | p (Holm) |", "|---" * 7 + "|"]
    for target, pool, arm, runs, value, cells in sorted(rows):
        p = corrected.get(f"{target} {arm}") if pool == "prenorm" else None
        lines.append(f"| {target} | {pool} | {arm} | {runs} | {value} | {cells} | {'' if p is None else f'{p:.2g}'} |")
    return "\n".join(lines)


def dense(bench: Bench, options: argparse.Namespace) -> str:
    """(b): the dense probe of every method by training dose; a table a method and data set."""
    said = []
    for name in [name for name in options.data if name != "brains"]:
        store = bench.data(name)
        for method in options.methods:
            doses = [
                bench.runs(method, store, DATA[name], steps=steps, count=options.runs, name=f"{method}-after")
                for steps in options.steps
            ]
            runs = [run for dose in doses for run in dose]
            for windows in options.windows if name == "hippocampi" else ("whole",):
                settings = [f"dense_probe.windows={windows}", f"dense_probe.draws={options.draws or 5}"]
                settings += [f"dense_probe.sizes={options.sizes}", f"dense_probe.random={options.runs}"]
                out = bench.ask(f"b/{name}-{windows}-{method}", "dense-probe", store, runs, settings)
                if not bench.plan:
                    said.append(f"{name}, {windows} windows, {method}\n\n{dense_table(out / 'dense_probe.json')}")
    return "\n".join(said)


def dense_table(summary: Path) -> str:
    """Return the Dice of every arm by number of labelled patients, and both headlines with p by Holm."""
    content = json.loads(summary.read_text())
    scores = {(row.arm, row.labels): row for row in scores_in(content, summary) if not row.target}
    gaps = {
        (f"{row.arm} minus {row.baseline}", row.labels): row
        for row in comparisons_in(content, summary)
        if not row.target
    }
    sizes = sorted({n for _, n in scores if n is not None})
    lines = [f"| arm | {' | '.join(f'n = {n}' for n in sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    for arm in dict.fromkeys(arm for arm, _ in scores):
        lines.append(f"| {arm} | {' | '.join(interval_text(scores[arm, n].interval) for n in sizes)} |")
    for pair in dict.fromkeys(pair for pair, _ in gaps):
        cells = [gaps[pair, n] for n in sizes]
        told = [f"{interval_text(row.difference, signed=True)}, p {row.p_holm:.2g}" for row in cells]
        lines.append(f"| {pair} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def fine_tuned(bench: Bench, options: argparse.Namespace) -> str:
    """(c): hearts, fine-tuned at one and two labels, each arm at its own rate."""
    data, store = DATA["hearts"], bench.data("hearts")
    dev = bench.store("hearts-dev", data.spacing, partial(dev_split, bench.manifest("hearts")))
    arms = {arm: bench.runs(arm, store, data, steps=options.steps[-1], count=options.runs) for arm in options.arms}
    first, draws = [runs[0] for runs in arms.values()], ["few_label.sizes=[2]", "few_label.draws=2"]
    tables = {
        rate: bench.ask(f"c/tune-{rate:g}", "few-label", dev, first, [*_few(options, rate), *draws]) for rate in RATES
    }
    if bench.plan:
        return ""
    chosen = {arm: _best(tables, f"{arm}-") for arm in arms} | {"scratch": _best(tables, "scratch")}
    (bench.out / "rates.json").write_text(json.dumps(chosen))
    return _at_own_rates(bench, "c", store, arms, chosen, [*options.ns], options)


def _few(options: argparse.Namespace, rate: float) -> list[str]:
    recipe = [f"few_label.finetune.train.encoder_lr_scale={rate}", f"few_label.finetune.train.steps={options.tuned}"]
    recipe += [f"few_label.finetune.{word}" for word in CPU]
    z, y, x = DATA["hearts"].whole
    return ["few_label.recipe=segmentation_small", f"few_label.finetune.segmentation.window=[{z},{y},{x}]", *recipe]


def _best(tables: Mapping[float, Path], run: str) -> float:
    """Return the rate with the highest mean Dice of a run; of equals the larger."""
    mean = {rate: _rows(out, run)["value"].mean() for rate, out in tables.items()}
    return max(mean, key=lambda rate: (mean[rate], rate))


def _rows(out: Path, run: str) -> pl.DataFrame:
    frame = ScoreTable.read(out / SCORES).frame
    return frame.filter(pl.col("run").str.starts_with(run), pl.col("metric") == "dice")


def _at_own_rates(
    bench: Bench,
    letter: str,
    store: Path,
    arms: Mapping[str, Sequence[Path]],
    chosen: Mapping[str, float],
    sizes: Sequence[int],
    options: argparse.Namespace,
) -> str:
    """Fine-tune each arm at its rate, on draws that tuning did not use; return what it is beside scratch at its own."""
    settings = [f"few_label.sizes={list(sizes)}", f"few_label.draws={options.draws or 12}", "few_label.draw_seed=1"]
    tables = {}
    for rate in dict.fromkeys(chosen.values()):
        here = [arm for arm in arms if chosen[arm] == rate] or list(arms)[:1]  # scratch alone needs an arm beside it
        runs = [run for arm in here for run in arms[arm]]
        tables[rate] = bench.ask(f"{letter}/rate-{rate:g}", "few-label", store, runs, [*_few(options, rate), *settings])
    kept = [_rows(tables[chosen[arm]], "scratch" if arm == "scratch" else f"{arm}-") for arm in chosen]
    summary = json.loads((next(iter(tables.values())) / "few_label.json").read_text())
    overlap = {int(n): share for n, share in summary["overlap"].items()}
    rows = compare(ScoreTable(pl.concat(kept)), "scratch", metrics=["dice"], overlap=overlap)
    lines = [f"rates: {dict(chosen)}", "", "| arm | n | runs | minus scratch | p (Holm) | |", "|---" * 6 + "|"]
    for row in rows:
        gap = row.difference
        lines.append(
            f"| {row.arm} | {row.labels} | {options.runs} | {gap.estimate:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] | "
            f"{row.p_holm:.2g} | {row.verdict} |"
        )
    return "\n".join(lines)


def larger_pool(bench: Bench, options: argparse.Namespace) -> str:
    """(d): encoders of hearts, of hearts and brains, and of brains alone, fine-tuned on hearts at two labels."""
    data, store = DATA["hearts"], bench.data("hearts")
    files = {name: bench.manifest(name) for name in ("hearts", "brains")}
    pools = {"own": store}
    for pool, of in (("both", ("hearts", "brains")), ("other", ("brains",))):
        pools[pool] = bench.store(pool, data.spacing, partial(together, [files[name] for name in of]))
    arms = {
        pool: bench.runs("global_contrast", where, data, steps=options.steps[-1], count=options.runs, name=pool)
        for pool, where in pools.items()
    }
    rates = bench.out / "rates.json"
    if bench.plan:
        return ""
    if not rates.is_file():
        raise SystemExit(f"{rates} is not there: (d) takes the rates that (c) chose. Run c in the same folder first.")
    known = json.loads(rates.read_text())
    chosen = dict.fromkeys(arms, known["global_contrast"]) | {"scratch": known["scratch"]}
    return _at_own_rates(bench, "d", store, arms, chosen, [2], options)


def reduced(bench: Bench, options: argparse.Namespace) -> str:
    """(g): encoders of brains, of brains among copies, and of what reduction or chance leaves of those."""
    data, store = DATA["brains"], bench.data("brains")
    mixture, marked, drawn = (bench.out / f"{name}.parquet" for name in ("mixed", "reduced", "drawn"))
    with bench.step(marked, "mix copies among the brains, and reduce") as wanted:
        if wanted:
            medssl.index(mixed(bench.manifest("brains"), bench.out / "copies"), out=mixture)
            medssl.reduce(mixture, out=marked)
    pools = {
        "clean": store,
        "mixed": bench.store("mixed", data.spacing),
        "reduced": bench.store("reduced", data.spacing),
    }
    if not bench.plan and not drawn.is_file():
        every = pl.read_parquet(mixture)
        left = pl.read_parquet(marked).filter(pl.col("keep"), pl.col("split") == "train").height
        train = every.filter(pl.col("split") == "train").sample(left, seed=0)
        pl.concat([train, every.filter(pl.col("split") != "train")]).write_parquet(drawn)
    pools["drawn"] = bench.store("drawn", data.spacing)
    runs = [
        run
        for pool, where in pools.items()
        for run in bench.runs("global_contrast", where, data, steps=options.steps[0], count=options.runs, name=pool)
    ]
    settings = ["dense_probe.sizes=[4,8]", f"dense_probe.draws={options.draws or 5}"]
    out = bench.ask("g/tumour", "dense-probe", store, runs, [*settings, f"dense_probe.random={options.runs}"])
    if bench.plan:
        return ""
    summary = json.loads((out / "dense_probe.json").read_text())
    overlap = {int(n): share for n, share in summary["overlap"].items()}
    pairs = [("reduced", "mixed"), ("reduced", "drawn"), ("clean", "mixed")]
    named = [(f"{one}-{options.steps[0]}", f"{other}-{options.steps[0]}") for one, other in pairs]
    rows = compare(ScoreTable.read(out / SCORES), named, metrics=["dice"], overlap=overlap)
    gone = pl.read_parquet(marked).filter(~pl.col("keep"))
    made = gone.filter(pl.col("path").str.contains("/copies/")).height
    lines = [f"reduction left out {gone.height} files, {made} of them copies that were made"]
    return (
        "\n".join(lines)
        + "\n"
        + "\n".join(
            f"{row.arm} minus {row.baseline}, n = {row.labels}: {row.difference.estimate:+.3f} "
            f"[{row.difference.low:+.3f}, {row.difference.high:+.3f}], p {row.p_holm:.2g}"
            for row in rows
        )
    )


ASKED: dict[str, tuple[Callable[[Bench, argparse.Namespace], str], tuple[int, ...]]] = {
    "a": (frozen, (300,)),
    "b": (dense, (300, 1000)),
    "c": (fine_tuned, (1000,)),
    "d": (larger_pool, (1000,)),
    "g": (reduced, (300,)),
}


def main() -> None:
    """Answer one question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=list(ASKED))
    parser.add_argument("out", type=Path)
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--arms", nargs="+", default=TUNED_ARMS, help="of (c)")
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA), help="of (a) and (b)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="+", default=None)
    parser.add_argument("--draws", type=int, default=None)
    parser.add_argument("--sizes", default="[2,4,8]", help="of (b): labelled patients")
    parser.add_argument("--windows", nargs="+", default=["whole", "random"], help="of (b): of hippocampi")
    parser.add_argument("--ns", type=int, nargs="+", default=[1, 2], help="of (c): labelled patients")
    parser.add_argument("--tuned", type=int, default=150, help="steps of fine-tuning")
    parser.add_argument("--size", choices=("small", "full"), default="small")
    options = parser.parse_args()
    ask, steps = ASKED[options.question]
    options.steps = options.steps or steps
    options.out.mkdir(parents=True, exist_ok=True)
    if options.size == "small":
        torch.set_num_threads(1)
    text = ask(Bench(options.out, small=options.size == "small", plan=options.plan), options)
    if text:
        (options.out / f"{options.question}.md").write_text(text + "\n")
        print(text)


if __name__ == "__main__":
    main()
