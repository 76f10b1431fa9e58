"""Golden prompts: what the model is shown for small tasks, kept as files that are read in reviews.

After a change that is meant, ``ICL_UPDATE_GOLDEN=1 pytest tests/golden`` writes them anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.images import PNG

from icl_engine.config.load import build, load_task
from icl_engine.types import Example, Message, Prompt

PROMPTS = Path(__file__).with_name("prompts")

REVIEWS = [
    {"text": "A gripping, funny film.", "label": "positive"},
    {"text": "Two hours I will not get back.", "label": "negative"},
    {"text": "{{ 7*7 }} stars,\nout of ten", "label": "positive"},
]
SENTIMENT = {"use": "verbalizer", "labels": {"positive": ["good", "great"], "negative": "bad"}}
BLOCKS = """
{% block instruction %}
Instruction: {{ instruction }}
{% endblock %}

{% block example %}

Review: {{ text }}
Sentiment: {{ answer }}

{% endblock %}
"""
SUMS = [
    {
        "question": "Ann has 2 apples and buys 3. How many has she?",
        "rationale": "Ann starts with 2 apples.\nShe buys 3 more, 2 + 3 = 5.",
        "answer": "5",
    },
    {"question": "A bus has 9 seats, 4 are taken. How many are free?", "rationale": "9 - 4 = 5.", "answer": 5},
]
NLI = [
    {"premise": "It rained all night", "hypothesis": "the street is wet", "label": "entailment"},
    {"premise": "The shop is closed on Sunday", "hypothesis": "it is open on Sunday", "label": "contradiction"},
]

POOL = [
    {"text": "a red rose", "label": "a"},
    {"text": "a red tulip", "label": "a"},
    {"text": "rain in the night", "label": "b"},
    {"text": "A  Red tulip", "label": "a"},
    {"text": "a tulip in the rain", "label": "b"},
    {"text": "a red tulip in the rain", "label": "b"},
]

FEW_SHOT: dict[str, Any] = {
    "data": {"target": "label"},
    "input": {
        "template": {"inline": BLOCKS},
        "instruction": "Is the review good or bad? {{ instruction }}",
        "demonstrations": {"use": "fixed", "items": REVIEWS},
    },
    "output": [SENTIMENT],
}
CHAT = {"use": "fake", "api": "chat"}
PICTURES: dict[str, Any] = {
    "data": {"target": "label"},
    "input": {
        "template": {"inline": "Look:\n{{ image }}\n{{ question }}\nAnswer: {{ answer }}"},
        "instruction": "Answer by what is seen.",
        "demonstrations": {
            "use": "fixed",
            "items": [
                {"image": "https://host/a.png", "question": "How many dogs?", "label": 2},
                {"image": PNG, "question": "What colour?", "label": "red"},
            ],
        },
    },
    "model": CHAT,
}

TASKS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "zero_shot": (
        {"input": {"template": {"inline": "Review: {{ text }}\nSentiment: {{ answer }}\n"}}, "output": [SENTIMENT]},
        {"text": "Slow, and then it stops."},
    ),
    "few_shot_with_instruction": (FEW_SHOT, {"text": "Slow, and then it stops."}),
    "few_shot_leaves_out_the_query": (FEW_SHOT, {"text": "two hours  I will not get back."}),
    "few_shot_with_separator": (
        {**FEW_SHOT, "input": {**FEW_SHOT["input"], "separator": "\n###\n"}},
        {"text": "Slow, and then it stops."},
    ),
    "shipped_classification": (
        {
            "data": {"target": "label"},
            "input": {
                "template": "classification",
                "instruction": "Decide whether the review is positive or negative.",
                "demonstrations": {"use": "fixed", "items": REVIEWS[:2]},
            },
            "output": [{"use": "verbalizer", "labels": {"positive": "positive", "negative": "negative"}}],
        },
        {"text": "Slow, and then it stops."},
    ),
    "balanced_random": (
        {
            "data": {"target": "label", "train": [{"text": f"review {i}", "label": "ab"[i % 2]} for i in range(20)]},
            "input": {
                "template": {"inline": "{{ text }} -> {{ answer }}"},
                "demonstrations": {"use": "random", "k": 4, "balanced": True},
                "separator": "\n",
            },
            "output": [{"use": "verbalizer", "labels": {"a": "A", "b": "B"}}],
            "run": {"seed": 3},
        },
        {"text": "a new review"},
    ),
    "retrieved_nearest_last": (
        {
            "data": {"target": "label", "train": POOL},
            "input": {
                "template": {"inline": "{{ text }} -> {{ answer }}"},
                "demonstrations": {"use": "tfidf", "k": 3},
                "separator": "\n",
            },
            "output": [{"use": "verbalizer", "labels": {"a": "A", "b": "B"}}],
        },
        {"text": "a red tulip in the rain"},
    ),
    "retrieved_within_a_budget": (
        {
            "data": {"target": "label", "train": POOL},
            "input": {
                "template": {"inline": "{{ text }} -> {{ answer }}"},
                "demonstrations": {"use": "per_label", "k": 2, "order": "label_interleaved"},
                "separator": "\n",
                "max_prompt_tokens": 36,
            },
            "output": [{"use": "verbalizer", "labels": {"a": "A", "b": "B"}}],
        },
        {"text": "a red tulip in the rain"},
    ),
    "zero_shot_thought": (
        {
            "input": {
                "template": {"inline": "Q: {{ question }}\nA: {{ answer }}"},
                "instruction": "Answer the question.",
                "cot": {"use": "zero_shot"},
            },
            "output": ["number"],
        },
        {"question": "Bob has 7 pens and loses 2. How many has he?"},
    ),
    "zero_shot_thought_turns": (
        {
            "input": {
                "template": {"inline": "Q: {{ question }}\nA: {{ answer }}"},
                "cot": {"use": "zero_shot", "then": "So the answer is"},
            },
            "output": ["number"],
            "model": CHAT,
        },
        {"question": "Bob has 7 pens and loses 2. How many has he?"},
    ),
    "chain_of_thought": (
        {
            "data": {"target": "answer"},
            "input": {
                "template": {"inline": "Q: {{ question }}\nA: {{ answer }}"},
                "instruction": "Answer the questions.",
                "demonstrations": {"use": "fixed", "items": SUMS},
                "answer": "{{ rationale }} So the answer is {{ answer_text }}.",
            },
            "output": [{"use": "regex", "pattern": r"answer is (\d+)", "take": "last"}],
        },
        {"question": "Bob has 7 pens and loses 2. How many has he?"},
    ),
    "cloze": (
        {
            "data": {"target": "label"},
            "input": {
                "template": {"inline": "{{ premise }}? {{ answer }}, {{ hypothesis }}"},
                "demonstrations": {"use": "fixed", "items": NLI},
                "separator": "\n",
            },
            "output": [{"use": "verbalizer", "labels": {"entailment": "Yes", "contradiction": "No"}}],
        },
        {"premise": "The cat sleeps", "hypothesis": "the cat is awake"},
    ),
    "chat_turns": ({**FEW_SHOT, "model": CHAT}, {"text": "Slow, and then it stops."}),
    "chat_single": (
        {**FEW_SHOT, "model": CHAT, "input": {**FEW_SHOT["input"], "chat": "single"}},
        {"text": "Slow, and then it stops."},
    ),
    "images_turns": (PICTURES, {"image": "https://host/c.png", "question": "How many cats?"}),
    "images_single": (
        {**PICTURES, "input": {**PICTURES["input"], "chat": "single"}},
        {"image": "https://host/c.png", "question": "How many cats?"},
    ),
}


def shown(prompt: Prompt) -> str:
    """The text with the answer's place marked, or the turns as JSON."""
    if prompt.messages is not None:
        turns = [{"role": m.role, "content": said(m)} for m in prompt.messages]
        return json.dumps(turns, ensure_ascii=False, indent=2) + "\n"
    return f"{prompt.text}⟦{prompt.lead}…⟧{prompt.after}\n"


def said(message: Message) -> Any:
    """A turn's text, or its texts and images in order."""
    if isinstance(message.content, str):
        return message.content
    return [part if isinstance(part, str) else {"image": part.name} for part in message.content]


@pytest.mark.parametrize("name", TASKS)
def test_the_prompt_is_the_golden_one(name: str) -> None:
    task, inputs = TASKS[name]
    pipeline = build(load_task({"model": {"use": "fake"}, **task}))
    found = shown(pipeline.check(Example("query", pipeline.prepare(inputs))))
    golden = PROMPTS / f"{name}.txt"
    if os.environ.get("ICL_UPDATE_GOLDEN") == "1":
        golden.write_text(found, encoding="utf-8", newline="\n")
    assert golden.is_file(), f"no golden prompt {golden}; look at the prompt, then set ICL_UPDATE_GOLDEN=1"
    assert found == golden.read_text(encoding="utf-8")


def test_every_golden_file_is_of_a_task() -> None:
    assert {p.stem for p in PROMPTS.iterdir()} == set(TASKS)
