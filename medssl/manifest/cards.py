"""Data cards: what a public data set is, under which licence it comes, and where from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from medssl.errors import ConfigError, did_you_mean
from medssl.settings import Settings

__all__ = ["Address", "Card", "address_of", "card_folder", "find_card", "list_cards"]


def _plain_folder(name: str) -> str:
    if name in {"", ".", ".."} or "/" in name or "\\" in name:
        raise ValueError("must be the name of one folder, without slashes")
    return name


class Card(Settings):
    """One data set.

    Attributes:
        title: Its name, for people.
        about: What it holds, in a sentence or two.
        modality: "CT" or "MR".
        labels: Label value -> name.
        licence: Name of the licence.
        licence_url: Where its text is.
        source: Page of its makers.
        citation: What to cite.
        size_mb: Size of the download.
        decathlon: Task of the Medical Segmentation Decathlon, whose address and checksum MONAI knows.
        url: Address of the archive, where it is public.
        sha256: Checksum of the archive.
        md5: Checksum of the archive, where its makers give only this.
        manual: How a person gets it, where no program may.
        folder: The folder that unpacking gives.
    """

    title: str
    about: str
    modality: str = ""
    labels: dict[int, str] = Field(default_factory=dict)
    licence: str = Field(min_length=1)
    licence_url: str = ""
    source: str
    citation: str = ""
    size_mb: float = Field(default=0, ge=0)
    decathlon: str = ""
    url: str = Field(default="", pattern=r"^(https?://.+)?$")
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    md5: str = Field(default="", pattern=r"^([0-9a-f]{32})?$")
    manual: str = ""
    folder: Annotated[str, AfterValidator(_plain_folder)]

    @model_validator(mode="after")
    def _one_way(self) -> Card:
        ways = [name for name in ("decathlon", "url", "manual") if getattr(self, name)]
        if len(ways) != 1:
            raise ValueError(f"needs exactly one of decathlon, url, manual; has {' and '.join(ways) or 'none'}")
        if self.url and not (self.sha256 or self.md5):
            raise ValueError("a url needs the checksum of what it gives: sha256 or md5")
        return self


class Address(Settings):
    """Where an archive is and how to know that it is whole."""

    url: str
    algorithm: Literal["sha256", "md5"]
    checksum: str


def card_folder() -> Path:
    """Return the folder of cards: package data of an installed wheel, or ``data_manifests/`` of an editable install."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "_cards"
    return shipped if shipped.is_dir() else package.parent / "data_manifests"


def list_cards() -> dict[str, Card]:
    """Return every shipped card by name."""
    return {path.stem: _read(path) for path in sorted(card_folder().glob("*.yaml"))}


def find_card(name: str | Path) -> tuple[str, Card]:
    """Return a card and its name.

    Args:
        name: Name of a shipped card, or the path of a YAML file.

    Raises:
        ConfigError: There is no such card, or it says too little or too much.
    """
    text = str(name)
    if text.endswith((".yaml", ".yml")):
        if not Path(text).is_file():
            raise ConfigError(f"{text}: no such card. Give an existing YAML file, or a name of: medssl list data")
        return Path(text).stem, _read(Path(text))
    names = {path.stem: path for path in card_folder().glob("*.yaml")}
    if text not in names:
        raise ConfigError(f"Unknown data set '{text}'. {did_you_mean(text, names)}")
    return text, _read(names[text])


def address_of(card: Card) -> Address | None:
    """Return where the archive is; None for a data set that a person has to get.

    Raises:
        ConfigError: MONAI knows no such task.
    """
    if card.manual:
        return None
    if card.url:
        algorithm: Literal["sha256", "md5"] = "sha256" if card.sha256 else "md5"
        return Address(url=card.url, algorithm=algorithm, checksum=card.sha256 or card.md5)
    from monai.apps import DecathlonDataset

    addresses: Mapping[str, str] = DecathlonDataset.resource
    if card.decathlon not in addresses:
        raise ConfigError(f"MONAI knows no task '{card.decathlon}'. {did_you_mean(card.decathlon, addresses)}")
    return Address(url=addresses[card.decathlon], algorithm="md5", checksum=DecathlonDataset.md5[card.decathlon])


def _read(path: Path) -> Card:
    import yaml

    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Card.model_validate(said)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({error}).") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(str(p) for p in e['loc']) or 'card'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: this is no data card ({faults}).") from error
