"""A model behind a serving engine that this process starts, asks as any server, and stops."""

from __future__ import annotations

import http.client
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, ClassVar

from emu2eval.adapters.base import Cost
from emu2eval.adapters.memory import ReplicaFit
from emu2eval.adapters.openai.adapter import OpenAIAdapter
from emu2eval.adapters.served.checkpoint import (
    BESIDE,
    ServedCheckpoint,
    fetch_checkpoint,
    open_checkpoint,
)
from emu2eval.adapters.served.engines import (
    HOST,
    brings_code,
    command,
    whole_options,
)
from emu2eval.adapters.served.installed import cards, environment, gpus, program_of, version_of
from emu2eval.adapters.served.process import ServerProcess
from emu2eval.adapters.served.settings import ServedSettings
from emu2eval.adapters.served.spread import fewest, shared_by
from emu2eval.errors import ModelError, ModelGone, UserError
from emu2eval.trust import check_engine_code
from emu2eval.types import Request

ATTEMPTS = 3
"""Ports that are tried: another program may take one between our look and the server's start."""
TOLD_EVERY = 30.0
"""Seconds between two lines about a server that is still loading."""
_SHORTEST, _LONGEST = 0.05, 1.0
"""Seconds between two looks at a server that is starting."""


class ServedAdapter(OpenAIAdapter):
    """vLLM, SGLang, llama.cpp or `transformers serve`, started for a checkpoint on a free local port.

    It sees the GPUs that this process sees. The docstrings of `ServedSettings` and `ChatSettings` say what
    its settings do.
    """

    runs_on: ClassVar[str | None] = "a serving engine"
    replicable: ClassVar[bool] = True
    neutral: ClassVar[frozenset[str]] = frozenset(
        "batch checkpoint concurrency load_timeout timeout retries longest_wait max_images max_positions "
        "image_tokens".split()
    )

    def __init__(self, settings: ServedSettings):
        super().__init__(settings.of_server())
        self._served = settings
        self._server: ServerProcess | None = None
        self.port = 0
        """Of the loopback, where the server listens once it is loaded."""
        if code := brings_code(settings.options):
            check_engine_code(code)

    @property
    def uses_gpus(self) -> bool:
        return True

    # -- before it is loaded ------------------------------------------------------------------------

    def identity(self) -> Mapping[str, Any]:
        """The weights, and which release of the engine runs them."""
        return {
            **super().identity(),
            "engine": self._version,
            "weights": self._digest,
            "revision": self._served.revision,
        }

    def lacks(self) -> list[UserError]:
        found: list[UserError] = []
        for look in (lambda: program_of(self._served.of_engine), lambda: self._checkpoint):
            try:
                look()
            except UserError as error:
                found += error.parts
        return found

    def fetch(self) -> None:
        fetch_checkpoint(self._served.checkpoint, self._served.revision, code=self._runs_code)
        self.__dict__.pop("_checkpoint", None)

    def about(self) -> Mapping[str, str]:
        return {"engine": f"{self._served.engine} {self._version}"}

    def warning(self, request: Request) -> str | None:
        engine = self._served.of_engine
        if self._served.image_options and not engine.image_options:
            return (
                f"{engine.name} takes no image_options, so it resizes images as the checkpoint says, which "
                "may take more positions; to shrink them before that: --set model.settings.max_side=512"
            )
        return None

    def refusal(self, request: Request) -> str | None:
        blind = self._served.of_engine.gguf and self._checkpoint.projector is None
        if blind and any(True for _ in request.prompt.images()):
            return "llama.cpp sees no images without a projector, mmproj-*.gguf, next to the model's file"
        return super().refusal(request)

    def fit_replicas(self, devices: Sequence[int]) -> ReplicaFit | None:
        """By the size of the weights; the engine plans the rest of each card itself."""
        if not devices:
            return None
        own, checkpoint = self._served, self._checkpoint
        size, config = checkpoint.size(), checkpoint.config()
        return fewest(own.of_engine, size, devices, config, own.options, self.limits.batch)

    def cost(self, request: Request) -> Cost | None:
        """Nothing is paid for."""
        return None

    def devices(self) -> Mapping[str, int]:
        return cards() or {"CPU": 1}

    @property
    def _runs_code(self) -> bool:
        return bool(brings_code(self._served.options))

    @cached_property
    def _checkpoint(self) -> ServedCheckpoint:
        own = self._served
        gguf = own.of_engine.gguf
        return open_checkpoint(
            own.checkpoint,
            own.revision,
            gguf=gguf,
            code=self._runs_code,
            projector=own.options.get("mmproj", BESIDE) if gguf else None,
        )

    @cached_property
    def _digest(self) -> str:
        return self._checkpoint.digest()

    @cached_property
    def _version(self) -> str:
        engine = self._served.of_engine
        return version_of(engine, program_of(engine))

    # -- the server ---------------------------------------------------------------------------------

    def load(self) -> None:
        """Starts the engine and waits until it answers.

        Raises ModelError with its last lines where it ends before that, or takes longer than `load_timeout`.
        """
        for attempt in range(ATTEMPTS):
            port = _free_port()
            self._server = self._started(port)
            try:
                self._wait(self._server, port)
                self.port = port
                self._connect(f"http://{HOST}:{port}/v1", self._check)
                return
            except _PortTaken as error:
                self._stop()
                if attempt == ATTEMPTS - 1:
                    raise error.problem from None
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._stop()

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def _started(self, port: int) -> ServerProcess:
        own, engine, checkpoint = self._served, self._served.of_engine, self._checkpoint
        options = whole_options(engine, own.options, own.image_options)
        if checkpoint.projector is not None:
            options["mmproj"] = os.fspath(checkpoint.projector.absolute())
        options = {**shared_by(engine, gpus(), checkpoint.config(), own.options), **options}
        model = os.fspath(checkpoint.path.absolute())
        if not engine.named:
            self._model = model
        line = command(engine, program_of(engine), model, port, options)
        return ServerProcess(engine.name, line, environment())

    def _wait(self, server: ServerProcess, port: int) -> None:
        began = time.monotonic()
        limit, told, pause = self._served.load_timeout, began + TOLD_EVERY, _SHORTEST
        while True:
            if server.ended is not None:
                problem = ModelError(self._end(server, "did not start"))
                raise _PortTaken(problem) if _answers(port) else problem
            if _healthy(port) and server.listens(port):
                return
            now = time.monotonic()
            if limit is not None and now - began > limit:
                raise ModelError(
                    f"{self._served.engine} did not answer within {limit:,.0f} seconds; its last lines:\n"
                    f"{server.last_lines()}",
                    hint="--set model.settings.load_timeout=7200, or null to wait as long as it runs",
                )
            if now >= told:
                last = server.last_lines(1)
                if _answers(port) and not server.listens(port):
                    last = f"port {port} answers, but it is not listening there"
                waited = f"{self._served.engine} is loading, {now - began:,.0f} s"
                self.tell(f"{waited}: {last}" if last else waited)
                told = now + TOLD_EVERY
            time.sleep(pause)
            pause = min(pause * 1.2, _LONGEST)

    def _check(self) -> None:
        """Raises ModelGone where the server has ended in the middle."""
        if self._server is not None and self._server.ended is not None:
            raise ModelGone(
                self._end(self._server, "stopped"),
                hint="all answers so far are saved; the same command starts it again for the others",
            )

    def _end(self, server: ServerProcess, what: str) -> str:
        said = server.last_lines() or "(nothing)"
        return f"{self._served.engine} {what} ({server.ended}); its last lines:\n{said}"


class _PortTaken(Exception):
    """The server ended, and somebody else listens where it was to. problem: what to say if that goes on."""

    def __init__(self, problem: ModelError):
        super().__init__(str(problem))
        self.problem = problem


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


def _answers(port: int) -> bool:
    """Whether anybody listens on the port."""
    with suppress(OSError), socket.create_connection((HOST, port), 1.0):
        return True
    return False


def _healthy(port: int) -> bool:
    line = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        line.request("GET", "/health")
        return line.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()
