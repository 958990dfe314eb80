"""An Emu2 that is in memory already, such as one in training: asked as it lies there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu2eval.adapters.base import BatchRange
from emu2eval.adapters.emu2 import tokenizer as tokens
from emu2eval.adapters.emu2.adapter import Emu2Adapter, Emu2Files
from emu2eval.adapters.emu2.checkpoint import Emu2Checkpoint
from emu2eval.adapters.emu2.settings import Emu2Settings
from emu2eval.adapters.emu2.tokenizer import Tokenizer
from emu2eval.adapters.local.adapter import LocalAdapter
from emu2eval.errors import ModelError

if TYPE_CHECKING:
    import torch

    from emu2eval.adapters.emu2.inference import Emu2Inference
    from emu2eval.adapters.emu2.painter import Painter


@dataclass(frozen=True)
class LiveEmu2Checkpoint(Emu2Checkpoint):
    """What the files would say, by the model itself; painter: paints its images, where it has one."""

    model: Any = None
    painter: Painter | None = None

    @property
    def paints(self) -> bool:
        return self.painter is not None

    def digest(self) -> str:
        from emu2eval.adapters.local.tensor_digest import weights_digest

        parts = [self.model]
        if self.painter is not None:
            parts += [self.painter.unet, self.painter.vae]
        return " ".join(map(weights_digest, parts))


class LiveEmu2(Emu2Adapter):
    """Of an object: no second copy of the weights; what answering changes of the model is undone in `close`.

    tokenizer: LLaMA's tokenizer.model, by its path or opened. painter: for images as answers.
    """

    splits = False

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer | str | Path | None,
        painter: Painter | None,
        settings: Emu2Settings,
    ):
        from emu2eval.adapters.local.lent import unwrapped

        super().__init__(settings)
        self._whole = model
        self._model = unwrapped(model)
        self._words = tokenizer
        self._paints_by = painter
        self._lent = ExitStack()

    @cached_property
    def opened(self) -> Emu2Files:
        if self._words is None:
            raise ModelError(
                "no tokenizer was given for this Emu2",
                where="processor",
                hint="evaluate(task, model, processor='…/tokenizer.model')",
            )
        config = self._model.config
        words = self._words
        if not isinstance(words, Tokenizer):
            file = Path(words) / "tokenizer.model" if Path(words).is_dir() else Path(words)
            words = Tokenizer(file, config.variant, self.settings.manner)
        checkpoint = LiveEmu2Checkpoint(
            Path("in memory"), config, {}, {}, words.path, self._model, self._paints_by
        )
        return self._laid_open(checkpoint, words)

    @cached_property
    def _identity(self) -> Mapping[str, Any]:
        return {**super().identity(), "dtype": str(self._model.dtype).removeprefix("torch.")}

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

    def _load(self, opened: Emu2Files) -> Emu2Inference:
        from emu2eval.adapters.emu2.inference import Emu2Inference

        def painter() -> Painter:
            assert self._paints_by is not None
            return self._paints_by

        empty = opened.form.encode([opened.tokenizer.ids[tokens.BOI]])
        own = self.settings
        return Emu2Inference(
            self._model, empty, painter, own.reuse, own.together, graphs=own.graphs
        )

    def _room_for_features(self, device: torch.device) -> float:
        # Weights in training are others the next time.
        return self.settings.keep_features or 0.0

    def _check_memory(self) -> None:
        pass

    @property
    def _here(self) -> bool:
        return True
