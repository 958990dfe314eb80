"""Prompts + a model -> Requests, each shortened where that is wanted and checked before it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from emu2eval.adapters.base import Adapter, of_adapter
from emu2eval.adapters.memory import Workload
from emu2eval.encoders.base import OWN, Encoder, Vectors
from emu2eval.encoders.elsewhere import Route
from emu2eval.engine.asked import Asked, First
from emu2eval.engine.objects import ObjectSpec
from emu2eval.engine.prompting import Prompted, Prompts
from emu2eval.engine.questions import Place, Questions
from emu2eval.engine.tasks import OpenTask
from emu2eval.errors import ConfigError, ImageError, PlanError, of_part
from emu2eval.identity import request_key, value_key
from emu2eval.media import images
from emu2eval.runs.answers import Answer, JudgeCase
from emu2eval.runs.names import path_part
from emu2eval.runs.record import (
    DataIdentity,
    Extent,
    Identity,
    LeftOut,
    ModelIdentity,
    ModelRecord,
    Record,
    TaskIdentity,
    TaskRecord,
    versions,
)
from emu2eval.runs.store import RunStore
from emu2eval.spec import catalog
from emu2eval.spec.changes import Changes
from emu2eval.spec.model import ModelSpec
from emu2eval.types import (
    ChoiceOutput,
    Image,
    Output,
    Progress,
    Request,
    Response,
    TextOutput,
)

FIRST = 64
"""Requests that are checked before anything is loaded."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One request with what its answer is stored under.

    slot: its number in the store. examples: ids of the demonstrations in the prompt, farthest first.
    refused: why it cannot be asked; the request then holds the query alone.
    first: what is asked before.
    """

    slot: int
    id: str
    trial: int
    take: int
    request: Request
    examples: tuple[str, ...] = ()
    left_out: int = 0
    case: JudgeCase | None = None
    refused: ImageError | None = None
    first: First | None = None

    @property
    def asked(self) -> Asked:
        """What a backend needs to know of it."""
        return Asked(self.slot, self.request, self.first)

    def answer(self, response: Response, seconds: float, store: RunStore) -> Answer:
        """The answer that keeps a response to it; images that were given are saved."""
        return store.keep(
            response,
            id=self.id,
            trial=self.trial,
            take=self.take,
            key=self.request.key,
            examples=self.examples,
            left_out=self.left_out,
            shown=tuple(images.digest(image) for image in self.request.prompt.images()),
            case=self.case,
            seconds=round(seconds, 6),
        )

    def copy(self, twin: Answer) -> Answer:
        """The answer to an equal request as the answer to this one."""
        return msgspec.structs.replace(
            twin,
            id=self.id,
            trial=self.trial,
            take=self.take,
            examples=self.examples,
            left_out=self.left_out,
            case=self.case,
            seconds=0.0,
        )


Held = Callable[[], Planned]
"""A request whose answer in the store is known to hold; it is planned only where that is needed."""


@dataclass(frozen=True)
class Plan:
    """Every request of one run, made when it is its turn: the same whatever the order they are asked for.

    fit: the farthest demonstrations are dropped from a prompt that is too long. extent, changes: as they were
    asked for, for the record. left_out: samples whose files are not there.
    """

    prompts: Prompts
    model: ModelSpec
    adapter: Adapter
    fit: bool = False
    extent: Extent = field(default_factory=Extent)
    changes: Changes = field(default_factory=Changes)
    left_out: LeftOut = field(default_factory=LeftOut)

    @property
    def questions(self) -> Questions:
        return self.prompts.questions

    @property
    def task(self) -> OpenTask:
        return self.prompts.questions.task

    @property
    def name(self) -> str:
        """Of the model."""
        return self.model.name

    @property
    def setting(self) -> str:
        """Shots as tables show them, with what was taken away from them: `4`, `0*`, `4 (labels)`."""
        shots, ablation = self.prompts.shots, self.prompts.ablation
        return str(shots) if ablation == "none" else f"{shots} ({ablation})"

    @cached_property
    def identity(self) -> Identity:
        """What decides the answers. Two runs with equal identities are one run."""
        prompts, questions = self.prompts, self.questions
        pool, chooser = prompts.pool, prompts.chooser
        return Identity(
            task=TaskIdentity(**self.task.task.asked()),
            model=model_identity(self.model, self.adapter),
            data=DataIdentity(
                queries=questions.samples.digest,
                demonstrations=pool.digest if pool is not None else None,
                sources=sources(self.task, shown=pool is not None),
                chooser=dict(chooser.identity()) if chooser is not None else {},
            ),
            shots=prompts.shots,
            seed=prompts.seed,
            ablation=prompts.ablation,
            fit=self.adapter.limits.positions if self.fit else None,
        )

    @cached_property
    def folder(self) -> str:
        """The name of the run's folder."""
        return folder_name(self.record)

    @cached_property
    def record(self) -> Record:
        """run.json."""
        task = self.task
        return Record(
            task=task_record(task),
            model=ModelRecord(
                name=self.model.name,
                adapter=self.model.adapter,
                settings=portable_settings(self.model),
                training=self.model.training,
                in_memory=isinstance(self.model, ObjectSpec),
            ),
            changes=self.changes,
            shots=self.prompts.shots,
            ablation=self.prompts.ablation,
            seed=self.prompts.seed,
            extent=self.extent,
            fit=self.fit,
            left_out=self.left_out,
            sampled=self.questions.sampled,
            identity=self.identity,
            versions=versions(),
        )

    def __len__(self) -> int:
        return len(self.questions)

    def __iter__(self) -> Iterator[Planned]:
        return map(self.at, self.questions)

    def to_ask(self, store: RunStore) -> Iterator[Planned | Held]:
        """Every request in turn; those whose stored answers are known to hold (`held.index`) unplanned."""
        holding, slot = store.holding, self.questions.slot
        return (
            partial(self.at, place) if holding[slot(place)] else self.at(place)
            for place in self.questions
        )

    def at(self, place: Place) -> Planned:
        """The request of a place."""
        refused = None
        try:
            prompted = self.prompts.at(place)
        except ImageError as error:
            # No demonstrations can be chosen for a query whose image the chooser's encoder cannot take.
            prompted, refused = replace(self.prompts, chooser=None).at(place), error
        output = self.prompts.output(place, prompted.sample)
        request = self._request(place, prompted, output)
        if self.fit and prompted.demonstrations:
            # What an image costs is unknown where the model cannot take it: `check` says so.
            with of_adapter(self.adapter), suppress(ImageError):
                prompted, request = self._fitted(place, prompted, request)
        first = self._first(prompted)
        if first is not None:
            # The answer depends on both.
            both = value_key([request.key, first.request.key, dict(first.answers)])
            request = replace(request, key=both)
        return Planned(
            self.questions.slot(place),
            prompted.sample.id,
            place.trial,
            place.take,
            request,
            tuple(d.sample.id for d in prompted.demonstrations),
            prompted.left_out,
            refused=refused,
            first=first,
        )

    def _first(self, prompted: Prompted) -> First | None:
        prompt, spec = self.prompts.before(prompted), self.task.protocol.first
        if prompt is None or spec is None:
            return None
        output = ChoiceOutput(spec.choices)
        key = request_key(prompt, output, self._model_digest)
        return First(Request(key, prompt, output), spec.choices, spec.answers)

    def _request(self, place: Place, prompted: Prompted, output: Output) -> Request:
        draw = None
        if self.questions.sampled:
            draw = self.prompts.seed, prompted.sample.id, place.trial, place.take
        key = request_key(prompted.prompt, output, self._model_digest, draw)
        return Request(key, prompted.prompt, output)

    def _fitted(
        self, place: Place, prompted: Prompted, request: Request
    ) -> tuple[Prompted, Request]:
        """The longest of the shorter prompts that fits; the query alone where none does."""
        most = self.adapter.limits.positions
        needed = self.adapter.positions(request)
        if most is None or needed is None:
            raise PlanError(
                f"{self.model.name} cannot count the positions of a prompt, so --fit cannot shorten it",
                where=self.model.name,
                hint="use fewer shots, or set the model's context length if its file has a key for it",
            )
        if needed <= most:
            return prompted, request
        # Every demonstration adds positions, so the least number to drop is found by halving.
        low, high = 1, len(prompted.demonstrations)
        while low < high:
            middle = (low + high) // 2
            shorter = self._request(place, prompted.shorter(middle), request.output)
            if (self.adapter.positions(shorter) or 0) <= most:
                high = middle
            else:
                low = middle + 1
        fitting = prompted.shorter(low)
        return fitting, self._request(place, fitting, request.output)

    def prepare(
        self,
        encode: Encode | None = None,
        progress: Progress | None = None,
        route: Route | None = None,
        at_once: int = Encoder.batch,
    ) -> None:
        """Long work ahead of choosing demonstrations, such as features of images.

        encode: the model's own features, if the chooser looks through the model; at_once: of so many images
        at a time. route: takes the work of another encoder elsewhere.
        """
        chooser, questions = self.prompts.chooser, self.questions
        if chooser is not None:
            own = OwnEncoder(self.model, self.adapter, encode or self.adapter.encode_images)
            own.batch = at_once
            queries = (questions.query(position) for position in questions.asked)
            chooser.route = route or chooser.route
            with of_part("chooser", self.task.spec.demonstrations.chooser):
                chooser.prepare(queries, self.prompts.shots.count, model=own, progress=progress)

    def check(self, planned: Planned) -> None:
        """Raises PlanError where the model cannot take the request, ImageError for one of its images."""
        if planned.refused is not None:
            raise planned.refused
        where = f"{self.task.name}, {self.setting} shots, query {planned.id}"
        with of_adapter(self.adapter):
            if planned.first is not None:
                first = planned.first.request
                check_request(self.adapter, self.model.name, first, self.task.name, where)
            check_request(self.adapter, self.model.name, planned.request, self.task.name, where)

    def check_first(self) -> None:
        """Checks the first requests before a model is loaded for them; the others come in their turn."""
        for planned in self._firsts:
            # An image that cannot be used costs its own question, when its turn comes.
            with suppress(ImageError):
                self.check(planned)

    def workload(self) -> Workload | None:
        """What the requests are like, by the first of them; None where the model does not count positions."""
        requests = [planned.request for planned in self._firsts if planned.refused is None]
        with of_adapter(self.adapter), suppress(ImageError):
            return self.adapter.expected(requests)
        return None

    def warnings(self) -> Iterator[str]:
        """What the adapter says of the first request that can be asked; and sampling that changes nothing."""
        kind = self.task.spec.output.kind
        if self.adapter.samples and kind != TextOutput.kind:
            yield (
                f"{self.task.name} asks {self.name} for output of kind {kind!r}: temperature, top_p and "
                "do_sample only affect text and are ignored here"
            )
        for planned in self._firsts:
            with suppress(ImageError), of_adapter(self.adapter):
                if planned.refused is None:
                    said = self.adapter.warning(planned.request)
                    if said is not None:
                        yield f"{self.task.name}, {self.model.name}: {said}"
                    return

    @cached_property
    def _firsts(self) -> list[Planned]:
        """The first of the requests, without those whose images cannot be used."""
        found = []
        for place in islice(self.questions, FIRST):
            with suppress(ImageError):
                found.append(self.at(place))
        return found

    @cached_property
    def _model_digest(self) -> str:
        return value_key(msgspec.to_builtins(self.identity.model))


