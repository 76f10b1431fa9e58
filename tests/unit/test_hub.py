"""Data sets on the hub: what an address means, which files it names, what is said where there is none.

The hub is a folder in its own cache's layout, or a server on this machine.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_engine.config.load import load_task
from icl_engine.data import hub
from icl_engine.data.files import files
from icl_engine.data.hub import Address, parse
from icl_engine.data.source import Schema, examples, fingerprint, place
from icl_engine.data.splits import SPLITS, matching, read_card, split_files
from icl_engine.errors import DataError, MissingExtraError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_thisIsNobodysToken"
LOCAL = "; only the local cache was looked at, for the hub cannot be asked"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the hub's, with the hub out of reach."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.files.cache_clear()
    yield folder
    hub.files.cache_clear()


def cached(
    cache: Path,
    contents: Mapping[str, str | bytes],
    repo: str = "org/set",
    revision: str = "main",
    commit: str = COMMIT,
) -> Path:
    """Put a revision of a data set into the cache; its folder."""
    home = cache / f"datasets--{repo.replace('/', '--')}"
    folder = home / "snapshots" / commit
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    (home / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
    (home / "refs" / revision).write_text(commit)
    return folder


def listed(cache: Path, names: list[str]) -> None:
    """Let the cache know every file of the revision, as it does after the hub was asked."""
    tree = cache / "datasets--org--set" / "trees" / f"{COMMIT}.json"
    tree.parent.mkdir(parents=True)
    entries = {name: {"size": 1, "blob_id": hashlib.sha1(name.encode()).hexdigest()} for name in names}
    tree.write_text(json.dumps({"format_version": 1, "files": entries}))


def mistake(address: str) -> str:
    """What is wrong with an address, told in one line and without the token."""
    with pytest.raises(DataError) as error:
        files(address)
    assert error.value.file == address
    assert "\n" not in str(error.value)
    assert TOKEN not in str(error.value)
    return error.value.what


def numbers(source: str) -> list[Any]:
    return [x.inputs["n"] for x in examples(source, Schema(), need_target=False, key="data.test")]


def rows(*numbers: int) -> str:
    return "".join(f'{{"n": {n}}}\n' for n in numbers)


CARD = """\
---
license: mit
configs:
- config_name: 'no'
  data_files:
  - split: train
    path: no/train.jsonl
- config_name: en
  default: true
  data_files:
  - split: train
    path: [data/b-*.jsonl, "data/a.jsonl"]
  - split: test
    path: "data/**/test-?.jsonl"
