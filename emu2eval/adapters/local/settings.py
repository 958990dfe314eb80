"""Options that every model on this machine takes."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from emu2eval.spec.settings import Settings

Count = Annotated[int, Meta(ge=1)]
Penalty = Annotated[float, Meta(gt=0)]


class LocalSettings(Settings, frozen=True, kw_only=True):
    """checkpoint: a local folder or a hub id; revision: a branch, tag or commit of the hub.

    dtype: of weights and computation; bfloat16 on a GPU and float32 on the CPU where it is left out.
    quantize: bits of the weights, by bitsandbytes. batch: requests at a time.
    beams, length_penalty, repetition_penalty: of the search for an answer; a request's own come first.
    max_positions: the context that the model was trained for; the checkpoint's own where it is left out.
    system: a system text, where a prompt has none. reuse: images and shared beginnings of prompts are
    computed once.
    threads: of torch on the CPU while the model is loaded; None = torch's own. A small model is quickest
    with one, and many times slower with more where other work keeps the cores busy.
    """

    checkpoint: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    quantize: Literal[8, 4] | None = None
    batch: Count = 8
    beams: Count = 1
    length_penalty: float = 1.0
    repetition_penalty: Penalty = 1.0
    max_positions: Count | None = None
    system: str | None = None
    reuse: bool = True
    threads: Count | None = None