Encode = Callable[[Sequence[Image]], Vectors]
"""Gives (n, width): features of images, each of its image alone."""


class OwnEncoder(Encoder):
    """The evaluated model's own image encoder. encode: runs it, and reads its weights before."""

    def __init__(self, model: ModelSpec, adapter: Adapter, encode: Encode):
        self.name = model.adapter
        self._model = model.name
        self._adapter = adapter
        self._encode = encode

    def identity(self) -> dict[str, object]:
        if type(self._adapter).encode_images is Adapter.encode_images:
            raise ConfigError(
                f"the encoder {OWN!r} is the evaluated model's own; {self._model} offers no image features",
                hint="choose another encoder: --set task.demonstrations.options.encoder=thumbnail",
            )
        # Not the settings: how a model answers does not change how it sees.
        return {"encoder": OWN, "adapter": self.name, **self._adapter.identity()}

    def encode(self, prepared: Sequence[Image]) -> Vectors:
        return np.asarray(self._encode(prepared), dtype=np.float32)


def model_identity(model: ModelSpec, adapter: Adapter) -> ModelIdentity:
    """What decides the answers of a model: adapter, settings that matter, digests of its weights."""
    settings = {k: v for k, v in model.settings.items() if k not in adapter.neutral}
    with of_adapter(adapter):
        files = dict(adapter.identity())
    return ModelIdentity(adapter=model.adapter, settings=settings, files=files)


