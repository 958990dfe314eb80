"""Host memory of loading a checkpoint: the peak above what the process had, as ratios of file sizes.

A synthetic float32 checkpoint of some 400 MB in shards, and the same as one pickle, is loaded as
bfloat16, each case in a process of its own. torch's "meta" device stands for a GPU: what arrives there
has left the host, so that only what streaming itself holds is seen; a real GPU adds the current tensor in
its final dtype. Pickles are mapped: up to 256 MiB of their pages count while they are read. Linux only.

    python benchmarks/emu2_loading.py [--layers 8]
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from emu2eval.adapters.emu2.checkpoint import load_model, open_checkpoint
from emu2eval.adapters.emu2.config import DecoderConfig, Emu2Config, VisionConfig
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.local.placement import Placement

SHARDS = 4
MB = 1_000_000


def write(folder: Path, layers: int) -> None:
    """The checkpoint twice: `sharded/` as the Hugging Face folders are, `pickle/` as the native file."""
    config = Emu2Config(
        VisionConfig(image_size=56, width=64, layers=2, head_width=16, mlp_ratio=4.0),
        DecoderConfig(1024, 2752, 8, layers, 2000),
        n_query=4,
        v_query=4,
    )
    state = {name: tensor.contiguous() for name, tensor in Emu2(config).state_dict().items()}
    for kind in ("sharded", "pickle"):
        (folder / kind).mkdir()
        (folder / kind / "config.json").write_text(json.dumps(config.to_json()))
    torch.save(state, folder / "pickle" / "Emu2_pytorch_model.bin")
    weight_map: dict[str, str] = {}
    names = list(state)
    for shard in range(SHARDS):
        file = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        part = names[shard * len(names) // SHARDS : (shard + 1) * len(names) // SHARDS]
        save_file(
            {f"model.{n}" if "project" not in n else n: state[n] for n in part},
            folder / "sharded" / file,
        )
        weight_map |= dict.fromkeys(part, file)
    (folder / "sharded" / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": weight_map})
    )


def status(field: str) -> int:
    """Bytes of a field of /proc/self/status: VmRSS (now) or VmHWM (the peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def measure(path: Path, device: str) -> int:
    """The peak of resident memory while loading, above what was resident before; bytes."""
    torch.set_num_threads(1)
    # What every process has once, such as modules that are imported on first use.
    for module in ("emu2eval.adapters.emu2.loading", "accelerate.hooks", "accelerate.utils"):
        importlib.import_module(module)
    with torch.device("meta"):
        Emu2(open_checkpoint(path).config)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    placement = Placement({"": device}, device, None, ())
    model = load_model(open_checkpoint(path), dtype=torch.bfloat16, placement=placement)
    peak = status("VmHWM") - before
    assert model.project_up.weight.device.type == device
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--measure", nargs=2, metavar=("PATH", "DEVICE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        path, device = arguments.measure
        print(measure(Path(path), device))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, arguments.layers)
        shards = [f.stat().st_size for f in (folder / "sharded").glob("*.safetensors")]
        pickle = folder / "pickle" / "Emu2_pytorch_model.bin"
        whole, largest = sum(shards), max(shards)
        stored = open_checkpoint(folder / "sharded").parts["encoder"].values()
        tensor = max(t.nbytes for t in stored)
        print(
            f"checkpoint {whole / MB:,.0f} MB in {SHARDS} shards, the largest {largest / MB:,.0f} MB; "
            f"largest tensor {tensor / MB:,.1f} MB; as bfloat16 {whole / 2 / MB:,.0f} MB"
        )
        print(f"{'':28}{'peak':>10}{'of largest shard':>18}{'of bf16 model':>15}")
        for title, path, device in (
            ("shards to a GPU", folder / "sharded", "meta"),
            ("shards to the CPU", folder / "sharded", "cpu"),
            ("pickle to the CPU", pickle, "cpu"),
        ):
            command = [sys.executable, __file__, "--measure", str(path), device]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peak = int(done.stdout)
            shown = f"{peak / MB:,.0f} MB"
            print(f"{title:28}{shown:>10}{peak / largest:>18.2f}{peak / (whole / 2):>15.2f}")


if __name__ == "__main__":
    main()
