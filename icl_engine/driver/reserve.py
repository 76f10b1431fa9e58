"""Space on the disk that is set aside."""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from pathlib import Path

RESERVE = 4 << 20
"""Bytes set aside, so that what is in flight when the disk is full can still be kept."""


class Reserve:
    """Space on the disk that nothing else can take: a file without a name, gone when it is closed or the process ends.

    Args:
        folder: on the disk in question.

    Raises:
        OSError: there is not so much left.
    """

    def __init__(self, folder: Path) -> None:
        with tempfile.TemporaryFile(dir=folder) as file:
            if not _allocated(file.fileno()):
                file.write(os.urandom(RESERVE))  # zeros may be packed by the file system
                file.flush()
            self._close = weakref.finalize(self, os.close, os.dup(file.fileno()))

    def close(self) -> None:
        """Give the space back; safe to call twice."""
        self._close()


def _allocated(file: int) -> bool:
    """Have the file system set the space aside, where it can do so."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(file, 0, RESERVE)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        return False
    return True
