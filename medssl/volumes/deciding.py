"""``medssl auto`` on scans: what is decided from their grids; label maps, or classes of patients, are learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.command import Command
from medssl.domains.deciding import Deciding, Decision, Recipe, key_of, word
from medssl.domains.splitting import settle_split
from medssl.manifest.channel_cases import cases_of
from medssl.manifest.label_doubts import unusable_labels
from medssl.manifest.targets import targets_of
from medssl.regions import regions_json
from medssl.store.options import StoreSettings
from medssl.store.plan_cases import cases_asked
from medssl.volumes.recipe import Grid, decide_recipe, decide_spacing, describe_modalities, grid_of
from medssl.volumes.target import Target, decide_target, seen_classes

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest
    from medssl.store.read import Store

__all__ = ["ScanDeciding"]


class ScanDeciding(Deciding):
    """What is decided on scans: windows of a grid, and a segmenter or classifier against scratch."""

    foreign = ("unit", "rotate")
    unlabelled = (
        "No scan to train on has labels, so the chain ends with the encoder. To continue, put label maps beside a few "
        "scans (NAME_seg.nii.gz beside NAME.nii.gz, or labelsTr/NAME beside imagesTr/NAME), or name a table of classes "
        "by patient (targets=FILE.csv), and run the same command: what is done is kept."
    )

    @property
    def task(self) -> str:
        """Classes of a target, or label maps."""
        return "classification" if self._target else "segmentation"

    def settle(self, manifest: Manifest) -> Manifest:
        """Return the manifest with the split that is used; add what it means to the decisions."""
        settings = self.settings
        volumes = [row for row in manifest.rows() if row["error"] is None and row["kind"] == "volume"]
        counts: dict[str, int] = {}
        for row in volumes:
            name = "CT" if row["units"] == "HU" else row["modality"]
            counts[name] = counts.get(name, 0) + 1
        self.decisions += describe_modalities(counts)
        self._unusable = unusable_labels(volumes, manifest.classes, settings.accept)
        cases = cases_asked(manifest.kept(), StoreSettings(missing=settings.missing))
        stored = {case.row["id"] for case in cases.cases}
        self._unstored = {row["id"] for row in volumes if cases.channels and row["case"] not in stored}
        self._target, task = decide_target(volumes, settings.target)
        settled, decision = settle_split(
            manifest, val=settings.val, test=settings.test, seed=settings.seed, class_of=self._class_of
        )
        self.decisions += [decision, *([task] if task else [])]
        used = len(
            {row["patient"] for row in settled.usable().rows() if self._class_of(row) and row["split"] == "train"}
        )
        if used:
            asked = settings.labels is not None and settings.labels < used
            few = f"{settings.labels} of {used} patients" if asked else f"all {used} patients"
            why = f"as set, draw {settings.draw}" if asked else "every label helps; labels=N takes fewer"
            self.decisions.append(Decision("labels to fine-tune on", few, why))
        return settled

    def _class_of(self, row: Mapping[str, Any]) -> str:
        """Return the class of a row of the manifest that is learned, "" for none; label maps are all of one."""
        if row["id"] in self._unstored:
            return ""
        return targets_of(row).get(self._target, "") if self._target else self._map_of(row)

    def _map_of(self, row: Mapping[str, Any]) -> str:
        """Return "label map" where a scan has one that the store will take."""
        return "label map" if row["label_path"] and row["id"] not in self._unusable else ""

    def cache_words(self, manifest: Manifest) -> list[str]:
        """Decide the voxel size; say what becomes of channels."""
        order, groups = cases_of(manifest.rows(), manifest.settings.get("channels", ()))
        if groups:
            chosen = f"{len(groups)} cases of {len(order)} ({', '.join(order)})"
            why = "scans of one patient and visit are one input; channels=none takes every scan by itself"
            self.decisions.append(Decision("channels", chosen, why))
        self._spacing, decision = decide_spacing(_grids(manifest), self.settings, small=self.small)
        self.decisions.append(decision)
        accept = f"accept=[{','.join(self.settings.accept)}]"
        missing = [f"missing={self.settings.missing}"] if self.settings.missing != "leave-out" else []
        return [f"spacing_mm={word(self._spacing)}", *([accept] if self.settings.accept else []), *missing]

    def recipe_before(self, manifest: Manifest) -> Recipe:
        """Take whole scans for bodies: those are known once they are stored."""
        grids = _grids(manifest)
        patients = len({row["patient"] for row in manifest.usable().rows() if row["split"] in ("train", "")})
        bodies = [_resized(grid, self._spacing, grids) for grid in grids]
        pairs = [(row["split"], targets_of(row).get(self._target, "")) for row in manifest.usable().rows()]
        return decide_recipe(bodies, self.settings, self.machine, patients=patients, target=self._seen(pairs))

    def recipe(self, store: Store) -> Recipe:
        """Return the recipe that the stored bodies ask for."""
        bodies = []
        for entry in store.entries:
            low, high = entry.body_box
            z, y, x = (b - a for a, b in zip(low, high, strict=True))
            bodies.append(Grid((z, y, x), entry.spacing_mm))
        patients = len({entry.patient or entry.id for entry in store.entries if entry.split in ("train", "")})
        pairs = [(entry.split, entry.target(self._target) or "") for entry in store.entries]
        return decide_recipe(bodies, self.settings, self.machine, patients=patients, target=self._seen(pairs))

    def _seen(self, pairs: Sequence[tuple[str, str]]) -> Target | None:
        """Return what classifier is learned, from the split and class of every scan."""
        return seen_classes([pair for pair in pairs if pair[1]], self._target) if self._target else None

    def has_label(self, entry: Any) -> bool:
        """Return whether a scan has a label map, or the class that is learned."""
        return bool(entry.target(self._target) if self._target else entry.label_file)

    def store_key(self, store: Store, *, labels: bool) -> str:
        """Return a name of the scans, the grid, and what is labelled."""
        names = ("id", "file", "split", "patient", *(("label_file", "targets") if labels else ()))
        rows = [[getattr(entry, name) for name in names] for entry in store.entries]
        more = [regions_json(store.regions)] if labels and store.regions else []
        return key_of(rows, store.settings, store.classes if labels else None, *more)

    def following(self, tuned: Path, encoder: Path, store: Path) -> Command:
        """Export the segmenter, where that is not done; of a classifier the encoder can be looked at."""
        if self._target:
            return Command(*super().following(tuned, encoder, store), f"probe.scans.target={self._target}")
        if "onnx" in self.settings.export:
            return Command()
        return Command("export", tuned, "--to", "onnx", "--out", store.parent / "segmenter.onnx")


def _grids(manifest: Manifest) -> list[Grid]:
    """Return the grid of every scan or case; a case has that of its first channel."""
    order, groups = cases_of(manifest.usable().rows(), manifest.settings.get("channels", ()))
    first = {next(group.rows[name][0]["id"] for name in order if name in group.rows) for group in groups}
    rows = (row for row in manifest.usable().rows() if not row["case"] or row["id"] in first)
    return [grid for row in rows if (grid := grid_of(row)) is not None]


def _resized(grid: Grid, spacing: Any, grids: Sequence[Grid]) -> Grid:
    """Return a scan's grid at the store's voxel size."""
    if spacing == "keep":
        return grid
    if spacing == "median":
        ordered = [sorted(g.spacing_mm[axis] for g in grids)[len(grids) // 2] for axis in range(3)]
        spacing = ordered
    z, y, x = (max(1, round(n * own / new)) for n, own, new in zip(grid.shape, grid.spacing_mm, spacing, strict=True))
    return Grid((z, y, x), (spacing[0], spacing[1], spacing[2]))
