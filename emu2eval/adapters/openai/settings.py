"""The settings of a server: what is asked of whom, how fast, and for how much."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta, field

from emu2eval.errors import ConfigError, together
from emu2eval.identity import value_key
from emu2eval.spec.secrets import refuse
from emu2eval.spec.settings import Count, Settings
from emu2eval.types import TextOutput

Format = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP"]
FORMATS: tuple[Format, ...] = ("JPEG", "PNG", "WEBP")

Layout = Literal["turns", "single"]
Ranking = Literal["prompt_logprobs", "echo", "first_token"]

NotNegative = Annotated[float, Meta(ge=0)]
MoreThanZero = Annotated[float, Meta(gt=0)]


class BudgetSettings(Settings):
    """The maximum that one command may use.

    requests: how many; tokens: read and written together; money: at the model's prices.
    """

    requests: NotNegative | None = None
    tokens: NotNegative | None = None
    money: NotNegative | None = None


class PriceSettings(Settings):
    """Price per million tokens.

    input: for tokens read; cached: for tokens read from the server's cache [as input]; output: for
    tokens written.
    """

    input: NotNegative | None = None
    output: NotNegative | None = None
    cached: NotNegative | None = None


class ChatSettings(Settings):
    """How a chat server is asked, wherever it is.

    layout: "turns" shows demonstrations as user and assistant turns; "single" puts everything into one
    user message, in order, which also takes demonstrations whose replies are images.
    max_side, detail: see `ImageUrls`.
    temperature, top_p, seed: of sampling; null leaves a value to the server. With a temperature above 0
    or null, each trial of a run sends new requests, each with its own seed derived from this one. extra:
    more fields of the request, such as {repetition_penalty: 1.1}. max_new_tokens: maximum length of an
    answer; overrides the task's. token_limit: the field that limits the answer (max_completion_tokens
    for OpenAI's newer models). thinking: tokens on top of the task's, for models that think before they
    answer; a text that is then cut off before its thought ends is no answer. stop: True sends the task's
    stop strings too, which saves tokens if a model never thinks and starts its answer immediately. Most
    servers apply them to everything that a model writes, so they would cut off thinking, or an answer
    that begins with a blank line; by default they are applied here, to the answer only.
    ranking_mass: with `ranking: first_token`, the minimum share of the first token's probability that the
    choices must have together; a sample with less is unscored, because the model was about to say
    something else. top_logprobs: how many alternatives of the first token to request.
    max_images, max_positions: the maximum in a prompt; image_tokens: positions per image. Texts are
    counted as 4 characters per token.
    batch: requests considered together, so that those with the same beginning can be sent one after the
    other. retries: attempts after the first; longest_wait: seconds of rest that a server may ask for.
    """

    layout: Layout = "turns"
    max_side: Count | None = None
    detail: str | None = None
    temperature: float | None = 0.0
    top_p: float | None = None
    seed: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    max_new_tokens: Count | None = None
    token_limit: str = "max_tokens"
    thinking: Annotated[int, Meta(ge=0)] = 0
    stop: bool = False
    ranking_mass: Annotated[float, Meta(ge=0, le=1)] = 0.5
    top_logprobs: Count = 20
    max_images: Annotated[int, Meta(ge=0)] | None = None
    max_positions: Count | None = None
    image_tokens: Annotated[int, Meta(ge=0)] = 1000
    batch: Count = 128
    retries: Annotated[int, Meta(ge=0)] = 6
    longest_wait: NotNegative = 120.0

    def __post_init__(self) -> None:
        together([partial(refuse, self.extra, "extra"), self._check_stop])

    @property
    def sampling(self) -> dict[str, Any]:
        """Fields of every request."""
        given = {"temperature": self.temperature, "top_p": self.top_p, "seed": self.seed}
        return {name: value for name, value in given.items() if value is not None} | self.extra

    @property
    def samples(self) -> bool:
        """Whether texts are drawn; a server that is told no temperature has one of its own."""
        return bool(self.sampling.get("temperature", 1.0))

    def seed_of(self, key: str) -> dict[str, int]:
        """The field `seed` of the request with this key; none where the server draws by itself."""
        seed = self.sampling.get("seed")
        if seed is None or not self.samples:
            return {}
        return {"seed": int(value_key([seed, key])[:7], 16)}

    def bounded(self, output: TextOutput) -> int:
        """The most tokens of an answer."""
        return self.max_new_tokens or output.max_new_tokens

    def _check_stop(self) -> None:
        if self.stop and self.thinking:
            raise ConfigError(
                "stop strings would end a thought before its answer",
                where="settings.stop",
                hint="remove stop, or set thinking to 0",
            )


class OpenAISettings(ChatSettings):
    """model: its name on the server. revision: any text, to distinguish weights that share a name.
    base_url: the server, usually ending in /v1. key_env: the environment variable that holds its key.

    image_root, image_base: see `ImageUrls`. formats: image formats that the server reads; others are sent
    as PNG. llama.cpp does not read WebP: [JPEG, PNG].
    draws: its replies can contain images, so tasks can ask for them; request fields needed for that go
    into extra, such as {modalities: [image, text]}.
    ranking: how choices are ranked: "prompt_logprobs" (vLLM), "echo" (completions, texts only), "first_token"
    (choices that differ in their first letter, from the top_logprobs alternatives); null refuses.
    concurrency: requests at once; requests_per_minute, tokens_per_minute: rates; timeout: seconds without a
    byte. budget: the most that one command may use; prices: what tokens cost.
    """

    model: str = ""
    base_url: str = "http://127.0.0.1:8000/v1"
    key_env: str | None = None
    revision: str | None = None
    image_root: str | None = None
    image_base: str | None = None
    formats: tuple[Format, ...] = FORMATS
    draws: bool = False
    ranking: Ranking | None = None
    concurrency: Count = 8
    requests_per_minute: MoreThanZero | None = None
    tokens_per_minute: MoreThanZero | None = None
    timeout: MoreThanZero = 120.0
    budget: BudgetSettings = BudgetSettings()
    prices: PriceSettings = PriceSettings()

    def __post_init__(self) -> None:
        together(
            [
                self._check_model,
                super().__post_init__,
                partial(_check_url, "base_url", self.base_url),
                partial(_check_key_name, self.key_env),
                self._check_image_base,
            ]
        )

    def _check_model(self) -> None:
        if not self.model:
            raise ConfigError(
                "no model name given",
                where="settings.model",
                hint="--set model.settings.model=NAME (or judge.settings.model), the server's name for it",
            )

    def _check_image_base(self) -> None:
        if self.image_base is not None and not self.image_base.startswith("file:"):
            _check_url("image_base", self.image_base)


def _check_key_name(name: str | None) -> None:
    """Raises ConfigError, without showing the name, where it is no name of an environment variable."""
    if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        # Whoever puts the key itself here must not find it in a log.
        raise ConfigError(
            "key_env must be the name of an environment variable, in capitals; the given value is not, "
            "and is not shown in case it is the key itself",
            hint="export OPENAI_API_KEY=… and --set model.settings.key_env=OPENAI_API_KEY",
        )


def _check_url(name: str, url: str) -> None:
    """Raises ConfigError, without showing the URL, where it may hold a secret or is none."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        good = good and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{name} is not a URL such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            f"{name} contains a user, a password or a query, which would be stored with every run",
            hint="put the key in an environment variable and name that: --set model.settings.key_env=NAME",
        )
