"""Tasks: their YAML files as specs, and one resolved for a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from emu2eval.errors import UnknownName
from emu2eval.spec.catalog import data_root
from emu2eval.spec.changes import override, read_file, with_changes
from emu2eval.spec.data import DataSpec, Options
from emu2eval.spec.outputs import OutputSpec, TextSpec, merged_output
from emu2eval.spec.presets import with_preset
from emu2eval.spec.settings import Count
from emu2eval.spec.yamlfile import Document, Spec, validate


class DemonstrationSpec(Spec):
    """split: where demonstrations are drawn from. chooser: a built-in one, an entry point or `module:attr`;
    options: what it takes. pool: use only this many samples of the split, drawn anew for each trial; as
    a mapping, only for the choosers that it names, so that `rices` can search the whole split.

    refused: why there is no such split; shots are then refused unless `split` is set anyway.
    """

    split: str | None = None
    refused: str | None = None
    chooser: str = "random"
    options: Options = msgspec.field(default_factory=dict)
    pool: Count | dict[str, Count] | None = None

    @property
    def drawn(self) -> int | None:
        """How many samples of the split the chooser sees; None = all."""
        return self.pool.get(self.chooser) if isinstance(self.pool, dict) else self.pool


class ScoreSpec(Spec):
    """scorer: a built-in one, an entry point or `module:attr`; options: what it takes; clean: processing
    steps applied to the text first.
    """

    scorer: str
    options: Options = msgspec.field(default_factory=dict)
    clean: tuple[str, ...] = ()


class CaseSpec(Spec):
    """Another wording for samples whose field has a certain value.

    field: the name of the field; ask: value -> the text used instead of the protocol's `ask`.
    """

    field: str
    ask: dict[str, str]


class ZeroShotSpec(Spec):
    """What a protocol changes if there are no demonstrations.

    ask, system: used instead of the protocol's own; absent = the same.
    """

    ask: str | None = None
    system: str | None = None


class FirstSpec(Spec):
    """A question asked first, in place of the query, whose choices are ranked by log-probability.

    ask: the question's template; choices: what may be answered. answers: choice -> the answer that it
    implies; the query itself is then not asked.
    """

    ask: str
    choices: tuple[str, ...]
    answers: dict[str, str]


class ProtocolSpec(Spec):
    """What is asked and how: {image} places the next image, {name} a field of the sample.

    ask: the question of a demonstration or the query; reply: the answer of a demonstration. lead: the
    text between the two; separator: the text after a reply. cases: other wordings for some samples;
    zero_shot: what differs without demonstrations. system: a message before everything, which may hold
    {fields} of the query. opening: chat models are shown demonstrations and query in one message, which
    begins with this text; absent = as turns of two roles. marks: how the texts of fields say where an
    image stands, such as `<image {number}>`, from 1 on. text_only: how many demonstrations without their
    images the setting 0* shows (Flamingo: two). first: what is asked before. demonstrations, output,
    score: changes to the task's, key by key.
    """

    about: str = ""
    ask: str
    reply: str = "{answer}"
    system: str | None = None
    opening: str | None = None
    lead: str = " "
    separator: str = "\n"
    cases: CaseSpec | None = None
    marks: str | None = None
    zero_shot: ZeroShotSpec = ZeroShotSpec()
    first: FirstSpec | None = None
    text_only: Count = 2
    demonstrations: Options = msgspec.field(default_factory=dict)
    output: Options = msgspec.field(default_factory=dict)
    score: Options = msgspec.field(default_factory=dict)


class Reachable(Spec):
    """What can be reached, on the metric's scale, by number of demonstrations: each applies up to the
    next.

    chance: by guessing; ceiling: by using everything that the demonstrations show.
    """

    chance: dict[int, float] = msgspec.field(default_factory=dict)
    ceiling: dict[int, float] = msgspec.field(default_factory=dict)

    def at(self, shots: int) -> tuple[float | None, float | None]:
        """(chance, ceiling) with so many demonstrations.

        >>> Reachable(ceiling={0: 0, 1: 50, 2: 100}).at(8)
        (None, 100)
        """
        chance, ceiling = (
            max(((k, v) for k, v in steps.items() if k <= shots), default=(0, None))[1]
            for steps in (self.chance, self.ceiling)
        )
        return chance, ceiling


class SubmissionSpec(Spec):
    """What the server of a hidden test split expects.

    server: where to submit it. format: a built-in one, an entry point or `module:attr`. questions: the
    split that is the server's list of questions; splits: see `able` (absent: `questions` alone).
    answer: clean = the response after the task's clean-up steps; prediction = what the scorer read
    out of it, such as a letter.
    """

    format: str
    questions: str
    splits: tuple[str, ...] = ()
    answer: Literal["clean", "prediction"] = "clean"
    server: str = ""

    @property
    def able(self) -> tuple[str, ...]:
        """The splits whose runs can be submitted."""
        return self.splits or (self.questions,)


class TaskSpec(Spec):
    """A whole task.

    data: where its samples come from. split: that of the queries, unless --split says otherwise.
    demonstrations: how examples are chosen. output: what is requested from a model. score: how answers
    are scored.
    bounds: chance and ceiling of a split, where they are known. protocol: the default, unless --protocol
    selects another; protocols: all protocols, by name. submission: what a server expects.
    """

    name: str
    version: int = 1
    title: str
    about: str = ""
    source: str = ""
    licence: str = ""
    data: DataSpec
    split: str
    demonstrations: DemonstrationSpec = DemonstrationSpec()
    output: OutputSpec = TextSpec()
    score: ScoreSpec
    bounds: dict[str, Reachable] = msgspec.field(default_factory=dict)
    protocol: str
    protocols: dict[str, ProtocolSpec]
    submission: SubmissionSpec | None = None

    def as_json(self) -> dict[str, Any]:
        """As JSON holds it; `validate` makes the same spec of it."""
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return found


@dataclass(frozen=True)
class Task:
    """A task resolved for one protocol: its spec with the overrides merged in, and where its data is.

    sources: of the splits that do not come from the official files, the name of their source.
    """

    spec: TaskSpec
    protocol_name: str
    split: str
    root: Path
    document: Document
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def protocol(self) -> ProtocolSpec:
        return self.spec.protocols[self.protocol_name]

    def asked(self) -> dict[str, Any]:
        """What decides the questions: everything but titles and scoring. Part of a run's identity."""
        spec = self.spec.as_json()
        template = spec["protocols"][self.protocol_name]
        always = ("ask", "reply", "system", "lead", "separator", "zero_shot", "text_only")
        rare = ("cases", "marks", "opening", "first")
        where_given = tuple(key for key in rare if template[key] is not None)
        return {
            "name": spec["name"],
            "version": spec["version"],
            "split": self.split,
            "protocol": self.protocol_name,
            "template": {key: template[key] for key in always + where_given},
            "demonstrations": {k: v for k, v in spec["demonstrations"].items() if k != "refused"},
            "output": spec["output"],
        }


