"""Placements on paper, and that a placed model gives the same numbers as one that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from emu2eval.adapters.emu2.adapter import Emu2Adapter
from emu2eval.adapters.emu2.checkpoint import load_model, open_checkpoint
from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.emu2.hardware import chosen, placed
from emu2eval.adapters.emu2.placement import measured, plan
from emu2eval.adapters.emu2.saving import save_folder
from emu2eval.adapters.emu2.settings import Emu2Settings
from emu2eval.adapters.local.placement import Demand, Placement, place
from emu2eval.adapters.machine import Machine
from emu2eval.adapters.memory import GIB, gib, parse_memory
from emu2eval.errors import ConfigError, ModelError

BASE = Emu2Config.official("base")
CHAT = Emu2Config.official("chat")
GEN = Emu2Config.official("gen")


def test_chat_on_four_24_gib_cards() -> None:
    placed = plan(CHAT, "4x24GiB", positions=1500, batch=2, beams=5, new_tokens=10)
    assert placed.main == 0 and placed.painter is None and not placed.offloaded
    for use in placed.devices:
        assert use.budget is not None
        assert use.total <= use.budget
        assert use.total == use.weights + use.cache + use.activations + use.reserve
    parameters = 4_350_093_568 + 32_532_564_480 + 2 * 2 * 6656 + 23_855_104
    assert sum(use.weights for use in placed.devices) == 2 * parameters
    # Keys and values of 2 requests: 1,490 positions of the prompt with room for 64 more, and 5 times 10 of
    # the answer with room for 8 more. One more prompt is remembered.
    positions = 2 * (1490 + 64 + 5 * (10 + 8)) + 1490
    assert sum(use.cache for use in placed.devices) == positions * 60 * 2 * 6656 * 2


def test_blocks_stay_whole_and_in_order() -> None:
    placed = plan(CHAT, "4x24GiB", positions=1500)
    blocks = [f"visual.blocks.{i}" for i in range(64)]
    blocks += [f"decoder.lm.model.layers.{i}" for i in range(60)]
    devices = [placed.device_map[name] for name in blocks]
    assert devices == sorted(devices, key=int)
    for name in ("embed_tokens", "norm"):
        assert placed.device_map[f"decoder.lm.model.{name}"] == 0
    assert placed.device_of("decoder.lm.lm_head.weight") == 0
    assert placed.device_of("visual.cls_token") == placed.device_of("project_down.weight") == 0
    assert placed.device_of("decoder.lm.model.layers.59.mlp.up_proj.weight") == devices[-1]


def test_headroom_is_shared() -> None:
    uses = plan(BASE, "4x40GiB", positions=500).devices
    fullness = [use.total / use.budget for use in uses if use.budget]
    assert max(fullness) - min(fullness) < 0.1


def test_the_visual_decoder_counts() -> None:
    placed = plan(GEN, "5x24GiB", positions=300)
    assert placed.painter in range(5)
    whole = sum(use.weights for use in placed.devices)
    text_only = sum(use.weights for use in plan(BASE, "5x24GiB", positions=300).devices)
    assert whole - text_only == 2 * (2_525_520_644 + 83_653_863)
    uneven = plan(GEN, "8GiB,24GiB,24GiB,24GiB,24GiB", positions=300)
    assert uneven.painter == 1


def test_a_small_visual_decoder_counts_as_what_it_is(meta: dict[str, Any], base: Any) -> None:
    small = {"unet": meta["gen"]["unet"], "vae": meta["gen"]["vae"]}
    placed = plan(base.config, "cpu:1GiB", positions=64, dtype=torch.float32, painter=small)
    assert placed.painter == "cpu"
    counted = plan(base.config, "cpu:1GiB", positions=64, dtype=torch.float32)
    (with_painter,), (without,) = placed.devices, counted.devices
    names = [name for name in meta["gen"]["keys"] if name.startswith(("unet.", "vae."))]
    shapes = [torch.Size(meta["gen"]["keys"][name]) for name in names]
    assert with_painter.weights - without.weights == 4 * sum(s.numel() for s in shapes)
    with pytest.raises(ModelError, match="cannot be made from its configuration"):
        plan(base.config, "cpu:1GiB", positions=64, painter={"unet": {"block_out_channels": [1]}})
    with pytest.raises(ModelError, match="visual decoder cannot be made"):
        text = {**small, "unet": {**small["unet"], "sample_size": "x"}}
        plan(base.config, "cpu:1GiB", positions=64, painter=text)


def test_offload_to_the_cpu_then_the_disk() -> None:
    placed = plan(CHAT, "24GiB,cpu:20GiB,disk", positions=800)
    assert placed.offloaded == ("cpu", "disk")
    uses = {use.device: use for use in placed.devices}
    assert uses["cpu"].cache == uses["disk"].cache == 0
    assert uses["cpu"].weights <= 20 * GIB and uses["disk"].budget is None
    assert uses[0].total <= 24 * GIB
    # Keys and values of offloaded blocks live where these run; one more prompt is remembered.
    assert uses[0].cache == (2 * 800 + 64) * 60 * 2 * 6656 * 2


def test_quantised_weights_are_smaller() -> None:
    def weights(bits: Any) -> int:
        return sum(u.weights for u in plan(BASE, "2x80GiB", positions=10, quantize=bits).devices)

    layers = 60 * (4 * 6656**2 + 3 * 6656 * 17920)
    assert weights(None) - weights(8) == pytest.approx(layers, rel=1e-3)
    assert weights(None) - weights(4) == pytest.approx(layers * (1.5 - 4 / 64), rel=1e-3)


def test_what_does_not_fit_says_what_would() -> None:
    with pytest.raises(ModelError) as caught:
        plan(BASE, "80GiB", positions=2048, batch=4, beams=5, new_tokens=10)
    text = str(caught.value)
    assert "weights 68.7 GiB" in text and "available memory 80.0 GiB" in text
    assert "8-bit" in text and "batch 1" in text and "cpu:64GiB" in text
    extra = float(text.partition("add ")[2].partition(" GiB")[0])
    enough = {0: int((80 + extra + 0.05) * GIB)}
    plan(BASE, enough, positions=2048, batch=4, beams=5, new_tokens=10)
    with pytest.raises(ModelError):
        plan(
            BASE,
            {0: int((80 + extra - 0.15) * GIB)},
            positions=2048,
            batch=4,
            beams=5,
            new_tokens=10,
        )


def test_a_cpu_alone() -> None:
    placed = plan(BASE, "cpu:200GiB", positions=100, dtype=torch.float32)
    assert set(placed.device_map.values()) == {"cpu"} and not placed.offloaded
    assert [use.reserve for use in placed.devices] == [0]


@pytest.mark.parametrize(
    "text, budgets",
    [
        ("24GiB,24GiB", {0: 24 * GIB, 1: 24 * GIB}),
        ("3x80GB", {0: 80 * 10**9, 1: 80 * 10**9, 2: 80 * 10**9}),
        ("0:1gib, 1:512MiB", {0: GIB, 1: GIB // 2}),
        ("cpu:1.5GiB, 24GiB", {0: 24 * GIB, "cpu": 3 * GIB // 2}),
    ],
)
def test_memory_as_people_write_it(text: str, budgets: dict[Any, int]) -> None:
    assert parse_memory(text) == budgets
    assert list(parse_memory(text)) == list(budgets)


@pytest.mark.parametrize(
    "text, words",
    [
        ("24", "'24' is not a memory size"),
        ("24GiB,big", "'big' is not a memory size"),
        ("0GiB", "is not a memory size"),
        ("", "names no computing device"),
        ("disk", "names no computing device"),
        ("24GiB,cpu", "cpu needs a size"),
        ("24GiB,gpu:2GiB", "'gpu' is not the next device"),
        ("1:24GiB", "'1' is not the next device"),
        ("cpu:1GiB,cpu:1GiB", "names cpu twice"),
    ],
)
def test_bad_memory(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_memory(text)
    assert words in str(caught.value) and "try:" in str(caught.value)


def test_sizes_are_shown_in_gib() -> None:
    assert gib(int(14.2 * GIB)) == "14.2 GiB"


# --- placed models -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(base: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("placed") / "model"
    save_folder(path, base.model)
    return path


def spread(config: Emu2Config, device: str, every: int) -> Placement:
    """Every so-many-th block on a device, the rest on the CPU."""
    whole = plan(config, "cpu:1GiB", positions=10, dtype=torch.float32)
    blocks = [n for n in whole.device_map if ".blocks." in n or ".layers." in n]
    device_map = {**whole.device_map, **dict.fromkeys(blocks[::every], device)}
    return Placement(device_map, "cpu", None, ())


def run(model: Any, base: Any) -> list[torch.Tensor]:
    features = model.encode_images(base["pixels"])
    ids = base["batch_input_ids"]
    embeds = model.embed(ids, ids == 32003, features.flatten(0, 1))
    hidden = model.read(embeds, base["batch_mask"].bool())
    return [features, hidden, model.logits(hidden[:, -1]), model.project_down(hidden)]


@pytest.mark.parametrize("every", [1, 2])
def test_a_model_on_two_devices_gives_the_same_numbers(folder: Path, base: Any, every: int) -> None:
    placement = spread(base.config, "disk", every)
    assert placement.offloaded == ("disk",)
    divided = load_model(open_checkpoint(folder), dtype=torch.float32, placement=placement)
    meta = {name for name, p in divided.named_parameters() if p.device.type == "meta"}
    assert any(".layers." in name for name in meta)
    for ours, plain in zip(run(divided, base), run(base.model, base), strict=True):
        assert torch.equal(ours, plain)
    assert {n for n, p in divided.named_parameters() if p.device.type == "meta"} == meta


def hooked(model: Any) -> set[str]:
    return {name for name, module in model.named_modules() if hasattr(module, "_hf_hook")}


def test_between_devices_only_hidden_states_move_at_a_cut(
    folder: Path, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = torch.device("cpu"), torch.device("cpu", 0)  # one device by two names
    placement = Placement({**spread(base.config, "cpu", 1).device_map}, "cpu", None, ())
    model = load_model(open_checkpoint(folder), dtype=torch.float32, placement=placement)
    assert not hooked(model)
    layers = list(model.decoder.lm.model.layers)
    cut = len(layers) // 2
    monkeypatch.setattr(
        "emu2eval.adapters.emu2.model.device_of",
        lambda module: far if module in layers[cut:] else near,
    )
    sent: list[tuple[int, ...]] = []
    plain = torch.Tensor.to

    def to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if far in args:
            sent.append(tuple(tensor.shape))
        return plain(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    for ours, theirs in zip(run(model, base), run(base.model, base), strict=True):
        assert torch.equal(ours, theirs)
    rows, length = base["batch_input_ids"].shape
    each = base.config.decoder.hidden_size // base.config.decoder.num_attention_heads
    mask, turn = (rows, 1, length, length), (rows, length, each)
    hidden = (rows, length, base.config.decoder.hidden_size)
    # Tensors on one device under its other name are never there, so that each layer asks for its own.
    assert sent[:3] == [mask, turn, turn] and set(sent[3:]) <= {hidden}


def test_hooks_are_for_what_rests_elsewhere_alone(folder: Path, base: Any) -> None:
    placement = spread(base.config, "disk", 2)
    model = load_model(open_checkpoint(folder), dtype=torch.float32, placement=placement)
    away = tuple(f"{n}." for n, device in placement.device_map.items() if device == "disk")
    assert hooked(model) and all(f"{name}.".startswith(away) for name in hooked(model))


@pytest.mark.parametrize("where", ["decoder.lm.model.layers", "visual"])
def test_a_part_that_rests_on_disk_as_a_whole(folder: Path, base: Any, where: str) -> None:
    placement = Placement({"": "cpu", where: "disk"}, "cpu", None, ())
    model = load_model(open_checkpoint(folder), dtype=torch.float32, placement=placement)
    for ours, plain in zip(run(model, base), run(base.model, base), strict=True):
        assert torch.equal(ours, plain)


def test_a_block_is_not_split(folder: Path) -> None:
    part = "decoder.lm.model.layers.1.mlp"
    placement = Placement({"": "cpu", part: "disk"}, "cpu", None, ())
    with pytest.raises(ConfigError, match=r"parts of decoder\.lm\S+1 on cpu and disk"):
        load_model(open_checkpoint(folder), dtype=torch.float32, placement=placement)


class StandIn(str):
    """A device like a GPU as far as placements can tell; torch takes it for the CPU."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StandIn)

    def __ne__(self, other: object) -> bool:
        return not self == other


