import pytest
import torch
from torch import Tensor, nn

from medssl.decoder import SegmentationNetwork, UNetDecoder
from medssl.encoders.contract import Encoder
from medssl.encoders.table import build_encoder


class Coarse(Encoder):
    """A pyramid that begins at a given stride, as a transformer's does."""

    def __init__(self, strides: tuple[tuple[int, int, int], ...], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.in_channels, self.strides, self.channels = 1, strides, channels
        self.size_multiple = strides[-1]
        self.maps = nn.ModuleList(nn.Conv3d(1, c, s, s) for c, s in zip(channels, strides, strict=True))

    def levels(self, images: Tensor) -> tuple[list[Tensor], None]:
        return [layer(images) for layer in self.maps], None


def test_logits_have_the_size_of_the_image() -> None:
    encoder = build_encoder({"name": "residual", "channels": [4, 8, 16], "blocks": 1, "strides": [1, (1, 2, 2), 2]})
    network = SegmentationNetwork(encoder, UNetDecoder(encoder, 3))
    assert network(torch.randn(2, 1, 8, 16, 12)).shape == (2, 3, 8, 16, 12)


@pytest.mark.parametrize(
    ("strides", "channels"),
    [
        (((2, 2, 2), (4, 4, 4)), (8, 16)),
        (((1, 4, 4), (2, 8, 8)), (8, 16)),
        (((8, 8, 8),), (16,)),
        (((3, 3, 3), (6, 6, 6)), (8, 16)),
    ],
)
def test_coarse_pyramids_are_taken_to_full_resolution(strides, channels) -> None:
    encoder = Coarse(strides, channels)
    network = SegmentationNetwork(encoder, UNetDecoder(encoder, 2))
    images = torch.randn(1, 1, 24, 24, 24, requires_grad=True)
    logits = network(images)
    assert logits.shape == (1, 2, 24, 24, 24)
    logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_every_parameter_has_a_gradient_with_and_without_deep_supervision() -> None:
    for deep in (False, True):
        encoder = build_encoder({"name": "unet", "channels": [4, 8, 16]})
        network = SegmentationNetwork(encoder, UNetDecoder(encoder, 2, deep_supervision=deep))
        outputs = network.supervised(torch.randn(1, 1, 16, 16, 16))
        sizes = [tuple(o.shape[2:]) for o in outputs]
        assert sizes == ([(16, 16, 16), (8, 8, 8)] if deep else [(16, 16, 16)])
        sum(o.mean() for o in outputs).backward()
        assert all(p.grad is not None for p in network.parameters())
        assert len(network.eval().supervised(torch.randn(1, 1, 16, 16, 16))) == 1


def test_strides_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="divide"):
        UNetDecoder(Coarse(((2, 2, 2), (3, 3, 3)), (8, 16)), 2)


def test_same_function_as_the_nnunet_decoder() -> None:
    architectures = pytest.importorskip("dynamic_network_architectures.building_blocks.unet_decoder")
    plain = pytest.importorskip("dynamic_network_architectures.building_blocks.plain_conv_encoder")
    theirs_encoder = plain.PlainConvEncoder(
        1, 3, (4, 8, 16), nn.Conv3d, 3, (1, 2, 2), 2, conv_bias=True, norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True},
        return_skips=True,
    )  # fmt: skip
    theirs = architectures.UNetDecoder(theirs_encoder, 3, 1, deep_supervision=False)
    ours = UNetDecoder(build_encoder({"name": "unet", "channels": [4, 8, 16]}), 3, deep_supervision=True)
    state = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        tensor.copy_(torch.randn_like(tensor)) if tensor.ndim > 1 else tensor.copy_(torch.rand_like(tensor))
        assert state[name].shape == tensor.shape
        state[name].copy_(tensor)
        alias = name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
        state[alias].copy_(tensor)
    for name, tensor in state.items():
        if "stages" in name and name.endswith(("conv.bias", "all_modules.0.bias")):
            tensor.zero_()
    theirs.load_state_dict(state)
    pyramid = [torch.randn(2, c, n, n, n) for c, n in ((4, 16), (8, 8), (16, 4))]
    torch.testing.assert_close(
        ours.eval()(pyramid, torch.zeros(2, 1, 16, 16, 16))[0], theirs.eval()(pyramid), atol=1e-4, rtol=1e-4
    )