- config_name: short
  data_files: no/*.jsonl
- config_name: folder
  data_dir: more
- config_name: folder_files
  data_dir: more/
  data_files: [{split: dev, path: "x.*"}]
---
# A data set
"""
CONTENTS = {
    "README.md": CARD,
    "data/a.jsonl": rows(0),
    "data/b-1.jsonl": rows(1),
    "data/b-0.jsonl": rows(2),
    "data/deep/test-0.jsonl": rows(3),
    "data/test-1.jsonl": rows(4),
    "data/test-10.jsonl": rows(99),
    "no/train.jsonl": rows(5),
    "more/x.jsonl": rows(6),
    "more/val.csv": "n\n7\n",
    "more/train.csv": "n\n8\n",
}


# addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://org/set", Address("org/set")),
        ("hf://org/set/", Address("org/set")),
        ("hf://datasets/org/set?split=test", Address("org/set", split="test")),
        ("hf://org/set?split=a%20b&config=c&revision=refs/pr/1", Address("org/set", "", "a b", "c", "refs/pr/1")),
        ("hf://org/set/data/test-*.parquet", Address("org/set", "data/test-*.parquet")),
        ("hf://datasets/org/set/d/part-?.csv?revision=v2", Address("org/set", "d/part-?.csv", revision="v2")),
        ("hf://org/set/part-?/x=1.csv", Address("org/set", "part-?/x=1.csv")),
        ("hf://org/set/split=test/0.csv", Address("org/set", "split=test/0.csv")),
        ("hf://org/set?split=train+test", Address("org/set", split="train+test")),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse(text) == address


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://org", "an address is hf://org/set?split=test"),
        ("hf://datasets/set", "an address is hf://org/set?split=test"),
        ("hf://org/set?splt=test", "unknown key 'splt'; did you mean 'split'?"),
        ("hf://org/set?split=test&rev=v2", "unknown key 'rev'"),
        ("hf://org/set?split=test&split=train", "split= takes one value, and stands here twice"),
        ("hf://org/set?split=", "split= takes one value"),
        ("hf://org/set?test", "after the name comes ?split=…"),
        ("hf://org/set@v2", "after the name comes ?split=…"),
        ("hf://org/set/test.csv?split=test", "names files and a split"),
        ("hf://o rg/set?split=test", "'o rg/set' cannot be a data set's name"),
    ],
)
def test_an_address_that_is_none(address: str, words: str) -> None:
    assert words in mistake(address)


def test_an_unknown_key_is_told_with_the_valid_ones() -> None:
    assert mistake("hf://org/set?x=test") == "unknown key 'x' (valid: config, revision, split)"


# splits by the card


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("split=train", [2, 1, 0]),
        ("split=test&config=en", [3, 4]),
        ("split=train&config=no", [5]),
        ("config=no", [5]),
        ("split=train&config=short", [5]),
        ("split=validation&config=folder", [7]),
        ("split=train&config=folder", [8]),
        ("split=dev&config=folder_files", [6]),
    ],
)
def test_a_card_says_which_files_a_split_is(cache: Path, query: str, found: list[int]) -> None:
    cached(cache, CONTENTS)
    assert [int(n) for n in numbers(f"hf://org/set?{query}")] == found


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("split=tset", "has no split 'tset'; did you mean 'test'? (splits: test, train)"),
        ("split=validation", "has no split 'validation' (splits: test, train)"),
        ("config=en", "has several splits; add split= with one of: test, train"),
        ("split=test&config=eng", "has no config 'eng'; did you mean 'en'? (configs: en, folder, folder_files, short)"),
        ("split=test&config=short", "has no split 'test' (splits: train)"),
    ],
)
def test_what_a_card_does_not_list(cache: Path, query: str, what: str) -> None:
    without = CARD.replace("- config_name: 'no'\n  data_files:\n  - split: train\n    path: no/train.jsonl\n", "")
    cached(cache, {**CONTENTS, "README.md": without})
    assert mistake(f"hf://org/set?{query}") == what + LOCAL


def test_one_of_several_configurations_has_to_be_chosen(cache: Path) -> None:
    cached(cache, {**CONTENTS, "README.md": CARD.replace("  default: true\n", "")})
    what = "has several configs; add config= with one of: en, folder, folder_files, no, short"
    assert mistake("hf://org/set?split=test") == what + LOCAL


def test_a_file_that_the_card_names_has_to_be_there(cache: Path) -> None:
    cached(cache, {k: v for k, v in CONTENTS.items() if k != "data/a.jsonl"})
    what = "has no file data/a.jsonl, though its card names it"
    assert mistake("hf://org/set?split=train") == what + LOCAL


@pytest.mark.parametrize(
    "text",
    ["", "# Title\n---\nconfigs: 1\n---\n", "---\nlicense: mit\n---\n", "---\n- a\n---\n", "---\nconfigs: 3\n---\n"],
)
def test_a_card_without_configurations(text: str) -> None:
    assert read_card(text) == ({}, None)


def test_a_card_that_is_no_yaml(cache: Path) -> None:
    cached(cache, {**CONTENTS, "README.md": "---\nconfigs: [\n---\n"})
    assert mistake("hf://org/set?split=test").startswith("the front matter of its card is not YAML")
    assert numbers("hf://org/set/data/a.jsonl") == [0]


# splits by name


@pytest.mark.parametrize(
    ("names", "split", "found"),
    [
        (["train.jsonl", "test.jsonl"], "test", ["test.jsonl"]),
        (["data/train-0.csv", "data/test-0.csv"], "train", ["data/train-0.csv"]),
        (["b/test/1.csv", "a/TEST/0.csv", "train/0.csv"], "test", ["a/TEST/0.csv", "b/test/1.csv"]),
        (["test/train_part.csv", "test/0.csv"], "test", ["test/0.csv"]),
        (["latest.jsonl", "my_test.v2.jsonl"], "test", ["my_test.v2.jsonl"]),
        (["a.jsonl", "b.jsonl"], "train", ["a.jsonl", "b.jsonl"]),
        (["a.jsonl", "train.jsonl"], "train", ["train.jsonl"]),
        (["dev.jsonl", "validation.jsonl"], "validation", ["validation.jsonl"]),
        (["dev.jsonl", "validation.jsonl"], "dev", ["dev.jsonl"]),
        (["a-hard.jsonl", "test.jsonl"], "hard", ["a-hard.jsonl"]),
        (["test_matched.jsonl", "test_other.jsonl"], "test_matched", ["test_matched.jsonl"]),
        (["test.jsonl", "dataset_infos.json", ".x/test.jsonl", "_test.jsonl", "test.md"], "test", ["test.jsonl"]),
        (["only.csv"], None, ["only.csv"]),
        (["test-1-of-2.csv", "test-2-of-2.csv"], None, ["test-1-of-2.csv", "test-2-of-2.csv"]),
    ],
)
def test_names_say_which_files_a_split_is(names: list[str], split: str | None, found: list[str]) -> None:
    assert split_files(names, "", None, split) == found


@pytest.mark.parametrize("word", [word for word, split in SPLITS.items() if split == "validation"])
@pytest.mark.parametrize("asked", ["validation", "valid", "dev", "val"])
def test_validation_has_several_names(word: str, asked: str) -> None:
    assert split_files([f"x/{word}-0.csv", "test.csv"], "", None, asked) == [f"x/{word}-0.csv"]


@given(st.sampled_from(["train", "validation", "test"]), st.from_regex(r"[b-df-hj-np-z0-9]{0,5}", fullmatch=True))
def test_a_split_is_found_wherever_its_word_stands(split: str, other: str) -> None:
    names = [
        f"{split}.jsonl",
        f"{other}-{split}_{other}.jsonl",
        f"{split}/{other or 0}.jsonl",
        f"{other or 0}/{split}.jsonl",
    ]
    for name in names:
        assert split_files(
            [name, "train-x.csv", "test-x.csv"] if split == "validation" else [name], "", None, split
        ) == [name]


@pytest.mark.parametrize(
    ("names", "config", "split", "what"),
    [
        (["train.csv", "dev.csv"], None, "test", "has no split 'test' (splits: train, validation)"),
        (["a.csv"], None, "test", "has no split 'test' (splits: train)"),
        (["train.csv", "dev.csv"], None, None, "has several splits; add split= with one of: train, validation"),
        (["README.md", "x.py"], None, "test", "has no data files (a converted copy may be there with revision=refs/"),
        (
            ["test.csv", "test.csv.gz"],
            None,
            "test",
            "has the split 'test' in several formats (.csv, .csv.gz); name its",
        ),
        (["d/test-00000-of-00002.csv"], None, "test", "has only 1 of the 2 parts d/test-*-of-00002.csv"),
        (["en/test.csv", "fr/test.csv"], "es", "test", "has no config 'es' (configs: en, fr)"),
    ],
)
def test_what_names_do_not_say(names: list[str], config: str | None, split: str | None, what: str) -> None:
    with pytest.raises(DataError) as error:
        split_files(names, "", config, split)
    assert error.value.what.startswith(what)


def test_without_a_card_a_folder_is_a_configuration() -> None:
    names = ["cola/test/0000.csv", "cola/train/0000.csv", "sst2/test/0000.csv", "default/test/0.csv"]
    assert split_files(names, "", "sst2", "test") == ["sst2/test/0000.csv"]
    assert split_files(names, "", "default", None) == ["default/test/0.csv"]
    assert split_files(["test.csv"], "", "default", "test") == ["test.csv"]


def test_a_pattern_stays_in_its_folder() -> None:
    names = ["a.csv", "d/a.csv", "d/e/a.csv", "d/.a.csv", "d/[a].csv", "d/README.md", "d/a.txt"]
    assert matching(names, "*.csv") == ["a.csv"]
    assert matching(names, "./d/*") == ["d/[a].csv", "d/a.csv"]
    assert matching(names, "**/a.csv") == ["a.csv", "d/a.csv", "d/e/a.csv"]
    assert matching(names, "d/**") == ["d/[a].csv", "d/a.csv", "d/e/a.csv"]
    assert matching(names, "d/[a].csv") == ["d/[a].csv"]
    assert matching(names, "*/*.txt") == ["d/a.txt"]


