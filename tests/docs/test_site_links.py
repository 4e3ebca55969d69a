"""Links between docs/ and the pages of the root are those of the site, whichever side they stand on."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

REWRITE = runpy.run_path(str(Path(__file__).parents[2] / "docs/site/links.py"))["on_page_markdown"]


@pytest.mark.parametrize(
    ("page", "text", "there"),
    [
        ("trust.md", "[a](../SECURITY.md) [b](how_to.md)", "[a](security.md) [b](how_to.md)"),
        ("trust.md", "[a](../README.md)", "[a](../README.md)"),  # the site has no page of it
        ("contributing.md", "[a](SECURITY.md#x) [b](docs/methods.md)", "[a](security.md#x) [b](methods.md)"),
        ("contributing.md", "[a](https://example.org/SECURITY.md)", "[a](https://example.org/SECURITY.md)"),
    ],
)
def test_a_link_leads_to_the_page_of_the_site(page, text, there):
    assert REWRITE(text, page=SimpleNamespace(file=SimpleNamespace(src_uri=page))) == there
