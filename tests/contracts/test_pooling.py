"""Every encoder pools in every way that it has, and whatever uses an embedding follows."""

from __future__ import annotations

import copy
from functools import reduce
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from medssl.encoders.contract import Encoder
from medssl.encoders.pooling import Pool
from medssl.encoders.sparse import sparse_pyramid
from medssl.encoders.table import ENCODERS, build_encoder
from medssl.engine.card import Card, load_card, load_encoder, save_encoder
from medssl.errors import ConfigError
from medssl.loading import WindowLoader
from medssl.methods.contract import Method
from medssl.methods.table import METHODS, build_method
from medssl.randomness import Stream
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.read import Store
from medssl.tasks.class_settings import ClassificationSettings
from medssl.tasks.classification import Classifier

POOLS = [pool for pool in get_args(Pool) if pool != "class"]  # of a class token alone: at the end
SMALL = {name: ENCODERS.load(name).smallest() for name in ENCODERS} | {
    "residual": {"channels": [4, 6, 8], "blocks": [1, 2, 1], "strides": [1, [1, 2, 2], 2]},
    "unet": {"channels": [4, 6, 8], "strides": [1, [1, 2, 2], 2]},
    "swin": {"feature_size": 12, "depths": [1, 1, 1, 1], "heads": [2, 2, 2, 2], "window": 4},
    "vit": {"width": 24, "depth": 3, "heads": 2, "patch": [2, 4, 4]},
    "timm": {"model": "test_resnet"},
}
CASES = [(name, pool) for name in sorted(ENCODERS) for pool in POOLS if (name, pool) != ("timm", "prenorm")]
# The norm that an encoder ends with, found by its name: what enters it is what "prenorm" pools.
LAST_NORM = {
    "residual": "stages.2.0.conv2.norm",
    "unet": "stages.2.1.norm",
    "swin": "encoder10.layer.norm2",
    "vit": "norm",
    "primus": "norm",
    "segres": "stages.2.1.norm2",
    "resnet": "stages.4.0.conv2.norm",
    "stunet": "stages.2.0.conv2.norm",
    "unet3d": "stages.2.2.norm",
}


def small(name: str, pool: str = "mean", **settings: object) -> Encoder:
    torch.manual_seed(7)
    encoder = build_encoder({"name": name, **SMALL[name], "pool": pool, **settings})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, parameter in encoder.named_parameters():
            if not key.startswith("pooling."):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return encoder


def images(encoder: Encoder, batch: int = 2) -> torch.Tensor:
    """Return images that leave an odd length along x at the coarsest level; of a Swin, two places in all."""
    z, y, x = encoder.size_multiple
    size = (2 * z, y, x) if z > 8 else (2 * z, 2 * y, 3 * x)
    generator = torch.Generator().manual_seed(3)
    return torch.rand(batch, encoder.in_channels, *size, generator=generator)


@pytest.mark.parametrize(("name", "pool"), CASES)
def test_a_vector_is_what_the_pool_says(name: str, pool: str) -> None:
    encoder = small(name, pool).eval()
    batch = images(encoder)
    entered = []
    if pool == "prenorm":
        norm = reduce(getattr, LAST_NORM[name].split("."), encoder)
        norm.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0].clone()))
    with torch.no_grad():
        pyramid, vectors = encoder(batch, pooled=True)
        found = encoder.embed(batch)
        coarsest = pyramid[-1]
        if pool == "mean":
            expected = coarsest.mean(dim=(2, 3, 4))
        elif pool == "levels":
            expected = torch.cat([level.mean(dim=(2, 3, 4)) for level in pyramid], dim=1)
        elif pool == "grid":
            cells = tuple(2 if stride > 1 else 1 for stride in encoder.strides[-1])
            expected = torch.nn.functional.adaptive_avg_pool3d(coarsest, cells).flatten(1)
        elif pool == "cells":
            cells = tuple(2 if stride > 1 else 1 for stride in encoder.strides[-1])
            parts = [torch.nn.functional.adaptive_avg_pool3d(level, cells).flatten(1) for level in pyramid[-3:]]
            expected = torch.cat(parts, dim=1)
        elif pool == "prenorm":
            tokens = entered[0].dim() == 3
            expected = entered[0].mean(dim=1 if tokens else (2, 3, 4))
        else:
            weights = encoder.pooling.attention(coarsest.flatten(2).transpose(1, 2))[1]
            expected = torch.einsum("bn,bcn->bc", weights, coarsest.flatten(2))
            assert weights.std() > 0
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(found, vectors)
    assert found.shape == (2, encoder.embedding_dim)
    assert found.dtype == torch.float32
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize(("name", "pool"), CASES)
def test_the_pyramid_and_the_weights_are_those_of_any_pool(name: str, pool: str) -> None:
    plain, other = small(name).eval(), small(name, pool).eval()
    state = {key: value for key, value in other.state_dict().items() if not key.startswith("pooling.")}
    assert (len(state) < len(other.state_dict())) == (pool == "attention")
    assert state.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in state.items())
    batch = images(plain)
    with torch.no_grad():
        for a, b, c in zip(plain(batch), other(batch), other(batch, pooled=True)[0], strict=True):
            torch.testing.assert_close(a, b)
            assert torch.equal(b, c)


