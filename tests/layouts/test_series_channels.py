"""DICOM series of one study as channels of one case: names, order, values and what stays apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import medssl
from medssl.formats.dicom_contrast import contrast_of
from medssl.manifest.schema import Manifest, read_manifest
from medssl.store.read import Store
from medssl.store.sources import files_of_store
from tests.layouts.dicom_tree import edit, image, itk, series, uid, voxels
from tests.layouts.test_dicom_labels import write_rtstruct, write_seg
from tests.layouts.tree import index

SHAPE = (6, 12, 10)
SECRET = "Meier Hans"
BRAIN = {
    "t1": "Ax T1 SE",
    "t1ce": "AX T1 POST",
    "t2": "t2_tse_tra",
    "flair": f"T2 FLAIR {SECRET}",
}


def channels_of(manifest: Manifest) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in manifest.rows():
        if row["case"]:
            found.setdefault(row["case"], {})[row["channel"]] = row
    return found


def mr(folder: Path, patient: str, name: str, description: str, seed: int, **more: Any) -> list[Path]:
    """Write one MR series in a folder that says nothing."""
    tags = {"modality": "MR", "SeriesDescription": description, "name": f"{patient}-{name}", **more}
    shape = tags.pop("shape", SHAPE)
    return series(folder / patient / f"S{seed:03d}", voxels(seed, shape), patient=patient, **tags)


def brains(root: Path, count: int = 3) -> dict[tuple[str, str], list[Path]]:
    return {
        (f"P{n}", name): mr(root, f"P{n}", name, words, 10 * n + k)
        for n in range(count)
        for k, (name, words) in enumerate(reversed(BRAIN.items()))
    }


def cached(manifest: Path, out: Path, *settings: str) -> Store:
    return medssl.cache(manifest, out=out, overrides=["workers=1", *settings]).store


def holds_what_itk_reads(store: Store, place: int, channel: str, paths: list[Path], atol: float = 0.0) -> None:
    entry = store.entries[place]
    number = entry.channel_names.index(channel)
    one = entry.channels[number]
    found = store.values(place, number) * one.slope + one.intercept
    values, affine = itk(paths)
    there = sitk.GetImageFromArray(values)
    assert there is not None
    turned, _ = medssl.geometry.to_canonical(values, affine)
    np.testing.assert_allclose(found, turned, atol=0.51 * one.slope + atol)


def test_series_of_a_study_are_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = brains(tmp_path / "d")
    manifest = index(tmp_path / "d")
    said = " ".join("".join(capsys.readouterr()).split())
    assert "3 cases x 4 channels (t1, t1ce, t2, flair), 0 labelled" in said
    assert "guess: DICOM series are named by words of their descriptions: t1 3, t1ce 3, t2 3, flair 3" in said
    cases = channels_of(manifest)
    assert len(cases) == 3
    assert all(set(own) == set(BRAIN) for own in cases.values())
    assert all(len({row["patient"] for row in own.values()}) == 1 for own in cases.values())
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == tuple(BRAIN)
    by_files = {row["paths"][0]: (case, name) for case, own in cases.items() for name, row in own.items()}
    places = {entry.id: place for place, entry in enumerate(store.entries)}
    for (_, name), paths in written.items():
        case, channel = by_files[str(min(paths))]
        assert channel == name
        holds_what_itk_reads(store, places[case], channel, paths)


def test_no_word_of_a_description_but_those_of_the_list_is_kept(tmp_path: Path) -> None:
    brains(tmp_path / "d")
    index(tmp_path / "d")
    cached(tmp_path / "found.parquet", tmp_path / "store")
    frame = read_manifest(tmp_path / "found.parquet").frame
    assert not [text for text in frame.write_json().split('"') if "Meier" in text or "Hans" in text]
    assert "Meier" not in (tmp_path / "store/store.json").read_text()


def test_a_second_index_and_one_of_an_earlier_release_find_the_same(tmp_path: Path) -> None:
    import json

    from medssl.manifest.schema import manifest_of_rows, write_manifest

    brains(tmp_path / "d", 2)
    first = index(tmp_path / "d")
    again = index(tmp_path / "d")
    wanted = {row["id"]: (row["case"], row["channel"]) for row in first.rows()}
    assert {row["id"]: (row["case"], row["channel"]) for row in again.rows()} == wanted
    old = []
    for row in first.rows():
        fields = {k: v for k, v in json.loads(row["fields"]).items() if not k.startswith("contrast")}
        old.append({**row, "channel": "", "case": "", "fields": json.dumps(fields)})
    settings = {name: value for name, value in first.settings.items() if name not in ("series", "channels")}
    write_manifest(manifest_of_rows(old, root=first.root, settings=settings), tmp_path / "found.parquet")
    later = index(tmp_path / "d")
    assert {row["id"]: (row["case"], row["channel"]) for row in later.rows()} == wanted
    assert {row["id"]: row["split"] for row in later.rows()} == {row["id"]: row["split"] for row in first.rows()}


def test_diffusion_by_b_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """T2, ADC and one series of three b-values: three volumes, named by what the machine wrote."""
    written = {}
    for n in (0, 1):
        patient = f"P{n}"
        written[patient, "t2"] = mr(tmp_path / "d", patient, "t2", "t2_tse_tra", 10 * n)
        written[patient, "adc"] = mr(
            tmp_path / "d", patient, "adc", "anything", 10 * n + 1,
            ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"],
        )  # fmt: skip
        for k, b in enumerate((0, 50, 800)):
            written[patient, f"b{b}"] = series(
                tmp_path / "d" / patient / "dwi", voxels(10 * n + 2 + k, SHAPE), patient=patient, name=f"{patient}dwi",
                modality="MR", prefix=f"{k}", instances=k, DiffusionBValue=float(b), SeriesDescription="ep2d_diff",
            )  # fmt: skip
    manifest = index(tmp_path / "d")
    assert manifest.settings["channels"] == ["t2", "adc", "b0", "b50", "b800"]
    assert "named by modality, b-value or kind of image: adc 2, b0 2, b50 2, b800 2" in "".join(capsys.readouterr())
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert len(store) == 2
    files = files_of_store(tmp_path / "store")
    of = {str(files[entry.id].images[entry.channels[0].name]): place for place, entry in enumerate(store.entries)}
    for (patient, name), paths in written.items():
        (place,) = {place for path, place in of.items() if f"/{patient}/" in path}
        holds_what_itk_reads(store, place, name, paths)


def test_ct_and_pet_of_one_study(tmp_path: Path) -> None:
    written = {}
    for n in (0, 1):
        patient = f"P{n}"
        pet = {"modality": "PT", "RescaleSlope": 0.5, "RescaleIntercept": 0, "Units": "BQML"}
        written[n, "pet"] = series(
            tmp_path / "d" / patient / "a", voxels(10 + n, SHAPE), patient=patient, name=f"{patient}p",
            CorrectedImage=["ATTN", "DECY"], **pet,
        )  # fmt: skip
        series(
            tmp_path / "d" / patient / "n", voxels(20 + n, SHAPE), patient=patient, name=f"{patient}n",
            CorrectedImage=["DECY"], **pet,
        )  # fmt: skip
        written[n, "ct"] = series(
            tmp_path / "d" / patient / "b", voxels(30 + n, (12, 12, 10)), patient=patient, name=f"{patient}c",
            spacing=(1.5, 1.5, 1.0), SeriesDescription="CT AC nativ", origin=(-20.0, -30.0, 39.25),
        )  # fmt: skip
    manifest = index(tmp_path / "d", "channels=ct,pet")
    assert manifest.settings["channels"] == ["ct", "pet"]
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    files = files_of_store(tmp_path / "store")
    for place, entry in enumerate(store.entries):
        n = int(str(files[entry.id].images["ct"]).rpartition("/P")[2][0])
        assert [channel.modality for channel in entry.channels] == ["CT", "PT"]
        holds_what_itk_reads(store, place, "ct", written[n, "ct"])
        fine, coarse = sitk.ReadImage([*map(str, written[n, "ct"])]), sitk.ReadImage([*map(str, written[n, "pet"])])
        there = sitk.GetArrayFromImage(sitk.Resample(coarse, fine, sitk.Transform(), sitk.sitkLinear, -1.0))
        one = entry.channels[1]
        found = store.values(place, 1) * one.slope + one.intercept
        turned, _ = medssl.geometry.to_canonical(there, itk(written[n, "ct"])[1])
        inside = turned >= 0  # ITK gives no value half a voxel beyond the outermost centres
        np.testing.assert_allclose(found[inside], turned[inside], atol=one.slope + 1e-2)
        assert inside.mean() > 0.8


def test_another_frame_of_reference_stays_apart_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = brains(tmp_path / "d", 6)
    for path in written["P1", "flair"]:
        edit(path, lambda ds: setattr(ds, "FrameOfReferenceUID", uid("moved")))
    manifest = index(tmp_path / "d")
    said = " ".join("".join(capsys.readouterr()).split())
    assert "1 DICOM series lie in a frame of reference of their own and stay apart" in said
    (alone,) = [row for row in manifest.rows() if not row["case"]]
    assert (alone["channel"], alone["path"]) == ("flair", str(written["P1", "flair"][0].parent))
    assert alone["id"] in said
    assert "1 case lacks flair" in said
    assert len(cached(tmp_path / "found.parquet", tmp_path / "store")) == 5


def test_two_bodies_of_one_study_are_two_cases(tmp_path: Path) -> None:
    """Head and spine in one session, each with a frame of reference: nothing of the one goes into the other."""
    for n in (0, 1):
        for k, part in enumerate(("head", "spine")):
            for c, words in enumerate(("T1 SE", "T2 TSE")):
                mr(tmp_path / "d", f"P{n}", f"{part}{c}", words, 10 * n + 2 * k + c,
                   FrameOfReferenceUID=uid(n, part), origin=(0.0, 0.0, 900.0 * k))  # fmt: skip
    cases = channels_of(index(tmp_path / "d"))
    assert len(cases) == 4
    for own in cases.values():
        assert len({row["affine"][11] for row in own.values()}) == 1


def test_thick_slices_in_another_plane_and_a_far_grid_stay_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prostate: T2 in three planes, of which the axial one lies as the diffusion does; the ADC of one is elsewhere."""
    sagittal, coronal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    for n in (0, 1, 2):
        far = (-20.0, -30.0, 400.0) if n == 2 else (-20.0, -30.0, 40.0)
        mr(tmp_path / "d", f"P{n}", "t2", "t2_tse_tra", 10 * n)
        mr(tmp_path / "d", f"P{n}", "sag", "t2_tse", 10 * n + 1, cosines=sagittal)
        mr(tmp_path / "d", f"P{n}", "cor", "t2_tse", 10 * n + 2, cosines=coronal)
        mr(tmp_path / "d", f"P{n}", "adc", "ADC", 10 * n + 3, origin=far)
    manifest = index(tmp_path / "d")
    said = " ".join("".join(capsys.readouterr()).split())
    assert manifest.settings["channels"] == ["t2", "adc"]
    assert "6 DICOM series are thick slices in another plane" in said
    assert "1 DICOM series do not cover the first channel of their study (3" in said
    assert "1 case lacks adc" in said
    counted = [row["channel"] for row in manifest.rows() if not row["case"]]
    assert sorted(counted) == ["adc", *["t2_cor"] * 3, *["t2_sag"] * 3]
    assert index(tmp_path / "d", "channels=t2,t2_sag").settings["channels"] == ["t2", "t2_sag"]
    assert index(tmp_path / "d", "channel_gap_mm=1000").settings["channels"] == ["t2", "adc"]
    assert "lacks adc" not in "".join(capsys.readouterr())


