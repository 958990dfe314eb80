"""Inception-v3 as FID was defined with it: the network of 2015-12-05, its last pooled features (2048,).

Weights come from a local file: torch-fidelity's and pytorch-fid's port of the TensorFlow graph
(`pt_inception-2015-12-05-6726825d.pth`, `weights-inception-2015-12-05-6726825d.pth`), or the same tensors
as .safetensors. It differs from torchvision's network in what is averaged at an image's edge, and in the
last block, which takes the largest value where the others average.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emu2eval.encoders.base import Encoder, Vectors
from emu2eval.encoders.together import ROWS, together
from emu2eval.errors import MissingExtra, ModelError, UserError
from emu2eval.media import images
from emu2eval.types import Image

if TYPE_CHECKING:
    import torch

WIDTH = 2048
SIDE = 299
ENDINGS = (".pth", ".pt", ".safetensors")


class InceptionEncoder(Encoder):
    """crop: the short side is resized to so many pixels (bilinear, Pillow) and a square cut out of the
    middle; None = the whole image. Then 299 x 299, bilinear: antialias as torchmetrics does it, False as
    the original did.
    """

    def __init__(self, path: str, crop: int | None = 256, antialias: bool = True):
        self.path = Path(path).expanduser()
        self.name = self.path.stem
        self.crop = crop
        self.antialias = antialias

    def lacks(self) -> list[UserError]:
        found = MissingExtra.of(("torch",), "images", why="FID")
        if not self.path.is_file():
            found.append(
                ModelError(
                    "the Inception network for FID is missing",
                    where=self.path,
                    hint="get pt_inception-2015-12-05-6726825d.pth from "
                    "github.com/mseitzer/pytorch-fid/releases, "
                    "or omit this metric: --set task.score.options.fid=null",
                )
            )
        return found

    @cached_property
    def device(self) -> torch.device:
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def identity(self) -> Mapping[str, Any]:
        return {
            "encoder": "inception-v3",
            "weights": self._digest,
            "crop": self.crop,
            "antialias": self.antialias,
            "rows": ROWS,
        }

    def prepare(self, image: Image) -> Any:
        """(3, height, width) uint8."""
        from PIL import Image as PILImage

        pixels = images.load(image)
        if self.crop is not None:
            scale = self.crop / min(pixels.size)
            width, height = (max(self.crop, int(side * scale)) for side in pixels.size)
            pixels = pixels.resize((width, height), PILImage.Resampling.BILINEAR)
            left, top = round((width - self.crop) / 2), round((height - self.crop) / 2)
            pixels = pixels.crop((left, top, left + self.crop, top + self.crop))
        return np.asarray(pixels, dtype=np.uint8).transpose(2, 0, 1)

    def encode(self, prepared: Sequence[Any]) -> Vectors:
        import torch

        from emu2eval.adapters.local.devices import exact_convolutions

        with torch.inference_mode(), exact_convolutions():
            sized = [
                (self._sized(torch.from_numpy(np.ascontiguousarray(pixels)[None]))[0],)
                for pixels in prepared
            ]
            found = together(sized, self._network)
            return np.asarray(found.float().cpu().numpy(), dtype=np.float32)

    def close(self) -> None:
        self.__dict__.pop("_network", None)

    def _sized(self, pixels: torch.Tensor) -> torch.Tensor:
        """(1, 3, height, width) uint8 -> (1, 3, 299, 299) from -1 to 1."""
        given = pixels.to(self.device).float()
        sized = _resized(given) if self.antialias else _as_tensorflow(given)
        return (sized - 128) / 128

    @cached_property
    def _digest(self) -> str:
        with self.path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()

    @cached_property
    def _network(self) -> Any:
        network = build()
        wanted = network.state_dict()
        given = {key: tensor for key, tensor in _tensors(self.path).items() if key[:3] != "fc."}
        lacking = [
            key
            for key, tensor in wanted.items()
            if not key.endswith("num_batches_tracked")
            and (key not in given or given[key].shape != tensor.shape)
        ]
        if lacking:
            raise ModelError(
                f"not the Inception-v3 network for FID: {lacking[0]} is missing or has another "
                f"shape ({len(lacking)} such tensors)",
                where=self.path,
                hint="get pt_inception-2015-12-05-6726825d.pth from github.com/mseitzer/pytorch-fid/releases",
            )
        network.load_state_dict({key: given.get(key, tensor) for key, tensor in wanted.items()})
        return network.to(self.device).eval()


def _tensors(path: Path) -> Mapping[str, Any]:
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Tensors alone: nothing in the file is run.
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch hands on what pickle, zip files and the system raise about a file of another kind.
        raise _unreadable(path, error) from None
    if not isinstance(found, dict):
        raise _unreadable(path, TypeError(f"it contains a {type(found).__name__}"))
    return found


def _unreadable(path: Path, error: Exception) -> ModelError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return ModelError(
        f"cannot read the Inception network for FID: {reason}",
        where=path,
        hint="it must be a .pth or .safetensors file of named tensors",
    )


def _resized(given: torch.Tensor) -> torch.Tensor:
    """(1, 3, height, width) -> (1, 3, 299, 299), bilinear with antialiasing."""
    from torch.nn.functional import interpolate

    return interpolate(given, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)


def _as_tensorflow(given: torch.Tensor) -> torch.Tensor:
    """As `_resized`, like TensorFlow 1: without antialiasing, its grid begun at the corner.

    Position i of the result is i x size / 299 of the image, and not the middle of its pixel.
    """
    import torch

    for axis in (2, 3):
        size = given.shape[axis]
        at = torch.arange(SIDE, dtype=torch.float32, device=given.device) * (size / SIDE)
        low = at.floor().long().clamp(max=size - 1)
        high = (low + 1).clamp(max=size - 1)
        shape = [-1 if place == axis else 1 for place in range(4)]
        part = (at - low).reshape(shape)
        given = given.index_select(axis, low) * (1 - part) + given.index_select(axis, high) * part
    return given


def build() -> Any:
    """The network with random weights: (n, 3, 299, 299) -> (n, 2048). Tensors go by torchvision's names."""
    import torch
    from torch import nn
    from torch.nn.functional import avg_pool2d, max_pool2d, relu

    class Conv(nn.Module):
        def __init__(self, given: int, made: int, size: Any, stride: int = 1, padding: Any = 0):
            super().__init__()
            self.conv = nn.Conv2d(given, made, size, stride, padding, bias=False)
            self.bn = nn.BatchNorm2d(made, eps=0.001)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return relu(self.bn(self.conv(x)), inplace=True)

    class Block(nn.Module):
        """Branches side by side, each of steps; a step is one convolution, or two beside each other.

        pool: what the branch `branch_pool` begins with over 3 x 3, an average or the largest; "alone" = the
        largest, at every second place, is a branch by itself.
        """

        def __init__(self, given: int, *branches: Sequence[dict[str, Any]], pool: str = "average"):
            super().__init__()
            self.branches = [[list(step) for step in branch] for branch in branches]
            self.pool = pool
            for branch in branches:
                width = given
                for step in branch:
                    for name, options in step.items():
                        self.add_module(name, Conv(width, *options))
                    width = next(iter(step.values()))[0]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found = []
            for branch in self.branches:
                y = self._pooled(x) if branch[0] == ["branch_pool"] else x
                for names in branch:
                    y = torch.cat([getattr(self, name)(y) for name in names], 1)
                found.append(y)
            if self.pool == "alone":
                found.append(max_pool2d(x, 3, 2))
            return torch.cat(found, 1)

        def _pooled(self, x: torch.Tensor) -> torch.Tensor:
            if self.pool == "largest":
                return max_pool2d(x, 3, 1, 1)
            return avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def steps(start: str, *options: tuple[Any, ...]) -> list[dict[str, Any]]:
        return [{f"{start}_{number}": given} for number, given in enumerate(options, 1)]

    def a(given: int, pooled: int) -> Block:
        return Block(
            given,
            [{"branch1x1": (64, 1)}],
            steps("branch5x5", (48, 1), (64, 5, 1, 2)),
            steps("branch3x3dbl", (64, 1), (96, 3, 1, 1), (96, 3, 1, 1)),
            [{"branch_pool": (pooled, 1)}],
        )

    def b(given: int) -> Block:
        return Block(
            given,
            [{"branch3x3": (384, 3, 2)}],
            steps("branch3x3dbl", (64, 1), (96, 3, 1, 1), (96, 3, 2)),
            pool="alone",
        )

    wide, tall = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))

    def c(given: int, n: int) -> Block:
        return Block(
            given,
            [{"branch1x1": (192, 1)}],
            steps("branch7x7", (n, 1), (n, *wide), (192, *tall)),
            steps("branch7x7dbl", (n, 1), (n, *tall), (n, *wide), (n, *tall), (192, *wide)),
            [{"branch_pool": (192, 1)}],
        )

    def d(given: int) -> Block:
        return Block(
            given,
            steps("branch3x3", (192, 1), (320, 3, 2)),
            steps("branch7x7x3", (192, 1), (192, *wide), (192, *tall), (192, 3, 2)),
            pool="alone",
        )

    def e(given: int, pool: str) -> Block:
        def both(name: str) -> dict[str, Any]:
            return {f"{name}a": (384, (1, 3), 1, (0, 1)), f"{name}b": (384, (3, 1), 1, (1, 0))}

        return Block(
            given,
            [{"branch1x1": (320, 1)}],
            [{"branch3x3_1": (384, 1)}, both("branch3x3_2")],
            [*steps("branch3x3dbl", (448, 1), (384, 3, 1, 1)), both("branch3x3dbl_3")],
            [{"branch_pool": (192, 1)}],
            pool=pool,
        )

    layers: dict[str, nn.Module] = {
        "Conv2d_1a_3x3": Conv(3, 32, 3, 2),
        "Conv2d_2a_3x3": Conv(32, 32, 3),
        "Conv2d_2b_3x3": Conv(32, 64, 3, 1, 1),
        "pool_1": nn.MaxPool2d(3, 2),
        "Conv2d_3b_1x1": Conv(64, 80, 1),
        "Conv2d_4a_3x3": Conv(80, 192, 3),
        "pool_2": nn.MaxPool2d(3, 2),
        "Mixed_5b": a(192, 32),
        "Mixed_5c": a(256, 64),
        "Mixed_5d": a(288, 64),
        "Mixed_6a": b(288),
        "Mixed_6b": c(768, 128),
        "Mixed_6c": c(768, 160),
        "Mixed_6d": c(768, 160),
        "Mixed_6e": c(768, 192),
        "Mixed_7a": d(768),
        "Mixed_7b": e(1280, "average"),
        "Mixed_7c": e(2048, "largest"),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
    }
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    return network
