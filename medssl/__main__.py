"""``python -m medssl VERB ...``: the command line, where the program itself is not on the path."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts the working folder first; a folder of the user's called pipelines must not hide ours.
    if Path(sys.path[0]).resolve() != Path(__file__).resolve().parents[1]:
        del sys.path[0]
    importlib.import_module("pipelines.cli").main()
