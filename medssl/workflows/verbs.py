"""The verbs by name: which function serves each, and which settings class a preset of it must fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medssl.table import Row, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from medssl.settings import Settings

__all__ = ["VERBS", "Verb", "function_of", "settings_of"]


@dataclass(frozen=True, kw_only=True)
class Verb(Row):
    """One verb of the command line; ``target`` is its function.

    Attributes:
        summary: What it does, in one line.
    """

    summary: str


VERBS = Table(
    "verb",
    (
        Verb(
            name="fetch",
            target="medssl.workflows.fetch.fetch",
            settings="medssl.workflows.fetch.FetchSettings",
            summary="Download a public data set, after showing its licence.",
        ),
        Verb(
            name="index",
            target="medssl.workflows.index.index",
            settings="medssl.workflows.index.IndexSettings",
            summary="List every scan of a folder in a manifest, one row per scan.",
        ),
        Verb(
            name="check",
            target="medssl.workflows.check.check",
            settings="medssl.workflows.check.CheckSettings",
            summary="Check scans for damage, copies, leaks, odd geometry and bad labels.",
        ),
        Verb(
            name="reduce",
            target="medssl.workflows.reduce.reduce",
            settings="medssl.workflows.reduce_settings.ReduceSettings",
            summary="Mark copies, and choose which scans to train on.",
        ),
        Verb(
            name="check-split",
            target="medssl.workflows.check_split.check_split",
            settings="medssl.workflows.check_split.CheckSplitSettings",
            summary="Check whether train and test share a patient or an image.",
        ),
        Verb(
            name="query",
            target="medssl.workflows.query.query",
            settings="medssl.workflows.query.QuerySettings",
            summary="Check whether a scan, or a copy of it, is already among your scans.",
        ),
        Verb(
            name="cache",
            target="medssl.workflows.cache.cache",
            settings="medssl.workflows.cache.CacheSettings",
            summary="Convert the scans of a manifest to a store, which training reads in windows.",
        ),
        Verb(
            name="import",
            target="medssl.workflows.import_weights.import_weights",
            summary="Convert published weights to a run that every other verb accepts.",
        ),
        Verb(
            name="pretrain",
            target="medssl.workflows.pretrain.pretrain",
            settings="medssl.workflows.pretrain_settings.PretrainSettings",
            summary="Pretrain an encoder on unlabelled scans.",
        ),
        Verb(
            name="finetune",
            target="medssl.workflows.finetune.finetune",
            settings="medssl.workflows.finetune_settings.FinetuneSettings",
            summary="Train a segmenter or classifier on labelled scans, pretrained or from scratch.",
        ),
        Verb(
            name="evaluate",
            target="medssl.workflows.evaluate.evaluate",
            settings="medssl.workflows.evaluate_settings.EvaluateSettings",
            summary="Score predictions with intervals, and compare runs with a paired test.",
        ),
        Verb(
            name="predict",
            target="medssl.workflows.predict.predict",
            settings="medssl.workflows.predict_settings.PredictSettings",
            summary="Predict masks, classes or parts of new scans or clouds with a fine-tuned run.",
        ),
        Verb(
            name="report",
            target="medssl.workflows.report.report",
            settings="medssl.workflows.report.ReportSettings",
            summary="Write one HTML page about runs and their scores. It works offline.",
        ),
        Verb(
            name="export",
            target="medssl.workflows.export.export",
            settings="medssl.workflows.export.ExportSettings",
            summary="Export a run's network as ONNX, a MONAI bundle, nnU-Net weights or safetensors.",
        ),
        Verb(
            name="embed",
            target="medssl.workflows.embed.embed",
            settings="medssl.workflows.embed_settings.EmbedSettings",
            summary="Write one feature vector for every scan of a store.",
        ),
        Verb(
            name="match",
            target="medssl.workflows.match.match",
            settings="medssl.workflows.match_settings.MatchSettings",
            summary="Find a place of one scan in other scans, by frozen features.",
        ),
        Verb(
            name="auto",
            target="medssl.chains.auto.auto",
            settings="medssl.chains.auto_settings.AutoSettings",
            summary="Run every step on a folder of scans, and explain each choice.",
        ),
        Verb(
            name="demo",
            target="medssl.chains.demo.demo",
            settings="medssl.chains.demo.DemoSettings",
            summary="Run every step on synthetic patients, or on real data, in minutes.",
        ),
        Verb(
            name="list",
            target="medssl.workflows.list_things.list_things",
            summary="List presets, methods, parts, encoders, data sets, published weights, formats, trackers or verbs.",
        ),
        Verb(
            name="show",
            target="medssl.workflows.show.show",
            summary="Describe a preset, method, encoder, data set, published weights, or every setting of a verb.",
        ),
        Verb(
            name="validate",
            target="medssl.workflows.validate.validate",
            summary="Check a settings file, and print every resolved setting.",
        ),
        Verb(
            name="copy",
            target="medssl.workflows.copy_preset.copy_preset",
            summary="Copy a preset to a file that you can edit.",
        ),
        Verb(
            name="doctor",
            target="medssl.workflows.doctor.doctor",
            summary="Check this machine: versions, GPU, disk, system libraries, reading speed.",
        ),
    ),
)


def function_of(name: str) -> Callable[..., Any]:
    """Return the function that serves a verb, importing its module.

    Raises:
        ConfigError: There is no such verb.
    """
    found: Callable[..., Any] = VERBS.load(name)
    return found


def settings_of(name: str) -> type[Settings] | None:
    """Return the settings class of a verb, importing its module; None for a verb without settings.

    Raises:
        ConfigError: There is no such verb.
    """
    return VERBS.settings_class(name) if VERBS.row(name).settings else None
