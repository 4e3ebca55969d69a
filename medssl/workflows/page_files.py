"""A page and the listing of the same beside it: where `check` and `check-split` write what they found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.writing import atomic_write, file_for, page_for

__all__ = ["PageFiles", "page_files"]


@dataclass(frozen=True)
class PageFiles:
    """Where both go: ``page``, and ``listing``, the JSON of the same name."""

    page: Path
    listing: Path

    def write(self, html: str, listed: Mapping[str, Any]) -> tuple[Path, Path]:
        """Write both, each aside and renamed; return them."""
        listing = json.dumps(listed, indent=1, ensure_ascii=False) + "\n"
        for path, text in ((self.page, html), (self.listing, listing)):
            with atomic_write(path) as aside:
                aside.write_text(text, encoding="utf-8")
        return self.page, self.listing


def page_files(manifest: Path, out: str | Path | None, name: str) -> PageFiles:
    """Return where the page of a manifest goes, asked before it is worked out; nothing is made.

    Args:
        manifest: Its file.
        out: A page, or a folder; None for beside the manifest.
        name: What the page is called where ``out`` is no page.

    Raises:
        ConfigError, DiskError: One of them cannot be written; see `file_for`.
    """
    page = page_for(manifest.with_name(name) if out is None else out, name)
    return PageFiles(page, file_for(page.with_suffix(".json")))
