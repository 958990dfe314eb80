"""The hub's parquet files: memory and time of a large pool whose images stay in the files.

400,000 rows in 8 shards with 2 KB of image bytes each (0.8 GB), 100 rows a row group, as the hub
stores sets of images. Reading and asking for images run in a process of their own on one core;
times are of its CPU.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS, SHARDS, IMAGE_BYTES, GROUP = 400_000, 8, 2_048, 100
DRAWN = 5_000


def write(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    each = ROWS // SHARDS
    noise = random.Random(0)
    for shard in range(SHARDS):
        numbers = range(shard * each, (shard + 1) * each)
        images = [{"bytes": noise.randbytes(IMAGE_BYTES), "path": f"{n}.jpg"} for n in numbers]
        table = pa.table(
            {
                "question_id": [f"{n:09d}" for n in numbers],
                "question": [f"What is number {n} doing in the image?" for n in numbers],
                "answer": ["yes" if n % 2 else "no" for n in numbers],
                "image": images,
            }
        )
        name = f"train-{shard:05d}-of-{SHARDS:05d}.parquet"
        pq.write_table(table, folder / name, row_group_size=GROUP)


def one(folder: Path) -> None:
    """Reads the pool and some images; prints what it took as JSON."""
    import resource

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from emu2eval.data.parquet import ParquetOptions, read
    from emu2eval.data.samples import Samples
    from emu2eval.media import images
    from emu2eval.types import Image

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before = peak()
    started = time.process_time()
    options = ParquetOptions(
        files="train-*.parquet", id="question_id", fields=["question"], cluster=False
    )
    pool = Samples(read(folder, options), where="train")
    reading = time.process_time() - started
    read_peak = peak()
    found: dict[str, float] = {}
    chance = random.Random(1)
    for name, indices in (
        ("order", range(DRAWN)),
        ("random", [chance.randrange(ROWS) for _ in range(DRAWN)]),
    ):
        started = time.process_time()
        for index in indices:
            (image,) = pool[index].images
            assert isinstance(image, Image)
            assert len(images.read(image)) == IMAGE_BYTES
        found[name] = (time.process_time() - started) / DRAWN * 1000
    print(
        json.dumps(
            {"before": before, "pool": read_peak, "all": peak(), "reading": reading, **found}
        )
    )


def main() -> None:
    if len(sys.argv) == 2:
        one(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        # Written by a process of its own: what it leaves in memory is not counted.
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import hub_parquet as h; "
        code += f"from pathlib import Path; h.write(Path({folder!r}))"
        subprocess.run([sys.executable, "-c", code], check=True)
        done = subprocess.run(
            [sys.executable, __file__, folder], check=True, capture_output=True, text=True
        )
    found = json.loads(done.stdout.splitlines()[-1])
    held = ROWS * IMAGE_BYTES / 2**20
    print(
        f"{ROWS:,} samples read in {found['reading']:.1f} s of CPU; peak {found['pool']:,.0f} MiB, "
        f"{found['all']:,.0f} MiB after {2 * DRAWN:,} images"
    )
    print(f"an image: {found['order']:.2f} ms in order, {found['random']:.2f} ms at random")
    grown = found["all"] - found["before"]
    print(f"memory taken / bytes of all images: {grown / held:.2f}   (to stay under 1)")


if __name__ == "__main__":
    main()
