"""The sizes of emu2-nano, the stages of its training, and the folder it ends up in."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from loop import Stage
from torch import Tensor

from emu2eval.adapters.emu2.config import DecoderConfig, Emu2Config, VisionConfig
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.saving import save_folder


def config(vocabulary: int) -> Emu2Config:
    """Emu2's architecture at 64 x 64 pixels; an image takes 4 positions (2 x 2)."""
    return Emu2Config(
        vision=VisionConfig(
            image_size=64, patch_size=8, width=64, layers=3, head_width=32, mlp_ratio=4.0
        ),
        decoder=DecoderConfig(
            hidden_size=96,
            intermediate_size=256,
            num_attention_heads=3,
            num_hidden_layers=3,
            vocab_size=vocabulary,
            max_position_embeddings=512,
        ),
        variant="gen",
        n_query=4,
        v_query=4,
    )


VISION = Stage("vision", 3200, 1.5e-3, 2e-5, warmup=200, look=250)
FOCUS = Stage("focus", 700, 2.5e-3, 2.5e-3, warmup=50, look=50)
MIXTURE = Stage("mixture", 2100, 2.5e-3, 1.4e-3, warmup=50, look=150)
QUESTIONS = Stage("questions", 500, 2e-3, 1.5e-3, warmup=20, look=100)
POLISH = Stage("polish", 1000, 1.5e-3, 2e-5, warmup=20, look=100)


@dataclass(frozen=True)
class Recipe:
    """drawn: images drawn for training; shown: those of them that the language stages use, too.

    checked: episodes of each kind in a look; early: the states that are kept as earlier checkpoints.
    """

    drawn: int = 100_000
    shown: int = 30_000
    checked: int = 64
    vision: Stage = VISION
    focus: Stage = FOCUS
    mixture: Stage = MIXTURE
    questions: Stage = QUESTIONS
    polish: Stage = POLISH
    early: tuple[str, ...] = ("focus-00300", "focus-00500", "mixture-00450")


WHOLE = Recipe()
# For tests, under a minute: every part of the way, none of the learning.
SHORT = Recipe(
    drawn=200,
    shown=200,
    checked=4,
    vision=replace(VISION, steps=12, look=6),
    focus=replace(FOCUS, steps=6, look=3),
    mixture=replace(MIXTURE, steps=10, look=10),
    questions=replace(QUESTIONS, steps=10, look=10),
    polish=replace(POLISH, steps=4, look=4),
    early=("focus-00003",),
)


@torch.no_grad()
def begin(model: Emu2) -> None:
    """Starting values of the decoder, wider than LLaMA's 0.02, which is meant for wider layers.

    The head starts as a copy of the embeddings, so that to repeat a token of the prompt is one easy
    step: without it the plateau before the first copied name lasted more than 550 steps, with it 60.
    """
    for name, parameter in model.decoder.named_parameters():
        if parameter.ndim == 2:
            wide = 0.18 if "embed_tokens" in name else 0.06
            torch.nn.init.normal_(parameter, std=wide)
    model.decoder.lm.lm_head.weight.copy_(model.decoder.lm.model.embed_tokens.weight)


@torch.no_grad()
def centre(model: Emu2, features: Tensor) -> Tensor:
    """Shifts the tower so that its pooled features have mean 0; returns their deviations (width,).

    features: (N, tokens, width) of the tower as it is. Its last operation adds the output of a norm,
    so that norm's bias can take the mean.
    """
    model.visual.blocks[-1].norm2.bias -= features.mean((0, 1))
    return features.std((0, 1))


@torch.no_grad()
def write_folder(folder: Path, model: Emu2, deviation: Tensor, tokenizer: Path, half: bool) -> None:
    """Writes plain Emu2 weights: the bridges take the scale that training had taken from features.

    half: store float16.
    """
    made = Emu2(model.config)
    made.load_state_dict(model.state_dict())
    made.project_up.weight /= deviation
    made.project_down.weight *= deviation[:, None]
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / ".new"
    shutil.rmtree(beside, ignore_errors=True)
    save_folder(beside, made, tokenizer=tokenizer, dtype=torch.float16 if half else None)
    for file in beside.iterdir():
        file.replace(folder / file.name)
    beside.rmdir()
