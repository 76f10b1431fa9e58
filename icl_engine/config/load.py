"""From a task file (or mapping, or saved program) to a pipeline and its data."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from icl_engine.alignment.chain import Chain
from icl_engine.config.calibration import calibrated
from icl_engine.config.document import VARIABLE, Document, expanded, override, read, spelt_out, unexpanded
from icl_engine.config.pool import train_rows, unknown_vectors, with_demonstrations
from icl_engine.config.task import DEFAULT_IMAGES, Inline, Task, parse
from icl_engine.data.files import files
from icl_engine.data.formats import NO_FILE
from icl_engine.data.source import Schema, examples, fingerprint
from icl_engine.errors import DataError, IclError, TaskError, TemplateError, did_you_mean
from icl_engine.images import written
from icl_engine.manipulation.cot import Auto, Bootstrap
from icl_engine.manipulation.few_shot import FewShot
from icl_engine.manipulation.order import order_of
from icl_engine.manipulation.retrieve.fixed import Fixed
from icl_engine.manipulation.retrieve.random import Random
from icl_engine.manipulation.template import AnswerExpression, Template
from icl_engine.paths import cache_dir, shipped
from icl_engine.pipeline import Pipeline
from icl_engine.protocols import Endpoint
from icl_engine.types import Capabilities, Example

log = logging.getLogger("icl_engine")

PROGRAM = ".icl.json"
HIDDEN = "sha256:"
"""What the identity of a model begins with that is not to be written down."""
GENERATION = ("max_tokens", "temperature", "stop", "seed")
"""Keys that every model takes: ``--model`` keeps what the task says of them."""

TaskLike = str | Path | Mapping[str, Any]


@dataclass(frozen=True)
class Loaded:
    """A task, checked, with what it resolves to.

    Args:
        task: the task with ``${VAR}`` expanded and paths absolute: only ever held in memory.
        document: the task as written.
        tree: the document's tree with ``${VAR}`` expanded: only ever held in memory.
        program: the saved program it came from, if it did.
        recorded: the identity of the model whose stored answers stand in the model's place; None where it is asked.
    """

    task: Task
    document: Document
    tree: Mapping[str, Any]
    program: Mapping[str, Any] | None = None
    recorded: str | None = None

    @property
    def saved_demonstrations(self) -> Any:
        """What a saved program's retriever learned; None where it is to learn anew."""
        if self.program is None or self.document.is_set("input", "demonstrations"):
            return None
        return self.program["demonstrations"]

    @property
    def saved_lessons(self) -> Mapping[str, Any] | None:
        """What a saved program's input manipulation learned from the model; None where it is to learn anew."""
        changed = any(self.document.is_set("input", key) for key in ("demonstrations", "cot"))
        if self.program is None or changed or self.document.is_set("model"):
            return None
        learned: Mapping[str, Any] | None = self.program.get("learned")
        return learned

    @property
    def saved_states(self) -> dict[int, Any]:
        """What a saved program's output steps learned, by their place."""
        if self.program is None or self.document.is_set("output") or self.document.is_set("model"):
            return {}
        return {int(at): state for at, state in self.program["states"].items()}

    @property
    def schema(self) -> Schema:
        """How its rows become examples."""
        data = self.task.data
        return Schema(data.target, data.fields, data.labels, self._images, self.document.base)

    @cached_property
    def _images(self) -> frozenset[str]:
        """The fields of images that the template shows: what it does not show need not be there."""
        listed, shown = self.task.data.images, self.template.variables
        if self.template.whole_row:
            return frozenset(listed)
        for i, name in enumerate(listed):
            if name not in shown and listed != DEFAULT_IMAGES:
                what = f"the template shows no {name!r}{did_you_mean(name, shown, 'it shows')}"
                raise self.document.error(what, ("data", "images", i))
        return shown.intersection(listed)

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The task with its defaults, as it may be written down: no secret, paths as the user gave them."""
        return dict(written(unexpanded(self._dumped, self.document.tree)))

    @property
    def _dumped(self) -> dict[str, Any]:
        data = {k: "<rows>" for k in ("train", "test") if isinstance(getattr(self.task.data, k), list)}
        dumped = self.task.model_dump(mode="json", exclude={"data": set(data)})
        return {**dumped, "data": {**dumped["data"], **data}}

    @cached_property
    def template(self) -> Template:
        """The task's template."""
        return _template(self)

    def test(self, *, need_target: bool) -> Iterator[Example]:
        """The rows to predict, streamed."""
        if self.task.data.test is None:
            raise self.document.error("there are no rows to predict; give data.test", ("data",))
        if need_target and self.task.data.target is None:
            raise self.document.error("metrics need the answers; name their field in data.target", ("metrics",))
        return examples(self.task.data.test, self.schema, need_target=need_target, key="data.test")

    @cached_property
    def pool(self) -> list[Example]:
        """The train split."""
        train = self.task.data.train
        return [] if train is None else list(examples(train, self.schema, need_target=False, key="data.train"))

    @property
    def identity(self) -> str:
        """What the model's answers depend on beside the request."""
        return self.task.model.connect().identity if self.recorded is None else self.recorded

    @property
    def endpoint(self) -> str:
        """The model's identity, as it may be written down: a hash where it holds the value of a variable."""
        identity = self.identity
        hidden = VARIABLE.search(str(self.document.tree["model"]))
        return hidden_identity(identity) if hidden and not identity.startswith(HIDDEN) else identity

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of what decides the predictions: task (without concurrency, limit, caps), template, data."""
        # Defaults come from the resolved task, the values of variables from the tree; paths as they are written.
        task = {**self.resolved, "input": {**self.resolved["input"], "template": self.template.source}}
        task["run"] = {"seed": self.task.run.seed}
        task["data"] = _without(task["data"], "train", "test")
        given = {k: v for k, v in self.tree.items() if k in ("input", "output", "metrics", "model")}
        given = _without_keys(given)
        data = self.task.data
        train = data.train if self.saved_demonstrations is None else None
        hashes = [None if source is None else fingerprint(source) for source in (train, data.test)]
        shown = self.task.input.demonstrations
        if self.saved_demonstrations is None and (path := getattr(shown, "path", None)) is not None:
            hashes.append(fingerprint(path))
        saved = [
            self.saved_demonstrations,
            self.saved_lessons,
            {str(at): state for at, state in self.saved_states.items()},
        ]
        parts = [task, given, hashes, saved, self.identity]
        raw = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str)
        return hashlib.sha256(raw).hexdigest()[:16]


def hidden_identity(identity: str) -> str:
    """A model's identity where it holds the value of a variable: its hash."""
    return f"{HIDDEN}{hashlib.sha256(identity.encode()).hexdigest()}"


