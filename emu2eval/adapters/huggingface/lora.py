"""An adapter that was trained with PEFT, such as LoRA, put into a model's weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emu2eval.adapters.local.configfile import read_json
from emu2eval.adapters.local.files import folder_digest
from emu2eval.errors import MissingExtra, ModelError, UserError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class PeftFolder:
    """The folder that PEFT's `save_pretrained` wrote."""

    def __init__(self, path: str):
        self.path = Path(path).expanduser()

    def faults(self) -> list[UserError]:
        """Why it cannot be applied, by its files alone; empty = nothing is known against it."""
        missing = [name for name in (CONFIG, WEIGHTS) if not (self.path / name).is_file()]
        if missing:
            return [
                ModelError(
                    f"not a PEFT adapter: the folder has no {' and '.join(missing)}"
                    if self.path.is_dir()
                    else "the adapter's folder does not exist",
                    where=self.path,
                    hint="give the folder written by the trained model's `save_pretrained`, in safetensors",
                )
            ]
        try:
            config = read_json(self.path / CONFIG)
        except UserError as error:
            return [error]
        if config.get("megatron_config") is not None:  # PEFT would import `megatron_core`
            return [
                ModelError(
                    "this adapter's configuration names code to run (megatron_config)",
                    where=self.path / CONFIG,
                    hint="remove the key if the adapter was trained on a transformers class",
                )
            ]
        return MissingExtra.of(("peft",), "lora", why="a PEFT adapter")

    def digest(self) -> str:
        """Hex sha256 of its files."""
        return folder_digest(self.path)

    def applied(self, model: Any, *, merge: bool) -> Any:
        """The model with the adapter; merged into its weights, or beside them where those are quantized.

        Raises ModelError where the two do not fit together.
        """
        import peft
        from safetensors import safe_open

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what does not fit is told below
                found: Any = peft.PeftModel.from_pretrained(model, str(self.path))
            used: Mapping[str, Any] = peft.get_peft_model_state_dict(found)
            prompted = found.active_peft_config.is_prompt_learning
        except Exception as error:  # whatever PEFT stumbles over in two files of somebody else's
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ModelError(
                f"the adapter cannot be applied ({reason})", where=self.path
            ) from error
        if prompted:
            raise ModelError(
                "this adapter prepends learnt embeddings to the prompt, which cannot be merged",
                where=self.path,
                hint="use another kind of adapter, such as LoRA",
            )
        with safe_open(str(self.path / WEIGHTS), "pt") as file:
            stored = set(file.keys())
        unlike = sorted(stored.symmetric_difference(used))
        if unlike:
            raise ModelError(
                f"the adapter does not fit this model: {len(unlike):,} of its tensors have no counterpart or "
                f"no values; the first is {unlike[0]}",
                where=self.path,
                hint="set `checkpoint` to the base model that it was trained on: "
                f"{read_json(self.path / CONFIG).get('base_model_name_or_path')}",
            )
        return found.merge_and_unload() if merge else found.base_model.model
