"""Fine-tuning for segmentation: labelled windows, a decoder that may be carried over, and label maps at the end."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric
from torch import nn

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, load_card, load_weights
from medssl.engine.run import Run
from medssl.loading import WindowLoader, held_out_batches
from medssl.store.read import Store
from medssl.tasks.inference import dice_of_store, predict_store
from medssl.tasks.segmentation import SegmentationTask
from medssl.tasks.segmenter import describe_segmenter
from medssl.tasks.transfer import TransferReport, carry_over
from medssl.windows import WindowBatch
from pipelines import console
from pipelines.finetune_scan_card import scan_card, scan_doubts
from pipelines.finetune_scans import choose_scans
from pipelines.finetune_settings import FinetuneSettings, carry_encoder, channel_transfer, few_words, fresh_weights
from pipelines.finetune_unseen import refused_lines, unseen_lines, unseen_structures
from pipelines.normalising import input_words, record_input, show_by

__all__ = ["SegmentationJob", "Segmented"]

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Segmented:
    """The label maps that were written, their folder, and the Dice of each structure on the held-out scans."""

    predictions: tuple[Path, ...]
    shown: Path | None
    scores: dict[str, float] | None
    named: str = "dice"


class SegmentationJob:
    """One segmentation run.

    Args:
        settings: Of the run.
        store: All scans.
    """

    def __init__(self, settings: FinetuneSettings, store: Store) -> None:
        self.settings, self._store = settings, store
        self.scans = choose_scans(store, settings.data)
        with fresh_weights(settings.train.seed):
            encoder = build_encoder(settings.encoder)
            self.method = SegmentationTask(settings.segmentation, encoder, store.classes, store.regions)
        self.reports = [
            *carry_encoder(settings.transfer, encoder, store.channels),
            *_carry_decoder(settings, self.method, store.channels),
        ]
        self.entries = self.scans.train.entries
        show_by(self.method, store)
        self.unseen = unseen_structures(self.scans.train, self.method)

    @property
    def window(self) -> Triple:
        """What the network sees at once."""
        return self.settings.segmentation.window

    @property
    def seen(self) -> str:
        """The same in words."""
        return f"windows of {' x '.join(map(str, self.window))}"

    def loader(self, *, rank: int, world_size: int, pin: bool) -> WindowLoader:
        """Return this rank's batches."""
        train = self.settings.train
        return WindowLoader(
            self.scans.train, self.method.plan, batch_size=train.batch_size, seed=train.seed, rank=rank,
            world_size=world_size, threads=train.threads, pin=pin, drop=self.settings.data.drop_channels,
        )  # fmt: skip

    def held_out(self) -> list[WindowBatch]:
        """Return one window of every held-out scan."""
        if not self.scans.held_out:
            return []
        train = self.settings.train
        return held_out_batches(self.scans.held_out, self.method.plan, train.batch_size, train.seed)

    def lines(self) -> tuple[str, str]:
        """Return what is said of the data and of the network before the run."""
        scans, settings = self.scans, self.settings
        patients = len({e.patient or e.id for e in self.entries})
        start = f"{', '.join(r.part for r in self.reports)} of {settings.transfer.run}" if self.reports else "scratch"
        count = sum(p.numel() for p in self.method.parameters())
        watched = f"{len(scans.held_out)} held out" if scans.held_out else "none held out"
        predicted = f"{len(scans.predict)} to segment" if scans.predict else "none to segment"
        left = f"; {scans.left_out} without labels left out" if scans.left_out else ""
        return (
            f"store: {settings.data.store}: {len(self.entries)} labelled scans of {patients} patients"
            f"{few_words(settings)}; {watched}, {predicted}{left}{input_words(self.entries)}",
            f"segmenter: {settings.encoder.name} encoder and U-Net decoder, {count:,} parameters, from {start}; "
            f"{'regions, which may overlap' if self.method.regions else 'structures'}: "
            f"{', '.join(self.method.class_names)}",
        )

    def doubts(self) -> list[str]:
        """Return how the scans differ from those of the pretraining run, what is left out, what cannot be learned."""
        return [
            *scan_doubts(self.settings, self.entries),
            *refused_lines(self._store, self.settings.data),
            *unseen_lines(self.unseen),
        ]

    def record(self, run: Run) -> None:
        """Write how the input is normalised."""
        record_input(run, self.entries)

    def card(self, start: str) -> Card:
        """Return the card of the network."""
        return scan_card(
            self.settings, self._store, self.entries, self.method.encoder, window=self.window,
            method=describe_segmenter(self.method, self._store.classes, start=start, unseen=self.unseen),
        )  # fmt: skip

    def exported_modules(self) -> Mapping[str, nn.Module]:
        """Return what is kept beside the encoder."""
        return {"network": self.method.network}

    def finish(self, out: Path, run: Run, fabric: Fabric) -> Segmented:
        """Write the label maps, the ranks sharing the scans, and score the held-out scans on the first."""
        predictions = self._predict(out, fabric)
        scores = self._score(run, fabric) if run.writes else None
        return Segmented(predictions, out / "predictions" if predictions else None, scores)

    def _predict(self, out: Path, fabric: Fabric) -> tuple[Path, ...]:
        method, scans, settings = self.method, self.scans, self.settings
        if scans.predict is None:
            if settings.data.predict and fabric.is_global_zero:
                console.warn(f"no scan is in the splits {list(settings.data.predict)}, so no label map was written")
            return ()
        rank, world = fabric.global_rank, fabric.world_size
        mine = scans.predict.subset([e.id for e in scans.predict.entries[rank::world]])
        with console.progress(len(mine), "scans segmented") as bar, fabric.autocast():
            predictions = predict_store(
                method.network,
                method.output,
                mine,
                out / "predictions",
                window=settings.segmentation.window,
                settings=settings.inference,
                device=fabric.device,
                listing="predictions.json" if rank == 0 else f"predictions-{rank}.json",
                progress=lambda prediction: bar.advance(note=prediction.id),
            )
        return tuple(prediction.path for prediction in predictions)

    def _score(self, run: Run, fabric: Fabric) -> dict[str, float] | None:
        """Say the Dice on whole held-out scans, and keep it in validation.json."""
        method, scans, settings = self.method, self.scans, self.settings
        if scans.held_out is None:
            return None
        with console.progress(len(scans.held_out), "held-out scans scored") as bar, fabric.autocast():
            dice = dice_of_store(
                method,
                scans.held_out,
                settings.inference,
                device=fabric.device,
                progress=lambda scan: bar.advance(note=scan),
            )
        content = {"split": settings.data.held_out_split, "scans": len(scans.held_out), "dice": known_scores(dice)}
        run.write_text("validation.json", json.dumps(content, indent=1) + "\n")
        rows = [[name, "-" if math.isnan(value) else f"{value:.3f}"] for name, value in dice.items()]
        found = [value for value in dice.values() if not math.isnan(value)]
        rows.append(["mean", f"{sum(found) / len(found):.3f}" if found else "-"])
        console.table(
            f"Dice on {len(scans.held_out)} held-out scans, on the store's grid",
            ["Structure", "Dice"],
            rows,
            key="held_out",
        )
        return dice


