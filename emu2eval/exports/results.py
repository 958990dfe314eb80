"""Results of stored runs as one JSON document of a documented, versioned form.

`results.schema.json` beside this file is its JSON Schema. A field that is renamed, taken away or comes to
mean something else makes another version of the form; one that is added does not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from emu2eval import registry
from emu2eval.exports.stored import StoredRows
from emu2eval.runs.apart import labels
from emu2eval.runs.record import Record, versions
from emu2eval.types import Row

SCHEMA = Path(__file__).with_name("results.schema.json")


def _is(description: str) -> Any:
    return Meta(description=description)


class ResultNumber(msgspec.Struct, frozen=True, kw_only=True):
    """A number of a run: of all its samples, or of one of its groups."""

    group: Annotated[
        str | None, _is("The sub-group of samples, as `name: label`; null = all samples.")
    ]
    metric: Annotated[str, _is("The metric, such as vqa_accuracy.")]
    variant: Annotated[
        str | None, _is("Scoring rule, judge wording or encoder; null = there is only one.")
    ]
    judge: Annotated[str | None, _is("The judge model; null = none.")]
    encoder: Annotated[str | None, _is("The identity of the encoder used for the metric, if any.")]
    value: Annotated[float | None, _is("In `unit`, unrounded; null = nothing was scored.")]
    unit: Annotated[
        str | None,
        _is(
            "percent, points (the official scale), cosine (from -1 to 1), distance, or CIDEr x 100; null = "
            "a custom scorer's own unit."
        ),
    ]
    higher_is_better: bool
    stderr: Annotated[
        float | None,
        _is("Standard error in `unit`, clustered, including the variance between trials."),
    ]
    low: Annotated[float | None, _is("Lower end of the 95 % interval, in `unit`.")]
    high: Annotated[float | None, _is("Upper end of the 95 % interval, in `unit`.")]
    spread: Annotated[float | None, _is("Standard deviation between trials, in `unit`.")]
    n: Annotated[int, _is("Number of scored answers, over all trials and takes.")]
    unscored: Annotated[
        int,
        _is("Answers without a score (failed request or not scorable); never counted as 0."),
    ]
    hidden: Annotated[int, _is("Answers to samples whose references only a test server has.")]
    chance: Annotated[float | None, _is("The score of random guessing, in `unit`, if known.")]
    ceiling: Annotated[
        float | None, _is("The score of perfect use of the demonstrations, if known.")
    ]
    set_scaled: Annotated[
        bool,
        _is("The scale depends on the set of samples, so values are not comparable across sets."),
    ]
    notes: Annotated[tuple[str, ...], _is("Notes from the scorer, in English.")]


class ResultMark(msgspec.Struct, frozen=True, kw_only=True):
    """Something about how answers came about that a reader should know."""

    kind: str
    value: str | int | None
    answers: Annotated[int, _is("How many answers have this mark.")]


class ResultRun(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of whom, and what came of it."""

    run: Annotated[str, _is("The name of its folder.")]
    fingerprint: Annotated[
        str, _is("Hex SHA-256 of everything that determines its answers; equal for equal runs.")
    ]
    label: Annotated[
        str,
        _is(
            "The model, with the settings that distinguish its runs in this document: `m (beams=3)`."
        ),
    ]
    model: str
    adapter: Annotated[str | None, _is("The adapter; null = the answers were imported.")]
    model_settings: Annotated[dict[str, Any], _is("As in the model file; no secrets.")]
    task: str
    task_version: int
    split: str
    protocol: Annotated[str, _is("The protocol of the task.")]
    shots: Annotated[int, _is("Number of demonstrations per prompt.")]
    text_only: Annotated[bool, _is("Demonstrations without their images, the setting 0*.")]
    ablation: Annotated[str, _is("What was removed from the demonstrations; none = nothing.")]
    seed: Annotated[int, _is("Seed for drawing demonstrations.")]
    trials: Annotated[int, _is("Repeated draws of demonstrations.")]
    limit: Annotated[int | None, _is("Number of queries, a fixed random subset; null = all.")]
    queries: Annotated[int, _is("Number of samples in the split.")]
    covered: Annotated[int, _is("Number of queries covered by this run.")]
    missing: Annotated[int, _is("Queries skipped because a file is missing.")]
    shortened: Annotated[
        int, _is("Prompts shortened to fit, with fewer demonstrations than requested.")
    ]
    seconds: Annotated[float, _is("Seconds spent in the model, over all starts of the run.")]
    changes: Annotated[
        dict[str, Any], _is("Settings changed with --set, by dotted key: task.output.beams.")
    ]
    sources: Annotated[
        dict[str, str], _is("Sources of data that does not come from the official files.")
    ]
    imported: Annotated[str | None, _is("The origin of imported answers; null = not imported.")]
    marks: Annotated[
        tuple[ResultMark, ...], _is("Marks on answers, such as images that were resized.")
    ]
    versions: Annotated[dict[str, str], _is("Versions of Python and the packages used.")]
    numbers: Annotated[
        tuple[ResultNumber, ...], _is("The main metric first, then other metrics, then sub-groups.")
    ]


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """Stored runs and their numbers."""

    format: Literal["emu2eval-results"] = "emu2eval-results"
    version: Annotated[Literal[1], _is("Version of this format.")] = 1
    emu2eval: Annotated[str, _is("The version of emu2eval that wrote it.")]
    runs: tuple[ResultRun, ...]


