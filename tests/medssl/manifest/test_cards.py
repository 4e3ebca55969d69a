"""Data cards: all of the repository's are whole, and a card that says too little is refused."""

from pathlib import Path

import pytest

from medssl.errors import ConfigError
from medssl.manifest.cards import address_of, card_folder, find_card, list_cards

CARD = "title: T\nabout: A\nlicence: L\nsource: https://s\nfolder: f\n"


def test_the_shipped_cards_are_whole():
    cards = list_cards()
    assert {"msd-hippocampus", "msd-spleen", "msd-heart", "msd-prostate", "acdc", "lgg"} <= set(cards)
    for name, card in cards.items():
        assert card.licence_url, name
        assert card.citation, name
        assert card.modality in {"CT", "MR"}, name
        assert card.labels[0] == "background", name
        assert find_card(name) == (name, card)


def test_the_folder_of_cards_holds_no_images():
    assert {path.suffix for path in card_folder().iterdir()} <= {".yaml", ".md"}


@pytest.mark.slow  # importing monai.apps takes seconds
def test_every_decathlon_card_names_a_task_that_monai_knows():
    for card in list_cards().values():
        if card.decathlon:
            address = address_of(card)
            assert address is not None
            assert address.url.endswith(f"{card.decathlon}.tar")
            assert (address.algorithm, len(address.checksum)) == ("md5", 32)
        if card.manual:
            assert address_of(card) is None


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ("", "exactly one of"),
        ("manual: m\nurl: https://x/y.tar\n", "exactly one of"),
        ("url: https://x/y.tar\n", "needs the checksum"),
        ("url: file:///etc/passwd\nmd5: 0\n", "url"),
        ("manual: m\nfolder: ../up\n", "without slashes"),
        ("manual: m\nlicense: L\n", "license"),
        ("manual: [\n", "YAML"),
    ],
)
def test_cards_that_say_too_little_or_too_much_are_refused(tmp_path: Path, more, what):
    text = CARD.replace("folder: f\n", "") if "folder" in more else CARD
    (tmp_path / "c.yaml").write_text(text + more)
    with pytest.raises(ConfigError, match=what):
        find_card(tmp_path / "c.yaml")


def test_unknown_names_get_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'msd-spleen'"):
        find_card("msd-splen")
    with pytest.raises(ConfigError, match="no such card"):
        find_card(tmp_path / "none.yaml")


def test_a_direct_address_has_its_own_checksum(tmp_path):
    (tmp_path / "c.yaml").write_text(CARD + f"url: https://x/y.tar\nsha256: {'a' * 64}\n")
    name, card = find_card(tmp_path / "c.yaml")
    address = address_of(card)
    assert address is not None
    assert (name, address.url, address.algorithm) == ("c", "https://x/y.tar", "sha256")
