"""The contract between the harness and a model: one class, one method that matters.

An adapter sees prompts and answers them. It never sees a task, a sample, a score or a file of results.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from emu2eval.errors import UserError, of_part
from emu2eval.types import Image, Request, Response

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model can take. Planning refuses a request beyond them, with the numbers.

    outputs: the kinds of output it can give: "text", "choice", "image", or a kind of somebody's own.
    images: the most images in one prompt (None = no limit of their own).
    positions: context length in tokens, prompt and answer together (None = not known).
    image_replies: a demonstration's reply may be an image.
    batch: how many requests `answer` takes at a time; the engine halves it when memory runs out.
    instead: what else may be done where a prompt holds too many images.
    """

    outputs: frozenset[str]
    images: int | None = None
    positions: int | None = None
    image_replies: bool = True
    batch: int = 1
    instead: str | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate of what answers take. money: at the prices in the model's settings; None = not known."""

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
        """Of so many times as much."""
        return Cost(
            round(self.requests * factor),
            round(self.tokens_in * factor),
            round(self.tokens_out * factor),
            None if self.money is None else self.money * factor,
        )


class Adapter(ABC):
    """Subclass, set `limits`, write `answer`. The rest has defaults.

    The constructor gets the `settings` of the model's YAML. It reads local configuration only: no weights,
    no network. `lacks` says what is missing, `fetch` downloads it, `load` does the heavy work; the engine
    calls them in this order, once each, `load` right before the first `answer`.

    `positions`, `refusal` and `cost` are cheap and deterministic, and may be called ahead of `answer`, on
    another thread. An adapter answers the prompt that it is given: to shorten one that is too long is the
    plan's business (`--fit`), which asks `positions`.
    """

    limits: Limits
    extra: ClassVar[str | None] = None
    """The optional dependency group it needs, as in `pip install 'emu2eval[extra]'`."""
    neutral: ClassVar[frozenset[str]] = frozenset({"batch"})
    """Settings that never change an answer; they stay out of the model's identity."""

    @abstractmethod
    def answer(self, requests: Sequence[Request]) -> Sequence[Response]:
        """One response a request, in order. All requests of a call want the same kind of output.

        An answer depends on its request alone: never on the others of the batch, nor on earlier calls.
        One that fails is `Response(error="why")`. An exception fails the batch; the engine then asks
        for each request alone, so that one bad request costs only itself.
        """

    def stream(self, requests: Sequence[Request]) -> Generator[tuple[int, Response]]:
        """Answers as they come, each once, with the place of its request.

        Override it where they come one by one, as over a network: each is stored as it comes, and an
        exception costs only those that have not come. A UserError stops the run; what came is kept.
        """
        yield from enumerate(self.answer(requests))

    def prepare(self, request: Request) -> None:
        """Work for a request that is soon asked for, such as decoding its images; on any thread.

        It must not change an answer, and what it raises is raised again by `answer` or does not matter.
        """

    def lacks(self) -> list[UserError]:
        """What is missing before it can answer: extras, files, weights, keys; each with the way to get it.

        Told by what is on this machine, without loading anything and without the network.
        """
        return []

    def fetch(self) -> None:
        """Downloads what `lacks` told of, as far as it can be. Raises UserError where that fails."""

    def load(self) -> None:
        """Reads weights, opens connections. Called once, before the first `answer`."""

    def close(self) -> None:
        """Frees what `load` took."""

    def identity(self) -> Mapping[str, Any]:
        """Small JSON values that, beside the settings, decide the answers: digests, versions.

        They are part of every request's key, so that new weights never reuse old answers.
        """
        return {}

    def positions(self, request: Request) -> int | None:
        """How many positions of the context the request takes, answer included; None = not known."""
        return None

    def refusal(self, request: Request) -> str | None:
        """Why the model cannot take the request, beyond what its limits say. Asked while planning."""
        return None

    def cost(self, request: Request) -> Cost | None:
        """An estimate of what the request costs; None = nothing that need be told."""
        return None

    def afford(self, cost: Cost) -> None:
        """Raises PlanError where the estimate of all that is to be asked is beyond the model's budget."""

    def encode_images(self, images: Sequence[Image]) -> npt.NDArray[np.float32]:
        """(n, width): what the model itself sees in each image, for choosing demonstrations by likeness.

        Optional. Each vector depends on its image alone. Called after `load`.
        """
        raise NotImplementedError


def of_adapter(adapter: Adapter) -> AbstractContextManager[None]:
    """What the adapter raises inside, other than a UserError, becomes an error that names it."""
    kind = type(adapter)
    return of_part("adapter", f"{kind.__module__}:{kind.__qualname__}")
