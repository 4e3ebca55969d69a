"""The one table: what its rows name is there, and a name that is none gets an answer that helps."""

from __future__ import annotations

import pkgutil
from typing import get_args

import pytest
from pydantic import BaseModel

from medssl.encoders.table import ENCODERS
from medssl.errors import ConfigError
from medssl.formats.table import FORMATS
from medssl.methods.table import METHODS
from medssl.reduction.table import STRATEGIES
from medssl.store.index import INDEX as SCANS
from medssl.table import Row, Table
from medssl.tasks.table import TASKS
from medssl.volumes import VOLUMES
from medssl.workflows.finetune_settings import FinetuneSettings
from medssl.workflows.reduce_settings import ReduceSettings
from medssl.workflows.verbs import VERBS
from pointcloud.domain import POINTS
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.formats.table import FORMATS as CLOUD_FORMATS
from pointcloud.methods.table import CLOUD_METHODS
from pointcloud.store import INDEX as CLOUDS
from pointcloud.tasks.table import CLOUD_TASKS

TABLES = (
    METHODS,
    ENCODERS,
    CLOUD_METHODS,
    CLOUD_ENCODERS,
    TASKS,
    CLOUD_TASKS,
    STRATEGIES,
    FORMATS,
    CLOUD_FORMATS,
    VERBS,
)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
def test_every_row_names_what_is_there(table):
    assert table
    for name, row in table.items():
        assert row.name == name
        found = table.load(name)
        assert row.target.rpartition(".")[2] == found.__name__.rpartition(".")[2]
        if row.settings:
            assert issubclass(table.settings_class(name), BaseModel)


@pytest.mark.parametrize("table", [METHODS, ENCODERS, CLOUD_METHODS, CLOUD_ENCODERS], ids=lambda table: table.kind)
def test_settings_are_named_as_their_row_and_make_one_union(table):
    classes = [table.settings_class(name) for name in table]
    assert [cls.model_fields["name"].default for cls in classes] == list(table)
    assert list(get_args(get_args(table.settings_union())[0])) == classes
    first, *others = table
    assert list(get_args(get_args(table.settings_union(but=[first]))[0])) == [table.settings_class(n) for n in others]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
def test_a_name_that_is_none_gets_the_nearest(table):
    name = max(table, key=len)
    with pytest.raises(ConfigError, match=f"There is no {table.kind} '{name}x'. Did you mean '{name}'"):
        table.row(name + "x")


def test_two_rows_of_one_name_are_refused():
    with pytest.raises(AssertionError, match="same name"):
        Table("thing", (Row(name="a", target="json.loads"), Row(name="a", target="json.dumps")))


def test_what_settings_allow_is_what_the_tables_hold():
    assert set(get_args(ReduceSettings.model_fields["by"].annotation)) == {"copies", *STRATEGIES}
    assert list(get_args(FinetuneSettings.model_fields["task"].annotation)) == list(TASKS) == list(CLOUD_TASKS)


def test_settings_without_a_name_are_refused_with_the_names():
    with pytest.raises(ConfigError, match=r"The encoder has no name\. Allowed: residual, unet"):
        ENCODERS.settings_of({"channels": [4, 8]})
    with pytest.raises(ConfigError, match="The strategy 'all' takes no settings"):
        STRATEGIES.settings_class("all")


def test_a_domain_is_listed_by_light_names_and_its_parts_are_there():
    assert (VOLUMES.listing, POINTS.listing) == (SCANS, CLOUDS)
    for domain in (VOLUMES, POINTS):
        for name, place in domain.parts.items():
            assert pkgutil.resolve_name(place) is not None, name
        assert all(domain.task(name).learns and domain.task(name).sees for name in domain.tasks)
