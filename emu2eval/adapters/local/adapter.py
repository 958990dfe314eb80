"""What adapters of models on this machine have in common: files, limits, layouts, batches, answers."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import emu2eval
from emu2eval.adapters.base import Adapter, BatchRange, Limits
from emu2eval.adapters.local.choices import Question
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.adapters.local.files import absent, at_hand, located
from emu2eval.adapters.local.pieces import Pieces
from emu2eval.adapters.local.search import Found, Search
from emu2eval.adapters.local.settings import LocalSettings
from emu2eval.adapters.local.threads import one_here, set_threads
from emu2eval.adapters.memory import (
    MOST_AT_ONCE,
    MemoryPlan,
    ReplicaFit,
    Workload,
    expected,
    fewest,
)
from emu2eval.errors import (
    ConfigError,
    ImageError,
    MissingExtra,
    ModelError,
    NotFinite,
    PlanError,
    UserError,
)
from emu2eval.identity import value_key
from emu2eval.media.cores import cores
from emu2eval.spec.catalog import cache_root
from emu2eval.types import (
    ChoiceOutput,
    Image,
    Mark,
    Output,
    Prompt,
    Request,
    Response,
    TextOutput,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from emu2eval.adapters.local.inference import Inference
    from emu2eval.adapters.local.kept_features import KeptFeatures
    from emu2eval.adapters.local.kept_images import KeptImages
    from emu2eval.adapters.local.rank import Rank
    from emu2eval.adapters.local.team import Team
    from emu2eval.adapters.machine import Machine

LAID_OUT = 1024
"""Prompts whose ids are remembered: planned, sorted by length and asked, each is laid out once."""


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A prompt ready to be read. needed: positions in all, with the most that the answer can take."""

    prompt: Prompt
    pieces: Pieces
    needed: int
    question: Question | None = None

    @property
    def encoded(self) -> Encoded:
        return self.pieces.encoded


S = TypeVar("S", bound=LocalSettings)
Opened = TypeVar("Opened")
Loaded = TypeVar("Loaded", bound="Inference[Any]")
Made = TypeVar("Made")


