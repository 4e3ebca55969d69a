"""Self-supervised pretraining for CT, MRI and point clouds, from a folder of scans to a trusted few-label model.

The verbs of the command line are functions here: ``medssl.index``, ``medssl.pretrain`` and so on. Importing this
package imports none of them (PEP 562), so it is quick. From Python they print nothing unless `set_verbosity` asks.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

__version__ = "0.2.0"

# Where the functions are: verbs in `medssl.workflows`, chains of them in `medssl.chains`.
_WORKFLOWS = (
    "cache",
    "check",
    "check_split",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "fetch",
    "finetune",
    "import_weights",
    "index",
    "load",
    "load_model",
    "match",
    "predict",
    "pretrain",
    "query",
    "reduce",
    "report",
)
_CHAINS = ("auto", "demo")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
__all__ = ["__version__", "set_verbosity", *_WORKFLOWS, *_CHAINS]


def set_verbosity(level: str) -> None:
    """Print the messages of verbs, from this level on, to standard error.

    Before that, messages only go to the logger ``medssl``, of which Python prints warnings and errors.

    Args:
        level: "debug", "info", "warning" or "error".

    Raises:
        ValueError: The level is none of these.
    """
    if level not in _LEVELS:
        raise ValueError(f"There is no verbosity '{level}'. Allowed: {', '.join(_LEVELS)}.")
    logger = logging.getLogger(__name__)
    logger.setLevel(_LEVELS[level])
    if not any(getattr(handler, "of_medssl", False) for handler in logger.handlers):
        handler = logging.StreamHandler()
        handler.of_medssl = True  # type: ignore[attr-defined]
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False  # a handler of the root's would print each line again


def __getattr__(name: str) -> Any:
    if name in _WORKFLOWS:
        return getattr(importlib.import_module(f"medssl.workflows.{name}"), name)
    if name in _CHAINS:
        return getattr(importlib.import_module(f"medssl.chains.{name}"), name)
    raise AttributeError(f"module 'medssl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