def test_time_points_are_channels_where_they_are_named(tmp_path: Path) -> None:
    for n in (0, 1):
        for k in range(2):
            series(
                tmp_path / "d" / f"P{n}" / "dce", voxels(10 * n + k, SHAPE), patient=f"P{n}", name=f"P{n}dce",
                modality="MR", prefix=f"{k}", instances=k, TemporalPositionIdentifier=k + 1,
                SeriesDescription="t1_vibe_dyn",
            )  # fmt: skip
        mr(tmp_path / "d", f"P{n}", "t2", "T2", 10 * n + 5)
        mr(tmp_path / "d", f"P{n}", "pd", "PD", 10 * n + 6)
    manifest = index(tmp_path / "d")
    assert manifest.settings["channels"] == ["t2", "pd"]
    assert sorted({row["channel"] for row in manifest.rows() if not row["case"]}) == ["t1_time1", "t1_time2"]
    assert index(tmp_path / "d", "channels=t1_time1,t1_time2").settings["channels"] == ["t1_time1", "t1_time2"]


def test_phases_of_ct(tmp_path: Path) -> None:
    for n in (0, 1):
        for k, words in enumerate(("Leber portalvenoes", "Leber nativ", "Leber arteriell")):
            series(tmp_path / "d" / f"P{n}" / str(k), voxels(10 * n + k, SHAPE), patient=f"P{n}", name=f"P{n}{k}",
                   SeriesDescription=words)  # fmt: skip
    assert index(tmp_path / "d").settings["channels"] == ["ct_native", "ct_arterial", "ct_venous"]


