"""One channel to four, four to one, and by name: what the first kernels become, for every encoder of the table."""

from __future__ import annotations

import pytest
import torch

from medssl.decoder import UNetDecoder
from medssl.encoders.contract import Encoder
from medssl.encoders.table import build_encoder
from medssl.engine.channel_transfer import ChannelPolicy, ChannelTransfer
from medssl.engine.transfer import TransferReport, carry_over
from medssl.errors import TransferError
from tests.contracts.test_encoders import SMALL, images

FOUR = ("t1", "t1ce", "t2", "flair")


def drawn(name: str, channels: int, seed: int) -> Encoder:
    torch.manual_seed(seed)
    encoder = build_encoder({"name": name, **SMALL[name], "in_channels": channels}).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def carried(there: Encoder, here: Encoder, policy: ChannelPolicy, names: tuple, ours: tuple) -> TransferReport:
    return carry_over(
        there.state_dict(), here, source="runs/a", minimum_share=0.5, channels=ChannelTransfer(policy, names, ours)
    )


@pytest.mark.parametrize("policy", ["repeat", "average"])
@pytest.mark.parametrize("name", sorted(SMALL))
def test_an_image_shown_in_all_four_channels_gives_what_it_gave_in_one(name: str, policy: ChannelPolicy) -> None:
    one, four = drawn(name, 1, 0), drawn(name, 4, 1)
    report = carried(one, four, policy, ("image",), FOUR)
    assert report.share == 1.0
    assert report.with_status("adapted")
    image = images(one, batch=1)
    with torch.no_grad():
        for ours, theirs in zip(four(image.expand(-1, 4, -1, -1, -1)), one(image), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)
    assert "input channels: 1 (image) there, 4 (t1, t1ce, t2, flair) here" in report.table()
    assert "1/4" in report.table()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_channels_of_the_same_name_are_copied_wherever_they_stand(name: str) -> None:
    there, here = drawn(name, 4, 0), drawn(name, 4, 1)
    order = ("flair", "t2", "t1", "t1ce")
    report = carried(there, here, "match", FOUR, order)
    batch = images(there, batch=1)
    with torch.no_grad():
        for ours, theirs in zip(here(batch[:, [3, 2, 0, 1]]), there(batch), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert "flair, t2, t1, t1ce by name; freshly drawn: none" in report.table()


def test_kernels_by_policy_are_those_of_the_table() -> None:
    kernel, fresh = torch.arange(1.0, 5.0).view(1, 4, 1, 1, 1), torch.full((1, 2, 1, 1, 1), 9.0)

    def by(policy: ChannelPolicy, ours: tuple[str, ...]) -> list[float] | None:
        new = fresh[:, :1].expand(1, len(ours), 1, 1, 1)
        found = ChannelTransfer(policy, FOUR, ours).adapted(kernel, new)
        return None if found is None else found.flatten().tolist()

    assert by("repeat", ("a", "b")) == [2.0, 4.0]  # the first two, doubled
    assert by("repeat_whole", ("a", "b")) == [1.0, 2.0]
    assert by("average", ("a", "b")) == [5.0, 5.0]  # the mean, 2.5, doubled
    assert by("average", ("a",)) == [10.0]
    assert by("match", ("t2", "b")) == [3.0, 9.0]
    assert by("match", ("a", "b")) is None
    assert by("repeat", (*FOUR, "a", "b", "c", "d")) == [0.5, 1.0, 1.5, 2.0] * 2


def test_what_is_inside_is_never_taken_for_a_kernel_over_channels() -> None:
    """The second convolution has as many inputs as there are channels; going by names leaves it alone."""
    there = build_encoder({"name": "unet", "channels": [4, 8], "in_channels": 4})
    here = build_encoder({"name": "unet", "channels": [4, 8], "in_channels": 4})
    report = carried(there, here, "match", FOUR, FOUR[::-1])
    assert [row.name for row in report.with_status("adapted")] == ["stages.0.0.conv.weight"]
    assert torch.equal(here.state_dict()["stages.0.1.conv.weight"], there.state_dict()["stages.0.1.conv.weight"])


def test_another_order_is_refused_and_other_names_are_said() -> None:
    there, here = drawn("unet", 4, 0), drawn("unet", 4, 1)
    with pytest.raises(TransferError, match=r"another order.*transfer.channels=match"):
        carried(there, here, "repeat", FOUR, FOUR[::-1])
    assert "doubtful" in carried(there, here, "repeat", FOUR, ("a", "b", "c", "d")).table()
    assert "input channels" not in carried(there, here, "repeat", FOUR, FOUR).table()
    one, other = drawn("unet", 1, 0), drawn("unet", 1, 1)
    assert "input channels" not in carried(one, other, "repeat", ("image",), ("t1",)).table()


def test_a_decoder_that_sees_the_image_is_adapted_too() -> None:
    settings = {"name": "unet", "channels": [4, 8], "strides": [2, 2]}
    one, four = (build_encoder({**settings, "in_channels": n}) for n in (1, 4))
    there, here = UNetDecoder(one, 3), UNetDecoder(four, 3)
    assert there.stem is not None
    change = ChannelTransfer("repeat", ("image",), FOUR)
    report = carry_over(there.state_dict(), here, source="a", part="decoder", channels=change)
    assert [row.name for row in report.with_status("adapted")] == ["stem.convs.0.conv.weight"]
    image = torch.rand(1, 1, 8, 8, 8)
    assert here.stem is not None
    torch.testing.assert_close(here.stem(image.expand(1, 4, 8, 8, 8)), there.stem(image), atol=1e-5, rtol=1e-4)