def load_task(
    name: str,
    *,
    protocol: str | None = None,
    split: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Task:
    """A task by name or by the path of its YAML file.

    overrides: dotted keys below the task, such as {"output.max_new_tokens": 20}.
    Raises UnknownName or ConfigError.
    """
    changes = overrides or {}
    document = with_changes(with_preset(read_file("task", name)), changes, "task")
    data = changed(document.data, changes)
    spec = validate(TaskSpec, data, document)
    chosen = protocol or spec.protocol
    if chosen not in spec.protocols:
        raise UnknownName("protocol", chosen, spec.protocols, where=document.path, of=spec.name)
    own = spec.protocols[chosen]
    merged = deepcopy(data)
    for part in ("demonstrations", "score"):
        merged[part] = {**document.data.get(part, {}), **getattr(own, part)}
    merged["output"] = merged_output(document.data.get("output", {}), own.output)
    # What the command line sets wins over what the protocol sets.
    spec = validate(TaskSpec, changed(merged, changes), document)
    where_split = split or spec.split
    for known in (where_split, spec.demonstrations.split or where_split):
        if known not in spec.data.splits:
            raise UnknownName(
                "split", known, spec.data.splits, where=document.where(("data",)), of=spec.name
            )
    return Task(spec, chosen, where_split, task_root(spec, document), document)


def task_root(spec: TaskSpec, document: Document) -> Path:
    """The folder of a task's data."""
    return document.path.parent / spec.data.root if spec.data.root is not None else data_root()


def changed(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A task's mapping with the values of dotted keys replaced. Raises ConfigError."""
    output = "output."
    data = _for_scorer(data, changes.get("score.scorer"))
    inner = {k.removeprefix(output): v for k, v in changes.items() if k.startswith(output)}
    found = override(data, {k: v for k, v in changes.items() if not k.startswith(output)}, "task")
    if inner:
        kind = {"kind": inner["kind"]} if "kind" in inner else {}
        given = found.get("output", {})
        found["output"] = merged_output(given, kind) if isinstance(given, Mapping) else given
        found = override(found, {output + k: v for k, v in inner.items()}, "task")
    return found


def _for_scorer(data: Mapping[str, Any], scorer: object) -> Mapping[str, Any]:
    """The mapping with another scorer: the options of one mean nothing to another."""
    score = data.get("score")
    if scorer is None or not isinstance(score, Mapping) or score.get("scorer") == scorer:
        return data
    return {**data, "score": {**score, "scorer": scorer, "options": {}}}
