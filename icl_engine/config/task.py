"""The task file's keys: what may be written, what is assumed, and how a mistake is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from icl_engine.config.document import At, Document, dotted
from icl_engine.errors import TaskError, bounded, did_you_mean
from icl_engine.paths import based
from icl_engine.protocols import Aligner, ChainOfThought, Component, Encoder, EntropyOrder, Metric, Model, Retriever
from icl_engine.registry import Kind, names, resolve

BASES: Mapping[Kind, type[Component]] = {
    "retriever": Retriever,
    "encoder": Encoder,
    "cot": ChainOfThought,
    "model": Model,
    "aligner": Aligner,
    "metric": Metric,
}
"""What the components of a kind are sub-classes of."""


def _based(path: str, info: ValidationInfo) -> str:
    """A path relative to the task file."""
    return based(path, (info.context or {}).get("base"))


def _component(kind: Kind, paths: Sequence[str] = ()) -> Callable[[Any, ValidationInfo], Any]:
    """A validator that makes the component of a kind that `use` names; `paths` are keys relative to the task file."""

    def build(found: Any, info: ValidationInfo) -> Any:
        if found is None or isinstance(found, resolved):
            return found
        if not isinstance(found, Mapping):
            raise PydanticCustomError("shape", "takes a name or a mapping with 'use'")
        if "use" not in found:
            options = f"name the {kind} with 'use' (one of: {', '.join(sorted(names(kind)))})"
            raise PydanticCustomError("use", "{what}", {"what": options})
        try:
            cls = resolve(kind, str(found["use"]))
        except TaskError as error:
            raise PydanticCustomError("use", "{what}", {"what": error.what}) from error
        given = {str(k): v for k, v in found.items()}
        for key in paths:
            if isinstance(given.get(key), str) and (key != "name" or _names_a_file(given)):
                given[key] = _based(given[key], info)
        return cls.model_validate(given, context=info.context)

    resolved = BASES[kind]
    return build


def _names_a_file(model: Mapping[str, Any]) -> bool:
    """Whether a model's name is a path: an embedded model's may be, a served one's may only look like it."""
    name = model["name"]
    return model["use"] == "embedded" and ("/" in name or name.endswith(".gguf"))


class Section(BaseModel):
    """Part of a task file: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def _path_or_rows(source: Any, info: ValidationInfo) -> Any:
    if isinstance(source, str):
        return _based(source, info)
    if isinstance(source, Path):
        return _based(str(source), info)
    if source is None or (isinstance(source, list) and all(isinstance(row, Mapping) for row in source)):
        return source
    raise PydanticCustomError("data", "takes the path of a data file, or in the SDK a list of rows")


Rows = Annotated[Any, BeforeValidator(_path_or_rows, json_schema_input_type=str | list[dict[str, Any]] | None)]
"""A data file's path, or in the SDK rows."""


DEFAULT_IMAGES = ("image",)


class Data(Section):
    """`data`: where rows come from.

    Args:
        train: the pool for demonstrations and fits.
        test: the rows to predict.
        target: the answer's field; every other field is a template variable.
        fields: template variable -> stored field, where they differ.
        labels: stored target value -> label.
        images: the template variables that hold images, each by its path (relative to the data file) or http(s)
            address. Bytes are an image in any field; an empty list says that no text names one.
        cluster: the field that is equal in rows that were drawn together (the questions about one text): intervals and
            comparisons then resample whole groups of such rows.
        slices: fields by whose values every metric is told apart as well.
    """

    train: Rows = None
    test: Rows = None
    target: str | None = None
    fields: dict[str, str] = {}
    labels: dict[str, str] = {}
    images: tuple[str, ...] = DEFAULT_IMAGES
    cluster: str | None = None
    slices: tuple[str, ...] = ()

    @field_validator("labels", mode="before")
    @classmethod
    def _strings(cls, labels: Any) -> Any:
        """YAML may read a stored value as a number: keys and labels are strings."""
        if not isinstance(labels, Mapping):
            return labels
        return {_text(k): _text(v) for k, v in labels.items()}


def _text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float) else value


class Inline(Section):
    """A template written in the task file.

    Args:
        inline: the template's text, a Jinja text with an `example` block (or nothing but the example).
    """

    inline: str


