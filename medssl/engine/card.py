"""What a run leaves behind: weights, and a card that says what they are and how to feed them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError

from medssl import __version__
from medssl.encoders.settings.input import Pool
from medssl.encoders.table import ENCODERS, build_encoder
from medssl.errors import CheckpointError, ConfigError
from medssl.normalising import Numbers, Scheme, takes
from medssl.quoting import quoted
from medssl.settings import Settings, load_yaml
from medssl.writing import atomic_write

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medssl.encoders.contract import Encoder

__all__ = ["Card", "CardInput", "Origin", "fill_encoder", "load_card", "load_encoder", "load_weights", "save_encoder"]


class CardInput(Settings):
    """One channel of a network's input.

    Attributes:
        name: As the store calls it.
        modality: "CT", "MR", ... ; several are joined with "+".
        scale: Values that become 0 and 1 in the input, in stored units (HU for CT); of ``unit`` alone.
        normalise: How stored values become input; see `medssl.normalising`. Cards of earlier releases mean ``unit``.
        numbers: Where the scheme takes them from the training scans, in stored units: smallest and largest value, what
            is taken off, what it is divided by.
    """

    name: str
    modality: str = ""
    scale: tuple[float, float] = (0.0, 1.0)
    normalise: Scheme = "unit"
    numbers: Numbers | None = None


class Origin(Settings):
    """Where weights are from that were not trained here. Runs that start from them keep it.

    Attributes:
        source: Row of the table of published weights.
        title: What they are.
        published: Where.
        code: Licence of their makers' code.
        weights: Licence of the weights, as their makers state it.
        limits: What the licences forbid or ask: "non-commercial", "no-derivatives", "share-alike", "own terms",
            "unknown".
        sha256: Of the file.
        input: How the network wants its input, in words.
        guesses: What nobody states and was taken to be so.
        facts: More, as the file says it.
    """

    source: str
    title: str = ""
    published: str = ""
    code: str = ""
    weights: str = ""
    limits: tuple[str, ...] = ()
    sha256: str = ""
    input: str = ""
    guesses: tuple[str, ...] = ()
    facts: dict[str, Any] = Field(default_factory=dict)

    @property
    def licence_line(self) -> str:
        """Both licences, in a line."""
        return f"licence of the code: {self.code}; of the weights: {self.weights}"

    @property
    def forbids(self) -> tuple[str, ...]:
        """What of the limits speaks against passing the weights on."""
        return tuple(limit for limit in self.limits if limit in ("non-commercial", "no-derivatives", "own terms"))


class Card(Settings):
    """What must be known to use an encoder.

    Attributes:
        kind: What it takes: "volume" or "cloud". The fields on voxels are empty on a card of clouds.
        encoder: Its settings, with its ``name`` in the table of encoders of that kind.
        in_channels: Channels of its input.
        inputs: What each of them shows, in their order; empty on a card of clouds and of older versions.
        channels: Channels of each level of its pyramid, finest first.
        strides: Cumulative stride of each level, (z, y, x).
        spacing_mm: Voxel size it was trained at, (z, y, x); the mean over the store where that has no single one.
        orientation: Axes of its input, as in "RAS", for arrays indexed (x, y, z).
        modality: "CT", "MR", ... ; several are joined with "+".
        scale: Values that become 0 and 1 in its first channel, in stored units (HU for CT).
        window: Size of the training windows in voxels, (z, y, x).
        points: Clouds: points of a cloud that a step saw; None where all. They are put about the cloud's mean, in its
            unit sphere.
        unit: Clouds: "mm", "m" or "unknown".
        method: Settings of the method.
        steps: Steps it was trained.
        batch_size: Windows or clouds a step.
        data: Counts of scans or clouds and patients, and the fingerprint of the store.
        citation: Papers to cite.
        weights: Names of the files of weights beside the card.
        decoder_convs: Convolutions of each stage of the decoder that is kept beside it; None where nobody says.
        origin: Where the weights are from that it started from, where they were published by others.
        medssl: Version that wrote it.
    """

    kind: Literal["volume", "cloud"] = "volume"
    encoder: dict[str, Any]
    in_channels: int
    inputs: tuple[CardInput, ...] = ()
    channels: tuple[int, ...]
    strides: tuple[tuple[int, int, int], ...] = ()
    spacing_mm: tuple[float, float, float] | None = None
    orientation: str = "RAS"
    modality: str = ""
    scale: tuple[float, float] = (0.0, 1.0)
    window: tuple[int, int, int] | None = None
    points: int | None = None
    unit: str = ""
    method: dict[str, Any] = Field(default_factory=dict)
    steps: int = 0
    batch_size: int = 0
    data: dict[str, Any] = Field(default_factory=dict)
    citation: list[str] = Field(default_factory=list)
    weights: list[str] = Field(default_factory=lambda: ["encoder.safetensors"])
    decoder_convs: int | None = None
    origin: Origin | None = None
    medssl: str = __version__

    @model_validator(mode="before")
    @classmethod
    def _pooled_as_then(cls, values: Any) -> Any:
        """Name the pooling of encoders of volumes that were trained when there was but one."""
        if not isinstance(values, Mapping) or values.get("kind", "volume") != "volume":
            return values
        encoder = values.get("encoder")
        return {**values, "encoder": {"pool": "mean", **encoder}} if isinstance(encoder, Mapping) else values

    @property
    def inputs_known(self) -> tuple[CardInput, ...]:
        """What each channel of the input shows; numbers in place of names where the card has none."""
        if self.inputs:
            return self.inputs
        names = ["image"] if self.in_channels == 1 else [f"channel {number}" for number in range(self.in_channels)]
        return tuple(CardInput(name=name, modality=self.modality, scale=self.scale) for name in names)

    @property
    def schemes(self) -> tuple[Scheme, ...]:
        """How each channel of the input is normalised."""
        return tuple(known.normalise for known in self.inputs_known)


def save_encoder(
    encoder: nn.Module, card: Card, folder: Path, *, others: Mapping[str, nn.Module] | None = None
) -> list[Path]:
    """Write ``encoder.safetensors`` and ``card.json``, each aside and renamed; the card last.

    Args:
        encoder: The trained encoder.
        card: What it is.
        folder: Where to; it exists.
        others: More modules to keep (a decoder), each written to NAME.safetensors.

    Returns:
        The files.
    """
    from medssl.engine.checkpoint import save_tensors

    modules = {"encoder": encoder, **(others or {})}
    written = []
    for name, module in modules.items():
        path = folder / f"{name}.safetensors"
        save_tensors(module.state_dict(), path, {"medssl": __version__})
        written.append(path)
    named = card.model_copy(update={"weights": [path.name for path in written]})
    with atomic_write(folder / "card.json") as aside:
        aside.write_text(json.dumps(named.model_dump(mode="json"), indent=1) + "\n")
    return [*written, folder / "card.json"]


def load_card(folder: Path) -> Card:
    """Read the card of a run.

    Raises:
        CheckpointError: There is none, or it is not one.
    """
    path = Path(folder) / "card.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: there is no finished encoder here (no card.json). {_how_to_finish(folder)}")
    try:
        return Card.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{path}: not a card that this version can read. {error}") from error


def load_weights(folder: Path, name: str = "encoder") -> dict[str, Tensor]:
    """Read ``NAME.safetensors`` of a run.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    from safetensors.torch import load_file  # loads torch, which reading a card needs not

    path = Path(folder) / f"{name}.safetensors"
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the weights cannot be read ({error}).") from error
    return tensors


