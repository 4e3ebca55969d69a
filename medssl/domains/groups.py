"""The groups of a store's items that a run's batches are made by: read, checked, and what is said of them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from medssl.batch import Ordering
from medssl.engine.run import Run
from medssl.errors import CheckpointError, ConfigError, DataError
from medssl.item_orders import order_of_items
from medssl.listings import ListedStore
from medssl.spreadsheet import csv_text, read_cell
from medssl.step_loader import Grouping, group_numbers

__all__ = ["group_lines", "grouping", "keep_groups", "read_groups"]

_FILE = "groups.csv"


def grouping(data: Any, store: ListedStore[Any, Any]) -> Grouping:
    """Return how the settings ``data`` order the items of a store; nothing for the shuffled order.

    Raises:
        ConfigError: An order by groups lacks its file, or a file its order.
        DataError: The file cannot be read, says two things of an item, or nothing of one.
    """
    ordering: Ordering = getattr(data, "order", "shuffled")
    path = getattr(data, "groups", "")
    if ordering == "shuffled":
        if path:
            raise ConfigError(
                f"data.groups={path} does nothing in the shuffled order. Set data.order to one of "
                f"{', '.join(get_args(Ordering)[1:])}, or leave the file out."
            )
        return Grouping()
    if not path:
        raise ConfigError(
            f"data.order={ordering} needs data.groups: a CSV with the columns scan and group, a row for each "
            f"{store.noun} to train on."
        )
    table = read_groups(path)
    lacking = [entry.id for entry in store.entries if entry.id not in table]
    if lacking:
        raise DataError(
            f"{path}: names no group of {len(lacking)} of the {len(store)} {store.noun}s to train on, such as "
            f"{lacking[0]!r}. Add them, or train on others (data.splits)."
        )
    return Grouping(ordering=ordering, groups=group_numbers(table[entry.id] for entry in store.entries))


def read_groups(path: str | Path) -> Mapping[str, str]:
    """Return the group of each scan or cloud that a CSV with the columns scan and group names.

    Raises:
        DataError: It cannot be read, lacks a column, has an empty cell, or puts one item into two groups.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = [(reader.line_num, row) for row in reader], reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: the table of groups cannot be read ({error}).") from error
    if not {"scan", "group"} <= set(columns):
        raise DataError(
            f"{path}: a table of groups has the columns scan and group. Found: {', '.join(columns) or 'none'}."
        )
    groups: dict[str, str] = {}
    for line, row in rows:
        name, group = read_cell(row["scan"] or ""), row["group"] or ""
        if not name or not group:
            raise DataError(f"{path}: line {line} lacks its {'group' if name else 'scan'}. Fill it in.")
        if groups.setdefault(name, group) != group:
            raise DataError(
                f"{path}: line {line} puts {name!r} into group {group!r}, a line before into {groups[name]!r}. "
                "Leave it in one."
            )
    return groups


def keep_groups(run: Run, data: Any, store: ListedStore[Any, Any], *, resume: bool) -> None:
    """Write a run's groups into its folder, by number; resumed, see that they are the same.

    Raises:
        CheckpointError: The file of groups was changed since the run began.
    """
    groups = grouping(data, store).get("groups")
    if groups is None:
        return
    path = run.folder / _FILE
    now = dict(zip((entry.id for entry in store.entries), map(str, groups), strict=True))
    if resume and path.is_file() and (before := read_groups(path)) != now:
        found = sum(before.get(name) != group for name, group in now.items())
        raise CheckpointError(
            f"{data.groups}: {found} of {len(now)} {store.noun}s are in other groups than when the run in {run.folder} "
            f"began ({path.name} there has them), so that it would go on with other batches. Put the file back as it "
            "was, or begin a new run."
        )
    run.write_text(_FILE, csv_text(("scan", "group"), list(now.items())))


def group_lines(settings: Any, store: ListedStore[Any, Any], rows_per_item: int) -> list[str]:
    """Return what is said of a run's groups before it starts, a line each; none in the shuffled order.

    Args:
        settings: Of the run.
        store: What is trained on.
        rows_per_item: Rows of the batch that each item takes.

    Raises:
        ConfigError, DataError: See `grouping`; or groups do not fill batches.
    """
    found = grouping(settings.data, store)
    groups = found.get("groups")
    if groups is None:
        return []
    sizes = list(Counter(groups).values())
    taken = settings.train.batch_size // rows_per_item
    if not getattr(settings.data, "slices", ""):  # else items are slices, which the loader counts
        order_of_items(found["ordering"], len(groups), groups, taken, settings.train.seed)
    lines = [f"order: {found['ordering']} of {len(sizes)} groups of {min(sizes)} to {max(sizes)} {store.noun}s"]
    small = [size for size in sizes if size < taken]
    if found["ordering"] == "one_group" and small and not getattr(settings.data, "slices", ""):
        lines.append(
            f"doubtful: {sum(small)} {store.noun}s are never seen: {len(small)} groups do not fill a batch of {taken}. "
            "Set a smaller train.batch_size, or make fewer groups."
        )
    if found["ordering"] == "one_per_group" and len(sizes) < taken:
        lines.append(
            f"doubtful: a batch takes {taken} {store.noun}s of {len(sizes)} groups, so that some share theirs. "
            "Make as many groups as a batch takes, or more."
        )
    return lines
