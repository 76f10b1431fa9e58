"""What headers and words say of a provider's rates: when to pause, how long to wait, and what no wait helps."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from icl_engine.models import rates
from icl_engine.models.rates import HOUR, LEFT, asked, pause, seconds, spent

THEN = datetime(2020, 2, 29, 12, 0, 0, tzinfo=UTC)
"""The server's clock: not ours."""
DATE = format_datetime(THEN, usegmt=True)


def rfc3339(**later: float) -> str:
    return (THEN + timedelta(**later)).isoformat().replace("+00:00", "Z")


def http_date(**later: float) -> str:
    return format_datetime(THEN + timedelta(**later), usegmt=True)


# -- pause


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("59m59.5s", 3599.5),
        ("2m59.56s", 179.56),
        ("120ms", 0.12),
        ("1m0.5s", 60.5),
        ("0s", 0.0),
        ("12", 12.0),
        ("12.5", 12.5),
        (str(int(THEN.timestamp()) + 9), 9.0),
        (str(int(THEN.timestamp()) * 1000 + 9500), 9.5),
        (rfc3339(seconds=20), 20.0),
        (rfc3339(seconds=20.25), 20.25),
        ((THEN + timedelta(seconds=20)).astimezone().isoformat(), 20.0),
        (http_date(seconds=30), 30.0),
        (rfc3339(seconds=-20), 0.0),
        ("1h2m3.5s", 0.0),  # an hour or more: what is asked next is refused in the provider's own words
        ("1d", 0.0),
        ("86400", 0.0),
        (rfc3339(days=1), 0.0),
        ("", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("1e3", 0.0),
        ("9" * 5000, 0.0),
        ("9" * 5000 + "s", 0.0),
        ("٣", 0.0),
    ],
)
@pytest.mark.parametrize("names", LEFT, ids=lambda names: names[0])
def test_when_nothing_is_left_the_endpoint_rests_until_there_is(
    names: tuple[str, str], reset: str, expected: float
) -> None:
    left, until = names
    assert pause({left: "0", until: reset, "date": DATE}) == pytest.approx(expected)


def test_the_limits_of_every_provider_are_known() -> None:
    anthropic = [
        f"anthropic-ratelimit-{of}-remaining" for of in ("requests", "tokens", "input-tokens", "output-tokens")
    ]
    openai = [f"x-ratelimit-remaining-{of}" for of in ("requests", "tokens")]
    assert {left for left, _ in LEFT} == {*anthropic, *openai, "ratelimit-remaining"}


@pytest.mark.parametrize(
    ("left", "expected"),
    [("0", 5.0), ("-1", 5.0), ("00", 5.0), ("0.0", 5.0), ("-30", 5.0)]
    + [(left, 0.0) for left in ("1", "0.5", "01", "4999", "", "-", "none", "nan", "-inf", "9" * 5000, " ")],
)
def test_it_rests_only_when_nothing_is_left(left: str, expected: float) -> None:
    assert pause({"x-ratelimit-remaining-tokens": left, "x-ratelimit-reset-tokens": "5s"}) == expected


def test_the_longest_of_several_counts() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m0s",
        "ratelimit-remaining": "7",
        "ratelimit-reset": "600",
    }
    assert pause(headers) == 60.0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/json"},
        {"x-ratelimit-remaining-requests": "0"},
        {"x-ratelimit-reset-requests": "6m0s"},
        # Azure where it does not count
        {"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "0"},
    ],
)
def test_otherwise_there_is_no_pause(headers: dict[str, str]) -> None:
    assert pause(headers) == 0.0


def of_the_sdk(headers: Mapping[str, str]) -> Any:
    return httpx.Headers(headers)


