"""Which files of a data set's repository are a split: as its card says, else as their names say.

All of it is about names; nothing is read but the card's text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from icl_engine.data.formats import ending
from icl_engine.errors import DataError, bounded, did_you_mean

CARD = "README.md"
SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "dev": "validation",
    "val": "validation",
    "test": "test",
}
"""A word in a file's or folder's name -> the split it stands for."""
ABOUT = frozenset({"config.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json"})
"""Files about a data set: their endings are those of data files, but no rows are in them."""
_PART = re.compile(r"-\d+-of-(\d+)(?=[^/]*\Z)")
_FRONT = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Config:
    """One configuration of a data set, as its card describes it.

    Args:
        splits: split -> patterns of its files; None where the files' names tell.
        folder: where its files are; "" for everywhere.
    """

    splits: Mapping[str, Sequence[str]] | None = None
    folder: str = ""


def split_files(names: Sequence[str], card: str, config: str | None, split: str | None) -> list[str]:
    """The files of a split, in their order.

    Args:
        names: every file of the repository.
        card: the text of its README.md; "" where it has none.
        config: the configuration asked for.
        split: the split asked for; the only one by default.

    Raises:
        DataError: there is no such configuration or split, or more than one to choose from.
    """
    chosen = _config_of(names, card, config)
    if chosen.splits is None:
        return _by_name(_data(names, chosen.folder), split)
    found: dict[str, None] = {}
    for pattern in chosen.splits[_one("split", split, chosen.splits)]:
        matched = matching(names, pattern)
        if not matched:
            raise DataError(f"has no file {bounded(pattern)}, though its card names it")
        found |= dict.fromkeys(matched)
    return _whole(list(found))


def _config_of(names: Sequence[str], card: str, config: str | None) -> Config:
    """The configuration asked for: the card's, else what the data files in a folder of that name are."""
    configs, default = read_card(card)
    if configs:
        return configs[_one("config", config or default, configs)]
    folders = {name.split("/")[0] for name in _data(names, "") if "/" in name}
    if config is None or (config == "default" and config not in folders):
        return Config()
    return Config(folder=_one("config", config, folders))


def _one(kind: str, name: str | None, valid: Iterable[str]) -> str:
    """The configuration or split of a name, or the only one where none is given."""
    known = sorted(valid)
    listed = bounded(", ".join(known)) or "none"
    if name is None:
        if len(known) == 1:
            return known[0]
        raise DataError(f"has several {kind}s; add {kind}= with one of: {listed}")
    if name not in known:
        near = did_you_mean(name, known)
        raise DataError(f"has no {kind} {name!r}{near if near.startswith(';') else ''} ({kind}s: {listed})")
    return name


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """The names that a pattern matches, sorted; a name that is the pattern itself, alone.

    Hidden files do not match, nor do files of unknown formats where there are others.

    >>> matching(["a/x.csv", "a/b/x.csv", "a/README.md"], "a/*"), matching(["a/b/x.csv", "x.csv"], "**/x.csv")
    (['a/x.csv'], ['a/b/x.csv', 'x.csv'])
    """
    known, parts = set(names), PurePosixPath(pattern).parts
    exact = "/".join(parts)
    if exact in known:
        return [exact]
    found = sorted(n for n in known if "/." not in f"/{n}" and _fits(n.split("/"), parts))
    return [n for n in found if ending(n)] or found


def _fits(name: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(_fits(name[i:], pattern[1:]) for i in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], pattern[0]) and _fits(name[1:], pattern[1:])


def _data(names: Iterable[str], folder: str) -> list[str]:
    """The data files in a folder, hidden ones and those about the data set left out."""
    return sorted(
        name
        for name in names
        if ending(name)
        and name.startswith(f"{folder}/" if folder else "")
        and PurePosixPath(name).name not in ABOUT
        and not any(part.startswith((".", "_")) for part in name.split("/"))
    )


def _by_name(names: Sequence[str], split: str | None) -> list[str]:
    """The data files whose name, or else whose folder's name, has the split's name as a word."""
    if not names:
        raise DataError("has no data files (a converted copy may be there with revision=refs/convert/parquet)")
    words = {name: _split_word(name) for name in names}
    present = {SPLITS[word] for word in words.values() if word} or {"train"}
    wanted = _one("split", None, present) if split is None else split
    if not any(words.values()) and wanted == "train":
        found = list(names)
    elif wanted in SPLITS:
        found = [name for name, word in words.items() if word == wanted]
        found = found or [name for name, word in words.items() if word and SPLITS[word] == SPLITS[wanted]]
    else:
        found = [name for name in names if _has_word(name, wanted)]
    if not found:
        _one("split", wanted, present)
    return _whole(_one_format(found, wanted))


def _split_word(name: str) -> str | None:
    """The first word in a file's name, else in its nearest folder's, that stands for a split."""
    for part in reversed(name.lower().split("/")):
        word = next((w for w in re.split(r"[^a-z0-9]+", part) if w in SPLITS), None)
        if word is not None:
            return word
    return None


def _has_word(name: str, word: str) -> bool:
    return re.search(rf"(?<![a-z0-9]){re.escape(word.lower())}(?![a-z0-9])", name.lower()) is not None


def _one_format(names: Sequence[str], split: str) -> list[str]:
    """The files, where they are of one format: a repository may hold the same rows in two."""
    endings = sorted({str(ending(name)).lower() for name in names})
    if len(endings) > 1:
        raise DataError(
            f"has the split {split!r} in several formats ({', '.join(endings)}); name its files: …/{names[0]}"
        )
    return list(names)


def _whole(names: Sequence[str]) -> list[str]:
    """The files, where every part of a numbered series (``train-00000-of-00002``) is there: a cache may hold some."""
    parts = [(name[: part.start()], part[1], name[part.end() :]) for name in names if (part := _PART.search(name))]
    for (before, total, after), found in Counter(parts).items():
        if found < int(total):
            raise DataError(f"has only {found} of the {int(total)} parts {before}-*-of-{total}{after}")
    return list(names)


def read_card(text: str) -> tuple[dict[str, Config], str | None]:
    """The configurations that a data set's card lists, and the one taken where none is asked for.

    Raises:
        DataError: its front matter is not YAML.
    """
    front = _FRONT.match(text)
    try:
        found = YAML(typ="safe", pure=True).load(front[1]) if front else None
    except (YAMLError, ValueError) as error:
        raise DataError("the front matter of its card is not YAML; name a file of it instead") from error
    listed = found.get("configs") if isinstance(found, Mapping) else None
    entries = [e for e in listed if isinstance(e, Mapping)] if isinstance(listed, list) else []
    configs = {str(e.get("config_name") or "default"): _config(e) for e in entries}
    marked = [str(e.get("config_name") or "default") for e in entries if e.get("default") is True]
    return configs, next(iter(marked), "default" if "default" in configs else None)


def _config(entry: Mapping[str, Any]) -> Config:
    folder = "/".join(PurePosixPath(str(entry.get("data_dir") or "")).parts)
    files = entry.get("data_files")
    if files is None:
        return Config(None, folder)
    if isinstance(files, Mapping):
        pairs = [(str(split), _listed(paths)) for split, paths in files.items()]
    elif isinstance(files, list) and all(isinstance(f, Mapping) for f in files):
        pairs = [(str(f.get("split", "train")), _listed(f.get("path"))) for f in files]
    else:
        pairs = [("train", _listed(files))]
    return Config({split: [f"{folder}/{p}" if folder else p for p in paths] for split, paths in pairs})


def _listed(paths: Any) -> list[str]:
    return [str(p) for p in paths] if isinstance(paths, list) else [str(paths)]