def _without_keys(tree: Any) -> Any:
    """A written tree without API keys, wherever they stand: who asks changes no answer."""
    if isinstance(tree, Mapping):
        return {k: _without_keys(v) for k, v in tree.items() if k != "api_key"}
    return [_without_keys(v) for v in tree] if isinstance(tree, list) else tree


def _without(mapping: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in mapping.items() if k not in keys}


def load_task(
    task: TaskLike,
    *,
    settings: Mapping[str, Any] | None = None,
    model: str | Mapping[str, Any] | None = None,
    recorded: Mapping[str, Any] | None = None,
) -> Loaded:
    """Read and check a task.

    Args:
        task: a task file, a saved program (``*.icl.json``), the name of a shipped task, or a mapping.
        settings: task paths and their values, as ``--set`` gives them.
        model: stands in for the task's model; its generation settings are kept.
        recorded: the manifest of a run whose answers stand in the model's place: its model is the task's then, and is
            never opened; it needs no key, no file, no address.

    Raises:
        TaskError: the first mistake.
    """
    document, program = _document(task)
    if model is not None:
        document = Document(
            {**document.tree, "model": _swapped(document, model)}, document.file, document.lines, swapped=True
        )
    if recorded is not None:
        document = _recorded(document, recorded["task"]["model"])
    if settings:
        document = override(document, settings)
    if "name" not in document.tree and document.file:
        document.tree["name"] = document.file.name.removesuffix(PROGRAM).removesuffix(".yaml").removesuffix(".yml")
    tree = expanded(document, model=recorded is None)
    parsed = parse(document, tree)
    identity = None if recorded is None else _identity(parsed, recorded["endpoint"])
    loaded = Loaded(parsed, document, tree, program, identity)
    _files_exist(loaded)
    return loaded


def _recorded(document: Document, model: Mapping[str, Any]) -> Document:
    """The document with the model that a run was made with, where it names another, or its own cannot be told."""
    try:
        tree = expanded(document, model=False)
        own = Loaded(parse(document, tree), document, tree).resolved["model"]
        if own == model:
            return document
        differing = ", ".join(f"model.{key}" for key in {**own, **model} if own.get(key) != model.get(key))
        log.warning("the answers are those of the run's model; what the task says of %s is not used", differing)
    except TaskError:
        pass  # what else is amiss is told when the task is parsed with that model
    return Document({**document.tree, "model": dict(model)}, document.file, document.lines, swapped=True)


