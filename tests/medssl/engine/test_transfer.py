import json

import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.engine.transfer import carry_over
from medssl.errors import TransferError


def encoder(seed=0, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_encoder({"name": "unet", "channels": [4, 8], **settings})


def test_an_equal_encoder_is_carried_over_whole() -> None:
    there, here = encoder(1), encoder(2)
    report = carry_over(there.state_dict(), here, source="runs/a")
    assert report.share == 1.0
    assert {row.status for row in report.rows} == {"matched"}
    for name, tensor in here.state_dict().items():
        assert torch.equal(tensor, there.state_dict()[name])
    assert "100.0 %" in report.table()
    json.dumps(report.as_dict())


def test_what_does_not_fit_is_named_and_the_rest_is_carried_over() -> None:
    there, here = encoder(1).state_dict(), encoder(2)
    before = {name: tensor.clone() for name, tensor in here.state_dict().items()}
    gone = there.pop("stages.0.1.conv.weight")
    there["stages.1.0.conv.weight"] = torch.zeros(8, 4, 1, 1, 1)
    there["head.weight"] = torch.zeros(3)
    report = carry_over(there, here, source="runs/a", minimum_share=0.1)
    assert [row.name for row in report.with_status("missing")] == ["stages.0.1.conv.weight"]
    assert [row.name for row in report.with_status("shape")] == ["stages.1.0.conv.weight"]
    assert [row.name for row in report.with_status("unused")] == ["head.weight"]
    total = sum(t.numel() for t in before.values())
    assert report.share == pytest.approx(1 - (gone.numel() + 8 * 4 * 27) / total)
    state = here.state_dict()
    assert torch.equal(state["stages.0.1.conv.weight"], before["stages.0.1.conv.weight"])
    assert torch.equal(state["stages.0.0.conv.weight"], there["stages.0.0.conv.weight"])
    assert "(8, 4, 1, 1, 1) there, (8, 4, 3, 3, 3) here" in report.table()


def test_too_little_is_an_error_that_changes_nothing() -> None:
    there = {f"backbone.{name}": tensor for name, tensor in encoder(1).state_dict().items()}
    here = encoder(2)
    before = {name: tensor.clone() for name, tensor in here.state_dict().items()}
    with pytest.raises(TransferError, match=r"(?s)runs/a: only 0\.0 %.*stages\.0\.0\.conv\.weight.*backbone"):
        carry_over(there, here, source="runs/a")
    assert all(torch.equal(tensor, before[name]) for name, tensor in here.state_dict().items())


def test_input_channels_are_adapted_only_when_asked() -> None:
    one, three = encoder(1), encoder(2, in_channels=3)
    report = carry_over(one.state_dict(), three, source="runs/a", minimum_share=0.0)
    assert [row.name for row in report.with_status("shape")] == ["stages.0.0.conv.weight"]


def test_what_means_something_else_stays_as_it_was_drawn() -> None:
    there, here = encoder(1), encoder(2)
    name = "stages.0.0.conv.weight"
    before = here.state_dict()[name].clone()
    report = carry_over(there.state_dict(), here, source="runs/a", minimum_share=0.1, fresh={name})
    assert [row.name for row in report.with_status("meaning")] == [name]
    assert torch.equal(here.state_dict()[name], before)
    assert report.share < 1.0
    assert "of another meaning" in report.table()