def _how_to_finish(folder: Path) -> str:
    """Return what to do about a folder without a card: what closes the run in it, where there is one."""
    settings = Path(folder) / "run.yaml"
    if not settings.is_file():
        return "Give the folder of a run that has ended."
    command = f"medssl {'finetune' if 'transfer' in load_yaml(settings) else 'pretrain'} --out {quoted(folder)}"
    return f"Continue the run: {command} --resume; or close it at the step that it reached: {command} --finish"


def load_encoder(folder: str | Path, *, pool: Pool | None = None) -> Encoder:
    """Build a run's encoder with its trained weights, in evaluation mode, on the CPU.

    Args:
        folder: A run that has ended.
        pool: How its features become one vector; None pools as on the card.

    Raises:
        CheckpointError: Card or weights are missing or damaged, or do not fit each other.
        ConfigError: The card names an encoder that this version does not know, or the encoder cannot pool so.
    """
    folder = Path(folder)
    card = load_card(folder)
    if card.kind != "volume":
        raise CheckpointError(f"{folder}: its encoder is one of {card.kind}s, and scans need one of volumes.")
    encoder = build_encoder(card.encoder)
    fill_encoder(encoder, folder)
    takes(encoder, card.schemes)
    if pool is not None and pool != encoder.pooling.kind:
        if pool == "attention":
            raise ConfigError(
                f"{folder}: it has no weights of attention to pool by. Take mean, prenorm, grid, levels, cells."
            )
        ENCODERS.settings_of({**card.encoder, "pool": pool})  # refuses what the encoder does not have
        encoder.pool_by(pool)
    return encoder.eval()


def fill_encoder(encoder: nn.Module, folder: Path) -> None:
    """Load a run's trained weights into its encoder.

    Raises:
        CheckpointError: They are missing or damaged, or those of another encoder.
    """
    try:
        encoder.load_state_dict(load_weights(folder), strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: the weights are not those of the encoder on the card. {error}") from error