def results(runs: Sequence[StoredRows]) -> Results:
    """The document of these runs, in their order."""
    named = labels([run.record for run in runs], seeds=True)
    return Results(
        emu2eval=versions().get("emu2eval", "unknown"),
        runs=tuple(_run(run, name) for run, name in zip(runs, named, strict=True)),
    )


def as_json(runs: Sequence[StoredRows]) -> str:
    """Every number with its unit, interval, failures and run, as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(results(runs)), indent=2).decode() + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of the document, made of the structs above."""
    made = msgspec.json.schema(Results)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Results of emu2eval, version 1",
        **made,
    }


def schema_text() -> str:
    """As `results.schema.json` holds it."""
    return json.dumps(schema(), indent=2) + "\n"


def _run(stored: StoredRows, label: str) -> ResultRun:
    record, head = stored.record, stored.rows[0]
    changes = msgspec.structs.asdict(record.changes)
    return ResultRun(
        run=stored.folder.name,
        fingerprint=record.fingerprint,
        label=label or record.shown,
        model=record.model.name,
        adapter=record.model.adapter,
        model_settings=record.model.settings,
        task=record.task.name,
        task_version=record.identity.task.version,
        split=record.task.split,
        protocol=record.task.protocol,
        shots=record.shots.count,
        text_only=record.shots.text_only,
        ablation=record.ablation,
        seed=record.seed,
        trials=head.trials,
        limit=record.extent.limit,
        queries=head.queries,
        covered=head.covered,
        missing=head.missing,
        shortened=head.shortened,
        seconds=head.seconds,
        changes={
            f"{part}.{key}": value for part, own in changes.items() for key, value in own.items()
        },
        sources=dict(head.sources),
        imported=head.imported,
        marks=tuple(
            ResultMark(kind=mark.kind, value=mark.value, answers=count)
            for mark, count in head.marks
        ),
        versions=record.versions,
        numbers=tuple(_number(row, record) for row in stored.rows),
    )


def _number(row: Row, record: Record) -> ResultNumber:
    same = {name: getattr(row, name) for name in ResultNumber.__struct_fields__ if name != "unit"}
    return ResultNumber(unit=unit(row, record), **same)


_UNITS = {
    **dict.fromkeys(("clip_i", "clip_t", "dino"), "cosine"),
    **dict.fromkeys(("mm_vet", "mm_vet_std_of_runs", "touchstone"), "points"),
    "fid": "distance",
    "CIDEr": "CIDEr x 100",
}
"""Metrics of our scorers that are no percentages."""


def unit(row: Row, record: Record) -> str | None:
    """The unit of a row's number; None where only its scorer's author knows it."""
    spec = record.task.spec.get("score")
    scorer = spec.get("scorer") if isinstance(spec, dict) else None
    if row.metric in _UNITS:
        return _UNITS[row.metric]
    ours = scorer in registry.BUILT_IN["scorer"] and scorer not in ("dreambench_plus", "images")
    return "percent" if ours else None
