"""nnU-Net's networks written from their description, with every name that theirs have: convolutions with a bias, each
convolution and norm under a second name, the encoder once more inside the decoder. Nothing of the project is in it.

Sources: Isensee et al., Nature Methods 2021, arXiv:1904.08128; MICCAI 2024, arXiv:2404.09556.
"""

from __future__ import annotations

import torch
from torch import nn


class ConvNormRelu(nn.Module):
    def __init__(self, a: int, b: int, kernel, stride=(1, 1, 1), *, bias: bool = True, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv3d(a, b, kernel, stride, [(k - 1) // 2 for k in kernel], bias=bias)
        self.norm = nn.InstanceNorm3d(b, eps=1e-5, affine=True)
        layers = [self.conv, self.norm]
        if relu:
            self.nonlin = nn.LeakyReLU(0.01)
            layers.append(self.nonlin)
        self.all_modules = nn.Sequential(*layers)

    def forward(self, x):
        return self.all_modules(x)


class Stack(nn.Module):
    def __init__(self, a: int, b: int, count: int, kernel, stride=(1, 1, 1)) -> None:
        super().__init__()
        blocks = [ConvNormRelu(a, b, kernel, stride), *(ConvNormRelu(b, b, kernel) for _ in range(count - 1))]
        self.convs = nn.Sequential(*blocks)

    def forward(self, x):
        return self.convs(x)


class Residual(nn.Module):
    def __init__(self, a: int, b: int, kernel, stride) -> None:
        super().__init__()
        self.conv1 = ConvNormRelu(a, b, kernel, stride)
        self.conv2 = ConvNormRelu(b, b, kernel, relu=False)
        skip: list[nn.Module] = []
        if tuple(stride) != (1, 1, 1):
            skip.append(nn.AvgPool3d(stride, stride))
        if a != b:
            skip.append(ConvNormRelu(a, b, (1, 1, 1), bias=False, relu=False))
        if skip:
            self.skip = nn.Sequential(*skip)

    def forward(self, x):
        beside = self.skip(x) if hasattr(self, "skip") else x
        return nn.functional.leaky_relu(self.conv2(self.conv1(x)) + beside, 0.01)


class ResidualStage(nn.Module):
    def __init__(self, a: int, b: int, count: int, kernel, stride) -> None:
        super().__init__()
        rest = [Residual(b, b, kernel, (1, 1, 1)) for _ in range(count - 1)]
        self.blocks = nn.Sequential(Residual(a, b, kernel, stride), *rest)

    def forward(self, x):
        return self.blocks(x)


class Encoder(nn.Module):
    def __init__(self, kind: str, inputs: int, channels, blocks, kernels, strides) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        width = inputs
        if kind == "residual":
            self.stem = Stack(inputs, channels[0], 1, kernels[0])
            width = channels[0]
        for b, count, kernel, stride in zip(channels, blocks, kernels, strides, strict=True):
            if kind == "residual":
                stages.append(ResidualStage(width, b, count, kernel, stride))
            else:
                stages.append(nn.Sequential(Stack(width, b, count, kernel, stride)))
            width = b
        self.stages = nn.Sequential(*stages)

    def forward(self, x):
        x = self.stem(x) if hasattr(self, "stem") else x
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class Decoder(nn.Module):
    def __init__(self, encoder: Encoder, heads: int, convs: int, channels, kernels, strides) -> None:
        super().__init__()
        self.encoder = encoder
        ups, stages, last = [], [], []
        for number in range(1, len(channels)):
            below, own, stride = channels[-number], channels[-number - 1], strides[-number]
            ups.append(nn.ConvTranspose3d(below, own, stride, stride))
            stages.append(Stack(2 * own, own, convs, kernels[-number - 1]))
            last.append(nn.Conv3d(own, heads, 1))
        self.stages, self.transpconvs = nn.ModuleList(stages), nn.ModuleList(ups)
        self.seg_layers = nn.ModuleList(last)

    def forward(self, skips):
        x = skips[-1]
        for number, (up, stage) in enumerate(zip(self.transpconvs, self.stages, strict=True)):
            x = stage(torch.cat((up(x), skips[-number - 2]), dim=1))
        return self.seg_layers[-1](x)


class UNet(nn.Module):
    """``kind`` is "residual" (ResidualEncoderUNet) or "unet" (PlainConvUNet)."""

    def __init__(self, kind: str, inputs: int, heads: int, channels, blocks, kernels, strides, convs: int) -> None:
        super().__init__()
        self.encoder = Encoder(kind, inputs, channels, blocks, kernels, strides)
        self.decoder = Decoder(self.encoder, heads, convs, channels, kernels, strides)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def jittered(network: nn.Module, seed: int = 1) -> nn.Module:
    """Move every number that is saved away from where it was drawn, norms and biases above all."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in {id(one): one for one in network.state_dict(keep_vars=True).values()}.values():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.add_(noise * (0.3 if tensor.dim() < 2 else 0.05))
    for name, tensor in network.named_buffers():
        if name.endswith("running_var"):
            tensor.abs_()
    return network.eval()
