"""Real models of tiny sizes, built from their configurations, in folders as people have them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

GOLDEN = Path(__file__).parent / "adapters" / "emu2" / "golden"
SIDE = 32
"""Pixels of the images that the encoders read."""

_LAYERS = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_SEES = {**_LAYERS, "image_size": SIDE, "patch_size": 8}
_SIZES = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}


def emu2_gen(folder: Path) -> Path:
    """Emu2-Gen of the golden configuration, with the formula's weights; the YAML file of the model."""
    import sentencepiece
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from emu2eval.adapters.emu2.config import DecoderConfig, Emu2Config, VisionConfig
    from emu2eval.adapters.emu2.model import Emu2
    from emu2eval.adapters.emu2.saving import save_folder
    from emu2eval.adapters.emu2.tokenizer import Tokenizer

    from .adapters.emu2.golden_weights import fill

    meta = json.loads((GOLDEN / "meta.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = folder / "tokenizer.model"
    texts = ["A cat on a red chair.", "a dog in the jungle", "a backpack on the beach, Make it wet"]
    with tokenizer.open("wb") as out:
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
    config = Emu2Config(
        VisionConfig(**meta["vision"]),
        DecoderConfig(**meta["llm"], vocab_size=Tokenizer(tokenizer, "gen").size),
        "gen",
        n_query=4,
        v_query=meta["base"]["v_query"],
    )
    config = replace(config, decoder=replace(config.decoder, max_position_embeddings=2048))
    model = Emu2(config)
    unet = UNet2DConditionModel.from_config({**meta["gen"]["unet"], "sample_size": 8})
    vae = AutoencoderKL.from_config(meta["gen"]["vae"])
    fill(model, 1234)
    fill(unet, 77, "unet.")
    fill(vae, 77, "vae.")
    save_folder(folder / "model", model, tokenizer=tokenizer, unet=unet, vae=vae)
    settings = {"checkpoint": str(folder / "model"), "dtype": "float32", "threads": 1}
    path = folder / "tiny-emu2-gen.yaml"
    spec = {"name": "tiny-emu2-gen", "adapter": "emu2", "settings": settings}
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return path


def clip(folder: Path, seed: int = 0) -> Path:
    """A CLIP with random weights that reads letter by letter, so that no two texts look alike."""
    import torch
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        ends = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 3}
        config = transformers.CLIPConfig(
            vision_config=_SEES,
            text_config={**_LAYERS, "vocab_size": 64, "max_position_embeddings": 77, **ends},
            projection_dim=24,
        )
        transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessorPil(**_SIZES).save_pretrained(folder)
    _letters().save_pretrained(folder)
    return folder


def dino(folder: Path, seed: int = 0) -> Path:
    """A vision transformer of DINO's kind with random weights; its preprocessor squashes, as DINO's does."""
    import torch
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = transformers.ViTConfig(**_SEES)
        transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    transformers.ViTImageProcessorPil(size=size).save_pretrained(folder)
    return folder


def _letters() -> Any:
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Split
    from tokenizers.processors import TemplateProcessing

    known = ["<bos>", "<pad>", "<unk>", "<eos>", *"abcdefghijklmnopqrstuvwxyz0123456789 ,.'-"]
    letters = Tokenizer(WordLevel({each: n for n, each in enumerate(known)}, unk_token="<unk>"))
    letters.normalizer = Lowercase()
    letters.pre_tokenizer = Split("", behavior="isolated")
    letters.post_processor = TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 0), ("<eos>", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=letters,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    )


def with_weights(
    folder: Path, into: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> Path:
    """A copy of a folder whose only file of weights holds what `change` makes of its tensors by name."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, into)
    (file,) = into.glob("*.safetensors")
    tensors = {name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}
    save_file(tensors, file, {"format": "pt"})
    return into


def without(folder: Path, into: Path, *parts: str) -> Path:
    """A copy of a folder without the tensors whose names hold one of the parts; there are some."""

    def fewer(tensors: dict[str, Any]) -> dict[str, Any]:
        left = {n: t for n, t in tensors.items() if not any(part in n for part in parts)}
        assert len(left) < len(tensors), sorted(tensors)
        return left

    return with_weights(folder, into, fewer)
