"""Every row looked at before anything is paid for."""

from __future__ import annotations

from itertools import islice

from icl_engine.config.load import Loaded
from icl_engine.config.pool import check_target
from icl_engine.data.source import place
from icl_engine.engine.planning import Planner
from icl_engine.errors import DataError, TemplateError, did_you_mean
from icl_engine.pipeline import Pipeline
from icl_engine.types import Example


def survey(loaded: Loaded, pipeline: Pipeline, limit: int | None, planner: Planner | None = None) -> int:
    """Look at every row before anything is paid: has it a target that O can express, and all the template's variables?

    Args:
        loaded: the task.
        pipeline: its pipeline.
        limit: only the first rows.
        planner: counts what each row would ask.

    Returns:
        How many rows will be predicted.

    Raises:
        TaskError: the first row that does not fit.
    """
    need_target = bool(loaded.task.metrics)
    template, source = loaded.template, loaded.task.data.test
    for i, metric in enumerate(loaded.task.metrics):
        with loaded.document.placing(("metrics", i)):
            metric.check()
    clozes: set[bool] = set()
    count = 0
    for index, x in enumerate(islice(loaded.test(need_target=need_target), limit)):
        if need_target:
            check_target(loaded, pipeline.chain, x, source, index, "data.test")
            _check_fields(loaded, x, index)
        try:
            if count and template.surely(x.inputs):
                count += 1
                if planner is not None:
                    planner.add(x)
                continue
            cloze = template.example(x.inputs).cloze
            if cloze not in clozes:
                clozes.add(cloze)
                pipeline.check(x)
                _check_distributions(loaded, pipeline)
        except TemplateError as error:
            if not count:
                raise
            # The template could render the rows before: this one is at fault.
            what = f"the template cannot be rendered with this row: {error.what}"
            raise DataError(what, **place(source, index, "data.test")) from error
        count += 1
        if planner is not None:
            planner.add(x)
    if not count:
        raise loaded.document.error("there are no rows to predict", ("data", "test"))
    if planner is not None:
        planner.flush()
    return count


def _check_distributions(loaded: Loaded, pipeline: Pipeline) -> None:
    for i, metric in enumerate(loaded.task.metrics):
        if metric.needs_distribution and not pipeline.distributes:
            what = f"{metric.use} judges label distributions, and the answer is read as text; use a verbalizer, or vote"
            raise loaded.document.error(what, ("metrics", i))


def _check_fields(loaded: Loaded, x: Example, index: int) -> None:
    data = loaded.task.data
    for key, fields in (("cluster", [data.cluster] if data.cluster is not None else []), ("slices", data.slices)):
        for field in fields:
            if field not in x.inputs:
                raise DataError(
                    f"row has no field {field!r} (data.{key}){did_you_mean(field, map(str, x.inputs))}",
                    **place(data.test, index, "data.test"),
                )
