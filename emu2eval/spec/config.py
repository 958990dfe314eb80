"""YAML -> TaskSpec and ModelSpec: validated, with unknown keys refused and suggestions made."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from emu2eval.errors import ConfigError, UnknownName
from emu2eval.spec.catalog import data_root, find_file
from emu2eval.spec.yamlfile import Document, Keys, parse_value, read_yaml, validate
from emu2eval.types import ChoiceOutput, ImageOutput, Output, TextOutput


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Download(Spec):
    """What a user fetches by hand, told when it is missing.

    into: the folder below the data root to unpack it in; gives: what is there afterwards; files: how
    many files a folder that it gives then holds.
    """

    what: str
    size: str
    source: str
    into: str
    gives: tuple[str, ...]
    files: int | None = Field(default=None, ge=1)
    splits: tuple[str, ...] = ()
    note: str | None = None


class Expected(Spec):
    """What the official split holds, counted in samples and in different images."""

    samples: int = Field(ge=1)
    images: int | None = None


class SourceSpec(Spec):
    """A repository of the hub that holds the same samples as the official files, for some splits.

    It lies below the data root in `folder`, as `hf download REPO --repo-type dataset` leaves it.
    reader, options, splits: as for the official files, from that folder; `files` and `images` among
    the options, and those of `join`, are patterns of the files that a split needs. refused: splits
    that the repository does not hold faithfully, with the reason.
    """

    repo: str = Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")
    size: str = ""
    note: str | None = None
    reader: str = "parquet"
    options: dict[str, Any] = {}
    splits: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}

    @property
    def folder(self) -> str:
        """Relative to the data root."""
        return f"hub/{self.repo}"

    def files(self, split: str) -> list[str]:
        """Every pattern of files that the split needs."""
        found: list[str] = []
        options = {**self.options, **self.splits[split]}
        for files in (options, options.get("join") or {}):
            for key in ("files", "images"):
                patterns = files.get(key) or []
                found += [patterns] if isinstance(patterns, str) else patterns
        return found


class DataSpec(Spec):
    """Where samples come from.

    reader: a built-in one, an entry point or `module:attr`; one with a parameter `shots` is told their
    number. options: what it takes, for all splits; splits: its options for each.
    root: absent = the data root ($EMU2EVAL_DATA), else a folder relative to this YAML file. expected: the
    official sizes of the splits. sources: other places that hold the same samples, by name, such as `hub`.
    """

    reader: str
    root: str | None = None
    options: dict[str, Any] = {}
    splits: dict[str, dict[str, Any]]
    expected: dict[str, Expected] = {}
    downloads: tuple[Download, ...] = ()
    sources: dict[str, SourceSpec] = {}


class DemonstrationSpec(Spec):
    """split: where demonstrations are drawn from; pool: only that many of it, drawn by the seed.

    refused: why there is no such split; shots are then refused unless `split` is set all the same.
    """

    split: str | None = None
    refused: str | None = None
    chooser: str = "random"
    options: dict[str, Any] = {}
    pool: int | None = Field(default=None, ge=1)


class OutputSpec(Spec):
    """images: so many a prompt, each from noise of its own."""

    kind: Literal["text", "choice", "image"] = "text"
    max_new_tokens: int = Field(default=10, ge=1)
    min_new_tokens: int = Field(default=0, ge=0)
    beams: int | None = Field(default=None, ge=1)
    length_penalty: float | None = None
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    per_token: bool = False
    seed: int = 0
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    images: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one_text(self) -> Self:
        if self.kind != "image" and self.images != 1:
            raise ValueError(f"{self.images} images a prompt, but the output is {self.kind}")
        return self

    @property
    def takes(self) -> int:
        """Answers to each prompt."""
        return self.images

    @property
    def random(self) -> bool:
        """Each take and trial has noise of its own."""
        return self.kind == "image"

    def build(self, choices: Sequence[str], noise: int = 0) -> Output:
        """The request's output; `choices` are the sample's own, used where the task names none.

        noise: the seed of its image, made of `seed` and the request's identity.
        """
        if self.kind == "text":
            return TextOutput(
                self.max_new_tokens, self.min_new_tokens, self.beams, self.length_penalty, self.stop
            )
        if self.kind == "choice":
            return ChoiceOutput(self.choices or tuple(choices), self.per_token)
        return ImageOutput(noise, self.width, self.height, self.steps, self.guidance)


class ScoreSpec(Spec):
    """scorer: a built-in one, an entry point or `module:attr`; clean: steps made on the text first."""

    scorer: str
    options: dict[str, Any] = {}
    clean: tuple[str, ...] = ()


class CaseSpec(Spec):
    """Another wording for samples whose field `field` has one of these values."""

    field: str
    ask: dict[str, str]


class TemplateSpec(Spec):
    """What is asked and how. {image} places the next image, {name} a field of the sample.

    system: may hold {fields} of the query. marks: how the texts of fields say where an image stands, such
    as `<image {number}>`, from 1 on.
    """

    ask: str
    reply: str = "{answer}"
    system: str | None = None
    lead: str = " "
    separator: str = "\n"
    cases: CaseSpec | None = None
    marks: str | None = None


class ZeroShotSpec(Spec):
    """What a protocol asks differently when there is no demonstration."""

    ask: str | None = None
    system: str | None = None


class ProtocolSpec(TemplateSpec):
    """A named way of asking. It may override the task's demonstrations, output and score, key by key.

    text_only: how many demonstrations without their images the setting 0* shows (Flamingo: two).
    """

    about: str = ""
    zero_shot: ZeroShotSpec = ZeroShotSpec()
    text_only: int = Field(default=2, ge=1)
    demonstrations: dict[str, Any] = {}
    output: dict[str, Any] = {}
    score: dict[str, Any] = {}


class Bounds(Spec):
    """What can be reached, on the metric's scale, by number of demonstrations: each holds up to the next.

    chance: by guessing; ceiling: by using all that the demonstrations tell.
    """

    chance: dict[int, float] = {}
    ceiling: dict[int, float] = {}

    def at(self, shots: int) -> tuple[float | None, float | None]:
        """(chance, ceiling) with so many demonstrations.

        >>> Bounds(ceiling={0: 0, 1: 50, 2: 100}).at(8)
        (None, 100.0)
        """
        chance, ceiling = (
            max(((k, v) for k, v in steps.items() if k <= shots), default=(0, None))[1]
            for steps in (self.chance, self.ceiling)
        )
        return chance, ceiling


class SubmissionSpec(Spec):
    """What the server of a hidden test split wants.

    format: a built-in one, an entry point or `module:attr`. questions: the split that is the server's
    list of questions; splits: those whose runs can be handed in (absent: `questions` alone).
    answer: clean = the response after the task's clean-up steps; prediction = what the scorer read
    out of it, such as a letter.
    """

    format: str
    questions: str
    splits: tuple[str, ...] = ()
    answer: Literal["clean", "prediction"] = "clean"
    server: str = ""


class TaskSpec(Spec):
    """bounds: chance and ceiling of a split, where they are known."""

    name: str
    version: int = 1
    title: str
    about: str = ""
    source: str = ""
    licence: str = ""
    data: DataSpec
    split: str
    demonstrations: DemonstrationSpec = DemonstrationSpec()
    output: OutputSpec = OutputSpec()
    score: ScoreSpec
    bounds: dict[str, Bounds] = {}
    protocol: str
    protocols: dict[str, ProtocolSpec]
    submission: SubmissionSpec | None = None


class ModelSpec(Spec):
    name: str
    title: str = ""
    about: str = ""
    source: str = ""
    licence: str = ""
    adapter: str
    settings: dict[str, Any] = {}


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
        spec = self.spec.model_dump(mode="json")
        template = spec["protocols"][self.protocol_name]
        always = ("ask", "reply", "system", "lead", "separator", "zero_shot", "text_only")
        where_given = tuple(key for key in ("cases", "marks") if template[key] is not None)
        output = spec["output"]
        if output["images"] == 1:
            del output["images"]
        return {
            "name": spec["name"],
            "version": spec["version"],
            "split": self.split,
            "protocol": self.protocol_name,
            "template": {key: template[key] for key in always + where_given},
            "demonstrations": {k: v for k, v in spec["demonstrations"].items() if k != "refused"},
            "output": output,
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
    document = _read("task", name, overrides)
    data = override(document.data, overrides or {}, "task")
    spec = validate(TaskSpec, data, document)
    chosen = protocol or spec.protocol
    if chosen not in spec.protocols:
        raise UnknownName(f"protocol of {spec.name}", chosen, spec.protocols, where=document.path)
    own = spec.protocols[chosen]
    merged = deepcopy(data)
    for part in ("demonstrations", "output", "score"):
        changes = getattr(own, part)
        if changes:
            merged[part] = {**merged.get(part, {}), **changes}
    # What the command line sets wins over what the protocol sets.
    merged = override(merged, overrides or {}, "task")
    spec = validate(TaskSpec, merged, document)
    where_split = split or spec.split
    for known in (where_split, spec.demonstrations.split or where_split):
        if known not in spec.data.splits:
            raise UnknownName(
                f"split of {spec.name}", known, spec.data.splits, where=document.where(("data",))
            )
    root = document.path.parent / spec.data.root if spec.data.root is not None else data_root()
    return Task(spec, chosen, where_split, root, document)


def load_model(name: str, *, overrides: Mapping[str, Any] | None = None) -> ModelSpec:
    """A model by name, by the path of its YAML file, or by the path of a folder that holds one.

    A relative `settings.checkpoint` that exists beside the YAML file is taken from there. {model} in the
    name stands for the last part of `settings.model`, so that tables tell a server's models apart.
    """
    document = _read("model", name, overrides)
    data = override(document.data, overrides or {}, "model")
    spec = validate(ModelSpec, data, document)
    served = str(spec.settings.get("model") or document.path.stem).rpartition("/")[2]
    spec = spec.model_copy(update={"name": spec.name.replace("{model}", served)})
    checkpoint = spec.settings.get("checkpoint")
    beside = document.path.parent / checkpoint if isinstance(checkpoint, str) else None
    if beside is not None and beside.exists():
        settings = {**spec.settings, "checkpoint": os.fspath(beside)}
        spec = spec.model_copy(update={"settings": settings})
    return spec


def _read(kind: str, name: str, overrides: Mapping[str, Any] | None) -> Document:
    document = read_yaml(find_file(kind, name))
    changed: frozenset[Keys] = frozenset(tuple(key.split(".")) for key in overrides or ())
    return replace(document, set_by=changed)


def parse_settings(assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`--set task.a.b=c` and `--set model.a=c` -> {"task": {"a.b": c}, "model": {"a": c}, "judge": {}}.

    Values are YAML: numbers, true, false, null, [lists]; anything else is a text.
    """
    parsed: dict[str, dict[str, Any]] = {"task": {}, "model": {}, "judge": {}}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        part, _, rest = key.strip().partition(".")
        if not equals or part not in parsed or not rest:
            raise ConfigError(
                f"--set takes task.KEY=VALUE, model.KEY=VALUE or judge.KEY=VALUE, not {assignment!r}",
                hint="for example: --set task.output.max_new_tokens=20 --set model.settings.batch=4",
            )
        parsed[part][rest] = _value(text)
    return parsed


def _value(text: str) -> Any:
    # A template such as "{image}{question}" would be a mapping; braces with anything in them are a text.
    if text.strip() == "{}":
        return {}
    if not text.strip() or text.lstrip().startswith("{"):
        return text
    try:
        return parse_value(text)
    except yaml.YAMLError:
        return text


def override(data: Mapping[str, Any], changes: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A copy of `data` with the values of dotted keys replaced; kind: "task" or "model"."""
    merged = deepcopy(dict(data))
    for dotted, value in changes.items():
        *path, last = dotted.split(".")
        inner = merged
        for step in path:
            inner = inner.setdefault(step, {})
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"--set {kind}.{dotted}: {step!r} holds a value, not more keys",
                    hint=f"look at the file's keys: emu2eval ls {kind}s",
                )
        inner[last] = value
    return merged