class LocalAdapter(Adapter, Generic[S, Opened, Loaded]):
    """A model whose weights are read here. A subclass opens its files, lays out prompts, loads and decodes.

    The constructor keeps its settings and no more; `opened` is what the files say without the weights.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "accelerate")
    """What it imports of the extra."""
    few: ClassVar[int] = 8
    """Requests at a time where neither the settings nor a plan says how many."""
    example: ClassVar[str]
    """A repository of the hub that it reads."""
    device_setting: ClassVar[str | None] = "device_map"
    splits: ClassVar[bool] = True
    """Whether its weights can be read by several processes, each its share (tensor parallelism)."""
    # Where weights lie and run, not what they are: their digests are in the identity.
    neutral: ClassVar[frozenset[str]] = frozenset(
        {
            "batch",
            "checkpoint",
            "device_map",
            "keep_features",
            "keep_images",
            "memory",
            "reuse",
            "threads",
            "workers",
        }
    )

    def __init__(self, settings: S):
        self.settings = settings
        self.samples = settings.sampling is not None
        self.workers = settings.workers
        self._inference: Loaded | None = None
        self._made: dict[tuple[str, Workload | None, Machine | None], Any] = {}
        self._laid_out: OrderedDict[str, LaidOut] = OrderedDict()
        # The engine plans on one thread while another answers.
        self._laying_out = Lock()
        self._threads_before: int | None = None
        self.rank: Rank | None = None
        """Which of the processes that hold the model together this one is; None = it needs no other."""
        self._team: Team | None = None

    @cached_property
    def opened(self) -> Opened:
        """What the files on this machine say. Raises ModelError where they are not here or not right."""
        settings = self.settings
        path = at_hand(settings.checkpoint, settings.revision, self._patterns)
        if path is None:
            raise absent(settings.checkpoint, settings.revision, example=self.example)
        return self._open(path)

    @cached_property
    def limits(self) -> Limits:  # type: ignore[override]
        """Told by the files, so known where they are here."""
        return self._limits(self.opened)

    def lacks(self) -> list[UserError]:
        why = f"the model {self.settings.checkpoint}"
        if missing := MissingExtra.of(self.packages, self.extra or "", why=why):
            return missing
        found: list[UserError] = []
        if self.settings.quantize is not None:
            why = f"`quantize: {self.settings.quantize}`"
            found += MissingExtra.of(("bitsandbytes",), "quantize", why=why)
        checks = (
            self._check_device,
            lambda: self.opened,
            self._check_ranks,
            self._check_layout,
            self._check_weights,
            self._check_memory,
        )
        for check in checks:
            try:
                check()
            except UserError as error:
                found += error.parts
        return list({str(error): error for error in found}.values())

    def fetch(self) -> None:
        settings = self.settings
        located(
            settings.checkpoint,
            settings.revision,
            self._patterns,
            else_weights="*.bin",
            example=self.example,
        )
        for known in ("opened", "limits"):
            self.__dict__.pop(known, None)

    def load(self) -> None:
        if self.settings.ranks > 1 and self.rank is None:
            from emu2eval.adapters.local.team import Team

            self._check_ranks()
            team = Team(type(self), self.settings, self.settings.ranks)
            team.start()
            self._team = team
            return
        if self.settings.threads is not None:
            self._threads_before = set_threads(self.settings.threads)
        self._inference = self._load(self.opened)
        encoder = self._inference.reader.encoder
        if self.settings.keep_images is not None:
            encoder.disk = self._kept_images(self.settings.keep_images)
        if self.settings.reuse and (size := self._room_for_features(encoder.device)):
            encoder.store = self._kept_features(size, encoder.device)

    def close(self) -> None:
        if self._team is not None:
            self._team.close()
            self._team = None
        self._inference = None
        self._laid_out.clear()
        if self._threads_before is not None:
            set_threads(self._threads_before)
            self._threads_before = None

    def about(self) -> Mapping[str, str]:
        from emu2eval.adapters.local.generation import described

        own = self.settings
        return {"answers": described(own, at_hand(own.checkpoint, own.revision, self._patterns))}

    def fit_batch(self) -> BatchRange:
        from emu2eval.adapters.local.devices import on_gpu

        # On a CPU larger batches bring nothing, and its memory is everybody's.
        return BatchRange(
            self.limits.batch,
            MOST_AT_ONCE if on_gpu(self.settings.device_map, self.machine) else None,
        )

    def fit_replicas(self, devices: Sequence[int]) -> ReplicaFit | None:
        own = self.settings
        if own.ranks == 1 or not devices:
            return super().fit_replicas(devices)
        from emu2eval.adapters.local.parallel import check_gpus

        check_gpus(own.ranks, len(devices))
        fit = fewest(self.plan_memory, self.workload or Workload(), devices, own.ranks)
        if fit is None:
            # It takes so many GPUs, whatever can be said of what they then hold.
            unknown = MemoryPlan((), own.dtype or "bfloat16", None, None, self._batch, own.beams)
            fit = ReplicaFit(own.ranks, len(devices) // own.ranks, self._batch, unknown)
        return fit

    def _fit_of_ranks(self) -> BatchRange | None:
        """The largest batch that fits the GPUs of the ranks; None where nothing is known of it."""
        fit = self._once("ranks", lambda: self.fit_replicas(self._where.gpus))
        return BatchRange(fit.batch) if fit is not None and fit.memory.devices else None

    def expected(self, requests: Iterable[Request]) -> Workload | None:
        asked = ((self.positions(each), self._bounded(each).output) for each in requests)
        return expected(asked, self.limits.positions, self._room)

    def usual_batch(self) -> BatchRange:
        """What the settings say; else what a plan says fits a GPU, where there is one."""
        from emu2eval.adapters.local.devices import on_gpu

        usual = BatchRange(self.limits.batch)
        if self.settings.batch is not None or not on_gpu(self.settings.device_map, self.machine):
            return usual
        planned = self.fit_batch()
        return planned if planned.most is None else usual

    @property
    def _batch(self) -> int:
        """Requests at a time where nothing is planned."""
        return self.settings.batch or self.few

    @property
    def _where(self) -> Machine:
        """Where it runs, as it is before weights are read."""
        return self.machine or self._this_machine

    @cached_property
    def _this_machine(self) -> Machine:
        from emu2eval.adapters.machine import Machine

        return Machine.here()

    def _once(self, what: str, make: Callable[[], Made]) -> Made:
        """Works out what depends on the workload and the machine once for each."""
        key = (what, self.workload, self.machine)
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    def _kept_images(self, size: float) -> KeptImages:
        """size: GiB."""
        from importlib.metadata import version

        from emu2eval.adapters.local.kept_images import KeptImages

        packages = {name: version(name) for name in ("pillow", "transformers", "torch")}
        key = value_key([emu2eval.__version__, packages, self._prepares(self.opened)])[:16]
        return KeptImages(cache_root() / "prepared", key, int(size * (1 << 30)))

    def _kept_features(self, size: float, device: torch.device) -> KeptFeatures:
        """size: GiB; device: of the encoder."""
        from importlib.metadata import version

        from emu2eval.adapters.local.appended import AppendedRecords
        from emu2eval.adapters.local.devices import model_of
        from emu2eval.adapters.local.kept_features import KeptFeatures

        decides = [
            emu2eval.__version__,
            {name: version(name) for name in ("pillow", "transformers", "torch")},
            dict(self.identity()),
            self._prepares(self.opened),
            self.settings.quantize,
            model_of(device),
        ]
        key = value_key(decides)[:16]
        return KeptFeatures(AppendedRecords(cache_root() / "encoded", key, int(size * (1 << 30))))

    def _room_for_features(self, device: torch.device) -> float:
        """GiB that the settings give; where they give none, as many as are worth it."""
        return self.settings.keep_features or 0.0

    def _check_device(self) -> None:
        from emu2eval.adapters.local.devices import check_devices

        check_devices(self.settings.device_map, self.machine)

    def positions(self, request: Request) -> int:
        """Tokens of the prompt, images included, and the most that the answer can take."""
        return self._lay_out(request).needed

    def refusal(self, request: Request) -> str | None:
        output = request.output
        if self.samples and isinstance(output, TextOutput) and (output.beams or 1) > 1:
            return (
                "the model samples answers (temperature), but the task asks for beam search with "
                f"{output.beams} "
                "beams; use --set task.output.beams=1 to sample, or remove temperature for beam search"
            )
        return None

    def prepare(self, request: Request) -> None:
        if self._team is not None:
            self._team.prepare(request)
        elif self._inference is not None:
            one_here()  # not where answers are made, which prepares what is missing, too
            for shown in self._lay_out(request).pieces.shown:
                self._inference.reader.encoder.prepare(shown)

    def encode_images(self, images: Sequence[Image]) -> npt.NDArray[np.float32]:
        """(n, width): what stands for each image in a prompt, averaged over its places."""
        if self._team is not None:
            found: npt.NDArray[np.float32] = self._team.call("encode_images", images)
            return found
        inference = self._loaded()
        shown = [self._shown(image) for image in images]
        with ThreadPoolExecutor(self.workers or cores()) as threads:
            for one in shown:
                threads.submit(_begun, inference.reader.encoder, one)
            try:
                return inference.averages(shown)
            finally:
                threads.shutdown(cancel_futures=True)

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        """One response a request; a request whose prompt cannot be read is an error of its own."""
        if self._team is not None:
            answers: list[Response] = self._team.call("answer", requests)
            return answers
        inference = self._loaded()
        inference.begin()
        laid_out: dict[int, tuple[Output, LaidOut]] = {}
        errors: dict[int, str] = {}
        texts: dict[int, tuple[TextOutput, LaidOut]] = {}
        choices: dict[int, tuple[ChoiceOutput, LaidOut]] = {}
        others: dict[int, tuple[Output, LaidOut]] = {}
        for i, request in enumerate(map(self._bounded, requests)):
            try:
                laid = self._checked(request)
                # A missing or broken image fails its own request, not the batch.
                for shown in laid.pieces.shown:
                    inference.reader.encoder.prepare(shown)
            except UserError as error:
                errors[i] = str(error)
                continue
            laid_out[i] = request.output, laid
        if self.rank is not None:
            # All ranks ask the same of their shares.
            errors = self.rank.everywhere(errors)
        responses = {i: Response(error=error) for i, error in errors.items()}
        for i, (output, laid) in laid_out.items():
            if i in errors:
                continue
            if isinstance(output, TextOutput):
                texts[i] = output, laid
            elif isinstance(output, ChoiceOutput):
                choices[i] = output, laid
            else:
                others[i] = output, laid
        keys = [request.key for request in requests]
        responses |= self._texts(inference, texts, keys)
        responses |= self._choices(inference, choices)
        wanted = [*others.values()]
        found = _each(lambda some: self._others(inference, some), wanted) if wanted else []
        for i, answer in zip(others, found, strict=True):
            responses[i] = Response(error=str(answer)) if isinstance(answer, OWN) else answer
        return [responses[i] for i in range(len(requests))]

    # -- what a subclass says -------------------------------------------------------------------------

    @property
    @abstractmethod
    def _patterns(self) -> Sequence[str]:
        """The files of a repository that it needs."""

    @abstractmethod
    def _open(self, path: Path) -> Opened:
        """Reads what is not weights. Raises ModelError or ConfigError."""

    @abstractmethod
    def _prepares(self, opened: Opened) -> Mapping[str, Any]:
        """What decides an image's arrays beside the image, as small JSON values."""

    @abstractmethod
    def _limits(self, opened: Opened) -> Limits:
        """What the model can take."""

    @abstractmethod
    def _load(self, opened: Opened) -> Loaded:
        """Reads the weights."""

    @abstractmethod
    def _count(self, request: Request) -> LaidOut:
        """Lays out the request's prompt."""

    @abstractmethod
    def _shown(self, image: Image) -> Shown:
        """The image as it stands in a prompt."""

    @abstractmethod
    def _said(self, found: Found, laid: LaidOut, out: TextOutput) -> Response:
        """What was found, as text, and how it ended."""

    @abstractmethod
    def _decoder(self) -> Any:
        """The language model's configuration, by which it is split over ranks. Raises ConfigError where no
        way of splitting it is known, ModelError where it is not here."""

    def _check_ranks(self) -> None:
        """Raises ModelError or ConfigError where the model cannot be split over so many processes here."""
        count = self.settings.ranks
        if count > 1:
            if not self.splits:
                raise ConfigError(
                    f"tensor_parallel: {count} splits the weights of files, but this model is in memory",
                    hint="remove tensor_parallel, or pass the checkpoint's folder as the model",
                )
            from emu2eval.adapters.local.parallel import check_degree, check_gpus

            check_degree(count, self._decoder(), self.settings.checkpoint)
            check_gpus(count, len(self._where.gpus))

    def _check_layout(self) -> None:
        """Raises ModelError where prompts are not laid out as the model's authors do it."""

    def _check_weights(self) -> None:
        """Raises ModelError where files of weights are not here."""

    def _check_memory(self) -> None:
        """Raises ModelError where the model can never fit into this machine."""

    @property
    def _room(self) -> int:
        """Tokens that a text may take beside its answer's."""
        return 0

    def _marks(self, laid: LaidOut) -> tuple[Mark, ...]:
        """What a reader of the table should know about the answer to a prompt."""
        return ()

    def _others(self, inference: Loaded, asked: Sequence[tuple[Output, LaidOut]]) -> list[Response]:
        """The answers where neither a text nor a choice is wanted. Raises `OWN`."""
        raise NotImplementedError

    # -- the rest -------------------------------------------------------------------------------------

    def _texts(
        self,
        inference: Loaded,
        asked: Mapping[int, tuple[TextOutput, LaidOut]],
        keys: Sequence[str],
    ) -> dict[int, Response]:
        """keys: of all requests of the batch."""
        alike: dict[Search, list[int]] = {}
        for i, (out, _) in asked.items():
            alike.setdefault(self._search(out), []).append(i)
        responses = {}
        for search, rows in alike.items():

            def ask(some: list[int], search: Search = search) -> list[Found]:
                prompts = [asked[i][1].encoded for i in some]
                return inference.texts(prompts, search, [keys[i] for i in some])

            found = _each(ask, rows)
            for i, answer in zip(rows, found, strict=True):
                if isinstance(answer, OWN):
                    responses[i] = Response(error=str(answer))
                    continue
                laid = asked[i][1]
                responses[i] = replace(
                    self._said(answer, laid, asked[i][0]),
                    tokens_in=len(laid.pieces),
                    tokens_out=len(answer.ids),
                    marks=self._marks(laid),
                )
        return responses

    def _search(self, out: TextOutput) -> Search:
        own = self.settings
        return Search(
            out.max_new_tokens + self._room,
            out.min_new_tokens,
            own.beams if out.beams is None else out.beams,
            own.length_penalty if out.length_penalty is None else out.length_penalty,
            own.repetition_penalty,
            own.sampling,
        )

    def _bounded(self, request: Request) -> Request:
        """The request with the settings' own bound of an answer, where there is one."""
        most, out = self.settings.max_new_tokens, request.output
        if most is None or not isinstance(out, TextOutput):
            return request
        least = min(out.min_new_tokens, most)
        return replace(request, output=replace(out, max_new_tokens=most, min_new_tokens=least))

    def _choices(
        self, inference: Loaded, asked: Mapping[int, tuple[ChoiceOutput, LaidOut]]
    ) -> dict[int, Response]:
        responses = {}
        with suppress(*OWN):  # told by the question whose own it is
            inference.expect([q for _, laid in asked.values() if (q := laid.question) is not None])
        for i, (out, laid) in asked.items():
            assert laid.question is not None
            (sums,) = _each(inference.choices, [laid.question])
            if isinstance(sums, OWN):
                responses[i] = Response(error=str(sums))
                continue
            responses[i] = Response(
                log_probs=laid.question.scores(sums, per_token=out.per_token),
                tokens_in=len(laid.pieces),
                marks=self._marks(laid),
            )
        return responses

    def _loaded(self) -> Loaded:
        if self._inference is None:
            raise ModelError("the model is not loaded", hint="call load() first")
        return self._inference

    def _checked(self, request: Request) -> LaidOut:
        kind, most = request.output.kind, self.limits.positions
        if kind not in self.limits.outputs:
            raise PlanError(f"{self.settings.checkpoint} does not produce {kind}")
        laid = self._lay_out(request)
        if most is not None and laid.needed > most:
            raise PlanError(
                f"the prompt needs {laid.needed:,} positions, but the model has {most:,}",
                hint="use fewer shots, or --fit, which drops the farthest ones",
            )
        return laid

    def _lay_out(self, request: Request) -> LaidOut:
        with self._laying_out:
            laid = self._laid_out.get(request.key)
            if laid is None:
                laid = self._laid_out[request.key] = self._count(self._bounded(request))
                while len(self._laid_out) > LAID_OUT:
                    self._laid_out.popitem(last=False)
            return laid


def _begun(encoder: Any, shown: Shown) -> None:
    """Prepares an image ahead; what is wrong with it is told when it is encoded."""
    one_here()
    with suppress(UserError):
        encoder.prepare(shown)


OWN = (NotFinite, ImageError)
"""What one request of a batch can cause: numbers that are none, an image that the encoder refuses."""

A = TypeVar("A")
Q = TypeVar("Q")


def _each(ask: Callable[[list[Q]], list[A]], asked: list[Q]) -> list[A | NotFinite | ImageError]:
    """Answers to all at once; each alone where one of `OWN` comes up, so that it costs its own."""
    try:
        return [*ask(asked)]
    except OWN as error:
        # Its frames hold the batch's keys and values.
        failed = error.with_traceback(None)
    return [failed] if len(asked) == 1 else [each for q in asked for each in _each(ask, [q])]
