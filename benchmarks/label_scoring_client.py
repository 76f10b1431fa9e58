"""One client's run of `label_scoring.py`, in a process of its own: ``python label_scoring_client.py CLIENT JSON``.

The last line printed is JSON: seconds of scoring, each row's label, and how it was read. Only the client's own packages
are needed: lm-evaluation-harness has a Python of its own.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

Given = dict[str, Any]


def ours(given: Given) -> Given:
    """`icl.run`: loading, the endpoint's check and probing, scoring, metrics and reports."""
    import icl_engine as icl

    began = time.perf_counter()
    result = icl.run(given["task"], out=given["out"], cache=False)
    seconds = time.perf_counter() - began
    said = [record["prediction"] for record in result.predictions]
    return {"seconds": seconds, "said": said, "scoring": result.summary["scoring"]}


def lm_eval(given: Given) -> Given:
    """`simple_evaluate` with `local-completions`, of which only `loglikelihood` is timed."""
    from lm_eval import simple_evaluate
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from lm_eval.tasks import TaskManager

    class Timed(LocalCompletionsAPI):  # type: ignore[misc]
        seconds = 0.0

        def loglikelihood(self, *args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return super().loglikelihood(*args, **options)
            finally:
                self.seconds += time.perf_counter() - began

    model = Timed(**given["model"])
    manager = TaskManager(include_path=given["folder"], include_defaults=False)
    result = simple_evaluate(model, tasks=[given["task"]], task_manager=manager, bootstrap_iters=0)
    said = []
    for sample in sorted(result["samples"][given["task"]], key=lambda sample: sample["doc_id"]):
        scores = [float(answer[0]) for answer in sample["filtered_resps"]]
        said.append(given["labels"][scores.index(max(scores))])
    return {"seconds": model.seconds, "said": said, "scoring": {"method": "echo"}}


if __name__ == "__main__":
    run = {"icl-engine": ours, "lm-eval": lm_eval}[sys.argv[1]]
    print(json.dumps(run(json.loads(sys.argv[2]))))