@pytest.mark.parametrize(("name", "pool"), CASES)
def test_the_vector_trains_the_encoder_with_and_without_checkpointing(name: str, pool: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        encoder = small(name, pool, checkpointing=checkpointing).train()
        vectors = encoder.embed(images(encoder))
        (vectors * torch.arange(encoder.embedding_dim)).sum().backward()
        gradients.append({key: p.grad for key, p in encoder.named_parameters() if p.grad is not None})
        moved = sum(float(gradient.abs().max()) > 0 for gradient in gradients[-1].values())
        assert moved / len(list(encoder.parameters())) > 0.75
    assert all(float(gradient.abs().max()) > 0 for key, gradient in gradients[0].items() if key.startswith("pooling."))
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][key], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("name", "pool"), CASES)
def test_each_image_stands_alone_and_channels_last_changes_nothing(name: str, pool: str) -> None:
    encoder = small(name, pool).eval()
    batch = images(encoder, batch=3)
    with torch.no_grad():
        together = encoder.embed(batch)
        torch.testing.assert_close(encoder.embed(batch[1:2])[0], together[1], atol=1e-4, rtol=1e-3)
        last = encoder.embed(batch.to(memory_format=torch.channels_last_3d))
    # A cell may be a single voxel, whose rounding no mean takes away; a Swin's last norm is over two places here, and
    # divides by what they differ.
    torch.testing.assert_close(last, together, atol=1e-3 if pool == "cells" or name == "swin" else 1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "pool"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] == "swin" else ()) for case in CASES],
)
def test_what_is_compiled_or_exported_pools_too(name: str, pool: str) -> None:
    class Vectors(torch.nn.Module):
        def __init__(self, encoder: Encoder) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return self.encoder.embed(batch)

    encoder = small(name, pool).eval()
    batch = images(encoder)
    exported = torch.export.export(Vectors(encoder), (batch,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(batch), encoder.embed(batch), atol=1e-4, rtol=1e-3)


def test_what_a_norm_hides_is_seen_before_it() -> None:
    """An image brighter in one corner alone: the mean behind the norm hardly tells it, the others do."""
    found = {}
    for pool in POOLS:
        encoder = small("unet", pool, channels=[8, 16, 32]).eval()
        generator = torch.Generator().manual_seed(0)
        batch = torch.rand(1, 1, 8, 16, 16, generator=generator).repeat(2, 1, 1, 1, 1)
        batch[1, :, :4, :8, :8] += 0.5
        with torch.no_grad():
            first, second = encoder.embed(batch)
        found[pool] = 1 - float(torch.nn.functional.cosine_similarity(first, second, dim=0))
    assert found["grid"] > 3 * found["mean"]
    assert found["prenorm"] > found["mean"]


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("name", ["unet", "residual", "timm", "vit"])
def test_slices_are_pooled_in_their_own_plane(name: str, pool: str) -> None:
    if (name, pool) == ("timm", "prenorm"):
        return
    shape = {"timm": {"model": "test_resnet"}, "vit": {"width": 24, "depth": 2, "heads": 2, "patch": [1, 4, 4]}}
    plain = {"channels": [4, 6, 8], "dims": 2}
    encoder = build_encoder({"name": name, **shape.get(name, plain), "pool": pool}).eval()
    y, x = (2 * m for m in encoder.size_multiple[1:])
    with torch.no_grad():
        assert encoder.embed(torch.rand(2, 1, 1, y, x)).shape == (2, encoder.embedding_dim)
    if pool == "grid":
        assert encoder.embedding_dim == 4 * encoder.channels[-1]


def test_what_cannot_be_had_is_refused_with_its_reason() -> None:
    with pytest.raises(ConfigError, match="do not say which norm is their last"):
        build_encoder({"name": "timm", "model": "test_resnet", "pool": "prenorm"})
    with pytest.raises(ConfigError, match="pool"):
        build_encoder({"name": "unet", "pool": "median"})


@pytest.mark.parametrize("pool", POOLS)
def test_a_sparse_pass_gives_the_same_pyramid(pool: str) -> None:
    encoder = small("residual", pool)
    batch = images(encoder)
    visible = torch.ones(2, *(n // m for n, m in zip(batch.shape[2:], encoder.size_multiple, strict=True))).bool()
    visible[:, 0, 0, 0] = False
    for a, b in zip(sparse_pyramid(encoder, batch, visible), sparse_pyramid(small("residual"), batch, visible),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a, b)


# Methods -------------------------------------------------------------------------------------------------------------

WINDOW = (16, 24, 16)
CROPS = {"window": WINDOW, "crop": (8, 16, 8), "hidden": 32}
VOCO = {"name": "voco", "crop": (8, 8, 8), "grid": (2, 3, 2), "random_crops": 4, "hidden": 32, "projected": 16}
DINO = {"prototypes": 12, "bottleneck": 16, "freeze_prototypes": 0, "local_crop": (8, 8, 8)}
ON_EMBEDDINGS = {
    "simclr": CROPS, "cvrl": {**CROPS, "gap_mm": 4.0}, "moco": {**CROPS, "queue": 7}, "byol": CROPS,
    "simsiam": {**CROPS, "bottleneck": 8}, "swav": {**CROPS, "prototypes": 6, "freeze_prototypes": 0, "queue": 8},
    "barlow": CROPS, "vicreg": CROPS, "dino": {**CROPS, **DINO}, "ibot": {**CROPS, **DINO}, "voco": VOCO,
    "global_contrast": {"window": (8, 16, 12), "partitions": 2, "hidden": 32, "projected": 16, "pool": "mean"},
}  # fmt: skip
OTHERS = {
    "masked": {"window": WINDOW, "patch": (4, 4, 4)},
    "spark": {"window": WINDOW},
    "simmim": {"window": WINDOW},
    "slotcon": {"window": WINDOW, "crop": (8, 16, 8), "prototypes": 6, "hidden": 32, "projected": 16},
    "mae": {"window": WINDOW, "decoder_width": 20, "decoder_depth": 1, "decoder_heads": 2},
    "local_contrast": {"window": (8, 32, 24), "partitions": 2, "blocks": 1, "region": 2, "projected": 16},
    "joined": {"parts": {"drawn": {"method": {"name": "spark", "window": WINDOW}},
                         "hidden": {"method": {"name": "masked", "window": WINDOW, "patch": (4, 4, 4)}}}},
    "voco_masked": {"voco": VOCO, "masked": {"name": "masked", "window": WINDOW, "patch": (4, 4, 4)}},
}  # fmt: skip


def made(name: str, pool: str) -> Method:
    torch.manual_seed(5)
    vit = {"name": "vit", "width": 24, "depth": 2, "heads": 2, "patch": 4, "pool": pool}
    unet = {"name": "unet", "channels": [4, 6, 8], "blocks": 1, "pool": pool}
    encoder = build_encoder(vit if name == "mae" else unet)
    return build_method({"name": name, **(ON_EMBEDDINGS | OTHERS)[name]}, encoder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    draw = np.random.default_rng(0)
    items = [
        Item(id=f"scan{n}", values=draw.integers(-900, 900, (18, 34, 26)).astype(np.int16), patient=f"p{n}")
        for n in range(4)
    ]
    return store_from_arrays(tmp_path_factory.mktemp("store"), items)


def test_every_method_is_tried() -> None:
    assert sorted(ON_EMBEDDINGS | OTHERS) == sorted(METHODS)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("name", sorted(ON_EMBEDDINGS | OTHERS))
def test_methods_train_and_probe_what_is_pooled_or_refuse(name: str, pool: str, store: Store) -> None:
    places_too = name == "ibot" and pool in ("grid", "levels", "cells")
    if places_too:
        with pytest.raises(ValueError, match=r"images and places alike.*Set encoder\.pool"):
            made(name, pool)
        return
    if pool == "attention" and name in OTHERS and name != "voco_masked":
        with pytest.raises(ConfigError, match=r"weights that .* would not train"):
            made(name, pool)
        return
    method = made(name, pool)
    batch = WindowLoader(store, method.plan, batch_size=3 * method.plan.count, seed=0, threads=0).batch(0)
    views = method.views(batch, Stream(0, 0, list(range(len(batch)))))
    losses = method(views, 0.0)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    if pool == "attention":
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in method.encoder.pooling.parameters())
    with torch.no_grad():
        assert all(torch.isfinite(value) for value in method.eval().probe(views).values())


# Cards and what reads them --------------------------------------------------------------------------------------------


def kept(folder, encoder: Encoder, pool: str | None) -> None:
    settings = encoder.settings.model_dump(mode="json")
    if pool is None:
        del settings["pool"]
    card = Card(encoder=settings, in_channels=1, channels=encoder.channels, strides=encoder.strides)
    save_encoder(encoder, card, folder)
    if pool is None:  # the card of a release that knew no other pool
        text = (folder / "card.json").read_text()
        assert '"pool": "mean"' in text
        (folder / "card.json").write_text(text.replace('"pool": "mean",', ""))


def test_a_card_without_a_pool_is_read_as_the_mean_bit_for_bit(tmp_path) -> None:
    encoder = small("unet").eval()
    kept(tmp_path, encoder, None)
    assert load_card(tmp_path).encoder["pool"] == "mean"
    batch = images(encoder)
    with torch.no_grad():
        old = torch.mean(encoder(batch)[-1].float(), dim=(2, 3, 4))
        assert torch.equal(load_encoder(tmp_path).embed(batch), old)


@pytest.mark.parametrize("pool", POOLS)
def test_a_run_is_read_as_its_card_says_or_as_is_asked(pool: str, tmp_path) -> None:
    encoder = small("unet", pool).eval()
    kept(tmp_path, encoder, pool)
    batch = images(encoder)
    with torch.no_grad():
        assert torch.equal(load_encoder(tmp_path).embed(batch), encoder.embed(batch))
        asked = load_encoder(tmp_path, pool="grid")
        assert torch.equal(asked.embed(batch), small("unet", "grid").eval().embed(batch))
    if pool != "attention":
        with pytest.raises(ConfigError, match="no weights of attention"):
            load_encoder(tmp_path, pool="attention")


@pytest.mark.parametrize("pool", POOLS)
def test_a_classifier_takes_the_vector(pool: str) -> None:
    encoder = small("unet", pool)
    network = Classifier(encoder, 3, ClassificationSettings(window=(4, 8, 12))).eval()
    assert network.linear.in_features == encoder.embedding_dim
    batch = images(encoder)
    with torch.no_grad():
        before = network(batch)
        moved = copy.deepcopy(network)
        moved.encoder.pool_by("mean")
        if pool in ("prenorm", "attention"):
            assert not torch.allclose(moved(batch), before)
    assert before.shape == (2, 3)


def test_settings_tell_the_pool_apart_from_unknown_ones() -> None:
    parsed = TypeAdapter(ENCODERS.settings_union()).validate_python({"name": "vit", "pool": "grid"})
    assert build_encoder(parsed).embedding_dim == 8 * 384


def test_the_class_token_is_a_vector_where_there_is_one() -> None:
    encoder = small("vit", "class", class_token=True).eval()
    batch = images(encoder)
    entered = []
    encoder.norm.register_forward_hook(lambda _, inputs, output: entered.append(output))
    with torch.no_grad():
        pyramid, vectors = encoder(batch, pooled=True)
    assert vectors.shape == (2, encoder.embedding_dim) == (2, 24)
    assert any(torch.equal(vectors, each) for each in entered if each.dim() == 2)
    assert not torch.allclose(vectors, pyramid[-1].mean(dim=(2, 3, 4)))
    for wrong in ({"name": "unet"}, {"name": "vit"}):
        with pytest.raises(ConfigError, match="class_token"):
            build_encoder({**wrong, "pool": "class"})
