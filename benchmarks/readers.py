"""Readers of one's own data at 100,000 images: CPU time and memory of reading a whole set, by reader.

Each reads in a process of its own. Embedded images have no ids here, so that their bytes are read, too.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

COUNT, CLASSES = 100_000, 100

READ: dict[str, tuple[str, str, dict[str, Any]]] = {
    "image-folder": ("image-folder", "classes", {"split": {"name": "test"}}),
    "table": ("table", ".", {"files": "t.jsonl", "folder": "classes"}),
    "table, drawn": (
        "table",
        ".",
        {"files": "t.jsonl", "folder": "classes", "split": {"name": "test", "draw": {"test": 0.2}}},
    ),
    "webdataset": ("webdataset", ".", {"files": "s.tar", "answer": "cls"}),
    "parquet": ("parquet", ".", {"files": "p.parquet"}),
    "datasets": ("datasets", "saved", {}),
}
"""What is printed -> (reader, folder, options)."""


def write(root: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    images = [buffer.getvalue() + b"%d" % n for n in range(COUNT)]  # all different
    for n, data in enumerate(images):
        folder = root / f"classes/c{n % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{n}.png").write_bytes(data)
    with (root / "t.jsonl").open("w") as file:
        for n in range(COUNT):
            row = {
                "id": n,
                "image": f"c{n % CLASSES}/{n}.png",
                "question": f"q{n}",
                "answer": str(n % 7),
            }
            file.write(json.dumps(row) + "\n")
    with tarfile.open(root / "s.tar", "w") as archive:
        for n, data in enumerate(images):
            for ending, content in (("png", data), ("cls", b"%d" % (n % 7))):
                info = tarfile.TarInfo(f"{n:06d}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    table = pa.table(
        {
            "image": [{"bytes": data, "path": None} for data in images],
            "answer": [str(n % 7) for n in range(COUNT)],
        }
    )
    pq.write_table(table, root / "p.parquet", row_group_size=1000)
    (root / "saved").mkdir()
    name = "data-00000-of-00001.arrow"
    with (
        pa.OSFile(str(root / "saved" / name), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table, max_chunksize=1000)
    (root / "saved/state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))


def one(root: Path, which: str) -> None:
    """Reads a set and prints what it took."""
    from emu2eval import registry
    from emu2eval.data.samples import Samples

    def peak() -> float:
        # Not getrusage, which counts what the parent held before this process was born.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    reader, folder, options = READ[which]
    before, started = peak(), time.process_time()
    read = Samples(registry.build("reader", reader, options, given=(root / folder,)), where=which)
    seconds = time.process_time() - started
    print(
        f"{which:13} {len(read):8,} samples {seconds:6.1f} s of CPU {peak() - before:6.0f} MiB more"
    )


def main() -> None:
    if len(sys.argv) > 1:
        one(Path(sys.argv[1]), sys.argv[2])
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        for which in READ:
            subprocess.run([sys.executable, __file__, folder, which], check=True)


if __name__ == "__main__":
    main()
