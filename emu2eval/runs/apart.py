"""What tells stored runs apart that would otherwise look the same: as few of their settings as are enough."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.errors import StoreError, shown
from emu2eval.identity import value_key
from emu2eval.runs.record import Record, read_record
from emu2eval.runs.scores import read_rows
from emu2eval.types import Row

_DIGEST = re.compile("[0-9a-f]{64}")
_LONGEST = 24
"""Characters of a value that a label holds; a longer one stands there by its digest."""


@dataclass(frozen=True)
class TableRun:
    """A stored run as a table shows it. record: None where it cannot be read, which tells nothing apart."""

    record: Record | None
    rows: tuple[Row, ...]


def read_table_run(folder: Path) -> TableRun:
    """The run's rows with what it was; no rows where it was never scored. Raises StoreError."""
    rows = tuple(read_rows(folder))
    record = None
    if rows:
        with suppress(StoreError):
            record = read_record(folder)
    return TableRun(record, rows)


def told_apart(runs: Sequence[TableRun], *, seeds: bool = False) -> list[TableRun]:
    """The runs, with what tells them apart in the name of the model, such as `my-model (layout=plain)`.

    Two runs look the same where model, task, protocol, split, shots, ablation and seed are equal. What
    differs between them stands with every run of that model here, so that a line of a curve or of a
    leaderboard is of one setting. seeds: the seed is no column of what is shown.
    """
    names = labels([run.record for run in runs], seeds=seeds)
    return [
        run
        if run.record is None or name == run.record.shown
        else TableRun(
            run.record, tuple(msgspec.structs.replace(row, model=name) for row in run.rows)
        )
        for run, name in zip(runs, names, strict=True)
    ]


def labels(records: Sequence[Record | None], *, seeds: bool = False) -> list[str]:
    """A name for the model of each run, in their order; "" where there is no record."""
    places: dict[Hashable, list[Record]] = {}
    for record in records:
        if record is not None:
            places.setdefault(_place(record, seeds), []).append(record)
    telling: dict[str, dict[str, None]] = {}
    for together in places.values():
        telling.setdefault(together[0].shown, {}).update(dict.fromkeys(_differing(together)))
    tails: dict[str, dict[str, int]] = {}
    for name, keys in telling.items():
        own = [_values(each) for each in records if each is not None and each.shown == name]
        tails[name] = {key: _parts([values.get(key) for values in own]) for key in keys}
    return ["" if record is None else _named(record, tails[record.shown]) for record in records]


def _place(record: Record, seeds: bool) -> Hashable:
    task = record.identity.task
    asked = (record.task.name, task.version, record.protocol_label, record.task.split)
    return (record.shown, *asked, record.setting, None if seeds else record.seed)


def _differing(runs: Sequence[Record]) -> Iterator[str]:
    """The keys by which the runs of one place differ: whole kinds of them, until no two are the same."""
    if len({run.fingerprint for run in runs}) < 2:
        return
    known: list[list[str]] = [[] for _ in runs]
    for kind in range(len(_kinds(runs[0]))):
        found = [_kinds(run)[kind] for run in runs]
        for key in sorted({key for each in found for key in each}):
            values = [repr(each.get(key)) for each in found]
            if len(set(values)) > 1:
                yield key
                known = [[*before, value] for before, value in zip(known, values, strict=True)]
        if len({tuple(each) for each in known}) == len({run.fingerprint for run in runs}):
            return


def _kinds(run: Record) -> tuple[Mapping[str, Any], ...]:
    """What a run can differ in, what people set themselves first."""
    identity = run.identity
    asked = {
        key: value
        for part in (identity.task.output, identity.task.demonstrations)
        for key, value in _flat(part)
    }
    files = identity.model.files if identity.model is not None else {}
    return (
        dict(_flat(run.model.settings)),
        {**({"seed": run.seed} if run.seed else {}), **({"fit": True} if run.fit else {})},
        asked,
        {"template": dict(identity.task.template)},
        {"data": msgspec.to_builtins(identity.data)},
        dict(_flat(files)),
        {"adapter": msgspec.to_builtins(identity.model)},
    )


def _flat(given: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in given.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _values(record: Record) -> dict[str, Any]:
    own: dict[str, Any] = {}
    for kind in reversed(_kinds(record)):
        own.update(kind)
    return own


def _parts(values: Sequence[Any]) -> int:
    """How many last parts of paths tell them apart: more than 1 for folders of one name in two places."""
    paths = {tuple(value.rstrip("/").split("/")) for value in values if isinstance(value, str)}
    longest = max(map(len, paths), default=1)
    return next(
        (n for n in range(1, longest) if len({path[-n:] for path in paths}) == len(paths)), longest
    )


def _named(record: Record, tails: Mapping[str, int]) -> str:
    own = _values(record)
    said = [f"{key}={_short(own[key], parts)}" for key, parts in tails.items() if key in own]
    return f"{record.shown} ({', '.join(said)})" if said else record.shown


def _short(value: Any, parts: int) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and "/" in value:
        value = "/".join(value.rstrip("/").split("/")[-parts:])
    text = value if isinstance(value, str) else shown(value)
    if _DIGEST.fullmatch(text):
        return text[:8]
    return text if len(text) <= _LONGEST else value_key(value)[:8]
