"""A page for each task, and one each of suites and presets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from emu2eval.engine.options import RunOptions
from emu2eval.engine.splits import Splits
from emu2eval.errors import ConfigError
from emu2eval.report.prompt import show_prompt
from emu2eval.spec import catalog
from emu2eval.spec.presets import presets
from emu2eval.spec.suites import SuiteSpec, load_suite
from emu2eval.spec.task import ProtocolSpec, TaskSpec, load_task
from emu2eval.watch import Watcher
from manual.text import as_yaml, code, fence, heading, page, prose, table

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests/tasks/golden"
"""Prompts of small data sets in the official layout, which a test compares with what is asked today."""


def pages() -> Iterator[tuple[str, str]]:
    specs = {name: load_task(name).spec for name in catalog.names("task")}
    yield "reference/tasks/index.md", _index(specs)
    for name, spec in specs.items():
        yield f"reference/tasks/{name}.md", _task(spec)
    yield "reference/tasks/suites.md", _suites()
    yield "reference/tasks/presets.md", _presets()


def _index(specs: dict[str, TaskSpec]) -> str:
    rows = [
        (
            f"[{name}]({name}.md)",
            prose(spec.title),
            f"[{spec.score.scorer}](../parts/scorers.md#{spec.score.scorer})",
            ", ".join(spec.protocols),
        )
        for name, spec in specs.items()
    ]
    return page(
        "# Tasks",
        f"{len(specs)} tasks come with the program. A page each says where its data comes from, how "
        f"it is asked under "
        "each protocol, with the prompts as a model is shown them, and how answers are scored. "
        "[Suites](suites.md) are several tasks under one name; [presets](presets.md) are what a "
        "task of your own "
        "can build on; what a file can say is in [the task file](../files/task.md).",
        table(("task", "what it asks", "scored by", "protocols"), rows),
    )


def _task(spec: TaskSpec) -> str:
    name = spec.name
    return page(
        heading(1, name),
        prose(spec.title) + ".",
        prose(spec.about),
        table(("", ""), _facts(spec)),
        fence(_commands(spec), "console"),
        heading(2, "Splits", "splits"),
        _splits(spec),
        heading(2, "Protocols", "protocols"),
        *(_protocol(spec, each) for each in spec.protocols),
        *_data(spec),
    )


def _facts(spec: TaskSpec) -> Iterator[tuple[str, str]]:
    score, shown, output = spec.score, spec.demonstrations, spec.output
    yield "Source", prose(spec.source)
    yield "Licence", prose(spec.licence)
    scorer = f"[{score.scorer}](../parts/scorers.md#{score.scorer})"
    yield "Scored by", scorer + _settings(score.options)
    if score.clean:
        links = (f"[{each}](../parts/cleaners.md#{each})" for each in score.clean)
        yield "Cleaned by", ", ".join(links)
    yield (
        "Output",
        f"[{output.kind}](../parts/outputs.md#{output.kind})" + _settings(_changed(output)),
    )
    if shown.refused:
        yield "Demonstrations", f"none: {prose(shown.refused)}"
    else:
        chooser = f"[{shown.chooser}](../parts/choosers.md#{shown.chooser})"
        pool = f", of a pool of {code(str(shown.pool))}" if shown.pool else ""
        yield (
            "Demonstrations",
            f"from `{shown.split or spec.split}`, {chooser}{_settings(shown.options)}{pool}",
        )
    yield "Reader", f"[{spec.data.reader}](../parts/readers.md#{spec.data.reader})"
    yield "Version", str(spec.version)
    if spec.submission is not None:
        sent = spec.submission
        where = f", sent to {prose(sent.server)}" if sent.server else ""
        splits = ", ".join(map(code, sent.able))
        yield (
            "Submission",
            f"[{sent.format}](../parts/submissions.md#{sent.format}) of {splits}{where}",
        )


def _changed(spec: msgspec.Struct) -> dict[str, Any]:
    """The fields that are not as they are by default."""
    fields = msgspec.structs.fields(spec)
    given = {each.encode_name: (getattr(spec, each.name), each.default) for each in fields}
    kept = {
        key: value for key, (value, default) in given.items() if value != default and key != "kind"
    }
    found: dict[str, Any] = msgspec.to_builtins(kept)
    return found


def _settings(options: dict[str, Any]) -> str:
    shown = ", ".join(
        f"{key}: {msgspec.json.encode(value).decode()}" for key, value in options.items()
    )
    return f", {code(shown)}" if shown else ""


def _commands(spec: TaskSpec) -> str:
    shots = "0" if spec.demonstrations.refused else "0 4 8"
    lines = [f"emu2eval run --task {spec.name} --model ./my-checkpoint --shots {shots}"]
    lines.append(
        f"emu2eval show --task {spec.name} --shots {shots.split()[-1] if shots == '0' else 4}"
    )
    if spec.data.downloads or spec.data.sources:
        lines.append(f"emu2eval data get {spec.name}")
    return "\n".join(lines)


def _splits(spec: TaskSpec) -> str:
    rows = []
    for name in spec.data.splits:
        size = spec.data.expected.get(name)
        roles = [
            *(["queries"] if name == spec.split else []),
            *(["demonstrations"] if name == spec.demonstrations.split else []),
        ]
        reach = spec.bounds.get(name)
        rows.append(
            (
                code(name),
                f"{size.samples:,}" if size else "",
                f"{size.images:,}" if size and size.images else "",
                ", ".join(roles),
                _reachable(reach.chance, "chance") + _reachable(reach.ceiling, "ceiling")
                if reach
                else "",
            )
        )
    head = ("split", "samples", "images", "by default", "known bounds")
    # A column that says nothing of any split is not shown.
    kept = [n for n in range(len(head)) if n == 0 or any(row[n] for row in rows)]
    return table([head[n] for n in kept], [[row[n] for n in kept] for row in rows])


def _reachable(steps: dict[int, float], what: str) -> str:
    said = ", ".join(f"{value:g} from {shots} shots" for shots, value in sorted(steps.items()))
    return f"{what} {said}; " if steps else ""


def _protocol(spec: TaskSpec, name: str) -> str:
    own = spec.protocols[name]
    default = " (default)" if name == spec.protocol else ""
    return page(
        heading(3, name + default, name),
        prose(own.about),
        as_yaml({key: value for key, value in _changed(own).items() if key != "about"}),
        *_prompts(spec, name, own),
        f"Choose it with `--protocol {name}`." if not default else "",
    ).rstrip("\n")


def _prompts(spec: TaskSpec, name: str, own: ProtocolSpec) -> Iterator[str]:
    """The prompts as a model is shown them, folded."""
    golden = GOLDEN / f"{spec.name}.{name}.txt"
    text = golden.read_text(encoding="utf-8") if golden.is_file() else _shown(spec.name, name)
    for each in re.split(rf"(?m)^(?={re.escape(spec.name)} · protocol)", text):
        head, _, body = each.partition("\n")
        if not body:
            continue
        shots = head.split(" · ")[2]
        inner = fence(body.strip("\n"), "text", "prompt")
        indented = "\n".join(f"    {line}".rstrip() for line in inner.splitlines())
        yield f'??? example "The prompt, {shots}"\n\n{indented}'


def _shown(task: str, protocol: str) -> str:
    """The prompts of a task whose data comes with the program."""
    console = Console(width=100, record=True, file=StringIO(), color_system=None)
    data = _read.setdefault(task, Splits(Watcher()))
    for shots in _counts(task):
        options = RunOptions(shots=(shots,), protocol=protocol)
        with suppress(ConfigError):  # of a task whose samples have no answer to show
            console.print(show_prompt(task, 0, None, 0, options, data))
            console.print()
    text = console.export_text()
    return re.sub("─+", "──", re.sub(r", sha256 [0-9a-f]{16}…", "", text))


_read: dict[str, Splits] = {}
"""The data of tasks, which several protocols share."""


def _counts(task: str) -> tuple[str, ...]:
    shown = load_task(task).spec.demonstrations
    return ("0",) if shown.refused and shown.split is None else ("0", "2")


def _data(spec: TaskSpec) -> Iterator[str]:
    data = spec.data
    if not data.downloads and not data.sources:
        return
    yield heading(2, "Data", "data")
    if data.downloads:
        rows = [
            (
                prose(each.what),
                prose(each.size),
                prose(each.source),
                ", ".join(map(code, each.gives)),
                "`data get`"
                if each.get
                else "by hand" + (f": {prose(each.note)}" if each.note else ""),
            )
            for each in data.downloads
        ]
        yield "The official files, with their paths below the data root (`$EMU2EVAL_DATA`, else `./data`):"
        yield table(("what", "size", "source", "path", "brought by"), rows)
    for name, source in data.sources.items():
        note = f" {prose(source.note)}" if source.note else ""
        splits = ", ".join(map(code, source.splits))
        refused = "".join(
            f" Not for `{split}`: {prose(why)}." for split, why in source.refused.items()
        )
        yield (
            f"`--source {name}`: [{source.repo}](https://huggingface.co/datasets/{source.repo}), "
            f"{prose(source.size) or 'of unknown size'}, for {splits}.{note}{refused}"
        )


def _suites() -> str:
    found = {name: load_suite(name) for name in catalog.names("suite")}
    return page(
        "# Suites",
        "A suite is several tasks under one name, each at its own numbers of shots: `emu2eval run "
        "--task vl_icl`. "
        "One of your own is [a file](../files/suite.md).",
        *(_suite(name, spec) for name, spec in found.items()),
    )


def _suite(name: str, spec: SuiteSpec) -> str:
    rows = [
        (
            f"[{each.task}]({each.task}.md)",
            ", ".join(map(code, map(str, each.shots or ()))),
            each.split or "",
            each.protocol or "",
            "<br>".join(map(code, each.set)),
        )
        for each in spec.entries
    ]
    head = ("task", "shots", "split", "protocol", "changes")
    kept = [n for n in range(len(head)) if n == 0 or any(row[n] for row in rows)]
    return page(
        heading(2, name, name),
        f"{prose(spec.title)}. {prose(spec.about)}",
        f"Source: {prose(spec.source)}." if spec.source else "",
        table([head[n] for n in kept], [[row[n] for n in kept] for row in rows]),
    ).rstrip("\n")


def _presets() -> str:
    return page(
        "# Presets",
        "`preset: NAME` in a task file begins with one of these; any key of the file's own stands above it. "
        "See [your own data](../../how-to/own-data.md).",
        *(
            f"{heading(2, name, name)}\n\n{fence(path.read_text(encoding='utf-8'), 'yaml')}"
            for name, path in presets().items()
        ),
    )
