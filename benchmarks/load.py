"""What a server's client costs: CPU a request, and the time of many against the ideal.

A loopback server in a process of its own answers every request after 20 ms; the client asks it for
synthetic text questions through `evaluate`, as a run would, in a process of its own. The ideal is
requests / concurrency x 20 ms. CPU time is the client process's own (user and system), so that it means
something on a busy machine too; wall-clock times do so on free cores only. In a storm 5 % of the requests
are refused with 429 (Retry-After 1 s), 2 % fail with 500 and 2 % of the connections are cut, by a seed.

    python benchmarks/load.py [--requests 5000] [--seed 0] [--only calm|storm|memory]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        wait = SERVICE if head.startswith(b"POST") else 0.0
        asyncio.get_running_loop().call_later(wait, self.answer, head.startswith(b"POST"))

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


def measure(
    requests: int, concurrency: int, storm: bool, seed: int, rows: int | None = None
) -> dict[str, float]:
    """One run against a server of its own."""
    here = [sys.executable, __file__]
    served = [*here, "--serve", "storm" if storm else "calm", "--seed", str(seed)]
    with subprocess.Popen(served, stdin=-1, stdout=-1, text=True) as server:
        assert server.stdout is not None and server.stdin is not None
        port = server.stdout.readline().strip()
        given = ["--ask", port, "--requests", str(requests), "--concurrency", str(concurrency)]
        given += ["--rows", str(rows or requests)]
        done = subprocess.run([*here, *given], check=True, stdout=-1, text=True)
        server.stdin.close()
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=5000)
    options.add_argument("--concurrency", type=int, nargs="*", default=[16, 64, 128])
    options.add_argument("--repeat", type=int, default=2)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", choices=["calm", "storm", "memory"])
    options.add_argument("--serve", choices=["calm", "storm"], help=argparse.SUPPRESS)
    options.add_argument("--ask", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        serve(given.seed, given.serve == "storm")
        return
    if given.ask:
        ask(given.ask, given.requests, given.concurrency[0], given.rows)
        return
    for weather in ("calm", "storm"):
        for at_once in given.concurrency if given.only in (None, weather) else ():
            each = [
                measure(given.requests, at_once, weather == "storm", given.seed)
                for _ in range(given.repeat)
            ]
            found = {name: min(one[name] for one in each) for name in each[0]}
            ideal = given.requests / at_once * SERVICE
            print(
                f"{weather}, {found['n']:,} of {given.requests:,} answered, {at_once} at once: "
                f"{1000 * found['cpu'] / given.requests:.2f} ms of CPU a request, "
                f"{found['seconds']:.1f} s = {found['seconds'] / ideal:.2f} times the ideal",
                flush=True,
            )
    if given.only in (None, "memory"):
        few, many = (measure(each, 64, False, given.seed, 50_000) for each in (1000, 50_000))
        print(
            f"peak memory, of a file of 50,000 rows: {few['peak_mib']:,.0f} MiB after 1,000 requests, "
            f"{many['peak_mib']:,.0f} MiB after 50,000"
        )


if __name__ == "__main__":
    main()
