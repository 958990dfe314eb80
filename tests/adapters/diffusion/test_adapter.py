"""A Stable-Diffusion-like pipeline, tiny and built from configurations, as a model that draws."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image as PILImage
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from emu2eval import evaluate, registry
from emu2eval.adapters.conformance import check
from emu2eval.adapters.diffusion.adapter import DiffusionAdapter
from emu2eval.adapters.memory import GIB, MIB, Workload
from emu2eval.errors import ConfigError, DoesNotFit, ModelError, PlanError
from emu2eval.identity import request_key
from emu2eval.media import images
from emu2eval.types import Image, ImageOutput, Prompt, Request, Turn

from ...tiny_models import without

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning",  # diffusers' own
    "ignore::FutureWarning",
)
SMALL: dict[str, Any] = {"steps": 2, "guidance": 3.0, "width": 32, "height": 32}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    words = "<pad> <end> a red green blue square circle draw of what colour is the".split()
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<end>", model_max_length=16
    )
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=37, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=16, pad_token_id=0, eos_token_id=1,
        bos_token_id=1,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        block_out_channels=(4, 8), layers_per_block=1, sample_size=16, in_channels=4,
        out_channels=4, cross_attention_dim=32, norm_num_groups=2, attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(4, 8), norm_num_groups=2, in_channels=3, out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet,
        scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("pipeline")
    pipeline.save_pretrained(path)
    return path


def pipeline(checkpoint: Path | str, **settings: Any) -> DiffusionAdapter:
    options = {"checkpoint": str(checkpoint), **settings}
    adapter: DiffusionAdapter = registry.build("adapter", "diffusers", options)
    return adapter


def square(colour: str) -> Image:
    return images.from_pil(PILImage.new("RGB", (32, 32), colour))


def request(*query: str | Image, seed: int = 1, turns: tuple[Turn, ...] = ()) -> Request:
    asked, out = Prompt(query=query, turns=turns), ImageOutput(seed=seed)
    return Request(request_key(asked, out, "test"), asked, out)


def drawn(adapter: DiffusionAdapter, *asked: Request) -> list[bytes]:
    found = []
    for response in adapter.answer(asked):
        assert response.image is not None, response.error
        found.append(images.load(response.image).tobytes())
    return found


def test_noise_is_the_requests_own(folder: Path) -> None:
    """The seed alone decides it: the same in any batch, and as diffusers draws it when called plainly."""
    adapter = pipeline(folder, **SMALL)
    adapter.load()
    asked = [request("a red square", seed=seed) for seed in (1, 2, 3)]
    together = drawn(adapter, *asked)
    assert len(set(together)) == 3
    assert [drawn(adapter, one)[0] for one in reversed(asked)] == together[::-1]
    theirs = StableDiffusionPipeline.from_pretrained(folder)
    theirs.set_progress_bar_config(disable=True)
    plain = theirs(
        "a red square", num_inference_steps=2, guidance_scale=3.0, width=32, height=32,
        generator=torch.Generator("cpu").manual_seed(2),
    ).images[0]  # fmt: skip
    assert plain.tobytes() == together[1]
    other = request("a blue circle", seed=1)
    assert drawn(adapter, other)[0] != together[0]


def test_the_image_of_the_prompt_is_changed(folder: Path) -> None:
    adapter = pipeline(folder, mode="image", strength=0.9, **SMALL)
    adapter.load()
    red, blue = (request(square(c), "a circle") for c in ("red", "blue"))
    first, second = drawn(adapter, red, blue)
    assert first != second
    (without,) = adapter.answer([request("a circle")])
    assert without.error is not None and "the prompt has 0" in without.error


def test_images_are_never_dropped(
    folder: Path, make_task: Callable[..., Path], tmp_path: Path
) -> None:
    """A pipeline without a place for images refuses demonstrations that hold some, while planning."""
    model = tmp_path / "sd.yaml"
    settings = {"checkpoint": str(folder), **SMALL}
    model.write_text(json.dumps({"name": "sd", "adapter": "diffusers", "settings": settings}))
    drawing = {"output": {"kind": "image"}, "score": {"scorer": "drawing"}}
    task = str(make_task(queries=2, pool=4, **drawing))
    with pytest.raises(PlanError, match="sd accepts 0"):
        evaluate(task, str(model), shots=[2], out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    adapter = pipeline(folder)
    turn = Turn((square("red"), "draw"), ("a square",))
    assert "accepts only text" in str(adapter.refusal(request("draw", turns=(turn,))))


def test_through_the_engine_in_any_batch(folder: Path, tmp_path: Path) -> None:
    found = []
    for batch in (1, 3):
        model = tmp_path / f"sd{batch}.yaml"
        settings = {"checkpoint": str(folder), **SMALL, "batch": batch, "max_positions": 60}
        model.write_text(json.dumps({"name": "sd", "adapter": "diffusers", "settings": settings}))
        (result,) = evaluate("easy-vqa-draw", str(model), limit=3, out=tmp_path / f"{batch}")
        assert (result.rows[0].n, result.rows[0].unscored) == (3, 0)
        rows = map(json.loads, (result.folder / "responses.jsonl").read_text().splitlines())
        found.append({row["id"]: tuple(row["images"]) for row in rows})
    assert found[0] == found[1] and len(set(found[0].values())) == 3


def test_captions_of_coco_are_drawn(folder: Path, tmp_path: Path, coco_t2i: Path) -> None:
    model = tmp_path / "sd.yaml"
    settings = {"checkpoint": str(folder), **SMALL, "max_positions": 60}
    model.write_text(json.dumps({"name": "sd", "adapter": "diffusers", "settings": settings}))
    options = "task.score.options"
    changes = [f"{options}.clip_t=null", f"{options}.clip_i.encoder=thumbnail"]
    (result,) = evaluate("coco_t2i", str(model), changes=changes, out=tmp_path / "runs")
    assert (result.rows[0].label, result.rows[0].n) == ("clip_i/thumbnail", 8)
    assert len(list((result.folder / "images").iterdir())) == 8


def test_the_empty_text_of_guidance_is_encoded_once(folder: Path) -> None:
    adapter = pipeline(folder, **SMALL)
    adapter.load()
    passes = []
    layers = adapter._pipeline.text_encoder.encoder
    layers.register_forward_hook(lambda *_: passes.append(1))
    words = ["red", "green", "blue", "square", "circle", "draw", "of", "what", "colour", "is"]
    asked = [request(f"a {word}", seed=seed) for word in words for seed in (1, 2)]
    once = drawn(adapter, *asked)
    assert len(passes) == len(words) + 1  # each text, and the empty one
    assert len(set(once)) == len(asked)
    for one, before in zip(asked[:3], once, strict=False):
        fresh = pipeline(folder, **SMALL)
        fresh.load()
        assert drawn(fresh, one) == [before]


def test_texts_that_would_be_cut_are_counted(folder: Path) -> None:
    adapter = pipeline(folder)
    assert adapter.limits.positions == 16
    assert adapter.positions(request("a red square")) == 3
    assert adapter.positions(request("a " * 40)) == 40


def test_the_rules_of_adapters(folder: Path) -> None:
    findings = list(check(pipeline(folder, max_positions=60, **SMALL)))
    assert [finding for finding in findings if not finding.holds] == []


def lacking(checkpoint: str) -> str:
    (found,) = pipeline(checkpoint).lacks()
    return str(found)


def test_what_is_not_on_this_machine_is_told_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def no_network(*_: Any, **__: Any) -> Any:
        pytest.fail("a connection was made")

    monkeypatch.setattr("socket.socket.connect", no_network)
    said = lacking("some/pipeline")
    assert "some/pipeline is not on this machine" in said
    assert "hf download some/pipeline --local-dir pipeline" in said


def test_mistakes_are_one_paragraph(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'mode' .* 'image' or 'text'"):
        pipeline(folder, mode="sound")
    with pytest.raises(ConfigError, match=r"'dtype' .*; did you mean 'float32'"):
        pipeline(folder, dtype="float8")
    with pytest.raises(ConfigError, match=r"'strength' .* above 0 and of at most 1"):
        pipeline(folder, mode="image", strength=2.0)
    assert "model_index.json" in lacking(str(tmp_path))
    with pytest.raises(ModelError, match="not loaded"):
        pipeline(folder).answer([request("a")])
    for name, value in (("steps", 0), ("width", -8), ("batch", 0)):
        with pytest.raises(ConfigError, match=f"'{name}' .* of at least 1.*, got {value}"):
            pipeline(folder, **{name: value})
    nowhere = pipeline(folder, device="nonsense")
    with pytest.raises(ModelError, match="cannot be moved to the device nonsense"):
        nowhere.load()
    for missing in ("~nobody-of-this-name/pipeline", "a" * 5000):
        assert "no checkpoint found" in lacking(missing)
        with pytest.raises(ModelError, match="no checkpoint found"):
            pipeline(missing).fetch()
    first = pipeline(folder).identity()
    assert first["pipeline"] == "StableDiffusionPipeline" and len(first["weights"]) == 64


@pytest.mark.parametrize("index", ["{", "[]", "{}"])
def test_a_damaged_index_is_told(folder: Path, tmp_path: Path, index: str) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model_index.json").write_text(index)
    assert "does not name a pipeline" in lacking(str(broken))


def test_a_damaged_tokenizer_is_told_and_its_code_does_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    settings = broken / "tokenizer" / "tokenizer_config.json"
    own = {"auto_map": {"AutoTokenizer": ["own.Words", None]}, "tokenizer_class": "Words"}
    settings.write_text(json.dumps(own))
    (broken / "tokenizer" / "own.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nWords = 1\n"
    )

    def asked(_: str = "") -> str:
        pytest.fail("nobody is asked whether code may run")

    monkeypatch.setattr("builtins.input", asked)
    with pytest.raises(ModelError, match="cannot read the pipeline's tokenizer"):
        _ = pipeline(broken).limits
    assert not (tmp_path / "ran").exists()
    (broken / "tokenizer" / "tokenizer.json").write_text("{")
    settings.write_text("{}")
    with pytest.raises(ModelError, match="cannot read the pipeline's tokenizer"):
        _ = pipeline(broken).limits


def test_a_safety_checker_without_its_concepts_is_refused(folder: Path, tmp_path: Path) -> None:
    """Random ones would blacken other images in every process."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    vision = {**sizes, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    shutil.copytree(folder, tmp_path / "partial")
    whole, part = tmp_path / "whole", tmp_path / "partial" / "safety_checker"
    StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision)).save_pretrained(whole)
    without(whole, part, "concept_embeds")
    index = tmp_path / "partial" / "model_index.json"
    named = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    index.write_text(json.dumps({**json.loads(index.read_text()), **named}))
    with pytest.raises(ModelError, match=r"are missing \(concept_embeds"):
        pipeline(tmp_path / "partial", **SMALL).load()


