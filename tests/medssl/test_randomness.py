"""Draws depend on (seed, step, slot) and on nothing else."""

from __future__ import annotations

import pytest
import torch

from medssl.randomness import Stream, numpy_generator


def test_an_items_draws_do_not_depend_on_its_neighbours():
    whole, part = Stream(3, 7, [0, 1, 2, 3]), Stream(3, 7, [2, 3])
    assert torch.equal(whole.uniform(5)[2:], part.uniform(5))
    assert torch.equal(whole.integers(0, 100, 4)[2:], part.integers(0, 100, 4))
    assert torch.equal(whole.permutation(9)[2:], part.permutation(9))


def test_seed_step_and_slot_all_matter():
    draws = {
        tuple(Stream(s, t, [i]).uniform(3).flatten().tolist()) for s in range(3) for t in range(3) for i in range(3)
    }
    assert len(draws) == 27


def test_negative_and_large_seeds_are_allowed():
    assert numpy_generator(-1, 2**70).random() != numpy_generator(1, 2**70).random()


def test_chance():
    assert Stream(0, 0, range(2000)).chance(0.3).float().mean().item() == pytest.approx(0.3, abs=0.04)