def task_record(task: OpenTask) -> TaskRecord:
    """The task as run.json has it."""
    return TaskRecord(
        name=task.name,
        file=catalog.portable("task", task.document.path),
        protocol=task.protocol_name,
        split=task.split,
        spec=task.spec.as_json(),
        sources=dict(task.task.sources),
    )


def sources(task: OpenTask, *, shown: bool) -> dict[str, str]:
    """Where queries and demonstrations come from; nothing is said of the official files."""
    used = {"queries": task.task.sources.get(task.split)}
    if shown:
        used["demonstrations"] = task.task.sources.get(task.pool_split)
    return {role: source for role, source in used.items() if source is not None}


def folder_name(record: Record) -> str:
    """What people read, then what makes it unique: `easy-vqa_4-shot_nearest_1a2b3c4d`.

    What was taken away from the demonstrations stands beside their number: `…_4-shot-labels_…`.
    """
    shots = f"{str(record.shots).replace('*', '-text-only')}-shot"
    if record.ablation != "none":
        shots += f"-{record.ablation}"
    task, model = path_part(record.task.name), path_part(record.model.name)
    return "_".join([task, shots, model, record.fingerprint[:8]])


def check_request(adapter: Adapter, model: str, request: Request, asks: str, where: str) -> None:
    """Raises PlanError where a model cannot take a request. asks: the task that wants it."""
    limits = adapter.limits
    kind = request.output.kind
    if kind not in limits.outputs:
        raise PlanError(
            f"{model} produces {' and '.join(sorted(limits.outputs))}, but {asks} needs {kind}",
            where=asks,
            hint=adapter.refusal(request) or f"use another model, or another protocol of {asks}",
        )
    shown = sum(1 for _ in request.prompt.images())
    if limits.images is not None and shown > limits.images:
        raise PlanError(
            f"the prompt has {shown} images, but {model} accepts {limits.images}",
            where=where,
            hint="use fewer shots, or text-only demonstrations: --shots '0*'"
            + (f"; or {limits.instead}" if limits.instead else ""),
        )
    if not limits.image_replies and any(
        not isinstance(part, str)
        for turn in request.prompt.conversation().turns
        for part in turn.reply
    ):
        raise PlanError(
            f"{model} does not accept demonstrations whose replies are images",
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
                f"the prompt needs {needed:,} positions, but {model} has {limits.positions:,}",
                where=where,
                hint="use fewer shots, or --fit, which drops the farthest demonstrations from such prompts "
                "(the table says from how many)"
                if request.prompt.turns
                else "use a shorter prompt, smaller images, or a model with a longer context",
            )


def portable_settings(model: ModelSpec) -> dict[str, Any]:
    """The settings without the place of a checkpoint that comes with the package."""
    checkpoint = model.settings.get("checkpoint")
    if not isinstance(checkpoint, str) or not Path(checkpoint).exists():
        return dict(model.settings)
    return {**model.settings, "checkpoint": catalog.portable("model", Path(checkpoint))}
