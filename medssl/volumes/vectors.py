"""One vector a scan: of its body fitted to a window, the mean over windows, or the body in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medssl.domains.vectors import Ready, Vectors
from medssl.encoders.contract import lay_channels_last
from medssl.engine.card import Card, load_card, load_encoder
from medssl.errors import ConfigError
from medssl.exporting.features import FeatureTable, embed_store
from medssl.store.fitting import store_misfits
from medssl.store.normalised import suited
from medssl.store.read import Store

__all__ = ["VECTORS", "ScanVectors"]

Triple = tuple[int, int, int]


class ScanVectors(Vectors):
    """Scans."""

    own = ("coverage", "window", "overlap", "pool", "levels")

    def misfits(self, card: Card, store: Store) -> list[str]:
        """Return how a store differs from what published weights were trained on; nothing of weights of our own."""
        return [] if card.origin is None else store_misfits(card, store.entries, store.settings)

    def ready(self, run: Path, card: Card, store: Store, settings: Any, device: torch.device) -> Ready:
        """Return what embeds scans."""
        encoder = load_encoder(run, pool=settings.pool).eval().to(device)
        lay_channels_last(encoder)
        store, unfit = suited(store, card.inputs_known)
        window = None if settings.coverage == "whole" else _window(settings, run, encoder.size_multiple)
        fitted = settings.coverage == "fitted"
        size = "" if window is None else " x ".join(map(str, window))
        said = "each in one pass" if window is None else f"each fitted to {size}" if fitted else f"by windows of {size}"

        def embed(done: Callable[[int], None]) -> tuple[FeatureTable, str]:
            table = embed_store(
                encoder,
                store,
                progress=lambda _: done(1),
                window=window,
                fitted=fitted,
                overlap=settings.overlap,
                batch_size=settings.batch_size,
                levels=settings.levels,
            )
            done(len(unfit))
            return replace(table, failed={**unfit, **table.failed}), ""

        words = f"{len(store)} scans, {said}; vectors of the encoder of {run}, pool {encoder.pooling.kind}, on {device}"
        return Ready(words, embed)


def _window(settings: Any, run: Path, multiple: Triple) -> Triple:
    """Return the window: the setting's, which must fit the encoder, or the training window cut to fit."""
    if settings.window is not None:
        wrong = [n for n, m in zip(settings.window, multiple, strict=True) if n < 2 * m or n % m]
        if wrong:
            raise ConfigError(
                f"window: found {list(settings.window)}; allowed are multiples of {list(multiple)}, at least twice it."
            )
        chosen: Triple = settings.window
        return chosen
    trained = load_card(run).window or (64, 64, 64)
    z, y, x = (max(2, length // step) * step for length, step in zip(trained, multiple, strict=True))
    return z, y, x


VECTORS = ScanVectors()
