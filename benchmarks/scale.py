"""Many requests and many replicas: idle devices, CPU time and memory of the driver, what comes after.

    python benchmarks/scale.py [--only device driver memory after] [--sizes 1000 10000 100000] [--quick]

A device is simulated: it sleeps for a batch, and writes down when. Replicas are Ray's, and left out where it
is not installed. Times are CPU seconds of the driver's process alone; Ray's own processes and replicas are
not in them. Each figure comes from a process of its own, since a peak of memory is one of a process.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from measuring import Clock, arguments, headline, model_file, table, task_file

from emu2eval import evaluate
from emu2eval.adapters.base import Adapter, Limits
from emu2eval.adapters.emu2.adapter import Emu2Adapter
from emu2eval.spec.settings import Settings
from emu2eval.types import Request, Response
from emu2eval.watch import Watcher

SECONDS = 0.3
"""For which the simulated device is busy with a batch."""
LATE = 0.010
"""Seconds after which the next batch is taken to have been waited for."""
NANO = Path(__file__).parents[1] / "models" / "emu2-nano"
MIB = 1 << 20


class DeviceSettings(Settings):
    """seconds: of a batch of so many requests; log: gets a line for each batch, when it began and ended."""

    seconds: float = SECONDS
    batch: int = 32
    log: str | None = None


class Device(Adapter):
    """Sleeps, and answers nothing in particular."""

    def __init__(self, settings: DeviceSettings):
        self.limits = Limits(frozenset({"text"}), batch=settings.batch)
        self.seconds, self.log = settings.seconds, settings.log

    def positions(self, request: Request) -> int:
        return sum(len(part) if isinstance(part, str) else 64 for part in request.prompt.flat())

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        began = time.monotonic()
        if self.seconds:
            time.sleep(self.seconds)
        if self.log is not None:
            with Path(self.log).open("a") as log:
                log.write(f"{os.getpid()} {began} {time.monotonic()}\n")
        return [Response(text="red") for _ in requests]


class Prompts(Emu2Adapter):
    """Emu2's planning, checks and prompts; answers that cost nothing."""

    def load(self) -> None:
        pass

    def close(self) -> None:
        pass

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        return [Response(text="red") for _ in requests]


ADAPTERS = {"light": "scale:Device", "Emu2's prompts": "scale:Prompts"}


def questions(folder: Path, count: int, images: int = 256) -> Path:
    """A task of so many questions about few images; its rows differ, its requests too."""
    from PIL import Image

    folder.mkdir(parents=True)
    for number in range(images):
        image = Image.new("RGB", (64, 64), (number, 255 - number, 90))
        image.putpixel((0, 0), (number, 7, 7))
        image.save(folder / f"{number}.png")
    draw = random.Random(count)
    for split, rows in (("test", count), ("train", 2_000)):
        with (folder / f"{split}.jsonl").open("w") as file:
            for number in range(rows):
                row = {
                    "id": f"{split}-{number:07d}",
                    "image": f"{draw.randrange(images)}.png",
                    "question": f"what colour is square {number}?" + " please" * (number % 5),
                    "answer": ("red", "green", "blue")[number % 3],
                }
                file.write(json.dumps(row) + "\n")
    return task_file(folder, "squares")


# -- in a process of its own -------------------------------------------------------------------------


