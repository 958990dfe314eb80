"""Encoders from transformers checkpoints: real tiny CLIP, SigLIP and DINO models in folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from emu2eval import evaluate  # noqa: E402
from emu2eval.encoders.checkpoint import CheckpointEncoder  # noqa: E402
from emu2eval.encoders.features import FeatureCache  # noqa: E402
from emu2eval.engine.evaluation import Result  # noqa: E402
from emu2eval.errors import ConfigError, MissingExtra, ModelError  # noqa: E402
from emu2eval.media import images  # noqa: E402
from emu2eval.types import Image  # noqa: E402

from ..tiny_models import with_weights, without  # noqa: E402

MakeTask = Callable[..., Path]

LAYERS = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
SEES = {**LAYERS, "image_size": 32, "patch_size": 8}
READS = {**LAYERS, "vocab_size": 12, "max_position_embeddings": 9}
WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "what", "is", "it", "a", "red", "square", "dog", "?"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # Threads that wait for each other cost far more than these tiny models.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(kind: str, folder: Path, seed: int = 0) -> Path:
    """A model with random weights, its preprocessor, and a tokenizer where it reads."""
    torch.manual_seed(seed)
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "clip":
        config = transformers.CLIPConfig(
            vision_config=SEES, text_config={**READS, **ends}, projection_dim=24
        )
        model, processor = transformers.CLIPModel(config), transformers.CLIPImageProcessorPil
    elif kind == "siglip":
        config = transformers.SiglipConfig(
            vision_config=SEES, text_config={**READS, **ends, "projection_size": 32}
        )
        model, processor = transformers.SiglipModel(config), transformers.SiglipImageProcessorPil
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(**SEES, mlp_ratio=2))
        processor = transformers.BitImageProcessorPil
    model.save_pretrained(folder)
    sizes = {"size": {"height": 32, "width": 32}} if kind == "siglip" else {}
    if kind != "siglip":
        sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    processor(**sizes).save_pretrained(folder)
    if kind != "dino":
        _tokenizer().save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    )


def shown(count: int) -> list[Image]:
    found = []
    for number in range(count):
        chance = np.random.default_rng(number)
        small = chance.integers(0, 256, (6, 9, 3), dtype=np.uint8)
        image = PILImage.fromarray(small).resize((90, 60), PILImage.Resampling.BICUBIC)
        found.append(images.from_pil(image))
    return found


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("clip", tmp_path_factory.mktemp("encoders") / "tiny-clip")


def kept(folder: Path, given: list[Image]) -> Any:
    store = FeatureCache(CheckpointEncoder(str(folder)))
    wanted = {images.digest(p): p for p in given}
    store.fill(wanted)
    return store.vectors(list(wanted)).astype(np.float32)


@pytest.mark.parametrize("kind", ["clip", "siglip", "dino"])
def test_features_are_the_models_own(kind: str, tmp_path: Path) -> None:
    folder = build(kind, tmp_path / kind)
    found = kept(folder, shown(6))
    model = transformers.AutoModel.from_pretrained(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.inference_mode():
        pixels = processor([images.load(p) for p in shown(6)], return_tensors="pt")
        if kind == "dino":
            expected = model(**pixels).last_hidden_state[:, 0]
        else:
            expected = model.get_image_features(**pixels).pooler_output
    expected = torch.nn.functional.normalize(expected, dim=1).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=5e-4)
    assert np.abs(expected[0] - expected[1]).max() > 0.01  # the images can be told apart


def test_a_vector_does_not_depend_on_its_batch(clip: Path) -> None:
    encoder = CheckpointEncoder(str(clip))
    encoder.identity()
    ready = [encoder.prepare(p) for p in shown(7)]
    alone = np.concatenate([encoder.encode([one]) for one in ready])
    together = np.concatenate([encoder.encode(ready[:4]), encoder.encode(ready[4:])])
    turned = np.concatenate([encoder.encode(ready[:2:-1]), encoder.encode(ready[2::-1])])[::-1]
    assert (alone == together).all()
    assert (alone == turned).all()
    words = ["what is it ?", "a red square", "a dog", "is it red ?"]
    read = encoder.texts(words)
    assert (read == np.concatenate([encoder.texts([one]) for one in words])).all()
    assert (read == encoder.texts(words[::-1])[::-1]).all()


def test_texts_are_the_models_own(clip: Path) -> None:
    texts = ["what is it ?", "a red square", "a dog " * 20]
    found = CheckpointEncoder(str(clip)).texts(texts)
    model = transformers.CLIPModel.from_pretrained(clip)
    tokens = _tokenizer()(
        texts, padding="max_length", truncation=True, max_length=9, return_tensors="pt"
    )
    with torch.inference_mode():
        expected = model.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_dino_reads_no_texts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="encodes only images"):
        CheckpointEncoder(str(build("dino", tmp_path / "dino"))).texts(["what"])


def run(task: Path) -> Result:
    (result,) = evaluate(str(task), "most-common", shots=[4])
    return result


def stored(result: Result) -> Any:
    return json.loads((result.folder / "run.json").read_text())["identity"]["data"]["chooser"]


def test_other_weights_never_reuse_features_or_answers(make_task: MakeTask, tmp_path: Path) -> None:
    folder = build("clip", tmp_path / "encoder")
    options = {"encoder": str(folder), "text": 0.2}
    task = make_task(
        queries=10,
        pool=20,
        demonstrations={"split": "train", "chooser": "rices", "options": options},
    )
    first = run(task)
    assert run(task).tally.asked == 0
    build("clip", tmp_path / "encoder", seed=1)
    second = run(task)
    assert second.folder != first.folder
    assert second.tally.kept == 0
    assert stored(second)["features"] != stored(first)["features"]
    assert len(list((tmp_path / "cache" / "features").glob("encoder-*"))) == 2
    # Another way of preparing images is another encoder too.
    settings = folder / "preprocessor_config.json"
    read = json.loads(settings.read_text())
    settings.write_text(
        json.dumps(read | {"do_center_crop": False, "size": {"height": 32, "width": 32}})
    )
    assert run(task).folder not in (first.folder, second.folder)
    # The same encoder in another place is no other encoder.
    before = len(list((tmp_path / "cache" / "features").iterdir()))
    assert len(FeatureCache(CheckpointEncoder(str(folder.rename(tmp_path / "moved"))))) == 30
    assert len(list((tmp_path / "cache" / "features").iterdir())) == before


def test_what_is_not_there_is_told_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    away = CheckpointEncoder("openai/clip-vit-large-patch14")
    (lacking,) = away.lacks()
    with pytest.raises(
        ModelError, match="not a local folder, and the hub did not provide it"
    ) as caught:
        away.fetch()
    with pytest.raises(ModelError, match="is not on this machine"):
        FeatureCache(away)
    for told in (str(lacking), str(caught.value)):
        assert "hf download openai/clip-vit-large-patch14" in told
        assert "encoder=thumbnail" in told
    (lacking,) = CheckpointEncoder("~nobody/or no name at all").lacks()
    assert "is not on this machine" in lacking.what

    (tmp_path / "empty").mkdir()
    (lacking,) = CheckpointEncoder(str(tmp_path / "empty")).lacks()
    assert "has no config.json" in lacking.what

    half = tmp_path / "half"
    half.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (half / name).write_bytes((clip / name).read_bytes())
    (half / "model.safetensors").write_bytes((clip / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        kept(half, shown(1))


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    (lacking,) = CheckpointEncoder(str(clip)).lacks()
    assert isinstance(lacking, MissingExtra) and "transformers" in lacking.what


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("clip", "visual_projection"),
        ("clip", "text_projection"),
        ("clip", "text_model"),
        ("clip", "vision_model.embeddings"),
        ("clip", "vision_model.post_layernorm"),
        ("siglip", "vision_model.head"),
        ("siglip", "text_model.head"),
        ("dino", "encoder.layer.1"),
        ("dino", "embeddings.cls_token"),
        ("dino", "layernorm"),
    ],
)
def test_weights_that_the_files_lack_are_refused(kind: str, part: str, tmp_path: Path) -> None:
    """transformers would make them up at random, and the features would be others in every process."""
    folder = without(build(kind, tmp_path / "whole"), tmp_path / "partial", part)
    encoder = CheckpointEncoder(str(folder))
    with pytest.raises(ModelError, match="are missing") as caught:
        encoder.encode([encoder.prepare(shown(1)[0])])
    assert part in caught.value.what


def test_a_vision_half_with_its_projection(clip: Path, tmp_path: Path) -> None:
    """Its features are those of the whole model; without the projection's weights it is refused."""
    half = tmp_path / "half"
    config = transformers.CLIPVisionConfig.from_pretrained(clip)
    config.projection_dim = 24
    model = transformers.CLIPVisionModelWithProjection(config)
    whole = transformers.CLIPModel.from_pretrained(clip)
    model.vision_model.load_state_dict(whole.vision_model.state_dict())
    model.visual_projection.load_state_dict(whole.visual_projection.state_dict())
    model.save_pretrained(half)
    transformers.CLIPImageProcessorPil.from_pretrained(clip).save_pretrained(half)
    features = []
    for folder in (clip, half):
        encoder = CheckpointEncoder(str(folder))
        features.append(encoder.encode([encoder.prepare(shown(1)[0])]))
    assert np.allclose(*features, atol=1e-6)
    partial = CheckpointEncoder(str(without(half, tmp_path / "partial", "visual_projection")))
    with pytest.raises(ModelError, match="visual_projection"):
        partial.encode([partial.prepare(shown(1)[0])])


