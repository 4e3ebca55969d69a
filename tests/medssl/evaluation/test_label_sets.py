import pytest

from medssl.errors import ConfigError, DataError
from medssl.evaluation.label_sets import drawn_sets, named_sets, sizes_of_shares

CLASSES = {f"p{n:02d}": "ill" if n % 3 == 0 else "well" for n in range(12)}


def test_shares_become_numbers_that_hold_every_class():
    assert sizes_of_shares((0.05, 0.1, 0.25, 1.0), 54, classes=5) == (5, 14, 54)
    assert sizes_of_shares((0.5,), 10) == (5,)
    with pytest.raises(ConfigError, match="share"):
        sizes_of_shares((5.0,), 54)


def test_draws_are_nested_hold_every_class_and_the_whole_counts_once():
    sets = drawn_sets(CLASSES, (2, 6, 12), draws=3, seed=1)
    assert (sets.sizes, sets.draws) == ((2, 6, 12), 3)
    for draw in range(3):
        small, middle = (set(sets.patients(n, draw)) for n in (2, 6))
        assert small < middle
        assert {CLASSES[p] for p in small} == {"ill", "well"}
    assert sets.different(12) == (0,)
    assert len(sets.different(6)) == 3


def test_a_file_names_patients_or_their_scans(tmp_path):
    path = tmp_path / "sets.yaml"
    path.write_text("1: [[scan4], [p01]]\n2: [p00, p04]\n")
    known = {**{p: p for p in CLASSES}, "scan4": "p04"}
    sets = named_sets(path, known)
    assert sets.patients(1, 0) == ("p04",)
    assert sets.patients(1, 1) == ("p01",)
    assert sets.patients(2, 0) == ("p00", "p04")
    assert sets.draws == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1: [[nobody]]", "nobody"),
        ("2: [[p00]]", "names 1 patients"),
        ("few: [[p00]]", "by their number"),
        ("1: p00", "by their number"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, said):
    path = tmp_path / "sets.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        named_sets(path, {p: p for p in CLASSES})


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "sets.yaml"
    path.write_text("{}")
    with pytest.raises(DataError, match="names no labelled patients"):
        named_sets(path, {})