class Steady(Watcher):
    """CPU seconds and requests planned between the first and the last answers that were stored."""

    def __init__(self, planned: Clock):
        self._planned = planned
        self.marks: list[tuple[float, int, float]] = []

    def settled(self, count: int) -> None:
        now = time.process_time(), self._planned.calls, time.monotonic()
        self.marks = [*self.marks[:1], now]

    def per_request(self) -> float:
        """In ms."""
        first, last = self.marks
        return 1e3 * (last[0] - first[0]) / max(1, last[1] - first[1])

    def share(self) -> float:
        """CPU seconds in a second."""
        first, last = self.marks
        return (last[0] - first[0]) / max(1e-9, last[2] - first[2])


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def asking(task: str, model: str, shots: int, replicas: int, out: str) -> dict[str, float]:
    """A run: what it costs a request, and its memory before and after."""
    from emu2eval.engine import carrying
    from emu2eval.engine.evaluation import plans
    from emu2eval.engine.options import RunOptions
    from emu2eval.engine.plan import Plan

    ((plan,),) = plans([task], [model], RunOptions(shots=(str(shots),), limit=2_000))
    for place in plan.questions:  # files are known, texts are seen
        plan.at(place)
    read: list[float] = []
    module: Any = carrying
    own = module.execute

    def execute(*args: Any, **kwargs: Any) -> Any:
        read.append(peak())
        return own(*args, **kwargs)

    with ExitStack() as stack:
        steady = Steady(stack.enter_context(Clock(Plan, "at")))
        module.execute = execute
        (done,) = evaluate(
            task, model, shots=shots, out=out, replicas=replicas or None, watcher=steady
        )
    return {
        "asked": done.tally.asked,
        "ms": steady.per_request(),
        "share": steady.share(),
        "read": read[0],
        "peak": peak(),
        "bytes": (done.folder / "responses.jsonl").stat().st_size,
    }


def after(task: str, model: str, shots: int, what: str, out: str) -> dict[str, float]:
    """What is done with a run that is there."""
    from emu2eval.engine.reopen import reopen, score_again
    from emu2eval.report import page
    from emu2eval.report.table import render
    from emu2eval.runs.scores import read_rows

    (folder,) = (path.parent for path in Path(out).glob("*/run.json"))
    file = Path(out) / "page" / "page.html"
    file.parent.mkdir(exist_ok=True)
    ways: Mapping[str, Callable[[], object]] = {
        "the same command": lambda: evaluate(task, model, shots=shots, out=out),
        "reopen": lambda: reopen(folder).index(),
        "score": lambda: score_again(folder),
        "table": lambda: render(read_rows(folder), "markdown"),
        "page": lambda: page.write([folder], file),
    }
    before, began = peak(), time.process_time()
    ways[what]()
    found = {"seconds": time.process_time() - began, "before": before, "peak": peak()}
    if what == "page":
        whole = sum(path.stat().st_size for path in file.parent.rglob("*") if path.is_file())
        found["page"] = file.stat().st_size / MIB
        found["beside"] = whole / MIB - found["page"]
    return found


def apart(what: str, *given: object) -> dict[str, float]:
    """Calls a function of this file in a process of its own."""
    command = [sys.executable, __file__, "apart", what, json.dumps(given)]
    # The adapter of this file is found from the folder that the program is in.
    here = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=here)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


# -- the parts -----------------------------------------------------------------------------------------


def where(quick: bool) -> list[tuple[str, int]]:
    """By name: the number of replicas; zero = in this process."""
    if find_spec("ray") is None:
        print("   Ray is not installed: nothing with replicas")
    # Its start takes longer than all else of a quick look.
    return [("here", 0)] + ([("2 replicas", 2)] if find_spec("ray") and not quick else [])


def device(scratch: Path, own: Any) -> None:
    batches = 8 if own.quick else 60
    seconds = 0.05 if own.quick else SECONDS
    task = questions(scratch / "data", 32 * batches)
    rows: list[tuple[object, ...]] = []
    for name, replicas in where(own.quick):
        log = scratch / f"{replicas}.log"
        model = model_file(
            scratch / f"device{replicas}.json", "scale:Device", log=str(log), seconds=seconds
        )
        found = apart("asking", str(task), str(model), 4, replicas, str(scratch / f"run{replicas}"))
        spans: dict[str, list[tuple[float, float]]] = {}
        for line in log.read_text().splitlines():
            process, began, ended = line.split()
            spans.setdefault(process, []).append((float(began), float(ended)))
        busy = whole = late = 0.0
        for times in spans.values():
            busy += sum(ended - began for began, ended in times)
            whole += times[-1][1] - times[0][0]
            pairs = pairwise(times)
            late += sum(after[0] - before[1] > LATE for before, after in pairs)
        wanted = 0.95 if replicas else 0.99
        rows.append((name, found["asked"], 100 * busy / whole, int(late), 100 * found["share"]))
        headline("scale", f"time that a device is busy, {name}", busy / whole, wanted)
    table(("device", "requests", "busy %", f"waits > {LATE * 1e3:.0f} ms", "driver CPU %"), rows)


