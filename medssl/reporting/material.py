"""What a report is made of: runs, stores, manifests, scores and vectors, as they were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medssl.errors import DataError
from medssl.evaluation.score_table import SCORES, ScoreTable
from medssl.nameless import Nameless, nameless_job

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest
    from medssl.store.read import Store
    from medssl.store.sources import CaseFiles

__all__ = ["Evaluation", "Material", "RunRecord", "of_encoders"]

_ORDER = ("segmentation", "classification", "parts")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run folder, as it was found.

    Attributes:
        name: Its folder's name.
        folder: Where it lies.
        verb: "finetune" or "pretrain".
        settings: Leaves of run.yaml by dotted key.
        origins: Where each of them came from.
        environment: environment.json, empty where there is none.
        card: card.json; empty where the run has not ended.
        rows: Rows of metrics.jsonl.
        transfer: transfer.json: what was carried over, by part.
        validation: validation.json: Dice on held-out scans.
    """

    name: str
    folder: Path
    verb: Literal["pretrain", "finetune"]
    settings: Mapping[str, Any]
    origins: Mapping[str, str]
    environment: Mapping[str, Any]
    card: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    transfer: Mapping[str, Any]
    validation: Mapping[str, Any]

    @property
    def start(self) -> str:
        """The pretraining run that its weights came from; "" from scratch."""
        scratch = bool(self.settings.get("transfer.from_scratch"))
        return "" if scratch else str(self.settings.get("transfer.run") or "")

    @property
    def held_out(self) -> dict[str, list[tuple[float, float]]]:
        """The curves of held-out signals by name."""
        return {key.removeprefix("held_out/"): self.points(key) for key in self.keys("held_out/")}

    def keys(self, prefix: str) -> list[str]:
        """Return what was measured under a prefix, in the order in which it came."""
        return list(dict.fromkeys(key for row in self.rows for key in row if key.startswith(prefix)))

    def points(self, key: str) -> list[tuple[float, float]]:
        """Return (step, value) of each row that holds a key."""
        return [(float(row["step"]), float(row[key])) for row in self.rows if row.get(key) is not None]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation left.

    Attributes:
        folder: Where its rows and its summary lie.
        content: The summary.
        over_labels: Whether arms are compared over numbers of labelled patients, or read off frozen encoders.
    """

    folder: Path
    content: dict[str, Any]
    over_labels: bool = False

    @property
    def kind(self) -> str:
        """The kind of its task; those over numbers of labels are of classes or not, and look alike otherwise."""
        kind = str(self.content.get("kind", ""))
        return "segmentation" if self.over_labels and kind != "classification" else kind

    @property
    def place(self) -> tuple[bool, int]:
        """Where it stands among others: comparisons over labels first."""
        return not self.over_labels, _ORDER.index(self.kind) if self.kind in _ORDER else len(_ORDER)


@dataclass(kw_only=True)
class Material:
    """Everything that was given or found beside it.

    Attributes:
        manifests: Manifests by file name.
        checks: Contents of NAME-check.json by file name.
        stores: Stores by folder.
        cloud_stores: clouds.json of each store of clouds, by folder.
        runs: Runs, in the order given.
        evaluated: Evaluations, in the order given.
        embeddings: Files of vectors, by the run or file that they belong to.
        notes: What could not be read, in sentences.
        followed: Folders of evaluations that were not given, but lie in a run that something given names.
    """

    manifests: dict[str, Manifest] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    stores: dict[Path, Store] = field(default_factory=dict)
    cloud_stores: dict[Path, dict[str, Any]] = field(default_factory=dict)
    runs: list[RunRecord] = field(default_factory=list)
    evaluated: list[Evaluation] = field(default_factory=list)
    embeddings: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    followed: set[Path] = field(default_factory=set)
    _files: dict[Path, dict[str, CaseFiles]] = field(default_factory=dict)

    def files_of(self, case: str) -> CaseFiles | None:
        """Return the files of a stored scan or case, by the store's manifest or one that was given."""
        for found in self.files().values():
            if case in found:
                return found[case]
        return None

    def files(self) -> dict[Path, dict[str, CaseFiles]]:
        """Return the files of the scans of each store by its folder."""
        from medssl.store.sources import files_of_store

        for folder in self.stores.keys() - self._files.keys():
            found = files_of_store(folder)
            for manifest in self.manifests.values():
                found = files_of_store(folder, manifest=manifest) | found
            self._files[folder] = found
        return self._files

    def nameless(self) -> list[Nameless]:
        """Return what takes the names of files and folders of the sources out of texts."""
        found = [manifest.nameless() for manifest in self.manifests.values()]
        for files in self.files().values():
            for case, own in files.items():
                paths = [*own.images.values(), own.label, *(path for some in own.series.values() for path in some)]
                found.append(nameless_job(case, [str(path) for path in paths if path]))
        return found

    def evaluations(self) -> list[tuple[Path, dict[str, Any]]]:
        """Return folder and summary of everything that was scored: what was given first, then what was found beside."""
        found = sorted(self.evaluated, key=lambda one: (one.folder in self.followed, *one.place))
        return [(one.folder, one.content) for one in found]

    def scored(self, *kinds: str) -> list[Evaluation]:
        """Return the evaluations of tasks of these kinds; of no kind, of those that have no section of their own."""
        wanted = [one for one in self.evaluated if not one.over_labels]
        return [one for one in wanted if (one.kind in kinds if kinds else one.kind not in _ORDER)]

    def over_labels(self, *, classes: bool) -> list[Evaluation]:
        """Return the comparisons over numbers of labels, of classes or of all else."""
        return [one for one in self.evaluated if one.over_labels and (one.kind == "classification") == classes]

    def drop_repeats(self) -> None:
        """Leave out evaluations of which another holds every row: nothing is told twice."""
        tables = [_rows_of(one.folder) for one in self.evaluated]

        def repeated(place: int) -> bool:
            own = tables[place]
            return own is not None and any(
                other is not None and own <= other and (own < other or before < place)
                for before, other in enumerate(tables)
                if before != place and self.evaluated[before].place == self.evaluated[place].place
            )

        self.evaluated = [one for place, one in enumerate(self.evaluated) if not repeated(place)]

    @property
    def pretrained(self) -> list[RunRecord]:
        """The pretraining runs."""
        return [run for run in self.runs if run.verb == "pretrain"]

    @property
    def finetuned(self) -> list[RunRecord]:
        """The fine-tuning runs."""
        return [run for run in self.runs if run.verb == "finetune"]

    def run_of(
        self, name: str, *, near: Path | None = None, verb: Literal["pretrain", "finetune"] | None = None
    ) -> RunRecord | None:
        """Return the run that an evaluation calls ``name``: the last parts of its path.

        Args:
            name: The run's name there.
            near: Where the scores lie: of several runs that are called so, the one that lies nearest.
            verb: Take runs of this verb alone; None takes all.
        """
        found = [run for run in self.runs if _ends_with(run.folder, name) and verb in (None, run.verb)]
        if len(found) > 1 and near is not None:
            found.sort(key=lambda run: -_shared_parts(run.folder, near))
        return found[0] if found else None

    def places(self) -> list[str]:
        """Return every place on this machine that a text may name."""
        found = [str(run.folder.resolve()) for run in self.runs]
        found += [str(folder.resolve()) for folder in (*self.stores, *self.cloud_stores)]
        for manifest in self.manifests.values():
            found.append(manifest.root)
            for row in manifest.rows():
                found += [p for p in (row["path"], row["label_path"], *(row["paths"] or ())) if p]
        for check in self.checks.values():
            found += [finding["path"] for finding in check.get("findings", ()) if finding.get("path")]
        found += [
            str(value)
            for run in self.runs
            for key, value in run.settings.items()
            if key in ("data.store", "transfer.run") and value
        ]
        return [place for place in found if place]


def of_encoders(content: Mapping[str, Any]) -> bool:
    """Return whether the arms of an evaluation are encoders, as in a protocol, rather than runs of fine-tuning."""
    return bool(content.get("protocol"))


def _rows_of(folder: Path) -> frozenset[tuple[Any, ...]] | None:
    """Return the rows of scores.parquet, None where there is none that can be read."""
    try:
        return frozenset(ScoreTable.read(folder / SCORES).frame.rows())
    except DataError:
        return None


def _shared_parts(one: Path, other: Path) -> int:
    """Return how many folders two paths begin with alike."""
    pairs = zip(one.resolve().parts, other.resolve().parts, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _ends_with(folder: Path, name: str) -> bool:
    parts = tuple(name.split("/"))
    return folder.resolve().parts[-len(parts) :] == parts
