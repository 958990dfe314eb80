"""The settings of a model that a serving engine of this machine runs."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from msgspec import field

from emu2eval.adapters.openai.settings import ChatSettings, MoreThanZero, OpenAISettings, Ranking
from emu2eval.adapters.served.engines import ENGINES, NAME, Engine, EngineName, check_options
from emu2eval.errors import together
from emu2eval.spec.secrets import refuse
from emu2eval.spec.settings import Count

SLOW = 600.0
"""Seconds for an answer: all that are sent at once wait for one another."""


class ServedSettings(ChatSettings):
    """checkpoint: a local folder, a hub id, or a GGUF file for llama.cpp; revision: of the hub.

    engine: vllm, sglang, llama.cpp or transformers, of this machine's own installation.
    options: passed on to the engine as on its command line, such as {max_model_len: 8192}; true stands for
    the option alone, false for its --no- form, null leaves out what is given by default. All of them are
    part of the model's identity.
    image_options: of the image processor, as for a model that runs here; engines without such an option
    do not take them, which is told.
    ranking: how choices are ranked, as with a server that is there already; auto = the best that the engine
    offers, none = not at all.
    concurrency: requests at once [default: 64 for vllm and sglang, 8 for llama.cpp, 4 for transformers];
    timeout: seconds without a byte. load_timeout: seconds until the server must answer; null = as long as
    its process lives.
    """

    checkpoint: str
    revision: str | None = None
    engine: EngineName
    options: dict[str, Any] = field(default_factory=dict)
    image_options: dict[str, Any] = field(default_factory=dict)
    ranking: Ranking | Literal["auto", "none"] = "auto"
    concurrency: Count | None = None
    timeout: MoreThanZero = SLOW
    load_timeout: MoreThanZero | None = 3600.0

    def __post_init__(self) -> None:
        together(
            [
                super().__post_init__,
                partial(refuse, self.options, "options"),
                partial(check_options, self.options),
            ]
        )

    @property
    def of_engine(self) -> Engine:
        return ENGINES[self.engine]

    def of_server(self) -> OpenAISettings:
        """How the server is asked once it is there."""
        engine = self.of_engine
        shared = {name: getattr(self, name) for name in ChatSettings.__struct_fields__}
        ranking = engine.ranking if self.ranking == "auto" else self.ranking
        return OpenAISettings(
            **shared,
            model=NAME,
            formats=engine.formats,
            ranking=None if ranking == "none" else ranking,
            concurrency=self.concurrency or engine.concurrency,
            timeout=self.timeout,
        )
