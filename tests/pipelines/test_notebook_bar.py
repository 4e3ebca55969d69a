"""Progress in a notebook: one output that is drawn anew, with no widgets installed."""

from __future__ import annotations

import sys
import time
import types
import warnings

import pytest
from rich.console import Console

from medssl.workflows.events import Log
from medssl.workflows.progress import counted


class Handle:
    """What IPython's `display` returns: it takes another state of what it shows."""

    def __init__(self, shown: list[str]) -> None:
        self.shown = shown

    def update(self, what: object) -> None:
        self.shown.append(what._repr_html_())  # type: ignore[attr-defined]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stand-in for a kernel: what was displayed, in order; ipywidgets cannot be imported."""
    found: list[str] = []

    def display(what: object, *, display_id: bool) -> Handle:
        assert display_id
        handle = Handle(found)
        handle.update(what)
        return handle

    class ZMQInteractiveShell:
        pass

    module = types.ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    kernel = types.ModuleType("IPython")
    kernel.get_ipython = ZMQInteractiveShell  # type: ignore[attr-defined]
    kernel.display = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    return found


def test_a_bar_without_widgets(shown: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with counted(40, "scans read", say=print, screen=Console(force_jupyter=True)) as bar:
            bar.advance(note="<b>&")
            bar.advance(39)
    assert shown[0] == '<progress value="1" max="40"></progress> scans read 1/40 | &lt;b&gt;&amp;'
    assert shown[-1] == '<progress value="40" max="40"></progress> scans read 40/40 | &lt;b&gt;&amp;'


def test_it_is_drawn_now_and_then(shown: list[str]) -> None:
    with counted(None, "scans read", say=print, screen=Console(force_jupyter=True)) as bar:
        for _ in range(5_000):
            bar.advance()
        assert len(shown) < 20
        time.sleep(0.3)
        bar.advance()
        assert shown[-1] == "<progress></progress> scans read 5,001"


def test_an_error_leaves_the_last_state(shown: list[str]) -> None:
    def broken() -> None:
        with counted(9, "scans read", say=print, screen=Console(force_jupyter=True)) as bar:
            bar.reach(3)
            bar.reach(4)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert "4/9" in shown[-1]


def test_a_kernel_is_known(shown: list[str]) -> None:
    screen = Log().screen()
    assert screen is not None
    assert not shown
