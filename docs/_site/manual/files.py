"""What a YAML file can say, and what stands in the folder of a run: tables made of the structs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

import msgspec

from emu2eval.runs import answers, record, scores
from emu2eval.spec import experiment, model, outputs, suites, task
from emu2eval.spec.options import besides, described, docs_of, meanings, shown, words
from emu2eval.types import Row
from manual.text import code, doc, fence, heading, page, prose, table

Struct = type[msgspec.Struct]

_ELSEWHERE: Mapping[Struct, tuple[str, str]] = {
    outputs.OutputSpec: ("outputs", "../parts/outputs.md")
}
"""Structs that have a page of their own."""


def pages() -> Iterator[tuple[str, str]]:
    for name, title, about, example, root in _YAML:
        tables = list(_tables(root))
        yield f"reference/files/{name}.md", page(heading(1, title), about, example, *tables)
    yield "reference/files/run-folder.md", _run_folder()


def undescribed() -> Iterator[str]:
    roots = [each[-1] for each in _YAML] + [each[-1] for each in _STORED]
    for struct in dict.fromkeys(s for root in roots for s in _reached(root)):
        said = _said(struct)
        for field in msgspec.structs.fields(struct):
            if not (said.get(field.encode_name) or _known(field.encode_name)):
                yield f"{struct.__name__}.{field.encode_name}"


_YAML: tuple[tuple[str, str, str, str, Struct], ...] = (
    (
        "task",
        "The task file",
        "`emu2eval run --task ./flowers.yaml`. `emu2eval new task` writes one from a look at your data, "
        "`emu2eval check --task ./flowers.yaml` checks it, and [your own "
        "data](../../how-to/own-data.md) goes through "
        "examples. The program's own tasks, in `tasks/`, are forty more.",
        "Beside these keys, `preset: NAME` begins with [a preset](../tasks/presets.md).",
        task.TaskSpec,
    ),
    (
        "model",
        "The model file",
        "`emu2eval run --model ./mine.yaml`. A checkpoint needs none: its folder or its name on "
        "the hub will do.",
        fence(
            "name: mine\nadapter: huggingface\nsettings:\n  checkpoint: ./my-checkpoint\n  dtype: bfloat16",
            "yaml",
        ),
        model.ModelSpec,
    ),
    (
        "suite",
        "The suite file",
        "`emu2eval run --task ./mine.yaml`: several tasks under one name, each at its own shots.",
        fence(
            "name: mine\ntitle: Two tasks\ntasks:\n  - {task: easy-vqa, shots: [0, 4]}\n  - {task: "
            "gqa, shots: [0]}",
            "yaml",
        ),
        suites.SuiteSpec,
    ),
    (
        "experiment",
        "The experiment file",
        "`emu2eval run experiment.yaml`: models × tasks × shots × settings, checked as a whole and "
        "run in one go. "
        "[Experiments](../../how-to/experiments.md) goes through examples.",
        fence(
            "models: [nearest, emu2-nano]\ntasks: [easy-vqa, easy-vqa-binding]\nshots: [0, 4, 8]",
            "yaml",
        ),
        experiment.ExperimentSpec,
    ),
)

_STORED: tuple[tuple[str, str, Struct], ...] = (
    ("run.json", "What the run was; the checksum of the rest is its first key.", record.Record),
    (
        "responses.jsonl",
        "A line an answer, written as it is given, its checksum first; the last line of an id, "
        "trial and take counts. "
        "A line that a kill left unfinished is cut off by the next start.",
        answers.Answer,
    ),
    (
        "scores.jsonl",
        "A line a scored answer. It is made anew by `emu2eval score`.",
        scores.SampleScore,
    ),
    ("report.json", "`rows`: the numbers of tables and reports, the headline first.", Row),
    (
        "judge.json",
        "Who judged, where a judge did; its replies stand in `judgements.jsonl`, as lines of "
        "`responses.jsonl`.",
        record.JudgeRecord,
    ),
)


def _run_folder() -> str:
    return page(
        "# The folder of a run",
        "A run is a folder in `results/runs` (or `--out`, `$EMU2EVAL_RUNS`), named by task, shots "
        "and model, with "
        "protocol, split and a digest where these tell it apart. Files are replaced whole or not "
        "at all, and answers "
        "are appended. `emu2eval ls runs` lists them; `emu2eval.load_runs` makes a table of pandas of them.",
        table(
            ("file", ""),
            [(f"[`{name}`](#{_anchor(name)})", prose(about)) for name, about, _ in _STORED]
            + [
                ("`images/`", "Images that the model gave, by the SHA-256 of their bytes."),
                ("`lock`", "Held by the process that writes; a second one is refused."),
            ],
        ),
        *(block for name, about, root in _STORED for block in _stored(name, about, root)),
    )


def _stored(name: str, about: str, root: Struct) -> Iterator[str]:
    yield heading(2, code(name), _anchor(name))
    yield prose(about)
    yield from _tables(root, level=3, prefix=f"{_anchor(name)}-", top=False)


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _tables(root: Struct, level: int = 2, prefix: str = "", top: bool = True) -> Iterator[str]:
    """A section for each struct that the file holds, from the top down."""
    places = _reached(root)
    for struct, place in places.items():
        if place or top:
            title = code(place) if place else "Keys"
            yield heading(level, title, prefix + _anchor(place or "keys"))
        said = _said(struct)
        yield _intro(struct)
        yield table(
            ("key", "value", "default", "what it is"),
            [_row(field, said, places, prefix) for field in msgspec.structs.fields(struct)],
        )


def _row(
    field: Any, said: Mapping[str, str], places: Mapping[Struct, str], prefix: str
) -> tuple[str, str, str, str]:
    name = field.encode_name
    inner = [
        _ELSEWHERE.get(each) or (places[each], f"#{prefix}{_anchor(places[each])}")
        for each, _ in _structs(field.type)
    ]
    see = ", ".join(f"[{title}]({target})" for title, target in inner)
    about = prose(said.get(name) or _known(name))
    return (
        code(name),
        prose(words(field.type)),
        "required" if field.required else code(shown(_default(field))),
        "; ".join(filter(None, (about, f"see {see}" if see else ""))),
    )


def _default(field: Any) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    value = field.default
    return {} if isinstance(value, msgspec.Struct) else value


def _intro(struct: Struct) -> str:
    """What the docstring says of the whole, not of single keys."""
    text = (docs_of(struct) or [""])[0]
    return doc(besides(text, [field.encode_name for field in msgspec.structs.fields(struct)]))


def _said(struct: Struct) -> dict[str, str]:
    fields = msgspec.structs.fields(struct)
    found = meanings(docs_of(struct), [field.encode_name for field in fields])
    return {**found, **{f.encode_name: described(f.type) for f in fields if described(f.type)}}


def _reached(root: Struct) -> dict[Struct, str]:
    """The struct and those that its fields may hold, nearest first, each with its place in the file, such as
    `data.downloads[]` or `protocols.NAME`."""
    found: dict[Struct, str] = {}
    waiting = [(root, "")]
    while waiting:
        struct, place = waiting.pop(0)
        if struct in found or struct in _ELSEWHERE:
            continue
        found[struct] = place
        for field in msgspec.structs.fields(struct):
            below = f"{place}.{field.encode_name}".lstrip(".")
            waiting += [(each, below + end) for each, end in _structs(field.type)]
    return found


def _structs(kind: Any, end: str = "") -> Iterator[tuple[Struct, str]]:
    """Every struct in a field's type, with what follows the field's name on the way to it."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind, end
    origin = get_origin(kind)
    for number, each in enumerate(get_args(kind)):
        if origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
            yield from _structs(each, f"{end}.NAME") if number else ()
        elif not isinstance(each, str):
            yield from _structs(each, f"{end}[]" if origin in (tuple, list) else end)


def _known(name: str) -> str:
    return _COMMON.get(name, "")


_COMMON = {
    "format": "version of the layout of the folder",
    "name": "what it is called",
    "title": "one line about it",
    "about": "what a reader should know of it",
    "source": "where it comes from",
    "licence": "its licence",
    "version": "raised when the task changes so that numbers differ; part of a run's identity",
}
"""Keys that mean the same in every file."""