def known_scores(scores: Mapping[str, float] | None) -> dict[str, float | None] | None:
    """Return scores as JSON has them: null where one is not defined."""
    return None if scores is None else {name: None if math.isnan(value) else value for name, value in scores.items()}


def _carry_decoder(settings: FinetuneSettings, task: SegmentationTask, channels: Sequence[str]) -> list[TransferReport]:
    """Carry the decoder over too, as far as it fits, where the pretraining run kept one."""
    chosen = settings.transfer
    if not chosen.run or chosen.from_scratch or not chosen.decoder:
        return []
    folder = Path(chosen.run)
    kept = load_card(folder).weights
    fresh: set[str] = set()
    if "decoder.safetensors" in kept:
        weights = load_weights(folder, "decoder")
        # its last layers draw images: four channels are as many outputs as four classes, and mean something else
        fresh = {name for name in weights if name.startswith("seg_layers.")}
    elif "network.safetensors" in kept:
        network = load_weights(folder, "network")
        weights = {k.removeprefix("decoder."): v for k, v in network.items() if k.startswith("decoder.")}
    else:
        return []
    if not weights:
        return []  # the network of another task
    # its head is of other classes, and its width may differ: whatever fits is gain
    adapted = channel_transfer(chosen, channels)
    return [
        carry_over(
            weights, task.decoder, source=chosen.run, part="decoder", minimum_share=0.0, channels=adapted, fresh=fresh
        )
    ]
