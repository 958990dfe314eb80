"""The Emu2 adapter: checks and counts without weights, answers with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from emu2eval.adapters.base import Adapter, Limits
from emu2eval.adapters.emu2 import tokenizer as tokens
from emu2eval.adapters.emu2.config import Variant
from emu2eval.adapters.emu2.prompt import Form, Item, shorten
from emu2eval.adapters.emu2.tokenizer import Manner, Tokenizer
from emu2eval.adapters.local.choices import Question
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.adapters.local.threads import set_threads
from emu2eval.errors import ConfigError, ModelError, PlanError, UnknownName, UserError
from emu2eval.media.images import digest
from emu2eval.types import (
    ChoiceOutput,
    Image,
    ImageOutput,
    Mark,
    Prompt,
    Request,
    Response,
    TextOutput,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from emu2eval.adapters.emu2.inference import Emu2Inference
    from emu2eval.adapters.emu2.painter import Painter
    from emu2eval.adapters.emu2.placement import Placement
    from emu2eval.adapters.emu2.quantize import Bits

_ANSWER = 64
"""Tokens of an answer for which memory is set aside on each device; few tasks want more."""


@dataclass(frozen=True, slots=True)
class _Laid:
    """A prompt ready to be read. needed: positions in all; dropped: demonstrations left out."""

    prompt: Prompt
    encoded: Encoded
    needed: int
    dropped: int = 0
    question: Question | None = None


class Emu2Adapter(Adapter):
    """Emu2, Emu2-Chat and Emu2-Gen (arXiv 2312.13286), with the authors' defaults.

    checkpoint: a local file or folder, or a hub id. variant: base, chat or gen; told by the checkpoint
    where it can be. tokenizer: LLaMA's tokenizer.model, where the checkpoint lacks it.
    manner: white space beside special tokens, see `Tokenizer`.
    dtype: "float32" or "bfloat16"; bfloat16 on a GPU and float32 on the CPU where it is left out.
    memory: what each device may take, such as "24GiB,24GiB,cpu:64GiB"; the blocks are spread over them.
    device_map: instead, one device ("cpu", "cuda:1") or one for each module. Neither: all free GPUs, else
    the CPU. quantize: 8 or 4 bits.
    offload_folder: where blocks on "disk" go if the checkpoint is a pickle.
    system: replaces the chat model's system message. grounding: boxes are wanted in every answer; without
    it, in those to questions that end with <grounding>.
    beams, length_penalty, repetition_penalty: see `decoding.Search`; a request's own come first.
    reuse: images and shared beginnings of prompts are computed once.
    fit: True drops the farthest demonstrations until a prompt fits; `details["dropped"]` says how many.
    max_positions: the context that the model was trained for; the checkpoint's own where it is left out.
    steps, guidance: of the visual decoder; None = the authors' 50 and 3.0. A request's own come first.
    safety: Emu2-Gen's safety checker blackens what it flags.
    threads: of torch on the CPU while the model is loaded; None = torch's own. A small model is quickest
    with one, and many times slower with more where other work keeps the cores busy.
    """

    extra: ClassVar[str | None] = "emu2"
    # Where weights lie and run, not what they are: their digests are in the identity.
    neutral: ClassVar[frozenset[str]] = frozenset(
        {
            *("batch", "checkpoint", "tokenizer", "device_map", "memory", "offload_folder"),
            *("reuse", "threads"),
        }
    )

    def __init__(
        self,
        checkpoint: str,
        variant: Variant | None = None,
        tokenizer: str | None = None,
        manner: Manner = "native",
        dtype: str | None = None,
        memory: str | None = None,
        device_map: Mapping[str, int | str] | str | None = None,
        quantize: int | None = None,
        offload_folder: str | None = None,
        system: str | None = None,
        grounding: bool = False,
        batch: int = 4,
        beams: int = 5,
        length_penalty: float = -1.0,
        repetition_penalty: float = 1.0,
        reuse: bool = True,
        fit: bool = False,
        max_positions: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        safety: bool = False,
        threads: int | None = None,
    ):
        from emu2eval.adapters.emu2.checkpoint import open_checkpoint

        if dtype not in (None, "float32", "bfloat16"):
            raise UnknownName("dtype", str(dtype), ("float32", "bfloat16"))
        if memory is not None and device_map is not None:
            raise ConfigError("memory and device_map both say where the model goes; give one")
        if manner not in get_args(Manner):
            raise UnknownName("manner of tokenizing", manner, get_args(Manner))
        for name, value in (
            *(("batch", batch), ("beams", beams)),
            *(("max_positions", max_positions), ("threads", threads)),
        ):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it is at least 1")
        self._checkpoint = open_checkpoint(checkpoint, variant)
        self._config = self._checkpoint.config
        path = tokenizer or self._checkpoint.tokenizer_path
        if path is None:
            raise ModelError(
                "this checkpoint holds no tokenizer.model",
                where=checkpoint,
                hint="set `tokenizer` to the path of LLaMA's tokenizer.model",
            )
        self._tokenizer = Tokenizer(path, self._config.variant, manner)
        if self._tokenizer.size != self._config.decoder.vocab_size:
            raise ModelError(
                f"the tokenizer has {self._tokenizer.size:,} tokens, Emu2's own included; the model "
                f"has {self._config.decoder.vocab_size:,}",
                where=path,
                hint="use the tokenizer.model that belongs to this checkpoint and variant",
            )
        self._form = Form(self._tokenizer, self._config, system, grounding)
        self._dtype = dtype
        self._memory = memory
        self._device_map = device_map
        self._quantize = quantize
        self._offload_folder = offload_folder
        self._beams = beams
        self._length_penalty = length_penalty
        self._repetition_penalty = repetition_penalty
        self._reuse = reuse
        self._fit = fit
        self._max_positions = max_positions or self._config.decoder.max_position_embeddings
        self._steps = steps
        self._guidance = guidance
        self._safety = safety
        self._threads = threads
        self._threads_before: int | None = None
        self._inference: Emu2Inference | None = None
        outputs = {"text", "choice"} | ({"image"} if self._checkpoint.paints else set())
        self.limits = Limits(frozenset(outputs), positions=self._max_positions, batch=batch)

    def identity(self) -> Mapping[str, Any]:
        return {
            "weights": self._checkpoint.digest(),
            "tokenizer": self._tokenizer.digest(),
            "variant": self._config.variant,
            "dtype": str(self._torch_dtype()).removeprefix("torch."),
        }

    def positions(self, request: Request) -> int:
        """Tokens of the prompt, images included, and the most that the answer can take."""
        return self._lay_out(request).needed

    def load(self) -> None:
        from emu2eval.adapters.emu2.checkpoint import load_model, load_painter
        from emu2eval.adapters.emu2.inference import Emu2Inference
        from emu2eval.adapters.emu2.quantize import check_bits

        if self._threads is not None:
            self._threads_before = set_threads(self._threads)
        bits = check_bits(self._quantize) if self._quantize is not None else None
        dtype, placement = self._torch_dtype(), self._placement(bits)
        folder = Path(self._offload_folder) if self._offload_folder is not None else None
        model = load_model(
            self._checkpoint,
            dtype=dtype,
            placement=placement,
            quantize=bits,
            offload_folder=folder,
        )

        def painter() -> Painter:
            device = placement.painter if placement is not None else None
            return load_painter(self._checkpoint, dtype=dtype, device=device, safety=self._safety)

        empty = self._form.encode([self._begin_image])
        self._inference = Emu2Inference(model, empty, painter, self._reuse)

    def close(self) -> None:
        self._inference = None
        if self._threads_before is not None:
            set_threads(self._threads_before)
            self._threads_before = None

    def encode_images(self, images: Sequence[Image]) -> npt.NDArray[np.float32]:
        """(n, width): the vision tower's features, averaged over the patches."""
        if self._inference is None:
            raise ModelError("the model is not loaded", hint="call load() before encode_images()")
        tokens = self._config.n_query
        return self._inference.averages([Shown(image, tokens) for image in images])

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        """One response a request; a request whose prompt cannot be read is an error of its own."""
        if self._inference is None:
            raise ModelError("the model is not loaded", hint="call load() before answer()")
        responses: dict[int, Response] = {}
        texts: dict[int, tuple[TextOutput, _Laid]] = {}
        choices: dict[int, tuple[ChoiceOutput, _Laid]] = {}
        images: dict[int, tuple[ImageOutput, _Laid]] = {}
        for i, request in enumerate(requests):
            try:
                laid = self._checked(request)
            except UserError as error:
                responses[i] = Response(error=str(error))
                continue
            if isinstance(request.output, TextOutput):
                texts[i] = (request.output, laid)
            elif isinstance(request.output, ChoiceOutput):
                choices[i] = (request.output, laid)
            elif isinstance(request.output, ImageOutput):
                images[i] = (request.output, laid)
        responses |= self._texts(self._inference, texts)
        responses |= self._choices(self._inference, choices)
        responses |= self._images(self._inference, images)
        return [responses[i] for i in range(len(requests))]

    def _texts(
        self, inference: Emu2Inference, asked: Mapping[int, tuple[TextOutput, _Laid]]
    ) -> dict[int, Response]:
        from emu2eval.adapters.local.search import Search

        alike: dict[Search, list[int]] = {}
        for i, (out, _) in asked.items():
            search = Search(
                out.max_new_tokens,
                out.min_new_tokens,
                self._beams if out.beams is None else out.beams,
                self._length_penalty if out.length_penalty is None else out.length_penalty,
                self._repetition_penalty,
            )
            alike.setdefault(search, []).append(i)
        responses = {}
        for search, rows in alike.items():
            found = inference.texts([asked[i][1].encoded for i in rows], search)
            for i, answer in zip(rows, found, strict=True):
                laid = asked[i][1]
                text = self._tokenizer.decode(
                    answer.ids, special=self._form.wants_boxes(laid.prompt)
                )
                responses[i] = Response(
                    text=text,
                    tokens_in=len(laid.encoded),
                    tokens_out=len(answer.ids),
                    ended="stop" if answer.ended else "length",
                )
        return responses

    def _choices(
        self, inference: Emu2Inference, asked: Mapping[int, tuple[ChoiceOutput, _Laid]]
    ) -> dict[int, Response]:
        questions = [laid.question for _, laid in asked.values() if laid.question is not None]
        sums = inference.choices(questions) if questions else []
        return {
            i: Response(
                log_probs=question.scores(values, per_token=out.per_token),
                tokens_in=len(laid.encoded),
            )
            for (i, (out, laid)), question, values in zip(
                asked.items(), questions, sums, strict=True
            )
        }

    def _images(
        self, inference: Emu2Inference, asked: Mapping[int, tuple[ImageOutput, _Laid]]
    ) -> dict[int, Response]:
        responses = {}
        for i, (wanted, laid) in asked.items():
            out = replace(
                wanted,
                steps=self._steps if wanted.steps is None else wanted.steps,
                guidance=self._guidance if wanted.guidance is None else wanted.guidance,
            )
            alone = _only_a_image(laid.prompt)
            if alone is None:
                image, flagged = inference.image(laid.encoded, out)
            else:
                # The authors' autoencoding mode: an image and nothing else is painted again.
                image, flagged = inference.autoencoded(alone, out)
            marks = (Mark("flagged"),) if flagged else ()
            responses[i] = Response(images=(image,), tokens_in=len(laid.encoded), marks=marks)
        return responses

    def _checked(self, request: Request) -> _Laid:
        if request.output.kind not in self.limits.outputs:
            raise PlanError(f"Emu2's {self._config.variant} model gives no {request.output.kind}")
        laid = self._lay_out(request)
        if laid.needed > self._max_positions:
            raise PlanError(
                f"the prompt takes {laid.needed:,} positions, the model has {self._max_positions:,}",
                hint="fewer shots, or the setting `fit: true`, which drops the farthest ones",
            )
        for image in laid.prompt.images():
            # An image that is missing or broken shall cost its own request and not the batch.
            digest(image)
        return laid

    def _lay_out(self, request: Request) -> _Laid:
        laid = self._count(request, 0)
        while self._fit and laid.needed > self._max_positions and laid.prompt.turns:
            laid = self._count(request, laid.dropped + 1)
        return laid

    def _count(self, request: Request, dropped: int) -> _Laid:
        prompt, out = shorten(request.prompt, dropped), request.output
        items: list[Item] = self._form.lay_out(prompt)
        if isinstance(out, ImageOutput):
            encoded = self._form.encode([*items, self._begin_image])
            return _Laid(prompt, encoded, len(encoded) + self._config.n_query, dropped)
        encoded = self._form.encode(items)
        if isinstance(out, TextOutput):
            return _Laid(prompt, encoded, len(encoded) + out.max_new_tokens, dropped)
        choices = out.choices if isinstance(out, ChoiceOutput) else ()
        replied = [self._form.encode_reply(prompt, items, choice) for choice in choices]
        question = Question.of(encoded, replied, choices)
        return _Laid(prompt, encoded, max(map(len, (encoded, *replied))), dropped, question)

    def _torch_dtype(self) -> torch.dtype:
        import torch

        if self._dtype is None:
            return torch.bfloat16 if torch.cuda.is_available() else torch.float32
        return torch.float32 if self._dtype == "float32" else torch.bfloat16

    def _placement(self, bits: Bits | None) -> Placement | None:
        from emu2eval.adapters.emu2.hardware import placed

        return placed(
            self._config,
            memory=self._memory,
            device_map=self._device_map,
            positions=self._max_positions,
            batch=self.limits.batch,
            beams=self._beams,
            new_tokens=_ANSWER,
            dtype=self._torch_dtype(),
            quantize=bits,
            painter=self._checkpoint.configs if self._checkpoint.paints else None,
        )

    @property
    def _begin_image(self) -> int:
        return self._tokenizer.ids[tokens.BOI]


def _only_a_image(prompt: Prompt) -> Image | None:
    """The image of a prompt that is nothing else; ("", image) is a prompt with a text."""
    if prompt.turns or prompt.system is not None or len(prompt.query) != 1:
        return None
    only = prompt.query[0]
    return only if isinstance(only, Image) else None
