"""`embedded`: llama.cpp in this process, through xllamacpp. No key, no network, no GPU."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import secrets
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field

from icl_engine.errors import EndpointError, MissingExtraError, RequestError, bounded
from icl_engine.models import gguf
from icl_engine.models.base import Provider
from icl_engine.models.places import place
from icl_engine.models.prefix import SharedPrefix
from icl_engine.types import (
    Capabilities,
    Continuation,
    Generate,
    Message,
    NextToken,
    Place,
    Request,
    Response,
    Spelling,
    Usage,
)

T = TypeVar("T")

ENGINE = "xllamacpp"
CPU = 0
"""ggml's number for the device type that is the processor itself."""
SPINS = "1000"
"""How often a llama.cpp thread looks for its fellows before it sleeps. By default they never sleep, and where another
program takes a core for a moment, every thread burns its time waiting: measured 20 times slower on a busy machine.
Read by OpenMP when it is loaded; a user's own setting wins."""
CAN = Capabilities(
    chat=True,
    top_logprobs=1000,
    spelling=True,
    prefill=True,
    continuation=True,
    forced=True,
    grammar=True,
    schema=True,
    choice=True,
    seed=True,
    concurrency=1,
)
"""What llama.cpp gives in this process: known, not probed."""
TAIL = 32
"""Characters of the prompt that decide how its continuation is cut into tokens."""


class Embedded(Provider):
    """A GGUF model run by llama.cpp on this machine.

    Args:
        name: ``gemma-3-270m``, ``smollm2-135m`` (where its package is installed), or the path of a ``.gguf`` file.
        context: the longest prompt and answer together, tokens.
        threads: processor threads; by default one a core.
    """

    use: Literal["embedded"] = "embedded"
    name: str = "gemma-3-270m"
    context: int = Field(default=4096, ge=64)
    threads: int | None = Field(default=None, ge=1)

    @property
    def title(self) -> str:
        """The model's name, or its file's."""
        return self.name if self.name in gguf.PACKAGED else Path(self.name).stem

    def connect(self) -> EmbeddedEndpoint:
        """An endpoint that loads the weights at its first request."""
        return EmbeddedEndpoint(self)


