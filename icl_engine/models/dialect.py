"""Requests as the servers that follow OpenAI's API take them, each kind with fields of its own."""

from __future__ import annotations

import json
import re

from icl_engine.models.tokenizer import Ids
from icl_engine.models.wire import Body, json_format, turns
from icl_engine.types import Generate, Message, NextToken, Request

SPECIAL = re.compile(r"[\\.^$*+?{}\[\]|()]")
"""What a regular expression does not take for itself."""


def body_of(name: str, request: Request, owner: str = "", ids: Ids = ()) -> tuple[str, Body]:
    """The route and the wire body of a request.

    Args:
        name: the model's.
        request: the request.
        owner: the kind of server, as its list of models says.
        ids: the prompt's, where it travels as ids.
    """
    prompt, readout = request.prompt, request.readout
    chat = not isinstance(prompt, str) and not ids
    body: Body = {"model": name}
    begun = readout.spelt if isinstance(readout, NextToken) else ""
    if ids:
        body["prompt"] = [*ids, *begun]
    elif isinstance(prompt, str):
        body["prompt"] = f"{prompt}{begun or ''}"
    elif isinstance(begun, str) and begun:
        body["messages"] = turns((*prompt, Message("assistant", begun)))
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    else:
        body["messages"] = turns(prompt)
    if isinstance(readout, NextToken):
        body |= _figures(readout, chat)
    elif isinstance(readout, Generate):
        sampling = readout.sampling
        body |= {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.seed is not None:
            body["seed"] = sampling.seed + request.sample
        body |= _constraint(readout, owner, chat)
    return ("chat/completions" if chat else "completions"), body


def _figures(readout: NextToken, chat: bool) -> Body:
    """The fields that ask for the next tokens' log-probabilities."""
    body: Body = {"max_tokens": readout.places, "temperature": 0}
    if readout.named:
        body |= {"logprobs": True if chat else 1, "logprob_token_ids": list(readout.named)}
        if readout.places > 1:
            body["allowed_token_ids"] = list(readout.named)
    else:
        body |= {"logprobs": True, "top_logprobs": readout.top} if chat else {"logprobs": readout.top}
    if readout.named or isinstance(readout.spelt, tuple):
        body["return_tokens_as_token_ids"] = True
    return body


def _constraint(readout: Generate, owner: str, chat: bool) -> Body:
    """The field that holds generated text to a form; servers ignore one another's in silence.

    A JSON Schema has one form nearly everywhere. vLLM's form of the others is sent to servers of unknown kind, too.
    """
    grammar, options = readout.grammar, list(readout.choices)
    if owner == "llamacpp" and options:
        grammar = "root ::= " + " | ".join(json.dumps(option, ensure_ascii=False) for option in options)
    if grammar is not None:
        own = {"llamacpp": "grammar", "sglang": "ebnf"}.get(owner)
        return {own: grammar} if own else {"structured_outputs": {"grammar": grammar}}
    if options:
        anyone = "|".join(SPECIAL.sub(r"\\\g<0>", option) for option in options)
        return {"regex": f"({anyone})"} if owner == "sglang" else {"structured_outputs": {"choice": options}}
    if readout.schema is None:
        return {}
    if owner == "llamacpp" and not chat:
        return {"json_schema": dict(readout.schema)}
    return {"response_format": json_format(readout.schema)}