def _template(template: Any) -> str | Inline:
    if isinstance(template, str | Inline):
        return template
    if not isinstance(template, Mapping):
        raise PydanticCustomError("template", "takes a name, a path, or {{inline: …}}")
    return Inline.model_validate(template)


class Input(Section):
    """`input`: the input manipulation I.

    Args:
        template: the name of a template (``templates/<name>.j2``), a path, or ``{inline: …}``.
        instruction: plain text, never a template.
        demonstrations: the retriever.
        cot: a chain of thought that the model is asked for; exemplars that have rationales need none (see `answer`).
        max_prompt_tokens: the most tokens of a prompt. Demonstrations are left out until it fits, the least useful
            first; so they are for the context window, where that is known.
        separator: stands between the parts of a prompt.
        chat: for chat models: a turn for each demonstration, or one single turn.
        answer: what stands at the answer mark of a demonstration, a Jinja text; by default the target as O writes it.
    """

    template: Annotated[str | Inline, BeforeValidator(_template)]
    instruction: str = ""
    demonstrations: Annotated[SerializeAsAny[Retriever] | None, BeforeValidator(_component("retriever", ("path",)))] = (
        None
    )
    cot: Annotated[SerializeAsAny[ChainOfThought] | None, BeforeValidator(_component("cot"))] = None
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    separator: str = "\n\n"
    chat: Literal["turns", "single"] = "turns"
    answer: str | None = None


class Run(Section):
    """`run`: how the engine works through the rows; none of it changes a prompt but `seed`.

    The caps hold for a run directory: what earlier sittings in it paid counts (as the cache knows it: without one, each
    sitting is on its own), answers from the cache cost nothing.
    A request is sent only if no cap can be passed by it and all that is in flight; once one does not fit, those in
    flight come home, the exit status is 4, and with a higher cap the same command goes on from there.

    Args:
        seed: decides every draw that has no seed of its own: the same seed, the same demonstrations and order.
        concurrency: the most requests in flight at once. How many are depends on how the endpoint bears them; a model
            that takes fewer is sent fewer.
        requests_per_minute: the most requests sent in any minute.
        tokens_per_minute: about the most tokens sent and asked for in any minute.
        retry_seconds: for how long a request is sent again that failed for a reason that may pass (too many requests,
            a server's fault, a cut connection, no answer in time, an unreadable one).
        limit: only the first rows of the test split.
        max_cost_usd: what may be spent, by the model's price (see `icl plan`).
        max_tokens: how many tokens of prompts and answers may be paid for.
        max_requests: how many answers may be paid for.
        max_seconds: after so many seconds nothing more is sent; counted anew in every sitting.
        max_failures: how many rows may stay without an answer before the exit status is 3: a count, or below 1 a share
            of the rows. Where it is given the run stops as soon as there are more; null allows none, and goes on to the
            end all the same.
        cache: keep every answer on disk, and never ask for the same one twice.
    """

    seed: int = Field(default=0, ge=0)
    concurrency: int = Field(default=16, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    retry_seconds: float = Field(default=120.0, ge=0.0, allow_inf_nan=False)
    limit: int | None = Field(default=None, ge=1)
    max_cost_usd: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)
    max_tokens: int | None = Field(default=None, ge=0)
    max_requests: int | None = Field(default=None, ge=0)
    max_seconds: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)
    max_failures: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)
    cache: bool = True

    @field_validator("max_failures")
    @classmethod
    def _count_or_share(cls, allowed: float | None) -> float | None:
        if allowed is not None and allowed >= 1 and not allowed.is_integer():
            raise ValueError("give a whole number of rows, or below 1 a share of them")
        return allowed

    def failures(self, rows: int) -> int:
        """How many of the rows may fail."""
        allowed = self.max_failures or 0.0
        return int(allowed * rows if allowed < 1 else allowed)