def test_an_encoder_behind_the_prefix_of_an_adapter(clip: Path, tmp_path: Path) -> None:
    def wrapped(tensors: dict[str, Any]) -> dict[str, Any]:
        return {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}

    encoder = CheckpointEncoder(str(with_weights(clip, tmp_path / "wrapped", wrapped)))
    with pytest.raises(ModelError, match="missing") as caught:
        encoder.encode([encoder.prepare(shown(1)[0])])
    assert "LoRA" in str(caught.value.hint)


def test_an_adapter_beside_an_encoder_is_named(clip: Path, tmp_path: Path) -> None:
    folder = without(clip, tmp_path / "both", "logit_scale")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    (lacking,) = CheckpointEncoder(str(folder)).lacks()
    assert "next to the base weights" in lacking.what and "adapter_model" in lacking.what


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_the_identity_covers_what_reads_words(clip: Path, tmp_path: Path, file: str) -> None:
    """Features of texts that another tokenizer cut are other features."""
    folder = without(clip, tmp_path / "other", "logit_scale")
    before = CheckpointEncoder(str(folder)).identity()
    (folder / "notes.md").write_text("no part of it")
    assert CheckpointEncoder(str(folder)).identity() == before
    data = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(data, indent=7))
    assert CheckpointEncoder(str(folder)).identity()["weights"] != before["weights"]


def test_weights_that_no_feature_needs_may_be_missing(tmp_path: Path) -> None:
    whole = build("clip", tmp_path / "whole")
    folder = without(whole, tmp_path / "partial", "logit_scale")
    found = []
    for path in (whole, folder):
        encoder = CheckpointEncoder(str(path))
        found.append(encoder.encode([encoder.prepare(shown(1)[0])]))
    assert np.allclose(*found, atol=1e-5)