def test_blocks_that_rest_in_host_memory(folder: Path, base: Any) -> None:
    gpu = StandIn("cpu")
    device_map: dict[str, Any] = {
        name: "cpu" if device == "disk" else gpu
        for name, device in spread(base.config, "disk", 2).device_map.items()
    }
    placement = Placement(device_map, gpu, None, ())
    assert placement.offloaded == ("cpu",)
    placed = load_model(open_checkpoint(folder), dtype=torch.float32, placement=placement)
    resting = {n for n, p in placed.named_parameters() if p.device.type == "meta"}
    assert any(".layers." in name for name in resting)
    away = {name for name, device in device_map.items() if device is not gpu}
    assert resting == {
        n for n, _ in placed.named_parameters() if n.startswith(tuple(f"{a}." for a in away))
    }
    for ours, plain in zip(run(placed, base), run(base.model, base), strict=True):
        assert torch.equal(ours, plain)


def test_a_pickle_is_offloaded_into_a_folder(base: Any, tmp_path: Path) -> None:
    import json

    file = tmp_path / "Emu2.bin"
    torch.save(base.model.state_dict(), file)
    (tmp_path / "config.json").write_text(json.dumps(base.config.to_json()))
    placement = spread(base.config, "disk", 1)
    with pytest.raises(ConfigError, match="needs a folder"):
        load_model(open_checkpoint(file), dtype=torch.float32, placement=placement)
    divided = load_model(
        open_checkpoint(file),
        dtype=torch.float32,
        placement=placement,
        offload_folder=tmp_path / "offload",
    )
    for ours, plain in zip(run(divided, base), run(base.model, base), strict=True):
        assert torch.equal(ours, plain)


