"""Point-MAE and DGCNN: the makers' networks written from their description, saved as they save them, imported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from medssl.engine.card import load_card
from medssl.errors import DataError
from medssl.workflows.import_weights import import_weights
from pointcloud.embedding import load_cloud_encoder
from tests.oracles.authors_stages import jittered


class _MiniPointNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(nn.Conv1d(3, 128, 1), nn.BatchNorm1d(128), nn.ReLU(), nn.Conv1d(128, 256, 1))
        self.second_conv = nn.Sequential(
            nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(), nn.Conv1d(512, width, 1)
        )

    def forward(self, groups):  # (B, G, n, 3)
        b, g, n, _ = groups.shape
        x = self.first_conv(groups.reshape(b * g, n, 3).transpose(2, 1))
        whole = x.max(dim=2, keepdim=True)[0]
        x = self.second_conv(torch.cat([whole.expand(-1, -1, n), x], dim=1))
        return x.max(dim=2)[0].reshape(b, g, -1)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5).softmax(dim=-1)
        return self.proj((attention @ v).transpose(1, 2).reshape(b, n, c))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = _Attention(width, heads), _Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Blocks(nn.Module):
    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))

    def forward(self, x, positions):
        for block in self.blocks:
            x = block(x + positions)
        return x


class _MaeEncoder(nn.Module):
    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.encoder = _MiniPointNet(width)
        self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        self.blocks = _Blocks(width, depth, heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, groups, centres):
        return self.norm(self.blocks(self.encoder(groups), self.pos_embed(centres)))


def _cloud(points: int, seed: int = 3) -> torch.Tensor:
    cloud = torch.randn(1, points, 3, generator=torch.Generator().manual_seed(seed))
    cloud = cloud - cloud.mean(dim=1, keepdim=True)
    return cloud / cloud.norm(dim=2).max()


def _grouped(cloud: torch.Tensor, tokens: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Group as Point-MAE does, by farthest points and nearest neighbours, from the outermost point on."""
    points = cloud[0]
    chosen = [int(points.norm(dim=1).argmax())]
    apart = (points - points[chosen[0]]).square().sum(dim=1)
    while len(chosen) < tokens:
        chosen.append(int(apart.argmax()))
        apart = torch.minimum(apart, (points - points[chosen[-1]]).square().sum(dim=1))
    centres = points[chosen]
    near = torch.cdist(centres, points, compute_mode="donot_use_mm_for_euclid_dist").topk(size, largest=False).indices
    return (points[near] - centres[:, None])[None], centres[None]


def _relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def test_point_mae_gives_the_same_tokens(tmp_path: Path, record_property) -> None:
    torch.manual_seed(2)
    theirs = jittered(_MaeEncoder(64, 2, 1))
    state = {f"module.MAE_encoder.{key}": value for key, value in theirs.state_dict().items()}
    state |= {
        "module.mask_token": torch.ones(1, 1, 64),
        "module.increase_dim.0.bias": torch.ones(3),
        "module.MAE_decoder.norm.weight": torch.ones(64),
        "module.decoder_pos_embed.0.bias": torch.ones(3),
    }
    torch.save({"base_model": state, "optimizer": {"state": {}}, "epoch": 300}, tmp_path / "pretrain.pth")
    found = import_weights(tmp_path / "pretrain.pth", out=tmp_path / "run")
    assert found.source == "point-mae"
    assert set(found.report.shares.values()) == {1.0}
    assert len([row for row in found.report.rows if row.there]) == len(state)
    ours = load_cloud_encoder(tmp_path / "run").eval()
    cloud = _cloud(512)
    with torch.no_grad():
        level = ours(cloud, torch.tensor([512])).levels[0]
        tokens = theirs(*_grouped(cloud, 32, 32))
    difference = _relative(level.features, tokens)
    record_property("point-mae", difference)
    assert difference < 1e-4
    assert load_card(tmp_path / "run").kind == "cloud"


