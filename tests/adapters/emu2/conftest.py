"""Tiny models of the golden numbers: arrays made by the authors' released code (transformers 4.31)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image

from emu2eval import registry
from emu2eval.adapters.emu2.adapter import Emu2Adapter
from emu2eval.adapters.emu2.config import DecoderConfig, Emu2Config, VisionConfig
from emu2eval.adapters.emu2.features import TowerEncoder
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.reading import Emu2Reader
from emu2eval.adapters.emu2.saving import save_folder
from emu2eval.adapters.emu2.tokenizer import Tokenizer
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.adapters.local.inference import Inference
from emu2eval.media.images import from_pil

from .golden_weights import fill

GOLDEN = Path(__file__).parent / "golden"
IMAGE, FRAME = 32003, 32004


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def meta() -> dict[str, Any]:
    return json.loads((GOLDEN / "meta.json").read_text())


def golden_config(meta: dict[str, Any], variant: str) -> Emu2Config:
    part = meta[variant]
    return Emu2Config(
        VisionConfig(**meta["vision"]),
        DecoderConfig(**meta["llm"], vocab_size=part["vocab"]),
        "chat" if part["instruct"] else "base",
        part["n_query"],
        part["v_query"],
    )


class Golden:
    """A tiny model with the arrays and the text that belong to it."""

    def __init__(self, meta: dict[str, Any], variant: str):
        self.meta = meta[variant]
        self.config = golden_config(meta, variant)
        self.model = Emu2(self.config).eval().requires_grad_(False)
        fill(self.model, self.meta["weight_seed"])
        self.arrays = np.load(GOLDEN / f"{variant}.npz")

    def __getitem__(self, name: str) -> Any:
        return torch.from_numpy(self.arrays[name])


@pytest.fixture(scope="session")
def base(meta: dict[str, Any]) -> Golden:
    return Golden(meta, "base")


@pytest.fixture(scope="session")
def chat(meta: dict[str, Any]) -> Golden:
    return Golden(meta, "chat")


@pytest.fixture(scope="session", params=["base", "chat"])
def golden(request: pytest.FixtureRequest) -> Golden:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def llama_tokenizer() -> Path:
    path = os.environ.get("EMU2EVAL_LLAMA_TOKENIZER")
    if not path:
        pytest.skip(
            "LLaMA's tokenizer.model may not be redistributed; set EMU2EVAL_LLAMA_TOKENIZER to a copy"
        )
    return Path(path)


def built(folder: Path, **settings: Any) -> Emu2Adapter:
    """The adapter of a checkpoint, by the settings of a model file."""
    adapter = registry.build("adapter", "emu2", {"checkpoint": str(folder), **settings})
    assert isinstance(adapter, Emu2Adapter)
    return adapter


def close(got: Any, want: Any, relative: float = 2e-5) -> None:
    """Largest difference against the largest magnitude, the tolerance the arrays were made for."""
    worst = (got - want).abs().max() / want.abs().max()
    assert worst <= relative, f"off by {worst:.2e} relative"


@pytest.fixture(scope="session")
def small_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentencepiece model of LLaMA's kind (BPE, byte fallback, white space kept), trained here."""
    import sentencepiece

    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    texts = ["The cat is here.", "a dog and a cat", "What colour is the square?", "Answer: yes, no"]
    with path.open("wb") as out:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts * 20),
            model_writer=out,
            model_type="bpe",
            vocab_size=340,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    return path


def golden_prompt(golden: Golden, ids: list[int], shown: list[int], frames: int = 0) -> Encoded:
    """A prompt by its ids, with the golden images of those numbers, the first `frames` as a video."""
    sizes = golden.config
    images = tuple(
        Shown(
            from_pil(Image.fromarray(golden.arrays[f"pil{number}_uint8"])),
            sizes.v_query if i < frames else sizes.n_query,
            variety="frame" if i < frames else "",
        )
        for i, number in enumerate(shown)
    )
    return Encoded(tuple(ids), tuple(i in (IMAGE, FRAME) for i in ids), images)


def golden_batch(golden: Golden) -> list[Encoded]:
    """The two prompts of the golden batch, one image and two, without their padding."""
    rows = [[i for i in row if i != 32000] for row in golden["batch_input_ids"].tolist()]
    return [golden_prompt(golden, rows[0], [0]), golden_prompt(golden, rows[1], [1, 2])]


def inference(golden: Golden, reuse: bool = False) -> Inference[Emu2Reader]:
    return Inference(Emu2Reader(golden.model, TowerEncoder(golden.model)), reuse)


@torch.inference_mode()
def logits(asked: Inference[Emu2Reader], prompts: list[Encoded]) -> torch.Tensor:
    """The scores of the word behind each prompt, (prompts, words)."""
    asked.reader.encoder.hold(prompts)
    shared = asked.prefix.shared(prompts) if asked.prefix is not None else 0
    _, first = asked._read(asked.reader.rows(prompts, shared), prompts, shared)
    assert first is not None
    return first


@torch.inference_mode()
def regressed(golden: Golden, prompts: list[Encoded], count: int) -> torch.Tensor:
    """Visual embeddings behind prompts that end in [IMG], (prompts, count, width)."""
    reader = inference(golden).reader
    reader.encoder.hold(prompts)
    rows, cache = reader.rows(prompts), reader.cache()
    hidden = reader.hidden(rows, prompts, cache, 0, rows.length)[:, -1]
    return reader.regress(rows, cache, hidden, count)


@pytest.fixture(scope="session")
def folders(
    meta: dict[str, Any], small_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A checkpoint folder of each variant, with the formula's weights and a small vocabulary."""
    found = {}
    for variant in ("base", "chat", "gen"):
        like = golden_config(meta, "chat" if variant == "chat" else "base")
        size = Tokenizer(small_tokenizer, like.variant).size
        config = replace(
            like, variant=variant, decoder=replace(like.decoder, vocab_size=size), n_query=4
        )
        folder = tmp_path_factory.mktemp("checkpoints") / variant
        model = Emu2(config)
        fill(model, 1234)
        parts = {}
        if variant == "gen":
            parts["unet"] = UNet2DConditionModel.from_config(
                {**meta["gen"]["unet"], "sample_size": 8}
            )
            parts["vae"] = AutoencoderKL.from_config(meta["gen"]["vae"])
            for name, part in parts.items():
                fill(part, 77, f"{name}.")
        save_folder(folder, model, tokenizer=small_tokenizer, **parts)
        found[variant] = folder
    return found
