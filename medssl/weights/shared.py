"""A folder that ``medssl export --to hub`` or ``--to safetensors`` wrote, as a run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, fill_encoder, load_card, load_weights
from medssl.engine.checkpoint import save_tensors
from medssl.errors import CheckpointError
from medssl.writing import atomic_write

__all__ = ["Shared", "shared_folder"]

_MORE = "decision.json"


@dataclass(frozen=True)
class Shared:
    """What the folder holds, read and seen to fit.

    Attributes:
        folder: Where.
        card: Its card.
        weights: Tensors of each file, by its name without suffix.
    """

    folder: Path
    card: Card
    weights: Mapping[str, Mapping[str, Tensor]]

    def write(self, out: Path) -> list[Path]:
        """Write it as a run's folder, the card last; return the files."""
        written = []
        for name, tensors in self.weights.items():
            save_tensors(dict(tensors), out / f"{name}.safetensors", {"medssl": self.card.medssl})
            written.append(out / f"{name}.safetensors")
        texts = [name for name in (_MORE,) if (self.folder / name).is_file()]
        for name in (*texts, "card.json"):
            with atomic_write(out / name) as aside:
                aside.write_bytes((self.folder / name).read_bytes())
            written.append(out / name)
        return written


def shared_folder(path: Path) -> Shared | None:
    """Return what lies in a folder that was exported from a run; None where it is none.

    Args:
        path: A file or folder.

    Raises:
        CheckpointError: Card or weights are damaged, or the encoder's are not those of the card.
    """
    if not (path / "card.json").is_file():
        return None
    card = load_card(path)
    if card.kind == "volume":
        fill_encoder(build_encoder(card.encoder), path)
    for name in card.weights:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{path}: the card names the file '{name}'; allowed are names that end in .safetensors."
            )
    return Shared(path, card, {Path(n).stem: load_weights(path, Path(n).stem) for n in card.weights})
