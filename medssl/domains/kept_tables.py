"""The tables beside a store by which a run takes its windows: a resumed run goes on with those that it began with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medssl.engine.run import Run
from medssl.errors import CheckpointError, DataError
from medssl.file_sums import sha256_of

__all__ = ["keep_tables"]

_FILE = "tables.json"
_KEYS = ("slices", "phases")  # groups are kept whole, see `medssl.domains.groups`


def keep_tables(run: Run, data: Any, *, resume: bool) -> None:
    """Write what the tables of slices and phases hold, as SHA-256, into a run's folder; resumed, see that it is so.

    Raises:
        CheckpointError: A table was changed since the run began.
        DataError: A table cannot be read.
    """
    now: dict[str, str] = {}
    for key in _KEYS:
        if path := getattr(data, key, ""):
            try:
                now[key] = sha256_of(Path(path))
            except OSError as error:
                raise DataError(f"{path}: data.{key} cannot be read ({error}).") from error
    kept = run.folder / _FILE
    if resume and kept.is_file():
        before = json.loads(kept.read_text(encoding="utf-8"))
        for key, value in now.items():
            if before.get(key, value) != value:
                raise CheckpointError(
                    f"{getattr(data, key)}: data.{key} was changed since the run in {run.folder} began, so that it "
                    "would go on with other windows. Put the file back as it was, or begin a new run."
                )
    if now:
        run.write_text(_FILE, json.dumps(now, indent=1) + "\n")
