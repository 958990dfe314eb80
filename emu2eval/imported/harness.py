"""Sample logs of lm-evaluation-harness and lmms-eval.

lm-evaluation-harness (EleutherAI), `--log_samples`: `samples_TASK_DATE.jsonl` with `results_DATE.json` beside
it; up to 0.4.2 one JSON list, by the name of .jsonl, with `results.json`. A row has doc_id, doc, target,
arguments, resps, filtered_resps and the scores by name. Newer rows name their filter: a document then has one
for each filter.
lmms-eval (EvolvingLMMs-Lab): at first one JSON file with args and logs; then `DATE_samples_TASK.jsonl` with
`DATE_results.json`, whose rows have neither doc nor arguments, and no resps where the filter changed nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emu2eval.adapters.thought import separated
from emu2eval.errors import ConfigError, DataError, UnknownName
from emu2eval.imported.entries import Entry, Log, Wanted, flat
from emu2eval.imported.files import Rows, digest, parse
from emu2eval.types import Response

ROW = "doc_id"

_NEW = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
_LMMS = re.compile(r"(?P<date>\d{8}_\d{6})_samples_(?P<task>.+)\.jsonl")
_MODEL = re.compile(r"(?:^|,)\s*(?:pretrained|model_version|model_name|model|path)=([^,]+)")
_NO_SCORE = frozenset(
    {
        *("doc_id", "doc", "target", "arguments", "input", "resps", "filtered_resps", "filter"),
        *("metrics", "doc_hash", "prompt_hash", "target_hash", "token_counts"),
    }
)


def is_log(rows: Rows) -> bool:
    """The rows are those of such a log."""
    first = rows[0][1]
    return ROW in first and ("resps" in first or "filtered_resps" in first)


def read(path: Path, rows: Rows, around: Mapping[str, Any], wanted: Wanted) -> Log:
    """The log as entries. Raises DataError for a damaged row, ConfigError for one of another kind."""
    if wanted.kind == "image":
        raise ConfigError("this task needs images, but the log has none", where=path)
    if wanted.answer is not None:
        raise ConfigError(
            "--answer is for plain files; a log's answers are always its resps", where=path,
            hint="to use filtered_resps instead: --filtered",
        )  # fmt: skip
    chosen = _filter(path, rows, wanted)
    if chosen is not None:
        rows = [(where, row) for where, row in rows if row.get("filter") == chosen]
    about = _about(path, around)
    lmms = about.lmms or bool(around) or (
        _LMMS.fullmatch(path.name) is not None
        or ("input" in rows[0][1] and "arguments" not in rows[0][1])
    )  # fmt: skip
    entries = [_entry(where, row, wanted) for where, row in rows]
    several = sum(_several(row) for _, row in rows)
    notes = [
        f"{several:,} samples have several responses; the first is used" if several else None,
        about.missing,
    ]
    name, asker = ("lmms-eval", "lmms-eval") if lmms else ("lm-evaluation-harness", "lm-eval")
    taken = "filtered_resps" if wanted.filtered else "resps"
    return Log(
        origin=f"{name} {about.version}" if about.version else name,
        files={path.name: digest(path), **about.files},
        entries=entries,
        answer=f"{taken} of the filter {chosen}" if chosen else taken,
        asker=asker,
        model=about.model,
        shots=about.shots,
        row_number=ROW,
        notes=tuple(note for note in notes if note),
    )


def _filter(path: Path, rows: Rows, wanted: Wanted) -> str | None:
    """The filter whose rows are taken; None = all rows, which then share their raw responses."""
    if not wanted.filtered:
        return None
    names = {str(row["filter"]) for _, row in rows if row.get("filter") is not None}
    if wanted.filter is not None and wanted.filter not in names:
        raise UnknownName("filter", wanted.filter, names, where=path)
    if wanted.filter is None and len(names) > 1:
        raise ConfigError(
            f"the log contains responses from {len(names)} filters: {', '.join(sorted(names))}",
            where=path,
            hint="choose one: --filter NAME",
        )
    return wanted.filter or next(iter(names), None)


def _entry(where: str, row: Mapping[str, Any], wanted: Wanted) -> Entry:
    doc = row.get("doc")
    scores = {name: value for name, value in row.items() if name not in _NO_SCORE}
    columns = dict(flat(doc)) if isinstance(doc, dict) else {}
    # Where the document is left out, what was made for a server's file often still has the id.
    for name, value in flat({**scores, **{k: row.get(k) for k in (ROW, "target", "input")}}):
        columns.setdefault(name, value)
    columns.setdefault("input", _asked(row.get("arguments")))
    filter_name = row.get("filter")
    suffix = "" if filter_name in (None, "none") else f",{filter_name}"
    response, choices = _response(where, row, wanted)
    return Entry(
        where=where,
        columns={name: value for name, value in columns.items() if value is not None},
        response=response,
        choices=choices,
        theirs={f"{name}{suffix}": value for name, value in _scores(scores)},
        filter=filter_name if isinstance(filter_name, str) else None,
    )


def _scores(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        inner = value.get("score") if isinstance(value, dict) else value
        # No score has hundreds of digits; such a number is more than a float holds.
        if isinstance(inner, (int, float)) and abs(inner) <= sys.float_info.max:
            yield name, float(inner)


def _requests(row: Mapping[str, Any], name: str) -> list[list[Any]] | None:
    """The responses to each request of a row; None where they are not of that shape.

    A filter leaves one in the place of several.
    """
    listed = row.get(name)
    if not isinstance(listed, list) or not listed:
        return None
    return [each if isinstance(each, list) and not _is_ranked(each) else [each] for each in listed]


def _several(row: Mapping[str, Any]) -> bool:
    return any(len(given) > 1 for given in _requests(row, "resps") or ())


def _response(
    where: str, row: Mapping[str, Any], wanted: Wanted
) -> tuple[Response, tuple[str, ...]]:
    """The response of a row, and the texts that it ranks."""
    name = "filtered_resps" if wanted.filtered or "resps" not in row else "resps"
    requests = _requests(row, name)
    if requests is None or not all(requests):
        raise DataError(f"{name} is not a list of responses", where=where)
    first = [given[0] for given in requests]
    if all(isinstance(each, list) and _is_ranked(each) for each in first):
        if wanted.kind != "choice":
            raise _other("ranks choices by log-likelihood", wanted.kind, where)
        return Response(log_probs=tuple(float(each[0]) for each in first)), _ranked(where, row)
    if wanted.kind == "choice":
        raise _other("contains generated text", wanted.kind, where)
    if len(first) > 1:
        raise DataError(f"the row contains texts for {len(first)} requests, not one", where=where)
    if first[0] is None:
        return Response(error="the log contains no answer"), ()
    if not isinstance(first[0], str):
        raise DataError(f"the response is not text but {first[0]!r:.60}", where=where)
    return separated(Response(text=first[0])), ()


def _other(holds: str, kind: str, where: str) -> ConfigError:
    wants = "log-probabilities of choices" if kind == "choice" else "text"
    return ConfigError(
        f"the log {holds}, but the task needs {wants}",
        where=where,
        hint="use a protocol of the task with that kind of output: --protocol NAME",
    )


def _is_ranked(value: list[Any]) -> bool:
    """A log-likelihood and whether the text was the greedy one; newer logs write both as texts."""
    if len(value) != 2 or str(value[1]) not in ("True", "False"):
        return False
    try:
        float(value[0])
    except (TypeError, ValueError):
        return False
    return True


def _ranked(where: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The text that each request of a row ranks: the second of its arguments."""
    arguments = row.get("arguments")
    if isinstance(arguments, dict):
        pairs = [list(a.values()) if isinstance(a, dict) else a for a in arguments.values()]
    else:
        pairs = arguments if isinstance(arguments, list) else []
    texts = [pair[1] for pair in pairs if isinstance(pair, list) and len(pair) > 1]
    if not pairs or len(texts) != len(pairs) or not all(isinstance(t, str) for t in texts):
        raise DataError(
            "the log does not record which texts it ranks, so they cannot be matched with the choices",
            where=where,
        )
    return tuple(texts)


