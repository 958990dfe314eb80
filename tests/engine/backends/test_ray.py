"""Real Ray: the same answers from its actors, whatever becomes of them; nothing of it without replicas."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.errors import ConfigError, MissingExtra, ModelError
from emu2eval.watch import ReplicasState, Watcher

pytest.importorskip("ray", reason="replicas need the extra: pip install 'emu2eval[ray]'")


@pytest.fixture(scope="module", autouse=True)
def _ended() -> Iterator[None]:
    """Ray's processes end with these tests, and are waited for, which Ray leaves to chance."""
    yield
    import ray
    from ray._private import worker

    from emu2eval.engine.backends import rays

    node = worker._global_node
    started = (
        [] if node is None else [each for kind in node.all_processes.values() for each in kind]
    )
    ray.shutdown()
    rays.connected.cache_clear()
    for each in started:
        each.process.wait(timeout=30)


class Heard(Watcher):
    def __init__(self) -> None:
        self.states: list[ReplicasState] = []
        self.notes: list[str] = []

    def replicas(self, state: ReplicasState) -> None:
        self.states.append(state)

    def note(self, text: str) -> None:
        self.notes.append(text)


def processes(log: Path) -> set[int]:
    """Of the replicas that have answered."""
    return (
        {int(line.split()[0]) for line in log.read_text().splitlines()} if log.exists() else set()
    )


def test_the_same_bytes_as_in_one_process_also_after_a_kill(
    make_task: Any, make_model: Any, tmp_path: Path
) -> None:
    task = str(make_task(queries=120))
    replies = {"square 1": "red"}
    local = str(make_model("robot", replies=replies, default="blue", batch=4))
    (alone,) = evaluate(task, local, shots=2, out=tmp_path / "alone")
    log = tmp_path / "log"
    slow = str(
        make_model(
            "robot", replies=replies, default="blue", batch=4, delay=0.05, processes=str(log)
        )
    )
    heard = Heard()
    killed: list[int] = []

    class Killing(Heard):
        def settled(self, count: int) -> None:
            if not killed and (found := processes(log)):
                killed.append(min(found))
                os.kill(killed[0], signal.SIGKILL)

        def replicas(self, state: ReplicasState) -> None:
            heard.states.append(state)

        def note(self, text: str) -> None:
            heard.notes.append(text)

    (many,) = evaluate(task, slow, shots=2, out=tmp_path / "many", replicas=2, watcher=Killing())
    name = "scores.jsonl"
    assert (many.folder / name).read_bytes() == (alone.folder / name).read_bytes()
    assert many.folder.name == alone.folder.name
    assert killed and any("was lost" in note for note in heard.notes)
    assert len(processes(log)) in (2, 3)  # the second of the first two may have come late
    assert heard.states[0] == ReplicasState(2, 0)
    record = json.loads((many.folder / "run.json").read_text().partition("\n//")[0])
    (ran_on,) = record["ran_on"]
    assert (ran_on["replicas"], ran_on["hosts"], ran_on["batch"]) == (2, 1, 4)
    (again,) = evaluate(task, slow, shots=2, out=tmp_path / "many", replicas=2)
    assert (again.tally.asked, again.rows) == (0, many.rows)


def test_what_a_model_lacks_where_it_runs_is_told_once(make_task: Any, tmp_path: Path) -> None:
    model = tmp_path / "broken.yaml"
    model.write_text("name: broken\nadapter: tests_ray_plugin:Broken\n")
    (tmp_path / "tests_ray_plugin.py").write_text(
        "from emu2eval import Adapter, Limits, Response\n"
        "from emu2eval.errors import ModelError\n"
        "class Broken(Adapter):\n"
        "    limits = Limits(frozenset({'text'}))\n"
        "    def load(self): raise ModelError('the weights are on no disk')\n"
        "    def answer(self, requests): return [Response(text='a') for _ in requests]\n"
    )
    with pytest.raises(ModelError, match=r"no replica is left.* the weights are on no disk"):
        evaluate(str(make_task(queries=4)), str(model), out=tmp_path / "runs", replicas=1)


def test_objects_and_servers_have_no_replicas(make_task: Any, tmp_path: Path) -> None:
    task = str(make_task(queries=2))
    with pytest.raises(ConfigError, match="is an object of this program"):
        evaluate(task, lambda prompt: "red", out=tmp_path, replicas=2)
    server = tmp_path / "server.yaml"
    server.write_text(
        "name: far\nadapter: openai\nsettings: {model: far, base_url: 'http://127.0.0.1:9/v1'}\n"
    )
    with pytest.raises(ConfigError, match="is answered by a server"):
        evaluate(task, str(server), out=tmp_path, replicas=2)