class EmbeddedEndpoint:
    """One llama.cpp slot, asked from one thread: on few cores that is fastest, and a shared prefix is evaluated once.

    Log-probabilities are raw (before sampling). Quantised arithmetic depends on how a prompt was batched: the same
    prompt scored after another prefix may differ in the second decimal.
    """

    capabilities = CAN
    uncertain: frozenset[str] = frozenset()

    def __init__(self, spec: Embedded) -> None:
        self._spec = spec
        self.capabilities = replace(CAN, context=spec.context)
        self._server: Any = None
        self._address = ("", 0)
        self._key = secrets.token_hex(16)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="llama.cpp")
        self._tokens = lru_cache(maxsize=4096)(self._continuation_tokens)
        self._prefix = SharedPrefix(self._tokenize)
        weakref.finalize(self, self._thread.shutdown, wait=False)

    @property
    def identity(self) -> str:
        """The weights' hash and the engine's version: what an answer depends on."""
        if self._spec.identity:
            return self._spec.identity
        packaged = gguf.PACKAGED.get(self._spec.name)
        weights = packaged.sha256 if packaged else gguf.digest(gguf.locate(self._spec.name))
        try:
            engine = version(ENGINE)
        except PackageNotFoundError as error:
            raise MissingExtraError("model embedded", ENGINE, "local") from error
        return f"gguf:{weights}:{ENGINE}-{engine}"

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def check(self) -> None:
        """Load the weights."""
        if self._server is None:
            await self._do(self._load)

    async def close(self) -> None:
        """Free the weights, once a request that still runs has let go of them."""
        self._server = None

    async def send(self, request: Request) -> Response:
        """Answer one request on the model's own thread."""
        return await self._do(lambda: self._answer(request))

    def count(self, text: str) -> int:
        """How many tokens a prompt has; loads the weights. Not on the model's thread: it waits for no answer."""
        if self._server is None:
            self._thread.submit(self._load).result()
        return len(self._tokenize(text, True))

    # All below runs on the model's thread.

    def _load(self) -> None:
        if self._server is not None:
            return
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
        try:
            import xllamacpp
        except ImportError as error:
            raise MissingExtraError("model embedded", ENGINE, "local") from error
        path = gguf.locate(self._spec.name)
        if self._spec.api == "chat" and not gguf.has_chat_template(path):
            raise EndpointError(f"{self._spec.title} has no chat template (a base model); use api: completions")
        try:
            self._server = xllamacpp.Server(self.parameters(xllamacpp, path))
        except RuntimeError as error:
            raise EndpointError(f"llama.cpp cannot load {path}: the file is damaged or of an unknown kind") from error
        address = urlsplit(self._server.listening_address)
        self._address = (address.hostname or "127.0.0.1", address.port or 0)

    def parameters(self, xllamacpp: Any, path: Path) -> Any:
        """llama.cpp's settings."""
        parameters = xllamacpp.CommonParams()
        threads = self._spec.threads or os.cpu_count() or 1
        parameters.model.path = str(path)
        parameters.n_ctx = self._spec.context
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
        # A sliding-window model forgets its prefix without the full cache, and evaluates the demonstrations every time.
        parameters.swa_full = True
        parameters.n_ctx_checkpoints = 0
        parameters.cache_ram_mib = 0
        parameters.warmup = False
        # Fitting to a device's memory reads the model a second time; on processors alone there is nothing to fit.
        parameters.fit_params = any(device["type"] != CPU for device in xllamacpp.get_device_info())
        parameters.verbosity = -1
        # Its HTTP side (used for the tokenizer) stays on loopback, on a free port, behind a key of this process.
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.api_keys = [self._key]
        parameters.ui = False
        return parameters

    def _answer(self, request: Request) -> Response:
        prompt = request.prompt if isinstance(request.prompt, str) else self._templated(request.prompt)
        match request.readout:
            case Spelling(texts):
                return Response("", spelt=tuple(self._tokens(prompt[-TAIL:], text) for text in texts))
            case NextToken(top, _, spelt, places):
                return self._next(prompt, top, spelt, places)
            case Continuation(text):
                return self._forced(prompt, text)
            case Generate(sampling, grammar, schema, choices):
                body: dict[str, Any] = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
                if sampling.stop:
                    body["stop"] = list(sampling.stop)
                if sampling.seed is not None:
                    body["seed"] = sampling.seed + request.sample
                elif sampling.temperature:
                    body["seed"] = request.sample
                if choices:
                    said = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
                    body["grammar"] = f'root ::= " "? ({said})'
                elif grammar is not None:
                    body["grammar"] = grammar
                elif schema is not None:
                    body["json_schema"] = dict(schema)
                choice, usage = self._complete(prompt, body)
                return Response(choice["text"], finish=choice.get("finish_reason"), usage=usage)

    def _next(self, prompt: str, top: int, spelt: tuple[int, ...] | str, places: int) -> Response:
        """The likeliest tokens at each place of a greedy answer."""
        text, behind, kind = (spelt, (), "token") if isinstance(spelt, str) else ("", spelt, "id")
        choice, usage = self._complete(prompt + text, {"max_tokens": places, "logprobs": top}, behind=behind)
        read = [_place(row, kind) for row in (choice.get("logprobs") or {}).get("content") or []]
        return Response(choice["text"], places=tuple(read), finish=choice.get("finish_reason"), usage=usage)

    def _forced(self, prompt: str, text: str) -> Response:
        """Score a continuation in one request: a grammar that can only spell its tokens."""
        ids = self._tokens(prompt.rsplit("\n", 1)[-1][-TAIL:], text)
        grammar = "root ::= " + " ".join(f"<[{i}]>" for i in ids)
        # The bias makes the next token a likely pick, so that the grammar is seldom tried on the whole vocabulary
        # (a fifth of the time). The log-probabilities are read before both.
        body = {"max_tokens": len(ids), "logprobs": 1, "grammar": grammar, "logit_bias": [[i, 100.0] for i in set(ids)]}
        choice, usage = self._complete(prompt, body)
        spelt = (choice.get("logprobs") or {}).get("content") or []
        if tuple(t["id"] for t in spelt) != ids:
            raise RequestError(f"llama.cpp did not spell the continuation it was given ({len(spelt)} tokens)")
        figures = tuple((t["id"], t["logprob"]) for t in spelt)
        return Response(text, figures, finish=choice.get("finish_reason"), usage=usage)

    def _complete(self, prompt: str, body: dict[str, Any], *, behind: tuple[int, ...] = ()) -> tuple[Any, Usage]:
        """llama.cpp's choice, and what it cost; `behind` are tokens that follow the prompt."""
        head, rest = self._prefix.tokens(prompt)
        shown = [*head, rest, *behind] if head or behind else prompt
        answer = self._server.handle_completions({"prompt": shown, "temperature": 0, "cache_prompt": True, **body})
        if "error" in answer:
            raise RequestError(f"llama.cpp: {bounded(str(answer['error'].get('message', answer['error'])))}")
        counted = answer["usage"]
        usage = Usage(
            counted["prompt_tokens"],
            counted.get("prompt_tokens_details", {}).get("cached_tokens", 0),
            counted["completion_tokens"],
        )
        return answer["choices"][0], usage

    def _continuation_tokens(self, tail: str, text: str) -> tuple[int, ...]:
        """The tokens of `text` as they follow `tail`: cut together where the cut falls between them, else alone."""
        before, both = self._tokenize(tail, False), self._tokenize(tail + text, False)
        follows = both[: len(before)] == before and len(both) > len(before)
        return tuple(both[len(before) :] if follows else self._tokenize(text, False))

    def _tokenize(self, text: str, first: bool) -> list[int]:
        """Tokens of a text; one that begins a prompt gets what the model puts before a prompt (BOS)."""
        return [int(i) for i in self._post("/tokenize", {"content": text, "add_special": first})["tokens"]]

    def _templated(self, messages: tuple[Message, ...]) -> str:
        if not messages:
            return ""  # the beginning of an answer's turn: what stands before it does not reach across
        turns = [{"role": m.role, "content": m.text} for m in messages]
        return str(self._post("/apply-template", {"messages": turns})["prompt"])

    def _post(self, path: str, body: Any) -> Any:
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(body), headers)
            answer = json.loads(connection.getresponse().read())
        except (OSError, ValueError) as error:
            raise RequestError(f"llama.cpp {path}: {bounded(str(error))}") from error
        finally:
            connection.close()
        if "error" in answer:
            raise RequestError(f"llama.cpp {path}: {bounded(str(answer['error']))}")
        return answer


def _place(row: dict[str, Any], kind: str) -> Place:
    return place(row[kind], ((t[kind], t["logprob"]) for t in row["top_logprobs"]), ranked=True)
