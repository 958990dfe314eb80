"""A server lives as long as it is wanted, and not a moment longer, whatever becomes of whom."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from emu2eval.adapters.served import adapter as served_adapter
from emu2eval.adapters.served.process import ServerProcess
from emu2eval.errors import ModelError, ModelGone
from emu2eval.types import Prompt, Request, TextOutput

from ...chat_server import ChatServer
from .conftest import Served, StandIns, gone

ASK = Request("k", Prompt(query=("what colour?",)), TextOutput())


def test_it_is_started_asked_and_stopped(
    engines: StandIns, served: Served, checkpoint: Path
) -> None:
    adapter = served(options={"max_model_len": 8192, "enforce-eager": True})
    engines.order(child="", stays="")
    adapter.load()
    (started,) = engines.started
    port = started["argv"][-1]
    assert started["argv"] == [
        *("serve", str(checkpoint), "--disable-uvicorn-access-log", "--generation-config", "vllm"),
        *("--max-model-len", "8192", "--enforce-eager", "--served-model-name", "emu2eval"),
        *("--host", "127.0.0.1", "--port", port),
    ]
    # In a session of its own: Ctrl-C at the terminal does not reach it.
    assert os.getsid(started["pid"]) not in (os.getsid(0), started["pid"])
    (answer,) = adapter.answer([ASK])
    assert answer.text == "red" and answer.error is None
    adapter.close()
    # It would not end by itself, and what it started had left its session.
    assert gone(started["pid"], started["child"])
    adapter.load()
    assert adapter.answer([ASK])[0].text == "red"
    adapter.close()
    assert len(engines.started) == 2 and gone(engines.started[1]["pid"])


def test_it_ends_with_a_program_that_is_killed(engines: StandIns, checkpoint: Path) -> None:
    engines.order(child="")
    code = (
        "import os, signal; from emu2eval.adapters.served.process import ServerProcess\n"
        "held = ServerProcess('vllm', ['vllm', 'serve', 'm', '--port', '0'], os.environ); signal.pause()"
    )
    ours = subprocess.Popen([sys.executable, "-c", code])
    started = engines.wait_for_start()
    ours.kill()
    ours.wait()
    assert gone(started["pid"], started["child"])


def test_it_ends_with_its_supervisor(engines: StandIns) -> None:
    server = ServerProcess("vllm", ["vllm", "serve", "m", "--port", "0"], os.environ)
    started = engines.wait_for_start()
    server._supervisor.kill()
    assert gone(started["pid"])
    assert server.ended == "killed by signal 9"
    server.stop()


def test_ctrl_c_while_it_loads_stops_it(
    engines: StandIns, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.order(go="")

    def interrupted(port: int) -> bool:
        engines.wait_for_start()
        raise KeyboardInterrupt

    monkeypatch.setattr(served_adapter, "_healthy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        served().load()
    assert gone(engines.started[0]["pid"])


def test_a_failure_at_the_start_shows_its_last_lines(
    engines: StandIns, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVICE_KEY", "a-long-secret-of-mine")
    engines.order(fails="ValueError: 28 heads are not divisible by 8 (a-long-secret-of-mine)")
    with pytest.raises(ModelError) as raised:
        served().load()
    said = str(raised.value)
    assert "vllm did not start (exit code 3)" in said
    assert "loading weights\n" in said
    assert "28 heads are not divisible by 8 ([key])" in said
    assert len(engines.started) == 1  # nobody else was on its port, so another one would not help


def test_a_slow_load_is_no_failure(
    engines: StandIns, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_adapter, "TOLD_EVERY", 0.05)
    engines.order(go="")
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        engines.order(go="now")

    adapter = served()
    adapter.tell = tell
    adapter.load()
    assert re.match(r"vllm is loading, \d+ s", said[0])
    adapter.close()


def test_a_load_has_a_limit(engines: StandIns, served: Served) -> None:
    engines.order(go="")
    with pytest.raises(
        ModelError, match=r"vllm did not answer within 0 seconds(.|\n)*load_timeout"
    ):
        served(load_timeout=0.2).load()
    assert all(gone(each["pid"]) for each in engines.started)


def test_a_port_that_somebody_else_took_is_left_to_them(
    engines: StandIns, served: Served, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stranger answers, too, and is not mistaken for ours."""
    free = served_adapter._free_port
    ports = iter([chat_server.port, free()])
    monkeypatch.setattr(served_adapter, "_free_port", lambda: next(ports))
    adapter = served()
    adapter.load()
    assert adapter.answer([ASK])[0].text == "red"
    adapter.close()
    assert len(engines.started) == 2 and chat_server.asked == []


def test_a_crash_in_the_middle_names_the_engine(engines: StandIns, served: Served) -> None:
    engines.order(crashes="3", child="")
    adapter = served(concurrency=1, retries=50)
    adapter.load()
    came: list[int] = []
    with pytest.raises(ModelGone) as raised:
        for place, response in adapter.stream([ASK] * 5):
            assert response.error is None
            came.append(place)
    assert came == [0, 1]
    assert "vllm stopped (exit code 1)" in str(raised.value)
    assert "CUDA error: an illegal memory access" in str(raised.value)
    adapter.close()
    assert gone(engines.started[0]["child"])


def test_a_supervisor_takes_sigterm_for_the_end(engines: StandIns) -> None:
    """As a scheduler sends it to every process of a job."""
    server = ServerProcess("vllm", ["vllm", "serve", "m", "--port", "0"], os.environ)
    started = engines.wait_for_start()
    os.kill(server._supervisor.pid, signal.SIGTERM)
    assert gone(started["pid"])
    server.stop()
    assert not server.log.exists()


def test_whose_a_port_is(engines: StandIns) -> None:
    server = ServerProcess("vllm", ["vllm", "serve", "m", "--port", "0"], os.environ)
    engines.wait_for_start()
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        own.listen()
        assert not server.listens(own.getsockname()[1])
    server.stop()
