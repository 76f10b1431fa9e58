"""What a provider says of its rates: how long to send nothing, how long to wait, and that a quota is spent."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

HOUR = 3600.0
"""Nothing is worth so long a wait: what is back only then is spent."""

LEFT = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
)
"""What is left, and when there is all of it again: as OpenAI, Azure, Groq and many gateways say it, as Anthropic does,
and as the IETF's draft."""

NOTHING = re.compile(r"-[0-9]+|0+(\.0*)?")
NUMBER = re.compile(r"[0-9]{1,13}(\.[0-9]{0,12})?")
PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{0,12})?) ?(ms|milli|[smhd])")
DURATION = re.compile(rf"(?:{PART.pattern})+")
UNITS = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

EPOCH = 1e9, 1e12
"""Numbers from here on are no distance, but seconds and milliseconds since 1970."""

TOLD = re.compile(rf"(?:retrydelay\W{{1,9}}|(?:try again|retry) (?:in|after) |\bwait )((?:{PART.pattern}[a-z]* ?)+)")
"""A wait in the body of a refusal: Google's RetryInfo, or a sentence."""

LIMITED = (429, 503, 529)
"""Statuses whose body is worth reading for a wait; others may quote a prompt."""

WORDS = 20_000
"""Bytes of a refusal that are read."""

UNPAID = re.compile(
    r"insufficient[ _](quota|balance|credits?|funds)|exceeded_current_quota|credit[ _]balance|billing_error"
    r"|billing[ _]hard[ _]limit|spend(ing)?[ _]limit|(usage|budget|key)[ _]limit[ _]exceeded|api usage limits"
    r"|used all available credits"
)
"""What refusals say where an account may not spend more: OpenAI, Anthropic, xAI, Moonshot, OpenRouter …"""

UNPAID_400 = re.compile(
    r"billing_hard_limit_reached|billing_error|message\W{1,9}(your credit balance is too low"
    r"|billing hard limit has been reached|you have reached your specified (workspace )?api usage limits)"
)
"""The same with a status of 400, which may also quote a prompt: only what stands where the provider speaks."""

LONG = re.compile(r"((per|by)[-_ ]?|/ ?)(day|week|month|86400)|\b(daily|weekly|monthly)|\b[rt]pd\b")
SHORT = re.compile(r"((per|by)[-_ ]?|/ ?)(sec\b|second|min\b|minute|hour)|\b(hourly|[rt]p[ms])\b")
"""What a limit is of; who says both may mean either."""

LINK = re.compile(r"https?://[^\s\"\\]+")

QUOTA = re.compile(r"quota_?(id|limit)\W{1,9}[\w-]{0,80}per(day|week|month)")
"""Google names every limit that was passed."""


def pause(headers: Mapping[str, str]) -> float:
    """Seconds for which an endpoint should be sent nothing more, by an answer's headers; 0.0 for none.

    Where that is an hour or more, the next request may as well go out: it is refused in the provider's own words.

    Args:
        headers: found by names in lower case.

    >>> pause({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m2.5s"})
    62.5
    >>> pause({"x-ratelimit-remaining-tokens": "70", "x-ratelimit-reset-tokens": "1m2.5s"})
    0.0
    """
    wait = _until_more(headers)
    return wait if wait < HOUR else 0.0


def _until_more(headers: Mapping[str, str]) -> float:
    longest = 0.0
    for left, reset in LEFT:
        # Asked of every answer, most of which have something left: the first character tells.
        if left in headers and headers[left][:1] in "0-" and NOTHING.fullmatch(headers[left]):
            longest = max(longest, _distance(headers.get(reset, ""), headers) or 0.0)
    return longest


def seconds(headers: Mapping[str, str]) -> float | None:
    """How long a server asks to wait (Retry-After): seconds, milliseconds, or until a date by its own clock.

    >>> seconds({"retry-after": "7"}), seconds({"retry-after-ms": "250"}), seconds({"retry-after": "soon"})
    (7.0, 0.25, None)
    """
    written = headers.get("retry-after-ms", "")
    if NUMBER.fullmatch(written):
        return float(written) / 1000
    return _distance(headers.get("retry-after", ""), headers)


def asked(status: int, headers: Mapping[str, str], content: bytes) -> float | None:
    """How long a refusal asks to wait: by its headers; at rate limits also in its body, or until there is more left.

    >>> asked(429, {}, b'{"error": {"message": "Rate limit reached. Please try again in 1m26.4s."}}')
    86.4
    >>> asked(429, {}, b'{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}')
    34.0
    """
    wait = seconds(headers)
    if wait is not None or status not in LIMITED:
        return wait
    told = TOLD.search(_low(content))
    return _sum(told[1]) if told else _until_more(headers) or None


def passing(status: int) -> bool:
    """Whether what was refused may be answered later; 402 where a wait is named (OpenRouter: too much is in flight)."""
    return status in (402, 408, 409, 425, 429) or status >= 500


def spent(status: int, content: bytes, wait: float | None) -> str:
    """Why no wait of minutes helps: what is spent, and what to do; empty where one may.

    Args:
        status: the HTTP status.
        content: the body.
        wait: how long it asks to wait.

    >>> spent(429, b"Limit reached on requests per day (RPD)", 432.0)
    'a quota is spent, run again once there is more'
    >>> spent(429, b"Limit reached on requests per min (RPM)", 20.0)
    ''
    """
    text = _low(content) if status in (400, 403, 429) else ""
    if (
        (status == 402 and wait is None)
        or (status == 400 and UNPAID_400.search(text))
        or (status in (403, 429) and UNPAID.search(text))
    ):
        return "the account may not spend more"
    if status in (403, 429) and (QUOTA.search(text) or (LONG.search(text) and not SHORT.search(text))):
        return "a quota is spent, run again once there is more"
    if wait is not None and wait >= HOUR and passing(status):
        return f"it asks to wait {wait / HOUR:,.1f} hours, run again then"
    return ""


def _low(content: bytes) -> str:
    """What it says, in lower case; where a link leads is no word."""
    return LINK.sub("", content[:WORDS].decode("utf-8", "replace").lower())


def _sum(duration: str) -> float:
    return sum(float(number) * UNITS[unit] for number, unit in PART.findall(duration))


def _distance(written: str, headers: Mapping[str, str]) -> float | None:
    """Seconds to a time that is written as a number, as a duration, or as a date; None for none of these."""
    if NUMBER.fullmatch(written):
        number = float(written)
        if number < EPOCH[0]:
            return number
        return _from_now(number if number < EPOCH[1] else number / 1000, headers)
    if DURATION.fullmatch(written):
        return _sum(written)
    moment = _moment(written)
    return None if moment is None else _from_now(moment, headers)


def _from_now(moment: float, headers: Mapping[str, str]) -> float | None:
    """Seconds to a moment by the clock of the server, if it shows it; ours may be wrong, and never makes hours."""
    now = _moment(headers.get("date", ""))
    if now is not None:
        return max(0.0, moment - now)
    wait = max(0.0, moment - time.time())
    return wait if wait < HOUR else None


def _moment(written: str) -> float | None:
    """Seconds since 1970 of a date, RFC 3339 or HTTP."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(written)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        except (ValueError, LookupError, TypeError, OverflowError):  # what nobody meant for a date may end in any
            continue
    return None
