"""Any OpenAI-compatible chat server as a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import msgspec

from emu2eval.adapters.base import Adapter, Cost, Limits
from emu2eval.adapters.openai import ranking as ranks
from emu2eval.adapters.openai import replies as reading
from emu2eval.adapters.openai.background import Background
from emu2eval.adapters.openai.client import Client, Refused, key_from
from emu2eval.adapters.openai.ledger import Ledger
from emu2eval.adapters.openai.messages import Message, alike_together, body, messages
from emu2eval.adapters.openai.pace import Budget, BudgetReached, Pace, Prices
from emu2eval.adapters.openai.route import way
from emu2eval.adapters.openai.settings import OpenAISettings
from emu2eval.adapters.openai.urls import ImageUrls
from emu2eval.errors import ImageError, UserError
from emu2eval.types import (
    ChoiceOutput,
    ImageOutput,
    Mark,
    Output,
    Prompt,
    Request,
    Response,
    TextOutput,
    Used,
)

CHARACTERS_A_TOKEN = 4
"""Of English text, roughly; only estimates of length and cost rest on it."""

MESSAGE_TOKENS = 4
"""What a chat template adds to each message, roughly."""

MAKERS = 2
"""Threads on which requests that show images are made."""


class OpenAIAdapter(Adapter):
    """A server with OpenAI's chat-completions API: vLLM, SGLang, llama.cpp, TGI or a hosted service.

    The docstring of `OpenAISettings` says what its settings do.
    """

    extra: ClassVar[str | None] = "api"
    runs_on: ClassVar[str | None] = "a server"
    replicable: ClassVar[bool] = False
    # Where the server is and how fast it is asked, not what answers.
    neutral: ClassVar[frozenset[str]] = frozenset(
        "batch base_url key_env image_root image_base formats concurrency requests_per_minute "
        "tokens_per_minute timeout retries longest_wait budget prices max_images max_positions "
        "image_tokens".split()
    )

    def __init__(self, settings: OpenAISettings):
        self.limits = Limits(
            outputs=frozenset(_outputs(settings)),
            images=settings.max_images,
            positions=settings.max_positions,
            image_replies=settings.layout == "single",
            batch=settings.batch,
        )
        self.samples = settings.samples
        self._settings = settings
        self._urls = ImageUrls(
            settings.max_side, settings.image_root, settings.image_base, settings.formats
        )
        self._budget = Budget(msgspec.structs.asdict(settings.budget))
        self._prices = Prices(settings.prices.input, settings.prices.output)
        self._ledger = Ledger(settings.prices)
        self._model = settings.model
        self._client: Client | None = None
        self._background: Background | None = None
        self._makers: ThreadPoolExecutor | None = None

    def identity(self) -> Mapping[str, Any]:
        """How prompts are laid out, in case that ever changes."""
        return {"messages": 1}

    def lacks(self) -> list[UserError]:
        found = []
        for look in (
            partial(key_from, self._settings.key_env),
            partial(way, self._settings.base_url),
        ):
            try:
                look()
            except UserError as error:
                found.append(error)
        return found

    # -- planning ---------------------------------------------------------------------------------

    def positions(self, request: Request) -> int | None:
        """An estimate: only the server knows its tokenizer. None where no limit is set."""
        if self.limits.positions is None:
            return None
        return self._length(request.prompt) + self._longest(request)

    def refusal(self, request: Request) -> str | None:
        prompt, output = request.prompt, request.output
        if self._settings.layout == "turns" and any(
            not isinstance(part, str) for turn in prompt.conversation().turns for part in turn.reply
        ):
            return "an assistant turn can only contain text; use --set model.settings.layout=single"
        if not isinstance(output, ChoiceOutput):
            return None
        if self._settings.ranking is None:
            return (
                "set model.settings.ranking to what the server supports: prompt_logprobs (vLLM), "
                "first_token, or echo; or let the task ask for text"
            )
        if self._settings.ranking == "first_token" and (pair := ranks.same_start(output.choices)):
            return (
                f"the choices {pair[0]!r} and {pair[1]!r} may begin with the same token, and only the "
                "first token is used; ranking: prompt_logprobs uses all"
            )
        if self._settings.ranking == "echo" and any(True for _ in prompt.images()):
            return "ranking: echo uses the completions endpoint, which does not accept images"
        return None

    def cost(self, request: Request) -> Cost | None:
        return self._estimate(request)

    def _estimate(self, request: Request) -> Cost:
        """One request for a text; for choices as many as the way of ranking takes."""
        read, written = (
            self._length(request.prompt),
            self._longest(request) + self._settings.thinking,
        )
        one = self._prices.cost(1, read, written)
        output = request.output
        if isinstance(output, ChoiceOutput) and self._settings.ranking != "first_token":
            return sum([one] * len(output.choices), Cost())
        return one

    def afford(self, cost: Cost) -> None:
        self._budget.afford(cost)

    def used(self) -> Used:
        return self._ledger.total

    def _longest(self, request: Request) -> int:
        """Tokens that the answer may take."""
        output = request.output
        return self._settings.bounded(output) if isinstance(output, TextOutput) else 1

    def _length(self, prompt: Prompt) -> int:
        characters = sum(len(part) for part in prompt.parts() if isinstance(part, str))
        shown = sum(1 for _ in prompt.images())
        turns = prompt.conversation().turns
        said = 1 if self._settings.layout == "single" else 2 * len(turns) + 1
        text = -(-characters // CHARACTERS_A_TOKEN)
        return text + shown * self._settings.image_tokens + (said + 1) * MESSAGE_TOKENS

    # -- answering --------------------------------------------------------------------------------

    def load(self) -> None:
        """Opens the connection. Raises ModelError where no server answers or it refuses the key."""
        self._connect(self._settings.base_url)

    def _connect(self, base_url: str, check: Callable[[], None] = lambda: None) -> None:
        """check: see `Client`."""
        settings = self._settings
        self._makers = ThreadPoolExecutor(MAKERS, thread_name_prefix="emu2eval messages")
        self._background = Background()
        self._client = Client(
            base_url,
            key_from(settings.key_env),
            timeout=settings.timeout,
            retries=settings.retries,
            longest_wait=settings.longest_wait,
            pace=Pace(
                settings.concurrency, settings.requests_per_minute, settings.tokens_per_minute
            ),
            budget=self._budget,
            ledger=self._ledger,
            check=check,
        )
        self._background.run(self._client.reach())

    def close(self) -> None:
        if self._background is not None and self._client is not None:
            self._background.close(self._client.close())
        if self._makers is not None:
            self._makers.shutdown(cancel_futures=True)
        self._background = self._client = self._makers = None

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        found = dict(self.stream(requests))
        return [found[place] for place in range(len(requests))]

    def stream(self, requests: Iterable[Request]) -> Generator[tuple[int, Response]]:
        assert self._background is not None and self._client is not None, "load() comes first"

        async def ask(numbered: tuple[int, Request]) -> tuple[int, Response]:
            place, request = numbered
            try:
                return place, await self._answer(request)
            except Refused as error:
                return place, Response(error=str(error))
            except ImageError as error:
                # Such as a frame that cannot be decoded, which shows only now: it costs nobody else.
                return place, Response(error=f"{error.what} ({error.where})")

        ordered = alike_together(requests, self._settings.batch)
        try:
            yield from self._background.each(ordered, ask, self._client.pace)
        except BudgetReached as error:
            raise self._budget.reached(error.name) from None

    def finish(self) -> None:
        if self._background is not None:
            self._background.finish()

    async def _answer(self, request: Request) -> Response:
        if isinstance(request.output, ChoiceOutput):
            return await self._ranked(request, request.output)
        reply = await self._chat(request, self._wanted(request))
        response = reading.read(reply, thinks=self._settings.thinking > 0)
        return reading.told([reply], replace(response, marks=_unmet(request.output)))

    def _wanted(self, request: Request) -> Message:
        """The fields of the request that the output asks for."""
        output = request.output
        if isinstance(output, ImageOutput):
            return {"seed": output.seed % (1 << 31)}  # each take has its own
        if not isinstance(output, TextOutput):
            return {}  # a plug-in's kind of output: the answer is as long as the server makes it
        most = self._settings.bounded(output) + self._settings.thinking
        body: Message = {self._settings.token_limit: most, **self._settings.seed_of(request.key)}
        if output.stop and self._settings.stop:
            # The protocol takes four; `TextOutput.kept` cuts at all of them anyway.
            body["stop"] = list(output.stop[:4])
        return body

    async def _ranked(self, request: Request, output: ChoiceOutput) -> Response:
        if self._settings.ranking == "first_token":
            body: Message = {
                self._settings.token_limit: 1,
                "logprobs": True,
                "top_logprobs": self._settings.top_logprobs,
            }
            reply = reading.sound(await self._chat(request, body))
            least = self._settings.ranking_mass
            found = tuple(ranks.from_first_token(reply, output.choices, least))
            return reading.told([reply], Response(log_probs=found, marks=(Mark("first_token"),)))
        replies: list[Mapping[str, Any]] = []
        sums = []
        for choice in output.choices:
            if self._settings.ranking == "echo":
                before = "".join(map(str, request.prompt.flat())) + request.prompt.lead
                body = {"prompt": before + choice, "max_tokens": 1, "echo": True, "logprobs": 1}
                replies.append(reading.sound(await self._post("/completions", dict, body, request)))
                values = ranks.from_echo(replies[-1], before, choice)
            else:
                body = {
                    self._settings.token_limit: 1,
                    "prompt_logprobs": 0,
                    "add_generation_prompt": False,
                    "continue_final_message": True,
                }
                replies.append(reading.sound(await self._chat(request, body, choice)))
                values = ranks.from_prompt(replies[-1], choice)
            sums.append(ranks.total(values, output.per_token))
        return reading.told(replies, Response(log_probs=tuple(sums)))

    async def _chat(
        self, request: Request, body: Message, reply: str | None = None
    ) -> Mapping[str, Any]:
        def said() -> Message:
            found = messages(request.prompt, self._settings.layout, self._settings.detail)
            if reply is not None:
                found.append({"role": "assistant", "content": reply})
            return {"messages": found}

        return await self._post("/chat/completions", said, body, request)

    async def _post(
        self, path: str, said: Callable[[], Message], wanted: Message, request: Request
    ) -> Mapping[str, Any]:
        """said: the fields that show the prompt, made when it is sent."""
        assert self._client is not None
        settings = self._settings

        def whole() -> list[bytes]:
            fields = {"model": self._model, **settings.sampling, **said(), **wanted}
            return body(fields, map(self._urls.url, shown))

        shown = list(request.prompt.images())

        async def made() -> list[bytes]:
            if not shown:
                return whole()
            # Images are read, and may have to be decoded: the loop has others to serve meanwhile.
            return await asyncio.get_running_loop().run_in_executor(self._makers, whole)

        estimate = self._estimate(request)
        one = self._prices.cost(
            1, estimate.tokens_in // estimate.requests, estimate.tokens_out // estimate.requests
        )
        return await self._client.post(path, made, one)


def _outputs(settings: OpenAISettings) -> Iterator[str]:
    yield "text"
    if settings.ranking:
        yield "choice"
    if settings.draws:
        yield "image"


def _unmet(output: Output) -> tuple[Mark, ...]:
    """What the task asks for that the protocol cannot express."""
    unmet: dict[str, bool] = {}
    if isinstance(output, TextOutput):
        unmet["beams"] = output.beams is not None and output.beams > 1
        unmet["min_new_tokens"] = output.min_new_tokens > 0
    elif isinstance(output, ImageOutput):
        for name in ("width", "height", "steps", "guidance"):
            unmet[name] = getattr(output, name) is not None
    return tuple(Mark("unmet", name) for name, asked in unmet.items() if asked)
