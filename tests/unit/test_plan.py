"""The parts of a plan: how tokens are counted, what labels may take, what questions add up to."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from icl_engine.engine.dry import Dry, most
from icl_engine.engine.prices import FREE, Price
from icl_engine.engine.sums import Sums, Taken
from icl_engine.models.openai import OpenAI
from icl_engine.models.trie import Node
from icl_engine.tokens import REPLY, TURN, TokenCounter, Tokens, counter, estimate, shared
from icl_engine.types import Capabilities, Image, Message, Need, Request, Response, Spelling

MEASURED = {
    # text: its tokens by cl100k (GPT-4), Gemma 3's and SmolLM2's tokenizers, nothing put before it
    "Review: a gripping, funny film. Sentiment:": (11, 10, 11),
    "Janet's ducks lay 16 eggs per day. She eats three for breakfast and bakes muffins with 4.": (25, 25, 26),
    '{"value": 0.8712, "ci95": [0.8204, 0.9131], "n": 200}': (31, 40, 40),
    "Der Film war überraschend gut, obwohl die Handlung etwas langatmig wirkte.": (24, 17, 26),
    "Фильм оказался неожиданно хорошим, хотя сюжет местами казался затянутым.": (40, 18, 59),
    "这部电影出乎意料地好看,尽管情节有时显得有点冗长。": (29, 17, 48),
    "    return [self.sums.new(key) for key in keys if key is not None]\n": (19, 22, 23),
}


def words(text: str) -> Tokens:
    n = len(text.split())
    return Tokens(n, n, n)


@pytest.mark.parametrize("text", MEASURED)
def test_the_range_of_an_estimate_holds_what_tokenizers_count(text: str) -> None:
    found = estimate(text)
    assert found.low <= min(MEASURED[text])
    assert max(MEASURED[text]) <= found.high
    assert found.low <= found.about <= found.high


def test_what_prompts_share_is_counted_once() -> None:
    seen: list[str] = []

    def count(text: str) -> Tokens:
        seen.append(text)
        return words(text)

    demonstrations = "Review: dull, and far too long\nSentiment: negative\n\n" * 6
    prompts = [f"{demonstrations}Review: film {i}\nSentiment:" for i in range(9)]
    counted = TokenCounter(count, "tokenizer", "by words")
    assert [counted(p) for p in prompts] == [words(p) for p in prompts]
    assert all(len(text) < 40 for text in seen[6:]), "the demonstrations were counted for the first prompts only"
    other = "x y z\n" * 99
    assert counted(other + "a") == words(other + "a")
    assert counted(other + "b") == words(other + "b")


def test_a_head_whose_cut_would_change_the_count_is_not_cut() -> None:
    def whole(text: str) -> Tokens:
        return Tokens(1, 1, 1) if text else Tokens()

    counted = TokenCounter(whole, "tokenizer", "")
    assert [counted("line\n" * 99 + end) for end in "abc"] == [Tokens(1, 1, 1)] * 3


def test_turns_have_marks_and_images_no_tokens() -> None:
    turns = (Message("system", "Judge it."), Message("user", ("See: ", Image("a.png", url="http://x/a.png"), " now")))
    assert TokenCounter(words, "tokenizer", "")(turns).about == 4 + 2 * TURN + REPLY


@pytest.mark.parametrize(("a", "b"), [("", "x"), ("abc", "abc"), ("abc", "abd"), ("a" * 1000, "a" * 999 + "b")])
def test_what_two_texts_share(a: str, b: str) -> None:
    n = shared(a, b)
    assert a[:n] == b[:n]
    assert a[n : n + 1] != b[n : n + 1] or n == len(a) == len(b)


# -- tiktoken


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a plan connects to nobody")

    monkeypatch.setattr(socket.socket, "connect", refused)


def test_without_tiktoken_tokens_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    found = counter(OpenAI(name="gpt-4o-mini"))
    assert (found.method, found.better) == ("estimate", "")
    assert found("Review: fine") == estimate("Review: fine")


def test_without_its_file_tiktoken_is_not_waited_for(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tiktoken")
    offline(monkeypatch)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    began = time.monotonic()
    found = counter(OpenAI(name="gpt-4o-mini"))
    assert time.monotonic() - began < 5
    assert found.method == "estimate"
    assert "get_encoding('o200k_base')" in found.better
    assert not list(tmp_path.iterdir())


def test_with_its_file_tiktoken_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    offline(monkeypatch)
    byte = tiktoken.Encoding(
        "bytes", pat_str=r".", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
    )
    monkeypatch.setattr(tiktoken, "get_encoding", {"o200k_base": byte}.__getitem__)
    found = counter(OpenAI(name="gpt-4o-mini"))
    assert (found.method, found.how) == ("tiktoken", "tiktoken's bytes")
    assert found("<|endoftext|>") == Tokens(13, 13, 13), "what looks like a special token is text"
    assert counter(OpenAI(name="a-model-of-my-own")).method == "estimate"


# -- what labels may take

SST2 = Need("scores", {"positive": ("positive",), "negative": ("negative",)})
PATHS: dict[str, Node] = {" new york": (1, 2), " new delhi": (1, 3), " oslo": (4,)}
CITIES = Need("scores", {"ny": ("new york",), "nd": ("new delhi",), "os": ("oslo",)})
WIDE = Capabilities(top_logprobs=20)
NAMED = Capabilities(top_logprobs=20, named=128, spelling=True)


def spelt(need: Need, paths: dict[str, Node] | None = None) -> Dry:
    dry = Dry(tuple(f" {w}" for ws in need.words.values() for w in ws))
    if paths is not None:
        answer = Response("", spelt=tuple(tuple(map(int, paths[w])) for w in dry.words))
        dry.learn(Request("", Spelling(tuple(dry.words))), answer)
    return dry


@pytest.mark.parametrize(
    ("need", "can", "paths", "chat", "bound"),
    [
        (Need(), WIDE, None, False, None),
        (SST2, Capabilities(continuation=True), None, False, None),
        (SST2, WIDE, None, True, 1),
        (SST2, WIDE, None, False, 1 + 2 * 2),
        (SST2, Capabilities(top_logprobs=20, continuation=True, forced=True), None, False, 1 + 2),
        (SST2, NAMED, {" positive": (1,), " negative": (2,)}, False, 1),
        (CITIES, NAMED, PATHS, False, 2),
        (CITIES, Capabilities(top_logprobs=20, named=1, spelling=True), PATHS, False, 2 + 2),
    ],
)
def test_the_most_requests_of_a_question(
    need: Need, can: Capabilities, paths: dict[str, Node] | None, chat: bool, bound: int | None
) -> None:
    assert most(need, can, spelt(need, paths), lambda _: 3, chat=chat, cloze=False) == bound


# -- sums


def added(prompts: list[str], price: Price = FREE, taken: Callable[[int], Taken] = lambda _: Taken()) -> Sums:
    sums = Sums(TokenCounter(words, "tokenizer", ""), context=6)
    for index, prompt in enumerate(prompts):
        sums.rows += 1
        sums.add(index, "main", prompt, taken(index))
    return sums


def test_a_prompt_cache_serves_what_the_prompt_before_begins_with() -> None:
    sums = added(["a b c d", "a b c d", "a b x y", "q r s t"])
    assert sums.prompt.about == sums.paid.about == 16
    assert sums.again.about == pytest.approx(4 + 4 * 4 / 7 + 0)


def test_an_answer_in_the_cache_is_neither_sent_nor_paid_for() -> None:
    sums = added(["a b c d", "a b c d"], taken=lambda i: Taken(requests=1, cached=i))
    assert (sums.requests.total(), sums.cached, sums.to_pay) == (2, 1, 1)
    assert (sums.prompt.about, sums.paid.about, sums.again.about) == (8, 4, 0)


def test_cost_runs_from_a_warm_prompt_cache_to_a_cold_one() -> None:
    price = Price(model=("m",), input=10.0, cached_input=1.0, cache_write=12.0, output=100.0)
    sums = added(["a b c d", "a b c d"], taken=lambda _: Taken(said=5, further=1, longest=3))
    low, high = sums.cost(price, probes=0)
    assert low == pytest.approx((4 * 10 + 4 * 1 + 2 * 100) / 1e6)
    assert high == pytest.approx(((8 + 8) * 12 + 2 * (5 + 3) * 100) / 1e6)
    assert sums.cost(price, probes=3)[1] > high


def test_a_prompt_past_the_context_window_is_counted_with_its_row() -> None:
    sums = added(["a", "a b c d e f g", "b", "a b c d e f g h"])
    assert (sums.over, sums.first_over) == (2, 1)
