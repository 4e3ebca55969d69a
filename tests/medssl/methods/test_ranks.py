"""Two processes train as one: their loss is that of the whole batch, and so is the gradient that they average."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medssl.gathering import gathered, processes

SCRIPT = Path(__file__).with_name("rank_script.py")


def test_a_process_by_itself_keeps_its_rows():
    rows = torch.rand(3, 2)
    assert processes() == 1
    assert gathered(rows) is rows


@pytest.mark.slow
def test_two_processes_have_the_loss_and_gradient_of_the_whole_batch(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import rank_script

    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    started = [subprocess.Popen([*command, str(rank), "2"]) for rank in range(2)]
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    for case in rank_script.CASES:
        whole = rank_script.gradients_of(case, 0, 1)
        for found in (rank[case] for rank in ranks):
            assert found.keys() == whole.keys()
            for name, value in whole.items():
                if name.startswith("queue"):  # the processes' rows come one after the other
                    assert sorted(found[name].tolist()) == sorted(value.tolist()), (case, name)
                else:
                    assert torch.allclose(found[name], value, atol=1e-5, rtol=1e-4), (case, name)
        assert any(name != "loss" and value.abs().max() > 1e-4 for name, value in whole.items()), case
