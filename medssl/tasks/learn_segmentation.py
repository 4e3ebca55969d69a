"""Fine-tuning for segmentation: labelled windows, a decoder that may be carried over, and label maps at the end."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from medssl.domains.learning import Finished, Learning, Told
from medssl.encoders.contract import Encoder
from medssl.engine.card import load_card, load_weights
from medssl.engine.carrying import channel_transfer
from medssl.engine.run import Run
from medssl.engine.transfer import TransferReport, carry_over
from medssl.evaluation.metrics import known_scores
from medssl.tasks.inference import dice_of_store, predict_store
from medssl.tasks.segmentation import SegmentationTask
from medssl.tasks.segmenter import describe_segmenter
from medssl.tasks.unseen import refused_lines, unseen_lines, unseen_structures

__all__ = ["SegmentationLearning"]


class SegmentationLearning(Learning):
    """One segmentation run."""

    every_held_out = False
    verb = "segment"
    method: SegmentationTask

    def network(self, encoder: Encoder) -> SegmentationTask:
        """Return the segmenter."""
        task = SegmentationTask(self.settings.segmentation, encoder, self.store.classes, self.store.regions)
        self.unseen = unseen_structures(self.items.train, task)
        return task

    def carried(self) -> list[TransferReport]:
        """Carry the decoder over."""
        return _carry_decoder(self.settings, self.method, self.store.channels)

    def counted(self, patients: int) -> str:
        """Return how many labelled scans are trained on."""
        return f"{len(self.entries)} labelled scans of {patients} patients"

    @property
    def words(self) -> str:
        """A segmenter."""
        return "segmenter"

    @property
    def built(self) -> str:
        """Its decoder."""
        return " and U-Net decoder"

    @property
    def learned(self) -> str:
        """Structures or regions."""
        what = "regions, which may overlap" if self.method.regions else "structures"
        return f"; {what}: {', '.join(self.method.class_names)}"

    def doubts(self) -> list[str]:
        """Return how the scans differ from those of the pretraining run, what is left out, what cannot be learned."""
        return [*super().doubts(), *refused_lines(self.store, self.settings.data), *unseen_lines(self.unseen)]

    def described(self, start: str) -> dict[str, Any]:
        """Return classes, regions and settings."""
        return describe_segmenter(self.method, self.store.classes, start=start, unseen=self.unseen)

    def finish(self, out: Path, run: Run, fabric: Fabric, told: Told) -> Finished:
        """Write the label maps, the ranks sharing the scans, and score the held-out scans on the first."""
        predictions = self._predict(out, fabric, told)
        scores = self._score(run, fabric, told) if run.writes else None
        return Finished(predictions, out / "predictions" if predictions else None, scores, named="dice")

    def _predict(self, out: Path, fabric: Fabric, told: Told) -> tuple[Path, ...]:
        method, scans, settings = self.method, self.items, self.settings
        if scans.predict is None:
            if settings.data.predict and fabric.is_global_zero:
                told.warning(f"no scan is in the splits {list(settings.data.predict)}, so no label map was written")
            return ()
        rank, world = fabric.global_rank, fabric.world_size
        mine = scans.predict.subset([e.id for e in scans.predict.entries[rank::world]])
        with told.progress(len(mine), "scans segmented") as bar, fabric.autocast():
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

    def _score(self, run: Run, fabric: Fabric, told: Told) -> dict[str, float] | None:
        """Say the Dice on whole held-out scans, and keep it in validation.json."""
        method, scans, settings = self.method, self.items, self.settings
        if scans.held_out is None:
            return None
        with told.progress(len(scans.held_out), "held-out scans scored") as bar, fabric.autocast():
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
        told.table(
            f"Dice on {len(scans.held_out)} held-out scans, on the store's grid",
            ["Structure", "Dice"],
            rows,
            key="held_out",
        )
        return dice


def _carry_decoder(settings: Any, task: SegmentationTask, channels: Sequence[str]) -> list[TransferReport]:
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
