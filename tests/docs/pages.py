"""Documentation pages as programs: what a Markdown page tells its reader to do, and what it says comes of it.

The conventions, all at the beginning of a line:

- A ``sh`` block: every line is a command (a backslash at its end continues it, ``#`` begins a comment line). It is run
  by bash in the page's folder and ends with status 0, or with that of a comment ``<!-- exit: 2 -->`` before the block;
  of a pipe, every part.
- A ``text`` block straight after it: what a terminal shows of the block's commands, standard output and error, without
  the progress lines of `icl run` (on a terminal they are a bar that goes away). Numbers, fingerprints, the folders of
  paths, white space and box-drawing lines may differ.
- ``<!-- file: name -->`` before a block: the block is written to that file of the page's folder.
- ``<!-- copy: data/x.csv -->``: the file docs/data/x.csv is copied into it.
- A ``python`` block: doctests, with one namespace a page; without ``>>>`` it is a file.
- A ``console`` block is for people: it is read, not run (`strange_commands`).
- ``<!-- table: name -->`` … ``<!-- /table -->``: what a script of benchmarks/ writes stands between them.
- An address at 127.0.0.1:8000 is that of a stand-in server.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SERVER = "http://127.0.0.1:8000/v1"
UPDATE = os.environ.get("ICL_UPDATE_DOCS") == "1"
"""Write what is true into the pages, in place of comparing."""
LONGEST = 900
"""Seconds that one command may take (a busy machine takes long)."""

NOTE = re.compile(r"<!--\s*(\w+):\s*(.+?)\s*-->")
FENCE = re.compile(r"(`{3,})([\w-]*)")
PROGRESS = re.compile(r'\{"done": \d+, "total": \d+, .*\}')
SECRETS = re.compile(r"_KEY$|_TOKEN$|^ICL_")
ALLOWED = re.compile(
    r"pip install .+|python3? -m venv [\w./-]+|make (?:demo|check)|export [A-Z_]+=\S+"
    r"|(?:source|\.) [\w./-]+/bin/activate|vllm serve .+|python benchmarks/\w+\.py(?: --[\w-]+ [\w./-]+)*"
)
"""What a ``console`` block may hold."""


class PageError(AssertionError):
    """What a page says is not so."""


@dataclass(frozen=True)
class Copy:
    """A file of docs/ that the reader is given."""

    name: str
    line: int


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        language: the word behind the fence.
        line: where its fence stands, from 1.
        lines: what stands in it.
        notes: the comments before it, `exit` or `file`.
        output: the ``text`` block that shows what its commands print.
    """

    language: str
    line: int
    lines: tuple[str, ...]
    notes: Mapping[str, str] = field(default_factory=dict, hash=False)
    output: Block | None = None

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)

    @property
    def commands(self) -> Iterator[str]:
        """The commands of a ``sh`` or ``console`` block."""
        joined = re.sub(r"\\\n", "\\\\\x00", self.text)
        for line in joined.splitlines():
            if line.strip() and not line.startswith("#"):
                yield line.replace("\x00", "\n")


@dataclass(frozen=True)
class Page:
    """A Markdown file and what is to be done with it, in its order."""

    path: Path
    steps: list[Copy | Block] = field(default_factory=list)

    @property
    def blocks(self) -> list[Block]:
        return [step for step in self.steps if isinstance(step, Block)]

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT)) if self.path.is_relative_to(ROOT) else self.path.name

    def error(self, line: int, what: str) -> PageError:
        return PageError(f"{self.name}:{line}: {what}")


def pages() -> list[Path]:
    """The README and every page of docs/ that people wrote."""
    written = [path for path in DOCS.rglob("*.md") if DOCS / "reference" not in path.parents]
    return [ROOT / "README.md", *sorted(written)]


