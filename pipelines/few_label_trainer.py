"""Fine-tuning the cells of a few-label comparison through ``finetune``: the same recipe and budget for every arm."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from medssl.engine.card import load_card
from medssl.errors import ConfigError
from medssl.settings import flatten, resolve
from medssl.store.normalised import normalised_as
from medssl.store.read import Store
from medssl.tasks.inference import label_values, probabilities_of
from pipelines import console
from pipelines.arms import architecture_of, shared_window
from pipelines.finetune import finetune
from pipelines.finetune_settings import FinetuneSettings

if TYPE_CHECKING:
    from medssl.evaluation.overlap import LabelMap

__all__ = ["CellTrainer", "overrides_of"]

# Set by the protocol, so that every arm has them alike.
_RESERVED = ("transfer.run", "transfer.from_scratch", "train.seed", "data.")
# What the scores of a cell do not hang on, or what the protocol sets.
_NO_PART_OF_IT: Any = {"data": True, "transfer": {"run", "from_scratch"}, "task": True, "classification": True}


class CellTrainer:
    """Fine-tunes one cell and predicts with it; what a run folder holds is dropped once it is scored.

    Every arm trains for the same number of steps and is scored with its last weights: no validation scans are used, so
    none are spent beyond the n that are counted.

    Args:
        store: The store, with the classes of its labels.
        runs: The pretraining runs; they share one architecture, and one window where the recipe sets none. Scratch
            takes those of the first.
        preset: Preset or settings file of finetune; None for its defaults.
        settings: Settings of finetune above the preset, nested or dotted.

    Raises:
        ConfigError: If the runs differ, a setting is wrong, or one is set that the protocol sets.
        CheckpointError: If a run has not ended.
    """

    def __init__(
        self,
        store: Store,
        runs: Sequence[Path],
        *,
        preset: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._store, self._runs, self._preset = store, runs, preset
        self._overrides = overrides_of(settings or {})
        chosen = resolve(FinetuneSettings, preset=preset, overrides=self._overrides)
        resolved = chosen.settings
        window = shared_window(runs, chosen, "segmentation")
        self._inference = resolved.inference
        wanted = resolved.train.accelerator
        self._device = "cuda" if wanted in ("auto", "cuda") and torch.cuda.is_available() else "cpu"
        recipe = resolved.model_dump(mode="json", exclude=_NO_PART_OF_IT)
        self.recipe: Mapping[str, Any] = {
            **recipe,
            "encoder": architecture_of(load_card(runs[0])),
            "card_window": window,
        }

    def __call__(
        self, *, train: Store, start: Path | None, seed: int, folder: Path
    ) -> tuple[Callable[[Store, int], LabelMap], Callable[[], None]]:
        """Fine-tune on the labelled scans of ``train``; a run that was killed goes on from its checkpoint.

        Args:
            train: The labelled scans.
            start: The pretraining run, None for scratch.
            seed: Seed of the fine-tuning run.
            folder: Where the run keeps its checkpoints meanwhile.

        Returns:
            A function that predicts scan ``index`` of a store as label values on its source's grid, (z, y, x); and one
            that drops the run's folder.
        """
        # finetune speaks to its user at length; here hundreds of runs stand behind one progress bar
        with console.speaking(console.Manner(quiet=True)), redirect_stdout(io.StringIO()):
            result = finetune(
                start or self._runs[0],
                data=self._store.folder,
                out=folder,
                preset=self._preset,
                overrides=[*self._overrides, f"train.seed={seed}", "data.held_out_scans=0"],
                from_scratch=start is None,
                ids=[entry.id for entry in train.entries],
                predict=[],
                resume=(folder / "run.yaml").exists(),
            )
        task = result.segmenter()
        network = task.network.to(self._device).eval()
        output, window = task.output, task.settings.window
        inputs = load_card(folder).inputs_known

        def predict(store: Store, index: int) -> LabelMap:
            entry = store.entries[index]
            store, index = normalised_as(store.subset([entry.id]), inputs), 0
            found = probabilities_of(network, store, index, window, self._inference, device=self._device, output=output)
            return label_values(output, found, entry)

        return predict, lambda: shutil.rmtree(folder, ignore_errors=True)


def overrides_of(settings: Mapping[str, Any]) -> list[str]:
    """Return settings of finetune as ``key=value``.

    Raises:
        ConfigError: If one is set that the protocol sets.

    Example:
        >>> overrides_of({"train": {"steps": 600}})
        ['train.steps=600']
    """
    flat = flatten(settings)
    wrong = [key for key in flat if key.startswith(_RESERVED)]
    if wrong:
        raise ConfigError(
            f"few_label.finetune.{wrong[0]}: the protocol sets this itself, the same for every arm. "
            "Draws, seeds and scans are settings of few_label and of the store."
        )
    return [f"{key}={_as_yaml(value)}" for key, value in flat.items()]


def _as_yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return str(yaml.safe_dump(plain, default_flow_style=True, width=10**9)).removesuffix("...\n").strip()
