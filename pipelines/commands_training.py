"""The commands that train and judge: import, pretrain, finetune, evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from medssl.workflows.protocols import PROTOCOLS
from pipelines.completion import methods, presets_of, protocols, sources
from pipelines.declared import COMMON, Given, command
from pipelines.options import Out, with_overrides

__all__ = ["COMMANDS"]

_PANEL = "Train and judge"

Devices = Annotated[
    str | None, typer.Option("--devices", metavar="N|auto", help="Number of processes on this machine, one per GPU.")
]

Finish = Annotated[
    bool, typer.Option("--finish", help="End the run in --out at the step that it reached, so that you can use it.")
]


def _of_import(given: Given) -> tuple[Sequence[Any], Given]:
    return (given.pop("weights"),), given


@command("import", panel=_PANEL, shared=("overwrite", "dry_run"), ready=_of_import)
def _import(
    weights: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="The file of weights, or its folder with the plans.")
    ],
    out: Out,
    named: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="The kind of weights, if the file does not show it. To list the kinds: medssl list weights.",
            autocompletion=sources,
        ),
    ] = None,
) -> None:
    """Convert published weights to a run that you can use with every other verb. Executes nothing from the file.

    For example:

      medssl import VoCo_B_SSL_head.pt --out runs/voco-b

      medssl import nnUNet_results/Dataset007_Pancreas/nnUNetTrainer__nnUNetPlans__3d_fullres --out runs/pancreas

      medssl import my_swin.pt --as monai-swinunetr --out runs/swin
    """


@command(
    "pretrain",
    panel=_PANEL,
    shared=("overrides", "resume", "overwrite", "dry_run"),
    ready=lambda given: ((), with_overrides(given, "preset")),
)
def _pretrain(
    out: Out,
    preset: Annotated[
        str | None,
        typer.Argument(
            help="A preset, a YAML file or a method. To list presets: medssl list presets.",
            autocompletion=presets_of("pretrain"),
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The store that cache wrote.")] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="A method, if you give no preset.", autocompletion=methods)
    ] = None,
    devices: Devices = None,
    init_from: Annotated[Path | None, typer.Option("--init-from", help="Start from the weights of this run.")] = None,
    finish: Finish = False,
) -> None:
    """Pretrain an encoder on unlabelled scans. Ctrl-C saves a checkpoint; --resume continues from it.

    For example:

      medssl pretrain global_contrast_small --data stores/ct --out runs/ct

      medssl pretrain voco --data stores/ct --out runs/ct train.steps=50000 train.lr=1e-4

      medssl pretrain --out runs/ct --resume

      torchrun --nproc-per-node 4 -m medssl pretrain voco --data stores/ct --out runs/ct
    """


@command(
    "finetune",
    panel=_PANEL,
    shared=(*COMMON, "resume", "overwrite"),
    ready=lambda given: ((), with_overrides(given, "encoder_run")),
)
def _finetune(
    out: Out,
    encoder_run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A pretraining run. Without it, training is from scratch.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The store that cache wrote, with labels.")] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="segmentation|classification", help="The task. Default: read from the labels."),
    ] = None,
    from_scratch: Annotated[
        bool,
        typer.Option("--from-scratch", help="Use RUN's architecture and recipe without its weights, to compare."),
    ] = False,
    labels: Annotated[
        int | None,
        typer.Option("--labels", metavar="N", help="Use the labels of N patients. Default: all patients."),
    ] = None,
    draw: Annotated[
        int | None,
        typer.Option(
            "--draw", help="Number of the random draw of N patients. A larger N adds patients to the same draw."
        ),
    ] = None,
    predict: Annotated[
        list[str] | None,
        typer.Option("--predict", metavar="SPLIT", help="A split to predict. Repeatable. Default: test."),
    ] = None,
    devices: Devices = None,
    finish: Finish = False,
) -> None:
    """Train a segmenter or classifier on labelled scans, pretrained or from scratch, then predict the test scans.

    For example:

      medssl finetune runs/ct --data stores/ct --out runs/ct-seg --labels 4

      medssl finetune runs/ct --data stores/ct --out runs/ct-scratch --labels 4 --from-scratch

      medssl finetune runs/mr --data stores/mr --task classification classification.target=diagnosis --out runs/mr-dx
    """


@command("evaluate", panel=_PANEL, shared=(*COMMON, "workers"))
def _evaluate(
    run: Annotated[Path, typer.Argument(help="A fine-tuning run, or a folder of predicted label maps.")],
    data: Annotated[
        Path, typer.Option("--data", help="The true labels: a store, a manifest, or a folder of label maps.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The output folder. Default: the run's folder.")
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", help="A run to compare with. Repeatable. With --protocol probe also 'random'."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="|".join(PROTOCOLS),
            help="Run one of these evaluation protocols.",
            autocompletion=protocols,
        ),
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/K", help="With --protocol few-label: do part I of K.")
    ] = None,
) -> None:
    """Score predictions with intervals (overlap, surface distances), and compare runs with a paired test.

    For example:

      medssl evaluate runs/ct-seg --data stores/ct --against runs/ct-scratch

      medssl evaluate runs/ct --data stores/ct --protocol few-label --out runs/few-label

      medssl evaluate runs/shapes --data stores/shapes --protocol probe --against random

      medssl evaluate runs/mr --data stores/mr --protocol probe probe.scans.target=diagnosis --out runs/probe
    """


COMMANDS = (_import, _pretrain, _finetune, _evaluate)