def _asked(arguments: Any) -> str | None:
    """The prompt of a row's first request."""
    found = next(iter(arguments.values()), None) if isinstance(arguments, dict) else arguments
    while isinstance(found, (list, dict)) and found:
        found = next(iter(found.values())) if isinstance(found, dict) else found[0]
    return found if isinstance(found, str) else None


@dataclass(frozen=True)
class _About:
    """What the file of results, or what stands around the logs, says. missing: why it says nothing."""

    model: str | None = None
    shots: int | None = None
    version: str | None = None
    lmms: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    missing: str | None = None


def _about(path: Path, around: Mapping[str, Any]) -> _About:
    if around:
        args = around.get("args")
        config = around.get("model_configs") or around.get("config") or {}
        args = args if isinstance(args, dict) else {}
        shots = args.get("num_fewshot")
        shots = config.get("num_fewshot") if shots is None and isinstance(config, dict) else shots
        model = _model(args.get("model_args")) or args.get("model")
        return _About(model, shots if isinstance(shots, int) else None, lmms=True)
    task, beside = _beside(path)
    if beside is None:
        said = "there is no results file next to the log, so the model and shots are unknown"
        return _About(missing=said)
    results = parse(beside)
    if not isinstance(results, dict):
        raise DataError("the results file does not contain a JSON object", where=beside)
    config = results.get("config")
    config = config if isinstance(config, dict) else {}
    model = (
        results.get("model_name")
        or _model(config.get("model_args"))
        or config.get("model")
        or results.get("model_source")
    )
    version = results.get("lm_eval_version") or results.get("lmms_eval_version")
    return _About(
        model=str(model) if model else None,
        shots=_shots(results.get("n-shot"), task),
        version=str(version) if version else None,
        lmms="lmms_eval_version" in results,
        files={beside.name: digest(beside)},
    )


def _beside(path: Path) -> tuple[str | None, Path | None]:
    """(the log's task, the file of results of the same evaluation)."""
    named = [
        (found["task"], path.with_name(form.format(found["date"])))
        for found, form in (
            (_NEW.fullmatch(path.name), "results_{}.json"),
            (_LMMS.fullmatch(path.name), "{}_results.json"),
        )
        if found is not None
    ]
    task = named[0][0] if named else None
    if named and named[0][1].is_file():
        return task, named[0][1]
    # An evaluation that was moved or renamed: only where there is no doubt.
    others = {*path.parent.glob("results*.json"), *path.parent.glob("*_results.json")} - {path}
    return task, others.pop() if len(others) == 1 else None


def _shots(given: Any, task: str | None) -> int | None:
    counts = given if isinstance(given, dict) else {}
    if task in counts:
        found = counts[task]
    else:
        different = {value for value in counts.values() if isinstance(value, int)}
        found = different.pop() if len(different) == 1 else None
    return found if isinstance(found, int) else None


def _model(args: Any) -> str | None:
    """The model's name among the arguments of an adapter, of which nothing else is kept."""
    if isinstance(args, dict):
        args = ",".join(f"{key}={value}" for key, value in args.items())
    found = _MODEL.search(args) if isinstance(args, str) else None
    return found[1].strip("'\" ") if found else None
