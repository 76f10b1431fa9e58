"""Data sets on the hub: ``hf://org/set?split=test`` -> files in the local cache, fetched where they are not there yet.

    hf://org/set?split=test&config=en&revision=v2    a split, as the data set's card or its file names tell
    hf://org/set/data/test-*.parquet?revision=v2     files by their names
    hf://datasets/org/set…                           the same, spelt longer

`huggingface_hub` does the fetching; what it keeps serves offline too. Which files those are is `splits.py`.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from icl_engine.data.formats import common_ending, ending
from icl_engine.data.splits import CARD, matching, split_files
from icl_engine.errors import DataError, MissingExtraError, bounded, did_you_mean

SCHEME = "hf://"
KEYS = ("config", "revision", "split")
_QUERY = re.compile(r"\?(\w+=.*)\Z", re.DOTALL)
"""What comes after a ?; another ? stands for one character of a file's name."""


@dataclass(frozen=True, slots=True)
class Address:
    """What an ``hf://`` address says.

    Args:
        repo: the data set, as ``org/set``.
        path: a file or a pattern in its repository; "" for a split.
        split: the split.
        config: the configuration.
        revision: the branch, tag or commit.
    """

    repo: str
    path: str = ""
    split: str | None = None
    config: str | None = None
    revision: str | None = None


def parse(text: str) -> Address:
    """Read an address.

    Raises:
        DataError: it is none.

    >>> parse("hf://org/set?split=test")
    Address(repo='org/set', path='', split='test', config=None, revision=None)
    >>> parse("hf://datasets/org/set/part-?.csv").path
    'part-?.csv'
    """
    query = _QUERY.search(text)
    place = text[len(SCHEME) : query.start() if query else None]
    parts = [part for part in place.split("/") if part]
    org, name, *path = [*(parts[1:] if parts[:1] == ["datasets"] else parts), "", ""]
    given = _query(text, query[1] if query else "")
    if not org or not name:
        raise DataError("an address is hf://org/set?split=test, or hf://org/set/ and a file's name", file=text)
    if "?" in name or "@" in name:
        raise DataError("after the name comes ?split=…, joined by & with config=… and revision=…", file=text)
    found = Address(f"{org}/{name}", "/".join(filter(None, path)), **given)
    if found.path and (found.split or found.config):
        raise DataError("names files and a split; leave split= and config= out, or the files", file=text)
    return found


def _query(text: str, query: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        key, _, value = pair.partition("=")
        if key not in KEYS:
            raise DataError(f"unknown key {key!r}{did_you_mean(key, KEYS)}", file=text)
        if key in given or not value:
            raise DataError(f"{key}= takes one value" + (", and stands here twice" if key in given else ""), file=text)
        given[key] = unquote(value)
    return given


@cache
def files(text: str) -> tuple[Path, ...]:
    """The files that an address names, in the local cache; asked once in a process (`files.cache_clear` forgets).

    Raises:
        DataError: the address is none, the data set cannot be had, or it has no such split or file.
        MissingExtraError: the extra ``hf`` is not installed.
    """
    address = parse(text)
    with _told(text, address):
        folder = _folder(address)
        listed = _listed(address, folder.name)
    names = _stored(folder) if listed is None else listed
    try:
        chosen = _chosen(address, names, folder)
    except DataError as error:
        seen = "; only the local cache was looked at, for the hub cannot be asked" if listed is None else ""
        raise DataError(error.what + seen, file=text) from error
    if not all((folder / name).is_file() for name in chosen):
        with _told(text, address):
            _fetched(address, chosen, folder.name)
    return tuple(folder / name for name in chosen)


def _folder(address: Address) -> Path:
    """The local folder of the address's revision, the card in it."""
    from huggingface_hub import errors

    try:
        return _fetched(address, [CARD], address.revision)
    except errors.LocalEntryNotFoundError:
        if not address.path:
            raise
        # Offline. Files that are named need no card.
        return _fetched(address, [], address.revision, local=True)


def _fetched(address: Address, names: Sequence[str], revision: str | None, *, local: bool = False) -> Path:
    """The local folder of a revision, with some of its files in it."""
    from huggingface_hub import snapshot_download

    patterns = [glob.escape(name) for name in names]
    folder = snapshot_download(
        address.repo, repo_type="dataset", revision=revision, allow_patterns=patterns, local_files_only=local
    )
    return Path(folder)


def _listed(address: Address, commit: str) -> list[str] | None:
    """Every file of a revision; None where the hub cannot be asked and was not asked before."""
    import huggingface_hub

    with suppress(Exception):  # offline and never listed; which error tells it depends on the version
        if not hasattr(huggingface_hub, "get_cached_repo_tree"):  # an older one keeps no list
            info = huggingface_hub.HfApi().dataset_info(address.repo, revision=commit)
            return [file.rfilename for file in info.siblings or ()]
        tree = huggingface_hub.get_cached_repo_tree(address.repo, repo_type="dataset", revision=commit)
        return [file.path for file in tree]
    return None


def _stored(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _chosen(address: Address, names: Sequence[str], folder: Path) -> list[str]:
    if not address.path:
        card = folder / CARD
        text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
        return split_files(names, text, address.config, address.split)
    found = matching(names, address.path)
    if found:
        return found
    inside = common_ending(name for name in names if name.startswith(f"{address.path}/"))
    if inside is not None:
        raise DataError(f"is a folder; name its files: {SCHEME}{address.repo}/{address.path}/**/*{inside}")
    shown = bounded(", ".join(sorted(filter(ending, names))[:5])) or "none"
    raise DataError(f"no file of {address.repo} matches {address.path!r}; data files it has: {shown}")


@contextmanager
def _told(text: str, address: Address) -> Iterator[None]:
    """Tell in our own words what went wrong with the hub: its own may quote a request with the token in it."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError("hf:// data", "huggingface-hub", "hf") from error
    except Exception as error:
        raise DataError(_why(error, address), file=text) from error


def _why(error: Exception, address: Address) -> str:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return f"{address.repo} is gated: ask for access on its page, then log in (hf auth login) or set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no data set {address.repo}; if it is private, log in (hf auth login) or set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{address.repo} has no revision {address.revision!r}"
    if isinstance(error, errors.HFValidationError):
        return f"{address.repo!r} cannot be a data set's name; an address is hf://org/set?split=test"
    if isinstance(error, errors.LocalEntryNotFoundError):
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        revision = f" at revision {address.revision!r}" if address.revision else ""
        return f"{address.repo}{revision} is not (or not all) in the local cache, and {why}; fetch it once while online"
    if isinstance(error, OSError) and error.errno:
        return f"the local cache cannot be used: {error.strerror}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return "the hub does not accept the token; log in again (hf auth login) or set HF_TOKEN"
    answer = f"answered with status {status}" if status else f"could not be asked ({type(error).__name__})"
    return f"the hub {answer}; try again later"