def test_offloaded_weights_are_converted(folder: Path, base: Any) -> None:
    placement = spread(base.config, "disk", 1)
    opened = open_checkpoint(folder)
    divided = load_model(opened, dtype=torch.bfloat16, placement=placement)
    plain = load_model(opened, dtype=torch.bfloat16)
    for ours, theirs in zip(run(divided, base), run(plain, base), strict=True):
        assert torch.equal(ours, theirs)


def test_quantised_weights_are_not_offloaded(folder: Path, base: Any) -> None:
    pytest.importorskip("bitsandbytes", reason="8- and 4-bit weights need bitsandbytes")
    with pytest.raises(ConfigError, match="cannot be offloaded to disk"):
        load_model(
            open_checkpoint(folder),
            dtype=torch.float32,
            placement=spread(base.config, "disk", 2),
            quantize=8,
        )


# --- settings ------------------------------------------------------------------------------------


NO_GPU = Machine()


def asked(
    config: Emu2Config,
    machine: Machine = NO_GPU,
    *,
    memory: str | None = None,
    device_map: Any = None,
    **demand: Any,
) -> Placement | None:
    wanted = Demand(**{"positions": 64, "new_tokens": 4, **demand})
    dtype = torch.float32 if config.decoder.num_hidden_layers < 60 else torch.bfloat16
    budgets = chosen(config, memory, machine, wanted, dtype=dtype)
    return placed(config, budgets, device_map, wanted, dtype=dtype)


