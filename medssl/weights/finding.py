"""A published file as it was found, and what it is to become here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from medssl.engine.card import CardInput
from medssl.errors import ConfigError, FormatError
from medssl.weights.containers import Container, read_container, read_json
from medssl.weights.renaming import Rule

__all__ = ["Found", "Segmenter", "Wanted", "found_at", "found_in"]

Triple = tuple[int, int, int]
_BESIDE = ("plans.json", "dataset.json", "adaptation_plan.json", "config.json")
_WEIGHTS = ("checkpoint_final.pth", "checkpoint_best.pth", "model.safetensors", "pytorch_model.bin")
_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Found:
    """A file, and what lies beside it.

    Attributes:
        container: The file's content.
        beside: JSON files beside it, by name.
        shown: How messages name the file.
    """

    container: Container
    beside: Mapping[str, Mapping[str, Any]]
    shown: str

    def state(self, *tops: str) -> tuple[str, dict[str, Tensor], tuple[str, ...]]:
        """Return the tensors of the first of these places that holds some, without prefixes that all of them share.

        Returns:
            The place, the tensors, and which prefixes were taken off.
        """
        place = next((top for top in tops if top in self.container.states), None)
        if place is None:
            return "", {}, ()
        tensors = dict(self.container.states[place])
        stripped = []
        while prefix := next((p for p in _PREFIXES if tensors and all(k.startswith(p) for k in tensors)), ""):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
            stripped.append(prefix)
        return place, tensors, tuple(stripped)

    def other_places(self, place: str) -> dict[str, int]:
        """Return how many tensors lie elsewhere in the file."""
        return {at: len(tensors) for at, tensors in self.container.states.items() if at != place}


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """A decoder that comes along.

    Attributes:
        convs: Convolutions of each of its stages.
        classes: Number -> name of what its head draws; None leaves the head out.
        window: Of training, (z, y, x).
    """

    convs: int
    classes: Mapping[int, str] | None
    window: Triple


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a file is to become.

    Attributes:
        encoder: Settings of the encoder, with its name.
        place: Where in the file its tensors are.
        state: The tensors by the names that the rules know.
        rules: What becomes of them; names here begin with "encoder." or "decoder.".
        part_of: Part of a name here.
        inputs: What the card says of each channel.
        spacing_mm: (z, y, x); None where the network was trained at many.
        window: What it saw at once, (z, y, x).
        evidence: Why it was taken for this, a line each.
        guesses: What nobody says and was taken to be so, a line each.
        may_be_fresh: Parts that such files need not hold.
        decoder: The decoder that comes along.
        sure: Whether the evidence tells it from all other rows.
        kind: "volume" or "cloud".
        facts: More for the card's origin.
    """

    encoder: Mapping[str, Any]
    place: str
    state: Mapping[str, Tensor]
    rules: Sequence[Rule]
    part_of: Callable[[str], str]
    inputs: tuple[CardInput, ...] = ()
    spacing_mm: tuple[float, float, float] | None = None
    window: Triple | None = None
    evidence: tuple[str, ...] = ()
    guesses: tuple[str, ...] = ()
    may_be_fresh: tuple[str, ...] = ()
    decoder: Segmenter | None = None
    sure: bool = True
    kind: str = "volume"
    facts: Mapping[str, Any] = field(default_factory=dict)


def found_at(path: Path) -> Found:
    """Read a file of weights, or the one file of weights in a folder, with the JSON files beside it.

    Raises:
        ConfigError: The folder holds none, or several.
        FormatError: It cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise FormatError(path, "there is no such file or folder")
    file = _weights_in(path) if path.is_dir() else path
    beside = {}
    for folder in (file.parent.parent, file.parent):
        for name in _BESIDE:
            if (folder / name).is_file():
                beside[name] = read_json(folder / name)
    return Found(read_container(file), beside, str(file))


def found_in(place: str, stripped: Sequence[str]) -> str:
    """Return where in a file the tensors lie, and which prefixes were taken off, as a line of evidence."""
    return f"tensors in '{place or 'the outermost mapping'}'" + "".join(f", without '{one}'" for one in stripped)


def _weights_in(folder: Path) -> Path:
    places = [folder, *sorted(f for f in folder.iterdir() if f.is_dir() and f.name.startswith("fold_"))]
    for name in _WEIGHTS:
        files = [place / name for place in places if (place / name).is_file()]
        if len(files) == 1:
            return files[0]
        if files:
            listed = ", ".join(str(file.relative_to(folder)) for file in files)
            raise ConfigError(f"{folder}: holds several networks ({listed}). Name one of these files.")
    suffixes = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix in suffixes)
    if len(files) == 1:
        return files[0]
    listed = (
        f"holds several files of weights ({', '.join(f.name for f in files[:10])})" if files else "holds no weights"
    )
    raise ConfigError(f"{folder}: {listed}. Name one file: {', '.join(suffixes)}.")
