"""The verbs by name: which module serves each, and which settings class a preset of it must fit."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medssl.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from medssl.settings import Settings

__all__ = ["VERBS", "Verb", "function_of", "settings_of", "verb_named"]


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One verb of the command line.

    Attributes:
        module: Dotted path of its module.
        function: The function in it.
        settings: The settings class, "" where the verb takes no settings: its name in that module, or a dotted path
            where it lies in one that imports less, so that a verb is shown without what it works with.
        summary: What it does, in one line.
    """

    module: str
    function: str
    settings: str = ""
    summary: str


VERBS: dict[str, Verb] = {
    "fetch": Verb(
        module="pipelines.fetch",
        function="fetch",
        settings="FetchSettings",
        summary="Bring a public data set by its card.",
    ),
    "index": Verb(
        module="pipelines.index",
        function="index",
        settings="IndexSettings",
        summary="Describe every scan of a folder in a manifest, one row a scan.",
    ),
    "check": Verb(
        module="pipelines.check",
        function="check",
        settings="CheckSettings",
        summary="Look for damage, copies, leaks, odd geometry and bad labels.",
    ),
    "reduce": Verb(
        module="pipelines.reduce",
        function="reduce",
        settings="pipelines.reduce_settings.ReduceSettings",
        summary="Mark copies, and choose which scans to train on.",
    ),
    "check-split": Verb(
        module="pipelines.check_split",
        function="check_split",
        settings="CheckSplitSettings",
        summary="See whether train and test share a patient or an image.",
    ),
    "query": Verb(
        module="pipelines.query",
        function="query",
        settings="QuerySettings",
        summary="Ask whether a scan, or a copy of it, is in an index.",
    ),
    "cache": Verb(
        module="pipelines.cache",
        function="cache",
        settings="CacheSettings",
        summary="Write the scans of a manifest as a store that is read by windows.",
    ),
    "pretrain": Verb(
        module="pipelines.pretrain",
        function="pretrain",
        settings="pipelines.pretrain_settings.PretrainSettings",
        summary="Pretrain an encoder on unlabelled scans.",
    ),
    "finetune": Verb(
        module="pipelines.finetune",
        function="finetune",
        settings="pipelines.finetune_settings.FinetuneSettings",
        summary="Train a segmenter or classifier on labelled scans, pretrained or from scratch.",
    ),
    "evaluate": Verb(
        module="pipelines.evaluate",
        function="evaluate",
        settings="pipelines.evaluate_settings.EvaluateSettings",
        summary="Score predictions with intervals, and test them against other runs.",
    ),
    "predict": Verb(
        module="pipelines.predict",
        function="predict",
        settings="PredictSettings",
        summary="Run a fine-tuned run on new scans or clouds: masks, classes or parts.",
    ),
    "report": Verb(
        module="pipelines.report",
        function="report",
        settings="ReportSettings",
        summary="Write one page on runs and their scores that needs no network.",
    ),
    "export": Verb(
        module="pipelines.export",
        function="export",
        settings="ExportSettings",
        summary="Write a run's network as ONNX, a MONAI bundle, nnU-Net weights or safetensors.",
    ),
    "embed": Verb(
        module="pipelines.embed",
        function="embed",
        settings="EmbedSettings",
        summary="Write one vector for every scan of a store.",
    ),
    "auto": Verb(
        module="pipelines.auto",
        function="auto",
        settings="pipelines.auto_settings.AutoSettings",
        summary="Take a folder of scans the whole way, with defaults that are explained.",
    ),
    "demo": Verb(
        module="pipelines.demo",
        function="demo",
        settings="DemoSettings",
        summary="Show the whole chain in minutes, on made-up patients or on real data.",
    ),
    "list": Verb(
        module="pipelines.list_things",
        function="list_things",
        summary="List presets, methods, encoders, data sets, formats or verbs.",
    ),
    "show": Verb(
        module="pipelines.show",
        function="show",
        summary="Show a preset, a method, an encoder, a data card, or every setting of a verb.",
    ),
    "validate": Verb(
        module="pipelines.validate",
        function="validate",
        summary="Check a settings file, and print what it resolves to.",
    ),
    "copy": Verb(
        module="pipelines.copy_preset",
        function="copy_preset",
        summary="Copy a preset to a file of your own, to change.",
    ),
    "doctor": Verb(
        module="pipelines.doctor",
        function="doctor",
        summary="Check this machine: versions, GPU, disk, system libraries, reading speed.",
    ),
}


def verb_named(name: str) -> Verb:
    """Return the row of a verb.

    Raises:
        ConfigError: There is no such verb.
    """
    if name not in VERBS:
        raise ConfigError(f"There is no verb '{name}'. {did_you_mean(name, VERBS)}")
    return VERBS[name]


def function_of(name: str) -> Callable[..., Any]:
    """Return the function that serves a verb, importing its module.

    Raises:
        ConfigError: There is no such verb.
    """
    verb = verb_named(name)
    found: Callable[..., Any] = getattr(importlib.import_module(verb.module), verb.function)
    return found


def settings_of(name: str) -> type[Settings] | None:
    """Return the settings class of a verb, importing its module; None for a verb without settings.

    Raises:
        ConfigError: There is no such verb.
    """
    verb = verb_named(name)
    if not verb.settings:
        return None
    module, _, cls = verb.settings.rpartition(".")
    found: type[Settings] = getattr(importlib.import_module(module or verb.module), cls)
    return found
