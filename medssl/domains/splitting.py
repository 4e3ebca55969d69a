"""A split that can be judged: labelled patients on both sides, and no unlabelled scan where only labels count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from medssl.domains.deciding import Decision
from medssl.domains.domain import domains
from medssl.manifest.split import split_patients
from medssl.randomness import numpy_generator

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest

__all__ = ["settle_split"]


def settle_split(
    manifest: Manifest,
    *,
    val: float,
    test: float,
    seed: int,
    kind: str = "volume",
    class_of: Callable[[Mapping[str, Any]], str] = lambda row: "any" if row["label_path"] else "",
) -> tuple[Manifest, Decision]:
    """Return the manifest with a split that a comparison can be made on.

    The index splits all patients alike. Where few are labelled, its test set may hold none of them; and an unlabelled
    test scan tells nothing, while pretraining can learn from it. A labelled test patient stays one. An unlabelled scan
    moves to training only where no patient of it has labels or shares voxels with a test scan.

    Args:
        manifest: As the index left it.
        val: Share of labelled patients for validation.
        test: Share of labelled patients for testing.
        seed: Seed of the split.
        kind: Rows of which kind count.
        class_of: The class of a row that fine-tuning learns, "" for none. Where a class of two or more patients lies on
            one side alone, one of its patients changes sides.
    """
    import polars as pl

    domain = next(one for one in domains() if one.kind == kind)
    rows = [row for row in manifest.rows() if row["error"] is None and row["kind"] == kind]
    classes: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        if name := class_of(row):
            classes[name].add(row["patient"])
    labelled = set().union(*classes.values())
    current = {row["patient"]: row["split"] for row in rows}
    chosen = {patient: current[patient] for patient in labelled}
    counts = _counts(chosen)
    wanted = max(1, int(len(labelled) * test + 0.5)) if test > 0 and len(labelled) > 1 else 0
    if counts.get("test", 0) < wanted or (labelled and not counts.get("train")):
        # At least one of two patients is trained on, and one tested; small shares round to whole patients.
        share = max(test, 1 / len(labelled)) if wanted else 0.0
        held = val if len(labelled) * (1 - share - val) >= 1 else 0.0
        fixed = {patient: "test" for patient, split in chosen.items() if split == "test"}
        if len(fixed) == len(labelled):
            fixed = {}  # the folders call all of them test patients, and one has to be trained on
        chosen = split_patients(labelled, val=held, test=min(share, 0.5), seed=seed, fixed=fixed)
    if wanted:
        _on_both_sides(chosen, classes, seed)
    watched = {row["content_hash"] for row in rows if chosen.get(row["patient"]) in ("test", "val")} - {None}
    kept = {row["patient"] for row in rows if row["content_hash"] in watched}
    for patient in current:
        if patient not in labelled:
            chosen[patient] = "train" if labelled and patient not in kept else current[patient] or "train"
    if not labelled:  # nothing can be scored, so nothing is kept back but what pretraining is probed on
        chosen = {patient: "val" if split == "val" else "train" for patient, split in chosen.items()}
    frame = manifest.frame.with_columns(
        split=pl.when(pl.col("error").is_null() & pl.col("patient").is_in(list(chosen)))
        .then(pl.col("patient").replace_strict(chosen, default="", return_dtype=pl.String))
        .otherwise(pl.col("split"))
    )
    return manifest.with_frame(frame), _decision(chosen, labelled, domain.owner, domain.noun)


def _on_both_sides(chosen: dict[str, str], classes: Mapping[str, set[str]], seed: int) -> None:
    """Move a patient of each class that is only trained on, or only tested, to the other side, in place."""
    for name in sorted(classes):
        for lacking, other in (("test", "train"), ("train", "test")):
            there = sorted(patient for patient in classes[name] if chosen[patient] == other)
            if len(there) > 1 and not any(chosen[patient] == lacking for patient in classes[name]):
                chosen[there[int(numpy_generator(seed, len(there)).integers(len(there)))]] = lacking


def _counts(chosen: Mapping[str, str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for split in chosen.values():
        counts[split] = counts.get(split, 0) + 1
    return counts


def _decision(chosen: Mapping[str, str], labelled: set[str], owner: str, thing: str) -> Decision:
    counts: dict[str, Any] = _counts({patient: split for patient, split in chosen.items() if patient in labelled})
    extra = len(chosen) - len(labelled)
    if not labelled:
        return Decision(
            "split", f"{len(chosen)} {owner}s to pretrain on", f"no {thing} has labels, so none can be scored"
        )
    text = ", ".join(f"{name} {counts[name]}" for name in ("train", "val", "test") if counts.get(name))
    text += f"; {extra} more without labels to pretrain on" if extra else ""
    return Decision("split", text, f"by {owner}; labelled {owner}s on both sides, so that the result can be scored")
