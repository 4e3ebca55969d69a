"""A store whose scans are made a network's input by a scheme: fitted on what is trained on, or as a card has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from medssl.errors import DataError
from medssl.normalising import Numbers, Scheme, fitted_numbers, numbers_of
from medssl.store.entry import Entry
from medssl.store.read import Store
from medssl.store.write import CT_RANGE

__all__ = ["Channels", "Known", "channels_as", "channels_of", "fitted", "normalised", "normalised_as"]

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
    found: list[tuple[Scheme, Numbers | None]] = []
    for number in range(len(train.channels)):
        scans = [one for each in known if (one := each[number]) is not None]
        found.append((scheme, fitted_numbers(scheme, scans, hu_range=(float(low), float(high)))))
    return found


def normalised(store: Store, channels: Channels) -> Store:
    """Return the store with its scans made input by the scheme and the numbers of each channel.

    Raises:
        DataError: Numbers were fitted to HU and a scan's values are none, or the other way round.
    """
    if all(scheme == "unit" for scheme, _ in channels):
        return store.with_entries(entry.normalised([("unit", None)] * len(channels)) for entry in store.entries)
    entries = []
    for index, entry in enumerate(store.entries):
        own = store.statistics(index)
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
        of_all = scheme == "dataset" or (scheme == "nnunet" and all(channel.hounsfield for channel in there))
        found.append((scheme, there[0].numbers if of_all and there else None))
    return found


def channels_as(store: Store, inputs: Sequence[Known]) -> list[tuple[Scheme, Numbers | None]]:
    """Return the schemes and numbers of a trained network for the channels of a store.

    Args:
        store: Any scans.
        inputs: What the network's card says of its channels. Where the store has others, a channel goes by its name,
            else by its place, in turn.
    """
    by_name = {known.name: known for known in inputs}
    chosen = [by_name.get(name, inputs[place % len(inputs)]) for place, name in enumerate(store.channels)]
    return [(known.normalise, known.numbers) for known in chosen]


def normalised_as(store: Store, inputs: Sequence[Known]) -> Store:
    """Return the store as the input of a trained network; see `channels_as`."""
    return normalised(store, channels_as(store, inputs))
