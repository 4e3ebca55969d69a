"""Published Swin files: imported, then held to MONAI 1.4's network, with which they were trained.

MONAI here is newer and would agree with itself. What 1.4 makes of the same numbers is kept in ``monai_1_4_swin.json``
(``authors_swin.py`` wrote it); a slow test asks 1.4 again, in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.engine.card import load_card, load_encoder
from medssl.errors import ConfigError, DataError
from medssl.workflows.import_weights import import_weights
from tests.oracles.authors_swin import features, images, sampled, swin_unetr

KEPT = Path(__file__).with_name("monai_1_4_swin.json")


def _largest(pyramid: list[torch.Tensor], rows: list[dict]) -> float:
    """Return the largest difference of features, (z, y, x), from what MONAI 1.4 made, relative to a level's own."""
    found = 0.0
    for level, row in zip(pyramid, rows, strict=True):
        theirs = torch.tensor(row["sampled"])
        ours = torch.tensor(sampled(level.transpose(2, 4).contiguous()))
        found = max(found, float((ours - theirs).norm() / theirs.norm()))
        found = max(found, abs(float(level.norm()) / row["norm"] - 1.0))
    return found


def _saved(path: Path, layout: str) -> Path:
    """Save a network in a layout of its makers."""
    version = layout in ("voco", "vocomni", "voco1")
    outputs = {"vocomni": 21, "monai-swinunetr": 14}.get(layout, 2)
    state = dict(swin_unetr(use_v2=version, out_channels=outputs).state_dict())
    body = {key: value for key, value in state.items() if not key.startswith(("decoder", "out"))}
    if layout == "voco":
        kept = {f"module.backbone.{key}": value for key, value in body.items()}
        kept |= {f"module.{side}.layer1.0.weight": torch.ones(2, 3) for side in ("student", "teacher")}
        content = {"epoch": 3, "state_dict": kept, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    elif layout == "voco1":
        kept = {f"teacher.{key}": value for key, value in body.items()}
        kept |= {f"student.{key}": value + 1 for key, value in body.items()}
        kept |= {f"{side}.proj_head.0.weight": torch.ones(2, 3) for side in ("student", "teacher")}
        content = {"state_dict": kept}
    elif layout in ("monai-swinvit", "monai-swin50k"):
        inner = {
            k.removeprefix("swinViT.").replace(".mlp.linear", ".mlp.fc"): v for k, v in body.items() if "swinViT" in k
        }
        if layout == "monai-swinvit":
            kept = {f"module.{key}": value for key, value in inner.items()}
            kept |= {
                "module.rotation_head.weight": torch.ones(4, 2),
                "module.contrastive_head.weight": torch.ones(5, 2),
                "module.conv.0.weight": torch.ones(2, 2),
                "module.norm.weight": torch.ones(2),
            }
            content = {"state_dict": kept}
        else:
            kept = {f"encoder.{_nested(key)}": value for key, value in inner.items()}
            content = {
                "model": kept
                | {
                    "encoder.mask_token": torch.ones(1),
                    "encoder.norm.weight": torch.ones(2),
                    "out.conv.weight": torch.ones(2),
                }
            }
    elif layout == "suprem-swin":
        kept = {f"module.backbone.{key}": value for key, value in state.items()}
        kept |= {
            "module.organ_embedding": torch.ones(4, 5),
            "module.controller.weight": torch.ones(2, 2),
            "module.GAP.0.weight": torch.ones(2),
            "module.precls_conv.0.bias": torch.ones(2),
        }
        content = {"net": kept, "epoch": 2}
    else:
        content = {"state_dict": state}
    torch.save(content, path)
    return path


def _nested(key: str) -> str:
    first, dot, rest = key.partition(".0.")
    return f"{first}.0.0.{rest}" if dot and first.startswith("layers") else key


@pytest.mark.parametrize("layout", ["voco", "vocomni", "suprem-swin", "monai-swinunetr", "monai-swinvit"])
def test_features_are_those_of_the_network_that_trained_them(tmp_path: Path, layout: str, record_property) -> None:
    rows = json.loads(KEPT.read_text())["v2" if layout in ("voco", "vocomni") else "v1"]
    found = import_weights(_saved(tmp_path / "a.pt", layout), out=tmp_path / "run")
    assert found.source == layout
    encoder = load_encoder(tmp_path / "run")
    seen = images().transpose(2, 4).contiguous()  # (z, y, x), as medssl has it
    with torch.no_grad():
        pyramid = encoder(seen)
    if layout == "monai-swinvit":
        assert found.report.shares["blocks"] == found.report.shares["stem"] == 1.0
        assert found.report.shares["skips"] == 0.0
        # of its levels only the one without convolutions of their own is the transformer's
        pyramid, rows = pyramid[4:5], rows[4:5]
    else:
        assert set(found.report.shares.values()) == {1.0}
    difference = _largest(pyramid, rows)
    record_property(layout, difference)
    assert difference < 1e-4
    card = load_card(tmp_path / "run")
    assert (card.encoder["merging"], card.encoder["axes"]) == ("legacy", "xyz")
    if layout == "suprem-swin":
        assert card.origin.forbids == ("non-commercial", "no-derivatives")
    if layout == "voco":
        _both_matter(encoder, seen, rows)


def _both_matter(encoder, seen: torch.Tensor, rows: list[dict]) -> None:
    """The same numbers, loaded strictly, are another network with MONAI's new merging or with axes as they lie."""
    for wrong in ({"merging": "monai"}, {"axes": "zyx"}):
        other = build_encoder({**encoder.settings.model_dump(), **wrong}).eval()
        other.load_state_dict(encoder.state_dict(), strict=True)
        with torch.no_grad():
            assert _largest(other(seen), rows) > 0.05, wrong


@pytest.mark.parametrize("layout", ["voco1", "monai-swin50k"])
def test_other_layouts_carry_the_same_numbers(tmp_path: Path, layout: str) -> None:
    found = import_weights(_saved(tmp_path / "a.pt", layout), out=tmp_path / "run")
    assert found.source == layout
    theirs = swin_unetr(use_v2=layout == "voco1").state_dict()
    ours = load_encoder(tmp_path / "run").state_dict()
    held = [name for name in ours if layout == "voco1" or name.startswith("swinViT.")]
    assert all(torch.equal(ours[name], theirs[name]) for name in held)
    assert len(held) == (len(ours) if layout == "voco1" else 70)


def test_files_that_differ_in_intensity_alone_are_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    state = swin_unetr(use_v2=False, out_channels=5).state_dict()
    torch.save({"net": dict(state)}, path)
    with pytest.raises(ConfigError, match=r"monai-swinunetr, monai-swinunetr-1\.5, suprem-swin.*--as"):
        import_weights(path, out=tmp_path / "run")
    assert import_weights(path, out=tmp_path / "run", named="suprem-swin").source == "suprem-swin"
    with pytest.raises(ConfigError, match=r"is not of 'voco'"):
        import_weights(path, out=tmp_path / "other", named="voco")


def test_what_a_newer_monai_trained_must_be_said_and_is_then_its_own(tmp_path: Path, record_property) -> None:
    theirs = swin_unetr(use_v2=False)
    torch.save(dict(theirs.state_dict()), tmp_path / "mine.pt")
    import_weights(tmp_path / "mine.pt", out=tmp_path / "run", named="monai-swinunetr-1.5")
    small = images()[..., :32, :64].contiguous()
    with torch.no_grad():
        ours = load_encoder(tmp_path / "run")(small.transpose(2, 4).contiguous())
    rows = [{"norm": float(level.norm()), "sampled": sampled(level)} for level in features(theirs, small)]
    difference = _largest(ours, rows)
    record_property("monai-swinunetr-1.5", difference)
    assert difference < 1e-4


def test_a_transformer_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.pt", "monai-swinvit")
    content = torch.load(path)
    del content["state_dict"]["module.layers3.0.blocks.0.attn.proj.bias"]
    torch.save(content, path)
    with pytest.raises(DataError, match=r"layers3\.0\.blocks\.0\.attn\.proj\.bias is lacking"):
        import_weights(path, out=tmp_path / "run")


def test_the_published_sizes_have_the_counted_parameters() -> None:
    v1 = build_encoder({"name": "swin", "use_v2": False})
    v2 = build_encoder({"name": "swin"})
    assert sum(p.numel() for p in v1.parameters()) == 42_588_786
    assert sum(p.numel() for p in v1.swinViT.parameters()) == 8_062_002
    assert sum(p.numel() for p in v2.parameters()) == 53_164_146


@pytest.mark.slow
def test_monai_1_4_itself_says_what_is_kept(tmp_path: Path) -> None:
    old = tmp_path / "old"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(old), "monai==1.4.0"]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip("needs MONAI 1.4.0, and pip cannot install it here")
    root = Path(__file__).resolve().parents[2]
    path = tmp_path / "said.json"
    env = {**os.environ, "PYTHONPATH": f"{old}{os.pathsep}{root}"}
    subprocess.run([sys.executable, "tests/oracles/authors_swin.py", str(path)], cwd=root, env=env, check=True)
    said, kept = json.loads(path.read_text()), json.loads(KEPT.read_text())
    assert said["monai"] == "1.4.0"
    for version in ("v1", "v2"):
        for ours, theirs in zip(said[version], kept[version], strict=True):
            torch.testing.assert_close(
                torch.tensor(ours["sampled"]), torch.tensor(theirs["sampled"]), atol=1e-4, rtol=1e-3
            )
