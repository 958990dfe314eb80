"""What a server's client costs: CPU a request, and the time of many against the ideal.

A loopback server in a process of its own answers every request after 20 ms; the client asks it for
synthetic text questions through `evaluate`, as a run would, in a process of its own. The ideal is
requests / concurrency x 20 ms. CPU time is the client process's own (user and system), so that it means
something on a busy machine too; wall-clock times do so on free cores only. In a storm 5 % of the requests
are refused with 429 (Retry-After 1 s), 2 % fail with 500 and 2 % of the connections are cut, by a seed.

With nine images a request (JPEGs of 640 x 480 pixels, 124 KiB) the floor is the same requests made by hand,
one after the other: the files read, base64, a join, a send.

    python benchmarks/load.py [--requests 5000] [--seed 0] [--only calm|storm|memory|images] [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from measuring import arguments, cpu, headline, model_file, table, task_file

from emu2eval.types import Image, Prompt

SERVICE = 0.02
"""Seconds that the server takes for each answer."""

STORM = (("429", 0.05), ("500", 0.02), ("cut", 0.02))

REPLY = json.dumps(
    {
        "object": "chat.completion",
        "model": "loopback",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "red"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 40, "completion_tokens": 1, "total_tokens": 41},
    }
)


class Server(asyncio.Protocol):
    """HTTP/1.1 with the least that a client needs, so that the server is never what is measured."""

    def __init__(self, chance: random.Random, storm: bool):
        self.chance = chance
        self.storm = storm
        self.buffer = bytearray()
        self.wanted = 0  # bytes of the whole request, once its head is there
        self.posted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.wanted:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end])
            self.posted = head.startswith(b"POST")
            self.wanted = end + 4
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    self.wanted += int(value)
        if len(self.buffer) < self.wanted:
            return
        del self.buffer[: self.wanted]
        self.wanted = 0
        wait = SERVICE if self.posted else 0.0
        asyncio.get_running_loop().call_later(wait, self.answer, self.posted)

    def answer(self, asked: bool) -> None:
        drawn, fault = self.chance.random(), ""
        for name, share in STORM if self.storm and asked else ():
            if 0 <= drawn < share:
                fault = name
            drawn -= share
        if fault == "cut":
            self.transport.abort()
        elif fault == "429":
            self.send("429 Too Many Requests", '{"error": {"message": "too many"}}', 1)
        elif fault == "500":
            self.send("500 Internal Server Error", '{"error": {"message": "out of luck"}}')
        else:
            self.send("200 OK", REPLY)

    def send(self, status: str, body: str, wait: int | None = None) -> None:
        more = "" if wait is None else f"Retry-After: {wait}\r\n"
        self.transport.write(
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{more}"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )


def serve(seed: int, storm: bool) -> None:
    """Prints its port and serves until its standard input closes."""

    async def run() -> None:
        chance = random.Random(seed)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Server(chance, storm), "127.0.0.1", 0, backlog=1024
        )
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)

    asyncio.run(run())


TASK = """\
name: load
title: Synthetic questions
data: {reader: table, root: ., options: {images: []}, splits: {test: {files: test.jsonl}}}
split: test
score: {scorer: exact_match, clean: [strip]}
output: {kind: text, max_new_tokens: 5}
protocol: plain
protocols: {plain: {ask: "{question} Answer:"}}
"""


def ask(port: int, requests: int, concurrency: int, rows: int) -> None:
    """Makes one run over a file of so many rows and prints what it took as JSON."""
    import resource

    from emu2eval import evaluate

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {
            "model": "loopback",
            "base_url": f"http://127.0.0.1:{port}/v1",
            "concurrency": concurrency,
        }
        model = {"name": "served", "adapter": "openai", "settings": settings}
        (folder / "model.yaml").write_text(json.dumps(model))
        (folder / "task.yaml").write_text(TASK)
        with (folder / "test.jsonl").open("w") as file:
            for number in range(rows):
                asked = f"What colour is the thing that has the number {number}?"
                row = {"id": f"q{number:06d}", "question": asked, "answer": "red"}
                file.write(json.dumps(row) + "\n")
        task, served = folder / "task.yaml", folder / "model.yaml"
        # What is imported and opened once is no part of the rate.
        evaluate(task, served, limit=1, out=folder / "first")
        clock, used = time.perf_counter(), time.process_time()
        (result,) = evaluate(task, served, limit=requests, out=folder / "runs")
        seconds, cpu = time.perf_counter() - clock, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"n": result.rows[0].n, "seconds": seconds, "cpu": cpu, "peak_mib": peak}
    print(json.dumps(found))


SHOTS = 8
CHOOSERS = {
    "the same for all": (64, "fixed"),
    "of 200": (200, "random"),
    "of 2,000": (2000, "random"),
}
"""What is printed -> (images to draw demonstrations from, chooser)."""


def photographs(folder: Path, queries: int, pool: int) -> Path:
    """The file of a task with images as large as photographs, no two alike."""
    from PIL import Image as PILImage

    folder.mkdir(parents=True)
    noise, tint = (
        PILImage.effect_noise((640, 480), 60),
        PILImage.linear_gradient("L").resize((640, 480)),
    )
    buffer = io.BytesIO()
    PILImage.merge("RGB", (noise, tint, PILImage.blend(noise, tint, 0.5))).save(
        buffer, "JPEG", quality=80
    )
    data = buffer.getvalue()
    for split, count in (("test", queries), ("train", pool)):
        with (folder / f"{split}.jsonl").open("w") as file:
            for number in range(count):
                # A comment makes each its own: to encode thousands would take longer than what is timed.
                own = f"{split} {number}".encode()
                comment = b"\xff\xfe" + (len(own) + 2).to_bytes(2, "big") + own
                (folder / f"{split}{number}.jpg").write_bytes(data[:2] + comment + data[2:])
                row = {"id": f"{number:05d}", "image": f"{split}{number}.jpg", "answer": "red"}
                file.write(json.dumps({**row, "question": f"What is in image {number}?"}) + "\n")
    return task_file(folder, "photographs")


def show(port: int, folder: Path, requests: int, chooser: str) -> None:
    """One run at SHOTS, then the same requests by hand; prints CPU seconds of each as JSON."""
    from emu2eval.engine.evaluation import plans, run_all
    from emu2eval.engine.options import RunOptions

    url = f"http://127.0.0.1:{port}/v1"
    task = str(folder / "task.json")
    served = str(model_file(folder / "served.json", "openai", model="loopback", base_url=url))
    changes = [f"task.demonstrations.chooser={chooser}"]
    # What is imported and opened once is no part of the rate.
    run_all([task], [served], RunOptions.of(shots=0, limit=1, out=folder / "first"))
    setting = RunOptions.of(shots=SHOTS, limit=requests, changes=changes, out=folder / "runs")
    started = cpu()
    (result,) = run_all([task], [served], setting)
    here = cpu() - started
    assert result.rows[0].n == requests
    ((plan,),) = plans([task], [served], setting)
    prompts = [planned.request.prompt for planned in plan]
    started = cpu()
    by_hand(port, prompts)
    print(json.dumps({"here": here, "floor": cpu() - started}))


def by_hand(port: int, prompts: list[Prompt]) -> None:
    """The least that these requests cost: files read, base64, one join, one send."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        for prompt in prompts:
            parts = []
            for part in prompt.parts():
                if isinstance(part, str):
                    parts.append(json.dumps({"type": "text", "text": part}).encode())
                elif isinstance(part, Image) and part.path is not None:
                    data = base64.b64encode(Path(part.path).read_bytes())
                    parts.append(IMAGE % data)
            body = BODY % b", ".join(parts)
            head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
            line.sendall(head.encode() + body)
            json.loads(line.recv(1 << 16).partition(b"\r\n\r\n")[2])


