"""Images among the inputs: what is one, whether it can be sent, what is written down of it.

A row holds an `ImageFile` for a path, so that a data set of images streams: its head is looked at when the row is
read, the whole when the row is rendered. An address or bytes are an `Image` at once, which is what reaches the model.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from icl_engine.errors import DataError, bounded
from icl_engine.types import Image

LIMIT = 20_000_000
"""The most bytes an image may have."""

HEAD = 16
"""So many bytes tell an image's type."""

KEPT = "icl:image"
"""The key under which a saved program keeps an image."""


@dataclass(frozen=True)
class ImageFile:
    """An image that is read when it is needed.

    Args:
        name: the path as written.
        path: the file.
    """

    name: str
    path: Path

    def load(self) -> Image:
        """The image, read.

        Raises:
            DataError: it cannot be read, or is no longer what its head promised.
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"the image {self.path} cannot be read: {error.strerror}") from error
        return Image(self.name, data=data, media_type=_check(data[:HEAD], len(data), str(self.path)))

    @cached_property
    def identity(self) -> str:
        """The hash of its bytes."""
        return self.load().identity


AnyImage = Image | ImageFile


def media_type(head: bytes) -> str | None:
    r"""The type that the first bytes tell; None for what cannot be sent as an image.

    >>> media_type(b"\x89PNG\r\n\x1a\n"), media_type(b"%PDF-1.7")
    ('image/png', None)
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def images_in(value: Any, base: Path, *, listed: bool) -> Any:
    """A field's value with every image in it made one.

    Args:
        value: what the row has.
        base: the folder that paths are relative to.
        listed: whether the field is one of images: its text, or each of a list of texts, is then a path or an address.
            Bytes that are an image are one in any field.

    Raises:
        DataError: no such file, not an image, or too large.
    """
    if not listed or not value:
        return mapped(value, _of_image_bytes)
    if isinstance(value, str | PurePath):
        return _of_text(str(value), base)
    if isinstance(value, bytes):
        return _of_bytes(value)
    if isinstance(value, list | tuple):
        return [images_in(item, base, listed=True) for item in value]
    if not isinstance(value, Mapping):
        raise DataError(f"takes an image's path, address or bytes, not a value of type {type(value).__name__}")
    if value.keys() != {"bytes", "path"}:
        return images_in(value, base, listed=False)
    inside, path = value["bytes"], value["path"]  # so data sets on the hub keep images
    return _of_bytes(inside, path) if isinstance(inside, bytes) else images_in(path, base, listed=True)


def loaded(image: AnyImage) -> Image:
    """The image itself, read where it is a file's."""
    return image.load() if isinstance(image, ImageFile) else image


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The value with `change` applied to it or, where that leaves it as it is, to what is inside it.

    A value in which nothing changes is returned itself.
    """
    changed = change(value)
    if changed is not value or isinstance(value, str):
        return changed
    if isinstance(value, Mapping):
        inside: dict[Any, Any] = {}
        for key, item in value.items():
            if (new := mapped(item, change)) is not item:
                inside[key] = new
        return {**value, **inside} if inside else value
    if isinstance(value, list | tuple):
        items = [mapped(v, change) for v in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    return value


def identified(value: Any) -> Any:
    """The value with a hash of its content in each image's place."""
    return mapped(value, lambda v: _sha256(v.identity.encode()) if isinstance(v, AnyImage) else v)


def written(value: Any) -> Any:
    """The value as it may be written down: an image's path or address as it was given, never its bytes.

    >>> written({"images": [Image("http://a/b.png", "http://a/b.png")], "blob": b"1234"})["images"]
    ['http://a/b.png']
    """
    return mapped(value, _written)


def saved(value: Any) -> Any:
    """The value with its images as JSON, for a saved program, which stands alone; `restored` takes it back."""
    return mapped(value, _saved)


def restored(value: Any) -> Any:
    """The value that was `saved`."""
    return mapped(value, _restored)


def _written(value: Any) -> Any:
    if isinstance(value, ImageFile) or (isinstance(value, Image) and value.data is None):
        return value.name
    if isinstance(value, Image):
        return f"<{value.name}, {value.identity.replace(':', ' ')}>"
    if isinstance(value, bytes):
        kind = media_type(value)
        return f"<{kind + ', ' if kind else ''}{len(value)} bytes, sha256 {_sha256(value)}>"
    if isinstance(value, str) and value.startswith("data:image/"):
        return f"<data: URI, {len(value)} characters, sha256 {_sha256(value.encode())}>"
    return value


def _saved(value: Any) -> Any:
    if not isinstance(value, AnyImage):
        return value
    image = loaded(value)
    uri = f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}" if image.data else image.url
    return {KEPT: uri, "name": image.name}


def _restored(value: Any) -> Any:
    if not isinstance(value, Mapping) or value.keys() != {KEPT, "name"}:
        return value
    uri, name = value[KEPT], value["name"]
    return _of_bytes(_decoded(uri), name) if uri.startswith("data:") else Image(name, uri)


def _of_text(text: str, base: Path) -> AnyImage:
    scheme = text[:16].lower()
    if scheme.startswith(("http://", "https://")):
        return Image(text, text)
    if scheme.startswith("data:"):
        return _of_bytes(_decoded(text))
    if "://" in scheme:
        raise DataError(f"images have paths, http(s) addresses or data: URIs, not {bounded(text, 120)}")
    try:
        path = base / Path(text).expanduser()
        if not path.is_file():
            raise DataError(f"no such image file: {bounded(str(path))} (data.images lists the fields that hold images)")
        with path.open("rb") as file:
            head = file.read(HEAD)
        _check(head, path.stat().st_size, str(path))
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, a null in it, no such user's home
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"the image {bounded(text, 120)} cannot be read: {why}") from error
    return ImageFile(text, path)


def _of_image_bytes(value: Any) -> Any:
    return _of_bytes(value) if isinstance(value, bytes) and media_type(value[:HEAD]) else value


def _of_bytes(data: bytes, name: str | None = None) -> Image:
    kind = _check(data[:HEAD], len(data), name or f"what is given ({len(data)} bytes)")
    return Image(name or f"{kind}, {len(data)} bytes", data=data, media_type=kind)


def _decoded(uri: str) -> bytes:
    head, _, body = uri.partition(",")
    if not head.lower().endswith(";base64"):
        raise DataError("a data: URI of an image is written as data:image/png;base64,…")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except ValueError as error:
        raise DataError("the data: URI is not valid base64") from error


def _check(head: bytes, size: int, name: str) -> str:
    """The media type of an image that begins with `head`.

    Raises:
        DataError: it is none that can be sent, or too large.
    """
    kind = media_type(head)
    if kind is None:
        raise DataError(f"{name} is not a PNG, JPEG, GIF or WebP image")
    if size > LIMIT:
        raise DataError(f"{name} has {size / 1e6:.1f} MB; the most an image may have is {LIMIT / 1e6:.0f} MB")
    return kind


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
