"""What bounds the number of pairs where very many scans look alike, and what it must not lose."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medssl.formats.nifti import write_nifti
from medssl.formats.scan import Scan, ScanHeader
from medssl.manifest.build import build_manifest
from medssl.reduction import candidates, keypoints, proposed, slice_votes, telling_points
from medssl.reduction.candidates import LIMITS, Candidate, Weighed, keep, propose, weigh
from medssl.reduction.crowds import likeliest
from medssl.reduction.decoded import Decoded
from medssl.reduction.fingerprint import Target, fingerprint_of
from medssl.reduction.hashes import Variant
from medssl.reduction.index import Index
from medssl.reduction.neighbours import joined
from medssl.reduction.telling_points import points_of
from medssl.reduction.turned import turned_pairs
from medssl.workflows.check_split import check_split

DOUBTFUL = ((0.1, "field"), (0.1, "points"), (35 / 511, "box"), (0.1, "field"), (0.1, "points"))


def all_pairs(count):
    return np.array(list(itertools.combinations(range(count), 2)), dtype=np.int64).reshape(-1, 2).T


@pytest.mark.parametrize("count", [2, 5, 9])
def test_a_limit_that_is_not_reached_leaves_out_nothing(count):
    first, second = all_pairs(count)
    doubt = np.random.default_rng(count).random(len(first))
    assert likeliest(first, second, doubt, np.arange(count), count - 1).all()


def test_each_scan_keeps_its_likeliest_pairs_and_the_number_grows_with_the_scans():
    first, second = all_pairs(60)
    doubt = np.random.default_rng(0).random(len(first))
    kept = likeliest(first, second, doubt, np.arange(60), 3)
    assert kept.sum() <= 3 * 60
    for scan in range(60):
        mine = np.flatnonzero((first == scan) | (second == scan))
        assert kept[mine[np.argsort(doubt[mine])[:3]]].all()


def test_scans_of_a_large_group_meet_at_the_one_worth_most():
    first, second = all_pairs(50)
    rank = np.random.default_rng(1).permutation(50)
    kept = likeliest(first, second, np.zeros(len(first)), rank, 2)
    hub = int(np.argmin(rank))
    assert ((first[kept] == hub) | (second[kept] == hub)).sum() == 49


def printed(values, name):
    path = Path(name)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    header = ScanHeader(path=path, paths=(path,), format="nifti", shape=values.shape, affine=affine, dtype="f")
    return fingerprint_of(Scan(header=header, values=values), id=name, size_bytes=1, mtime_ns=1, file_hash=name)


def body(seed, texture_hu=300.0):
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 32)] * 3, indexing="ij"))
    inside = ((grid / np.array([0.85, 0.7, 0.6])[:, None, None, None]) ** 2).sum(axis=0) < 1
    texture = ndimage.gaussian_filter(generator.standard_normal(inside.shape), 1.5)
    return np.where(inside, 40 + texture_hu * texture, -1000).astype(np.float32)


@pytest.fixture(scope="module")
def outlines():
    """Eighty bodies of one outline, with texture of their own, and an altered copy of each fourth."""
    generator = np.random.default_rng(0)
    prints = []
    for seed in range(80):
        values = body(seed)
        prints.append(printed(values, f"{seed:02d}"))
        if seed % 4 == 0:
            prints.append(
                printed(values + generator.normal(0, 10, values.shape).astype(np.float32), f"{seed:02d} copy")
            )
    return Index(tuple(prints))


def test_of_scans_with_one_outline_few_are_proposed_and_each_copy_is(outlines):
    found = propose(outlines)
    names = {(outlines.ids[one.first], outlines.ids[one.second]) for one in found.pairs}
    assert {(f"{seed:02d}", f"{seed:02d} copy") for seed in range(0, 80, 4)} <= names
    assert len(found.pairs) <= 4 * len(outlines)  # of 4,950
    assert found.unlike + found.crowded > 0  # what is not looked at is counted


@pytest.mark.parametrize("count", [48, 60])
def test_points_that_many_scans_share_speak_for_nothing_however_few_scans_there_are(outlines, count):
    few = Index(outlines.fingerprints[:count])
    names = {(few.ids[one.first], few.ids[one.second]) for one in propose(few).pairs}
    copies = {pair for pair in zip(few.ids, few.ids[1:], strict=False) if pair[1] == f"{pair[0]} copy"}
    assert copies <= names
    assert len(names - copies) <= 2 * count  # of 1,128 and 1,770


def test_more_has_to_speak_for_a_pair_the_more_families_there_are():
    few, many, more = (LIMITS.among(families) for families in (LIMITS.few, 16 * LIMITS.few, 256 * LIMITS.few))
    assert few == LIMITS
    for one, two in ((few, many), (many, more)):
        assert two.nothing - one.nothing == pytest.approx(4 * LIMITS.chance)
        assert two.worth_a_look - one.worth_a_look == pytest.approx(4 * LIMITS.chance)
        assert one.plain - two.plain == pytest.approx(4 * LIMITS.fewer)
        assert (one.doubtful, one.likely) == (two.doubtful, two.likely)


def test_a_turned_pair_has_to_be_nearer_the_more_families_there_are_down_to_where_copies_lie():
    radii = [LIMITS.turned_radius(77, LIMITS.few * times) for times in (1, 2, 4, 16, 1 << 20)]
    assert radii == [77, 72, 67, 57, LIMITS.turned]
    assert LIMITS.turned_radius(10, 1 << 30) == 10  # never beyond what the user asks for


@pytest.mark.parametrize("few", [1, 64])
def test_a_turned_copy_is_found_by_the_radius_that_so_many_families_leave(outlines, monkeypatch, few):
    index = Index((*outlines.fingerprints, printed(body(3)[:, :, ::-1].copy(), "03 flipped")))
    asked = []

    def searched(stored, radius):
        asked.append(radius)
        return turned_pairs(stored, radius)

    monkeypatch.setattr(proposed, "turned_pairs", searched)
    monkeypatch.setattr(candidates, "LIMITS", replace(LIMITS, few=few))
    found = weigh(index)
    doublings = np.log2(found.families / few)
    assert asked == [int(77 - 5 * doublings)] * 2  # for each of two hashes
    assert ("03", "03 flipped") in {(index.ids[one.first], index.ids[one.second]) for one in found.pairs}


def test_a_pair_that_chance_explains_is_kept_among_few_families_alone():
    pairs = tuple(Candidate(first=0, second=n + 1, distance=d, how=how) for n, (d, how) in enumerate(DOUBTFUL))
    evidence, place = np.array([1.2, 2.2, 0.1, 9.0, 9.0]), np.array([9, 9, 0, 9, 9])
    told = {"equal": (), "pairs": pairs, "evidence": evidence, "place": place, "rank": np.arange(6), "crowded": 0}
    few, many = (keep(Weighed(families=families, **told)) for families in (LIMITS.few, 100 * LIMITS.few))
    assert few.pairs == pairs
    assert many.pairs == pairs[3:]
    assert (few.unlike, many.unlike) == (0, 3)


def test_how_many_are_searched_at_a_time_changes_no_result(outlines, monkeypatch):
    halves = (printed(body(seed)[8:], f"{seed:02d} cut") for seed in range(12))
    prints = (*outlines.fingerprints, *halves)
    pairs, points = slice_votes.slice_pairs(prints), points_of(prints)
    monkeypatch.setattr(slice_votes, "_CHUNK", 7)
    monkeypatch.setattr(telling_points, "_ASKED", 100)
    assert len(pairs[0]) > 10
    for whole, parted in zip(pairs, slice_votes.slice_pairs(prints), strict=True):
        np.testing.assert_array_equal(whole, parted)
    for scale, parted in points_of(prints).items():
        np.testing.assert_array_equal(points[scale].starts, parted.starts)
        np.testing.assert_array_equal(points[scale].codes, parted.codes)


def test_copies_of_one_scan_are_one_family(outlines):
    assert 80 <= weigh(outlines).families <= 82  # a copy may look like no other


def test_a_split_of_48_small_scans_that_look_alike_is_checked_by_few_looks(tmp_path):
    generator = np.random.default_rng(0)
    common = ndimage.gaussian_filter(generator.normal(size=(24,) * 3), 1.5)
    rows = []
    for number in range(48):
        values = body(number)[4:28, 4:28, 4:28]
        inside = values > -500
        values[inside] += 0.5 * values[inside].std() * (common / common.std())[inside]  # a fifth of all variance
        write_nifti(tmp_path / f"p{number:02d}.nii", np.rint(values).astype(np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
        rows.append(f"p{number:02d}.nii,p{number:02d},{'test' if number % 4 == 0 else 'train'}")
    listed = tmp_path / "scans.csv"
    listed.write_text("\n".join(["path,patient,split", *rows]))
    manifest, _ = build_manifest(listed, depth="header", workers=1)
    result = check_split(manifest, out=tmp_path / "page.html", index=tmp_path / "prints", workers=1)
    assert result.ok
    assert result.figures["looked_at"] <= 2 * 48  # of 1,128
    assert result.figures["looked_at"] + result.figures["unlike"] + result.figures["crowded"] > 0


def test_a_family_of_copies_does_not_make_its_own_points_common():
    generator = np.random.default_rng(4)
    prints = [printed(body(seed, 1500.0), f"{seed:02d}") for seed in range(12)]
    for number in range(12):  # of the first, cut on all sides and made noisy, each in another way
        low, high = generator.integers(1, 4, 3), generator.integers(1, 4, 3)
        part = body(0, 1500.0)[tuple(slice(a, 32 - b) for a, b in zip(low, high, strict=True))]
        noisy = part + generator.normal(0, 2, part.shape)
        prints.append(printed(noisy.astype(np.float32), f"copy {number:02d}"))
    found = propose(Index(tuple(prints))).pairs
    of_first = {one.second for one in found if one.first == 0 and one.second >= 12}
    assert len(of_first) >= 11


def test_a_folder_that_is_mostly_copies_of_one_scan_keeps_its_points_and_proposes_them():
    generator = np.random.default_rng(5)
    values = body(0, 1500.0)
    prints = [printed(values, "00"), *(printed(body(seed, 1500.0), f"{seed:02d}") for seed in range(1, 8))]
    for number in range(64):
        noisy = values + generator.normal(0, 5, values.shape)
        prints.append(printed(noisy.astype(np.float32), f"copy {number:02d}"))
    cut = printed(values[3:-3, 3:-3, 3:-3], "cut")
    index = Index((*prints, cut))
    kept = sum(len(level.codes) for level in points_of(index.fingerprints).values())
    assert kept == sum(np.count_nonzero(one.point_codes) for one in index.fingerprints)
    found = {(one.first, one.second) for one in propose(index).pairs}
    group = joined(np.array(sorted(found)).T, len(index))
    assert set(group[8:72]) == {group[0]}  # each by itself or by others of them
    assert any(two == 72 and (one == 0 or one >= 8) for one, two in found)


def test_among_few_scans_nothing_is_left_out_for_a_limit(outlines):
    few = Index(outlines.fingerprints[: LIMITS.doubtful + 1])
    assert propose(few).crowded == 0
    assert LIMITS.likely > LIMITS.doubtful


def test_the_order_of_worth_changes_no_number_where_no_limit_is_reached(outlines):
    few = Index(outlines.fingerprints[: LIMITS.doubtful + 1])
    assert propose(few, worth=list(range(len(few)))) == propose(few)


@pytest.mark.parametrize(
    "variant", [Variant(flips=(True, False, True)), Variant(order=(2, 0, 1)), Variant(negated=True)]
)
def test_points_of_a_turned_scan_have_the_turned_hashes(variant):
    values = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((40, 36, 32)), 1.5).astype(np.float32)
    turned = values.transpose(variant.order)[tuple(slice(None, None, -1 if f else 1) for f in variant.flips)]
    turned = -turned if variant.negated else turned
    here, there = printed(values, "a"), printed(np.ascontiguousarray(turned), "b")
    codes = keypoints.turned(here.point_codes, variant)
    nearest = np.bitwise_count(codes[:, None] ^ there.point_codes[None]).min(axis=1)
    assert np.median(nearest) <= 6
    unturned = np.bitwise_count(here.point_codes[:, None] ^ there.point_codes[None]).min(axis=1)
    assert np.median(unturned) > 8


def test_scans_are_read_once_while_there_is_room(tmp_path):
    values = np.zeros((4, 4, 4), dtype=np.float32)
    targets = []
    for name in "abc":
        (tmp_path / name).write_text(name)
        targets.append(Target(id=name, path=str(tmp_path / name)))
    read = []

    def taken(target):
        read.append(target.id)
        path = Path(target.path)
        header = ScanHeader(path=path, paths=(path,), format="nifti", shape=values.shape, affine=np.eye(4), dtype="f")
        return Scan(header=header, values=values.copy())

    decoded = Decoded(taken, most_bytes=2 * values.nbytes)
    for name in "ababcba":
        decoded(targets["abc".index(name)])
    assert read == ["a", "b", "c", "a"]
    (tmp_path / "a").write_text("another")
    decoded(targets[0])
    assert read == ["a", "b", "c", "a", "a"]
    decoded.forget()
    decoded(targets[0])
    assert len(read) == 6