@pytest.mark.parametrize("made", [lambda h: CIMultiDictProxy(CIMultiDict(h)), of_the_sdk], ids=["aiohttp's", "httpx's"])
def test_headers_are_found_in_any_case(made: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
    left, until = "Anthropic-RateLimit-Tokens-Remaining", "Anthropic-RateLimit-Tokens-Reset"
    headers = made({left: "0", until: rfc3339(seconds=20), "Date": DATE, "Retry-After": http_date(seconds=7)})
    assert (pause(headers), seconds(headers)) == (20.0, 7.0)


# -- clocks


@pytest.mark.parametrize("ours", [0.0, THEN.timestamp() - 86400, THEN.timestamp() + 86400, 4e9])
def test_a_wrong_clock_of_ours_changes_nothing(monkeypatch: pytest.MonkeyPatch, ours: float) -> None:
    monkeypatch.setattr("time.time", lambda: ours)
    left = {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": rfc3339(seconds=20)}
    assert pause({**left, "date": DATE}) == 20.0
    assert seconds({"retry-after": http_date(seconds=7200), "date": DATE}) == 7200.0


@pytest.mark.parametrize("ours", [0.0, THEN.timestamp() - 86400, THEN.timestamp() + 86400, 4e9])
@pytest.mark.parametrize("date", ["", "yesterday", "9" * 5000])
def test_without_the_servers_clock_ours_never_makes_hours(
    monkeypatch: pytest.MonkeyPatch, ours: float, date: str
) -> None:
    monkeypatch.setattr("time.time", lambda: ours)
    left = {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": rfc3339(seconds=20)}
    assert pause({**left, "date": date}) == 0.0
    assert seconds({"retry-after": http_date(seconds=7), "date": date}) in (0.0, None)


def test_without_the_servers_clock_ours_is_good_for_less() -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert seconds({"retry-after": until}) == pytest.approx(30, abs=2)


# -- hostile values

WRITTEN = st.one_of(
    st.text(),
    st.text("0123456789.-+:TZ smhdGMTu,", max_size=40),
    st.sampled_from(["9" * 5000, "nan", "inf", "-inf", "0x10", "1_000", "-0", "9999-12-31T23:59:59-23:59", "\ud800"]),
    st.datetimes().map(datetime.isoformat),
    st.integers().map(str),
    st.floats().map(str),
    st.integers(0, 10**6).flatmap(lambda n: st.sampled_from([f"{n}s", f"{n}ms", f"{n}h", f"{n}d", f"{n}m{n}s"])),
)


@given(st.dictionaries(st.sampled_from([*[n for pair in LEFT for n in pair], "date", "retry-after"]), WRITTEN))
def test_no_header_raises_or_makes_hours(headers: dict[str, str]) -> None:
    assert 0.0 <= pause({**headers}) < HOUR
    wait = seconds(headers)
    assert wait is None or 0.0 <= wait < math.inf
    assert pause({**headers, **{left: "0" for left, _ in LEFT}}) < HOUR


@given(st.binary(max_size=200), st.sampled_from([400, 402, 403, 429, 500, 503]))
def test_no_body_raises(content: bytes, status: int) -> None:
    for body in (content, b"try again in " + content, b'"retryDelay": "' + content, b'{"message": "' + content):
        wait = asked(status, {}, body)
        assert wait is None or 0.0 <= wait < math.inf
        assert isinstance(spent(status, body, wait), str)


def test_an_endless_body_is_read_in_part() -> None:
    assert spent(429, b"per day".rjust(rates.WORDS), None)
    assert not spent(429, b"per day".rjust(rates.WORDS + 1), None)


# -- how long to wait


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "20", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "20", "retry-after-ms": "soon"}, 20.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": http_date(seconds=90), "date": DATE}, 90.0),
        ({"retry-after": "Saturday, 29-Feb-20 12:00:05 GMT", "date": DATE}, 5.0),
        ({"retry-after": "Sat Feb 29 12:00:05 2020", "date": DATE}, 5.0),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_how_long_a_header_asks_to_wait(headers: dict[str, str], expected: float | None) -> None:
    assert seconds(headers) == expected


def said(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


def google(*quotas: str, delay: str = "34s", message: str = "You exceeded your current quota, please check") -> bytes:
    """A refusal of Google's OpenAI-compatible route: a list of one error."""
    violations = [{"quotaMetric": "generativelanguage.googleapis.com/x", "quotaId": quota} for quota in quotas]
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ]
    error = {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}
    return json.dumps([{"error": error}]).encode()


PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
TPM = "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29500."
RPD = "Rate limit reached for gpt-4o in organization org-x on requests per day (RPD): Limit 200, Used 200."
AZURE = "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded token rate limit of S0."


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(said(f"{TPM} Please try again in 6ms. Visit https://h/1"), 0.006, id="OpenAI, milliseconds"),
        pytest.param(said(f"{TPM} Please try again in 1m26.4s. Visit"), 86.4, id="OpenAI, minutes"),
        pytest.param(said(f"{AZURE} Please retry after 6 seconds. Please go here"), 6.0, id="Azure"),
        pytest.param(said("Rate limit is exceeded. Try again in 30 seconds."), 30.0, id="Azure, older"),
        pytest.param(google(PER_MINUTE), 34.0, id="Gemini"),
        pytest.param(google(PER_MINUTE, delay="34.074824224s"), 34.074824224, id="Gemini, nanoseconds"),
        pytest.param(said(google(PER_MINUTE).decode()), 34.0, id="Gemini within another's error"),
        pytest.param(said("Quota exceeded. Please retry in 38.662417882s."), 38.662417882, id="Gemini, words"),
        pytest.param(said("Rate limit of 15 per 60s exceeded. Please wait 25 seconds before"), 25.0, id="GitHub"),
        pytest.param(said("max request: 3, please try again after 1 seconds"), 1.0, id="Moonshot"),
        pytest.param(said("try again in 1 hour 5 minutes"), 3900.0, id="hours"),
        pytest.param(said("try again in 250 milliseconds"), 0.25, id="milliseconds"),
        pytest.param(said("Try again in a minute"), None, id="no number"),
        pytest.param(said("Rate limit reached"), None, id="no words"),
        pytest.param(said("You waited 5 seconds"), None, id="other words"),
        pytest.param(b"\xff", None, id="bytes"),
    ],
)
def test_how_long_a_body_asks_to_wait(content: bytes, expected: float | None) -> None:
    assert asked(429, {}, content) == (None if expected is None else pytest.approx(expected))
    assert asked(429, {"retry-after": "3"}, content) == 3.0, "a header goes before words"
    assert asked(500, {}, content) is None, "who does not speak of rates may quote a prompt"


