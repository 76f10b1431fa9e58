"""Name -> class, as strings, so that listing what exists imports nothing.

To add a retriever (a model, an aligner, a metric): one file in its room and one line here. Packages of
others add theirs through entry points of the group ``icl_engine.<kind>``, for example

    [project.entry-points."icl_engine.retriever"]
    nearest_title = "my_package:NearestTitle"
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, get_args

from icl_engine.errors import TaskError, did_you_mean

Kind = Literal["retriever", "encoder", "cot", "model", "aligner", "metric"]

TABLES: dict[Kind, dict[str, str]] = {
    "retriever": {
        "bm25": "icl_engine.manipulation.retrieve.bm25:Bm25",
        "cluster": "icl_engine.manipulation.retrieve.cluster:Cluster",
        "complexity": "icl_engine.manipulation.retrieve.complexity:Complexity",
        "dpp": "icl_engine.manipulation.retrieve.dpp:Dpp",
        "fixed": "icl_engine.manipulation.retrieve.fixed:Fixed",
        "hybrid": "icl_engine.manipulation.retrieve.hybrid:Hybrid",
        "knn": "icl_engine.manipulation.retrieve.knn:Knn",
        "mmr": "icl_engine.manipulation.retrieve.mmr:Mmr",
        "per_label": "icl_engine.manipulation.retrieve.per_label:PerLabel",
        "mdl": "icl_engine.manipulation.retrieve.mdl:Mdl",
        "random": "icl_engine.manipulation.retrieve.random:Random",
        "tfidf": "icl_engine.manipulation.retrieve.tfidf:TfIdf",
        "votek": "icl_engine.manipulation.retrieve.votek:VoteK",
    },
    "encoder": {
        "embeddings": "icl_engine.models.embeddings:Embeddings",
        "field": "icl_engine.manipulation.encode.field:Field",
        "sentence_transformers": "icl_engine.models.sentence_transformers:SentenceTransformers",
        "tfidf": "icl_engine.manipulation.encode.tfidf:TfIdf",
    },
    "cot": {
        "auto": "icl_engine.manipulation.cot:Auto",
        "bootstrap": "icl_engine.manipulation.cot:Bootstrap",
        "zero_shot": "icl_engine.manipulation.cot:ZeroShot",
    },
    "model": {
        "anthropic": "icl_engine.models.anthropic:Anthropic",
        "embedded": "icl_engine.models.embedded:Embedded",
        "fake": "icl_engine.models.fake:Fake",
        "openai": "icl_engine.models.openai:OpenAI",
        "replay": "icl_engine.models.replay:Replay",
        "vllm": "icl_engine.models.vllm:Vllm",
    },
    "aligner": {
        "abstain": "icl_engine.alignment.abstain:Abstain",
        "after": "icl_engine.alignment.structural.after:After",
        "batch_calibration": "icl_engine.alignment.statistical.batch_calibration:BatchCalibration",
        "boolean": "icl_engine.alignment.structural.boolean:Boolean",
        "boxed": "icl_engine.alignment.structural.boxed:Boxed",
        "choice": "icl_engine.alignment.structural.choice:Choice",
        "code": "icl_engine.alignment.structural.code:Code",
        "contextual_calibration": "icl_engine.alignment.statistical.contextual_calibration:ContextualCalibration",
        "domain_calibration": "icl_engine.alignment.statistical.domain_calibration:DomainCalibration",
        "date": "icl_engine.alignment.structural.date:Date",
        "identity": "icl_engine.alignment.identity:Identity",
        "json": "icl_engine.alignment.structural.json_value:Json",
        "knn_prompting": "icl_engine.alignment.statistical.knn_prompting:KnnPrompting",
        "label_mapping": "icl_engine.alignment.statistical.label_mapping:LabelMapping",
        "linear": "icl_engine.alignment.linear:Linear",
        "list": "icl_engine.alignment.structural.listing:Items",
        "number": "icl_engine.alignment.structural.number:Number",
        "reask": "icl_engine.alignment.reask:Reask",
        "regex": "icl_engine.alignment.structural.regex:Regex",
        "temperature": "icl_engine.alignment.statistical.temperature:Temperature",
        "spans": "icl_engine.alignment.structural.spans:Spans",
        "verbalizer": "icl_engine.alignment.structural.verbalizer:Verbalizer",
        "vote": "icl_engine.alignment.vote:Vote",
    },
    "metric": {
        "accuracy": "icl_engine.metrics.accuracy:Accuracy",
        "balanced_accuracy": "icl_engine.metrics.labels:BalancedAccuracy",
        "bleu": "icl_engine.metrics.text:Bleu",
        "brier": "icl_engine.metrics.calibration:Brier",
        "chrf": "icl_engine.metrics.text:Chrf",
        "ece": "icl_engine.metrics.calibration:Ece",
        "exact_match": "icl_engine.metrics.accuracy:ExactMatch",
        "log_loss": "icl_engine.metrics.calibration:LogLoss",
        "macro_f1": "icl_engine.metrics.f1:MacroF1",
        "mcc": "icl_engine.metrics.labels:Mcc",
        "micro_f1": "icl_engine.metrics.f1:MicroF1",
        "numeric": "icl_engine.metrics.numeric:Numeric",
        "rouge": "icl_engine.metrics.text:Rouge",
        "span_f1": "icl_engine.metrics.f1:SpanF1",
        "token_f1": "icl_engine.metrics.f1:TokenF1",
    },
}


@cache
def names(kind: Kind) -> dict[str, str]:
    """Every known name of a kind with its ``module:Class``, third parties' included; our own names win.

    >>> sorted(names("metric"))[:2]
    ['accuracy', 'balanced_accuracy']
    """
    foreign = {e.name: e.value for e in entry_points(group=f"icl_engine.{kind}")}
    return {**foreign, **TABLES[kind]}


@cache
def resolve(kind: Kind, name: str) -> type[Any]:
    """The class registered under a name.

    Raises:
        TaskError: no such name; the nearest valid one is named.

    >>> resolve("aligner", "identity").__name__
    'Identity'
    """
    if kind not in get_args(Kind):
        raise ValueError(f"unknown kind {kind!r}")
    table = names(kind)
    if name not in table:
        raise TaskError(f"unknown {kind} {name!r}{did_you_mean(name, table)}")
    module, _, attribute = table[name].partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, type):
        raise TaskError(f"{kind} {name!r}: {table[name]} is not a class")
    return found
