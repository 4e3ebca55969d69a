"""Pretraining and fine-tuning: what was trained on what, how it went, and what its signals say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from medssl.reporting.blocks import Block, Charts, Details, Listing, Picture, Section, Table, Text
from medssl.reporting.charts import Series, line_chart
from medssl.reporting.embeddings import embedding_map
from medssl.reporting.material import Material, RunRecord
from medssl.reporting.pictures import picture_of_file
from medssl.reporting.privacy import Cleaner, short_name
from medssl.reporting.prose import SIGNALS, collapse_sentence, counted, counted_of, signal_of, stopping_sentence
from medssl.reporting.runs_beside import side_by_side

__all__ = ["citations_of", "finetuning_section", "pretraining_section"]

_FATES = {
    "matched": "carried over",
    "adapted": "carried over, input channels adapted",
    "missing": "not in the pretrained weights: drawn at random",
    "shape": "of another shape there: drawn at random",
    "unused": "only in the pretrained weights: not used",
}
_LONG = 20  # points of a curve from which its beginning can be spared
_TOLD = "A held-out signal of the pretext task is a hint; it does not measure how useful the encoder is for a task."


def pretraining_section(material: Material, *, clean: Cleaner) -> Section | None:
    """Return the section; None without pretraining runs and embeddings."""
    blocks: list[Block] = []
    blocks += side_by_side(material.pretrained, clean=clean)
    for run in material.pretrained:
        blocks += _pretrained(run, clean)
    for name, path in material.embeddings.items():
        blocks += embedding_map(name, path)
    return Section("pretraining", "Pretraining", blocks) if blocks else None


def finetuning_section(material: Material, *, clean: Cleaner) -> Section | None:
    """Return the section; None without fine-tuning runs."""
    blocks: list[Block] = []
    blocks += side_by_side(material.finetuned, clean=clean)
    for run in material.finetuned:
        blocks += _finetuned(run, clean)
    return Section("finetuning", "Fine-tuning", blocks) if blocks else None


def citations_of(run: RunRecord) -> list[str]:
    """Return the papers to cite: those on the card, else those of the method's and encoder's tables."""
    from medssl.encoders.table import ENCODERS
    from medssl.methods.table import METHODS

    if run.card.get("citation"):
        return list(dict.fromkeys(part for paper in run.card["citation"] if paper for part in str(paper).split("; ")))
    found = [METHODS.get(str(run.settings.get("method.name"))), ENCODERS.get(str(run.settings.get("encoder.name")))]
    return [row.paper for row in found if row is not None]


def _pretrained(run: RunRecord, clean: Cleaner) -> list[Block]:
    settings, data = run.settings, run.card.get("data", {})
    noun, seen_at_once = ("cloud", "clouds") if run.card.get("kind") == "cloud" else ("scan", "windows")
    seen = counted_of(int(data[f"{noun}s"]), noun, int(data["patients"])) if data else ""
    held = f"{counted(int(data.get('held_out') or 0), noun)}" if data else ""
    pairs = [
        ("method", str(settings.get("method.name", ""))),
        ("encoder", _encoder(run)),
        ("trained on", seen),
        ("held out", held),
        ("channels of a case", _inputs(run)),
        ("modality", str(run.card.get("modality") or "")),
        ("voxel size (z, y, x), mm", _times(run.card.get("spacing_mm"))),
        ("window, voxels", _times(run.card.get("window"))),
        ("points of a cloud", f"{run.card['points']:,}" if run.card.get("points") else ""),
        ("steps and batch", f"{int(settings['train.steps']):,} steps of {settings['train.batch_size']} {seen_at_once}"),
        ("to cite", "; ".join(citations_of(run))),
    ]
    blocks: list[Block] = [Text(run.name, "head"), *_state(run), Listing([(k, v) for k, v in pairs if v])]
    blocks += _pictures(run)
    blocks += _curves(run)
    blocks += _beside_no_training(run)
    said = [
        stopping_sentence(name, points, steps=int(settings["train.steps"])) for name, points in run.held_out.items()
    ]
    said = [text for text in said if text]
    if said:
        blocks += [Text("When to stop", "head"), *(Text(text) for text in said), Text(_TOLD, "soft")]
    elif run.rows and not run.held_out:
        none = f"No {noun} was held out, so nothing here says when to stop; give the manifest a split."
        blocks.append(Text(none, "soft"))
    collapse = collapse_sentence(_last_of(run), settings)
    if collapse:
        blocks.append(Text(collapse, "good" if collapse.startswith("No") else "bad"))
    return blocks


def _finetuned(run: RunRecord, clean: Cleaner) -> list[Block]:
    settings, data = run.settings, run.card.get("data", {})
    noun, seen_at_once = ("cloud", "clouds") if run.card.get("kind") == "cloud" else ("scan", "windows")
    scans = data.get(f"{noun}s") or []
    window = run.card.get("window") or settings.get("segmentation.window")
    start = f"the encoder of {short_name(run.start)}" if run.start else "scratch: random initialization"
    labelled = counted_of(len(scans), noun, int(data["patients"])) if data else ""
    if settings.get("data.labels"):
        labelled += f" (draw {settings.get('data.draw', 0)} of {settings['data.labels']} labelled)"
    pairs = [
        ("from", start),
        ("encoder", _encoder(run)),
        ("trained on", labelled),
        ("channels of a case", _inputs(run)),
        _distinguished(run),
        ("window, voxels", "" if noun == "cloud" else _times(window)),
        ("steps and batch", f"{int(settings['train.steps']):,} steps of {settings['train.batch_size']} {seen_at_once}"),
        ("to cite", "; ".join(citations_of(run))),
    ]
    blocks: list[Block] = [Text(run.name, "head"), *_state(run), Listing([(k, v) for k, v in pairs if v])]
    blocks += _curves(run)
    for name, points in run.held_out.items():
        text = stopping_sentence(name, points, steps=int(settings["train.steps"]))
        blocks += [Text(text)] if text else []
    dice = run.validation.get("dice") or {}
    if dice:
        rows = [(name, "absent" if value is None else f"{value:.3f}") for name, value in dice.items()]
        told = f"Dice on {counted(int(run.validation['scans']), 'held-out scan')}, on the store's grid"
        blocks.append(Table(("structure", "Dice"), rows, caption=told))
    for part, report in run.transfer.items():
        blocks += _carried(part, report, clean)
    return blocks


def _carried(part: str, report: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    """Return the carry-over report: how much matched, and the names of all that did not."""
    rows = report.get("rows", ())
    share = 100 * float(report.get("share", 0.0))
    told = f"Of the {part}'s weights {share:.1f} % were carried over from {clean.word(str(report.get('source', '')))}."
    counts = [(words, str(n)) for fate, words in _FATES.items() if (n := sum(r["status"] == fate for r in rows))]
    blocks: list[Block] = [
        Text(told, "" if share >= 90 or part != "encoder" else "doubt"),
        Table(("fate", "tensors"), counts),
    ]
    odd = [r for r in rows if r["status"] != "matched"]
    if odd:
        lines = [
            (str(r["name"]), _FATES.get(r["status"], r["status"]), _times(r["pretrained"]), _times(r["network"]))
            for r in odd
        ]
        listed = Table(("tensor", "fate", "shape there", "shape here"), lines)
        blocks.append(Details(f"{counted(len(odd), 'tensor')} of the {part} that did not simply match", (listed,)))
    return blocks


def _state(run: RunRecord) -> list[Block]:
    """Say where a run stands that has not ended, or was closed before its last step."""
    planned = int(run.settings["train.steps"])
    if run.card:
        done = int(run.card.get("steps") or planned)
        closed = f"This run was closed at step {done:,} of {planned:,}, before its learning rate had decayed."
        return [Text(closed, "doubt")] if done < planned else []
    done = int(run.rows[-1]["step"]) if run.rows else 0
    return [Text(f"This run has not ended: {done:,} of {planned:,} steps are done.", "doubt")]


def _pictures(run: RunRecord) -> list[Block]:
    """Return the views of the first batch and, of transformers of clouds, where the encoder looks."""
    cloud = run.card.get("kind") == "cloud"
    told = "What the network saw: views of the first batch" + ("." if cloud else ", the middle slice of each.")
    kinds = [("views.png", f"views of the first batch of {run.name}", told)]
    if cloud:
        looks = "Where the encoder looks: its last block's attention to each patch, on its points, from blue to pale."
        kinds.append(("attention.png", f"attention of {run.name} on clouds", looks))
    blocks: list[Block] = []
    for name, what, caption in kinds:
        if (run.folder / name).is_file():
            with suppress(OSError):
                picture = Picture(*picture_of_file(run.folder / name), what, caption)
                tall = name == "attention.png"  # a row a head
                blocks.append(Details("Where the encoder looks", (picture,)) if tall else picture)
    return blocks


def _settled(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Leave out the first tenth of a long curve, where a loss falls so far that nothing later could be seen."""
    return points if len(points) < _LONG else points[len(points) // 10 :]


def _curves(run: RunRecord) -> list[Block]:
    """Return loss, held-out signals, features and learning rate over the steps."""
    losses = [Series("loss", _settled(run.points("loss")))]
    parts = run.keys("part/")
    losses += [Series(_plain(key), _settled(run.points(key))) for key in parts if len(parts) > 1]
    title = "Training loss" + (" after its first fall" if len(losses[0].points) < len(run.points("loss")) else "")
    panels = [(title, line_chart(losses, what=f"training loss of {run.name}"))]
    held_out = run.held_out
    structures = [Series(_plain(n).removeprefix("dice "), p) for n, p in held_out.items() if n.startswith("dice_")]
    for name, points in held_out.items():
        if name in ("spread", "effective_rank") or name.startswith("dice_"):
            continue
        words = SIGNALS[name].words if name in SIGNALS else _plain(name)
        chance = run.points(f"chance/{name}")
        plain = run.points(f"handmade/{name}")
        lines = [Series(words, points), *([Series("chance", chance)] if chance else [])]
        lines += [Series("hand-made features", plain)] if plain else []
        panels.append((f"Held-out {words}", line_chart(lines, what=f"held-out {words} of {run.name}")))
    title = "Held-out Dice by structure"
    panels.append((title, line_chart(structures, what=f"{title} of {run.name}", zero=True)))
    for key in run.keys("signal/"):
        name = key.removeprefix("signal/")
        words = SIGNALS[name].words if name in SIGNALS else _plain(name)
        lines = [Series("training", run.points(key))]
        if name in ("spread", "effective_rank") and name in held_out:
            lines.append(Series("held out", held_out[name]))
        panels.append((words[:1].upper() + words[1:], line_chart(lines, what=f"{words} of {run.name}", zero=True)))
    rates = [Series(_plain(key), run.points(key)) for key in ("lr", "lr_encoder") if run.points(key)]
    panels.append(("Learning rate", line_chart(rates, what=f"learning rate of {run.name}", zero=True)))
    drawn = [(title, svg, "") for title, svg in panels if svg]
    return [Charts(drawn)] if drawn else [Text(_no_curve(run), "soft")]


def _no_curve(run: RunRecord) -> str:
    """Say why there is no curve: a line needs two places."""
    steps, every = int(run.settings["train.steps"]), run.settings.get("train.log_every")
    done = int(run.rows[-1]["step"]) if run.rows else 0
    if not run.rows:
        why = "nothing was reported yet" if not run.card else "metrics.jsonl is not there or empty"
    else:
        why = f"its {len(run.rows)} report{' is' if len(run.rows) == 1 else 's are'} of step {done:,} alone"
    if every is not None and 2 * int(every) > steps:
        why += f": it was to train for {counted(steps, 'step')}, and reports every {int(every):,} (train.log_every)"
        return f"No curve of {run.name}: {why}. A shorter run shows one with train.log_every={max(1, steps // 10)}."
    return f"No curve of {run.name}: {why}."


def _beside_no_training(run: RunRecord) -> list[Block]:
    """Return the held-out signals at the end beside those at step 0 and by chance; nothing where neither is known."""
    lines = []
    for name, points in run.held_out.items():
        first = f"{points[0][1]:.3g}" if points and points[0][0] == 0 else ""
        chance = run.points(f"chance/{name}")
        signal = signal_of(name)
        if not points or signal is None or signal.rising is None or not (first or chance):
            continue
        lines.append((signal.words, first, f"{points[-1][1]:.3g}", f"{chance[-1][1]:.3g}" if chance else ""))
    if not lines:
        return []
    heads = ("held-out signal", "step 0", f"step {run.rows[-1]['step']:,}", "chance")
    told = (
        "Step 0 is the network before training; chance is a guess, or the best answer that is the same for every item. "
        "What training gave is the difference from step 0."
    )
    return [Table(heads, lines, caption=told)]


def _last_of(run: RunRecord) -> dict[str, float]:
    """Return the last spread and effective rank, of the held-out scans where they were probed.

    The spread alone tells nothing where the method did not watch it: features that no objective compares may share a
    large constant and be distinguished all the same.
    """
    found = {}
    for name in ("spread", "effective_rank") if run.points("signal/spread") else ("effective_rank",):
        for key in (f"signal/{name}", f"held_out/{name}"):
            points = run.points(key)
            if points:
                found[name] = points[-1][1]
    entropy, used = run.points("signal/teacher_entropy"), run.points("signal/prototypes_used")
    if entropy and used:  # what a teacher over prototypes tells of an item; see `medssl.engine.guards`
        found["information"] = math.log(max(used[-1][1], 1.0)) - entropy[-1][1]
    return found


def _distinguished(run: RunRecord) -> tuple[str, str]:
    """Return what a fine-tuned network distinguishes: structures (no background), classes, or parts of clouds."""
    method = run.card.get("method", {})
    if run.card.get("kind") == "cloud":
        word = "parts" if "parts" in method else "classes"
        names = list(method.get(word, {}).values())
    elif isinstance(method.get("classes"), Mapping):
        word, names = "structures", [name for value, name in method["classes"].items() if int(value) > 0]
    elif method.get("classes"):
        word, names = "classes", list(method["classes"])
    else:
        word, names = "structures", list(method.get("structures") or run.settings.get("segmentation.structures") or ())
    return word, ", ".join(map(str, names))


def _encoder(run: RunRecord) -> str:
    channels = run.card.get("channels") or run.settings.get("encoder.channels") or ()
    name = str(run.settings.get("encoder.name", ""))
    return f"{name}, stages of {', '.join(map(str, channels))} features" if channels else name


def _inputs(run: RunRecord) -> str:
    """Return the names of the channels that a network takes; "" of a single one."""
    names = [str(given.get("name", "")) for given in run.card.get("inputs") or ()]
    return ", ".join(names) if len(names) > 1 else ""


def _times(values: Sequence[float] | None) -> str:
    return " x ".join(f"{v:.4g}" for v in values) if values else ""


def _plain(key: str) -> str:
    return key.removeprefix("part/").replace("_", " ")  # names of structures may hold a stroke themselves