# the local cache


def test_rows_of_a_split_come_from_the_cache(cache: Path) -> None:
    folder = cached(cache, CONTENTS)
    source = "hf://datasets/org/set?split=train"
    assert [x.id for x in examples(source, Schema(), need_target=False, key="k")] == [0, 1, 2]
    assert files(source) == (folder / "data/b-0.jsonl", folder / "data/b-1.jsonl", folder / "data/a.jsonl")
    assert place(source, 1, "data.test") == {"file": folder / "data/b-1.jsonl", "line": 1}
    assert fingerprint(source) != fingerprint("hf://org/set?split=test")
    one = "hf://org/set/data/a.jsonl"
    assert fingerprint(one) == hashlib.sha256((folder / "data/a.jsonl").read_bytes()).hexdigest()


def test_an_address_is_resolved_once(cache: Path) -> None:
    folder = cached(cache, CONTENTS)
    first = files("hf://org/set?split=test")
    (folder / "data/test-2.jsonl").write_text(rows(1))
    assert files("hf://org/set?split=test") is first
    hub.files.cache_clear()
    assert len(files("hf://org/set?split=test")) == 3


@pytest.mark.parametrize("revision", ["v2", "refs/pr/1"])
def test_a_revision_has_its_own_files(cache: Path, revision: str) -> None:
    cached(cache, {"test.jsonl": rows(1)})
    cached(cache, {"test.jsonl": rows(2)}, revision=revision, commit=COMMIT[::-1])
    assert numbers("hf://org/set?split=test") == [1]
    assert numbers(f"hf://org/set?split=test&revision={revision}") == [2]
    assert numbers(f"hf://org/set/test.jsonl?revision={COMMIT[::-1]}") == [2]


