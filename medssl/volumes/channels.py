"""How many channels an encoder takes: as many as the store has, and not another number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from medssl.engine.card import Card
from medssl.errors import ConfigError
from medssl.settings import Resolved, Settings
from medssl.store.entry import ONE
from medssl.store.read import Store

__all__ = ["follow_channels", "same_channels", "start_channels"]

S = TypeVar("S", bound=Settings)


def follow_channels(resolved: Resolved[S], store: Store) -> Resolved[S]:
    """Return settings whose encoder takes as many channels as the store has.

    Args:
        resolved: Settings with the groups ``encoder`` and ``data``. What the card of a pretraining run says gives way:
            the weights are adapted (``transfer.channels``).
        store: What is trained on.

    Raises:
        ConfigError: Another number was asked for, or what is said of channels needs several.
    """
    key, names = "encoder.in_channels", store.channels
    asked = getattr(resolved.settings, "encoder").in_channels  # noqa: B009  the group is known to subclasses alone
    listed = f"{len(names)} ({', '.join(names)})"
    by_hand = not resolved.origins[key].startswith(("auto", "default"))
    if asked != "follow" and asked != len(names) and by_hand:
        raise ConfigError(
            f"{key}: the encoder takes {asked} channels ({resolved.origins[key]}), and the cases of {store.folder} "
            f"have {listed}. Leave it out, or set it to follow: it is then as many as the store has."
        )
    data = getattr(resolved.settings, "data")  # noqa: B009
    for setting, neutral in (("drop_channels", 0.0), ("pair", "views")):
        if len(names) == 1 and getattr(data, setting, neutral) != neutral:
            raise ConfigError(
                f"data.{setting}: needs cases of several channels, and those of {store.folder} have one, {names[0]}. "
                "Leave it out."
            )
    if asked == len(names):
        return resolved
    return resolved.with_auto(key, len(names), f"the store's channels: {', '.join(names)}")


def same_channels(card: Card, store: Store, *, run: str | Path) -> None:
    """Refuse a store whose channels are not those that a trained network takes.

    Raises:
        ConfigError: They differ in number, in name or in order. The name of a single channel is no matter.
    """
    wanted = tuple(given.name for given in card.inputs_known)
    if len(wanted) == len(store.channels) == 1 or wanted == store.channels:
        return
    raise ConfigError(
        f"{run}: its network takes the channels {', '.join(wanted)}, and the cases of {store.folder} have "
        f"{', '.join(store.channels)}. Take a store of the same channels in the same order; to train on others, start "
        "from the run with medssl finetune, which adapts the weights."
    )


def start_channels(card: Card, here: Sequence[str], *, run: str | Path) -> str:
    """Refuse weights whose channels are those of a store in another order; other names are doubtful.

    Args:
        card: Of the run that another one starts from, with as many channels.
        here: Channels of the store.
        run: For messages.

    Returns:
        What is doubtful, to be put behind a sentence; "" where nothing is.

    Raises:
        ConfigError: The order differs.
    """
    there, here = tuple(given.name for given in card.inputs_known), tuple(here)
    if there == here or (len(here) == 1 and ONE in (*there, *here)):
        return ""
    if sorted(there) == sorted(here):
        raise ConfigError(
            f"{run}: was trained on the channels {', '.join(there)}, and the store has them in another order, "
            f"{', '.join(here)}. Take a store in that order: medssl cache ... channels={','.join(there)}."
        )
    return f"; doubtful: they saw {', '.join(there)}, and go by their places to {', '.join(here)}"