class Task(Section):
    """A whole task file.

    Args:
        name: the task's name in summaries and in the folder of its runs; by default the file's name.
        data: where rows come from.
        input: I, how an example becomes a prompt.
        model: f, the frozen model that is asked. A name or a path alone is an embedded model.
        output: O, the steps that make the model's answer a prediction, in order. A name alone is a step with its
            defaults; without steps the text is the answer.
        metrics: how the predictions are judged. A name alone is a metric with its defaults; an empty list is an
            unlabelled run, in which no targets are required.
        run: how the engine works through the rows.
    """

    name: str = Field(default="task", pattern=r"^[^/\\]+$")
    data: Data = Data()
    input: Input
    model: Annotated[SerializeAsAny[Model], BeforeValidator(_component("model", ("path", "name")))]
    output: tuple[Annotated[SerializeAsAny[Aligner], BeforeValidator(_component("aligner"))], ...] = ()
    metrics: tuple[Annotated[SerializeAsAny[Metric], BeforeValidator(_component("metric"))], ...] = ()
    run: Run = Run()

    @field_validator("metrics")
    @classmethod
    def _told_apart(cls, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        titles = [metric.title for metric in metrics]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f"two metrics are reported as {title!r}; give one a name")
        return metrics


TAKES = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "mapping_type": "a mapping",
    "model_type": "a mapping of keys",
    "string_type": "text",
    "tuple_type": "a list",
}
"""pydantic's type errors, said for someone who writes YAML."""


def parse(document: Document, tree: Mapping[str, Any]) -> Task:
    """The task that an (expanded) tree describes.

    Raises:
        TaskError: the first mistake, with file, line and key.
    """
    try:
        return Task.model_validate(tree, context={"base": document.base})
    except ValidationError as error:
        # An unknown key is told before all else: where a required key is misspelt, it is the cause.
        found = error.errors()
        first = min(found, key=lambda e: (e["type"] != "extra_forbidden", _order(document, e["loc"]), _beside(e)))
        raise _told(document, tree, first) from None


def _beside(error: Any) -> bool:
    """Whether a mapping is told that it is no name, where both may stand: what is wrong inside says more."""
    return error["type"] == "literal_error" and isinstance(error.get("input"), Mapping)


def _order(document: Document, loc: At) -> int:
    at = _written(loc)
    return next((document.lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in document.lines), 1 << 30)


def _written(loc: Sequence[int | str]) -> At:
    """A pydantic location without the parts that name a type of a union."""
    told = ("str", "Inline", "EntropyOrder", "[key]")
    return tuple(part for part in loc if part not in told and not str(part).startswith(("function-", "literal[")))


def _told(document: Document, tree: Mapping[str, Any], error: Any) -> TaskError:
    at, kind = _written(error["loc"]), error["type"]
    context = error.get("ctx", {})
    if kind == "extra_forbidden":
        where = dotted(at[:-1]) or "a task"
        near = did_you_mean(str(at[-1]), _valid_keys(tree, at[:-1]))
        return document.error(f"unknown key {str(at[-1])!r} in {where}{near}", at)
    if kind == "missing":
        return document.error(f"the key {str(at[-1])!r} is missing", at)
    if kind == "literal_error":
        given = str(error.get("input"))
        valid = [v.strip("' ") for v in context["expected"].replace(" or ", ", ").split(", ")]
        return document.error(f"{given!r} is not valid{did_you_mean(given, valid)}", at)
    if kind == "use":
        return document.error(bounded(error["msg"]), (*at, "use"))
    if kind == "none_required":
        return document.error("takes no value", at)
    if kind in TAKES:
        return document.error(f"takes {TAKES[kind]}", at)
    message = str(context["error"]) if kind == "value_error" and "error" in context else error["msg"]
    return document.error(bounded(message[:1].lower() + message[1:]), at)


def _valid_keys(tree: Mapping[str, Any], at: At) -> list[str]:
    """The keys that the section or component at a path takes."""
    node: Any = tree
    for part in at:
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int):
            node = node[part]
    kinds: dict[Any, Kind] = {"model": "model", "output": "aligner", "metrics": "metric"}
    kinds |= {"demonstrations": "retriever", "encoder": "encoder", "cot": "cot"}
    slot = at[-2] if at and isinstance(at[-1], int) else at[-1] if at else None
    if isinstance(node, Mapping) and "use" in node and slot in kinds:
        fields = resolve(kinds[slot], str(node["use"])).model_fields
        return [field.alias or name for name, field in fields.items()]
    sections: dict[str | None, type[BaseModel]] = {
        None: Task,
        "data": Data,
        "input": Input,
        "run": Run,
        "template": Inline,
        "order": EntropyOrder,
    }
    section = sections.get(slot if isinstance(slot, str) else None)
    return list(section.model_fields) if section else []