@pytest.mark.parametrize(
    ("path", "found"),
    [("data/a.jsonl", [0]), ("data/b-*.jsonl", [2, 1]), ("**/test-?.jsonl", [3, 4]), ("m*/x.jsonl", [6])],
)
def test_files_are_named_by_themselves(cache: Path, path: str, found: list[int]) -> None:
    cached(cache, CONTENTS)
    assert numbers(f"hf://org/set/{path}") == found


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("more", "is a folder; name its files: hf://org/set/more/**/*.csv"),
        ("x-*.csv", "no file of org/set matches 'x-*.csv'; data files it has: data/a.jsonl, data/b-0.jsonl, "),
    ],
)
def test_a_file_that_the_repository_does_not_have(cache: Path, path: str, what: str) -> None:
    cached(cache, CONTENTS)
    said = mistake(f"hf://org/set/{path}")
    assert said.startswith(what)
    assert said.endswith(LOCAL)


@pytest.mark.parametrize("address", ["hf://org/other?split=test", "hf://org/set?split=test&revision=v2"])
def test_what_is_not_in_the_cache(cache: Path, address: str) -> None:
    cached(cache, CONTENTS)
    parsed = parse(address)
    revision = f" at revision {parsed.revision!r}" if parsed.revision else ""
    said = f"{parsed.repo}{revision} is not (or not all) in the local cache, and HF_HUB_OFFLINE is set; "
    assert mistake(address) == said + "fetch it once while online"


def test_a_split_that_the_cache_holds_in_part(cache: Path) -> None:
    cached(cache, CONTENTS)
    listed(cache, [*CONTENTS, "data/test-2.jsonl"])
    assert "org/set is not (or not all) in the local cache" in mistake("hf://org/set?split=test")
    assert mistake("hf://org/set?split=dev") == "has no split 'dev' (splits: test, train)"
    assert numbers("hf://org/set?split=train") == [2, 1, 0]


def test_a_file_that_is_named_needs_no_card(cache: Path) -> None:
    cached(cache, {"a.jsonl": rows(1)})
    listed(cache, ["README.md", "a.jsonl", "test.jsonl"])
    assert numbers("hf://org/set/a.jsonl") == [1]
    assert "in the local cache" in mistake("hf://org/set?split=test")


