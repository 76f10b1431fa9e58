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
            _check_cluster(loaded, x, index)
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


def _check_cluster(loaded: Loaded, x: Example, index: int) -> None:
    field = loaded.task.data.cluster
    if field is not None and field not in x.inputs:
        raise DataError(
            f"row has no field {field!r} (data.cluster){did_you_mean(field, map(str, x.inputs))}",
            **place(loaded.task.data.test, index, "data.test"),
        )
