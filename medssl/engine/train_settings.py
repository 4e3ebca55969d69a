"""What the loop may be told: one frozen settings class."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medssl.settings import Settings

__all__ = ["TrainSettings"]

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class TrainSettings(Settings):
    """How a method is trained.

    Attributes:
        steps: Optimiser steps of the whole run.
        batch_size: Windows a step over all ranks together.
        seed: Names every random number of the run.
        optimiser: "adamw" or "sgd" (Nesterov momentum).
        lr: Peak learning rate.
        encoder_lr_scale: The encoder's learning rate as a multiple of ``lr``; 0 freezes it.
        weight_decay: On weights of two and more dimensions; biases, norms and other vectors have none.
        final_weight_decay: Where it ends, along half a cosine over the whole run; None keeps it as it is.
        betas: AdamW's averaging factors.
        amsgrad: AdamW divides by the largest average of squares so far, not by the last (Reddi et al. 2018).
        momentum: SGD's.
        schedule: "cosine", "poly" (power 0.9), "constant" (each after ``warmup``), or "sawtooth": the rest of the
            network warms up and trains alone, then everything warms up together and decays as "poly".
        warmup: Share of the run over which the learning rate rises from 0; for "sawtooth" the share of each of its
            four equal stages.
        final_lr: Where "cosine" and "poly" end, as a multiple of ``lr``.
        clip: Largest gradient norm; None clips nothing.
        accumulate: Parts into which each rank's batch is cut, one forward and backward after another, to save memory.
            The step is that of the whole batch; but an objective that compares items of a batch then compares within
            a part, and batch norms normalise part by part, which the run says at its start.
        precision: "auto" is bf16-mixed on GPUs that have it, else 32-true. bf16-mixed on a CPU whose convolutions in
            bfloat16 are wrong is refused; `medssl doctor` says whether they are.
        accelerator: "auto", "cpu" or "cuda" (Fabric's names).
        devices: Processes on this machine; "auto" takes every GPU, or one process on a CPU. torchrun decides alone.
        nodes: Machines; torchrun and SLURM decide alone.
        find_unused: Tell DDP that some parameters get no gradient in some steps.
        channels_last: Keep 3D convolutions' weights as channels_last_3d.
        compile: Compile the encoder with torch.compile.
        log_every: Steps between rows of metrics.jsonl; the only steps at which the host reads a tensor back.
        probe_every: Steps between probes of the held-out windows.
        checkpoint_every: Steps between checkpoints.
        keep_last: Checkpoints kept.
        threads: Background threads that read windows.
        trackers: What takes the curves beside metrics.jsonl: any of "tensorboard", "mlflow" and "wandb", into the
            run's folder or to the server that their own environment variables name; [] for none.
        collapse_spread: Warn where the signal "spread" stays below.
        collapse_rank: Warn where the signal "effective_rank" stays below.
        collapse_information: Warn where a teacher over prototypes tells fewer nats of an item.
        starved: Warn where this share of the time is spent waiting for data.
    """

    steps: Positive = 10_000
    batch_size: Positive = 8
    seed: int = 0
    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0.0)] = 2e-4
    encoder_lr_scale: Annotated[float, Field(ge=0.0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    final_weight_decay: Annotated[float, Field(ge=0.0)] | None = None
    betas: tuple[Share, Share] = (0.9, 0.999)
    amsgrad: bool = False
    momentum: Share = 0.99
    schedule: Literal["cosine", "poly", "constant", "sawtooth"] = "cosine"
    warmup: Share = 0.05
    final_lr: Share = 0.0
    clip: Annotated[float, Field(gt=0.0)] | None = 1.0
    accumulate: Positive = 1
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Positive | Literal["auto"] = 1
    nodes: Positive = 1
    find_unused: bool = False
    channels_last: bool = True
    compile: bool = False
    log_every: Positive = 50
    probe_every: Positive = 500
    checkpoint_every: Positive = 1000
    keep_last: Positive = 2
    threads: Positive = 2
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ("tensorboard",)
    collapse_spread: float = 0.05
    collapse_rank: float = 2.0
    collapse_information: float = 0.05
    starved: Share = 0.3

    @model_validator(mode="after")
    def _stages_fit(self) -> TrainSettings:
        if self.schedule == "sawtooth" and 4 * self.warmup >= 1.0:
            raise ValueError(
                f"warmup is {self.warmup}, and 'sawtooth' has four stages of that share before it decays: "
                "it must be below 0.25 (0.025 is usual)"
            )
        if self.final_weight_decay is not None and self.weight_decay == 0.0:
            raise ValueError(
                "final_weight_decay needs a weight_decay above 0 to begin with, which tells what decays at all "
                "(0.04 is usual)"
            )
        return self
