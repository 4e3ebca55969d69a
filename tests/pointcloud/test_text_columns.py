"""Tables of points as people write them: what each column is, or a plain word that nobody can know."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.errors import FormatError
from pointcloud.claims import claim
from pointcloud.formats.reading import read

RANDOM = np.random.default_rng(3)
POINTS = (RANDOM.integers(-64, 64, (200, 3)) / 8).astype(np.float32)
COLOURS = RANDOM.integers(0, 256, (200, 3))
LABELS = RANDOM.integers(0, 5, 200)
REFLECTANCE = RANDOM.permutation(np.arange(200))


def written(path, *columns, between=" ", first="", end="\n"):
    rows = np.hstack([np.reshape(column, (200, -1)) for column in columns])
    lines = [between.join(f"{value:.6g}" for value in row) for row in rows]
    path.write_bytes((end.join([*([first] if first else []), *lines]) + end).encode())
    return path


@pytest.mark.parametrize(("name", "between"), [("semicolons.csv", ";"), ("blanks.txt", " "), ("tabs.txt", "\t")])
def test_commas_may_be_decimal(tmp_path, name, between):
    path = written(tmp_path / name, POINTS, LABELS, between=between, first=between.join(["x", "y", "z", "label"]))
    path.write_text(path.read_text().replace(".", ","))
    cloud = read(path)
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.labels, LABELS)


def test_commas_that_part_columns_are_no_decimals(tmp_path):
    whole = np.round(POINTS)
    for between in (",", ", ", " , "):
        np.testing.assert_array_equal(read(written(tmp_path / "a.csv", whole, between=between)).points, whole)


def test_a_column_that_counts_the_points_is_no_coordinate(tmp_path):
    for start in (0, 1):
        cloud = read(written(tmp_path / "a.txt", np.arange(200) + start, POINTS))
        np.testing.assert_array_equal(cloud.points, POINTS)
        assert any("counts the points" in warning for warning in cloud.warnings)
    named = read(written(tmp_path / "frame.csv", np.arange(200), POINTS, between=",", first=",x,y,z"))
    np.testing.assert_array_equal(named.points, POINTS)


def test_colours_and_a_label_are_not_an_intensity_and_colours(tmp_path):
    for name in ("a.txt", "a.npy"):
        path = tmp_path / name
        if path.suffix == ".npy":
            np.save(path, np.c_[POINTS, COLOURS, LABELS].astype(np.float32))
        else:
            written(path, POINTS, COLOURS, LABELS)
        cloud = read(path)
        np.testing.assert_array_equal(cloud.colours, COLOURS)
        np.testing.assert_array_equal(cloud.labels, LABELS)
        assert cloud.intensity is None


def test_an_intensity_before_colours_where_the_numbers_or_the_suffix_say_so(tmp_path):
    for name, intensity in (("a.txt", REFLECTANCE - 2048), ("a.pts", LABELS)):
        cloud = read(written(tmp_path / name, POINTS, intensity, COLOURS, first="200" if name == "a.pts" else ""))
        np.testing.assert_array_equal(cloud.intensity, intensity)
        np.testing.assert_array_equal(cloud.colours, COLOURS)
        assert cloud.labels is None


@pytest.mark.parametrize("columns", [(LABELS,), (REFLECTANCE, COLOURS), (REFLECTANCE / 8, LABELS)])
def test_what_may_be_either_is_not_read_and_the_way_out_is_named(tmp_path, columns):
    cloud = read(written(tmp_path / "a.txt", POINTS, *columns))
    assert cloud.labels is None
    assert cloud.intensity is None
    assert cloud.colours is None
    assert any("columns are is not sure" in warning and "first line" in warning for warning in cloud.warnings)


def test_a_first_line_settles_what_the_numbers_do_not(tmp_path):
    cloud = read(written(tmp_path / "a.txt", POINTS, LABELS, first="# x y z label"))
    np.testing.assert_array_equal(cloud.labels, LABELS)


def test_a_fourth_column_of_many_values_is_an_intensity(tmp_path):
    for column in (REFLECTANCE, REFLECTANCE / 8):
        np.testing.assert_array_equal(read(written(tmp_path / "a.xyz", POINTS, column)).intensity, column)


def test_one_missing_point_does_not_hide_what_the_columns_are(tmp_path):
    table = np.c_[POINTS, COLOURS, LABELS].astype(np.float64)
    table[7] = np.nan
    np.save(tmp_path / "a.npy", table)
    np.testing.assert_array_equal(read(tmp_path / "a.npy").labels, np.delete(LABELS, 7))


def test_names_of_surveyors_and_names_that_nobody_knows(tmp_path):
    cloud = read(written(tmp_path / "a.csv", POINTS, between=",", first="Easting,Northing,Elevation"))
    np.testing.assert_array_equal(cloud.points, POINTS)
    with pytest.raises(FormatError, match="first line names the columns width, height, depth; none of them is x"):
        read(written(tmp_path / "b.csv", POINTS, between=",", first="width,height,depth"))


def test_las_points_that_nobody_classified_have_no_labels(tmp_path):
    import laspy

    for classes, expected in ((np.zeros(200), None), (LABELS, LABELS)):
        las = laspy.LasData(laspy.LasHeader(point_format=3, version="1.2"))
        las.x, las.y, las.z = POINTS.T.astype(np.float64)
        las.classification = classes.astype(np.uint8)
        las.write(tmp_path / "a.las")
        labels = read(tmp_path / "a.las").labels
        assert (labels is None) if expected is None else np.array_equal(labels, expected)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_text_in_the_encodings_of_people_and_programs(tmp_path, encoding):
    path = written(tmp_path / "a.txt", POINTS, first="# Größe in µm")
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    np.testing.assert_array_equal(read(path).points, POINTS)
    assert claim(path) == "cloud"


def test_numbers_of_points_come_first_in_other_files_too_and_asc_is_text(tmp_path):
    for name in ("a.xyz", "a.asc"):
        path = written(tmp_path / name, POINTS, first="200")
        np.testing.assert_array_equal(read(path).points, POINTS)
        assert claim(path) == "cloud"
    with pytest.raises(FormatError, match="promises 300"):
        read(written(tmp_path / "b.xyz", POINTS, first="300"))


def test_a_comma_within_quotes_is_no_new_column(tmp_path):
    (tmp_path / "a.csv").write_text("".join(f'"1,{n}34.5","2,{n}45.6","3,{n}0"\n' for n in range(9)))
    with pytest.raises(FormatError, match="comma within quotes"):
        read(tmp_path / "a.csv")
    path = written(tmp_path / "b.csv", POINTS, between='","')
    path.write_text("".join(f'"{line}"\n' for line in path.read_text().splitlines()))
    np.testing.assert_array_equal(read(path).points, POINTS)


@pytest.mark.parametrize("name", ["pcd", "cloud", "pts"])
def test_other_names_of_the_points_of_an_archive(tmp_path, name):
    np.savez(tmp_path / "a.npz", **{name: POINTS})
    np.testing.assert_array_equal(read(tmp_path / "a.npz").points, POINTS)
