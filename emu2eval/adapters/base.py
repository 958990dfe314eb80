"""The contract between the harness and a model: one class, one method that matters.

An adapter sees prompts and answers them. It never sees a task, a sample, a score or a file of results.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from emu2eval.errors import UserError, of_part
from emu2eval.types import Image, Request, Response, Used

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from emu2eval.adapters.machine import Machine
    from emu2eval.adapters.memory import Device, MemoryPlan, ReplicaFit, Workload


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model can take. Requests that exceed the limits are refused while planning, with the
    numbers.

    outputs: the kinds of output it can produce: "text", "choice", "image", or one that a plug-in
    defines.
    images: the maximum number of images in a prompt (None = no limit).
    positions: context length in tokens, prompt and answer together (None = unknown).
    image_replies: a demonstration's reply may be an image.
    batch: how many requests `answer` takes at a time; the engine halves it when memory runs out.
    instead: a suggestion, shown if a prompt has too many images.
    """

    outputs: frozenset[str]
    images: int | None = None
    positions: int | None = None
    image_replies: bool = True
    batch: int = 1
    instead: str | None = None


@dataclass(frozen=True, slots=True)
class BatchRange:
    """How many requests `answer` is given at a time where that is to be found out (`--batch auto`).

    first: at first; most: it is doubled up to this, until memory runs out. None = `first` is known to fit.
    """

    first: int
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate of what answers cost. money: at the prices in the model's settings; None = unknown."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    money: float | None = None

    def __add__(self, other: Cost) -> Cost:
        known = [cost.money for cost in (self, other) if cost.money is not None]
        return Cost(
            self.requests + other.requests,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            sum(known) if known else None,
        )

    def times(self, factor: float) -> Cost:
        """The cost multiplied by this number."""
        return Cost(
            round(self.requests * factor),
            round(self.tokens_in * factor),
            round(self.tokens_out * factor),
            None if self.money is None else self.money * factor,
        )


