"""The adapter for transformers' vision-language models: counts without weights, answers with them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from emu2eval.adapters.base import Adapter, Limits
from emu2eval.adapters.huggingface.checkpoint import open_checkpoint
from emu2eval.adapters.huggingface.form import Form, Layout
from emu2eval.adapters.huggingface.processor import load_processor, marks_of
from emu2eval.adapters.local.choices import Question
from emu2eval.adapters.local.encoded import Encoded
from emu2eval.errors import ConfigError, ModelError, PlanError, UnknownName, UserError
from emu2eval.types import ChoiceOutput, Image, Mark, Prompt, Request, Response, TextOutput

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from emu2eval.adapters.huggingface.reading import TransformersReader
    from emu2eval.adapters.local.inference import Inference

_LAID = 1024
"""Prompts whose ids are remembered: planned, sorted by length and asked, each is laid out once."""


@dataclass(frozen=True, slots=True)
class _Laid:
    """A prompt ready to be read. needed: positions in all; dropped: demonstrations left out."""

    encoded: Encoded
    needed: int
    dropped: int = 0
    question: Question | None = None


class HuggingFaceAdapter(Adapter):
    """Any model of `AutoModelForImageTextToText` that takes images in place of tokens, or is in `kinds`.

    checkpoint: a folder or a hub id; revision: a branch, tag or commit of the hub.
    layout: "chat" = turns of the model's own template, "plain" = one sequence, for base models.
    images: the most that the model takes in a prompt; None = as many as fit.
    grid: True shows the demonstrations' images as numbered tiles of one image, and the query's with
    them where the model takes one; `details["tiles"]` says how many.
    image_options: for the image processor: {do_image_splitting: false}, {size: {longest_edge: 512}}.
    image_mark: what stands for an image in the plain layout; None = the processor's placeholder.
    max_positions: the context; the configuration's own where it is left out. system: a system text.
    dtype: float32, bfloat16 or float16; bfloat16 on a GPU and float32 on the CPU where it is left out.
    device_map, memory: as in transformers ("auto", "cuda:1", a mapping; {0: 20GiB, cpu: 60GiB}).
    quantize: 8 or 4 bits, by bitsandbytes. attention: such as sdpa or flash_attention_2.
    beams, length_penalty, repetition_penalty: of the search for an answer; a request's own come first.
    reuse: images and shared beginnings of prompts are computed once.
    fit: True drops the farthest demonstrations until a prompt fits; `details["dropped"]` says how many.
    trust_remote_code: True runs Python files that come with the checkpoint.
    threads: of torch on the CPU while the model is loaded; None = torch's own.
    """

    extra: ClassVar[str | None] = "hf"
    # Where weights lie and run, not what they are: their digests are in the identity.
    neutral: ClassVar[frozenset[str]] = frozenset(
        {"batch", "checkpoint", "device_map", "memory", "reuse", "threads"}
    )

    def __init__(
        self,
        checkpoint: str,
        revision: str | None = None,
        layout: Layout = "chat",
        images: int | None = None,
        grid: bool = False,
        image_options: Mapping[str, Any] | None = None,
        image_mark: str | None = None,
        max_positions: int | None = None,
        system: str | None = None,
        dtype: str | None = None,
        device_map: Mapping[str, int | str] | str | None = None,
        memory: Mapping[int | str, str] | None = None,
        quantize: int | None = None,
        attention: str | None = None,
        batch: int = 8,
        beams: int = 1,
        length_penalty: float = 1.0,
        repetition_penalty: float = 1.0,
        reuse: bool = True,
        fit: bool = False,
        trust_remote_code: bool = False,
        threads: int | None = None,
    ):
        from emu2eval.adapters.huggingface.kinds import kind_of
        from emu2eval.adapters.huggingface.loading import DTYPES, ends, torch_dtype

        if layout not in get_args(Layout):
            raise UnknownName("layout", layout, get_args(Layout))
        if dtype is not None and dtype not in DTYPES:
            raise UnknownName("dtype", dtype, DTYPES)
        for name, value in (
            *(("batch", batch), ("beams", beams), ("images", images)),
            *(("max_positions", max_positions), ("threads", threads)),
        ):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it is at least 1")
        if not repetition_penalty > 0:
            raise ConfigError(f"repetition_penalty is {repetition_penalty}; it is more than 0")
        self._checkpoint = open_checkpoint(checkpoint, revision, trust_remote_code)
        self._code = trust_remote_code
        config = self._checkpoint.config
        self._kind = kind_of(config.model_type)
        if not self._kind.places(config):
            raise ModelError(
                f"models of the kind {config.model_type} have no token that images replace, which "
                "this adapter needs to show several of them in order",
                where=checkpoint,
            )
        self._processor = load_processor(self._checkpoint)
        self._tokenizer = self._processor.tokenizer
        if layout == "chat" and not getattr(self._processor, "chat_template", None):
            raise ModelError(
                "this checkpoint has no chat template",
                where=checkpoint,
                hint="a base model is asked with `layout: plain`",
            )
        self._expansion = self._kind.expansion(self._processor, image_options or {})
        self._form = Form(
            self._processor,
            self._expansion,
            layout,
            self._kind.slot_of(config, self._tokenizer),
            system,
            image_mark,
            ("everything" if images == 1 else "demonstrations") if grid else None,
        )
        self._dtype = torch_dtype(dtype)
        self._ends = ends(self._checkpoint, self._tokenizer)
        self._placing = (device_map, memory, quantize, attention)
        self._search = (beams, length_penalty, repetition_penalty)
        self._reuse, self._fit, self._threads = reuse, fit, threads
        self._threads_before: int | None = None
        text = config.get_text_config(decoder=True)
        self._max_positions = max_positions or getattr(text, "max_position_embeddings", None)
        self._laid: OrderedDict[str, _Laid] = OrderedDict()
        self._inference: Inference[TransformersReader] | None = None
        self.limits = Limits(
            frozenset({"text", "choice"}),
            images=None if grid else images,
            positions=self._max_positions,
            batch=batch,
            instead="`--set model.settings.grid=true`, which shows the demonstrations' images as one",
        )

    def identity(self) -> Mapping[str, Any]:
        return {
            **self._checkpoint.shape(),
            "dtype": str(self._dtype).removeprefix("torch."),
            "remote_code": self._code,
        }

    def positions(self, request: Request) -> int:
        """Tokens of the prompt, images included, and the most that the answer can take."""
        return self._lay_out(request).needed

    def load(self) -> None:
        from emu2eval.adapters.huggingface.loading import check_kind, load_model
        from emu2eval.adapters.local.attention import install
        from emu2eval.adapters.local.inference import Inference
        from emu2eval.adapters.local.threads import set_threads

        if self._threads is not None:
            self._threads_before = set_threads(self._threads)
        model = load_model(self._checkpoint, self._dtype, *self._placing)
        if self._kind.slot is None:
            check_kind(type(model), self._checkpoint)
        pad = self._tokenizer.pad_token_id
        reader = self._kind.reader(
            model,
            self._kind.encoder(model, self._expansion, self._reuse),
            self._ends[0] if pad is None else pad,
            self._reuse and install(model),
            self._ends,
            marks_of(self._processor, self._form.slot),
        )
        self._inference = Inference(reader, self._reuse)

    def close(self) -> None:
        from emu2eval.adapters.local.threads import set_threads

        self._inference = None
        self._laid.clear()
        if self._threads_before is not None:
            set_threads(self._threads_before)
            self._threads_before = None

    def prepare(self, request: Request) -> None:
        laid = self._laid.get(request.key)
        if laid is not None and self._inference is not None:
            for shown in laid.encoded.shown:
                self._inference.reader.encoder.prepare(shown)

    def encode_images(self, images: Sequence[Image]) -> npt.NDArray[np.float32]:
        """(n, width): the embeddings that stand for each image, averaged over its places."""
        inference = self._loaded()
        alone = [self._form.encode(Prompt(query=(image, ""))) for image in images]
        return inference.averages([encoded.shown[0] for encoded in alone])

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        """One response a request; a request whose prompt cannot be read is an error of its own."""
        inference = self._loaded()
        responses: dict[int, Response] = {}
        texts: dict[int, tuple[TextOutput, _Laid]] = {}
        choices: dict[int, tuple[ChoiceOutput, _Laid]] = {}
        for i, request in enumerate(requests):
            try:
                laid = self._checked(request)
                # An image that is missing or broken shall cost its own request and not the batch.
                for shown in laid.encoded.shown:
                    inference.reader.encoder.prepare(shown)
            except UserError as error:
                responses[i] = Response(error=str(error))
                continue
            if isinstance(request.output, TextOutput):
                texts[i] = (request.output, laid)
            elif isinstance(request.output, ChoiceOutput):
                choices[i] = (request.output, laid)
        responses |= self._texts(inference, texts)
        responses |= self._choices(inference, choices)
        return [responses[i] for i in range(len(requests))]

    def _texts(
        self,
        inference: Inference[TransformersReader],
        asked: Mapping[int, tuple[TextOutput, _Laid]],
    ) -> dict[int, Response]:
        from emu2eval.adapters.local.search import Search

        beams, length_penalty, repetition_penalty = self._search
        alike: dict[Search, list[int]] = {}
        for i, (out, _) in asked.items():
            search = Search(
                out.max_new_tokens,
                out.min_new_tokens,
                beams if out.beams is None else out.beams,
                length_penalty if out.length_penalty is None else out.length_penalty,
                repetition_penalty,
            )
            alike.setdefault(search, []).append(i)
        responses = {}
        for search, rows in alike.items():
            found = inference.texts([asked[i][1].encoded for i in rows], search)
            for i, answer in zip(rows, found, strict=True):
                text = self._tokenizer.decode(answer.ids, skip_special_tokens=True)
                laid = asked[i][1]
                responses[i] = Response(
                    text=text,
                    tokens_in=len(laid.encoded),
                    tokens_out=len(answer.ids),
                    ended="stop" if answer.ended else "length",
                    marks=_marks(laid),
                )
        return responses

    def _choices(
        self,
        inference: Inference[TransformersReader],
        asked: Mapping[int, tuple[ChoiceOutput, _Laid]],
    ) -> dict[int, Response]:
        questions = [laid.question for _, laid in asked.values() if laid.question is not None]
        sums = inference.choices(questions)
        return {
            i: Response(
                log_probs=question.scores(values, per_token=out.per_token),
                tokens_in=len(laid.encoded),
                marks=_marks(laid),
            )
            for (i, (out, laid)), question, values in zip(
                asked.items(), questions, sums, strict=True
            )
        }

    def _loaded(self) -> Inference[TransformersReader]:
        if self._inference is None:
            raise ModelError("the model is not loaded", hint="call load() before answer()")
        return self._inference

    def _checked(self, request: Request) -> _Laid:
        if request.output.kind not in self.limits.outputs:
            raise PlanError(f"this model gives no {request.output.kind}")
        laid = self._lay_out(request)
        if self._max_positions is not None and laid.needed > self._max_positions:
            raise PlanError(
                f"the prompt takes {laid.needed:,} positions, the model has {self._max_positions:,}",
                hint="fewer shots, or the setting `fit: true`, which drops the farthest ones",
            )
        return laid

    def _lay_out(self, request: Request) -> _Laid:
        known = self._laid.get(request.key)
        if known is not None:
            return known
        laid = self._count(request, 0)
        most = self._max_positions if self._fit else None
        while most is not None and laid.needed > most and laid.dropped < len(request.prompt.turns):
            laid = self._count(request, laid.dropped + 1)
        self._laid[request.key] = laid
        while len(self._laid) > _LAID:
            self._laid.popitem(last=False)
        return laid

    def _count(self, request: Request, dropped: int) -> _Laid:
        prompt = replace(request.prompt, turns=request.prompt.turns[dropped:])
        out = request.output
        encoded = self._form.encode(prompt)
        if isinstance(out, ChoiceOutput):
            replied = [self._form.encode(prompt, choice) for choice in out.choices]
            question = Question.of(encoded, replied, out.choices)
            return _Laid(encoded, max(map(len, (encoded, *replied))), dropped, question)
        new = out.max_new_tokens if isinstance(out, TextOutput) else 0
        return _Laid(encoded, len(encoded) + new, dropped)


def _marks(laid: _Laid) -> tuple[Mark, ...]:
    return (Mark("tiles"),) if any(shown.tiles for shown in laid.encoded.shown) else ()