def test_without_the_extra(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(cache, CONTENTS)
    for name in [n for n in sys.modules if n.split(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        MissingExtraError, match=r"hf:// data needs .* huggingface-hub; run: pip install 'icl-engine\[hf"
    ):
        files("hf://org/set?split=test")


def test_a_mistake_in_a_row_names_the_file_in_the_cache(cache: Path) -> None:
    folder = cached(cache, {"test/0.jsonl": rows(1), "test/1.jsonl": '{"n": 1}\n{"n": \n'})
    with pytest.raises(DataError, match="not JSON") as error:
        numbers("hf://org/set?split=test")
    assert (error.value.file, error.value.line) == (str(folder / "test/1.jsonl"), 2)


TASK = """\
data:
  test: {}
input:
  template: {{inline: "{{{{ n }}}} {{{{ answer }}}}"}}
  demonstrations:
    use: fixed
    path: hf://org/shown/train.csv
model: {{use: fake}}
"""


def test_a_task_reads_from_the_hub(cache: Path, tmp_path: Path) -> None:
    cached(cache, CONTENTS)
    cached(cache, {"train.csv": "n\n1\n"}, repo="org/shown")
    task = tmp_path / "task.yaml"
    task.write_text(TASK.format("hf://org/set?split=test"))
    loaded = load_task(task)
    assert [x.inputs["n"] for x in loaded.test(need_target=False)] == [3, 4]
    assert loaded.resolved["data"]["test"] == "hf://org/set?split=test"
    before = loaded.fingerprint
    assert load_task(task, settings={"data.test": "hf://org/set/data/deep/test-0.jsonl"}).fingerprint != before


@pytest.mark.parametrize(
    ("address", "shown", "line", "key", "words"),
    [
        ("hf://org/set?split=tset", "org/shown", 2, "data.test", "hf://org/set?split=tset: has no split 'tset';"),
        ("hf://org/set?split=test", "org/x", 7, "input.demonstrations.path", "hf://org/shown/train.csv: org/shown is"),
    ],
)
def test_a_task_tells_what_is_wrong_at_its_key(
    cache: Path, tmp_path: Path, address: str, shown: str, line: int, key: str, words: str
) -> None:
    cached(cache, CONTENTS)
    cached(cache, {"train.csv": "n\n1\n"}, repo=shown)
    task = tmp_path / "task.yaml"
    task.write_text(TASK.format(address))
    with pytest.raises(DataError) as error:
        load_task(task)
    assert (error.value.file, error.value.line, error.value.key) == (str(task), line, key)
    assert error.value.what.startswith(words)


# a hub that answers


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as fetching asks for; a data set's name says how it fares."""

    contents: Mapping[str, bytes] = {k: str(v).encode() for k, v in CONTENTS.items()}
    refused: Mapping[str, tuple[int, str]] = {
        "none": (404, "RepoNotFound"),
        "gated": (403, "GatedRepo"),
        "busy": (503, ""),
        "login": (401, ""),
    }

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        path = self.path.split("?")[0]
        self.server.asked.append(path)  # type: ignore[attr-defined]
        name = path.removeprefix(f"/datasets/org/set/resolve/{COMMIT}/")
        status, code = next((v for k, v in self.refused.items() if f"org/{k}/" in path), (200, ""))
        if status != 200:
            self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": f"Invalid credentials {TOKEN}"})
        elif path.endswith("/revision/v9"):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif "/set/revision/" in path:
            self._send(200, json.dumps({"id": "org/set", "sha": COMMIT, "siblings": []}).encode(), {})
        elif "/set/tree/" in path:
            tree = [{"type": "file", "path": k, "size": len(v), "oid": "0"} for k, v in self.contents.items()]
            self._send(200, json.dumps(tree).encode(), {})
        elif name in self.contents:
            raw = self.contents[name]
            self._send(200, raw, {"ETag": f'"{hashlib.sha1(raw).hexdigest()}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub on this machine; the paths it was asked for."""
    from huggingface_hub import close_session, constants

    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = asked  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    yield asked
    close_session()
    server.shutdown()
    server.server_close()
    thread.join()


def test_only_the_files_of_the_split_are_fetched(online: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert numbers("hf://org/set?split=test") == [3, 4]
    fetched = {path.partition("/resolve/")[2].partition("/")[2] for path in online if "/resolve/" in path}
    assert fetched == {"README.md", "data/deep/test-0.jsonl", "data/test-1.jsonl"}
    # From now on the cache is enough, and knows what it does not hold.
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.files.cache_clear()
    online.clear()
    assert numbers("hf://org/set?split=test") == [3, 4]
    assert "not all) in the local cache" in mistake("hf://org/set?split=train")
    assert online == []


def test_a_named_file_is_fetched(online: list[str]) -> None:
    assert numbers("hf://org/set/data/b-*.jsonl?revision=v2") == [2, 1]
    assert mistake("hf://org/set?split=tset") == "has no split 'tset'; did you mean 'test'? (splits: test, train)"


@pytest.mark.usefixtures("online")
def test_a_cache_that_cannot_be_written(cache: Path) -> None:
    cache.write_bytes(b"a file where the folder should be")
    assert mistake("hf://org/set?split=test").startswith("the local cache cannot be used: ")


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("hf://org/none?split=test", "there is no data set org/none; if it is private, log in (hf auth login) or set"),
        ("hf://org/gated?split=test", "org/gated is gated: ask for access on its page, then log in (hf auth login) or"),
        (
            "hf://org/login?split=test",
            "the hub does not accept the token; log in again (hf auth login) or set HF_TOKEN",
        ),
        ("hf://org/busy?split=test", "org/busy is not (or not all) in the local cache, and the hub cannot be reached"),
        ("hf://org/set?split=test&revision=v9", "org/set has no revision 'v9'"),
    ],
)
@pytest.mark.usefixtures("online")
def test_what_the_hub_refuses_is_told_in_one_line(address: str, what: str) -> None:
    assert mistake(address).startswith(what)
