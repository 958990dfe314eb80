"""Stored runs as lm-evaluation-harness writes them: results_DATE.json and samples_TASK_DATE.jsonl.

As version 0.4.13 has them (EleutherAI/lm-evaluation-harness at 4e7e0d47: lm_eval/result_schema.py and
loggers/evaluation_tracker.py). Runs of one model that were asked alike but for the task are one evaluation.
Rates are from 0 to 1 there. What the form has no place for, such as intervals and failures, stands under
`emu2eval` as `exports.results` has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from emu2eval.engine.questions import Place
from emu2eval.engine.reopen import Reopened, reopen
from emu2eval.engine.scoring import response_of
from emu2eval.errors import UserError
from emu2eval.exports.results import ResultRun, results, unit
from emu2eval.exports.stored import StoredRows, write
from emu2eval.media import images
from emu2eval.runs.files import explained
from emu2eval.runs.record import versions
from emu2eval.runs.scores import REPORT, SampleScore, read_scores
from emu2eval.types import Image, Response, Row, Sample, Video

Json = dict[str, Any]

IMAGE = "<image>"
"""Stands for an image in a prompt, as in the harness's own multimodal models."""


def export(runs: Sequence[StoredRows], into: Path) -> Iterator[str]:
    """Writes a folder a model, as the harness does; yields a line of every file, or of what is missing.

    The samples of a run whose data is not there are left out. Raises StoreError.
    """
    groups: dict[tuple[Any, ...], list[tuple[StoredRows, ResultRun]]] = {}
    for stored, run in zip(runs, results(runs).runs, strict=True):
        alike = (run.label, run.shots, run.text_only, run.ablation, run.seed, run.trials)
        groups.setdefault(alike, []).append((stored, run))
    dates: set[str] = set()
    for group in groups.values():
        date = _date(group, dates)
        folder = into / _safe(group[0][1].label)
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        named = list(_named(group))
        hashes: dict[str, str] = {}
        for name, stored, _ in named:
            file = folder / f"samples_{_safe(name)}_{date}.jsonl"
            try:
                lines = list(_samples(stored))
            except UserError as error:
                yield f"{stored.folder.name}: no samples, because its prompts cannot be built: {error.what}"
                continue
            parts = ("doc_hash", "prompt_hash", "target_hash")
            hashes[name] = _hash("".join(line[part] for line in lines for part in parts))
            write("".join(f"{_dumped(line)}\n" for line in lines), file)
            yield f"wrote {file}: {len(lines):,} samples"
        file = folder / f"results_{date}.json"
        write(json.dumps(_results(named, hashes), indent=2, ensure_ascii=False) + "\n", file)
        yield f"wrote {file}"


def _date(group: Sequence[tuple[StoredRows, ResultRun]], taken: set[str]) -> str:
    """When the last of the runs was scored, as the harness writes it into names; each once."""
    last = max((stored.folder / REPORT).stat().st_mtime for stored, _ in group)
    when = datetime.fromtimestamp(last, UTC).replace(tzinfo=None)
    while (name := when.isoformat(timespec="microseconds").replace(":", "-")) in taken:
        when += timedelta(microseconds=1)
    taken.add(name)
    return name


def _named(
    group: Sequence[tuple[StoredRows, ResultRun]],
) -> Iterator[tuple[str, StoredRows, ResultRun]]:
    """Each run by its task; by protocol and split, too, where two share the task."""
    tasks = [run.task for _, run in group]
    for stored, run in group:
        twice = tasks.count(run.task) > 1
        yield (f"{run.task}_{run.protocol}_{run.split}" if twice else run.task), stored, run


def _results(named: Sequence[tuple[str, StoredRows, ResultRun]], hashes: Mapping[str, str]) -> Json:
    first = named[0][2]
    wholes = {name: [row for row in stored.rows if row.group is None] for name, stored, _ in named}
    return {
        "results": {
            name: {
                "name": name,
                "alias": name,
                "sample_len": run.covered,
                **{
                    key: value
                    for row in wholes[name]
                    for key, value in _metric(row, stored).items()
                },
            }
            for name, stored, run in named
        },
        "group_subtasks": {name: [] for name, _, _ in named},
        "configs": {name: _config(stored, run) for name, stored, run in named},
        "versions": {name: run.task_version for name, _, run in named},
        "n-shot": {name: run.shots for name, _, run in named},
        "higher_is_better": {
            name: {row.metric: row.higher_is_better for row in wholes[name]} for name, _, _ in named
        },
        "n-samples": {
            name: {"original": run.queries, "effective": run.covered} for name, _, run in named
        },
        "config": {
            "model": first.adapter or first.imported,
            "model_args": {"pretrained": _checkpoint(first), **first.model_settings},
            "batch_size": None,
            "batch_sizes": [],
            "device": None,
            "use_cache": None,
            "limit": first.limit,
            "bootstrap_iters": 0,
            "gen_kwargs": None,
            "random_seed": first.seed,
            "numpy_seed": first.seed,
            "torch_seed": first.seed,
            "fewshot_seed": first.seed,
        },
        "git_hash": None,
        "date": (named[0][1].folder / REPORT).stat().st_mtime,
        "pretty_env_info": ", ".join(f"{name} {value}" for name, value in first.versions.items()),
        "transformers_version": first.versions.get("transformers", "N/A"),
        "lm_eval_version": f"emu2eval {versions().get('emu2eval', '')}",
        "upper_git_hash": None,
        "task_hashes": dict(hashes),
        "model_source": first.adapter or first.imported,
        "model_name": first.label,
        "model_name_sanitized": _safe(first.label),
        "system_instruction": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": None,
        "chat_template": None,
        "chat_template_sha": None,
        "total_evaluation_time_seconds": str(sum(run.seconds for _, _, run in named)),
        "emu2eval": {name: msgspec.to_builtins(run) for name, _, run in named},
    }


