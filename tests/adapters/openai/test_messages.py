"""Images as URLs: byte for byte where that can be, upright and lossless where it cannot."""

from __future__ import annotations

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from PIL import ExifTags, ImageChops
from PIL import Image as PILImage

from emu2eval.adapters.openai import urls as module
from emu2eval.adapters.openai.messages import IMAGE, Message, body, messages
from emu2eval.adapters.openai.settings import Layout
from emu2eval.adapters.openai.urls import ImageUrls
from emu2eval.engine.plan import check_request
from emu2eval.errors import ImageError, PlanError
from emu2eval.identity import request_key
from emu2eval.media import images
from emu2eval.types import Image, Prompt, Request, TextOutput, Turn, Video

from .building import openai

URLS = ImageUrls()


def image(form: str, size: tuple[int, int] = (40, 20), **options: Any) -> Image:
    image = PILImage.linear_gradient("L").resize(size).convert("RGB")
    data = io.BytesIO()
    image.save(data, form, **options)
    return Image(data=data.getvalue())


def decoded(url: object) -> tuple[str, bytes]:
    head, _, data = str(url).partition(";base64,")
    return head, base64.b64decode(data)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_known_formats_go_byte_for_byte(form: str) -> None:
    shown = image(form)
    assert decoded(ImageUrls().url(shown)) == (f"data:image/{form.lower()}", shown.data)


@pytest.mark.parametrize("form", ["BMP", "TIFF"])
def test_other_formats_go_as_png_without_loss(form: str) -> None:
    shown = image(form)
    head, data = decoded(ImageUrls().url(shown))
    assert head == "data:image/png"
    before = PILImage.open(io.BytesIO(shown.data or b"")).convert("RGB")
    assert ImageChops.difference(before, PILImage.open(io.BytesIO(data))).getbbox() is None


def test_an_image_that_lies_on_its_side_is_sent_upright() -> None:
    exif = PILImage.Exif()
    exif[ExifTags.Base.Orientation] = 6
    head, data = decoded(ImageUrls().url(image("JPEG", exif=exif)))
    sent = PILImage.open(io.BytesIO(data))
    assert (head, sent.size) == ("data:image/png", (20, 40))
    assert sent.getexif().get(ExifTags.Base.Orientation, 1) == 1


def test_a_large_image_is_shrunk_and_a_small_one_left_alone() -> None:
    urls = ImageUrls(max_side=30)
    _, data = decoded(urls.url(image("JPEG")))
    assert PILImage.open(io.BytesIO(data)).size == (30, 15)
    small = image("JPEG", (30, 30))
    assert decoded(urls.url(small))[1] == small.data


def test_an_image_is_encoded_once_and_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = ImageUrls()
    shown = [image("PNG", (20 + n, 20)) for n in range(5)]
    assert urls.url(shown[0]) is urls.url(Image(data=shown[0].data))
    monkeypatch.setattr(module, "KEPT_BYTES", 3 * len(urls.url(shown[0])))
    for each in shown:
        urls.url(each)
    assert 1 <= len(urls._kept) <= 3
    assert urls._size == sum(len(kept.result()) for kept in urls._kept.values())
    assert urls.url(shown[-1]) is urls.url(shown[-1])


def test_an_image_that_two_threads_want_at_once_is_made_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    urls, begun, go_on = ImageUrls(), Event(), Event()
    made: list[Image] = []

    def slow(image: Image) -> bytes:
        made.append(image)
        begun.set()
        assert go_on.wait(5)
        return image.data or b""

    monkeypatch.setattr(images, "read", slow)
    shown = image("JPEG")
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(urls.url, shown)
        assert begun.wait(5)
        second = threads.submit(urls.url, Image(data=shown.data))
        go_on.set()
        assert first.result(5) is second.result(5)
    assert len(made) == 1


def test_an_image_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    urls, path = ImageUrls(), tmp_path / "a.png"
    path.write_bytes(image("PNG").data or b"")
    shown = Image(str(path))
    images.digest(shown)
    path.unlink()
    with pytest.raises(ImageError):
        urls.url(shown)
    path.write_bytes(image("PNG").data or b"")
    assert decoded(urls.url(shown))[1] == path.read_bytes()


