"""Scoring images: images/s through a tiny CLIP with a cold and a warm cache; FID's seconds and memory.

    python benchmarks/image_scores.py [--images 30000] [--features 5000]

Each part runs in a process of its own, so that each peak is its own. A real CLIP takes far longer a
image; what is measured is all that stands around it.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 2048
PARTS = ("cold", "warm", "fid")


def peak() -> float:
    """MiB of this process so far, at the most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(what: str, work: Callable[[], Any], count: int | None = None) -> Any:
    started, before = time.perf_counter(), peak()
    found = work()
    seconds = time.perf_counter() - started
    rate = f", {count / seconds:,.0f} images/s" if count else ""
    grown = peak() - before
    print(
        f"{what:<34}{seconds:8.2f} s{rate}; peak {peak():,.0f} MiB, {grown:,.0f} more than before"
    )
    return found


def draw(folder: Path, count: int) -> None:
    """PNG files of 32 x 32 pixels, no two alike."""
    from PIL import Image as PILImage

    chance = np.random.default_rng(0)
    for number in range(count):
        pixels = chance.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        PILImage.fromarray(pixels).save(folder / f"{number}.png", compress_level=0)


def score(folder: Path, count: int) -> None:
    from emu2eval.scorers.images import Images, ImagesSettings
    from emu2eval.scorers.likeness import LikenessSettings
    from emu2eval.types import Image, Response, Sample

    clip = LikenessSettings(encoder=str(folder / "clip"))
    scorer = Images(ImagesSettings(clip_i=clip, clip_t=clip))
    timed("is the encoder usable", scorer.lacks)
    real = Image(str(folder / "0.png"))
    given = [
        (
            Sample(str(number), references=(real, f"caption {number % 1000}")),
            Response(images=(Image(str(folder / f"{number}.png")),)),
        )
        for number in range(count)
    ]
    timed("features", lambda: scorer.prepare(iter(given)), count)
    timed("scores", lambda: [scorer.score(*each) for each in given], count)


def fid(folder: Path, count: int) -> None:
    from emu2eval.encoders.base import Encoder, Vectors
    from emu2eval.scorers.frechet import Frechet, FrechetDistance, FrechetSettings
    from emu2eval.types import Sample, Score

    class Given(Encoder):
        """Vectors drawn by chance, in the place of Inception's."""

        name = "given"

        def identity(self) -> dict[str, Any]:
            return {"encoder": "given"}

        def encode(self, prepared: Sequence[Any]) -> Vectors:
            return np.stack([chance.normal(size=WIDTH).astype(np.float32) for _ in prepared])

    chance = np.random.default_rng(0)
    made, real = ([f"{side}{n:063x}" for n in range(count)] for side in "01")
    import torchmetrics.image.fid  # noqa: F401 (what it takes to import is not what is measured)

    frechet = Frechet(FrechetSettings(network="given"))
    frechet.encoder = Given()
    frechet.kept.fill(dict.fromkeys([*made, *real]))
    distance = FrechetDistance(frechet)
    for digest in made:
        distance.add(Sample(digest), Score(1.0, details={"image": digest}))
    distance.real = dict.fromkeys(real)
    value = timed(f"FID of {count:,} x {WIDTH:,}", distance.value)
    timed("what each image moves it by", distance.influences)
    print(f"FID {value:.6f}")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--images", type=int, default=5000)
    asked.add_argument("--features", type=int, default=5000)
    asked.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    asked.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.part == "fid":
        fid(given.folder, given.features)
        return
    if given.part is not None:
        score(given.folder, given.images)
        return
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests import tiny_models

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_models.clip(folder / "clip")
        draw(folder, given.images)
        for part in PARTS:
            print(f"-- {part}", flush=True)
            command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
            command += [f"--images={given.images}", f"--features={given.features}"]
            cache = {"EMU2EVAL_CACHE": str(folder / "cache")}
            subprocess.run(command, check=True, env={**os.environ, **cache})


if __name__ == "__main__":
    main()
