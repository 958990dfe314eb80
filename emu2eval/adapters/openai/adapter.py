"""Any OpenAI-compatible chat server as a model."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, get_args

from emu2eval.adapters.base import Adapter, Cost, Limits
from emu2eval.adapters.openai import ranking as ranks
from emu2eval.adapters.openai.background import Background
from emu2eval.adapters.openai.client import Client, Refused, check_extra, check_url, key_from, usage
from emu2eval.adapters.openai.messages import ImageUrls, Layout, Message, beginning, messages
from emu2eval.adapters.openai.pace import Budget, Pace, Prices
from emu2eval.adapters.openai.ranking import Ranking
from emu2eval.errors import ConfigError, ImageError, UnknownName
from emu2eval.types import ChoiceOutput, Prompt, Request, Response, TextOutput

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
    counted at 4 characters a token. fit: drops the farthest demonstrations until a prompt fits.
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
        fit: bool = False,
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
        self._fit = fit
        self._concurrency = concurrency
        self._budget = Budget(budget or {})
        prices = prices or {}
        self._prices = Prices(prices.get("input"), prices.get("output"))
        self._open = partial(
            Client,
            check_url("base_url", base_url),
            # Found before anything is planned, so that a missing key costs nothing.
            key_from(key_env),
            timeout=timeout,
            retries=retries,
            longest_wait=longest_wait,
            pace=Pace(concurrency, requests_per_minute, tokens_per_minute),
            budget=self._budget,
            prices=self._prices,
        )
        self._client: Client | None = None
        self._background: Background | None = None

    def identity(self) -> Mapping[str, Any]:
        """How prompts are laid out, in case that ever changes; and what decides which ones are shortened."""
        found: dict[str, Any] = {"messages": 1}
        if self._fit:
            found["fit"] = [self.limits.positions, self._image_tokens]
        return found

    # -- planning ---------------------------------------------------------------------------------

    def positions(self, request: Request) -> int | None:
        """An estimate: nobody but the server knows its tokenizer. None where no limit is set."""
        if self.limits.positions is None:
            return None
        prompt, _ = self._fitted(request)
        return self._length(prompt) + _answer(request)

    def refusal(self, request: Request) -> str | None:
        prompt, output = request.prompt, request.output
        if self._layout == "turns" and any(
            not isinstance(part, str) for turn in prompt.turns for part in turn.reply
        ):
            return "an assistant's turn holds text alone; --set model.settings.layout=single"
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
        prompt, _ = self._fitted(request)
        one = self._prices.cost(1, self._length(prompt), _answer(request) + self._thinking)
        output = request.output
        if isinstance(output, ChoiceOutput) and self._ranking != "first_token":
            return sum([one] * len(output.choices), Cost())
        return one

    def afford(self, cost: Cost) -> None:
        self._budget.afford(cost)

    def _fitted(self, request: Request) -> tuple[Prompt, int]:
        """The prompt without the farthest demonstrations that do not fit, and how many those are."""
        prompt, most = request.prompt, self.limits.positions
        if not self._fit or most is None:
            return prompt, 0
        whole = len(prompt.turns)
        for dropped in range(whole + 1):
            shorter = replace(prompt, turns=prompt.turns[dropped:])
            if self._length(shorter) + _answer(request) <= most:
                return shorter, dropped
        return prompt, 0

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
        self._client = self._open()
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
        prompt, dropped = self._fitted(request)
        replies: list[Mapping[str, Any]] = []
        details: dict[str, Any] = {}
        marks: list[str] = []
        text = log_probs = None
        if isinstance(request.output, ChoiceOutput):
            log_probs = await self._rank(request, prompt, replies)
            if self._ranking == "first_token":
                marks.append(ranks.FIRST_TOKEN)
        else:
            assert isinstance(request.output, TextOutput)
            replies.append(await self._chat(request, prompt, self._wanted(request.output)))
            text, details["finish"] = _text(replies[0])
            marks += _unmet(request.output)
        details |= _told(replies)
        if dropped:
            details["dropped"] = dropped
        if marks:
            details["marks"] = marks
        return Response(text=text, log_probs=log_probs, details=details)

    def _wanted(self, output: TextOutput) -> Message:
        body: Message = {self._token_limit: output.max_new_tokens + self._thinking}
        if output.stop and self._stop and not self._thinking:
            # The protocol takes four; the harness cuts at all of them anyway.
            body["stop"] = list(output.stop[:4])
        return body

    async def _rank(
        self, request: Request, prompt: Prompt, replies: list[Mapping[str, Any]]
    ) -> tuple[float, ...]:
        output = request.output
        assert isinstance(output, ChoiceOutput)
        if self._ranking == "first_token":
            body: Message = {
                self._token_limit: 1,
                "logprobs": True,
                "top_logprobs": self._top_logprobs,
            }
            replies.append(await self._chat(request, prompt, body))
            return tuple(ranks.from_first_token(replies[0], output.choices))
        found = []
        for choice in output.choices:
            if self._ranking == "echo":
                before = "".join(str(part) for part in prompt.flat()) + prompt.lead
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
                replies.append(await self._chat(request, prompt, body, choice))
                values = ranks.from_prompt(replies[-1], choice)
            found.append(ranks.total(values, output.per_token))
        return tuple(found)

    async def _chat(
        self, request: Request, prompt: Prompt, body: Message, reply: str | None = None
    ) -> Mapping[str, Any]:
        said = messages(prompt, self._layout, self._urls)
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


def _text(reply: Mapping[str, Any]) -> tuple[str, str | None]:
    """The reply's text and why it ended. Raises Refused where there is none."""
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        content = message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Refused("the reply holds no message") from None
    finish = choice.get("finish_reason")
    if isinstance(content, list):  # some servers give a list of parts
        said = [part.get("text") for part in content if isinstance(part, dict)]
        texts = [text for text in said if isinstance(text, str)]
        content = "".join(texts) if texts else None
    if content is None:
        content = message.get("refusal")
    if not isinstance(content, str):
        hint = "; model.settings.thinking gives it more tokens" if finish == "length" else ""
        raise Refused(f"the reply holds no text (it ended by {finish!r}){hint}")
    return content, finish


def _told(replies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a server says of itself and of the tokens it counted."""
    found: dict[str, Any] = {}
    counted = [count for count in map(usage, replies) if count is not None]
    if counted:
        found["tokens_in"] = sum(read for read, _ in counted)
        found["tokens_out"] = sum(written for _, written in counted)
    for name, field in (("served_by", "model"), ("fingerprint", "system_fingerprint")):
        values = {str(reply[field]) for reply in replies if reply.get(field)}
        if values:
            found[name] = " ".join(sorted(values))
    return found


def _unmet(output: TextOutput) -> list[str]:
    """What the task asks for that the protocol has no word for."""
    marks = []
    if output.beams is not None and output.beams > 1:
        marks.append(f"answered without the task's {output.beams} beams")
    if output.min_new_tokens:
        marks.append(f"answered without the task's least length of {output.min_new_tokens} tokens")
    return marks
