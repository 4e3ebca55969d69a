"""Links between docs/ and the pages of the root lead to the copies of those pages in the site."""

from __future__ import annotations

import re
from typing import Any

_ROOT_PAGES = {"SECURITY.md": "security.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the text of a page whose links to ``../SECURITY.md``, from the root ``docs/start.md``, are the site's."""
    up = r"\.\./"
    if page.file.src_uri in _ROOT_PAGES.values():
        markdown, up = markdown.replace("](docs/", "]("), ""
    return re.sub(rf"\]\({up}(\w+\.md)", lambda found: f"]({_ROOT_PAGES.get(found[1], found[0][2:])}", markdown)