def _identity(task: Task, known: str) -> str:
    """The identity of a run's model: in full where the model itself tells it, else as the manifest has it."""
    try:
        own = task.model.connect().identity
    except (IclError, OSError):
        return known
    return own if known in (own, hidden_identity(own)) else known


def altered(loaded: Loaded, settings: Mapping[str, Any]) -> Loaded:
    """The task with some keys changed, as ``--set`` changes them."""
    document = override(loaded.document, settings)
    tree = expanded(document)
    return Loaded(parse(document, tree), document, tree, loaded.program, loaded.recorded)


def _files_exist(loaded: Loaded) -> None:
    """A file that is not there is the task's mistake, at its key; a saved program no longer needs its train split."""
    shown = loaded.task.input.demonstrations
    named = {
        ("data", "test"): loaded.task.data.test,
        ("data", "train"): loaded.task.data.train,
        ("input", "demonstrations", "path"): getattr(shown, "path", None),
        ("model", "path"): getattr(loaded.task.model, "path", None),
    }
    for at, path in named.items():
        needed = loaded.program is None or at[0] == "model"
        if not isinstance(path, str) or not needed:
            continue
        try:
            if at[0] != "model":
                files(path)
            elif loaded.recorded is None and not Path(path).is_file():
                raise DataError(NO_FILE, file=path)
        except DataError as error:
            what = f"{NO_FILE}: {path}" if error.what == NO_FILE else str(error)
            raise loaded.document.error(what, at, DataError) from error


def _document(task: TaskLike) -> tuple[Document, Mapping[str, Any] | None]:
    if isinstance(task, Mapping):
        return Document(spelt_out(task)), None
    path = Path(task)
    if not path.exists() and path.suffix == "" and len(path.parts) == 1:
        known = {p.stem: p for p in shipped("tasks").glob("*.yaml")}
        if str(task) not in known:
            raise TaskError(
                f"no task file, and no shipped task of that name{did_you_mean(str(task), known)}", file=path
            )
        path = known[str(task)]
    if path.is_dir():
        raise TaskError("is a folder, not a task file", file=path)
    if not path.name.endswith(PROGRAM):
        return read(path), None
    try:
        program = orjson.loads(path.read_bytes())
        return Document(spelt_out(program["task"]), path), program
    except OSError as error:
        raise TaskError(f"cannot be read: {error.strerror}", file=path) from error
    except (ValueError, KeyError, TypeError) as error:
        raise TaskError("is not a saved program", file=path) from error


def _swapped(document: Document, model: str | Mapping[str, Any]) -> dict[str, Any]:
    new = {"use": "embedded", "name": model} if isinstance(model, str) else dict(model)
    old = document.tree.get("model")
    kept = {k: old[k] for k in GENERATION if k in old} if isinstance(old, Mapping) else {}
    return {**kept, **new}


