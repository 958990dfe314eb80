"""A real model behind a real server, `transformers serve`, reached through weather that breaks requests."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from emu2eval import registry
from emu2eval.adapters.openai import client
from emu2eval.adapters.served.adapter import ServedAdapter
from emu2eval.adapters.served.supervisor import below
from emu2eval.engine.models import open_model
from emu2eval.media import images
from emu2eval.spec.changes import Changes
from emu2eval.types import Prompt, Request, TextOutput

from ...chat_server import digests, texts
from ..huggingface import families

STORM = ("429", None, "500", "cut", None, "half", "429", "gone", None, "500", "cut", "half")
"""What befalls the first requests; None = nothing. gone: the reply never comes."""
TIMEOUT = 4.0
"""Seconds that the adapter waits for a reply."""
HOPELESS = "square 3?"
"""A question that the server of this test never answers while the storm lasts."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return families.save("idefics3", tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[ServedAdapter]:
    """The server of this machine's own installation, started for the model, and stopped."""
    settings = {
        "checkpoint": str(model),
        "engine": "transformers",
        "options": {"device": "cpu", "dtype": "float32"},
    }
    with pytest.MonkeyPatch.context() as patched:
        # One thread: on a busy machine, more of them wait for one another.
        patched.setenv("OMP_NUM_THREADS", "1")
        adapter: ServedAdapter = registry.build("adapter", "served", settings)
        assert adapter.lacks() == []
        adapter.load()
    assert adapter._server is not None
    tree = list(below(adapter._server._supervisor.pid))
    yield adapter
    adapter.close()
    assert tree and not any(Path(f"/proc/{pid}").exists() for pid in tree)


@pytest.fixture(scope="module")
def server(engine: ServedAdapter) -> int:
    """The port of a server that holds the model."""
    return engine.port


class Weather:
    """Stands between the adapter and a server. asked: bodies as they came, each with what befell it."""

    def __init__(self, port: int):
        self.port = port
        self.storm = True
        self.asked: list[tuple[bytes, str | None]] = []
        self.lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (_Between,), {"sky": self}))
        self.http.daemon_threads = True
        self.http.block_on_close = False
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def befalls(self, body: bytes) -> str | None:
        with self.lock:
            number = sum(1 for _, fault in self.asked if fault != "hopeless")
            fault = STORM[number] if self.storm and number < len(STORM) else None
            if self.storm and texts(json.loads(body))[-1].count(HOPELESS):
                fault = "hopeless"
            self.asked.append((body, fault))
            return fault


class _Between(BaseHTTPRequestHandler):
    sky: Weather
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self._pass_on("GET", b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault = self.sky.befalls(body)
        if fault == "429":
            self._send(429, b'{"error": {"message": "too many"}}', {"Retry-After": "0.1"})
        elif fault in ("500", "hopeless"):
            self._send(500, b'{"error": {"message": "out of luck"}}')
        elif fault in ("cut", "gone"):
            if fault == "gone":
                time.sleep(TIMEOUT + 1)
            self.close_connection = True
            self.connection.close()
        else:
            self._pass_on("POST", body, half=fault == "half")

    def _pass_on(self, method: str, body: bytes, half: bool = False) -> None:
        line = http.client.HTTPConnection("127.0.0.1", self.sky.port, timeout=60)
        line.request(method, self.path, body, {"Content-Type": "application/json"})
        reply = line.getresponse()
        self._send(reply.status, reply.read(), half=half)
        line.close()

    def _send(
        self, status: int, data: bytes, headers: dict[str, str] | None = None, half: bool = False
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if half else data)
        self.wfile.flush()
        self.close_connection = half


@pytest.fixture
def weather(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weather]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    sky = Weather(server)
    yield sky
    sky.http.shutdown()
    sky.http.server_close()


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]


def test_nothing_is_lost_or_asked_twice(
    weather: Weather, model: Path, make_task: Any, make_model: Any, program: Any
) -> None:
    """Every sample ends answered or unscored; the next run asks for the unscored one alone, the one after
    for none. The answers are those of the same model without a server."""
    task = str(make_task(queries=16, pool=8))
    to = [
        *("run", "--task", task, "--model", "openai-compatible", "--shots", "2", "-f", "json"),
        *("--set", f"model.settings.base_url={weather.url}"),
        *("--set", f"model.settings.model={model}"),
        *("--set", f"model.settings.timeout={TIMEOUT}"),
        *("--set", "model.settings.concurrency=4"),
    ]
    code, printed, errors = program(*to)
    assert code == 3, errors
    (row,) = json.loads(printed[printed.index("[") :])
    assert (row["n"], row["unscored"]) == (15, 1)
    folder = Path("results/runs") / row["run"]
    first = {stored["id"]: stored for stored in rows(folder) if not stored.get("error")}
    assert len(first) == 15 and "q0003" not in first

    befell = Counter(fault for _, fault in weather.asked)
    assert {fault: befell[fault] for fault in STORM} == {
        **Counter(STORM), None: befell[None]
    }  # fmt: skip
    # As many requests as were let through, or more where the machine was too busy for one in time.
    assert befell[None] >= 15
    assert len({body for body, _ in weather.asked}) == 16
    assert all(len(digests(json.loads(body))) == 3 for body, _ in weather.asked)

    weather.storm = False
    already = len(weather.asked)
    code, printed, errors = program(*to)
    assert code == 0, errors
    (row,) = json.loads(printed[printed.index("[") :])
    assert (row["n"], row["unscored"]) == (16, 0)
    assert {HOPELESS in texts(json.loads(body))[-1] for body, _ in weather.asked[already:]} == {
        True
    }
    answers = {stored["id"]: stored["text"] for stored in rows(folder) if not stored.get("error")}
    assert len(answers) == 16 and len(set(answers.values())) > 2
    assert {name: stored["text"] for name, stored in first.items()}.items() <= answers.items()

    already = len(weather.asked)
    assert program(*to)[0] == 0
    assert len(weather.asked) == already
    kept = [stored["id"] for stored in rows(folder) if not stored.get("error")]
    assert sorted(kept) == sorted(set(kept)) and len(kept) == 16

    local = make_model("local", "huggingface", checkpoint=str(model), dtype="float32", threads=1)
    code, printed, _ = program(
        "run", "--task", task, "--model", str(local), "--shots", "2", "-f", "json"
    )
    (row,) = json.loads(printed[printed.index("[") :])
    alone = {stored["id"]: stored["text"] for stored in rows(Path("results/runs") / row["run"])}
    assert alone == answers


def test_an_engine_that_we_start_answers_as_its_server_does(
    engine: ServedAdapter, model: Path, make_model: Any
) -> None:
    """Asked through the adapter that started it, as `--engine transformers` does."""
    local = open_model(
        str(make_model("local", "huggingface", checkpoint=str(model), dtype="float32", threads=1)),
        Changes(),
    ).adapter
    shown = images.from_pil(PILImage.new("RGB", (40, 30), "teal"))
    asked = [
        Request(text, Prompt(query=(shown, text)), TextOutput(max_new_tokens=4))
        for text in ("what colour?", "how many?")
    ]
    local.load()
    expected = [response.text for response in local.answer(asked)]
    local.close()
    answers = engine.answer(asked)
    assert [answer.text for answer in answers] == expected
    assert all(answer.tokens_in for answer in answers)
    assert engine.identity()["engine"] == version("transformers")
