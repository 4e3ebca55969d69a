"""``medssl auto`` on point clouds: classes of clouds or of points, against scratch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medssl.domains.deciding import Deciding, Recipe, key_of
from medssl.domains.splitting import settle_split
from medssl.manifest.targets import targets_of
from medssl.manifest.unlabelled import classes_of_points, unlabelled_numbers
from pointcloud.recipe import CloudFacts, decide_cloud_recipe
from pointcloud.storing import class_target

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest
    from pointcloud.store import CloudStore

__all__ = ["CloudDeciding"]


class CloudDeciding(Deciding):
    """What is decided on clouds: points in the unit sphere; a classifier, or a segmenter of parts, against scratch."""

    foreign = ("accept", "channels", "missing", "spacing_mm", "window", "modality", "target")
    unlabelled = (
        "No two classes are known among the clouds to train on, so the chain ends with the encoder. To continue, put "
        "the clouds into a folder for each class (CLASS/NAME.ply), or give their points classes. Then run the same "
        "command again: finished steps are kept."
    )

    @property
    def task(self) -> str:
        """Classes of clouds, or of their points."""
        return "classification" if self._whole else "segmentation"

    def settle(self, manifest: Manifest) -> Manifest:
        """Return the manifest with objects that have classes on both sides of the split."""
        rows = [row for row in manifest.rows() if row["error"] is None and row["kind"] == "cloud"]
        self._target = class_target(rows)  # as `cache` will take it
        self._whole = len({self._class_of(row) for row in rows} - {""}) > 1  # classes of clouds, not of their points
        unlabelled = unlabelled_numbers(rows)
        settled, decision = settle_split(
            manifest,
            val=self.settings.val,
            test=self.settings.test,
            seed=self.settings.seed,
            kind="cloud",
            class_of=lambda row: self._class_of(row) if self._whole else "parts" if _has_parts(row, unlabelled) else "",
        )
        self.decisions.append(decision)
        return settled

    def _class_of(self, row: Mapping[str, Any]) -> str:
        """Return the class of a cloud, "" for none."""
        return targets_of(row).get(self._target, "")

    def recipe_before(self, manifest: Manifest) -> Recipe:
        """Return the recipe as the manifest alone gives it."""
        rows = [row for row in manifest.usable().rows() if row["kind"] == "cloud"]
        train = [row for row in rows if row["split"] in ("train", "")]
        names = sorted({self._class_of(row) for row in rows} - {""})
        facts = CloudFacts(
            train=len(train),
            units=[row["length_unit"] or "unknown" for row in train],
            classes={name: sum(self._class_of(row) == name for row in train) for name in names},
            parts=sum(_has_parts(row, unlabelled_numbers(rows)) for row in train),
        )
        return decide_cloud_recipe(facts, self.settings, self.machine)

    def recipe(self, store: CloudStore) -> Recipe:
        """Return the recipe that the stored clouds ask for."""
        train = [entry for entry in store.entries if entry.split in ("train", "")]
        there = sorted({entry.label for entry in store.entries if entry.label is not None})
        facts = CloudFacts(
            train=len(train),
            units=[entry.unit for entry in train],
            classes={store.classes.get(n, str(n)): sum(entry.label == n for entry in train) for n in there},
            parts=sum(entry.label_file is not None for entry in train),
        )
        return decide_cloud_recipe(facts, self.settings, self.machine)

    def has_label(self, entry: Any) -> bool:
        """Return whether a cloud has a class, or where the points are what is distinguished, they have."""
        return entry.label is not None if self._whole else entry.label_file is not None

    def store_key(self, store: CloudStore, *, labels: bool) -> str:
        """Return a name of the clouds and of what is known of them."""
        names = ("id", "key", "split", "patient", *(("label", "label_file") if labels else ()))
        rows = [[getattr(entry, name) for name in names] for entry in store.entries]
        return key_of(rows, store.settings, store.classes if labels else None)


def _has_parts(row: Mapping[str, Any], unlabelled: frozenset[int] = frozenset()) -> bool:
    return len(classes_of_points(row, unlabelled)) > 1
