"""What a process sent."""

from __future__ import annotations

from dataclasses import dataclass

from icl_engine.types import Usage


@dataclass
class Counts:
    """What this process sent.

    Args:
        paid: answers paid for.
        cached: answers found in the cache.
        retries: requests sent again.
        probes: answers that told what the endpoint can do.
        prompt_tokens: of what was paid for.
        cached_prompt_tokens: of these, what the provider read from its prompt cache.
        completion_tokens: of what was paid for.
    """

    paid: int = 0
    cached: int = 0
    retries: int = 0
    probes: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0

    def pay(self, used: Usage) -> None:
        """Count an answer's tokens."""
        self.prompt_tokens += used.prompt_tokens
        self.cached_prompt_tokens += used.cached_prompt_tokens
        self.completion_tokens += used.completion_tokens

    @property
    def usage(self) -> Usage:
        """The tokens paid for."""
        return Usage(self.prompt_tokens, self.cached_prompt_tokens, self.completion_tokens)