def _template(loaded: Loaded) -> Template:
    choice = loaded.task.input.template
    if isinstance(choice, Inline):
        where = loaded.document.error("", ("input", "template"))
        return Template(choice.inline, where.file or "<inline>", where.line)
    base = loaded.document.base
    if "/" in choice or choice.endswith((".j2", ".jinja", ".jinja2")):
        path = base / Path(choice).expanduser()
    else:
        folders = [base / "templates", base.parent / "templates", shipped("templates")]
        found = [folder / f"{choice}.j2" for folder in folders]
        path = next((p for p in found if p.is_file()), found[0])
        if not path.is_file():
            known = {p.stem for folder in folders for p in folder.glob("*.j2")}
            raise loaded.document.error(
                f"unknown template {choice!r}{did_you_mean(choice, known)}", ("input", "template"), TemplateError
            )
    try:
        return Template(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise loaded.document.error(
            f"the template {path} cannot be read: {error.strerror}", ("input", "template"), TemplateError
        ) from error
    except UnicodeDecodeError as error:
        raise TemplateError("is not UTF-8 text", file=path) from error


def _takes(loaded: Loaded, can: Capabilities) -> None:
    """See that the model takes what `model.api` sends."""
    api = loaded.task.model.api
    if not (can.chat if api == "chat" else can.text):
        other = "completions" if api == "chat" else "chat"
        raise loaded.document.error(f"{loaded.task.model.use} does not take {api}; use {other}", ("model", "api"))


def build(loaded: Loaded, *, offline: bool = False, cache: bool = True, endpoint: Endpoint | None = None) -> Pipeline:
    """The pipeline of a task, its retriever fitted on the train split. Asks nothing of the model.

    Args:
        loaded: the task.
        offline: ask no network for vectors either: where some are not kept, random demonstrations stand for those that
            would be chosen.
        cache: keep answers and vectors, if the task does not say otherwise.
        endpoint: answers in the model's place.

    Raises:
        TaskError: template, demonstrations, model and output do not fit together.
    """
    with loaded.document.placing():
        return _build(loaded, offline, cache and loaded.task.run.cache, endpoint)


def _build(loaded: Loaded, offline: bool, cache: bool, endpoint: Endpoint | None) -> Pipeline:
    task = loaded.task
    chain = calibrated(loaded)
    folder = cache_dir() if cache else None
    manipulator = _manipulator(loaded, chain, offline, folder)
    portable = unexpanded(loaded._dumped, _variables_only(loaded.document.tree))
    pipeline = Pipeline(
        manipulator=manipulator,
        model=task.model,
        chain=chain,
        states=loaded.saved_states,
        whole=any(metric.needs_distribution for metric in task.metrics),
        train=train_rows(loaded, manipulator, chain),
        endpoint=endpoint,
        seed=task.run.seed,
        concurrency=task.run.concurrency,
        patience=task.run.retry_seconds,
        requests_per_minute=task.run.requests_per_minute,
        tokens_per_minute=task.run.tokens_per_minute,
        cache_folder=folder,
        source={**portable, "input": {**portable["input"], "template": {"inline": loaded.template.source}}},
        max_prompt_tokens=task.input.max_prompt_tokens,
        prepare=loaded.schema.inputs,
    )
    _takes(loaded, pipeline.capabilities)
    asking = next(iter(chain.probing), None)
    if getattr(chain.scorer[1], "normalization", "") == "pmi":
        asking = chain.scorer[0]
    if task.input.cot is not None and asking is not None:
        what = "asks about inputs that have no content, and no chain of thought (input.cot) comes before their answer"
        raise loaded.document.error(what, ("output", asking))
    # What does not fit is told when the task is loaded; a cloze adds conditions of its own at its first row.
    chain.need(pipeline.capabilities, rationale=manipulator.rationale, cloze=False)
    return pipeline


def _variables_only(tree: Any) -> Any:
    """Of a written tree, the texts that hold a ``${VAR}``: what must never be written expanded."""
    if isinstance(tree, Mapping):
        return {k: _variables_only(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [_variables_only(v) for v in tree]
    return tree if isinstance(tree, str) and "${" in tree else None


def _manipulator(loaded: Loaded, chain: Chain, offline: bool, vectors: Path | None) -> FewShot:
    shown, task = loaded.task.input, loaded.task
    retriever = shown.demonstrations
    if isinstance(shown.cot, Auto):
        if retriever is not None:
            what = "auto chooses and solves its own demonstrations; leave input.demonstrations out, or use bootstrap"
            raise loaded.document.error(what, ("input", "cot"))
        retriever = Fixed(items=())
    if retriever is None and isinstance(shown.cot, Bootstrap):
        what = "bootstrap solves rows for input.demonstrations to choose from; name a retriever there"
        raise loaded.document.error(what, ("input", "cot"))
    sampling = task.model.sampling()
    most = None if shown.cot is None else shown.cot.max_tokens
    manipulator = FewShot(
        template=loaded.template,
        write=chain.write,
        instruction=shown.instruction,
        separator=shown.separator,
        turns=shown.chat,
        answer=None if shown.answer is None else AnswerExpression(shown.answer),
        retriever=retriever,
        cot=shown.cot,
        thinking=replace(sampling, max_tokens=most or sampling.max_tokens),
        canon=chain.canon,
        seed=task.run.seed,
        vectors=vectors,
    )
    loaded.template.instruction(shown.instruction)
    if retriever is None:
        return manipulator
    at = ("input", "demonstrations") if shown.cot is None or not shown.cot.solves else ("input", "cot")
    with loaded.document.placing(at):
        order_of(retriever)
        if offline and unknown_vectors(loaded, manipulator):
            retriever = retriever if isinstance(retriever, Fixed) else Random(k=getattr(retriever, "k", 1))
            manipulator = replace(manipulator, retriever=retriever, assumed_vectors=True)
        manipulator = with_demonstrations(loaded, manipulator, chain, retriever)
    for told in () if offline else manipulator.overlap:  # a plan tells it itself
        log.warning("%s", told)
    return manipulator
