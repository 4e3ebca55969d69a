"""A store whose scans are made a network's input by a scheme: fitted on what is trained on, or as a card has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from medssl.errors import DataError
from medssl.normalising import Numbers, Scheme, fitted_numbers, numbers_of
from medssl.store.entry import Channel, Entry
from medssl.store.lines import ListedEntries
from medssl.store.read import Store
from medssl.store.write import CT_RANGE, MR_SCALE

__all__ = [
    "Channels",
    "Known",
    "channels_as",
    "channels_of",
    "fitted",
    "normalised",
    "normalised_as",
    "scale_doubts",
    "suited",
]

Channels = Sequence[tuple[Scheme, Numbers | None]]


class Known(Protocol):
    """What a card says of one channel of the input."""

    @property
    def name(self) -> str:
        """As the store calls it."""
        ...

    @property
    def normalise(self) -> Scheme:
        """The scheme."""
        ...

    @property
    def numbers(self) -> Numbers | None:
        """What it was fitted to."""
        ...

    @property
    def modality(self) -> str:
        """Such as "CT"; of several joined with "+"."""
        ...

    @property
    def scale(self) -> tuple[float, float]:
        """Stored values that ``unit`` makes 0 and 1."""
        ...


def fitted(scheme: Scheme, train: Store) -> list[tuple[Scheme, Numbers | None]]:
    """Return the scheme of each channel with the numbers that it takes from the scans that are trained on.

    Of stores of earlier releases every scan is read for it.

    Args:
        scheme: Which.
        train: The scans that are trained on, and no others.
    """
    if scheme in ("unit", "zscore"):
        return [(scheme, None)] * len(train.channels)
    known = [train.statistics(index) for index in range(len(train))]
    low, high = train.settings.get("hu_range", CT_RANGE)
    clipped = train.settings.get("grid") == "nnunet"
    found: list[tuple[Scheme, Numbers | None]] = []
    for number in range(len(train.channels)):
        scans = [one for each in known if (one := each[number]) is not None]
        found.append((scheme, fitted_numbers(scheme, scans, hu_range=(float(low), float(high)), clipped=clipped)))
    return found


def normalised(store: Store, channels: Channels) -> Store:
    """Return the store with its scans made input by the scheme and the numbers of each channel.

    Raises:
        DataError: Numbers were fitted to HU and a scan's values are none, or the other way round.
    """
    if all(scheme == "unit" for scheme, _ in channels):
        if isinstance(store.entries, ListedEntries):
            return store  # no line of a listing says another: they are left unread
        return store.with_entries(entry.normalised([("unit", None)] * len(channels)) for entry in store.entries)
    entries = []
    for index, entry in enumerate(store.entries):
        own = store.statistics(index, nonzero=any(scheme == "nonzero" for scheme, _ in channels))
        try:
            numbers = [
                (scheme, numbers_of(scheme, channel.scale, of, found))
                for (scheme, found), channel, of in zip(channels, entry.channels, own, strict=True)
            ]
        except DataError as error:
            raise DataError(f"{entry.id}: {error}") from error
        entries.append(entry.normalised(numbers))
    return store.with_entries(entries)


def channels_of(entries: Sequence[Entry]) -> list[tuple[Scheme, Numbers | None]]:
    """Return the schemes of scans that were made input, with the numbers that were fitted and so are those of all."""
    found: list[tuple[Scheme, Numbers | None]] = []
    for same in zip(*(entry.channels for entry in entries), strict=True):
        there = [channel for channel in same if channel.present]
        scheme = same[0].scheme
        of_all = scheme == "dataset" or (
            scheme in ("nnunet", "nonzero") and all(channel.hounsfield for channel in there)
        )
        found.append((scheme, there[0].numbers if of_all and there else None))
    return found


def channels_as(store: Store, inputs: Sequence[Known]) -> list[tuple[Scheme, Numbers | None]]:
    """Return the schemes and numbers of a trained network for the channels of a store.

    Args:
        store: Any scans.
        inputs: What the network's card says of its channels. Where the store has others, a channel goes by its name,
            else by its place, in turn.
    """
    return [(known.normalise, known.numbers) for known in _known(store.channels, inputs)]


def normalised_as(store: Store, inputs: Sequence[Known]) -> Store:
    """Return the store as the input of a trained network; see `channels_as`.

    CT that the store keeps in HU goes by the network's own ``ct_scale``, whatever the store's is.
    """
    theirs = _known(store.channels, inputs)

    def scaled(entry: Entry) -> Entry:
        pairs = list(zip(entry.channels, theirs, strict=True))
        if not any(_rescaled(channel, known) for channel, known in pairs):
            return entry
        own, *more = [replace(c, scale=known.scale) if _rescaled(c, known) else c for c, known in pairs]
        return replace(entry, scale=own.scale, more=tuple(more))

    return normalised(store.with_entries(scaled(entry) for entry in store.entries), channels_as(store, inputs))


def suited(store: Store, inputs: Sequence[Known]) -> tuple[Store, dict[str, str]]:
    """Return the scans that are the input of a trained network, made so, and of all others id -> why they are not."""
    try:
        return normalised_as(store, inputs), {}
    except DataError:
        pass  # of one scan at least
    fitting: list[Entry] = []
    unfit: dict[str, str] = {}
    for entry in store.entries:
        try:
            fitting += normalised_as(store.subset([entry.id]), inputs).entries
        except DataError as error:
            unfit[entry.id] = str(error).removeprefix(f"{entry.id}: ")
    return store.with_entries(fitting), unfit


def scale_doubts(entries: Sequence[Entry], inputs: Sequence[Known]) -> list[str]:
    """Return how the HU of 0 and 1 differ from those that a network was trained with, in words."""
    said = dict.fromkeys(
        f"{known.scale[0]:g} to {known.scale[1]:g} HU and the store has {channel.scale[0]:g} to {channel.scale[1]:g}"
        for entry in entries
        for channel, known in zip(entry.channels, _known(entry.channel_names, inputs), strict=True)
        if channel.scheme == "unit" and _rescaled(channel, known)
    )
    return list(said)


def _known(names: Sequence[str], inputs: Sequence[Known]) -> list[Known]:
    by_name = {known.name: known for known in inputs}
    return [by_name.get(name, inputs[place % len(inputs)]) for place, name in enumerate(names)]


def _rescaled(channel: Channel, known: Known) -> bool:
    """Tell a channel in HU whose 0 and 1 are others than those of a network of CT in HU.

    CT that is no HU (``mixed_scales``) has the scale of other modalities, in a unit of its own; and a card that names
    no scale has 0 and 1.
    """
    own, theirs = tuple(channel.scale), tuple(known.scale)
    in_hu = channel.present and channel.modality == "CT" and own != MR_SCALE
    return in_hu and known.modality == "CT" and theirs not in (MR_SCALE, (0.0, 1.0), own)