def read_page(path: Path) -> Page:
    """The blocks and comments of a page.

    Raises:
        PageError: it does not keep to the conventions.
    """
    page = Page(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    notes: dict[str, str] = {}
    shell: Block | None = None  # the sh block that nothing but blank lines separates from here
    at = 0
    while at < len(lines):
        line, number = lines[at], at + 1
        at += 1
        note, fence = NOTE.fullmatch(line), FENCE.match(line)
        if fence:
            end = next((i for i in range(at, len(lines)) if lines[i] == fence[1]), None)
            if end is None:
                raise page.error(number, "the block is never closed")
            block = Block(fence[2], number, tuple(lines[at:end]), notes)
            if block.language != "text" or notes:
                page.steps.append(block)
            elif shell is None:
                raise page.error(number, "a text block stands straight after a sh block; else leave out 'text'")
            else:
                page.steps[-1] = replace(shell, output=block)
            shell, notes, at = block if block.language == "sh" else None, {}, end + 1
        elif note and note[1] == "copy":
            page.steps.append(Copy(note[2], number))
        elif note and note[1] in ("exit", "file"):
            notes[note[1]] = note[2]
        elif note and note[1] != "table":
            raise page.error(number, f"there is no comment {note[1]!r}; one of copy, exit, file, table")
        elif FENCE.match(line.strip()):
            raise page.error(number, "a fence stands at the beginning of its line")
        elif notes and line.strip():
            raise page.error(number, f"the comment {min(notes)!r} stands before a block")
        if line.strip() and not fence:
            shell = None
    return page


def normal(text: str) -> str:
    """A text without what differs from machine to machine.

    >>> normal("/tmp/x1/task.yaml:3: p = 4.9e-05   ── 0123456789abcdef")
    'task.yaml:0: p = 0 ID'
    """
    text = re.sub(r"[\u2500-\u257f]+", " ", text)
    text = re.sub(r"\b[0-9a-f]{16,64}\b", "ID", text)
    text = re.sub(r"(?<![\w.:/~-])(?:[\w.~+-]*/)+([\w.+-]+)", r"\1", text)
    text = re.sub(r"[-−]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?", "0", text)
    return " ".join(text.split())


@dataclass
class Visit:
    """A reader who does all that a page says, in its order.

    Args:
        page: the page.
        folder: where the reader works.
        environment: the reader's environment.
        server: the address of the stand-in server.
        printed: for each block with output, what its commands print.
    """

    page: Page
    folder: Path
    environment: Mapping[str, str]
    server: str
    printed: dict[Block, str] = field(default_factory=dict)
    _names: dict[str, Any] = field(default_factory=dict)

    def do_all(self) -> None:
        """Do every step.

        Raises:
            PageError: one does not do what the page says.
        """
        for step in self.page.steps:
            if isinstance(step, Copy):
                self._copy(step)
            elif "file" in step.notes:
                self._write(step)
            elif step.language == "sh":
                self._run(step)
            elif step.language == "python":
                self._examples(step)

    def differences(self) -> list[str]:
        """Where the page shows something else than was printed."""
        return [
            str(self.page.error(block.line, f"shown is\n{block.text}\nbut printed is\n{printed}\n"))
            for block, printed in self.printed.items()
            if normal(block.text) != normal(printed)
        ]

    def updated(self) -> str:
        """The page's text with what was printed."""
        lines = self.page.path.read_text(encoding="utf-8").splitlines()
        for block, printed in sorted(self.printed.items(), key=lambda pair: -pair[0].line):
            lines[block.line : block.line + len(block.lines)] = printed.splitlines()
        return "".join(f"{line}\n" for line in lines)

    def _copy(self, step: Copy) -> None:
        source = DOCS / step.name
        if not source.is_file():
            raise self.page.error(step.line, f"there is no file docs/{step.name}")
        shutil.copyfile(source, self.folder / source.name)

    def _write(self, block: Block) -> None:
        path = self.folder / block.notes["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text.replace(SERVER, self.server), encoding="utf-8")

    def _run(self, block: Block) -> None:
        printed = []
        for command in block.commands:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command.replace(SERVER, self.server)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                cwd=self.folder,
                env=self.environment,
                timeout=LONGEST,
                check=False,
            )
            if done.returncode != int(block.notes.get("exit", "0")):
                raise self.page.error(block.line, f"{command}\nends with status {done.returncode}:\n{done.stdout}")
            printed.append(self._shown(done.stdout))
        if block.output is not None:
            self.printed[block.output] = "".join(printed).strip("\n")

    def _shown(self, output: str) -> str:
        """Output as a page shows it: no folder of this machine, no progress, no white space at the ends of lines."""
        for here, there in (f"{self.folder}/", ""), (str(self.folder), "."), (f"{ROOT}/", ""), (self.server, SERVER):
            output = output.replace(here, there)
        return "".join(f"{line.rstrip()}\n" for line in output.splitlines() if not PROGRESS.fullmatch(line))

    def _examples(self, block: Block) -> None:
        name = self.page.name
        text = block.text.replace(SERVER, self.server)
        test = doctest.DocTestParser().get_doctest(text, self._names, name, name, block.line)
        if not test.examples:
            raise self.page.error(block.line, "a python block without >>> is a file: put <!-- file: name --> before it")
        told = StringIO()
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        with chdir(self.folder):
            failed = runner.run(test, out=told.write, clear_globs=False).failed
        if failed:
            raise self.page.error(block.line, told.getvalue())
        self._names = test.globs


def environment(cache: Path) -> dict[str, str]:
    """The environment of a reader: this one's commands first, no key, an answer cache of its own."""
    kept = {name: value for name, value in os.environ.items() if not SECRETS.search(name)}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
        "ICL_CACHE_DIR": str(cache),
        "PYTHONUNBUFFERED": "1",  # the two streams in the order of their lines
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "LC_ALL": "C.UTF-8",
    }


def strange_commands(page: Page) -> list[str]:
    """Commands of the ``console`` blocks that are not on the short list of those that are not run."""
    commands = [command for block in page.blocks if block.language == "console" for command in block.commands]
    return [command for command in commands if not ALLOWED.fullmatch(re.sub(r"\s+#.*", "", command))]


def prose(path: Path) -> str:
    """A page's text without its blocks."""
    return re.sub(r"^(`{3,}).*?^\1$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(path), flags=re.MULTILINE):
        said = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", said.lower()).replace(" ", "-")
        found.add(next(s for s in (slug, *(f"{slug}-{i}" for i in range(1, 1000))) if s not in found))
    return found


def broken_links(path: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]+`", "code", prose(path))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        to = path.parent / name if name else path
        if not to.exists() or (anchor and (to.suffix != ".md" or anchor not in anchors(to))):
            broken.append(target)
    return broken