@pytest.mark.parametrize(
    "settings",
    [{}, {"device_map": "cpu"}, {"memory": "cpu:1GiB"}, {"device_map": {"": "cpu"}}],
)
def test_settings_become_a_model(folder: Path, base: Any, settings: Any) -> None:
    placement = asked(base.config, **settings)
    assert (placement is None) == (settings == {})
    model = load_model(open_checkpoint(folder), dtype=torch.float32, placement=placement)
    assert torch.equal(run(model, base)[2], run(base.model, base)[2])


@pytest.mark.parametrize(
    "gpus, demand, used",
    [
        # One card of 139 GB takes all of the context in batches; of 80 GB, only prompts of some shots.
        ([139] * 4, {"positions": 2048, "batch": 4, "beams": 5}, [0]),
        ([79] * 4, {"positions": 501, "batch": 8, "beams": 5}, [0]),
        ([79] * 4, {"positions": 2048, "batch": 4, "beams": 5}, [0, 1]),
        ([40] * 4, {}, [0, 1]),
        # The largest are taken, in their order; and where a batch fits nowhere, a request alone counts.
        ([24, 48, 24, 48], {}, [1, 3]),
        ([24, 79], {"positions": 2048, "batch": 64, "beams": 5}, [1]),
        ([26] * 4, {"batch": 2}, [0, 1, 2]),
    ],
)
def test_without_settings_the_fewest_gpus_are_used(
    gpus: list[int], demand: dict[str, Any], used: list[int]
) -> None:
    machine = Machine(tuple(size * GIB for size in gpus))
    wanted = Demand(**{"positions": 64, "new_tokens": 4, **demand})
    found = chosen(BASE, None, machine, wanted, dtype=torch.bfloat16)
    assert found == {i: machine.gpus[i] for i in used}


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"device_map": "tpu9000"}, "has no device 'tpu9000'; it has cpu"),
        ({"device_map": "cuda:99"}, "this machine has"),
        ({"memory": "99x24GiB"}, "is for 99 GPUs"),
        ({"device_map": {"": "disk"}}, "puts the embeddings on disk"),
        (
            {"device_map": {"": "cpu", "decoder.lm.lm_head": "disk"}},
            "puts decoder.lm.lm_head on disk",
        ),
    ],
)
def test_bad_settings(base: Any, settings: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        asked(base.config, **settings)
    assert words in str(caught.value)


MEASURED = {
    (1, 128): 69.3, (4, 128): 70.5, (8, 128): 72.0, (16, 128): 75.2, (32, 128): 81.4,
    (1, 501): 69.8, (4, 501): 72.7, (8, 501): 76.5, (16, 501): 84.0, (32, 501): 99.3,
    (1, 893): 70.4, (4, 893): 75.0, (8, 893): 81.2, (16, 893): 93.4, (32, 893): 117.9,
}  # fmt: skip
"""GiB at most on an H200 by batch and positions of the prompt, five beams: benchmarks/README.md."""


def test_plans_are_a_little_above_what_was_measured() -> None:
    for (batch, length), peak in MEASURED.items():
        need = measured(CHAT, torch.bfloat16, {})(Demand(length + 9, batch, 5, 9))
        taken = (need.weights + need.cache + need.activations(True, False)) / GIB
        assert peak <= taken <= 1.07 * peak, (batch, length, taken)


@pytest.mark.parametrize(
    "size, positions, batch", [(79.2, 128, 16), (79.2, 501, 8), (79.2, 893, 4), (139.8, 893, 32)]
)
def test_the_batch_is_the_largest_that_was_measured(
    size: float, positions: int, batch: int
) -> None:
    """On an H100 the next one ran out of memory; on an H200 the largest that was tried fitted."""
    need = measured(CHAT, torch.bfloat16, {})
    card = {0: int(size * GIB)}
    assert place(need(Demand(positions + 9, batch, 5, 9)), card) is not None
    if size < 100:
        assert place(need(Demand(positions + 9, 2 * batch, 5, 9)), card) is None


def test_split_layers_take_the_gpus_that_they_are_told() -> None:
    settings = Emu2Settings(checkpoint="BAAI/Emu2", tensor_parallel=4)
    fit = Emu2Adapter(settings).fit_replicas([80 * GIB] * 8)
    assert fit is not None and (fit.gpus, fit.replicas, fit.batch) == (4, 2, 256)