def test_pixels_that_are_no_numbers_are_no_black_image(folder: Path) -> None:
    """As SDXL's decoder makes them in half precision."""
    adapter = pipeline(folder, **SMALL)
    adapter.load()
    with torch.no_grad():
        adapter._pipeline.vae.decoder.conv_out.bias.fill_(torch.nan)
    (found,) = adapter.answer([request("a red square")])
    assert found.images == () and "pixels of the image contain NaN" in str(found.error)


@pytest.mark.parametrize("inside", ["", "unet"])
def test_adapters_beside_the_parts_are_named(folder: Path, tmp_path: Path, inside: str) -> None:
    shutil.copytree(folder, tmp_path / "both")
    (tmp_path / "both" / inside / "pytorch_lora_weights.safetensors").write_bytes(b"")
    (lacking,) = pipeline(tmp_path / "both").lacks()
    named = f"{inside}/" if inside else "pytorch_lora_weights.safetensors"
    assert named in lacking.what and "next to" in lacking.what


@pytest.mark.parametrize(
    ("part", "name"), [("unet", "conv_out"), ("vae", "decoder.conv_in"), ("text_encoder", "fc1")]
)
def test_weights_that_the_files_lack_are_refused(
    folder: Path, tmp_path: Path, part: str, name: str
) -> None:
    """diffusers and transformers would make them up at random: other images in every process."""
    shutil.copytree(folder, tmp_path / "partial")
    shutil.rmtree(tmp_path / "partial" / part)
    without(folder / part, tmp_path / "partial" / part, name)
    with pytest.raises(ModelError, match="are missing") as caught:
        pipeline(tmp_path / "partial", **SMALL).load()
    assert name in caught.value.what and str(caught.value.where).endswith(part)


def test_its_memory_is_planned_by_its_files(folder: Path) -> None:
    adapter = pipeline(folder)
    plan = adapter.plan_memory(Workload(), {"cpu": GIB})
    adapter.load()
    parts = [getattr(adapter._pipeline, name) for name in ("unet", "vae", "text_encoder")]
    (use,) = plan.devices
    assert use.weights == sum(w.nbytes for part in parts for w in part.parameters())
    assert use.parts == ("text encoder", "unet", "vae") and plan.precision == "float32"
    larger = pipeline(folder, width=64, height=64)
    assert larger.plan_memory(Workload(), {"cpu": GIB}).devices[0].activations > use.activations
    fit = adapter.fit_replicas([GIB] * 3)
    assert fit is not None and (fit.gpus, fit.replicas, fit.batch) == (1, 3, 1)
    assert fit.memory.precision == "float16" and 2 * fit.memory.devices[0].weights == use.weights
    with pytest.raises(DoesNotFit, match="it runs on one device"):
        adapter.fit_replicas([MIB // 64] * 3)