def test_point_jepa_gives_the_teachers_tokens(tmp_path: Path, record_property) -> None:
    """Its mini-PointNet has no bias before the norms, its attention one; the file holds student and teacher."""
    torch.manual_seed(4)
    theirs = _MaeEncoder(64, 2, 1)
    for block in theirs.blocks.blocks:
        block.attn.qkv = nn.Linear(64, 192)
    for conv in (theirs.encoder.first_conv, theirs.encoder.second_conv):
        conv[0] = nn.Conv1d(conv[0].in_channels, conv[0].out_channels, 1, bias=False)
    jittered(theirs)
    own = theirs.state_dict()
    inner = {k.replace("blocks.blocks", "blocks"): v for k, v in own.items() if k.startswith(("blocks", "norm"))}
    state = {f"teacher.ema_model.{key}": value for key, value in inner.items()}
    state |= {
        f"{side}.{key}": value + 1 for key, value in inner.items() for side in ("student", "teacher.online_model")
    }
    state |= {f"tokenizer.embedding.{key}": value for key, value in own.items() if key.startswith("encoder.")}
    state |= {key.replace("pos_embed", "positional_encoding"): v for key, v in own.items() if key.startswith("pos_")}
    state |= {
        "teacher.initted": torch.ones(1),
        "teacher.step": torch.tensor([3]),
        "mask_token": torch.ones(64),
        "predictor.predictor_norm.weight": torch.ones(192),
    }
    told = {"encoder_heads": 2, "encoder_add_pos_at_every_layer": True, "tokenizer_group_radius": None}
    for block in theirs.blocks.blocks:
        block.attn.heads = 2
    torch.save({"state_dict": state, "hyper_parameters": told, "epoch": 5}, tmp_path / "jepa.ckpt")
    found = import_weights(tmp_path / "jepa.ckpt", out=tmp_path / "run")
    assert found.source == "point-jepa"
    ours = load_cloud_encoder(tmp_path / "run").eval()
    cloud = _cloud(512)
    with torch.no_grad():
        level = ours(cloud, torch.tensor([512])).levels[0]
        tokens = theirs(*_grouped(cloud, 32, 32))
    difference = _relative(level.features, tokens)
    record_property("point-jepa", difference)
    assert difference < 1e-4


def test_recon_is_refused_with_what_is_near(tmp_path: Path) -> None:
    state = {f"MAE_encoder.{key}": value for key, value in _MaeEncoder(64, 1, 1).state_dict().items()}
    torch.save({"base_model": state | {"MAE_encoder.img_token": torch.ones(1, 1, 64)}}, tmp_path / "recon.pth")
    with pytest.raises(DataError, match=r"ReCon's three.*Nearest: Point-MAE"):
        import_weights(tmp_path / "recon.pth", out=tmp_path / "run")


class _Dgcnn(nn.Module):
    def __init__(self, embedding: int) -> None:
        super().__init__()
        widths = [6, 64, 64, 128, 256]
        for n in range(1, 5):
            inputs = 6 if n == 1 else 2 * widths[n - 1]
            setattr(self, f"bn{n}", nn.BatchNorm2d(widths[n]))
            conv = nn.Conv2d(inputs, widths[n], 1, bias=False)
            setattr(self, f"conv{n}", nn.Sequential(conv, getattr(self, f"bn{n}"), nn.LeakyReLU(0.2)))
        self.bn5 = nn.BatchNorm1d(embedding)
        self.conv5 = nn.Sequential(nn.Conv1d(512, embedding, 1, bias=False), self.bn5, nn.LeakyReLU(0.2))
        self.linear1 = nn.Linear(2 * embedding, 8, bias=False)

    def forward(self, x):  # (B, 3, N)
        found = []
        for n in range(1, 5):
            apart = torch.cdist(x.transpose(1, 2), x.transpose(1, 2), compute_mode="donot_use_mm_for_euclid_dist")
            near = apart.topk(20, dim=-1, largest=False).indices
            around = x.transpose(1, 2)[0][near[0]][None]
            middle = x.transpose(1, 2)[:, :, None].expand_as(around)
            edges = torch.cat((around - middle, middle), dim=3).permute(0, 3, 1, 2)
            x = getattr(self, f"conv{n}")(edges).max(dim=-1)[0]
            found.append(x)
        x = self.conv5(torch.cat(found, dim=1))
        return torch.cat((x.max(dim=2)[0], x.mean(dim=2)), dim=1)


def test_dgcnn_gives_the_same_embedding(tmp_path: Path, record_property) -> None:
    torch.manual_seed(2)
    theirs = jittered(_Dgcnn(32))
    torch.save({f"module.{key}": value for key, value in theirs.state_dict().items()}, tmp_path / "dgcnn.pth")
    found = import_weights(tmp_path / "dgcnn.pth", out=tmp_path / "run")
    assert found.source == "dgcnn"
    ours = load_cloud_encoder(tmp_path / "run").eval()
    cloud = _cloud(128)
    with torch.no_grad():
        embedding = ours(cloud, torch.tensor([128])).embedding
        difference = _relative(embedding, theirs(cloud.transpose(1, 2)))
    record_property("dgcnn", difference)
    assert difference < 1e-4


def test_a_norm_whose_names_disagree_is_an_error(tmp_path: Path) -> None:
    state = dict(_Dgcnn(32).state_dict())
    state["conv3.1.weight"] = state["conv3.1.weight"] + 1
    torch.save(state, tmp_path / "dgcnn.pth")
    with pytest.raises(DataError, match=r"conv3\.1\.weight' and 'bn3\.weight' are two names"):
        import_weights(tmp_path / "dgcnn.pth", out=tmp_path / "run")
