"""Links that leave docs/ in the repository lead to the copies of those pages in the site."""

from __future__ import annotations

import re
from typing import Any

_ROOT_PAGES = {"SECURITY.md": "security.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the text of a page with ``../SECURITY.md`` and its like as pages of the site."""
    return re.sub(r"\]\(\.\./(\w+\.md)", lambda found: f"]({_ROOT_PAGES.get(found[1], found[0][2:])}", markdown)