def test_a_refusal_may_only_say_when_there_is_more() -> None:
    headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "55"}
    assert asked(429, headers, b"") == 55.0
    assert asked(429, {**headers, "x-ratelimit-remaining-tokens": "9"}, b"") is None
    assert asked(429, {**headers, "x-ratelimit-reset-tokens": "23h"}, b"") == 23 * HOUR


# -- what no wait helps

SPENT = {
    "OpenAI": (429, said("You exceeded your current quota", code="insufficient_quota")),
    "OpenAI, a wait beside": (429, said("You exceeded it", code="insufficient_quota") + b"try again in 2s"),
    "OpenAI, hard limit": (400, said("Billing hard limit has been reached", code="billing_hard_limit_reached")),
    "OpenAI, project": (429, said("Refused", code="project_spend_limit_exceeded")),
    "OpenAI, organization": (429, said("Refused", code="organization_usage_limit_exceeded")),
    "OpenAI, balance": (429, said("Refused", code="credit_balance_exhausted")),
    "402": (402, said("This request requires more credits")),
    "DeepSeek": (402, said("Insufficient Balance")),
    "Anthropic, credit": (400, said("Your credit balance is too low to access the Anthropic API.")),
    "Anthropic through a gateway": (400, said('AnthropicException - {"message": "Your credit balance is too low"}')),
    "Anthropic, usage": (400, said("You have reached your specified API usage limits. You will regain access on")),
    "Anthropic, workspace": (400, said("You have reached your specified workspace API usage limits.")),
    "Anthropic, 403": (403, said("Your credit balance is too low")),
    "xAI": (429, said("Your team has either used all available credits or reached its monthly spending limit.")),
    "Moonshot": (429, said("Your account is suspended due to insufficient balance, please recharge")),
    "Moonshot, 403": (403, said("organization exceeded current quota", type="exceeded_current_quota_error")),
    "OpenRouter, budget": (403, said("Budget limit exceeded")),
}
LATER = {
    "OpenAI": (429, said(f"{RPD} Please try again in 7m12s.")),
    "Groq": (
        429,
        said("on tokens per day (TPD): Limit 100000. Please try again in 9m38.016s. Upgrade to Dev Tier today"),
    ),
    "Anthropic": (
        429,
        said("Number of request tokens has exceeded your daily rate limit (https://docs.anthropic.com)"),
    ),
    "OpenRouter": (429, said("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 per day")),
    "GitHub": (429, said("Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 5 seconds")),
    "Gemini": (429, google(PER_DAY)),
    "Gemini, both": (429, google(PER_DAY, PER_MINUTE)),
    "Google, words": (429, said("Quota exceeded for metric 'Requests' and limit 'Requests per day per user per tier'")),
    "Google, limit": (429, said("Quota exceeded", quota_limit="Gemini25ProRequestsPerDay")),
    "Vertex": (429, said("Quota exceeded for aiplatform.googleapis.com/generate_content_requests_per_day_per_project")),
    "Cerebras": (429, said("Tokens per day limit exceeded - too many tokens processed.")),
    "Cohere": (429, said("You are using a Trial key, which is limited to 1000 API calls / month.")),
    "monthly": (429, said("You have reached your monthly usage limit for this API key.")),
    "weekly": (429, said("weekly limit reached")),
    "no JSON": (429, b"Quota exceeded: requests per day limit reached."),
}
AGAIN = {
    "OpenAI, tokens": (429, said(f"{TPM} Please try again in 1.4s. Visit https://platform.openai.com/rate/daily")),
    "OpenAI, requests": (
        429,
        said("on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s."),
    ),
    "Groq": (429, said("on tokens per minute (TPM): Limit 6000. Please try again in 7.66s. Upgrade to Dev Tier today")),
    "Anthropic": (429, said("This request would exceed the rate limit of 50,000 input tokens per minute.")),
    "Anthropic, older": (429, said("Number of request tokens has exceeded your per-minute rate limit")),
    "OpenRouter": (429, said("Rate limit exceeded: free-models-per-min. ")),
    "OpenRouter, both": (429, said("free-models-per-min. Add 10 credits to unlock 1000 requests per day")),
    "GitHub": (429, said("Rate limit of 15 per 60s exceeded for UserByModelByMinute. Please wait 25 seconds")),
    "Azure": (429, said(f"{AZURE} Please retry after 6 seconds.")),
    "Gemini": (429, google(PER_MINUTE)),
    "Gemini, tokens": (429, google("GenerateContentInputTokensPerModelPerMinute-FreeTier")),
    "Gemini, older": (429, said("Resource has been exhausted (e.g. check quota).", status="RESOURCE_EXHAUSTED")),
    "Vertex": (
        429,
        said("Quota exceeded for aiplatform.googleapis.com/generate_content_requests_per_minute_per_project"),
    ),
    "Vertex, shared": (429, said("Resource exhausted. Please try again later.")),
    "Cohere": (429, said("You are using a Trial key, which is limited to 40 API calls / minute.")),
    "Mistral": (429, said("Requests rate limit exceeded")),
    "hour": (429, said("Limit of 100 requests per hour reached")),
    "no words": (429, b""),
    "503": (503, said("The daily quota service is not available")),
    "500": (500, said("insufficient_quota")),
}
ONE = {
    "too long": (400, said("too long: reduce the prompt")),
    "a prompt that is quoted": (
        400,
        said("Invalid prompt: 'my credit balance is too low, insufficient funds per day'"),
    ),
    "a refused key": (401, said("Incorrect API key, see your daily limits")),
    "a flagged prompt": (403, said("Your input was flagged")),
}


