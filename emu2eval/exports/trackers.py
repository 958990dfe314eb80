"""Results of stored runs as experiment trackers and model cards take them, in files: no tool is needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from emu2eval.errors import StoreError, UnknownName
from emu2eval.exports import fields
from emu2eval.exports.results import as_json
from emu2eval.exports.stored import StoredRows
from emu2eval.runs.record import Record
from emu2eval.types import Row

_RENDERED = ("value", "stderr", "low", "high", "n", "unscored")


def render(runs: Sequence[StoredRows], form: str) -> str:
    """The text of a file of that format. Raises UnknownName, or StoreError where no run is scored."""
    if form not in FORMATS:
        raise UnknownName("format of exports", form, [*FORMATS, "lm-eval"], where="--format")
    if not runs:
        raise StoreError("no scored runs to export", hint="emu2eval ls runs")
    return FORMATS[form](runs)


def wandb(runs: Sequence[StoredRows]) -> str:
    """JSON lines, one run each, with what Weights & Biases takes.

    name, group, config: of `wandb.init`; summary: of `run.summary.update`; table: of `wandb.Table`, the
    rows of the report.
    """
    lines = []
    for run in runs:
        record, rows, first = run.record, run.rows, run.rows[0]
        config = {
            **_setting(first),
            "seed": record.seed,
            "limit": record.extent.limit,
            "trials": first.trials,
            "changes": record.changes.assignments(),
            "settings": record.model.settings,
            "versions": record.versions,
            "fingerprint": record.fingerprint,
        }
        summary: dict[str, Any] = {}
        for row in rows:
            name = "/".join(filter(None, (row.task, row.group, row.label)))
            summary |= {f"{name}/{key}": getattr(row, key) for key in _RENDERED}
        columns = ["group", "metric", "variant", "judge", *_RENDERED]
        table = {"columns": columns, "data": [[getattr(r, c) for c in columns] for r in rows]}
        about = {"name": run.folder.name, "group": first.task, "config": config}
        lines.append(json.dumps({**about, "summary": summary, "table": table}, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines)


def model_index(runs: Sequence[StoredRows]) -> str:
    """The front matter of a model card: `model-index` with the numbers of the whole splits and subsets."""
    models: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for row in run.rows:
            if row.group is None and row.value is not None:
                models.setdefault(row.model, []).append(_result(row, run.record))
    index = [{"name": name, "results": results} for name, results in models.items()]
    body = yaml.safe_dump({"model-index": index}, sort_keys=False, allow_unicode=True)
    return f"---\n{body}---\n"


_ARGUMENTS = (
    "shots", "ablation", "protocol", "imported", "variant", "judge", "encoder", "n", "unscored", "hidden",
    "covered", "queries", "shortened", "trials", "seed", "stderr", "low", "high", "changes", "marks", "notes",
)  # fmt: skip
"""Fields of a row that a model card gives as arguments of the metric, where they say something."""


def _result(row: Row, record: Record) -> dict[str, Any]:
    # A record that somebody edited may have lost a key of its task's file: what is left is shown.
    spec, output = record.task.spec, record.identity.task.output
    kind = "text-to-image" if output.get("kind") == "image" else "image-text-to-text"
    data = spec.get("data")
    sources = data.get("sources") if isinstance(data, dict) else None
    repositories = (
        source["repo"]
        for source in (sources.values() if isinstance(sources, dict) else ())
        if isinstance(source, dict) and "repo" in source
    )
    repository = str(next(repositories, row.task))
    known = fields.plain(row)
    return {
        "task": {"type": kind},
        "dataset": {
            "name": str(spec.get("title") or row.task),
            "type": repository,
            "split": row.split,
        },
        "metrics": [
            {
                "type": row.metric,
                "value": row.value,
                "name": f"{row.label}, {row.setting} shots",
                "args": {name: known[name] for name in _ARGUMENTS if known[name] not in (None, [])},
            }
        ],
    }


def _setting(row: Row) -> dict[str, Any]:
    names = (
        "task", "version", "split", "protocol", "imported", "model", "shots", "ablation", "metric",
        "variant", "judge",
    )  # fmt: skip
    known = fields.plain(row)
    return {name: known[name] for name in names}


FORMATS: Mapping[str, Callable[[Sequence[StoredRows]], str]] = {
    "json": as_json,
    "model-index": model_index,
    "wandb": wandb,
}
