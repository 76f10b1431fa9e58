"""Marks: what stands for the answer and for images while a template is rendered.

An image passes through a template, and through the joining of a prompt's parts, as a few characters, which are cut out
where a turn of a chat is made (`content`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from icl_engine.errors import TemplateError
from icl_engine.images import AnyImage, loaded, mapped
from icl_engine.types import Image

# Private to the process, so that no data can contain the mark. It has no case: a filter over printed text leaves it
# whole, or leaves some of its characters behind, which is then noticed.
_MARK = "".join(chr(0xF8000 + secrets.randbelow(0x7FFE)) for _ in range(8))
_FIRST = 0x100000
_NUMBERED = re.compile(f"{_MARK}([{chr(_FIRST)}-{chr(0x10FFFD)}])")
_PIECE = re.compile(f"[{_MARK}]")

SIMPLE = frozenset({str, int, float, bool, type(None)})
"""Types of values that are no images and hold none."""


class Mark:
    """Stands for a value while rendering: it can be printed and passed on, not looked into."""

    __slots__ = ()
    _why = ""

    def _refuse(self, *_: Any) -> NoReturn:
        raise TemplateError(self._why)

    __str__ = __len__ = __iter__ = __getitem__ = __add__ = __radd__ = __getattr__ = _refuse
    __mod__ = __mul__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __format__ = _refuse
    __repr__ = __eq__ = __ne__ = _refuse
    __hash__ = object.__hash__


class AnswerMark(Mark):
    """Stands for the answer."""

    __slots__ = ()
    _why = "'answer' may only be printed: a filter, test or operator on it cannot be filled later"
    __bool__ = Mark._refuse


class ImageMark(Mark):
    """Stands for an image, which can also be seen to be there."""

    __slots__ = ("_is_printed", "_text")
    _why = "an image may only be printed: a filter, comparison or field of it is no image"

    def __init__(self, number: int) -> None:
        self._text = _MARK + chr(_FIRST + number)
        self._is_printed = False

    def __bool__(self) -> bool:
        return True


def printed(mark: ImageMark) -> str:
    """The mark as text; no method, which a template could call."""
    mark._is_printed = True
    return mark._text


class ImageMarks:
    """The marks of one example's images."""

    def __init__(self) -> None:
        self._marks: list[ImageMark] = []
        self._images: list[AnyImage] = []

    def over(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The inputs with a mark in each image's place."""
        if all(type(value) in SIMPLE for value in inputs.values()):
            return inputs
        marked: Mapping[str, Any] = mapped(inputs, self._marked)
        return marked

    def ordered(self, text: str) -> tuple[str, tuple[AnyImage, ...]]:
        """A rendered text with all marks alike, and the images in the order they stand.

        Raises:
            TemplateError: an image that was printed is not there, or not whole.
        """
        if not self._marks:
            return text, ()
        texts = _NUMBERED.split(text)
        found = [ord(number) - _FIRST for number in texts[1::2]]
        lost = {i for i, mark in enumerate(self._marks) if mark._is_printed} - set(found)
        if lost or any(_PIECE.search(piece) for piece in texts[::2]):
            raise TemplateError("an image was printed and then changed or cut off; print it outside any filter")
        return _MARK.join(texts[::2]), tuple(self._images[i] for i in found)

    def _marked(self, value: Any) -> Any:
        if not isinstance(value, AnyImage):
            return value
        self._marks.append(ImageMark(len(self._marks)))
        self._images.append(value)
        return self._marks[-1]


def content(text: str, images: Sequence[AnyImage]) -> str | tuple[str | Image, ...]:
    """What a turn says: the text where there are no images, else its texts and the images, read, in order.

    White space alone between two images is layout, which providers refuse as a text of its own.
    """
    if not images:
        return text
    first, *texts = text.split(_MARK)
    parts: list[str | Image] = [first]
    for image, following in zip(images, texts, strict=True):
        parts += [loaded(image), following]
    return tuple(part for part in parts if not isinstance(part, str) or part.strip())
