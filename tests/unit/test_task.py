"""What the keys of a task mean once they are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icl_engine.config.load import load_task
from icl_engine.errors import TaskError

SERVER = {"use": "vllm", "base_url": "http://127.0.0.1:9/v1"}


@pytest.mark.parametrize("name", ["org/model-7b", "model.gguf", "./model"])
def test_a_served_models_name_is_no_path(name: str, write_task: Callable[..., Path]) -> None:
    model: Any = load_task(write_task(model={**SERVER, "name": name})).task.model
    assert model.name == name


@pytest.mark.parametrize("name", ["models/mine.gguf", "mine.gguf"])
def test_an_embedded_models_path_is_relative_to_the_task_file(
    name: str, write_task: Callable[..., Path], tmp_path: Path
) -> None:
    model: Any = load_task(write_task(model=name)).task.model
    assert model.name == str(tmp_path / name)


def test_metrics_are_told_apart_by_name(write_task: Callable[..., Path]) -> None:
    two = [{"use": "rouge", "variant": "rouge1", "name": "rouge_1"}, {"use": "rouge"}]
    assert [m.title for m in load_task(write_task(metrics=two)).task.metrics] == ["rouge_1", "rouge"]
    with pytest.raises(TaskError, match=r"task.yaml:6: metrics: two metrics are reported as 'rouge'; give one a name"):
        load_task(write_task(metrics=["rouge", "rouge"]))
