"""`spans`: what is read of how models list entities, where these stand in the row's text, and the metric of both."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from time import process_time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_engine.alignment.structural.spans import Spans
from icl_engine.metrics.f1 import SpanF1
from icl_engine.types import Reading

UNHURRIED = settings(deadline=None, max_examples=80)
TYPES = ("person", "place", "organisation")
TEXT = "Ann and Bob met in New York, N.Y., with the U.N. on May 5. Ann left Paris, Texas."
ROW = {"text": TEXT}
ANN_YORK = [("person", "Ann"), ("place", "New York")]


def pairs(step: Spans, text: str, row: dict[str, Any] | None = None) -> Any:
    """(type, text) of what is read."""
    result = step.apply(Reading(text=text, inputs=row or {}))
    if result.status != "ok":
        return "UNPARSED"
    for span in result.value:
        assert "start" not in span or (row and row["text"][span["start"] : span["end"]] == span["text"])
    return [(span["type"], span["text"]) for span in result.value]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # a type before its texts
        ("person: Ann; place: New York", ANN_YORK),
        ("person: Ann\nplace: New York", ANN_YORK),
        ("person: Ann, place: New York", ANN_YORK),
        ("Person: Ann; PLACE: new york.", ANN_YORK),
        ("**Person:** Ann\n**Place:** New York\n", ANN_YORK),
        ("1. person: Ann\n2. place: New York", ANN_YORK),
        ("- Person - Ann\n- Place – New York", ANN_YORK),
        ("person -> Ann; place = New York", ANN_YORK),
        ("person: Ann, Bob; place: New York", [("person", "Ann"), ("person", "Bob"), ("place", "New York")]),
        ("persons: Ann, and Bob", [("person", "Ann"), ("person", "Bob")]),
        ("person: [Ann, Bob]", [("person", "Ann"), ("person", "Bob")]),
        ("place: Paris, Texas, New York", [("place", "New York"), ("place", "Paris, Texas")]),
        ('place: "Paris, Texas"; person: "Ann"', [("person", "Ann"), ("place", "Paris, Texas")]),
        ("**Person**\n", "UNPARSED"),
        ("Person:\n- Ann\n- Bob\n\nPlace:\n- New York", [("person", "Ann"), ("person", "Bob"), ("place", "New York")]),
        ("person: none; place: New York; organisation: N/A", [("place", "New York")]),
        ("organisation: U.N.; place: N.Y.", [("place", "N.Y."), ("organisation", "U.N.")]),
        # a text before its type
        ("- Ann: person\n- New York: place", ANN_YORK),
        ("Ann (person), New York (place)", ANN_YORK),
        ("The sentence names Ann (person) and New York (a city), (place).", ANN_YORK),
        ("- **Ann** (Person)\n- **New York** (Place)", ANN_YORK),
        ("Ann - person\nNew York - place", ANN_YORK),
        ("Ann is a person. ", [("person", "Ann")]),
        ("| Entity | Type |\n|---|---|\n| Ann | person |\n| New York | place |", ANN_YORK),
        ("Type: person, Text: Ann\nType: place, Text: New York", ANN_YORK),
        ("type: person\ntext: Ann", [("person", "Ann")]),
        ('Person: ["Ann", "Bob"]\nPlace: []', [("person", "Ann"), ("person", "Bob")]),
        ("person: Ann (mentioned twice)", [("person", "Ann")]),
        ("Ann, Bob: person", [("person", "Ann"), ("person", "Bob")]),
        ('{"person": "Ann, Bob"}', [("person", "Ann"), ("person", "Bob")]),
        ("PERSON: Ann | PLACE: New York", ANN_YORK),
        ("Ann [person], [New York](place)", ANN_YORK),
        ("<person>Ann</person> and Bob met in <place>New York</place>", ANN_YORK),
        # what stands around
        ("Sure! Here they are:\n\nperson: Ann\nplace: New York\n\nLet me know if you need more.", ANN_YORK),
        ("Entities: person: Ann; place: New York\n\nSentence: Bob left.\nEntities: person: Bob", ANN_YORK),
        ("<think>person: Bob?</think>\nperson: Ann; place: New York", ANN_YORK),
        # JSON
        ('[{"type": "person", "text": "Ann"}, {"type": "place", "text": "New York"}]', ANN_YORK),
        ('```json\n{"person": ["Ann"], "place": "New York", "organisation": []}\n```', ANN_YORK),
        ("{'person': ['Ann',], 'place': ['New York'], 'organisation': None}", ANN_YORK),
        ('{"entities": [{"entity": "PERSON", "word": "Ann"}, {"entity": "PLACE", "word": "New York"}]}', ANN_YORK),
        ('{"text": "Ann", "label": "person"}\n{"text": "New York", "label": "place"}', ANN_YORK),
        ('[{"person": "Ann"}, {"place": "New York"}]', ANN_YORK),
        ('[["Ann", "person"], ["place", "New York"]]', ANN_YORK),
        ('{"Ann": "person", "New York": "place"}', ANN_YORK),
        ('["person: Ann", "New York (place)"]', ANN_YORK),
        ('[{"type": "person", "text": "Ann"}, {"type": "place", "text": "New York"}', ANN_YORK),
        # none
        *((said, []) for said in ("none", "None.", "[]", "{}", '{"person": [], "place": null}', "N/A", "No entities.")),
        *((said, []) for said in ("There are no named entities in this sentence.", "Entities:\nnone", "Answer: none")),
        # another type
        ("animal: dog; person: Ann", [("person", "Ann")]),
        ("persn: Ann; organization: U.N.", [("person", "Ann"), ("organisation", "U.N.")]),
        # nothing that is read
        *((said, "UNPARSED") for said in ("", " \n", "I cannot answer.", "Ann and Bob", "animal: dog", "12", "{", "[")),
        *((said, "UNPARSED") for said in ('[{"type": "person", "text": "Ann"}, {"type": "pl', '{"person": ["Ann', "{")),
        *((said, "UNPARSED") for said in ('["Ann", "Bob"]', "Note: so hard", "Ann is not a person", "No, Ann left.")),
    ],
)  # fmt: skip
def test_spans_are_read_however_they_are_listed(text: str, found: Any) -> None:
    assert pairs(Spans(types=TYPES), text, ROW) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("person: Ann; big place: New York", [("person", "Ann"), ("big place", "New York")]),
        ("- Ann: person\n- New York: place", ANN_YORK),
        ('{"Ann": "person", "New York": "place"}', ANN_YORK),
        ("Ann (person)\nNew York (place)", ANN_YORK),
        ("Ann and Bob, I think", "UNPARSED"),
    ],
)
def test_without_types_any_few_words_are_one_and_the_text_tells_which(text: str, found: Any) -> None:
    assert pairs(Spans(), text, ROW) == found


def test_one_type_is_enough_for_an_order_of_two_texts_to_be_clear() -> None:
    assert pairs(Spans(types=["person"]), '["Ann", "person"]') == [("person", "Ann")]
    assert pairs(Spans(), '["Ann", "person"]') == "UNPARSED"


@pytest.mark.parametrize(
    ("text", "mention", "place"),
    [
        ("Ann met Ann", "Ann", (0, 3)),
        ("an Ann", "Ann", (3, 6)),
        ("Anna, ann and Ann", "Ann", (14, 17)),
        ("Anna and ann", "Ann", (9, 12)),
        ("Joanna", "ann", None),
        ("in  New\n York", "new york", (4, 13)),
        ("the spider-man film", "Spider Man", (4, 14)),
        ("the U.N. met", "UN", (4, 7)),
        ("steven soderbergh made it", "Steven Soderberg", (0, 17)),
        ("it is a james cameron film", "James Cameroon", (8, 21)),
        ("in June 2001", "June 2002", None),
        ("I like cats", "dogs", None),
        ("Straße", "STRASSE", (0, 6)),
        ("我爱北京天安门", "北京", (2, 4)),
        ("", "Ann", None),
        ("a", "…", None),
    ],
)
def test_a_mention_is_found_in_the_text(text: str, mention: str, place: tuple[int, int] | None) -> None:
    (span,) = Spans().place([{"type": "x", "text": mention}], {"text": text})
    if place is None:
        assert span == {"type": "x", "text": mention}
    else:
        assert span == {"type": "x", "text": text[slice(*place)], "start": place[0], "end": place[1]}


def test_the_nth_mention_stands_at_the_nth_place() -> None:
    spans = [{"type": kind, "text": "Paris"} for kind in ("place", "person", "place", "person")]
    placed = Spans().place(spans, {"text": "Paris met Paris"})
    assert [(s["type"], s.get("start")) for s in placed] == [
        ("place", 0),
        ("person", 0),  # two types may share a place
        ("person", 10),
        ("place", 10),
    ]
    placed = Spans().place([{"type": "person", "text": "Ann"}] * 3, {"text": "Ann, Ann"})
    assert [s.get("start") for s in placed] == [0, 5, None]


def test_spans_may_overlap_and_nest() -> None:
    spans = [{"type": "place", "text": "New York"}, {"type": "team", "text": "New York Mets"}]
    placed = Spans().place(spans, {"text": "the New York Mets"})
    assert [(s["start"], s["end"]) for s in placed] == [(4, 12), (4, 17)]


def test_a_target_may_bring_its_own_places() -> None:
    target = [{"type": "person", "text": "Ann", "start": 8, "end": 11}]
    step = Spans()
    assert step.canon(target) == target
    assert step.place(step.canon(target), {"text": "Ann met Ann"}) == target
    wrong = [{"type": "person", "text": "Ann", "start": 1, "end": 4}]
    assert step.place(wrong, {"text": "Ann met Ann"})[0]["start"] == 0
    assert step.canon([{"type": "a", "text": "b", "start": -1, "end": True}]) == [{"type": "a", "text": "b"}]


@pytest.mark.parametrize("nearest", [None, 0.7, 0.95])
def test_how_near_is_near_enough_is_a_key(nearest: float | None) -> None:
    (span,) = Spans(nearest=nearest).place([{"type": "x", "text": "New Yrok"}], {"text": "in New York"})
    assert ("start" in span) == (nearest == 0.7)


def test_what_the_text_does_not_hold_is_kept_or_dropped_and_the_trace_tells() -> None:
    said = Reading(text="person: Zoe; person: Ann", inputs=ROW)
    kept, dropped = (Spans(unaligned=u).apply(said) for u in ("keep", "drop"))
    assert kept.value == [
        {"type": "person", "text": "Ann", "start": 0, "end": 3},
        {"type": "person", "text": "Zoe"},
    ]
    assert dropped.value == kept.value[:1]
    assert kept.trace[0].startswith("spans (1 not in the text): [{")
    assert dropped.trace[0].startswith("spans (1 not in the text left out): [{")
    other = Spans(types=TYPES).apply(Reading(text="animal: dog; person: Ann"))
    assert other.trace[0].startswith("spans (1 of another type left out): ")


@pytest.mark.parametrize(
    ("keys", "target", "written"),
    [
        ({}, [("a", "x"), ("b", "y z")], "a: x; b: y z"),
        ({"format": "lines"}, [("a", "x"), ("b", "y")], "a: x\nb: y"),
        ({"format": "json"}, [("a", "x")], '[{"type": "a", "text": "x"}]'),
        ({"format": "json"}, [], "[]"),
        ({}, [], "none"),
        ({"empty": "no entities"}, [], "no entities"),
        ({}, [("a", "x, y")], 'a: "x, y"'),
        ({}, [("a", "x; y: z")], 'a: "x; y: z"'),
        ({}, [("a", "U.S.")], "a: U.S."),
        ({}, [("a", "the end.")], 'a: "the end."'),
        ({}, [("a", "none")], '[{"type": "a", "text": "none"}]'),
        ({}, [("a", 'say "so"')], 'a: say "so"'),
        ({}, [("a", "two\nlines")], '[{"type": "a", "text": "two\\nlines"}]'),
    ],
)
def test_spans_are_shown_so_that_they_read_back(
    keys: dict[str, Any], target: Sequence[tuple[str, str]], written: str
) -> None:
    step = Spans.model_validate(keys)
    spans = [{"type": kind, "text": text} for kind, text in target]
    assert step.write(spans) == written


@pytest.mark.parametrize(
    ("keys", "target", "why"),
    [
        ({}, 12, "lists no spans"),
        ({}, None, "lists no spans"),
        ({}, ["Ann"], "lists no spans"),
        ({}, "Ann and Bob", "lists no spans"),
        ({}, [{"type": "a", "text": " "}], "without a type or text"),
        ({}, [{"type": "a", "text": "\ud800"}], "half a character"),
        ({"types": TYPES}, [{"type": "plase", "text": "x"}], "'plase' is none of types; did you mean 'place'?"),
        ({}, [{"type": "a", "text": "b"}] * 501, "lists no spans"),
    ],
)
def test_a_target_that_lists_no_spans_is_refused(keys: dict[str, Any], target: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("?", r"\?")):
        Spans.model_validate(keys).canon(target)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"types": ["a", "A"]}, "named twice"),
        ({"types": [" "]}, "is empty"),
        ({"types": []}, "at least 1"),
        ({"nearest": 2}, "less than or equal to 1"),
        ({"empty": "person: Ann"}, "would not be read"),
    ],
)
def test_a_mistake_in_the_keys_is_told(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Spans.model_validate(keys)


# -- laws

WORDS = st.text(st.characters(categories=("L", "N", "P", "S", "Zs", "Cc")), min_size=1, max_size=12)
ODD = st.sampled_from(
    ("none", "and", "a: b", "a, b", "x; y", "(b)", "[1]", "{}", '"q"', "U.S.", "Q: x", "</think>", "- a")
)
SPANS = st.lists(st.tuples(WORDS | ODD, WORDS | ODD), max_size=4)


@pytest.mark.parametrize("form", ["line", "lines", "json"])
@given(target=SPANS, row=st.text(max_size=30))
@UNHURRIED
def test_any_spans_read_back_and_stand_where_the_target_does(
    form: str, target: Sequence[tuple[str, str]], row: str
) -> None:
    step = Spans.model_validate({"format": form})
    inputs = {"text": row + " . " + " ".join(text for _, text in target)}
    with suppress(ValueError):
        canonical = step.canon([{"type": kind, "text": text} for kind, text in target])
        assert step.canon(canonical) == canonical
        written = step.write(canonical)
        assert step.apply(Reading(text=written)).value == canonical
        placed = step.place(canonical, inputs)
        assert step.apply(Reading(text=written, inputs=inputs)).value == placed
        assert step.place(placed, inputs) == placed
        orjson.dumps(placed)


@given(target=st.lists(st.tuples(st.sampled_from(TYPES), WORDS | ODD), max_size=4))
@UNHURRIED
def test_any_spans_of_known_types_read_back(target: Sequence[tuple[str, str]]) -> None:
    step = Spans(types=TYPES)
    with suppress(ValueError):
        canonical = step.canon([{"type": kind, "text": text} for kind, text in target])
        assert step.apply(Reading(text=step.write(canonical))).value == canonical


@pytest.mark.parametrize(
    "text",
    [
        *("person: Ann; " * 5_000, "(person" * 9_000, "Ann (person) " * 5_000, "<person>" * 9_000, "person: " * 9_000),
        *("a, " * 16_000, '"' * 50_000, '"a;' * 16_000, "| " * 25_000, "person: " + "Ann, " * 10_000, " " * 50_000),
        *("person: " + "x" * 40_000, "- " * 25_000, "\n" * 50_000, "*" * 50_000, "person:\n" * 6_000, " - " * 16_000),
        *("person: " + "Zoe Quick; person: " * 3_000, "person: (" * 5_000, "[{" * 20_000, '[{"type": "' * 5_000),
    ],
    ids=lambda text: repr(text)[:16],
)  # fmt: skip
@pytest.mark.parametrize("keys", [{}, {"types": TYPES}], ids=["any", "types"])
def test_hostile_text_is_bounded(text: str, keys: dict[str, Any]) -> None:
    step = Spans.model_validate(keys)
    start = process_time()
    for inputs in ({}, {"text": "Ann met Bob in New York. " * 200}, {"text": 12}):
        result = step.apply(Reading(text=text, inputs=inputs))
        orjson.dumps([result.value, result.trace])
    assert process_time() - start < 3


# -- the metric


def span(text: str, start: int | None = None, kind: str = "person") -> dict[str, Any]:
    return {"type": kind, "text": text} | ({} if start is None else {"start": start, "end": start + len(text)})


@pytest.mark.parametrize(
    ("said", "meant", "right"),
    [
        ([span("Ann")], [span("Ann")], 1),
        ([span("Ann", 0)], [span("Ann", 0)], 1),
        ([span("Ann", 0)], [span("Ann", 8)], 0),
        ([span("Ann", 0)], [span("Ann")], 1),
        ([span("Ann")], [span("Ann", 8)], 1),
        ([span("ann", 0)], [span("Ann", 0)], 1),
        ([span("Ann", 0, "place")], [span("Ann", 0)], 0),
        ([span("Ann", 0), span("Ann", 8)], [span("Ann", 8)], 1),
        ([span("Ann", 0), span("Ann")], [span("Ann", 0), span("Ann", 8)], 2),
        ([span("Ann", 8), span("Ann")], [span("Ann"), span("Ann", 0)], 2),
        ([span("Ann")] * 3, [span("Ann")] * 2, 2),
        ({"person": ["Ann"]}, [span("Ann", 0)], 1),
    ],
)
def test_spans_agree_by_their_places_where_both_have_one(said: Any, meant: Any, right: int) -> None:
    assert SpanF1().counts(said, meant)[1]["right"] == right
    assert SpanF1().counts(meant, said)[1]["right"] == right


PLACED = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.none() | st.integers(0, 2)).map(
        lambda s: span(s[1], s[2], s[0])
    ),
    max_size=5,
)


@given(said=PLACED, meant=PLACED)
@UNHURRIED
def test_no_more_agree_than_there_are_and_all_do_with_themselves(said: Any, meant: Any) -> None:
    counts = SpanF1().counts(said, meant)[1]
    assert 0 <= counts["right"] <= min(len(said), len(meant))
    assert counts["right"] == SpanF1().counts(meant, said)[1]["right"]
    assert SpanF1().counts(said, said)[0] == 1