class Adapter(ABC):
    """To write an adapter, subclass this, set `limits` and write `answer`. Everything else has defaults.

    The constructor gets the `settings` from the model's YAML. It reads only local configuration: no
    weights, no network. `lacks` says what is missing, `fetch` downloads it, `load` does the heavy work;
    the engine calls them in this order, once each, `load` right before the first `answer`.

    `positions`, `refusal` and `cost` are cheap and deterministic, and may be called ahead of `answer`, on
    another thread. An adapter answers the prompt that it is given: prompts that are too long are
    shortened by the plan (`--fit`), which calls `positions`.
    """

    limits: Limits
    extra: ClassVar[str | None] = None
    """The optional dependency group it needs, as in `pip install 'emu2eval[extra]'`."""
    device_setting: ClassVar[str | None] = None
    """The setting that `--device` gives: on which device of this machine the model runs."""
    samples: bool = False
    """Whether its texts are drawn: each trial of a run then asks again, with a request of another key. A draw
    that is made of the key alone is the same for any batch, order and restart."""
    workers: int | None = None
    """Threads on which `prepare` is called; None = one for each core that this process may use."""
    machine: Machine | None = None
    """Where it runs, if elsewhere: a planner's copy of a replica's adapter is given the replica's before
    anything else. It decides what settings leave open, such as a precision. None = this machine."""
    workload: Workload | None = None
    """What its requests are like, where that is known before it is loaded: memory is set aside for these, in
    this process and in each replica's. None = unknown: all of a short context is planned for."""
    runs_on: ClassVar[str | None] = None
    """What answers in its place, such as "a server"; None = this package, on a device or anywhere."""
    replicable: ClassVar[bool] = True
    """Whether several copies of it answer more in the same time (`--replicas`)."""
    neutral: ClassVar[frozenset[str]] = frozenset({"batch"})
    """Settings that never change an answer; they stay out of the model's identity."""
    tell: Callable[[str], None] = staticmethod(lambda text: None)
    """For a line to the user from within `load`, where that takes long; the engine sets it. Any thread."""

    @property
    def uses_gpus(self) -> bool:
        """Whether it runs on GPUs where there are any."""
        return self.device_setting is not None

    @abstractmethod
    def answer(self, requests: Sequence[Request]) -> Sequence[Response]:
        """One response per request, in order. All requests of a call have the same kind of output.

        An answer depends only on its request, never on the others in the batch or on earlier calls.
        A text may still contain the model's thinking: the engine separates the two (`adapters.thought`).
        A request that fails gets `Response(error="why")`. An exception fails the batch; the engine then
        sends each request separately, so a bad request does not affect others.
        """

    def stream(self, requests: Iterable[Request]) -> Generator[tuple[int, Response]]:
        """Yields (index of the request, response) as answers arrive, each once.

        Override it if answers arrive one by one, as over a network: each is stored on arrival, and an
        exception loses only those still missing. A UserError stops the run; answers that have arrived
        are kept. The requests are those of a whole run: take each one only when it can be sent, or soon
        will be.
        """
        yield from enumerate(self.answer(list(requests)))

    def finish(self) -> None:
        """A `stream` under way sends no more requests: what is sent already is all that is waited for. On
        any thread; the user has stopped the run.
        """

    def prepare(self, request: Request) -> None:
        """Prepares a request that will be sent soon, for example by decoding its images; on any thread.

        It must not change an answer. Errors are ignored: `answer` raises them again if they matter.
        """

    def lacks(self) -> list[UserError]:
        """What is missing before it can answer: extras, files, weights, keys. Each error says how to get it.

        Checks only this machine: nothing is loaded, and the network is not used.
        """
        return []

    def fetch(self) -> None:
        """Downloads what `lacks` reports, as far as possible. Raises UserError where that fails."""

    def load(self) -> None:
        """Reads weights, opens connections. Called once, before the first `answer`."""

    def close(self) -> None:
        """Frees what `load` allocated."""

    def identity(self) -> Mapping[str, Any]:
        """Small JSON values that, together with the settings, determine the answers: digests, versions.

        They are part of every request's key, so that new weights never reuse old answers. For an adapter
        object passed to `evaluate`, whose settings are unknown, everything that determines them.
        """
        return {}

    def positions(self, request: Request) -> int | None:
        """How many positions of the context the request takes, answer included; None = unknown."""
        return None

    def refusal(self, request: Request) -> str | None:
        """Why the model cannot take the request, apart from its limits. Called while planning."""
        return None

    def warning(self, request: Request) -> str | None:
        """A warning to the user before requests like this are sent; None = none. The request is not
        refused.
        """
        return None

    def cost(self, request: Request) -> Cost | None:
        """An estimate of what the request costs; None = negligible."""
        return None

    def afford(self, cost: Cost) -> None:
        """Raises PlanError if the estimated cost of all remaining requests exceeds the model's budget."""

    def used(self) -> Used | None:
        """What its answers have actually used so far, as counted by a server; None = not counted."""
        return None

    def about(self) -> Mapping[str, str]:
        """What a user may want to know before running it, by topic; cheap, and called once nothing is
        missing.
        """
        return {}

    def fit_batch(self) -> BatchRange:
        """The batch size that fits the devices, or those to try; called before `load` (`--batch auto`)."""
        return BatchRange(self.limits.batch)

    def usual_batch(self) -> BatchRange:
        """The batch size where nobody asks for one; called as `fit_batch` is."""
        return BatchRange(self.limits.batch)

    def devices(self) -> Mapping[str, int] | None:
        """How many of each device it runs on once it is loaded, as run.json says it; None = those that torch
        knows of in this process."""
        return None

    def plan_memory(self, workload: Workload, memory: Mapping[Device, int]) -> MemoryPlan | None:
        """Which part would be on which device, based on sizes only; None = nothing to plan.

        memory: bytes by device, the GPUs first. Needs neither weights nor a GPU. If the model does not fit,
        raises DoesNotFit, which says what would.
        """
        return None

    def fit_replicas(self, devices: Sequence[int]) -> ReplicaFit | None:
        """The fewest GPUs on which one replica fits, how many replicas that makes, and their batch.

        devices: bytes of each GPU. None = nothing is planned: it needs no GPU, or says nothing of its size.
        Raises DoesNotFit.
        """
        from emu2eval.adapters.memory import Workload, fewest

        return fewest(self.plan_memory, self.workload or Workload(), devices)

    def expected(self, requests: Iterable[Request]) -> Workload | None:
        """What prompts are like of which these are the first: a quarter longer than the longest of them, so
        that the same plan gives the same batches. None where it does not count positions."""
        from emu2eval.adapters.memory import expected

        return expected((self.positions(request), request.output) for request in requests)

    def encode_images(self, images: Sequence[Image]) -> npt.NDArray[np.float32]:
        """(n, width): the model's own features of each image, for choosing demonstrations by similarity.

        Optional. Each vector depends only on its image. Called after `load`.
        """
        raise NotImplementedError


def of_adapter(adapter: Adapter) -> AbstractContextManager[None]:
    """What the adapter raises inside, other than a UserError, becomes an error that names it."""
    kind = type(adapter)
    return of_part("adapter", f"{kind.__module__}:{kind.__qualname__}")
