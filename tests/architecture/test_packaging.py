"""What is said of the package in several files is the same in all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import medssl

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ON_CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "blosc2": "python-blosc2"}


def test_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    recipe = yaml.safe_load((ROOT / "packaging/conda/recipe.yaml").read_text(encoding="utf-8"))
    assert {medssl.__version__, PROJECT["version"], citation["version"], recipe["context"]["version"]} == {
        PROJECT["version"]
    }


def test_conda_asks_for_the_same():
    recipe = yaml.safe_load((ROOT / "packaging/conda/recipe.yaml").read_text(encoding="utf-8"))
    wanted = {f"python {PROJECT['requires-python']}"}
    for said in PROJECT["dependencies"]:
        name = re.match(r"[\w-]+", said)[0]
        wanted.add(f"{ON_CONDA.get(name, name.lower())} {said[len(name) :]}")
    assert set(recipe["requirements"]["run"]) == wanted


def test_all_is_every_extra_that_a_verb_needs():
    extras = PROJECT["optional-dependencies"]
    inside = set(re.search(r"\[(.*)\]", extras["all"][0])[1].split(","))
    assert inside == set(extras) - {"all", "dev", "docs"}


def test_matrix_tests_what_the_package_allows():
    flow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    tested = set(flow["jobs"]["matrix"]["strategy"]["matrix"]["python"])
    said = {one.rpartition(" ")[2] for one in PROJECT["classifiers"] if "Python :: 3." in one}
    assert tested == said