def _checkpoint(run: ResultRun) -> str:
    return str(run.model_settings.get("checkpoint") or run.model_settings.get("model") or run.model)


def _metric(row: Row, stored: StoredRows) -> Json:
    """`metric,filter` and its error, a rate from 0 to 1; the filter is our variant."""
    how = ",".join(filter(None, (row.variant, row.judge))).replace(",", "/") or "none"
    scale = 100.0 if unit(row, stored.record) == "percent" else 1.0
    value, error = (None if each is None else each / scale for each in (row.value, row.stderr))
    # As the harness has them where there is none.
    return {
        f"{row.metric},{how}": "N/A" if value is None else value,
        f"{row.metric}_stderr,{how}": "N/A" if error is None else error,
    }


def _config(stored: StoredRows, run: ResultRun) -> Json:
    """A task's configuration under the names that the harness has."""
    spec = stored.record.task.spec
    protocols = spec.get("protocols")
    own = protocols.get(run.protocol, {}) if isinstance(protocols, dict) else {}
    output = stored.record.identity.task.output
    ranked = output.get("kind") == "choice"
    return {
        "task": run.task,
        "test_split": run.split,
        "fewshot_split": stored.record.identity.task.demonstrations.get("split"),
        "doc_to_text": own.get("ask"),
        "doc_to_target": own.get("reply"),
        "fewshot_delimiter": own.get("separator"),
        "target_delimiter": own.get("lead"),
        "num_fewshot": run.shots,
        "metric_list": [
            {"metric": row.metric, "aggregation": "mean", "higher_is_better": row.higher_is_better}
            for row in stored.rows[:1]
        ],
        "output_type": "multiple_choice" if ranked else "generate_until",
        "generation_kwargs": {} if ranked else dict(output),
        "repeats": 1,
        "metadata": {"version": run.task_version, "source": spec.get("source")},
    }


# -- samples -----------------------------------------------------------------------------------------------


def _samples(stored: StoredRows) -> Iterator[Json]:
    """A line an answer. Raises UserError where the data is not what it was."""
    imported = stored.record.imported is not None
    opened = reopen(stored.folder, demonstrations=not imported)
    scores = {score.key: score for score in read_scores(stored.folder)}
    head = stored.rows[0]
    with opened.index() as store:
        for place in opened.questions:
            sample = opened.questions.query(place.position)
            answer = store.stored(opened.questions.slot(place))
            score = scores.get((sample.id, place.trial, place.take))
            if answer is None or answer.error is not None or score is None:
                continue  # no answer: there is no place for a failure
            response = response_of(answer, str, store) or Response()
            yield _sample(opened, place, sample, response, score, head)


def _sample(
    opened: Reopened,
    place: Place,
    sample: Sample,
    response: Response,
    score: SampleScore,
    head: Row,
) -> Json:
    doc = _doc(sample)
    prompt = _prompt(opened, place)
    references = [_text(each) for each in sample.references]
    target = references[0] if len(references) == 1 else str(references)
    log_probs = response.log_probs
    resps: list[list[Any]]
    filtered: list[Any]
    arguments: Json
    if log_probs is not None:
        # Whether a choice is also what would have been written, the harness's second word, is not known.
        pairs = [[str(value), "False"] for value in log_probs]
        resps, filtered = [[pair] for pair in pairs], pairs
        arguments = {
            f"gen_args_{n}": {"arg_0": prompt, "arg_1": choice}
            for n, choice in enumerate(sample.choices)
        }
    else:
        given = (
            response.text if response.text is not None else " ".join(map(_text, response.images))
        )
        resps = [[given if response.raw is None else response.raw]]
        filtered = [given if score.prediction is None else score.prediction]
        arguments = {"gen_args_0": {"arg_0": prompt, "arg_1": dict(_settings(opened))}}
    value = {} if score.value is None else {head.metric: float(score.value)}
    return {
        "doc_id": place.position,
        "doc": doc,
        "target": target,
        "arguments": arguments,
        "resps": resps,
        "filtered_resps": filtered,
        "filter": head.variant or "none",
        "metrics": list(value),
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(prompt),
        "target_hash": _hash(target),
        **value,
        "trial": place.trial,
        "take": place.take,
    }


def _settings(opened: Reopened) -> Mapping[str, Any]:
    return opened.record.identity.task.output


def _doc(sample: Sample) -> Json:
    shown = [each for each in sample.images if isinstance(each, Image)]
    return {
        "id": sample.id,
        **sample.fields,
        "answer": None if sample.answer is None else _text(sample.answer),
        "references": [_text(each) for each in sample.references],
        "choices": list(sample.choices),
        "images": [f"sha256:{images.digest(image)}" for image in shown],
    }


def _prompt(opened: Reopened, place: Place) -> str:
    """The prompt as one text, with a mark for each image; empty where nobody knows it."""
    if opened.prompts is None:
        return ""
    return "".join(_mark(part) for part in opened.prompts.at(place).prompt.flat())


def _mark(part: str | Image | Video) -> str:
    if isinstance(part, Video):
        return IMAGE * len(part.frames)
    return part if isinstance(part, str) else IMAGE


def _text(value: str | Image) -> str:
    return value if isinstance(value, str) else f"sha256:{images.digest(value)}"


def _hash(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def _safe(name: str) -> str:
    """As the harness makes a folder of a model's name."""
    return re.sub(r'["<>:/|\\?*\[\]]+', "__", name)


def _dumped(line: Json) -> str:
    return json.dumps(line, ensure_ascii=False)