IMAGE = b'{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,%s"}}'
BODY = b'{"model": "loopback", "messages": [{"role": "user", "content": [%s]}]}'


HERE = [sys.executable, __file__]


@contextmanager
def served(seed: int, storm: bool) -> Iterator[int]:
    """The port of a server in a process of its own."""
    command = [*HERE, "--serve", "storm" if storm else "calm", "--seed", str(seed)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as server:
        assert server.stdout is not None and server.stdin is not None
        yield int(server.stdout.readline())
        server.stdin.close()


def shown_images(requests: int, repeats: int) -> None:
    rows = []
    for what, (pool, chooser) in CHOOSERS.items():
        with tempfile.TemporaryDirectory() as name, served(0, False) as port:
            photographs(Path(name) / "task", requests, pool)
            given = ["--show", str(port), "--folder", f"{name}/task", "--chooser", chooser]
            given += ["--requests", str(requests)]
            each = []
            for _ in range(repeats):
                done = subprocess.run([*HERE, *given], check=True, stdout=-1, text=True)
                each.append(json.loads(done.stdout.splitlines()[-1]))
                shutil.rmtree(f"{name}/task/runs")
        here, floor = (median(one[way] for one in each) for way in ("here", "floor"))
        ratio = median(one["here"] / one["floor"] for one in each)
        rows.append((what, 1000 * here / requests, 1000 * floor / requests, f"{ratio:.2f}x"))
    table((f"{SHOTS} demonstrations", "ms a request", "by hand", "ratio"), rows)
    headline("servers", f"{SHOTS + 1} images a request, demonstrations drawn of 2,000", ratio)


def measure(
    requests: int, concurrency: int, storm: bool, seed: int, rows: int | None = None
) -> dict[str, float]:
    """One run against a server of its own."""
    with served(seed, storm) as port:
        given = ["--ask", str(port), "--requests", str(requests), "--concurrency", str(concurrency)]
        given += ["--rows", str(rows or requests)]
        done = subprocess.run([*HERE, *given], check=True, stdout=-1, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    options = arguments(__doc__)
    options.add_argument("--requests", type=int, help="5,000; with images 400")
    options.add_argument("--concurrency", type=int, nargs="*", default=[16, 64, 128])
    options.add_argument("--repeat", type=int, default=2)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", choices=["calm", "storm", "memory", "images"])
    options.add_argument("--serve", choices=["calm", "storm"], help=argparse.SUPPRESS)
    options.add_argument("--ask", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options.add_argument("--show", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--chooser", help=argparse.SUPPRESS)
    options.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        serve(given.seed, given.serve == "storm")
    elif given.ask:
        ask(given.ask, given.requests, given.concurrency[0], given.rows)
    elif given.show:
        show(given.show, given.folder, given.requests, given.chooser)
    else:
        measure_all(given)


def measure_all(given: argparse.Namespace) -> None:
    if given.only in (None, "images"):
        shown_images(given.requests or (40 if given.quick else 400), 1 if given.quick else 3)
    requests = given.requests or (200 if given.quick else 5000)
    for weather in ("calm", "storm"):
        for at_once in given.concurrency if given.only in (None, weather) else ():
            each = [
                measure(requests, at_once, weather == "storm", given.seed)
                for _ in range(1 if given.quick else given.repeat)
            ]
            found = {name: min(one[name] for one in each) for name in each[0]}
            ideal = requests / at_once * SERVICE
            print(
                f"{weather}, {found['n']:,} of {requests:,} answered, {at_once} at once: "
                f"{1000 * found['cpu'] / requests:.2f} ms of CPU a request, "
                f"{found['seconds']:.1f} s = {found['seconds'] / ideal:.2f} times the ideal",
                flush=True,
            )
    if given.only in (None, "memory"):
        few, most = (100, 1000) if given.quick else (1000, 50_000)
        small, large = (measure(each, 64, False, given.seed, most) for each in (few, most))
        print(
            f"peak memory, of a file of {most:,} rows: {small['peak_mib']:,.0f} MiB after {few:,} "
            f"requests, {large['peak_mib']:,.0f} MiB after {most:,}"
        )


if __name__ == "__main__":
    main()
