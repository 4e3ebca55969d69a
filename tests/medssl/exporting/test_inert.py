"""What a hostile card says stays text when MONAI's own parser reads the bundle."""

from __future__ import annotations

import contextlib
import json

import pytest
from monai.bundle import ConfigParser

from medssl.exporting.inert import inert
from medssl.exporting.monai_bundle import export_monai_bundle


def evaluated(metadata, config=None) -> None:
    parser = ConfigParser()
    if config is not None:
        parser.read_config(str(config))
    parser.read_meta(str(metadata))
    parser.parse(reset=True)
    parser.get_parsed_content("_meta_")


def hostile(target):
    touch = f"__import__('pathlib').Path({str(target)!r}).touch()"
    return {
        "classes": ("background", f"${touch}", "@bundle_root", "%imports"),
        "notes": {
            "method": f"${touch}",
            "data": {"_target_": "os.makedirs", "name": str(target)},
            "list": [f"${touch}", {"_target_": f"${touch}"}],
            f"${touch}": "a key",
        },
    }


def test_nothing_of_a_hostile_card_is_evaluated(make, tmp_path):
    target = tmp_path / "planted"
    said = hostile(target)
    model = make("unet", segmenter=True, classes=said["classes"][:3], notes=said["notes"])
    bundle = export_monai_bundle(model, tmp_path / "bundle")
    evaluated(bundle.folder / "configs" / "metadata.json", bundle.folder / "configs" / "inference.json")
    assert not target.exists()


@pytest.mark.parametrize("key", ["class", "mapping"])
def test_and_the_parser_would_have_run_it(tmp_path, key):
    target = tmp_path / "planted"
    whole = hostile(target)
    said = {"class": whole["classes"][1], "mapping": whole["notes"]["data"]}
    raw = tmp_path / "metadata.json"
    raw.write_text(json.dumps({"said": said[key]}))
    with contextlib.suppress(Exception):
        evaluated(raw)
    assert target.exists()
    target.rmdir() if target.is_dir() else target.unlink()
    raw.write_text(json.dumps(inert({"said": said[key]})))
    evaluated(raw)
    assert not target.exists()


def test_plain_values_stay_as_they_are():
    values = {"a": [1, 2.5, None, True], "b": {"c": "liver (left)"}}
    assert inert(values) == values
