"""Replies as servers may send them, and connections that are used again, or not."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from emu2eval.adapters.openai.lines import Broken, LineError, Lines, NoAnswer, Reply, Unreachable
from emu2eval.adapters.openai.route import Route

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def exchange(
    *sends: bytes | None, timeout: float = 5, body: bytes = b"{}"
) -> tuple[list[Reply | LineError], list[int]]:
    """What came of a request for each of what a server sends (None: nothing), and on which connections."""
    lines_of: list[int] = []

    async def go() -> list[Reply | LineError]:
        left, connections = list(sends), 0
        open_: list[tuple[Any, asyncio.StreamWriter]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            mine = connections
            open_.append((asyncio.current_task(), writer))
            while left:
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(
                        int(head.lower().split(b"content-length: ")[1].split()[0])
                    )
                except asyncio.IncompleteReadError:
                    break
                lines_of.append(mine)
                said = left.pop(0)
                if said is None:
                    await asyncio.sleep(60)
                    continue
                for start in range(0, len(said), 7):  # in pieces, as a network may
                    writer.write(said[start : start + 7])
                    await asyncio.sleep(0)
                if b"Content-Length: 9" in said or b"HTTP/1.0" in said:
                    break
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        lines = Lines(
            Route(False, "127.0.0.1", port, f"127.0.0.1:{port}", "/v1"),
            None,
            timeout=timeout,
            connect=5,
        )
        found: list[Reply | LineError] = []
        for _ in sends:
            try:
                found.append(await lines.ask("POST", "/x", [], [body]))
            except LineError as error:
                found.append(error)
        await lines.close()
        server.close()
        for task, writer in open_:
            task.cancel()
            writer.close()
            await asyncio.gather(task, writer.wait_closed(), return_exceptions=True)
        return found

    return asyncio.run(go()), lines_of


def test_a_connection_is_used_again() -> None:
    found, on = exchange(OK, OK, OK)
    assert [reply.text for reply in found if isinstance(reply, Reply)] == ["hi"] * 3
    assert on == [1, 1, 1]


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.0 200 OK\r\n\r\nhi",
        b"HTTP/1.1 200\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        OK + b"more than was asked for",
        OK.replace(b"Length: 2", b"Encoding: gzip\r\nTransfer-Encoding: chunked").replace(
            b"hi", b"%x\r\n%s\r\n0\r\n\r\n" % (len(gzip.compress(b"hi")), gzip.compress(b"hi"))
        ),
    ],
)
def test_a_reply_in_any_of_its_forms(said: bytes) -> None:
    found, _ = exchange(said, OK)
    assert [(r.status, r.reason, r.text) for r in found if isinstance(r, Reply)] == [
        (200, "OK", "hi")
    ] * 2


@pytest.mark.parametrize(
    ("said", "kind", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", Broken, "complete"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Broken, "not complete HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, Broken, "not complete HTTP"),
        (None, NoAnswer, "0.05 seconds without a byte"),
    ],
)
def test_what_is_no_reply_costs_its_own_request(said: Any, kind: Any, says: str) -> None:
    (first, second), on = exchange(said, OK, timeout=0.05 if said is None else 5)
    assert isinstance(first, kind) and says in str(first)
    assert isinstance(second, Reply) and on == [1, 2]


def test_a_large_request_arrives_whole() -> None:
    found, _ = exchange(OK, OK, body=b"x" * 3_000_000)
    assert all(isinstance(reply, Reply) for reply in found)


def test_nobody_there() -> None:
    async def go() -> None:
        route = Route(False, "127.0.0.1", 9, "127.0.0.1:9", "/v1")
        await Lines(route, None, timeout=5, connect=5).ask("GET", "/models", [])

    with pytest.raises(Unreachable, match="refused"):
        asyncio.run(go())
