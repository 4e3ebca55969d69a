"""One case of a store: everything that training and inference need to know of it, without its voxels.

A case is what a patient has on one grid: one or more named channels in the store's order, one label map, targets. Most
have a single channel, a scan. The only place that says what a channel is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from medssl.normalising import Numbers, Scheme

__all__ = ["ONE", "Channel", "Entry"]

Triple = tuple[int, int, int]
ONE = "image"  # what the single channel of a store is called that names none


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One channel of a case: one file on the case's grid.

    Attributes:
        name: What it shows, as the store has it: "t1", "ct".
        file: Image file, relative to the store; "" where the case lacks this channel.
        modality: "CT", "MR" or another DICOM modality.
        scale: Stored values that become 0 and 1 in a network's input.
        slope: Physical value of one stored unit; physical = stored * slope + intercept.
        intercept: See ``slope``.
        fill: Stored value outside the scan (air for CT), and of a channel that is lacking: 0 to a network.
        source_path: The file it came from; "" unless ``privacy=paths``, see `medssl.store.sources`.
        scheme: How its values are made a network's input; a run says it, ``store.json`` does not hold it.
        numbers: By which numbers, see `medssl.normalising.numbers_of`; None for ``unit``, which goes by ``scale``.
    """

    name: str
    file: str
    modality: str
    scale: tuple[float, float]
    slope: float = 1.0
    intercept: float = 0.0
    fill: int = 0
    source_path: str = ""
    scheme: Scheme = "unit"
    numbers: Numbers | None = None

    @property
    def present(self) -> bool:
        """Whether the case has it."""
        return bool(self.file)

    @property
    def padding(self) -> int:
        """Stored value outside the scan as its input's scheme has it: of ``nonzero`` the mean, else ``fill``."""
        return self.fill if self.scheme != "nonzero" or self.numbers is None else round(self.numbers[2])

    @property
    def stored_zero(self) -> int:
        """What a physical 0 is stored as."""
        return round(-self.intercept / self.slope)

    @property
    def hounsfield(self) -> bool:
        """Whether stored values are HU; those of a CT that had other values are scaled by its percentiles."""
        return self.modality == "CT" and self.slope == 1.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of ``store.json``.

    ``file``, ``modality``, ``scale``, ``slope``, ``intercept``, ``fill`` and ``source_path`` are the first channel's;
    ``channels`` has those of all.

    Attributes:
        id: The scan's id in the manifest.
        file: Image file, relative to the store; "" where the case lacks its first channel.
        label_file: Label file on the same grid, relative to the store; None where the scan has no labels.
        modality: "CT", "MR" or another DICOM modality.
        patient: Pseudonymous key; equal for scans of one patient.
        split: "train", "val", "test" or "" (unassigned).
        shape: Voxels on the store's grid, (z, y, x).
        spacing_mm: Voxel size on the store's grid, (z, y, x).
        affine: 4x4 of the store's grid, RAS+ mm from (x, y, z) indices.
        body_box: First and one-past-last voxel of the body, ((z, y, x), (z, y, x)).
        scale: Stored values that become 0 and 1 in a network's input.
        slope: Physical value of one stored unit; physical = stored * slope + intercept.
        intercept: See ``slope``.
        fill: Stored value outside the scan (air for CT).
        source_shape: Shape of the file it came from, (z, y, x).
        source_affine: Affine of the file it came from; predictions are written on this grid.
        source_path: The file it came from; "" unless ``privacy=paths``, see `medssl.store.sources`.
        label_path: The label file it came from; None where there is none, and unless ``privacy=paths``.
        targets: Classes of the patient or the scan by name, as ((name, class), ...), sorted.
        channel: Name of the first channel.
        more: The channels after the first.
        scheme: As `Channel` has it.
        numbers: As `Channel` has it.
    """

    id: str
    file: str
    label_file: str | None
    modality: str
    patient: str
    split: str
    shape: Triple
    spacing_mm: tuple[float, float, float]
    affine: tuple[tuple[float, ...], ...]
    body_box: tuple[Triple, Triple]
    scale: tuple[float, float]
    slope: float
    intercept: float
    fill: int
    source_shape: Triple
    source_affine: tuple[tuple[float, ...], ...]
    source_path: str
    label_path: str | None = None
    targets: tuple[tuple[str, str], ...] = ()
    channel: str = ONE
    more: tuple[Channel, ...] = ()
    scheme: Scheme = "unit"
    numbers: Numbers | None = None

    @property
    def channels(self) -> tuple[Channel, ...]:
        """All channels, in the store's order; those that the case lacks too."""
        return (self._first, *self.more)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Their names."""
        return (self.channel, *(channel.name for channel in self.more))

    @property
    def present(self) -> tuple[bool, ...]:
        """Which channels the case has."""
        return (bool(self.file), *(channel.present for channel in self.more))

    @property
    def schemes(self) -> tuple[Scheme, ...]:
        """How each channel is made a network's input."""
        return (self.scheme, *(channel.scheme for channel in self.more))

    @property
    def files(self) -> tuple[str, ...]:
        """The image files that the case has, relative to the store."""
        return tuple(channel.file for channel in self.channels if channel.present)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the channels that the case has, each once, in their order."""
        return tuple(dict.fromkeys(channel.modality for channel in self.channels if channel.present))

    @property
    def stem(self) -> str:
        """What the names of the case's files begin with, without folder."""
        return re.sub(r"(\.c\d+)?\.b2nd$", "", self.files[0].rpartition("/")[2])

    @property
    def padding(self) -> int:
        """Stored value outside of the first channel's scan, as its input's scheme has it."""
        return self._first.padding

    @property
    def _first(self) -> Channel:
        return Channel(
            name=self.channel,
            file=self.file,
            modality=self.modality,
            scale=self.scale,
            slope=self.slope,
            intercept=self.intercept,
            fill=self.fill,
            source_path=self.source_path,
            scheme=self.scheme,
            numbers=self.numbers,
        )

    def normalised(self, channels: Sequence[tuple[Scheme, Numbers | None]]) -> Entry:
        """Return the case with another input, a scheme and its numbers for each channel."""
        (scheme, numbers), *others = channels
        more = tuple(replace(c, scheme=s, numbers=n) for c, (s, n) in zip(self.more, others, strict=True))
        return replace(self, scheme=scheme, numbers=numbers, more=more)

    def target(self, name: str) -> str | None:
        """Return the class of one target; None where it is not known."""
        return dict(self.targets).get(name)