def driver(scratch: Path, own: Any) -> None:
    count = 1_000 if own.quick else 6_000
    task = questions(scratch / "data", count)
    models = {
        "light": model_file(scratch / "light.json", "scale:Device", seconds=0),
        "Emu2's prompts": model_file(
            scratch / "emu2.json",
            "scale:Prompts",
            checkpoint=str(NANO),
            batch=32,
            max_positions=512,
        ),
    }
    rows: list[tuple[object, ...]] = []
    for name, model in models.items():
        for place, replicas in where(own.quick):
            out = str(scratch / f"{model.stem}{replicas}")
            found = apart("asking", str(task), str(model), 4, replicas, out)
            rows.append((name, place, found["asked"], found["ms"]))
            if replicas or own.quick:
                headline("scale", f"ms of driver a request, {name}", found["ms"], 0.5, most=True)
    table(("adapter", "asked", "requests", "ms of CPU a request"), rows)


def memory(scratch: Path, own: Any) -> None:
    rows: list[tuple[object, ...]] = []
    for count in own.sizes:
        task = questions(scratch / f"data{count}", count)
        model = model_file(scratch / f"light{count}.json", "scale:Device", seconds=0)
        for place, replicas in where(own.quick):
            out = str(scratch / f"run{count}-{replicas}")
            found = apart("asking", str(task), str(model), 4, replicas, out)
            grown = found["peak"] - found["read"]
            line = (
                found["read"],
                grown,
                found["peak"],
                found["ms"],
                found["bytes"] / found["asked"],
            )
            rows.append((f"{count:,}", place, *line))
    head = (
        "requests",
        "asked",
        "MiB, data read",
        "more, asking",
        "peak",
        "ms a request",
        "bytes a line",
    )
    table(head, rows)


def afterwards(scratch: Path, own: Any) -> None:
    rows: list[tuple[object, ...]] = []
    for count in own.sizes:
        task = scratch / f"data{count}" / "task.json"
        model, out = scratch / f"light{count}.json", str(scratch / f"run{count}-0")
        if not task.exists():
            questions(task.parent, count)
            model_file(model, "scale:Device", seconds=0)
            apart("asking", str(task), str(model), 4, 0, out)
        for what in ("the same command", "reopen", "score", "table", "page"):
            found = apart("after", str(task), str(model), 4, what, out)
            size = f"{found['page']:.1f} + {found['beside']:.1f}" if "page" in found else ""
            rows.append(
                (f"{count:,}", what, found["seconds"], found["before"], found["peak"], size)
            )
    table(
        ("answers", "what", "CPU seconds", "MiB before", "peak MiB", "MiB of page + beside"), rows
    )


PARTS = {"device": device, "driver": driver, "memory": memory, "after": afterwards}


def main() -> None:
    if sys.argv[1:2] == ["apart"]:
        functions: Mapping[str, Callable[..., object]] = {"asking": asking, "after": after}
        print(json.dumps(functions[sys.argv[2]](*json.loads(sys.argv[3]))))
        return
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--sizes", nargs="*", type=int, default=None, metavar="REQUESTS")
    parser.add_argument("--folder", help="where data and runs stay; default: nowhere")
    own = parser.parse_args()
    own.sizes = own.sizes or ([1_000] if own.quick else [1_000, 10_000, 100_000])
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(own.folder or folder).resolve()
        for name in own.only:
            print(f"-- {name}", flush=True)
            part = scratch / ("sizes" if name in ("memory", "after") else name)
            PARTS[name](part, own)


if __name__ == "__main__":
    main()
