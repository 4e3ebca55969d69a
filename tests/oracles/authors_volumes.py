"""MedicalNet's, STU-Net's, Models Genesis's and 3DINO's networks written from their descriptions, with their names.

Nothing of the project is in it. Sources: Chen et al., arXiv:1904.00625; Huang et al., arXiv:2304.06716; Zhou et al.,
arXiv:2004.07882; Oquab et al., arXiv:2304.07193, and Xu et al., arXiv:2501.11755.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class ResidualUnit(nn.Module):
    """Two convolutions, or three of which the middle is 3 wide, beside a shortcut A, B or none."""

    def __init__(self, a: int, width: int, b: int, stride: int, dilation: int, shortcut: str) -> None:
        super().__init__()
        self.shortcut, self.stride, self.added = shortcut, stride, b - a
        spread = {"padding": dilation, "dilation": dilation, "bias": False}
        deep = b == 4 * width
        shapes = [(a, width, 1), (width, width, 3), (width, b, 1)] if deep else [(a, width, 3), (width, b, 3)]
        self.count = len(shapes)
        strided = 2 if deep else 1
        for n, (c, d, kernel) in enumerate(shapes, start=1):
            step = stride if n == strided else 1
            conv = nn.Conv3d(c, d, 3, step, **spread) if kernel == 3 else nn.Conv3d(c, d, 1, bias=False)
            setattr(self, f"conv{n}", conv)
            setattr(self, f"bn{n}", nn.BatchNorm3d(d))
        if shortcut == "B":
            self.downsample = nn.Sequential(nn.Conv3d(a, b, 1, stride, bias=False), nn.BatchNorm3d(b))

    def forward(self, x):
        y = x
        for n in range(1, self.count + 1):
            y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y))
            y = torch.relu(y) if n < self.count else y
        if self.shortcut == "B":
            x = self.downsample(x)
        elif self.shortcut == "A":
            s = self.stride
            x = x[:, :, ::s, ::s, ::s]
            x = torch.cat((x, x.new_zeros(x.shape[0], self.added, *x.shape[2:])), dim=1)
        return torch.relu(y + x)


class MedicalResNet(nn.Module):
    def __init__(self, blocks, widths, shortcut: str, *, deep: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm3d(widths[0])
        a = widths[0]
        for n, (count, width, stride, dilation) in enumerate(
            zip(blocks, widths, (1, 2, 1, 1), (1, 1, 2, 4), strict=True), start=1
        ):
            b = 4 * width if deep else width
            units = []
            for k in range(count):
                kind = shortcut if k == 0 and (stride != 1 or a != b) else ""
                units.append(ResidualUnit(a, width, b, stride if k == 0 else 1, dilation, kind))
                a = b
            setattr(self, f"layer{n}", nn.Sequential(*units))
        self.conv_seg = nn.Sequential(nn.ConvTranspose3d(a, 4, 2, 2), nn.BatchNorm3d(4))

    def levels(self, x):
        found = [torch.relu(self.bn1(self.conv1(x)))]
        x = functional.max_pool3d(found[0], 3, 2, 1)
        for n in range(1, 5):
            x = getattr(self, f"layer{n}")(x)
            found.append(x)
        return found


class StridedUnit(nn.Module):
    def __init__(self, a: int, b: int, stride: int, *, shortcut: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv3d(a, b, 3, stride, 1), nn.Conv3d(b, b, 3, 1, 1)
        self.norm1, self.norm2 = nn.InstanceNorm3d(b, affine=True), nn.InstanceNorm3d(b, affine=True)
        if shortcut:
            self.conv3 = nn.Conv3d(a, b, 1, stride)

    def forward(self, x):
        y = self.norm2(self.conv2(functional.leaky_relu(self.norm1(self.conv1(x)), 0.01)))
        return functional.leaky_relu(y + (self.conv3(x) if hasattr(self, "conv3") else x), 0.01)


class NearestUp(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(a, b, 1)


class STUNet(nn.Module):
    def __init__(self, widths, depth) -> None:
        super().__init__()
        stages, a = [], 1
        for n, (b, count) in enumerate(zip(widths, depth, strict=True)):
            units = [StridedUnit(a, b, 2 if n else 1, shortcut=True)]
            units += [StridedUnit(b, b, 1, shortcut=False) for _ in range(count - 1)]
            stages.append(nn.Sequential(*units))
            a = b
        self.conv_blocks_context = nn.ModuleList(stages)
        pairs = list(zip(widths[::-1], widths[-2::-1], strict=False))
        self.upsample_layers = nn.ModuleList(NearestUp(c, d) for c, d in pairs)
        self.conv_blocks_localization = nn.ModuleList(
            nn.Sequential(StridedUnit(2 * d, d, 1, shortcut=True)) for _, d in pairs
        )
        self.seg_outputs = nn.ModuleList(nn.Conv3d(d, 5, 1) for _, d in pairs)

    def levels(self, x):
        found = []
        for stage in self.conv_blocks_context:
            x = stage(x)
            found.append(x)
        return found


class OfTheBatch(nn.BatchNorm3d):
    """A batch norm that takes the batch at hand, in use too."""

    def forward(self, x):
        return functional.batch_norm(x, None, None, self.weight, self.bias, True, 0.1, self.eps)


class OneConv(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(a, b, 3, padding=1)
        self.bn1 = OfTheBatch(b)

    def forward(self, x):
        return torch.relu(self.bn1(self.conv1(x)))


class Down(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.ops = nn.Sequential(OneConv(a, b // 2), OneConv(b // 2, b))


class Up(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(a, a, 2, 2)
        self.ops = nn.Sequential(OneConv(a + b, b), OneConv(b, b))


class GenesisUNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * 2**n for n in range(4)]
        for n, (a, b) in enumerate(zip([1, *widths], widths, strict=False)):
            setattr(self, f"down_tr{64 * 2**n}", Down(a, b))
        for n in (2, 1, 0):
            setattr(self, f"up_tr{64 * 2**n}", Up(widths[n + 1], widths[n]))
        self.out_tr = nn.ModuleDict({"final_conv": nn.Conv3d(width, 1, 1)})

    def levels(self, x):
        found = []
        for n in range(4):
            x = getattr(self, f"down_tr{64 * 2**n}").ops(functional.max_pool3d(x, 2) if n else x)
            found.append(x)
        return found


class ScaledBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls1 = nn.ParameterDict({"gamma": nn.Parameter(torch.ones(width))})
        self.ls2 = nn.ParameterDict({"gamma": nn.Parameter(torch.ones(width))})

    def forward(self, x):
        q, k, v = self.attn["qkv"](self.norm1(x)).chunk(3, dim=2)
        q, k, v = (one.unflatten(2, (self.heads, -1)).transpose(1, 2) for one in (q, k, v))
        weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=-1)
        x = x + self.ls1["gamma"] * self.attn["proj"]((weights @ v).transpose(1, 2).flatten(2))
        return x + self.ls2["gamma"] * self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))


class VolumeDINO(nn.Module):
    """A ViT over (x, y, z) with a class token; blocks in chunks, numbered through, as its makers save them."""

    def __init__(self, width: int, depth: int, patch: int, side: int, chunks: int) -> None:
        super().__init__()
        self.patch, self.side = patch, side
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(1, width, patch, patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side**3, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        step = depth // chunks
        self.blocks = nn.ModuleDict(
            {
                str(c): nn.ModuleDict(
                    {str(n): ScaledBlock(width, width // 64) for n in range(c * step, c * step + step)}
                )
                for c in range(chunks)
            }
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def tokens(self, x):
        """Return normed tokens, the class token first, of images (B, 1, x, y, z)."""
        x = self.patch_embed["proj"](x)
        grid = x.shape[2:]
        table = self.pos_embed[:, 1:]
        if tuple(grid) != (self.side,) * 3:
            cube = table.transpose(1, 2).unflatten(2, (self.side,) * 3)
            factors = [(n + 0.1) / self.side for n in grid]
            table = functional.interpolate(cube, scale_factor=factors, mode="trilinear").flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token + self.pos_embed[:, :1], x.flatten(2).transpose(1, 2) + table), dim=1)
        for chunk in self.blocks.values():
            for block in chunk.values():
                x = block(x)
        return self.norm(x), grid
