"""The price table: whose price, the user's own first, and what a run may spend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icl_engine.driver.budget import CHAT, IMAGE, TURN, Budget, Caps
from icl_engine.engine.prices import FREE, SHIPPED, Price, Table, price_of, usual_file
from icl_engine.errors import BudgetError, TaskError
from icl_engine.models.anthropic import Anthropic
from icl_engine.models.embedded import Embedded
from icl_engine.models.fake import Fake
from icl_engine.models.openai import OpenAI
from icl_engine.models.replay import Replay
from icl_engine.models.vllm import Vllm
from icl_engine.protocols import Model
from icl_engine.types import Continuation, Generate, Image, Message, NextToken, Request, Sampling, Usage

MILLION = 1_000_000


@pytest.fixture(autouse=True)
def _nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("ICL_PRICES", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def own(path: Path, *prices: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"prices": prices}), encoding="utf-8")
    return path


def known(model: Model) -> Price:
    price = price_of(model)
    assert price is not None
    return price


def test_the_shipped_table_says_when_and_where_each_price_was_found() -> None:
    table = Table.model_validate_json(SHIPPED.read_bytes())
    assert "check" in table.about
    for price in table.prices:
        assert price.as_of
        assert price.source.startswith("https://")
        assert price.host != ("*",), "a list price is that of its provider's own address"
        assert 0 < price.read <= price.input <= price.written <= price.output


def test_a_list_price_by_name_whether_or_not_the_version_is_named() -> None:
    mini = known(OpenAI(name="gpt-4o-mini"))
    assert (mini.input, mini.read, mini.output) == (0.15, 0.075, 0.6)
    assert known(OpenAI(name="gpt-4o-mini-2024-07-18")) == mini
    assert known(OpenAI(name="gpt-4.1-nano")).input < known(OpenAI(name="gpt-4.1")).input
    haiku = known(Anthropic(name="claude-haiku-4-5"))
    assert (haiku.input, haiku.written, haiku.output) == (1.0, 1.25, 5.0)


def test_a_model_of_the_same_name_elsewhere_has_no_list_price(monkeypatch: pytest.MonkeyPatch) -> None:
    assert price_of(OpenAI(name="gpt-4o-mini", base_url="https://mine.openai.example/v1")) is None
    assert price_of(Vllm(name="gpt-4o-mini", base_url="http://10.0.0.1:8000/v1")) is None
    assert known(Vllm(name="gpt-4o-mini", base_url="https://api.openai.com/v1")).input == 0.15
    assert price_of(OpenAI(name="gpt-4o-mini-search-preview")) is None
    assert price_of(OpenAI(name="gpt-4o-2024-05-13")) is None
    monkeypatch.setenv("OPENAI_BASE_URL", "https://mine.openai.example/v1")
    assert price_of(OpenAI(name="gpt-4o-mini")) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.9.10"])
def test_what_runs_on_this_machine_is_free(host: str) -> None:
    assert price_of(Vllm(name="m", base_url=f"http://{host}:8000/v1")) == FREE
    assert price_of(Fake()) == price_of(Embedded()) == price_of(Replay(path="r.jsonl")) == FREE


def test_the_users_price_comes_first_even_for_what_would_be_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = own(usual_file(), {"model": "gpt-4o*", "provider": "openai", "input": 1, "output": 2})
    assert known(OpenAI(name="gpt-4o-mini")).output == 2.0
    assert known(OpenAI(name="gpt-5")).output == 10.0, "the shipped prices still hold for other models"
    named = own(tmp_path / "p.json", {"model": "m", "provider": ["vllm", "openai"], "input": 3, "output": 4})
    monkeypatch.setenv("ICL_PRICES", str(named))
    assert known(Vllm(name="m", base_url="http://127.0.0.1:1/v1")).input == 3.0
    assert known(OpenAI(name="gpt-4o-mini")).output == 0.6, f"{usual} is not looked at beside ICL_PRICES"


def test_the_cost_of_a_usage() -> None:
    price = Price(model=("m",), input=2.0, cached_input=0.5, cache_write=2.5, output=8.0)
    used = Usage(prompt_tokens=MILLION, cached_prompt_tokens=MILLION // 2, completion_tokens=MILLION // 8)
    assert price.of(used) == 1.0 + 0.25 + 1.0
    assert Price(model=("m",), input=2.0, output=8.0).of(used) == 2.0 + 1.0
    assert FREE.of(used) == 0.0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        ("not JSON", "is not a price file"),
        ('{"prices": [{"model": "m", "input": -1, "output": 1}]}', "prices[0].input"),
        ('{"prices": [{"model": "m", "input": 1, "output": 1, "cached": 1}]}', "prices[0].cached"),
    ],
)
def test_a_price_file_that_is_none(
    content: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("ICL_PRICES", str(path))
    with pytest.raises(TaskError, match=r"p\.json") as told:
        price_of(Fake())
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_a_budget_bears_the_worst_of_all_that_is_in_flight() -> None:
    """Ten tokens of a prompt at most, five of an answer: no third request while two may yet cost so much."""
    budget = Budget(Caps(cost_usd=0.4), lambda used: used.prompt_tokens * 0.01 + used.completion_tokens * 0.02)
    request = Request("9 letters", Generate(Sampling(max_tokens=5)))
    assert budget.worst(request) == Usage(10, 0, 5)
    first, second = budget.take(request), budget.take(request)
    assert first is not None
    assert second is not None
    assert budget.take(request) is None, "it waits"
    budget.settle(first, Usage(2, 0, 1))
    third = budget.take(request)
    assert third is None, "0.04 spent, 0.2 may be, 0.2 more would be above"
    budget.settle(second, None, billed=False)
    third = budget.take(request)
    assert third is not None
    budget.settle(third, None)
    told = r"stopped at run\.max_cost_usd: \$0\.24 of \$0\.4 spent, and one more request may cost \$0\.2; raise it"
    for _ in range(2):
        with pytest.raises(BudgetError, match=told):
            budget.take(request)
    with pytest.raises(BudgetError):
        budget.take(Request("", Generate(Sampling(max_tokens=1))))  # nor does a cheaper one go on in its place


def test_what_was_spent_before_counts() -> None:
    request = Request("2 + 2 =", Generate())
    with pytest.raises(BudgetError, match=r"run\.max_requests: 7 of 7 spent"):
        Budget(Caps(requests=7), requests=7).take(request)
    with pytest.raises(BudgetError, match=r"run\.max_tokens: 300 of 400 spent, and one more request may take \d+;"):
        Budget(Caps(tokens=400), spent=Usage(200, 0, 100)).take(request)
    with pytest.raises(BudgetError, match=r"run\.max_cost_usd: \$3 of \$3 spent"):
        Budget(Caps(cost_usd=3.0), lambda used: used.completion_tokens * 0.03, spent=Usage(0, 0, 100)).take(request)


def test_a_cap_of_nothing_lets_nothing_go_but_what_is_free() -> None:
    request = Request("2 + 2 =", Generate())
    for caps in (Caps(requests=0), Caps(tokens=0), Caps(seconds=0.0)):
        with pytest.raises(BudgetError):
            Budget(caps).take(request)
    assert Budget(Caps(cost_usd=0.0)).take(request) is not None


@pytest.mark.parametrize(
    ("request_", "most"),
    [
        (Request("né", NextToken(20, places=2)), Usage(5, 0, 2)),
        (Request("né", NextToken(20, (), " a")), Usage(7, 0, 1)),
        (Request("né", NextToken(20, (), (5, 6, 7))), Usage(7, 0, 1)),
        (Request("né", Continuation(" abc")), Usage(9, 0, 5)),
        (Request("né", Generate(Sampling(max_tokens=9), choices=("ab", "c"))), Usage(9, 0, 9)),
        (Request((Message("user", "né"),), Generate(Sampling(max_tokens=9))), Usage(4 + CHAT + TURN, 0, 9)),
        (
            Request((Message("user", ("né", Image("x", "https://h/x.png"))),), Generate(Sampling(max_tokens=9))),
            Usage(4 + CHAT + TURN + IMAGE, 0, 9),
        ),
        (Request("\ud800", Generate(Sampling(max_tokens=1))), Usage(4, 0, 1)),
    ],
)
def test_bytes_bound_what_a_request_can_take(request_: Request, most: Usage) -> None:
    assert Budget(Caps()).worst(request_) == most
