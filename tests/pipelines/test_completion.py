"""What the shell offers: names that the verb then takes, and forms that the run on the line can have."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from medssl.workflows.export_targets import EXPORTS
from pipelines import completion


def offered(*words: str, cwd=None) -> list[str]:
    """Ask as bash does."""
    line = ["medssl", *words]
    asked = {"_MEDSSL_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1)}
    code = "import sys; sys.argv[0] = 'medssl'; from pipelines.cli import app; app(prog_name='medssl')"
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, cwd=cwd, capture_output=True, text=True, check=False
    )
    return ran.stdout.split()


def test_the_shell_is_told_presets_and_methods():
    assert {"voco", "voco_small", "voco_masked"} <= set(offered("pretrain", "voc"))
    assert offered("auto", "scans", "--method", "global") == ["global_contrast"]
    assert "pretrain/voco" in offered("show", "pretrain/vo")


@pytest.mark.parametrize(
    ("card", "forms"),
    [
        ({"kind": "cloud"}, ["safetensors"]),
        ({"kind": "volume", "encoder": {"name": "swin"}}, ["hub", "monai", "onnx", "safetensors", "torchscript"]),
        (
            {"kind": "volume", "encoder": {"name": "unet"}},
            ["hub", "monai", "nnunet", "onnx", "safetensors", "torchscript"],
        ),
        ({"encoder": 3}, ["hub", "monai", "nnunet", "onnx", "safetensors", "torchscript"]),
    ],
)
def test_only_forms_that_the_run_can_have_are_offered(card, forms, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "card.json").write_text(json.dumps(card))

    class Line:
        params = {"run": tmp_path / "run"}  # noqa: RUF012
        args = ()

    assert completion.export_forms(Line(), "") == forms
    assert completion.export_forms(Line(), "sa") == ["safetensors"]
    assert set(forms) <= set(EXPORTS)


def test_forms_follow_the_run_on_the_line(tmp_path):
    (tmp_path / "card.json").write_text(json.dumps({"kind": "cloud"}))
    assert offered("export", ".", "--to", "", cwd=tmp_path) == ["safetensors"]