def test_a_second_scan_of_a_channel_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    brains(tmp_path / "d")
    mr(tmp_path / "d", "P0", "again", "T2 TSE repeat", 99)
    manifest = index(tmp_path / "d")
    assert "1 scans repeat a channel of their case" in "".join(capsys.readouterr())
    assert sum(not row["case"] for row in manifest.rows()) == 1


@pytest.mark.parametrize("same_grid", [True, False])
def test_a_label_object_of_one_channel_labels_the_case_on_its_own_grid_alone(
    tmp_path: Path, same_grid: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A SEG and an RTSTRUCT name the T1 with contrast; the case's grid is the plain T1's."""
    masks = np.zeros((1, *SHAPE), bool)
    masks[0, 2:4, 3:8, 2:7] = True
    for n in (0, 1):
        origin = (-20.0, -30.0, 40.0) if same_grid else (-18.0, -28.0, 41.0)
        mr(tmp_path / "d", f"P{n}", "t1", "T1", 10 * n)
        enhanced = mr(tmp_path / "d", f"P{n}", "t1ce", "T1 post", 10 * n + 1, origin=origin)
        if n:
            box = np.array([[x, y] for x, y in ((1.5, 2.5), (6.5, 2.5), (6.5, 7.5), (1.5, 7.5))])
            write_rtstruct(tmp_path / "d" / f"label{n}.dcm", enhanced,
                           {"tumour": [("CLOSED_PLANAR", _outline(enhanced[k], box)) for k in (2, 3)]})  # fmt: skip
        else:
            write_seg(tmp_path / "d" / f"label{n}.dcm", enhanced, masks, ["tumour"])
    index(tmp_path / "d")
    store = cached(tmp_path / "found.parquet", tmp_path / "store")
    assert store.channels == ("t1", "t1ce")
    assert len(store) == 2
    for place in range(2):
        if same_grid:
            turned, _ = medssl.geometry.to_canonical(masks[0].astype(int), itk(enhanced)[1])
            np.testing.assert_array_equal(store.labels(place), turned)
        else:
            assert store.entries[place].label_file is None
    other = cached(tmp_path / "found.parquet", tmp_path / "other", "channels=t1ce,t1")
    for place in range(2):
        turned, _ = medssl.geometry.to_canonical(masks[0].astype(int), itk(enhanced)[1])
        np.testing.assert_array_equal(other.labels(place), turned)


def _outline(path: Path, corners: np.ndarray) -> np.ndarray:
    import pydicom

    one = pydicom.dcmread(path)
    spacing = np.array(one.PixelSpacing, float)
    origin = np.array(one.ImagePositionPatient, float)
    flat = np.concatenate([corners * spacing[::-1], np.zeros((len(corners), 1))], axis=1)
    return origin + flat


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("Ax T2 FLAIR FS", "flair"), ("Ax T1 FLAIR", "t1"), ("t1_mprage_sag_p2_iso", "t1"), ("T1 +C", "t1ce"),
        ("t1_tse_tra_KM", "t1ce"), ("T1 pre contrast", "t1"), ("SAG T1 w/o", "t1"), ("T1 postop", "t1"),
        ("AxT2", "t2"), ("T2 FSE FS", "t2fs"), ("t2_tirm_tra_dark-fluid", "flair"), ("T2* GRE", "t2s"),
        ("t2_fl2d_tra_hemo", "t2s"), ("ep2d_diff_tra_ADC", "adc"), ("eADC (10^-6)", "eadc"), ("DWI b1000", "b1000"),
        ("DWI", "dwi"), ("3D SWAN", "swi"), ("PD fs", "pdfs"), ("BRAVO+C", "t1ce"), ("t1_vibe_fs_arterial",
        "t1_arterial"), ("Meier Hans 1950", ""), ("Kopf Routine", ""),
    ],
)  # fmt: skip
def test_words_of_descriptions(words: str, name: str) -> None:
    assert contrast_of({"Modality": "MR", "SeriesDescription": words}, {}).name == name


def test_a_scanner_that_writes_b_0_of_every_image_makes_no_diffusion_of_them() -> None:
    plain = {"Modality": "MR", "SeriesDescription": "T1W_TSE"}
    assert contrast_of(plain, {"DiffusionBValue": 0.0}).name == "t1"
    assert contrast_of({**plain, "SeriesDescription": "DWI"}, {"DiffusionBValue": 0.0}).name == "b0"


def test_times_of_a_sequence_are_the_last_guess() -> None:
    for times, name in (((100, 5000, None), "t2"), ((10, 600, None), "t1"), ((120, 9000, 2500), "flair"),
                        ((12, 3000, None), "pd"), ((3, 2300, 900), "t1"), ((4, 9, None), "")):  # fmt: skip
        frame = dict(zip(("EchoTime", "RepetitionTime", "InversionTime"), times, strict=True))
        found = contrast_of({"Modality": "MR"}, frame)
        assert (found.name, found.rule) == (name, "times" if name else "")
    agent = {"Modality": "MR", "ContrastBolusAgent": "GADAVIST"}
    assert contrast_of(agent, {"EchoTime": 10, "RepetitionTime": 600}).name == "t1ce"


def test_frames_of_several_contrasts_in_one_file_have_no_one_name() -> None:
    assert contrast_of({"Modality": "SEG"}, {}).name == ""
    assert contrast_of(image(voxels(0, SHAPE)[0], modality="CT"), {}).name == "ct"
