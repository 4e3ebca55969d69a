"""Which input a run takes of its store: as its settings say, as the run it starts from, or as the store says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from medssl.engine.card import CardInput, load_card
from medssl.engine.checkpoint import checkpoints_of
from medssl.engine.run import Run, recorded_settings
from medssl.errors import CheckpointError
from medssl.methods.contract import Method
from medssl.normalising import SCHEMES, Normalise, Scheme
from medssl.settings import load_yaml
from medssl.store.entry import Entry
from medssl.store.normalised import channels_of, fitted, normalised, normalised_as
from medssl.store.read import Store

__all__ = ["as_input_of", "input_words", "record_input", "show_by"]

_FILE = "input.json"
_BLACK_WHITE = (-2.0, 3.0)  # deviations from the mean


def as_input_of(
    store: Store, train: Sequence[str], asked: Normalise, *, start: str | Path | None, resumed: Path | None
) -> Store:
    """Return the scans as a run's input.

    Args:
        store: All its scans.
        train: Ids of the scans that are trained on; numbers are fitted to them.
        asked: The setting.
        start: The run whose weights it starts from, or whose recipe it repeats; where the setting is to follow, scans
            are made input as there, the HU of 0 and 1 included.
        resumed: The run's own folder where it is resumed: its input stays what it was.
    """
    if resumed and (known := recorded_input(resumed, len(store.channels))):
        return normalised_as(store, known)
    if asked == "follow" and start:
        return normalised_as(store, load_card(Path(start)).inputs_known)
    said = store.settings.get("normalise", "unit") if asked == "follow" else asked
    scheme: Scheme = next((known for known in SCHEMES if known == said), "unit")
    return normalised(store, fitted(scheme, store.subset(train)))


def recorded_input(out: Path, channels: int) -> list[CardInput] | None:
    """Return the input that a run which is resumed was started with; runs of earlier releases had ``unit``.

    None for a run that stopped before it wrote of its input: it has trained on none yet.

    Raises:
        CheckpointError: The file of it is damaged, or it is gone and the run was told to have another than ``unit``.
    """
    path = out / _FILE
    if not path.is_file():
        if not checkpoints_of(Run(out, writes=False).checkpoints):
            return None
        asked = (load_yaml(recorded_settings(out)).get("data") or {}).get("normalise", "unit")
        if asked not in ("unit", "follow"):
            raise CheckpointError(
                f"{path} is missing, and the run was started with data.normalise={asked}: the numbers of its input are "
                f"in it. Put the file back, or start again without --resume."
            )
        return [CardInput(name=f"channel {number}") for number in range(channels)]  # a scale of none: the store's
    try:
        return [CardInput.model_validate(one) for one in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: the input of the run cannot be read ({error}).") from error


def record_input(run: Run, entries: Sequence[Entry]) -> None:
    """Write into a run's folder what its input is: resumed, it stays the same. Not where nothing of it can change."""
    channels = channels_of(entries)
    seen = [
        next((one for one in same if one.present), same[0])
        for same in zip(*(entry.channels for entry in entries), strict=True)
    ]
    if any(own.present and own.hounsfield for own in seen) or any(scheme != "unit" for scheme, _ in channels):
        rows = [
            CardInput(name=own.name, modality=own.modality, scale=own.scale, normalise=scheme, numbers=numbers)
            for own, (scheme, numbers) in zip(seen, channels, strict=True)
        ]
        run.write_text(_FILE, json.dumps([row.model_dump(mode="json") for row in rows], indent=1) + "\n")


def show_by(method: Method, store: Store) -> None:
    """Let a method's pictures span the values that its input has."""
    if any(scheme != "unit" for entry in store.entries[:1] for scheme in entry.schemes):
        for module in method.modules():
            if isinstance(module, Method):
                module.black_white = _BLACK_WHITE


def input_words(entries: Sequence[Entry]) -> str:
    """Return how the input is normalised, for a line about the data; "" for ``unit``."""
    schemes = dict.fromkeys(scheme for entry in entries[:1] for scheme in entry.schemes)
    return "" if set(schemes) <= {"unit"} else f"; input: {', '.join(schemes)}"
