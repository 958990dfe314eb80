"""A model of transformers that is in memory already, such as one in training: asked as it lies there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu2eval.adapters.base import BatchRange
from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter, HuggingFaceFiles
from emu2eval.adapters.huggingface.checkpoint import PATTERNS, TransformersCheckpoint
from emu2eval.adapters.huggingface.settings import HuggingFaceSettings
from emu2eval.adapters.local.adapter import LocalAdapter
from emu2eval.adapters.local.files import at_hand
from emu2eval.errors import ModelError

if TYPE_CHECKING:
    from emu2eval.adapters.huggingface.reading import TransformersReader
    from emu2eval.adapters.local.inference import Inference

_NEITHER = frozenset(
    {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}
)
"""Keys of a configuration that change no answer, or are told apart otherwise."""


@dataclass(frozen=True)
class LiveCheckpoint(TransformersCheckpoint):
    """What a checkpoint's files would say, by the model. path: where it was loaded from, or its class."""

    model: Any = None

    @property
    def config(self) -> Any:
        return self.model.config

    @cached_property
    def released(self) -> Any:
        return self.model.config

    def said(self) -> list[Any]:
        own = getattr(self.model, "generation_config", None)
        return [each.to_diff_dict() for each in (self.model.config, own) if each is not None]

    def identity(self) -> Mapping[str, Any]:
        from emu2eval.adapters.local.private import attention_of
        from emu2eval.adapters.local.tensor_digest import weights_digest

        return {
            "weights": weights_digest(self.model),
            "config": _digest(_without(self.model.config.to_diff_dict())),
            "attention": attention_of(self.model.config.get_text_config(decoder=True)),
        }


class LiveTransformers(HuggingFaceAdapter):
    """Of an object: no second copy of the weights; what answering changes of the model is undone in `close`.

    processor: None = that of the folder or repository which the model says it is from, if it is on this
    machine. Raises ModelError for weights that one process does not hold.
    """

    splits = False

    def __init__(self, model: Any, processor: Any, settings: HuggingFaceSettings):
        from emu2eval.adapters.local.lent import unwrapped

        super().__init__(settings)
        self._whole = model
        inner = unwrapped(model)
        # An omni model's talker takes no part.
        thinks = getattr(inner.config, "thinker_config", None) is not None
        self._model = inner.thinker if thinks else inner
        self._processor = processor
        self._lent = ExitStack()

    @cached_property
    def opened(self) -> HuggingFaceFiles:
        where = Path(getattr(self._model, "name_or_path", "") or type(self._model).__name__)
        own = self.settings.trust_remote_code
        return self._laid_open(LiveCheckpoint(where, None, own, self._model), self._found)

    @cached_property
    def _identity(self) -> Mapping[str, Any]:
        from emu2eval.adapters.huggingface.backends import identity_of

        opened = self.opened
        return {
            **opened.checkpoint.identity(),
            **identity_of(opened.processor.image_processor),
            "processor": _processor_digest(opened.processor),
            "dtype": str(self._model.dtype).removeprefix("torch."),
        }

    def identity(self) -> Mapping[str, Any]:
        """Of the weights as they were when it was first asked for: an evaluation has one adapter."""
        return self._identity

    def fetch(self) -> None:
        pass

    def fit_batch(self) -> BatchRange:
        # Its weights are in the memory that a plan would put them into.
        return LocalAdapter.fit_batch(self)

    def load(self) -> None:
        from emu2eval.adapters.local.lent import as_before

        self._lent.enter_context(as_before(self._whole))
        try:
            super().load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        super().close()
        self._lent.close()

    def _load(self, opened: HuggingFaceFiles) -> Inference[TransformersReader]:
        import transformers

        config: Any = transformers.GenerationConfig
        # As of a checkpoint that is loaded: see `loading.load_model`.
        self._model.generation_config = config()
        return self._reading(self._model, opened)

    def _check_weights(self) -> None:
        if any(weight.is_meta for weight in self._model.parameters()):
            raise ModelError(
                "the weights of this model are not in memory (they are on `meta`, or offloaded)",
                where=type(self._model).__name__,
                hint="pass the checkpoint's folder as the model",
            )

    def _found(self) -> Any:
        from emu2eval.adapters.huggingface.processor import load_processor

        given = self._processor
        if given is None:
            name = str(getattr(self._model, "name_or_path", "") or "")
            path = at_hand(name, None, PATTERNS) if name else None
            if path is None or not (path / "config.json").is_file():
                raise ModelError(
                    f"no processor was given for this {type(self._model).__name__}",
                    where="processor",
                    hint="evaluate(task, model, processor=AutoProcessor.from_pretrained(…))",
                )
            checkpoint = TransformersCheckpoint.at(path, None, False)
            return load_processor(checkpoint, self.settings.image_backend)
        if getattr(given, "image_processor", None) is None or not hasattr(given, "tokenizer"):
            raise ModelError(
                f"a {type(given).__name__} cannot process images and text together",
                where="processor",
                hint="pass the result of AutoProcessor.from_pretrained for the model's folder, "
                "not a tokenizer",
            )
        return given


def _processor_digest(processor: Any) -> str:
    words, images = processor.tokenizer, processor.image_processor
    core = getattr(words, "backend_tokenizer", None)
    known = words.get_vocab() if core is None else json.loads(core.to_str())
    for transient in ("padding", "truncation"):  # of the latest call
        known.pop(transient, None)
    template = getattr(processor, "chat_template", None) or getattr(words, "chat_template", None)
    return _digest([type(processor).__name__, known, template, _without(images.to_dict())])


def _without(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    return {key: _without(value) for key, value in config.items() if key not in _NEITHER}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
