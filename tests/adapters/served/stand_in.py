"""Stands in for a serving engine: takes its command line, answers a few requests, misbehaves to order.

STAND_IN names a folder for orders, files in it, and for what it leaves behind.
  go       it is loading until this file is there     fails    it prints this and ends with exit code 3
  crashes  it ends at the request of this number      stays    SIGTERM does not end it
  child    it starts another process, in a session of its own
  holds    the one with these GPUs never answers, and the others only once it was asked
"""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

FOLDER = Path(os.environ.get("STAND_IN", "."))
asked = []


def order(name: str) -> str | None:
    path = FOLDER / name
    return path.read_text() if path.exists() else None


def main() -> None:
    if "--version" in sys.argv or sys.argv[1:] == ["version"]:
        print("stand-in version: 0.30.0\nbuilt for tests")
        return
    print(f"serving {sys.argv[2]}", flush=True)
    kept = {"argv": sys.argv[1:], "pid": os.getpid(), "environment": dict(os.environ)}
    if order("stays") is not None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if order("child") is not None:
        kept["child"] = child = os.fork()
        if not child:
            os.setsid()
            signal.pause()
    partial = FOLDER / f"started-{os.getpid()}.part"
    partial.write_text(json.dumps(kept))
    partial.rename(partial.with_suffix(".json"))
    if (words := order("fails")) is not None:
        print("loading weights", flush=True)
        print(words, file=sys.stderr, flush=True)
        sys.exit(3)
    listener = socket.socket()
    # Nothing else is heard of by default, as with uvicorn.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def serve(connection: socket.socket) -> None:
    with connection, connection.makefile("rb") as lines:
        while first := lines.readline():
            length = 0
            while (line := lines.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            answer(connection, first.split()[1].decode(), lines.read(length))


def hold() -> None:
    gpus = order("holds")
    if gpus is None:
        return
    if os.environ["CUDA_VISIBLE_DEVICES"] == gpus:
        (FOLDER / "held").touch()
        threading.Event().wait()
    while order("held") is None:
        threading.Event().wait(0.005)


def answer(connection: socket.socket, path: str, body: bytes) -> None:
    state, said = "200 OK", {"data": []}
    if path == "/health" and order("go") == "":
        state = "503 Loading"
    elif path.endswith("/chat/completions"):
        asked.append(json.loads(body))
        hold()
        if order("crashes") == str(len(asked)):
            print("CUDA error: an illegal memory access was encountered", flush=True)
            os._exit(1)
        said = {
            "choices": [{"message": {"content": "red"}, "finish_reason": "stop"}],
            "model": asked[-1]["model"],
            "usage": {"prompt_tokens": 7, "completion_tokens": 1},
        }
    data = json.dumps(said).encode()
    connection.sendall(
        b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (state.encode(), len(data), data)
    )


if __name__ == "__main__":
    main()