def test_without_ray_the_extra_is_named(
    make_task: Any, make_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emu2eval.engine.backends import rays

    rays.connected.cache_clear()
    monkeypatch.setattr("emu2eval.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"emu2eval\[ray\]"):
        evaluate(str(make_task()), str(make_model()), out=tmp_path, replicas=2)
    rays.connected.cache_clear()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:{port}", "nothing listens at 127.0.0.1:"),
        ("auto", "ray_current_cluster\\): "),  # the head of yesterday
        ("nowhere", "'nowhere' is not HOST:PORT"),
    ],
)
def test_an_address_that_nobody_listens_at_is_told_at_once(
    address: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emu2eval.engine.backends import rays

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        note = tmp_path / "ray" / "ray_current_cluster"
        note.parent.mkdir()
        note.write_text(f"127.0.0.1:{port}")
        for name, value in {"RAY_TMPDIR": str(tmp_path), "RAY_ADDRESS": ""}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=f"no Ray cluster answers: .*{said}"):
            rays.Cluster(address.format(port=port), 1)


def test_nothing_of_it_is_imported_without_replicas(tmp_path: Path) -> None:
    script = (
        "import sys, emu2eval.cli as c\n"
        "import emu2eval.engine.evaluation, emu2eval.engine.reopen\n"
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.slow
def test_a_cluster_that_runs_already(make_task: Any, make_model: Any, tmp_path: Path) -> None:
    """In processes of their own: this one has a connection."""
    task, model = make_task(queries=40), make_model(batch=4)
    ray, port = Path(sys.executable).with_name("ray"), "26379"
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    start = [ray, "start", "--head", "--block", "--port", port, "--num-cpus", "2"]
    head = subprocess.Popen(
        [*start, "--include-dashboard", "false"], stdout=subprocess.DEVNULL, env=environment
    )
    command = [sys.executable, "-m", "emu2eval.cli", "run", "--task", str(task)]
    command += ["--model", str(model), "--replicas", "2"]

    def run(address: str, out: str) -> subprocess.CompletedProcess[str]:
        given = [*command, "--cluster", address, "--out", str(tmp_path / out)]
        return subprocess.run(
            given, capture_output=True, text=True, timeout=300, env=environment, check=False
        )

    try:
        until = time.monotonic() + 120
        while (done := run(f"127.0.0.1:{port}", "runs")).returncode and time.monotonic() < until:
            time.sleep(1)  # the head is starting
        assert done.returncode == 0, done.stderr
        (record,) = (tmp_path / "runs").glob("*/run.json")
        (ran_on,) = json.loads(record.read_text().partition("\n//")[0])["ran_on"]
        assert (ran_on["replicas"], ran_on["hosts"]) == (2, 1)
        done = run("127.0.0.1:1", "none")
        assert (done.returncode, "no Ray cluster answers" in done.stderr) == (2, True), done.stderr
    finally:
        head.terminate()
        head.wait(timeout=60)


@pytest.mark.slow
def test_the_driver_is_killed_and_the_same_command_goes_on(
    make_task: Any, make_model: Any, tmp_path: Path
) -> None:
    task = make_task(queries=200)
    log = tmp_path / "log"
    model = make_model(batch=4, delay=0.1, log=str(log))
    (alone,) = evaluate(
        str(task), str(model), changes=["model.settings.delay=0"], out=tmp_path / "a"
    )
    log.unlink()
    command = [
        sys.executable,
        "-m",
        "emu2eval.cli",
        "run",
        "--task",
        str(task),
        "--model",
        str(model),
    ]
    command += ["--replicas", "2", "--out", str(tmp_path / "b")]
    for signal_ in (signal.SIGKILL, signal.SIGINT):
        before = len(log.read_text().splitlines()) if log.exists() else 0
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        until = time.monotonic() + 120
        while (len(log.read_text().splitlines()) if log.exists() else 0) < before + 40:
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal_)
        _, errors = process.communicate(timeout=60)
        if signal_ == signal.SIGINT:
            assert process.returncode == 130, errors.decode()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "b").iterdir()
    assert (folder / "scores.jsonl").read_bytes() == (alone.folder / "scores.jsonl").read_bytes()
    keys = log.read_text().splitlines()
    # Two replicas with two batches of four each, once: the keyboard loses none.
    assert len(set(keys)) == 200 and len(keys) <= 200 + 16


@pytest.mark.slow
def test_emu2_nano_as_replicas(tmp_path: Path) -> None:
    given: dict[str, Any] = {"shots": 4, "limit": 60}
    (alone,) = evaluate("easy-vqa", "emu2-nano", out=tmp_path / "alone", **given)
    (many,) = evaluate("easy-vqa", "emu2-nano", out=tmp_path / "many", replicas=2, **given)
    name = "scores.jsonl"
    assert (many.folder / name).read_bytes() == (alone.folder / name).read_bytes()