@pytest.mark.parametrize(("status", "content"), SPENT.values(), ids=SPENT)
def test_an_account_that_may_not_spend_more(status: int, content: bytes) -> None:
    assert spent(status, content, asked(status, {}, content)) == "the account may not spend more"


@pytest.mark.parametrize(("status", "content"), LATER.values(), ids=LATER)
def test_a_quota_of_a_day_or_more(status: int, content: bytes) -> None:
    assert spent(status, content, asked(status, {}, content)) == "a quota is spent, run again once there is more"


@pytest.mark.parametrize(("status", "content"), [*AGAIN.values(), *ONE.values()], ids=[*AGAIN, *ONE])
def test_what_may_pass_or_is_of_one_request_is_no_spent_quota(status: int, content: bytes) -> None:
    assert spent(status, content, asked(status, {}, content)) == ""


@pytest.mark.parametrize(
    ("status", "headers", "content", "says"),
    [
        (429, {"retry-after": "3600"}, b"", "it asks to wait 1.0 hours, run again then"),
        (429, {"retry-after": "3599"}, b"", ""),
        (429, {"retry-after": http_date(days=2), "date": DATE}, b"", "it asks to wait 48.0 hours, run again then"),
        (503, {"retry-after": "7200"}, b"", "it asks to wait 2.0 hours, run again then"),
        (402, {"retry-after": "7200"}, b"", "it asks to wait 2.0 hours, run again then"),
        (429, {}, said(f"{AZURE} Please retry after 86400 seconds."), "it asks to wait 24.0 hours, run again then"),
        (400, {"retry-after": "7200"}, b"", ""),
        (402, {"retry-after": "3"}, said("in flight", limit_source="openrouter_in_flight_budget"), ""),
    ],
)
def test_a_wait_of_hours_is_a_quota_that_is_spent(
    status: int, headers: dict[str, str], content: bytes, says: str
) -> None:
    assert spent(status, content, asked(status, headers, content)) == says


@pytest.mark.parametrize("status", [402, 408, 409, 425, 429, 500, 502, 503, 504, 522, 524, 529])
def test_what_may_pass(status: int) -> None:
    assert rates.passing(status)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
def test_what_never_passes(status: int) -> None:
    assert not rates.passing(status)