@pytest.mark.parametrize("layout", ["turns", "single"])
@pytest.mark.parametrize("detail", [None, "low"])
def test_a_body_in_pieces_is_the_json_of_the_whole(
    layout: Layout, detail: str | None, tmp_path: Path
) -> None:
    """Texts that need escapes, a name of the placeholder's kind among them, and an image at a URL."""
    (tmp_path / 'ü " b.png').write_bytes(image("PNG", (9, 9)).data or b"")
    urls = ImageUrls(root=str(tmp_path), base="https://host/é")
    at_url = Image(str(tmp_path / 'ü " b.png'))
    video = Video((image("PNG", (8, 8)), image("WEBP")))
    turn = Turn((image("JPEG"), 'is it "red"?\n'), ("já",))
    prompt = Prompt((at_url, video, f"{IMAGE[:-1]} \U0001f600 \\", image("BMP")), (turn,), "ß")

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(inner) for inner in value]
        if isinstance(value, dict):
            return {name: filled(inner) for name, inner in value.items()}
        return str(urls.url(next(shown))) if value == IMAGE else value

    fields: Message = {"messages": messages(prompt, layout, detail), "seed": 3}
    shown = iter(list(prompt.images()))
    whole = json.dumps(filled(fields)).encode()
    assert b"".join(body(fields, map(urls.url, prompt.images()))) == whole
    assert b"https://host/" in whole and b"data:image/png;base64" in whole
    assert (b'"detail": "low"' in whole) == (detail is not None)


def test_images_that_the_server_can_read_itself(tmp_path: Path) -> None:
    path = tmp_path / "data" / "a b.png"
    path.parent.mkdir()
    path.write_bytes(image("PNG").data or b"")
    urls = ImageUrls(root=str(tmp_path / "data"), base="https://host/images/")
    assert str(urls.url(Image(str(path)))) == "https://host/images/a%20b.png"
    elsewhere = tmp_path / "other.png"
    elsewhere.write_bytes(path.read_bytes())
    for other in (Image(str(elsewhere)), Image(data=path.read_bytes())):
        assert str(urls.url(other)).startswith("data:")


def test_a_video_is_its_frames_in_order() -> None:
    frames = tuple(image("PNG", (10 + n, 10)) for n in range(3))
    prompt = Prompt((Video(frames), "what happens?"))
    found = json.loads(
        b"".join(body({"m": messages(prompt, "turns")}, map(URLS.url, prompt.images())))
    )
    shown = [part["image_url"]["url"] for part in found["m"][0]["content"][:-1]]
    assert shown == [str(URLS.url(frame)) for frame in frames]


def test_replies_that_are_images() -> None:
    shown = image("PNG")
    turn = Turn(("draw",), (shown,))
    request = Request("0" * 64, Prompt(("draw",), (turn,)), TextOutput())
    with pytest.raises(
        PlanError, match="does not accept demonstrations whose replies are images"
    ) as caught:
        check_request(openai(), "served", request, "task", "query 1")
    assert "layout=single" in str(caught.value)
    check_request(openai(layout="single"), "served", request, "task", "query 1")
    (message,) = messages(request.prompt, "single")
    assert [part["type"] for part in message["content"]] == ["text", "image_url", "text"]


def test_a_prompt_with_an_opening_is_one_message_of_the_user() -> None:
    """Images as replies are then like any other; the order is that of the prompt."""
    red, blue = image("PNG"), image("PNG", (10, 10))
    prompt = Prompt(
        ("green:",), (Turn(("red:",), (red,)), Turn(("blue:",), (blue,))), opening="Draw. "
    )
    (asked,) = messages(replace(prompt, lead="", separator=""), "turns")
    assert asked["role"] == "user"
    kinds = [part["type"] for part in asked["content"]]
    assert kinds == ["text", "image_url", "text", "image_url", "text"]
    assert [part["text"] for part in asked["content"][::2]] == ["Draw. red:", "blue:", "green:"]
    assert openai().refusal(Request("0" * 64, prompt, TextOutput())) is None
    bare = replace(prompt, opening=None)
    assert "only contain text" in str(openai().refusal(Request("0" * 64, bare, TextOutput())))
    keys = {
        request_key(each, TextOutput(), "") for each in (prompt, bare, replace(prompt, opening=""))
    }
    assert len(keys) == 3
