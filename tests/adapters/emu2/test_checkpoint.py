"""Every published layout, written at tiny size, gives the same model; what is broken says how."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import save_file

from emu2eval.adapters.emu2.checkpoint import load_model, load_painter, open_checkpoint
from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.emu2.layouts import encoder_key, safety_key
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.saving import save_folder
from emu2eval.adapters.local import files, tensorfile
from emu2eval.adapters.local.configfile import read_json
from emu2eval.adapters.local.files import file_digest
from emu2eval.errors import ConfigError, ModelError, UserError

from .conftest import built
from .golden_weights import fill

State = dict[str, torch.Tensor]
FP32 = torch.float32


@pytest.fixture(scope="module")
def decoder_parts(meta: dict[str, Any]) -> tuple[Any, Any, Any]:
    unet = UNet2DConditionModel.from_config(meta["gen"]["unet"])
    vae = AutoencoderKL.from_config(meta["gen"]["vae"])
    fill(unet, meta["gen"]["weight_seed"], "unet.")
    fill(vae, meta["gen"]["weight_seed"], "vae.")
    return unet, vae, EulerDiscreteScheduler.from_config(meta["gen"]["scheduler"])


def state_of(module: Any) -> State:
    return {name: tensor.contiguous() for name, tensor in module.state_dict().items()}


def with_frequencies(state: State) -> State:
    """As transformers 4.31 saved it."""
    layers = sorted({k.split(".layers.")[1].split(".")[0] for k in state if ".layers." in k})
    name = "decoder.lm.model.layers.{}.self_attn.rotary_emb.inv_freq"
    return state | {name.format(i): torch.ones(6) for i in layers}


def hub_names(state: State) -> State:
    """The names in the Hugging Face repositories."""
    return {k if k.startswith("project_") else f"model.{k}": v for k, v in state.items()}


def write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def hub_config(config: Emu2Config) -> dict[str, Any]:
    decoder = {k: getattr(config.decoder, k) for k in config.decoder.__dataclass_fields__}
    vision = {k: getattr(config.vision, k) for k in config.vision.__dataclass_fields__}
    vision |= {"n_query": config.n_query, "v_query": config.v_query, "xattn": True}
    return {
        "architectures": ["EmuForCausalLM"],
        "model_version": config.variant,
        "vision_config": vision,
        **decoder,
        "vocab_size": 32000,
    }


def write_shards(folder: Path, state: State, form: str, middle: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(state)
    stem, ending = ("model", "safetensors") if form == "safetensors" else ("pytorch_model", "bin")
    weight_map = {}
    for shard in range(3):
        file = f"{stem}{middle}-{shard + 1:05}-of-00003.{ending}"
        part = {name: state[name] for name in names[shard::3]}
        weight_map |= dict.fromkeys(part, file)
        if form == "safetensors":
            save_file(part, folder / file)
        else:
            torch.save(part, folder / file)
    write_json(folder / f"{stem}.{ending}.index{middle}.json", {"weight_map": weight_map})


def native_bin(folder: Path, model: Emu2, _: Any) -> Path:
    write_json(folder / "config.json", model.config.to_json())
    path = folder / "Emu2_pytorch_model.bf16.bin"
    torch.save(with_frequencies(state_of(model)), path)
    return path


def native_gen(folder: Path, model: Emu2, parts: Any) -> Path:
    write_json(folder / "config.json", model.config.to_json())
    state = {f"multimodal_encoder.{k}": v for k, v in with_frequencies(state_of(model)).items()}
    for name, part in zip(("unet", "vae"), parts, strict=False):
        state |= {f"{name}.{k}": v for k, v in state_of(part).items()}
    path = folder / "Emu2-Gen_pytorch_model.bf16.safetensors"
    save_file(state, path)
    return path


def hub_safetensors(folder: Path, model: Emu2, _: Any) -> Path:
    write_json(folder / "config.json", hub_config(model.config))
    write_shards(folder, with_frequencies(hub_names(state_of(model))), "safetensors")
    return folder


def hub_bin(folder: Path, model: Emu2, _: Any) -> Path:
    write_json(folder / "config.json", hub_config(model.config))
    write_shards(folder, hub_names(state_of(model)), "bin")
    return folder


def hub_gen(folder: Path, model: Emu2, parts: Any) -> Path:
    encoder = folder / "multimodal_encoder"
    write_json(encoder / "config.json", hub_config(model.config))
    write_shards(encoder, hub_names(state_of(model)), "safetensors", ".bf16")
    unet, vae, scheduler = parts
    unet.save_pretrained(folder / "unet", variant="bf16")
    vae.save_pretrained(folder / "vae", variant="bf16")
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.model").write_bytes(b"pieces")
    return folder


def own_folder(folder: Path, model: Emu2, parts: Any) -> Path:
    unet, vae, scheduler = parts
    target = folder / "saved"
    save_folder(target, model, unet=unet, vae=vae, scheduler=scheduler)
    return target


LAYOUTS: list[Callable[[Path, Emu2, Any], Path]] = [
    native_bin,
    native_gen,
    hub_safetensors,
    hub_bin,
    hub_gen,
    own_folder,
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_model(
    layout: Any, base: Any, decoder_parts: Any, tmp_path: Path
) -> None:
    opened = open_checkpoint(layout(tmp_path, base.model, decoder_parts))
    assert opened.shapes() == {k: tuple(v.shape) for k, v in state_of(base.model).items()}
    assert opened.config.decoder == base.config.decoder
    assert (opened.config.n_query, opened.config.v_query) == (4, 1)
    loaded = state_of(load_model(opened, dtype=FP32))
    for name, tensor in state_of(base.model).items():
        assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize("layout", [hub_gen, own_folder])
def test_the_visual_decoder_comes_along(
    layout: Any, base: Any, decoder_parts: Any, tmp_path: Path
) -> None:
    opened = open_checkpoint(layout(tmp_path, base.model, decoder_parts))
    assert opened.paints
    assert opened.variant == ("gen" if layout is hub_gen else "base")
    painter = load_painter(opened, dtype=FP32, device="cpu")
    for module, original in zip((painter.unet, painter.vae), decoder_parts, strict=False):
        for name, tensor in state_of(original).items():
            assert torch.equal(module.state_dict()[name], tensor)
    for name, value in painter.scheduler.config.items():
        assert name.startswith("_") or decoder_parts[2].config[name] == value


def test_the_native_gen_file_says_what_it_is(base: Any, decoder_parts: Any, tmp_path: Path) -> None:
    opened = open_checkpoint(native_gen(tmp_path, base.model, decoder_parts))
    assert set(opened.parts) == {"encoder", "unet", "vae"}
    # Without configurations beside it, the file is taken for the published one.
    with pytest.raises(ModelError, match="weights of UNet2DConditionModel"):
        load_painter(opened, dtype=FP32, device="cpu")


def test_a_folder_with_the_authors_file_in_it(base: Any, tmp_path: Path) -> None:
    file = native_bin(tmp_path, base.model, None)
    opened = open_checkpoint(tmp_path)
    assert (opened.path, opened.files(), opened.config) == (tmp_path, [file], base.config)
    (tmp_path / "Emu2-Chat_pytorch_model.bf16.pth").write_bytes(file.read_bytes())
    with pytest.raises(ModelError, match="not an Emu2 checkpoint"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"hidden_size": "x"}, "decoder.hidden_size is 'x'"),
        ({"num_attention_heads": -1}, "decoder.num_attention_heads is -1"),
        ({"vision_config": 3}, "vision_config contains no sizes"),
        ({"vision_config": {"mlp_ratio": []}}, "vision.mlp_ratio is []"),
        ({"vision_config": {"n_query": 5}}, "n_query 5 is not a square"),
        ({"model_version": "gpt"}, "Emu2 has no variant 'gpt'"),
    ],
)
def test_impossible_sizes(base: Any, tmp_path: Path, change: Any, words: str) -> None:
    hub_safetensors(tmp_path, base.model, None)
    write_json(tmp_path / "config.json", hub_config(base.config) | change)
    with pytest.raises(ConfigError) as caught:
        open_checkpoint(tmp_path)
    says(caught.value, words, str(tmp_path / "config.json"))


def test_the_variant_is_told_by_the_vocabulary(chat: Any, tmp_path: Path) -> None:
    save_file(state_of(chat.model), tmp_path / "Emu2-Chat.safetensors")
    opened = open_checkpoint(tmp_path / "Emu2-Chat.safetensors")
    assert (opened.variant, opened.config.decoder.vocab_size) == ("chat", 32274)
    assert open_checkpoint(tmp_path / "Emu2-Chat.safetensors", "base").variant == "base"
    write_json(tmp_path / "config.json", chat.config.to_json())
    with pytest.raises(ConfigError, match="is the variant chat, not base"):
        open_checkpoint(tmp_path / "Emu2-Chat.safetensors", "base")


def test_the_stored_dtype_is_converted_on_the_way(base: Any, tmp_path: Path) -> None:
    save_folder(tmp_path / "bf16", base.model, dtype=torch.bfloat16)
    opened = open_checkpoint(tmp_path / "bf16")
    assert {t.dtype for t in opened.parts["encoder"].values()} == {torch.bfloat16}
    model = load_model(opened, dtype=FP32)
    assert {t.dtype for t in model.parameters()} == {FP32}
    assert torch.equal(
        model.project_up.weight, base.model.project_up.weight.to(torch.bfloat16).float()
    )


def test_digests_follow_the_contents(base: Any, tmp_path: Path) -> None:
    save_folder(tmp_path / "a", base.model)
    save_folder(tmp_path / "b", base.model)
    assert open_checkpoint(tmp_path / "a").digest() == open_checkpoint(tmp_path / "b").digest()
    weights = tmp_path / "b" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert open_checkpoint(tmp_path / "a").digest() != open_checkpoint(tmp_path / "b").digest()
    (tmp_path / "a" / "tokenizer.model").write_bytes(b"pieces")
    with_tokenizer = open_checkpoint(tmp_path / "a")
    assert with_tokenizer.tokenizer_path == tmp_path / "a" / "tokenizer.model"
    assert with_tokenizer.digest() != open_checkpoint(tmp_path / "b").digest()


def test_large_files_are_sampled(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    size = 200 << 20
    with path.open("wb") as file:
        file.truncate(size)
    before = file_digest(path, whole=1 << 20)
    for place in (0, size - 1):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        after = file_digest(path, whole=1 << 20)
        assert after != before
        before = after
    os.truncate(path, size - 1)
    assert file_digest(path, whole=1 << 20) != before


def test_keys() -> None:
    assert encoder_key("model.visual.pos_embed") == "visual.pos_embed"
    assert encoder_key("project_up.weight") == "project_up.weight"
    assert encoder_key("decoder.lm.model.layers.0.self_attn.rotary_emb.inv_freq") is None
    new = "vision_model.encoder.layers.0.layer_norm1.bias"
    assert safety_key(f"vision_model.{new}") == new
    assert safety_key(new) == new
    assert safety_key("vision_model.vision_model.embeddings.position_ids") is None


def test_full_size_keys_are_the_published_ones() -> None:
    """Names, shapes and counts of all parts on the meta device; nothing of it takes memory."""
    from emu2eval.adapters.emu2 import sdxl
    from emu2eval.adapters.emu2.safety import empty_checker

    with torch.device("meta"):
        model = Emu2(Emu2Config.official("gen"))
        unet = UNet2DConditionModel.from_config(dict(sdxl.UNET))
        vae = AutoencoderKL.from_config(dict(sdxl.VAE))
    checker = empty_checker()
    counts = {
        4_350_093_568: model.visual,
        32_532_564_480: model.decoder,
        2_525_520_644: unet,
        83_653_863: vae,
        303_981_588: checker,
    }
    for count, module in counts.items():
        assert sum(p.numel() for p in module.parameters()) == count
    bridges = (model.project_up, model.project_down)
    assert sum(p.numel() for m in bridges for p in m.parameters()) == 23_855_104
    assert [len(m.state_dict()) for m in (unet, vae, checker)] == [1680, 248, 396]
    native = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert native["visual.blocks.63.attn.qkv.weight"] == (5376, 1792)
    assert native["visual.blocks.0.mlp.fc2.weight"] == (1792, 15360)
    assert native["decoder.lm.model.layers.59.mlp.down_proj.weight"] == (6656, 17920)
    assert native["decoder.lm.lm_head.weight"] == (32272, 6656)
    assert len(native) == 4 + 64 * 13 + 60 * 9 + 3 + 2
    # Each layout's names map to these one to one.
    for layout in (list(native), list(hub_names(native))):
        assert [encoder_key(key) for key in layout] == list(native)
    assert unet.state_dict()["add_embedding.linear_1.weight"].shape == (1280, 3328)
    assert checker.state_dict()["vision_model.pre_layrnorm.weight"].shape == (1024,)


def test_golden_keys(meta: dict[str, Any]) -> None:
    keys = [k.removeprefix("multimodal_encoder.") for k in meta["gen"]["keys"]]
    encoder = {k for k in keys if not k.startswith(("unet.", "vae."))}
    assert {k for k in map(encoder_key, encoder) if k} == {
        k for k in map(encoder_key, meta["base"]["keys"]) if k
    }


@pytest.fixture
def saved(base: Any, tmp_path: Path) -> Path:
    save_folder(tmp_path / "model", base.model)
    return tmp_path / "model"


def rewrite(folder: Path, change: Callable[[State], State]) -> None:
    from safetensors.torch import load_file

    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")


def says(error: UserError, *words: str) -> None:
    for word in words:
        assert word in str(error), str(error)


def test_missing_and_unknown_weights(saved: Path) -> None:
    def change(state: State) -> State:
        state["visual.norm.weight"] = state.pop("project_down.weight")
        del state["visual.cls_token"]
        return state

    rewrite(saved, change)
    with pytest.raises(ModelError) as caught:
        load_model(open_checkpoint(saved), dtype=FP32)
    says(
        caught.value, "2 are missing", "project_down.weight", "1 are unknown", "visual.norm", "try:"
    )


@pytest.mark.parametrize(
    "named",
    [
        {"num_hidden_layers": 10**9},
        {"vision": {"layers": 10**20}},
        {"layers_per_block": [2, 10**9]},
        {"transformer_layers_per_block": [[1, 1e308]]},
        {"depths": [3, 10**9]},
        {"num_local_experts": 10**9},
    ],
)
def test_more_layers_than_anyone_can_build(tmp_path: Path, named: Any) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"block_out_channels": [320, 1280], "max_depth": 80, **named}))
    with pytest.raises(ModelError, match="exceeds 1,000, which is implausible") as caught:
        read_json(file)
    assert str(file) in str(caught.value)


def test_an_adapter_beside_the_weights_is_named(saved: Path) -> None:
    (saved / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError) as caught:
        open_checkpoint(saved)
    says(caught.value, "adapter_config.json", "next to the base weights", "merge")


def test_wrong_shapes(saved: Path) -> None:
    def change(state: State) -> State:
        return state | {"project_down.weight": torch.zeros(32, 40)}

    rewrite(saved, change)
    with pytest.raises(ModelError) as caught:
        load_model(open_checkpoint(saved), dtype=FP32)
    says(caught.value, "project_down.weight", "(32, 40)", "(32, 48)")


@pytest.mark.parametrize("kept", [0, 5, 200, 100_000])
def test_truncated_safetensors(saved: Path, kept: int) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError) as caught:
        open_checkpoint(saved)
    says(caught.value, str(file), "download the file again")
    if kept > 50_000:
        says(caught.value, "truncated: it has 100,000 of")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]},
        {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": "04"},
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
        [1],
        None,
    ],
)
def test_damaged_headers(tmp_path: Path, entry: Any) -> None:
    file = tmp_path / "model.safetensors"
    header = json.dumps({"project_up.weight": entry}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"0000")
    with pytest.raises(ModelError) as caught:
        open_checkpoint(file)
    says(caught.value, str(file))


@pytest.mark.parametrize("kept", [0, 3, 1000])
def test_truncated_pickles(base: Any, tmp_path: Path, kept: int) -> None:
    file = native_bin(tmp_path, base.model, None)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError, match="cannot be read"):
        open_checkpoint(file)


class Code:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/emu2eval-was-here",)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_with_code_are_not_run(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "model.bin"
    torch.save({"a": Code()}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match="contains code"):
        open_checkpoint(file)
    assert not Path("/tmp/emu2eval-was-here").exists()


def test_an_index_that_names_a_missing_shard(base: Any, tmp_path: Path) -> None:
    hub_safetensors(tmp_path, base.model, None)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelError, match=r"names model-00002-of-00003\.safetensors, which is mis"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/../../b", "c:\\b"])
def test_an_index_that_leaves_its_folder(tmp_path: Path, name: str) -> None:
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": name}})
    with pytest.raises(ModelError, match="outside its folder"):
        open_checkpoint(tmp_path)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not an Emu2 checkpoint"):
        open_checkpoint(tmp_path)
    (error,) = built(tmp_path / "nothing").lacks()
    assert "no checkpoint found" in str(error)
    (tmp_path / "model.safetensors.index.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        open_checkpoint(tmp_path)


def test_half_precision_images(base: Any, decoder_parts: Any, tmp_path: Path) -> None:
    opened = open_checkpoint(own_folder(tmp_path, base.model, decoder_parts))
    with pytest.raises(ModelError, match="float16"):
        load_painter(opened, dtype=torch.float16, device="cpu")


def test_models_without_a_visual_decoder(saved: Path) -> None:
    with pytest.raises(ModelError, match="no unet, so it cannot generate images"):
        load_painter(open_checkpoint(saved), dtype=FP32)


def test_unknown_scheduler(base: Any, decoder_parts: Any, tmp_path: Path) -> None:
    folder = own_folder(tmp_path, base.model, decoder_parts)
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": "os.system"})
    with pytest.raises(ModelError, match=r"has no scheduler 'os\.system'"):
        load_painter(open_checkpoint(folder), dtype=FP32)


def test_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = {}

    def offline(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        raise ConnectionError("no network\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ModelError) as caught:
        built(Path("BAAI/Emu2-Chat"), revision="abc").fetch()
    says(
        caught.value,
        "no network",
        "hf download BAAI/Emu2-Chat --revision abc --local-dir Emu2-Chat",
    )
    assert asked["revision"] == "abc"
    assert not [p for p in asked["allow_patterns"] if p.endswith((".py", ".bin", "*"))]


def test_pickles_of_the_hub_where_there_is_nothing_else(
    monkeypatch: pytest.MonkeyPatch, base: Any, tmp_path: Path
) -> None:
    import huggingface_hub

    def snapshot(name: str, allow_patterns: list[str], **_: Any) -> str:
        if "*.bin" in allow_patterns:
            hub_bin(tmp_path, base.model, None)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    built(Path("BAAI/Emu2")).fetch()
    assert len(open_checkpoint(tmp_path).files()) == 3


def test_saving_never_writes_over_a_folder(saved: Path, base: Any) -> None:
    with pytest.raises(ModelError, match="already exists"):
        save_folder(saved, base.model)


def test_constants_are_those_of_the_documentation() -> None:
    assert files.WHOLE == 64 << 20


def test_tensors_are_read_in_parts_one_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {
        f"t{i}": torch.randn(40 * i, 33, generator=torch.Generator().manual_seed(i)).to(dtype)
        for i, dtype in enumerate((torch.float32, torch.bfloat16, torch.float64, torch.float16))
    }
    file = tmp_path / "model.safetensors"
    save_file(state, file)
    stored = {tensor.key: tensor for tensor in tensorfile.read_tensor_list(file)}
    read: list[str] = []
    plain = tensorfile._read
    monkeypatch.setattr(
        tensorfile, "_read", lambda one, *rest: read.append(one.key) or plain(one, *rest)
    )
    monkeypatch.setattr(tensorfile, "PART", 2048)
    order, seen = sorted(stored, key=lambda key: stored[key].start), []
    for name, tensor in tensorfile.stream(stored.items()):
        assert torch.equal(tensor, state[name])
        seen.append(name)
        assert set(read) <= set(order[: len(seen) + 1])
    assert seen == order
    assert max(map(read.count, read)) == tensorfile.READERS and read.count("t0") == 0
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(ModelError, match=f"ends within {order[-1]}"):
        list(tensorfile.stream(stored.items()))
