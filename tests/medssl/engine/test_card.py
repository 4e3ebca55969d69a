import json

import pytest
import torch
from torch import nn

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, load_card, load_encoder, load_weights, save_encoder
from medssl.errors import CheckpointError


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(1)
    encoder = build_encoder({"name": "unet", "channels": [4, 8]})
    card = Card(
        encoder=encoder.settings.model_dump(mode="json"),
        in_channels=1,
        channels=encoder.channels,
        strides=encoder.strides,
        spacing_mm=(2.5, 1.5, 1.5),
        scale=(-1000.0, 1000.0),
    )
    save_encoder(encoder, card, tmp_path, others={"decoder": nn.Linear(2, 3)})
    return tmp_path, encoder


def test_the_encoder_that_is_loaded_is_the_one_that_was_saved(saved):
    folder, encoder = saved
    loaded = load_encoder(folder)
    assert not loaded.training
    image = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(loaded.embed(image), encoder.eval().embed(image))
    card = load_card(folder)
    assert card.weights == ["encoder.safetensors", "decoder.safetensors"]
    assert card.spacing_mm == (2.5, 1.5, 1.5)
    assert load_weights(folder, "decoder").keys() == {"weight", "bias"}


def test_a_card_of_another_network_is_refused(saved):
    folder, _ = saved
    card = json.loads((folder / "card.json").read_text())
    card["encoder"]["channels"] = [4, 16]
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="not those of the encoder"):
        load_encoder(folder)


def test_missing_and_damaged_files_are_named(saved, tmp_path_factory):
    folder, _ = saved
    with pytest.raises(CheckpointError, match=r"card\.json.*a run that has ended"):
        load_encoder(tmp_path_factory.mktemp("empty"))
    with pytest.raises(CheckpointError, match=r"neck\.safetensors"):
        load_weights(folder, "neck")
    (folder / "encoder.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors"):
        load_encoder(folder)
    (folder / "card.json").write_text('{"encoder": {}, "unknown": 1}')
    with pytest.raises(CheckpointError, match=r"card\.json"):
        load_card(folder)
