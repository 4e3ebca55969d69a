"""Which scans of a store a fine-tuning run trains on, watches and predicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field

from medssl.errors import DataError
from medssl.evaluation.draws import stratified_patients
from medssl.normalising import FOLLOW, Normalise
from medssl.settings import Settings
from medssl.store.read import Store
from pointcloud.store import CloudStore

__all__ = ["LabelledScans", "LabelledSettings", "choose_scans", "has_label_map"]


S = TypeVar("S", Store, CloudStore)


class LabelledSettings(Settings):
    """Which scans or clouds of the store are used, and for what."""

    store: str = Field(default="", description="The folder that `medssl cache` wrote.")
    splits: tuple[str, ...] = Field(
        default=("train", ""), description="Splits that are trained on; '' is unassigned scans."
    )
    ids: tuple[str, ...] | None = Field(
        default=None, description="Scans to train on, whatever their split; None takes the splits."
    )
    normalise: Normalise = Field(default="follow", description=FOLLOW)
    labels: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Patients whose labels are used, drawn from those splits; None uses all."
    )
    draw: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Which draw of patients; within one, fewer are part of more."
    )
    draw_seed: int = Field(default=0, description="Seed of the draws.")
    drop_channels: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        default=0.0,
        description="Probability with which a channel of a window is left out (set to 0) while training, each by "
        "itself, one always staying: the network then bears cases that lack channels. For stores of several.",
    )
    held_out_split: str = Field(default="val", description="Split whose labelled scans are only scored.")
    held_out_scans: Annotated[int, Field(ge=0)] = Field(
        default=8, description="Most scans that are scored meanwhile; a classifier takes all of them, or none with 0."
    )
    predict: tuple[str, ...] = Field(
        default=("test",), description="Splits, or ids, to predict (label maps, or classes); [] predicts none."
    )


@dataclass(frozen=True)
class LabelledScans(Generic[S]):
    """The scans or clouds of a run by use; no patient that is trained on is held out or predicted, other than by wish.

    Attributes:
        train: Labelled scans that are trained on.
        held_out: Labelled scans that are only scored; None where there are none.
        predict: Scans to write label maps of, labelled or not; None where there are none.
        left_out: Scans of the training splits without labels.
    """

    train: S
    held_out: S | None
    predict: S | None
    left_out: int


def has_label_map(entry: Any) -> str | None:
    """Return "labelled" where a scan has a label map: what a segmenter asks of it."""
    return None if entry.label_file is None else "labelled"


def choose_scans(
    store: S,
    settings: LabelledSettings,
    *,
    class_of: Callable[[Any], str | None] = has_label_map,
    wanted: str = "labels",
    every_held_out: bool = False,
) -> LabelledScans[S]:
    """Return the scans of a run.

    Args:
        store: All scans.
        settings: Splits or ids, and how many patients' labels.
        class_of: The class of a scan, None where it has none. Draws of a few patients hold every class.
        wanted: What a scan without a class lacks.
        every_held_out: Whether all held-out scans are taken, unless ``held_out_scans`` is 0.

    Raises:
        DataError: If no labelled scan is left to train on, an id is unknown, or more patients are asked for than are.
    """
    if settings.ids is not None:
        candidates = list(store.subset(settings.ids).entries)
    else:
        candidates = [e for e in store.entries if e.split in settings.splits]
    train = [e for e in candidates if class_of(e) is not None]
    if not train:
        counts = dict(Counter(e.split or "unassigned" for e in store.entries if class_of(e) is not None))
        noun = "cloud" if isinstance(store, CloudStore) else "scan"
        raise DataError(
            f"{store.folder}: no labelled {noun} is in the splits {list(settings.splits)} (data.splits). Labelled "
            f"{noun}s of the store by split: {counts or 'none'}. Name other splits, or index the {noun}s with their "
            f"{wanted}."
        )
    if settings.labels is not None:
        classes = {_patient(e): class_of(e) or "" for e in reversed(train)}
        chosen = set(stratified_patients(classes, settings.labels, draw=settings.draw, seed=settings.draw_seed))
        train = [e for e in train if _patient(e) in chosen]
    trained_on = {_patient(e) for e in train}
    held_out = [
        e
        for e in store.entries
        if e.split == settings.held_out_split and class_of(e) is not None and _patient(e) not in trained_on
    ]
    if not every_held_out or not settings.held_out_scans:
        held_out = held_out[: settings.held_out_scans]
    predict = [e for e in store.entries if e.split in settings.predict or e.id in settings.predict]
    return LabelledScans(
        train=store.subset([e.id for e in train]),
        held_out=store.subset([e.id for e in held_out]) if held_out else None,
        predict=store.subset([e.id for e in predict]) if predict else None,
        left_out=sum(class_of(e) is None for e in candidates),
    )


def _patient(entry: Any) -> str:
    return str(entry.patient or entry.id)
