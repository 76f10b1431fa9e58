"""Where a pipeline stands in the survey's taxonomy of reprogramming (arXiv 2506.04650, section 3)."""

from __future__ import annotations

from typing import TypedDict


class Cell(TypedDict):
    """Manipulation format, its location, its operator, and the kinds of output alignment.

    A prompt is a *fixed* manipulation (chosen, not differentiated) of the *input*, *concatenated* to the query; what
    changes from task to task is the alignment.
    """

    format: str
    location: str
    operator: str
    alignment: list[str]


def cell(alignment: list[str]) -> Cell:
    """The cell of a prompt pipeline with the given alignment kinds.

    >>> cell(["structural"])["operator"]
    'concatenative'
    """
    return {"format": "fixed", "location": "input", "operator": "concatenative", "alignment": alignment}
