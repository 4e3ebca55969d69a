"""Settings: layers, origins, every error at once, and dumps that load again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

import medssl.presets
import medssl.settings
from medssl.errors import ConfigError
from medssl.plain_yaml import read_yaml
from medssl.presets import find_preset, list_presets
from medssl.settings import Auto, Resolved, Settings, dump_with_origins, flatten, resolve


class Contrast(Settings):
    name: Literal["contrast"] = "contrast"
    temperature: float = Field(0.1, gt=0, le=1)
    grid: tuple[int, int, int] = (4, 4, 4)


class Masked(Settings):
    name: Literal["masked"] = "masked"
    ratio: float = Field(0.75, gt=0, lt=1)


class Train(Settings):
    steps: int = Field(10, ge=1)
    lr: float = 1e-4
    mode: Literal["on", "off"] = "on"
    devices: int | Literal["auto"] = "auto"
    warmup: float = 0.1

    @model_validator(mode="after")
    def _short(self):
        if self.warmup > 0.5:
            raise ValueError("warmup takes more than half of the run")
        return self


class Everything(Settings):
    verb: ClassVar[str] = "pretend"

    method: Annotated[Contrast | Masked, Field(discriminator="name")] = Contrast(temperature=0.3)
    train: Train = Train(steps=77)
    out: Path | None = None
    weights: dict[str, float] = Field(default_factory=dict)
    spacing_mm: tuple[float, float, float] | None = None
    label: str = "none"


class Needs(Settings):
    data: Path = Field(description="the store to train from.")
    steps: int


@pytest.fixture
def presets(tmp_path, monkeypatch):
    """Presets of two verbs in a folder of their own."""
    for name, text in {
        "pretend/small": "# Purpose: A small\n#   one.\n# Command: medssl pretend small\ntrain: {steps: 5}\n",
        "pretend/large": "method:\n  name: masked\n  ratio: 0.5\ntrain:\n  steps: 9\n  lr: 1e-3\n",
        "pretend/linked": "train:\n  steps: 12\nlabel: ${train.steps} steps\n",
        "other/small": "train:\n  steps: 6\n",
    }.items():
        path = tmp_path / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for module in (medssl.presets, medssl.settings):
        monkeypatch.setattr(module, "preset_folder", lambda: tmp_path / "configs")
    return tmp_path / "configs"


def errors_of(cls, *overrides, **kwargs) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(cls, overrides=overrides, **kwargs)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_defaults_alone():
    resolved = resolve(Everything)
    assert resolved.settings == Everything()
    assert set(resolved.origins.values()) == {"default"}
    assert resolved.origins.keys() == flatten(Everything()).keys()


def test_settings_of_a_run_as_a_preset_mean_the_runs_own_places(tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "run.yaml").write_text("data: ../../store\nsteps: 3\n")
    monkeypatch.chdir(tmp_path)
    assert resolve(Needs, preset="runs/one/run.yaml").settings.data.resolve() == tmp_path / "store"
    monkeypatch.chdir(tmp_path / "runs" / "one")  # as it stands it is right there as well
    assert resolve(Needs, preset="run.yaml").settings.data.resolve() == tmp_path / "store"
    (tmp_path / "other" / "x" / "y").mkdir(parents=True)
    (tmp_path / "other" / "store").mkdir()
    monkeypatch.chdir(tmp_path / "other" / "x" / "y")  # another store lies where the path would lead from here
    assert resolve(Needs, preset=tmp_path / "runs/one/run.yaml").settings.data.resolve() == tmp_path / "store"
    (tmp_path / "mine.yaml").write_text("data: ../../store\nsteps: 3\n")
    assert resolve(Needs, preset=tmp_path / "mine.yaml").settings.data == Path("../../store")


def test_each_layer_wins_over_the_one_below(presets):
    resolved = resolve(
        Everything,
        preset="large",
        overrides=["train.lr=2e-4"],
        defaults={"train": {"steps": 1, "lr": 3.0}, "label": "from the verb"},
        command_line={"out": Path("runs/a"), "spacing_mm": None},
    )
    assert resolved.settings.train.steps == 9
    assert resolved.settings.train.lr == 2e-4
    assert resolved.settings.label == "from the verb"
    assert resolved.settings.out == Path("runs/a")
    assert resolved.origins["train.steps"] == "preset large"
    assert resolved.origins["train.lr"] == "command line"
    assert resolved.origins["train.mode"] == "default"
    assert resolved.origins["out"] == "command line"
    assert resolved.origins["spacing_mm"] == "default"


def test_one_given_key_leaves_the_rest_of_a_default_instance():
    settings = resolve(Everything, overrides=["train.lr=1", "method.grid=[1,2,3]"]).settings
    assert settings.train.steps == 77, "the field's default instance, not the class's default"
    assert settings.method == Contrast(temperature=0.3, grid=(1, 2, 3))


def test_another_member_of_a_union_starts_from_its_own_defaults():
    settings = resolve(Everything, overrides=["method.name=masked", "method.ratio=.2"]).settings
    assert settings.method == Masked(ratio=0.2)


def test_a_preset_gives_way_to_another_choice(presets):
    """Keys of the old choice alone are left out and named; what the new one knows, and other groups, stay."""
    resolved = resolve(Everything, preset="large", overrides=["method.name=contrast"])
    assert resolved.settings.method == Contrast(temperature=0.3)
    assert resolved.settings.train.steps == 9
    assert resolved.dropped == {"method": ("ratio",)}
    assert "# left out, for 'contrast' has none: ratio\nmethod:\n" in dump_with_origins(resolved)
    assert yaml.safe_load(dump_with_origins(resolved))["method"]["name"] == "contrast"
    option = resolve(Everything, preset="large", command_line={"method.name": "contrast"})
    assert option.settings == resolved.settings
    same = resolve(Everything, preset="large", overrides=["method.name=masked"])
    assert same.settings.method == Masked(ratio=0.5)
    assert not same.dropped


def test_what_both_choices_know_stays(presets):
    (presets / "pretend/deep.yaml").write_text("part: {name: a, width: 7, only_a: 1, inner: {name: x, of_x: 2}}\n")
    resolved = resolve(Outer, preset="deep", overrides=["part.name=b", "part.inner.name=y"])
    assert resolved.settings.part == B(width=7, inner=Y())
    assert resolved.dropped == {"part": ("only_a",), "part.inner": ("of_x",)}


def test_a_wrong_key_beside_another_choice_is_still_told(presets):
    """What the user gives with the new choice is a mistake, and not a leftover."""
    told = errors_of(Everything, "method.name=contrast", "method.ratio=0.5", preset="large")
    assert len(told) == 1
    assert told[0].startswith("method.ratio: unknown key")
    (presets / "pretend/wrong.yaml").write_text("method: {name: masked, ratoi: 0.5}\n")
    assert errors_of(Everything, "train.steps=3", preset="wrong")[0].startswith("method.ratoi: unknown key")


class X(Settings):
    name: Literal["x"] = "x"
    of_x: int = 0


class Y(Settings):
    name: Literal["y"] = "y"


class A(Settings):
    name: Literal["a"] = "a"
    width: int = 1
    only_a: int = 0
    inner: Annotated[X | Y, Field(discriminator="name")] = X()


class B(Settings):
    name: Literal["b"] = "b"
    width: int = 1
    inner: Annotated[X | Y, Field(discriminator="name")] = X()


class Outer(Settings):
    verb: ClassVar[str] = "pretend"

    part: Annotated[A | B, Field(discriminator="name")] = A()


def test_a_file_is_named_as_the_origin(presets, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("train: {steps: 3}\n", encoding="utf-8")
    assert resolve(Everything, preset=path).origins["train.steps"] == f"file {path}"


def test_references_are_refused(presets):
    with pytest.raises(ConfigError, match=r"label: refers to another setting by \$\{\.\.\.\}, which is not read"):
        resolve(Everything, preset="linked", overrides=["train.steps=40"])


def test_reasons_of_automatic_values_are_kept():
    resolved = resolve(Everything, defaults={"train": {"steps": Auto(40, "12 scans")}})
    assert resolved.settings.train.steps == 40
    assert resolved.origins["train.steps"] == "auto (12 scans)"
    again = resolved.with_auto("train.lr", 0.5, "small batch")
    assert (again.settings.train.steps, again.settings.train.lr) == (40, 0.5)
    assert again.origins["train.lr"] == "auto (small batch)"
    assert again.origins["train.steps"] == "auto (12 scans)"
    assert resolve(Everything, defaults={"label": "kept"}).with_auto("train.lr", 1.0, "why").settings.label == "kept"


def test_an_override_beats_an_automatic_value():
    resolved = resolve(Everything, defaults={"train.steps": Auto(40, "12 scans")}, overrides=["train.steps=2"])
    assert resolved.origins["train.steps"] == "command line"
    assert resolved.settings.train.steps == 2


@pytest.mark.parametrize(
    ("override", "attribute", "value"),
    [
        ("train.lr=1e-5", "train.lr", 1e-5),
        ("train.mode=off", "train.mode", "off"),
        ("train.devices=2", "train.devices", 2),
        ("label=12", "label", "12"),
        ("label=a=b", "label", "a=b"),
        ("label=", "label", ""),
        ("label=null", "label", "null"),
        ("out=null", "out", None),
        ("spacing_mm=[1, 1.5, 2]", "spacing_mm", (1.0, 1.5, 2.0)),
        ("weights.liver=2", "weights", {"liver": 2.0}),
        ("--train.steps=4", "train.steps", 4),
    ],
)
def test_values_are_typed_by_the_class(override, attribute, value):
    found = resolve(Everything, overrides=[override]).settings
    for part in attribute.split("."):
        found = getattr(found, part)
    assert found == value


def test_all_errors_come_at_once_with_full_keys():
    lines = errors_of(
        Everything,
        "method.tempurature=3",
        "method.temperature=4",
        "train.step=3",
        "lr=1",
        "train.devices=many",
        "method.grid=[1,a,2]",
        "train.mode=onn",
        "weights.liver=b",
        "spacing_mm=1,2,3",
        "junk",
    )
    by_key = {line.partition(":")[0]: line for line in lines}
    assert len(lines) == len(by_key) == 10
    assert "Did you mean 'method.temperature'?" in by_key["method.tempurature"]
    assert "found 4; allowed is above 0 and at most 1" in by_key["method.temperature"]
    assert "Did you mean 'train.steps'?" in by_key["train.step"]
    assert "Did you mean 'train.lr'?" in by_key["lr"]
    assert "allowed is a whole number, or one of 'auto'" in by_key["train.devices"]
    assert "found 'a'; allowed is a whole number" in by_key["method.grid[1]"]
    assert "Did you mean 'on'?" in by_key["train.mode"]
    assert "a number" in by_key["weights.liver"]
    assert "[1,2,3]" in by_key["spacing_mm"]
    assert "key=value" in by_key["'junk'"]
    assert all("(from command line)" in line for line in lines if not line.startswith("'junk'"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["method.name=contrst"], "method.name: found 'contrst'. Did you mean 'contrast'?"),
        (["method.name=masked", "method.grid=[1,2,3]"], "belongs to another kind; this one has: name, ratio"),
        (["train=3"], "train: found 3; allowed is a group of settings"),
        (["train.warmup=0.9"], "train: warmup takes more than half of the run"),
        (["trian.steps=3"], "trian: unknown key. Did you mean 'train'? (from command line)"),
        (["train.steps=1.5"], "found 1.5; allowed is a whole number, at least 1"),
        (["train.steps=0"], "found 0; allowed is at least 1"),
    ],
)
def test_an_error_says_what_was_found_and_what_is_allowed(overrides, sentence):
    (line,) = errors_of(Everything, *overrides)
    assert sentence in line


def test_missing_settings_are_named_with_their_meaning():
    lines = errors_of(Needs)
    assert lines == [
        "data: missing. It is needed: the store to train from.",
        "steps: missing. It is needed and has no default.",
    ]


def test_an_error_in_a_preset_names_the_preset(presets):
    (presets / "pretend" / "bad.yaml").write_text("train:\n  setps: 3\n", encoding="utf-8")
    (line,) = errors_of(Everything, preset="bad")
    assert line == "train.setps: unknown key. Did you mean 'train.steps'? (from preset bad)"


def test_dump_loads_again_and_names_origins(presets, tmp_path):
    resolved = resolve(Everything, preset="large", overrides=["label=# not a comment", "weights.a=1e-9"])
    text = dump_with_origins(resolved)
    assert "  steps: 9" in text
    values = [line for line in text.splitlines() if not line.endswith(":")]
    assert all(" # " in line for line in values)
    assert next(line for line in values if "steps" in line).endswith("# preset large")
    assert Everything.model_validate(yaml.safe_load(text)) == resolved.settings
    (tmp_path / "run.yaml").write_text(dump_with_origins(resolved))
    assert resolve(Everything, preset=tmp_path / "run.yaml").settings == resolved.settings
    assert [path.name for path in tmp_path.iterdir() if "run" in path.name] == ["run.yaml"]


@given(
    st.builds(
        Everything,
        method=st.one_of(
            st.builds(Contrast, temperature=st.floats(0.001, 1), grid=st.tuples(*[st.integers(-9, 9)] * 3)),
            st.builds(Masked, ratio=st.floats(0.001, 0.999)),
        ),
        train=st.builds(Train, steps=st.integers(1, 10**9), lr=st.floats(allow_nan=False), warmup=st.just(0.25)),
        weights=st.dictionaries(st.from_regex(r"\A[a-z]{1,8}\Z"), st.floats(allow_nan=False, allow_infinity=False)),
        label=st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20).filter(
            lambda text: "$" not in text
        ),
    )
)
def test_every_settings_survive_a_dump(settings):
    resolved = Resolved(settings, dict.fromkeys(flatten(settings), "default"))
    assert Everything.model_validate(yaml.safe_load(dump_with_origins(resolved))) == settings


def test_presets_are_found_by_verb_name_and_path(presets):
    assert find_preset("small", "pretend") == presets / "pretend" / "small.yaml"
    assert find_preset("other/small", "pretend") == presets / "other" / "small.yaml"
    assert find_preset("large") == presets / "pretend" / "large.yaml"
    assert find_preset(presets / "pretend" / "large.yaml") == presets / "pretend" / "large.yaml"
    with pytest.raises(ConfigError, match="several verbs: other/small, pretend/small"):
        find_preset("small")
    with pytest.raises(ConfigError, match="Did you mean 'small'"):
        find_preset("smal", "pretend")
    with pytest.raises(ConfigError, match="no such settings file"):
        find_preset("absent.yaml")


def test_headers_of_presets(presets):
    small = next(preset for preset in list_presets("pretend") if preset.name == "small")
    assert small.header == {"purpose": "A small one.", "command": "medssl pretend small"}


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "3\n"])
def test_a_file_that_holds_no_mapping_is_named(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        resolve(Everything, preset=path)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("-3.5E2", -350.0), (".5", 0.5), ("7", 7), ("2024-01-02", "2024-01-02"), ("[1, 2e1]", [1, 20.0]),
     ("null", None), (".inf", float("inf")), ("1.5.2", "1.5.2"), ("1e", "1e")],
)  # fmt: skip
def test_yaml_reads_values_as_they_are_meant(text, value):
    assert read_yaml(text) == value
    assert type(read_yaml(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "'a' occurs twice"),
        ("a: &a [x, *a]\n", "stands for what holds it"),
        ("a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{n}: &{n} [{', '.join([f'*{o}'] * 9)}]\n"
         for o, n in zip("abcdef", "bcdefg", strict=True)), "stand for too much"),
        ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    ],
)  # fmt: skip
def test_yaml_refuses_what_settings_are_not(tmp_path, text, said):
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        resolve(Everything, preset=tmp_path / "bad.yaml")


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Everything().label = "other"
