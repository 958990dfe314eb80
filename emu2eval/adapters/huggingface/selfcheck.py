"""What is checked of every checkpoint before it is asked anything: its prompts, its places, its images."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image as PILImage

from emu2eval.adapters.huggingface.features import Unequal
from emu2eval.adapters.huggingface.form import TransformersForm
from emu2eval.adapters.huggingface.processor import images_file
from emu2eval.adapters.local.encoded import Encoded
from emu2eval.adapters.local.inference import Inference
from emu2eval.adapters.local.search import Search
from emu2eval.errors import ImageError, ModelError, NotFinite, PlanError, UserError
from emu2eval.media import images
from emu2eval.types import Prompt, Turn

if TYPE_CHECKING:
    from emu2eval.adapters.huggingface.reading import TransformersReader

SIZES = ((320, 240), (224, 336))
"""Pixels of the two images: one wide, one tall, as processors treat the two differently."""
ASK, REPLY = "What is this? Answer:", "red"
_AROUND = 3
"""Tokens that are told on either side of the first that differ."""


def probe(form: TransformersForm, several: bool) -> tuple[TransformersForm, Prompt]:
    """A demonstration and a query with an image each, or one query with one; without a grid."""
    first, second = (images.from_pil(_drawn(size)) for size in SIZES)
    if not several:
        return replace(form, grid=None), Prompt(query=(first, ASK))
    return replace(form, grid=None), Prompt(
        query=(second, ASK), turns=(Turn((first, ASK), (REPLY,)),)
    )


def check_layout(form: TransformersForm, where: Path, several: bool = True) -> None:
    """Lays out one prompt by the family's own processor and by ours. Raises ModelError if they differ.

    several: with two images, where the processor's own call takes as many. Needs no weights.
    """
    form, prompt = probe(form, several and form.expansion.several)
    try:
        text = form.text(prompt)
        ours = form.encode(prompt)
    except PlanError:
        # Its template does not take this conversation; whatever is asked is checked for itself.
        return
    _check_places(form, ours, where)
    shown = [images.load(image) for image in prompt.images()]
    try:
        with warnings.catch_warnings():
            # GLM's makes arrays of images, of which numpy says something that is no user's concern.
            warnings.simplefilter("ignore")
            own = form.expansion.whole(text, shown)
    except UserError:
        raise
    except Exception as error:
        raise ModelError(
            f"the model's own processor rejects a prompt with {len(shown)} "
            f"image{'s' if len(shown) > 1 else ''} ({_reason(error)})",
            where=where,
            hint="for a model limited to one image per prompt: --set model.settings.images=1"
            if len(shown) > 1
            else f"{images_file(where)} and the other processor files may belong to another model",
        ) from None
    if list(ours.ids) != own:
        raise _different(form, own, ours.ids, where)


def check_image(inference: Inference[TransformersReader], form: TransformersForm) -> None:
    """Encodes one image and asks for one token. Raises whatever a model's class does: see `told`."""
    form, prompt = probe(form, several=False)
    try:
        encoded = form.encode(prompt)
    except PlanError:
        return
    # By itself, so that no answer's beginning is compared with it.
    alone: Inference[TransformersReader] = Inference(inference.reader, reuse=False)
    # Numbers that are none cost the samples that they happen to.
    with suppress(NotFinite):
        alone.texts([encoded], Search(max_new_tokens=1))


@contextmanager
def told(name: str, where: Path) -> Iterator[None]:
    """What a model of the class `name` raises inside becomes a ModelError, but for lack of memory."""
    try:
        yield
    except Unequal as error:
        raise ModelError(
            f"the model produces {error.features} embeddings for an image of {SIZES[0][0]} x {SIZES[0][1]} "
            f"pixels (config.json), but its processor {error.places} placeholders ({images_file(where)})",
            where=where,
            hint="these two files do not match: image size, patch size or merging differ; take both from "
            "the model's own repository",
        ) from None
    except MemoryError:
        raise
    except Exception as error:
        # By name, as elsewhere: one of torch, one of each accelerator's.
        known = isinstance(error, UserError) and not isinstance(error, ImageError)
        if known or type(error).__name__ == "OutOfMemoryError":
            raise
        raise ModelError(
            f"{name} fails on an image ({_reason(error.__cause__ or error)})",
            where=where,
            hint=f"config.json or {images_file(where)} may belong to another model or transformers "
            "release; otherwise this family is not supported yet",
        ) from error


def _check_places(form: TransformersForm, ours: Encoded, where: Path) -> None:
    """Raises ModelError where the token that config.json names is not the one that a processor writes."""
    empty = next((one for one in ours.shown if not one.tokens), None)
    if empty is None:
        return
    words = form.processor.tokenizer
    text = form.expansion.text(*images.info(empty.image).upright, empty.variety)
    written = Counter(words(text, add_special_tokens=False)["input_ids"]).most_common(1)
    says = "nothing"
    if written:
        (number, times) = written[0]
        says = f"{_word(words, number)} ({number}) {times} times"
    raise ModelError(
        f"config.json declares {_word(words, form.slot)} ({form.slot}) as the image placeholder "
        f"(image_token_id), but the processor writes it 0 times for an image; it writes {says} "
        f"({images_file(where)}, tokenizer files), so the model would see no image",
        where=where,
        hint="these files do not match; take all of them from the model's own repository",
    )


def _different(
    form: TransformersForm, own: Sequence[int], ours: Sequence[int], where: Path
) -> ModelError:
    words = form.processor.tokenizer
    pairs = enumerate(zip(own, ours, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(own), len(ours)))
    return ModelError(
        f"a prompt with images would differ from what this model's own processor produces: "
        f"{len(own)} tokens by {type(form.processor).__name__}, {len(ours)} here; the first "
        f"difference is token {at + 1}: {_around(words, own, at)} there, {_around(words, ours, at)} here",
        where=where,
        hint="this family builds prompts in a way that is not supported yet, or its processor files belong "
        "to another model",
    )


def _around(words: Any, ids: Sequence[int], at: int) -> str:
    some = range(max(0, at - _AROUND), min(len(ids), at + _AROUND + 1))
    told = [f"{_word(words, ids[i])} ({ids[i]})" for i in some]
    return " ".join(told) if at < len(ids) else " ".join([*told, "and no more"])


def _word(words: Any, number: int) -> str:
    return repr(words.convert_ids_to_tokens(number))


def _reason(error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0][:200]
    return f"{type(error).__name__}: {first}".rstrip(": ")


def _drawn(size: tuple[int, int]) -> PILImage.Image:
    """A gradient, so that no part of it is like another."""
    return PILImage.merge("RGB", [PILImage.linear_gradient("L").resize(size)] * 3)
