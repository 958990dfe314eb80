"""task x model x shots x seed -> Requests, checked against the model's limits before any is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from emu2eval import registry
from emu2eval.adapters.base import Adapter
from emu2eval.data.samples import Samples
from emu2eval.encoders.base import OWN, Encoder, Vectors
from emu2eval.errors import ConfigError, PlanError
from emu2eval.fewshot.ablate import ablate, dealt
from emu2eval.fewshot.choosers import Chooser, Demonstration
from emu2eval.fewshot.draw import keyed, permutation
from emu2eval.identity import request_key, value_key
from emu2eval.prompts import PromptBuilder
from emu2eval.spec.config import ModelSpec, Task
from emu2eval.types import Image, Progress, Request, Sample


@dataclass(frozen=True, slots=True)
class Shots:
    """How many demonstrations; text_only: without their images, the setting written 0*."""

    label: str
    count: int
    text_only: bool = False

    @classmethod
    def parse(cls, text: str, task: Task) -> Shots:
        """`4`, or `0*` for true zero-shot's other kind: the protocol's text-only demonstrations.

        Raises ConfigError, also where the benchmark has nothing that could be shown.
        """
        if text == "0*":
            shots = cls(text, task.protocol.text_only, text_only=True)
        elif text.isdecimal() and len(text) < 6:
            shots = cls(str(int(text)), int(text))
        else:
            raise ConfigError(
                f"--shots takes whole numbers, or 0* for text-only demonstrations, not {text!r}",
                hint="for example: --shots 0 4 8 '0*'",
            )
        demonstrations = task.spec.demonstrations
        if shots.count and demonstrations.refused and demonstrations.split is None:
            raise ConfigError(
                f"{task.name} has no demonstrations for --shots {text}: {demonstrations.refused}",
                where=task.document.where(("demonstrations",)),
                hint="--shots 0; or --set task.demonstrations.split=SPLIT draws them from the test data "
                "itself, never the query's own image, which is not the benchmark's protocol",
            )
        return shots


@dataclass(frozen=True, slots=True)
class Planned:
    """One request with what it came from. slot: trial x number of samples + position.

    about: what else is stored beside its answer.
    """

    slot: int
    sample: Sample
    trial: int
    demonstrations: tuple[Demonstration, ...]
    request: Request
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """Of a run whose answers were given elsewhere. ids: of the queries that have one; note: for tables."""

    ids: frozenset[str]
    note: str


@dataclass(frozen=True)
class Plan:
    """Every request of one run, made one at a time: the same whatever the order they are asked for.

    limit: only so many queries, a fixed random subset in which smaller ones are contained in larger.
    trials: repeated draws of demonstrations. pool, chooser: None where no demonstrations are shown.
    ablation: what is taken away from them, of `fewshot.ablate.ABLATIONS`.
    imported: its answers were given elsewhere; such a plan has queries, but no prompts.
    """

    task: Task
    model: ModelSpec
    adapter: Adapter
    shots: Shots
    samples: Samples
    pool: Samples | None
    chooser: Chooser | None = None
    seed: int = 0
    limit: int | None = None
    trials: int = 1
    ablation: str = "none"
    imported: Imported | None = None

    @property
    def label(self) -> str:
        """Shots as tables show them, with what was taken away from them: `4`, `0*`, `4 (labels)`."""
        return (
            self.shots.label if self.ablation == "none" else f"{self.shots.label} ({self.ablation})"
        )

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides the answers. Two runs with equal identities are one run."""
        chosen_by = self.chooser.identity() if self.chooser is not None else {}
        return {
            **({"ablation": self.ablation} if self.ablation != "none" else {}),
            "task": self.task.asked(),
            "shots": self.shots.label,
            "seed": self.seed,
            "model": model_identity(self.model, self.adapter),
            "data": {
                "queries": self.samples.digest,
                "demonstrations": self.pool.digest if self.pool is not None else None,
                **({"sources": self.sources} if self.sources else {}),
                **({"chooser": chosen_by} if chosen_by else {}),
            },
        }

    @cached_property
    def sources(self) -> dict[str, str]:
        """Where queries and demonstrations come from; nothing is said of the official files."""
        used = {"queries": self.task.sources.get(self.task.split)}
        if self.shots.count and self.imported is None:
            shown = self.task.spec.demonstrations.split or self.task.split
            used["demonstrations"] = self.task.sources.get(shown)
        return {role: source for role, source in used.items() if source is not None}

    @cached_property
    def fingerprint(self) -> str:
        """Hex sha256 of the identity."""
        return value_key(self.identity)

    @cached_property
    def positions(self) -> list[int]:
        """Positions of the queries within the split, in the order of their ids."""
        total = len(self.samples)
        if self.imported is not None:
            return [i for i, name in enumerate(self.samples.ids) if name in self.imported.ids]
        if self.limit is None or self.limit >= total:
            return list(range(total))
        # Not the first ones of the file: those often share a few images or a few question types.
        return sorted(islice(permutation(total, "limit"), self.limit))

    @property
    def images(self) -> int:
        """Images a prompt; 1 where the answer is no image."""
        return self.task.spec.output.images

    @cached_property
    def trials_that_differ(self) -> int:
        """Without demonstrations nothing is drawn, but for an image's noise."""
        differ = self.shots.count or self.task.spec.output.kind == "image"
        return self.trials if differ else 1

    @cached_property
    def draws(self) -> int:
        """Answers to each query: the images of the first trial, then those of the next."""
        return self.trials_that_differ * self.images

    def __len__(self) -> int:
        return len(self.positions) * self.draws

    def __iter__(self) -> Iterator[Planned]:
        for first in range(0, self.draws, self.images):
            for position in self.positions:
                # One after the other, for models that keep what they have just read.
                for trial in range(first, first + self.images):
                    yield self.at(position, trial)

    def at(self, position: int, trial: int = 0) -> Planned:
        """The request for the query at a position of the split; trial: of `draws`.

        Raises PlanError for an imported run, whose prompts nobody knows.
        """
        if self.imported is not None:
            raise PlanError(
                f"the prompts of this run are unknown: its answers were {self.imported.note}",
                where=folder_name(self),
                hint="score, table, compare, report and submit work on it; what needs prompts, or asks the "
                "model again, does not",
            )
        sample = self.query(position)
        chosen: list[Demonstration] = []
        if self.chooser is not None:
            chosen = self.chooser.choose(sample, self.shots.count, trial // self.images)
        key = (self.seed, trial // self.images)
        if self.ablation == "order":
            chosen = dealt(chosen, [d.sample.id for d in chosen], "order", *key)
        prompt = self._builder.build(
            sample, [d.sample for d in chosen], text_only=self.shots.text_only
        )
        if self.ablation != "none":
            names = [d.sample.id for d in chosen]
            prompt = replace(prompt, turns=ablate(prompt.turns, names, self.ablation, *key))
        wanted = self.task.spec.output
        # Every image has noise of its own, which no batch, limit or order of queries changes.
        noise = keyed("noise", wanted.seed, self.seed, sample.id, trial) % 2**31
        output = wanted.build(sample.choices, noise)
        if output.kind == "choice" and not sample.choices:
            raise ConfigError(
                f"sample {sample.id!r} has no choices to rank",
                where=self.task.document.where(("output",)),
                hint="list them under output.choices, or name their column in the data's options",
            )
        request = Request(request_key(prompt, output, self._model_digest), prompt, output)
        slot = trial * len(self.samples) + position
        return Planned(slot, sample, trial, tuple(chosen), request)

    def prepare(
        self, load: Callable[[], None] | None = None, progress: Progress | None = None
    ) -> None:
        """Long work ahead of choosing demonstrations, such as features of images.

        load: reads the model's weights, if the chooser looks through the model.
        """
        if self.chooser is not None:
            own = OwnEncoder(self.model, self.adapter, load or self.adapter.load)
            queries = (self.query(position) for position in self.positions)
            self.chooser.prepare(queries, self.shots.count, model=own, progress=progress)

    def query(self, position: int) -> Sample:
        """The sample at a position, with the choices that the task fixes for all."""
        sample = self.samples[position]
        fixed = self.task.spec.output.choices
        return replace(sample, choices=fixed) if fixed else sample

    def check(self, planned: Planned) -> None:
        """Raises PlanError where the model cannot take the request."""
        where = f"{self.task.name}, {self.label} shots, query {planned.sample.id}"
        check_request(self.adapter, self.model.name, planned.request, self.task.name, where)

    def check_all(self, progress: Callable[[int], None] | None = None) -> int:
        """Checks every request; returns how many. The first one is enough for a model without limits."""
        limits = self.adapter.limits
        thorough = (
            limits.images is not None
            or limits.positions is not None
            or type(self.adapter).refusal is not Adapter.refusal
        )
        checked = 0
        for planned in self:
            self.check(planned)
            checked += 1
            if progress is not None:
                progress(checked)
            if not thorough:
                break
        return checked

    @cached_property
    def _model_digest(self) -> str:
        return value_key(self.identity["model"])

    @cached_property
    def _builder(self) -> PromptBuilder:
        name = self.task.protocol_name
        return PromptBuilder(self.task.protocol, self.task.document.where(("protocols", name)))


def build_chooser(task: Task, pool: Samples, seed: int) -> Chooser:
    """The task's chooser of demonstrations. Raises UnknownName or ConfigError."""
    spec = task.spec.demonstrations
    chooser: Chooser = registry.build(
        "chooser",
        spec.chooser,
        spec.options,
        given=(pool, seed),
        where=task.document.where(("demonstrations", "chooser")),
        at=task.document.below(("demonstrations", "options")),
    )
    return chooser


class OwnEncoder(Encoder):
    """The evaluated model's own image encoder; its weights are read when the first image is encoded."""

    def __init__(self, model: ModelSpec, adapter: Adapter, load: Callable[[], None]):
        self.name = model.adapter
        self._model = model.name
        self._adapter = adapter
        self._load = load

    def identity(self) -> Mapping[str, Any]:
        if type(self._adapter).encode_images is Adapter.encode_images:
            raise ConfigError(
                f"the encoder {OWN!r} is the evaluated model's own, and {self._model} lets no one look "
                "through it",
                hint="name another encoder: --set task.demonstrations.options.encoder=thumbnail",
            )
        # Not the settings: how a model answers does not change how it sees.
        return {"encoder": OWN, "adapter": self.name, **self._adapter.identity()}

    def encode(self, prepared: Sequence[Image]) -> Vectors:
        self._load()
        return np.asarray(self._adapter.encode_images(prepared), dtype=np.float32)


def model_identity(model: ModelSpec, adapter: Adapter) -> dict[str, Any]:
    """What decides the answers of a model: adapter, settings that matter, digests of its weights."""
    settings = {k: v for k, v in model.settings.items() if k not in adapter.neutral}
    return {"adapter": model.adapter, "settings": settings, **adapter.identity()}


def check_request(adapter: Adapter, model: str, request: Request, asks: str, where: str) -> None:
    """Raises PlanError where a model cannot take a request. asks: the task that wants it."""
    limits = adapter.limits
    kind = request.output.kind
    if kind not in limits.outputs:
        raise PlanError(
            f"{model} gives {' and '.join(sorted(limits.outputs))}; {asks} wants {kind}",
            where=asks,
            hint=adapter.refusal(request) or f"another model, or another protocol of {asks}",
        )
    shown = sum(1 for _ in request.prompt.images())
    if limits.images is not None and shown > limits.images:
        raise PlanError(
            f"the prompt holds {shown} images, {model} takes {limits.images}",
            where=where,
            hint="fewer shots, or text-only demonstrations: --shots '0*'"
            + (f"; or {limits.instead}" if limits.instead else ""),
        )
    if not limits.image_replies and any(
        not isinstance(part, str) for turn in request.prompt.turns for part in turn.reply
    ):
        raise PlanError(
            f"{model} takes no demonstrations whose replies are images",
            where=where,
            hint=adapter.refusal(request),
        )
    reason = adapter.refusal(request)
    if reason is not None:
        raise PlanError(f"{model} cannot answer this: {reason}", where=where)
    if limits.positions is not None:
        needed = adapter.positions(request)
        if needed is not None and needed > limits.positions:
            raise PlanError(
                f"the prompt takes {needed:,} positions, {model} has {limits.positions:,}",
                where=where,
                hint="fewer shots; or --fit, which drops the farthest demonstrations and says so",
            )


def folder_name(plan: Plan) -> str:
    """What people read, then what makes it unique: `easy-vqa_4-shot_nearest_1a2b3c4d`.

    What was taken away from the demonstrations stands beside their number: `…_4-shot-labels_…`.
    """
    label = plan.shots.label.replace("*", "-text-only") + "-shot"
    if plan.ablation != "none":
        label += f"-{plan.ablation}"
    return f"{plan.task.name}_{label}_{plan.model.name}_{plan.fingerprint[:8]}"


def slots(plan: Plan) -> Callable[[str, int], int | None]:
    """(id, trial) -> the slot of the plan that a stored response fills, or None."""
    samples, trials = plan.samples, plan.draws

    def slot_of(sample_id: str, trial: int) -> int | None:
        position = samples.position(sample_id)
        if position is None or not 0 <= trial < trials:
            return None
        return trial * len(samples) + position

    return slot_of
