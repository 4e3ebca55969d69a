import json
import zipfile

import pytest
import torch
from torch import nn

from medssl.engine.checkpoint import checkpoints_of, load_checkpoint, load_latest, save_checkpoint, save_tensors
from medssl.errors import CheckpointError


def save(folder, step, keep_last=3, value=1.0):
    network = nn.Linear(3, 2)
    nn.init.constant_(network.weight, value)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return save_checkpoint(
        folder,
        step=step,
        model=network.state_dict(),
        optimizer=optimizer.state_dict(),
        state={"seed": 5},
        keep_last=keep_last,
    ), network, optimizer  # fmt: skip


def test_what_is_saved_is_what_is_loaded(tmp_path):
    path, network, optimizer = save(tmp_path, 7)
    assert path.name == "step-0000007"
    loaded = load_checkpoint(path)
    assert loaded.step == 7
    assert loaded.state["seed"] == 5
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.model[name], tensor)
    for key, slots in optimizer.state_dict()["state"].items():
        assert torch.equal(loaded.optimizer["state"][key]["exp_avg"], slots["exp_avg"])


def test_only_the_newest_are_kept_and_nothing_half_written_stays(tmp_path):
    (tmp_path / ".step-0000001.99").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    for step in (2, 4, 10_000_000, 6):
        save(tmp_path, step, keep_last=2)
    assert [path.name for path in checkpoints_of(tmp_path)] == ["step-10000000", "step-0000006"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "step-0000006", "step-10000000"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "state.json"])
@pytest.mark.parametrize("damage", ["missing", "short", "flipped", "empty"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, name, damage):
    save(tmp_path, 1, value=1.0)
    path, *_ = save(tmp_path, 2, value=2.0)
    target = path / name
    content = bytearray(target.read_bytes())
    if damage == "missing":
        target.unlink()
    elif damage == "short":
        target.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        target.write_bytes(b"")
    else:
        middle = content.index(b'"step"') + 2 if name == "state.json" else len(content) // 2
        content[middle] ^= 0xFF
        target.write_bytes(content)
    with pytest.raises(CheckpointError, match="step-0000002"):
        load_checkpoint(path)
    told = []
    assert load_latest(tmp_path, warn=told.append).step == 1
    assert len(told) == 1
    assert "step-0000002" in told[0]


def test_a_damaged_checkpoint_is_moved_aside_when_its_step_is_reached_again(tmp_path):
    path, *_ = save(tmp_path, 2)
    (path / "optimizer.pt").write_bytes(b"")
    save(tmp_path, 2)
    assert load_latest(tmp_path).step == 2
    assert (tmp_path / "step-0000002.damaged").is_dir()


def test_no_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint.*--overwrite"):
        load_latest(tmp_path / "absent")


def test_an_optimizer_file_that_would_run_code_is_refused(tmp_path):
    path, *_ = save(tmp_path, 3)

    class Harm:
        def __reduce__(self):
            return (print, ("harm",))

    torch.save({"state": Harm()}, path / "optimizer.pt")
    assert zipfile.is_zipfile(path / "optimizer.pt")
    state = json.loads((path / "state.json").read_text())
    import hashlib

    state["sha256"]["optimizer.pt"] = hashlib.sha256((path / "optimizer.pt").read_bytes()).hexdigest()
    (path / "state.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_tied_and_strided_tensors_are_written(tmp_path):
    from safetensors.torch import load_file

    tied = torch.arange(12.0).reshape(3, 4)
    layout = torch.randn(2, 3, 4, 5, 6).contiguous(memory_format=torch.channels_last_3d)
    state = {"a": tied, "b": tied, "part": tied[1], "turned": tied.T, "layout": layout, "count": torch.tensor(3)}
    save_tensors(state, tmp_path / "w.safetensors")
    loaded = load_file(tmp_path / "w.safetensors")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
