"""Files of CT-FM, SuPreM, 3DINO, Primus, MedicalNet, STU-Net and Models Genesis: imported, then held level by level.

The makers' networks are MONAI's where it has them. dynamic_network_architectures' Primus needs an older timm: what it
makes of a formula's numbers is kept in ``dna_primus.json`` (``authors_primus.py`` wrote it, and a slow test asks it
again). The others are written from their descriptions (``authors_volumes.py``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medssl.encoders.table import build_encoder
from medssl.engine.card import load_card, load_encoder
from medssl.errors import DataError
from medssl.weights.importing import ready
from medssl.workflows.import_weights import import_weights
from tests.oracles import authors_primus
from tests.oracles.authors_stages import jittered
from tests.oracles.authors_swin import images, sampled
from tests.oracles.authors_volumes import GenesisUNet, MedicalResNet, STUNet, VolumeDINO
from tests.oracles.test_published_stages import _adaptation, _difference

PRIMUS = Path(__file__).with_name("dna_primus.json")
XYZ = (2, 4)  # the axes to swap between (z, y, x) and (x, y, z)


def _seen(*size: int) -> Tensor:
    return torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(5))


def _imported(tmp_path: Path, content: object, source: str) -> nn.Module:
    """Import a file, check that each of its tensors has one row, and return the encoder."""
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    found = import_weights(path, out=tmp_path / "run")
    assert found.source == source
    assert set(found.report.shares.values()) == {1.0}
    held = next(value for key, value in content.items() if key in ("state_dict", "net", "teacher", "network_weights"))
    assert len([row for row in found.report.rows if row.there]) == len(held)
    assert load_card(tmp_path / "run").origin.source == source
    return load_encoder(tmp_path / "run").eval()


def _level_by_level(ours: list[Tensor], theirs: list[Tensor], record: Callable[[str, object], None], name: str) -> None:
    assert [level.shape for level in ours] == [level.shape for level in theirs]
    difference = _difference(ours, theirs)
    record(name, difference)
    assert difference < 1e-4


def _with(prefix: str, state: Mapping[str, Tensor], **more: Tensor) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in state.items()} | more


@pytest.mark.parametrize("layout", ["extractor", "lightning", "segmenter"])
def test_ct_fm_sees_slices_from_the_front_and_right(tmp_path: Path, layout: str, record_property) -> None:
    from monai.networks.nets.segresnet_ds import SegResEncoder, SegResNetDS

    torch.manual_seed(2)
    sizes = {"init_filters": 4, "blocks_down": (1, 2, 1), "norm": "batch"}
    if layout == "segmenter":
        whole = jittered(SegResNetDS(out_channels=5, **sizes))
        theirs, state = whole.encoder, whole.state_dict()
    else:
        theirs = jittered(SegResEncoder(**sizes))
        state = _with("backbone." if layout == "lightning" else "", theirs.state_dict())
    encoder = _imported(tmp_path, {"state_dict": state}, "ct-fm")
    seen = _seen(8, 16, 24)
    with torch.no_grad():
        ours = encoder(seen)
        levels = [level.flip(3, 4) for level in theirs(seen.flip(3, 4))]  # (S, A, R) as (S, P, L) and back
        _level_by_level(ours, levels, record_property, "ct-fm")
        assert _difference(ours, theirs(seen)) > 0.05, "flips matter"
    card = load_card(tmp_path / "run")
    assert card.inputs[0].numbers == (-1024.0, 2048.0, -1024.0, 3072.0)
    assert card.spacing_mm == (3.0, 1.0, 1.0)
    before = {name: value.clone() for name, value in encoder.state_dict().items() if "running" in name}
    encoder.train()(seen)
    assert all(torch.equal(encoder.state_dict()[name], value) for name, value in before.items())


def test_suprem_segresnet(tmp_path: Path, record_property) -> None:
    from monai.networks.nets import SegResNet

    torch.manual_seed(2)
    theirs = jittered(SegResNet(init_filters=8, blocks_down=(1, 2, 1), blocks_up=(1, 1), out_channels=5))
    content = {"net": _with("module.", theirs.state_dict(), **{"module.organ_embedding": torch.ones(2, 3)}), "epoch": 1}
    encoder = _imported(tmp_path, content, "suprem-segresnet")
    seen = _seen(8, 16, 24)
    with torch.no_grad():
        _, levels = theirs.encode(seen.transpose(*XYZ))
        _level_by_level(encoder(seen), [level.transpose(*XYZ) for level in levels], record_property, "suprem-segresnet")
    assert load_card(tmp_path / "run").origin.forbids == ("non-commercial", "no-derivatives")


@pytest.mark.parametrize(
    ("blocks", "shortcut", "deep"), [((1, 1, 1, 1), "B", False), ((2, 2, 2, 2), "A", False), ((1, 2, 1, 1), "B", True)]
)
def test_medicalnet(tmp_path: Path, blocks, shortcut: str, deep: bool, record_property) -> None:
    torch.manual_seed(2)
    theirs = jittered(MedicalResNet(blocks, (4, 6, 8, 10), shortcut, deep=deep))
    encoder = _imported(tmp_path, {"state_dict": _with("module.", theirs.state_dict())}, "medicalnet")
    assert encoder.settings.shortcut == {"A": "padded", "B": "projected"}[shortcut]
    assert encoder.settings.bottleneck is deep
    seen = _seen(16, 24, 32)
    with torch.no_grad():
        _level_by_level(encoder(seen), theirs.levels(seen), record_property, "medicalnet")


def test_medicalnet_of_an_older_torch_counts_no_batches(tmp_path: Path) -> None:
    theirs = jittered(MedicalResNet((1, 1, 1, 1), (4, 6, 8, 10), "B", deep=False))
    state = {key: value for key, value in theirs.state_dict().items() if "num_batches" not in key}
    _imported(tmp_path, {"state_dict": _with("module.", state)}, "medicalnet")


@pytest.mark.parametrize("top", ["state_dict", "network_weights"])
def test_stunet(tmp_path: Path, top: str, record_property) -> None:
    torch.manual_seed(2)
    theirs = jittered(STUNet((4, 6, 8), (1, 2, 1)))
    encoder = _imported(tmp_path, {top: theirs.state_dict(), "epoch": 4}, "stu-net")
    seen = _seen(8, 16, 24)
    with torch.no_grad():
        _level_by_level(encoder(seen), theirs.levels(seen), record_property, "stu-net")


@pytest.mark.parametrize("source", ["models-genesis", "suprem-unet"])
def test_models_genesis_and_suprems_unet(tmp_path: Path, source: str, record_property) -> None:
    torch.manual_seed(2)
    theirs = jittered(GenesisUNet(4))
    top, prefix = ("state_dict", "module.") if source == "models-genesis" else ("net", "module.backbone.")
    encoder = _imported(tmp_path, {top: _with(prefix, theirs.state_dict())}, source)
    seen = _seen(16, 24, 32)
    with torch.no_grad():
        levels = [level.transpose(*XYZ) for level in theirs.levels(seen.transpose(*XYZ))]
        _level_by_level(encoder(seen), levels, record_property, source)
        both = theirs.levels(torch.cat([seen, 3 * seen.flip(2)]).transpose(*XYZ))[-1][:1]
        assert float((both - levels[-1].transpose(*XYZ)).norm() / both.norm()) > 1e-3, "theirs see a batch's other scan"


@pytest.mark.parametrize("size", [(12, 12, 12), (8, 16, 12)])
def test_3dino(tmp_path: Path, size: tuple[int, int, int], record_property) -> None:
    torch.manual_seed(2)
    theirs = jittered(VolumeDINO(128, 4, patch=4, side=3, chunks=2))
    heads = {"dino_head.mlp.0.weight": torch.ones(2, 2), "ibot_head.mlp.0.weight": torch.ones(2, 2)}
    encoder = _imported(tmp_path, {"teacher": _with("backbone.", theirs.state_dict(), **heads)}, "3dino")
    seen = _seen(*size)
    with torch.no_grad():
        pyramid, vector = encoder(seen, pooled=True)
        tokens, grid = theirs.tokens(2 * seen.transpose(*XYZ) - 1)  # 0 to 1 there are -1 to 1
    level = tokens[:, 1:].transpose(1, 2).unflatten(2, grid).transpose(*XYZ)
    _level_by_level([pyramid[-1], vector], [level, tokens[:, 0]], record_property, "3dino")
    other = build_encoder({**encoder.settings.model_dump(), "interpolation": "size"}).eval()
    other.load_state_dict(encoder.state_dict(), strict=True)
    with torch.no_grad():
        differs = float((other.embed(seen) - vector).norm() / vector.norm())
    assert (differs > 1e-4) == (size != (12, 12, 12)), "how places are interpolated matters for other sizes alone"


def _primus_files() -> dict[str, tuple[str, dict[str, Tensor], str]]:
    """Return layouts of nnssl: the trainer, the tensors, and the order in which its tokens lie."""
    shapes = json.loads(PRIMUS.read_text())["shapes"]
    empty = {name: torch.empty([int(n) for n in text.split("x")]) for name, text in shapes.items()}
    state = authors_primus.formula({key: value for key, value in empty.items() if key != "mask_token"})
    token = {"mask_token": torch.ones(1, 1, authors_primus.WIDTH)}
    inner = {key: value for key, value in state.items() if not key.startswith("up_projection.")}
    heads = {"projector.0.weight": torch.ones(2, 2)}
    decoder = _with("decoder.", {"blocks.0.norm1.weight": torch.ones(2)})
    return {
        "simmim": ("SimMIMEvaTrainer", {**state, **token}, "straight"),
        "mae": ("BaseEvaMAETrainer", {**state, **token, **decoder}, "swapped"),
        "voco": ("VoCoEvaTrainer", _with("encoder.", {**inner, **token}, **heads), "swapped"),
    }


@pytest.mark.parametrize("layout", ["simmim", "mae", "voco"])
def test_primus_in_both_orders_of_its_tokens(tmp_path: Path, layout: str, record_property) -> None:
    trainer, state, order = _primus_files()[layout]
    plan = _adaptation(spelling="key_to_in_proj" if layout == "voco" else "keys_to_in_proj")
    plan["architecture_plans"] = {"arch_class_name": "PrimusM", "arch_kwargs": None}
    content = {"network_weights": state, "nnssl_adaptation_plan": plan, "trainer_name": trainer}
    encoder = _imported(tmp_path, content, "openmind-primus")
    row = json.loads(PRIMUS.read_text())[order]
    with torch.no_grad():
        level = encoder(images(authors_primus.CUBE))[-1]
    theirs = torch.tensor(row["sampled"])
    difference = float((torch.tensor(sampled(level)) - theirs).norm() / theirs.norm())
    record_property("openmind-primus", max(difference, abs(float(level.norm()) / row["norm"] - 1)))
    assert difference < 1e-4
    assert float(level.norm()) == pytest.approx(row["norm"], rel=1e-4)
    other = json.loads(PRIMUS.read_text())["straight" if order == "swapped" else "swapped"]
    assert float((theirs - torch.tensor(other["sampled"])).norm() / theirs.norm()) > 0.05, "the order matters"


@pytest.mark.slow
def test_the_makers_primus_itself_says_what_is_kept(tmp_path: Path) -> None:
    old = tmp_path / "old"
    named = ["dynamic-network-architectures==0.4.4", "timm==1.0.22", "einops"]
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(old), *named]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip("needs dynamic-network-architectures with timm 1.0.22, and pip cannot install them here")
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": f"{old}{os.pathsep}{root}"}
    path = tmp_path / "said.json"
    subprocess.run([sys.executable, "tests/oracles/authors_primus.py", str(path)], cwd=root, env=env, check=True)
    said, kept = json.loads(path.read_text()), json.loads(PRIMUS.read_text())
    assert (said["timm"], said["shapes"]) == ("1.0.22", kept["shapes"])
    for order in ("straight", "swapped"):
        torch.testing.assert_close(
            torch.tensor(said[order]["sampled"]), torch.tensor(kept[order]["sampled"]), atol=1e-4, rtol=1e-3
        )


COUNTED = {
    "ct-fm": ({"name": "segres"}, 77_760_992),
    "3dino": (
        {"name": "vit", "size": "large", "positions": "learned", "grid": [7, 7, 7], "class_token": True},
        306_910_208 - 2 * 24 * 1024 - 1024 - 1024,  # layer scales are folded, the token's place too; no mask token
    ),
    "openmind-primus": ({"name": "primus"}, 150_554_304 + 864 * (8**3 + 1)),
    "medicalnet-10": ({"name": "resnet", "blocks": [1, 1, 1, 1, 1]}, 14_355_520),
    "medicalnet-18": ({"name": "resnet", "shortcut": "padded"}, 32_986_176),
    "medicalnet-34": ({"name": "resnet", "blocks": [1, 3, 4, 6, 3], "shortcut": "padded"}, 63_295_808),
    "medicalnet-50": (
        {"name": "resnet", "blocks": [1, 3, 4, 6, 3], "bottleneck": True, "channels": [64, 256, 512, 1024, 2048]},
        46_155_072,
    ),
}


@pytest.mark.parametrize("name", COUNTED)
def test_the_published_sizes_have_the_counted_parameters(name: str) -> None:
    settings, count = COUNTED[name]
    with torch.device("meta"):
        encoder = build_encoder(settings)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == count


def _spoilt() -> dict[str, tuple[Callable[[dict[str, Tensor]], object], str]]:
    name = "module.layer2.0.conv1.weight"
    return {
        "removed": (lambda state: state.pop(name), "is missing|not a complete"),
        "renamed": (
            lambda state: state.update({"module.layer2.0.conv9.weight": state.pop(name)}),
            "missing|no place|not a complete",
        ),
        "added": (lambda state: state.update({"module.more.weight": torch.ones(2)}), r"no place.*more\.weight"),
        "altered": (lambda state: state.update({name: state[name][:-1]}), "there and"),
        "not finite": (lambda state: state[name].view(-1)[:1].fill_(float("nan")), "not finite"),
    }


@pytest.mark.parametrize("how", ["removed", "renamed", "added", "altered", "not finite"])
def test_one_tensor_that_is_not_as_it_was_is_an_error(tmp_path: Path, how: str) -> None:
    state = _with("module.", jittered(MedicalResNet((1, 1, 1, 1), (4, 6, 8, 10), "B", deep=False)).state_dict())
    spoil, said = _spoilt()[how]
    spoil(state)
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    with pytest.raises(DataError, match=said):
        ready(tmp_path / "a.pth")
