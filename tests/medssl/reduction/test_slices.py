"""Hash-6 as its authors published it, against what the rule says word by word."""

from __future__ import annotations

import numpy as np
from PIL import Image

from medssl.phantoms import phantom
from medssl.reduction.slices import as_8_bit, difference_hash
from tests.oracles.hash_6 import leaders_in_turn, reduce_by_hash


def test_the_bits_are_those_of_imagehash():
    """`imagehash.dhash(image, hash_size=8)` of release 4.3, written out."""
    image = np.random.default_rng(3).integers(0, 256, (50, 61), dtype=np.uint8)
    small = np.asarray(Image.fromarray(image).convert("L").resize((9, 8), Image.Resampling.LANCZOS))
    text = "".join(
        "1" if small[row, column + 1] > small[row, column] else "0" for row in range(8) for column in range(8)
    )
    assert difference_hash(image) == int(text, 2)


def test_a_ramp_has_all_bits_and_a_falling_one_none():
    ramp = np.tile(np.arange(90, dtype=np.int16), (16, 1))
    assert difference_hash(as_8_bit(ramp)) == 2**64 - 1
    assert difference_hash(as_8_bit(-ramp)) == 0
    assert as_8_bit(ramp).max() == 255
    assert not as_8_bit(np.full((4, 4), 9)).any()


def test_the_first_that_is_left_takes_all_within_six():
    bits = [0, 0b111111, 0b1111111, 0b1, (1 << 40) - 1, 0b11111111111]
    codes = np.array(bits, dtype=np.uint64)
    # 0 takes 6 bits and 1 bit, not 7 bits; the 7 bits take the 11 bits, though 6 bits would be as near.
    assert leaders_in_turn(codes, 6).tolist() == [0, 0, 2, 0, 4, 2]


def test_neighbouring_slices_of_a_volume_are_taken_together():
    one = phantom(0, shape=(24, 48, 48), spacing_mm=(4.0, 6.0, 6.0))
    twice = np.repeat(one.values, 2, axis=0)
    leader = reduce_by_hash(twice)
    kept = np.flatnonzero(leader == np.arange(len(leader)))
    assert (leader[leader] == leader).all()
    assert (kept % 2 == 0).all()  # the second of two equal slices is never kept
    codes = [difference_hash(as_8_bit(plane)) for plane in twice]
    assert all((codes[i] ^ codes[leader[i]]).bit_count() <= 6 for i in range(len(twice)))
    assert all((codes[i] ^ codes[j]).bit_count() > 6 for i in kept for j in kept if i < j)
    assert set(np.unique(reduce_by_hash(twice, radius=64))) == {0}
