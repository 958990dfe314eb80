"""Any OpenAI-compatible chat server as a model."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, get_args

from emu2eval.adapters.base import Adapter, Cost, Limits
from emu2eval.adapters.openai import ranking as ranks
from emu2eval.adapters.openai import replies as reading
from emu2eval.adapters.openai.background import Background
from emu2eval.adapters.openai.client import (
    Client,
    Refused,
    check_extra,
    check_key_name,
    check_url,
    key_from,
)
from emu2eval.adapters.openai.messages import ImageUrls, Layout, Message, beginning, messages
from emu2eval.adapters.openai.pace import Budget, Pace, Prices
from emu2eval.adapters.openai.ranking import Ranking
from emu2eval.errors import ConfigError, ImageError, UnknownName, UserError
from emu2eval.types import ChoiceOutput, Mark, Output, Prompt, Request, Response, TextOutput

CHARACTERS_A_TOKEN = 4
"""Of English text, roughly; only estimates of length and cost rest on it."""

MESSAGE_TOKENS = 4
"""What a chat template adds to each message, roughly."""


class OpenAIAdapter(Adapter):
    """A server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, TGI, a hosted one.

    model: its name on the server. revision: any text; tells weights apart that share a name.
    base_url: the server, usually ending in /v1. key_env: the environment variable that holds its key.
    layout: "turns" shows demonstrations as turns of user and assistant; "single" puts everything into one
    user message, in order, which also takes demonstrations whose replies are images.
    max_side, image_root, image_base, detail: see `ImageUrls`.
    temperature, top_p, seed: of sampling; null leaves a value to the server. extra: more fields of the
    request, such as {repetition_penalty: 1.1}. token_limit: the field that limits the answer
    (max_completion_tokens for OpenAI's newer models). thinking: tokens on top of the task's, for models that
    think before they answer. stop: False keeps the task's stop strings from a server that cannot take them
    (transformers serve, with images); the answer is cut at them in any case.
    ranking: how choices are ranked: "prompt_logprobs" (vLLM), "echo" (completions, texts only), "first_token"
    (choices that differ in their first letter, from the top_logprobs alternatives); null refuses.
    max_images, max_positions: what a prompt may hold; image_tokens: positions of an image. Texts are
    counted at 4 characters a token.
    concurrency: requests at once; requests_per_minute, tokens_per_minute: rates; timeout: seconds without a
    byte; retries: attempts after the first; longest_wait: seconds of rest that a server may ask for.
    budget: the most that one command may use, of requests, tokens and money; prices: money for a million
    tokens, {input: …, output: …}.
    """

    extra: ClassVar[str | None] = "api"
    # Where the server is and how fast it is asked, not what answers.
    neutral: ClassVar[frozenset[str]] = frozenset(
        "batch base_url key_env image_root image_base concurrency requests_per_minute "
        "tokens_per_minute timeout retries longest_wait budget prices stop max_images max_positions "
        "image_tokens".split()
    )

    def __init__(
        self,
        model: str = "",
        base_url: str = "http://127.0.0.1:8000/v1",
        key_env: str | None = None,
        revision: str | None = None,
        layout: Layout = "turns",
        max_side: int | None = None,
        image_root: str | None = None,
        image_base: str | None = None,
        detail: str | None = None,
        temperature: float | None = 0.0,
        top_p: float | None = None,
        seed: int | None = None,
        extra: Mapping[str, Any] | None = None,
        token_limit: str = "max_tokens",
        thinking: int = 0,
        stop: bool = True,
        ranking: Ranking | None = None,
        top_logprobs: int = 20,
        max_images: int | None = None,
        max_positions: int | None = None,
        image_tokens: int = 1000,
        batch: int = 128,
        concurrency: int = 8,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        timeout: float = 120.0,
        retries: int = 6,
        longest_wait: float = 120.0,
        budget: Mapping[str, float] | None = None,
        prices: Mapping[str, float] | None = None,
    ):
        if not model:
            raise ConfigError(
                "no model is named",
                where="settings.model",
                hint="--set model.settings.model=NAME (or judge.settings.model), as the server calls it",
            )
        if layout not in get_args(Layout):
            raise UnknownName("layout", str(layout), get_args(Layout))
        if ranking is not None and ranking not in get_args(Ranking):
            raise UnknownName("way of ranking", str(ranking), get_args(Ranking))
        for name, value, least in (
            ("batch", batch, 1),
            ("concurrency", concurrency, 1),
            ("retries", retries, 0),
            ("max_side", max_side, 1),
            ("longest_wait", longest_wait, 0),
        ):
            if value is not None and value < least:
                raise ConfigError(f"{name} is {value}; it is at least {least}")
        rates = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
        for name, value in {"timeout": timeout, **rates}.items():
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; it is more than 0")
        check_extra(extra or {})
        _numbers("budget", budget, Budget.NAMES)
        _numbers("prices", prices, ("input", "output"))
        if image_base is not None and not image_base.startswith("file:"):
            check_url("image_base", image_base)
        self.limits = Limits(
            outputs=frozenset({"text", "choice"} if ranking else {"text"}),
            images=max_images,
            positions=max_positions,
            image_replies=layout == "single",
            batch=batch,
        )
        self._model = model
        self._layout = layout
        self._urls = ImageUrls(max_side, image_root, image_base, detail)
        sampling = {"temperature": temperature, "top_p": top_p, "seed": seed}
        self._sampling = {k: v for k, v in sampling.items() if v is not None} | dict(extra or {})
        self._token_limit = token_limit
        self._thinking = thinking
        self._stop = stop
        self._ranking = ranking
        self._top_logprobs = top_logprobs
        self._image_tokens = image_tokens
        self._concurrency = concurrency
        self._budget = Budget(budget or {})
        prices = prices or {}
        self._prices = Prices(prices.get("input"), prices.get("output"))
        self._open = partial(
            Client,
            check_url("base_url", base_url),
            timeout=timeout,
            retries=retries,
            longest_wait=longest_wait,
            pace=Pace(concurrency, requests_per_minute, tokens_per_minute),
            budget=self._budget,
            prices=self._prices,
        )
        self._key_env = check_key_name(key_env)
        self._client: Client | None = None
        self._background: Background | None = None

    def identity(self) -> Mapping[str, Any]:
        """How prompts are laid out, in case that ever changes."""
        return {"messages": 1}

    def lacks(self) -> list[UserError]:
        try:
            key_from(self._key_env)
        except UserError as error:
            return [error]
        return []

    # -- planning ---------------------------------------------------------------------------------

    def positions(self, request: Request) -> int | None:
        """An estimate: only the server knows its tokenizer. None where no limit is set."""
        if self.limits.positions is None:
            return None
        return self._length(request.prompt) + _answer(request)

    def refusal(self, request: Request) -> str | None:
        prompt, output = request.prompt, request.output
        if self._layout == "turns" and any(
            not isinstance(part, str) for turn in prompt.turns for part in turn.reply
        ):
            return "an assistant's turn can only hold text; --set model.settings.layout=single"
        if not isinstance(output, ChoiceOutput):
            return None
        if self._ranking is None:
            return (
                "set model.settings.ranking to what the server gives: prompt_logprobs (vLLM), "
                "first_token, or echo; or let the task ask for text"
            )
        if self._ranking == "first_token" and (pair := ranks.same_start(output.choices)):
            return (
                f"the choices {pair[0]!r} and {pair[1]!r} may begin with the same token, and only the "
                "first is looked at; ranking: prompt_logprobs looks at all"
            )
        if self._ranking == "echo" and any(True for _ in prompt.images()):
            return "ranking: echo asks the completions endpoint, which takes no images"
        return None

    def cost(self, request: Request) -> Cost | None:
        """One request for a text; for choices as many as the way of ranking takes."""
        read, written = self._length(request.prompt), _answer(request) + self._thinking
        one = self._prices.cost(1, read, written)
        output = request.output
        if isinstance(output, ChoiceOutput) and self._ranking != "first_token":
            return sum([one] * len(output.choices), Cost())
        return one

    def afford(self, cost: Cost) -> None:
        self._budget.afford(cost)

    def _length(self, prompt: Prompt) -> int:
        characters = sum(len(part) for part in prompt.parts() if isinstance(part, str))
        shown = sum(1 for _ in prompt.images())
        said = 1 if self._layout == "single" else 2 * len(prompt.turns) + 1
        text = -(-characters // CHARACTERS_A_TOKEN)
        return text + shown * self._image_tokens + (said + 1) * MESSAGE_TOKENS

    # -- answering --------------------------------------------------------------------------------

    def load(self) -> None:
        """Opens the connection. Raises ModelError where no server answers or it refuses the key."""
        self._background = Background()
        self._client = self._open(key_from(self._key_env))
        self._background.run(self._client.reach())

    def close(self) -> None:
        if self._background is not None and self._client is not None:
            self._background.close(self._client.close())
        self._background = self._client = None

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        found = dict(self.stream(requests))
        return [found[place] for place in range(len(requests))]

    def stream(self, requests: Sequence[Request]) -> Generator[tuple[int, Response]]:
        assert self._background is not None, "load() comes first"
        # Neighbours that begin alike find that beginning in the server's own cache.
        starts = [beginning(request.prompt) for request in requests]
        order = sorted(range(len(requests)), key=lambda place: starts[place])

        async def ask(place: int) -> Response:
            try:
                return await self._answer(requests[place])
            except Refused as error:
                return Response(error=str(error))
            except ImageError as error:
                # Such as a frame that cannot be decoded, which shows only now: it costs nobody else.
                return Response(error=f"{error.what} ({error.where})")

        yield from self._background.each(order, ask, self._concurrency)

    async def _answer(self, request: Request) -> Response:
        if isinstance(request.output, ChoiceOutput):
            return await self._ranked(request, request.output)
        reply = await self._chat(request, self._wanted(request.output))
        response = reading.read(reply)
        return reading.told([reply], replace(response, marks=_unmet(request.output)))

    def _wanted(self, output: Output) -> Message:
        """The fields of the request that the output asks for."""
        if not isinstance(output, TextOutput):
            return {}  # a plug-in's kind of output: the answer is as long as the server makes it
        body: Message = {self._token_limit: output.max_new_tokens + self._thinking}
        if output.stop and self._stop and not self._thinking:
            # The protocol takes four; `TextOutput.kept` cuts at all of them anyway.
            body["stop"] = list(output.stop[:4])
        return body

    async def _ranked(self, request: Request, output: ChoiceOutput) -> Response:
        if self._ranking == "first_token":
            body: Message = {
                self._token_limit: 1,
                "logprobs": True,
                "top_logprobs": self._top_logprobs,
            }
            reply = await self._chat(request, body)
            found = tuple(ranks.from_first_token(reply, output.choices))
            return reading.told([reply], Response(log_probs=found, marks=(Mark("first_token"),)))
        replies: list[Mapping[str, Any]] = []
        sums = []
        for choice in output.choices:
            if self._ranking == "echo":
                before = "".join(map(str, request.prompt.flat())) + request.prompt.lead
                body = {"prompt": before + choice, "max_tokens": 1, "echo": True, "logprobs": 1}
                replies.append(await self._post("/completions", body, request))
                values = ranks.from_echo(replies[-1], before, choice)
            else:
                body = {
                    self._token_limit: 1,
                    "prompt_logprobs": 0,
                    "add_generation_prompt": False,
                    "continue_final_message": True,
                }
                replies.append(await self._chat(request, body, choice))
                values = ranks.from_prompt(replies[-1], choice)
            sums.append(ranks.total(values, output.per_token))
        return reading.told(replies, Response(log_probs=tuple(sums)))

    async def _chat(
        self, request: Request, body: Message, reply: str | None = None
    ) -> Mapping[str, Any]:
        said = messages(request.prompt, self._layout, self._urls)
        if reply is not None:
            said.append({"role": "assistant", "content": reply})
        return await self._post("/chat/completions", {"messages": said, **body}, request)

    async def _post(self, path: str, body: Message, request: Request) -> Mapping[str, Any]:
        assert self._client is not None
        whole = {"model": self._model, **self._sampling, **body}
        estimate = self.cost(request)
        assert estimate is not None
        one = self._prices.cost(
            1, estimate.tokens_in // estimate.requests, estimate.tokens_out // estimate.requests
        )
        return await self._client.post(path, json.dumps(whole).encode(), one)


def _numbers(name: str, given: Mapping[str, float] | None, known: Sequence[str]) -> None:
    for key, value in (given or {}).items():
        if key not in known:
            raise UnknownName(f"key of {name}", str(key), known)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ConfigError(f"{name}.{key} is {value!r}; it is a number of at least 0")


def _answer(request: Request) -> int:
    """Tokens that the answer may take."""
    if isinstance(request.output, TextOutput):
        return request.output.max_new_tokens
    return 1


def _unmet(output: Output) -> tuple[Mark, ...]:
    """What the task asks for that the protocol cannot express."""
    if not isinstance(output, TextOutput):
        return ()
    unmet = {
        "beams": output.beams is not None and output.beams > 1,
        "min_new_tokens": output.min_new_tokens > 0,
    }
    return tuple(Mark("unmet", name) for name, asked in unmet.items() if asked)
