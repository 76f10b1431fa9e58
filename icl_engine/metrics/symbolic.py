r"""Whether two mathematical expressions are equal, by math-verify, in a process that is ended when it takes too long.

math-verify's own time limits are signals, which reach the main thread only, and SymPy may compute 9^{9^{9^9}} for ever.
Its reader of plain expressions evaluates them as Python, so all that is read here is read as LaTeX.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

SECONDS = 3.0
"""How long two expressions may take."""
_STARTING = 60.0
"""How long SymPy may take to be loaded."""
_LONGEST, _DEEPEST, _DIGITS = 400, 12, 60
_MEMORY = 2 * 2**30

_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|operatorname|mbox)\s?\{([^{}]*)\}")
_FUNCTIONS = frozenset(
    ["sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln"]
)
_FUNCTIONS |= {"exp", "sqrt", "pi", "inf", "min", "max", "gcd", "lcm", "mod", "det"}
_TOWER = re.compile(
    r"(?:\^|\*\*)\s*[({]?\s*[\w.]+\s*[)}]?\s*(?:\^|\*\*)|\d{4,}\s*!|(?:\^|\*\*)\s*[({]?\s*-?\d{4,}|!\s*!"
)


@lru_cache(maxsize=4096)
def equal(prediction: str, target: str) -> bool:
    r"""Whether two expressions, LaTeX or plain, are equal. Texts that are no formulas are compared as texts.

    >>> equal(r"\frac{1}{2}", r"\frac{1}{2} "), equal("9**9**9**9", "1"), equal("listen", "silent")
    (True, False, False)
    """
    one, other = _tidy(prediction), _tidy(target)
    if one == other or _words(one) == _words(other):
        return bool(one)
    if not (_is_formula(one) and _is_formula(other)):
        return False
    return _WORKER.equal(_latex(one), _latex(other))


def _tidy(text: str) -> str:
    text = text.strip().strip("$").strip()
    return text.removeprefix("\\(").removesuffix("\\)").removeprefix("\\[").removesuffix("\\]").strip().rstrip(".")


def _words(text: str) -> str:
    return "".join(_TEXT.sub(r"\1", text).split()).casefold() if len(text) <= _LONGEST else text


def _is_formula(text: str) -> bool:
    """Whether a text is short and shallow enough to be looked at, and no words: "on" is not n·o."""
    if not text or len(text) > _LONGEST or not text.isprintable() or _TOWER.search(text):
        return False
    depth = deepest = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        deepest = max(deepest, depth)
    if deepest > _DEEPEST or re.search(rf"\d{{{_DIGITS},}}", text):
        return False
    bare = re.sub(r"\\[A-Za-z]+", " ", _TEXT.sub(" ", text))
    runs = [run for run in re.findall(r"[^\W\d_]{2,}", bare) if run.lower() not in _FUNCTIONS]
    return not any(len(run) > 2 for run in runs) and (
        not runs or any(not c.isalpha() and not c.isspace() for c in bare)
    )


def _latex(text: str) -> str:
    """A plain expression as LaTeX, as far as the two differ."""
    text = (
        text.replace("**", "^").replace("π", r"\pi").replace("−", "-").replace("×", r"\times ").replace("·", r"\cdot ")
    )
    text = _roots(re.sub(r"√\s?(?!\()(\w+)", r"\\sqrt{\1}", text).replace("√", "sqrt"))
    text = re.sub(r"\^\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"\^(-?\d{2,}|-\d)", r"^{\1}", text)
    return re.sub(r"(?<![A-Za-z\\])(pi|sin|cos|tan|log|ln|exp)(?![A-Za-z])", r"\\\1", text)


def _roots(text: str) -> str:
    """Sqrt(…) as LaTeX, brackets balanced."""
    opened: list[bool] = []
    written = []
    for part in re.split(r"((?<![A-Za-z])\\?sqrt\s?\(|[()])", text):
        if part.endswith("("):
            opened.append(len(part) > 1)
            written.append(r"\sqrt{" if len(part) > 1 else part)
        else:
            written.append("}" if part == ")" and opened and opened.pop() else part)
    return "".join(written)


class _Worker:
    """The process that compares, started when first needed and again after it had to be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def equal(self, one: str, other: str) -> bool:
        """What math-verify says; False where it says nothing in time."""
        with self._lock:
            if self._process is None or self._process.poll() is not None or self._owner != os.getpid():
                self._start()
            answer = self._asked(json.dumps([one, other]), SECONDS)
            if not answer:  # it was ended, which may take a moment to show
                self.close()
            return answer == "true"

    def _start(self) -> None:
        self.close()
        command = [sys.executable, "-c", "from icl_engine.metrics.symbolic import serve; serve()"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and our own words
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, encoding="ascii", env=environment
        )
        self._owner = os.getpid()
        self._asked("[]", _STARTING)

    def _asked(self, line: str, seconds: float) -> str:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return ""
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()
        except OSError:  # it has ended
            return ""
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the process, if it is ours."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()


_WORKER = _Worker()
atexit.register(_WORKER.close)


def serve() -> None:
    """What the process does: two expressions a line on standard input, true or false on standard output."""
    from math_verify import parse, verify
    from math_verify.parser import LatexExtractionConfig

    how = (LatexExtractionConfig(),)
    alarm = _limited()
    for line in sys.stdin:
        alarm(SECONDS + 1)
        same = False
        with suppress(Exception):
            read = [parse(f"${text}$", how, "no_fallback", parsing_timeout=None) for text in json.loads(line)]
            same = len(read) == 2 and all(read) and verify(read[1], read[0], timeout_seconds=None)
        alarm(0)
        sys.stdout.write("true\n" if same else "false\n")
        sys.stdout.flush()


def _limited() -> Callable[[float], object]:
    """Bound this process's memory; gives what sets the time at which it ends by itself, should its parent be gone."""
    if sys.platform == "win32":  # the parent's limit alone
        return float
    import resource
    import signal

    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
