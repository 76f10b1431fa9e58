"""Images among the inputs: which they are, what is refused and how it is told, when they are read, what is written."""

from __future__ import annotations

import base64
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.images import GIF, JPEG, PNG, WEBP, png, uri

from icl_engine.config.load import build, load_task
from icl_engine.data.source import Schema, examples, fingerprint
from icl_engine.errors import DataError, TaskError, bounded
from icl_engine.images import (
    LIMIT,
    ImageFile,
    identified,
    images_in,
    loaded,
    mapped,
    media_type,
    restored,
    saved,
    written,
)
from icl_engine.types import Example, Image

WriteTask = Callable[..., Path]
Icl = Callable[..., tuple[int, str, str]]
SHOWN = Schema(images=frozenset({"image"}))
CAPTION = {"inline": "{{ image }}\nCaption: {{ answer }}"}


def stored(folder: Path, name: str, data: bytes = PNG) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def jsonl(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def found(source: Any, schema: Schema = SHOWN) -> list[Example]:
    return list(examples(source, schema, need_target=False, key="data.test"))


def image(value: Any) -> Image:
    """What the field `image` with this value is."""
    seen = images_in(value, Path(), listed=True)
    assert isinstance(seen, Image | ImageFile)
    return loaded(seen)


# -- what is an image


@pytest.mark.parametrize(
    ("data", "kind"), [(PNG, "image/png"), (JPEG, "image/jpeg"), (GIF, "image/gif"), (WEBP, "image/webp")]
)
def test_the_first_bytes_tell_an_images_type(data: bytes, kind: str) -> None:
    assert media_type(data[:16]) == kind
    assert image(data) == Image(f"{kind}, {len(data)} bytes", data=data, media_type=kind)


@pytest.mark.parametrize(
    "data", [b"", b"%PDF-1.7", b"GIF88a", b"RIFF\x00\x00\x00\x00WAVE", b"\x89PNG", b"<svg/>", b"BM"]
)
def test_what_is_no_image_has_no_type(data: bytes) -> None:
    assert media_type(data) is None


def test_a_path_is_relative_to_the_data_file(tmp_path: Path) -> None:
    stored(tmp_path / "data" / "img", "cat.png")
    (x,) = found(jsonl(tmp_path / "data" / "rows.jsonl", {"image": "img/cat.png"}))
    assert x.inputs["image"] == ImageFile("img/cat.png", tmp_path / "data" / "img" / "cat.png")
    assert loaded(x.inputs["image"]) == Image("img/cat.png", data=PNG, media_type="image/png")


def test_a_path_in_rows_that_are_no_files_is_relative_to_the_base(tmp_path: Path) -> None:
    path = stored(tmp_path / "elsewhere", "cat.png")
    (x,) = found([{"image": "cat.png"}], Schema(images=frozenset({"image"}), base=tmp_path / "elsewhere"))
    assert x.inputs["image"].path == path
    stored(tmp_path, "here.png")
    assert loaded(found([{"image": "here.png"}])[0].inputs["image"]).data == PNG


def test_an_absolute_path_a_home_and_a_path_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path, "cat.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [image(str(path)).data, image("~/cat.png").data, image(path).data] == [PNG] * 3


@pytest.mark.parametrize("address", ["http://host/cat.png", "https://host/a?b=c", "HTTPS://host/cat"])
def test_an_address_is_the_providers_to_fetch(address: str) -> None:
    assert image(address) == Image(address, url=address)


def test_a_data_uri_is_decoded_and_its_bytes_tell_the_type() -> None:
    assert image(uri(GIF, "image/png")) == image(GIF)
    assert image(uri(PNG)[:60] + "\n " + uri(PNG)[60:]) == image(PNG)


def test_bytes_are_an_image_in_any_field() -> None:
    (x,) = found([{"photo": PNG, "inside": {"list": [1, GIF]}, "blob": b"1234"}])
    assert x.inputs == {"photo": image(PNG), "inside": {"list": [1, image(GIF)]}, "blob": b"1234"}


def test_a_list_of_paths_is_a_list_of_images(tmp_path: Path) -> None:
    stored(tmp_path, "cat.png")
    (x,) = found([{"image": ["cat.png", PNG, "https://host/a.png", None]}])
    assert [written(i) for i in x.inputs["image"]] == ["cat.png", written(image(PNG)), "https://host/a.png", None]


def test_an_image_as_data_sets_on_the_hub_keep_it(tmp_path: Path) -> None:
    assert image({"bytes": PNG, "path": "0001.png"}) == Image("0001.png", data=PNG, media_type="image/png")
    assert image({"bytes": PNG, "path": None}) == image(PNG)
    assert image({"bytes": None, "path": str(stored(tmp_path, "cat.png"))}).data == PNG


@pytest.mark.parametrize("row", [{}, {"image": None}, {"image": ""}, {"image": []}, {"image": {"src": "no.png"}}])
def test_a_row_without_an_image_is_as_it_was(row: dict[str, Any]) -> None:
    assert found([row])[0].inputs == row


def test_a_field_that_is_not_listed_is_text() -> None:
    assert found([{"image": "no.png"}], Schema())[0].inputs == {"image": "no.png"}


def test_a_row_without_images_keeps_its_own_values() -> None:
    value = [{"a": ("b", 1)}, "c"]
    assert images_in(value, Path(), listed=False) is value


def test_a_renamed_field_may_hold_images(tmp_path: Path) -> None:
    stored(tmp_path, "cat.png")
    (x,) = found([{"file": "cat.png"}], Schema(fields={"image": "file"}, images=frozenset({"image"})))
    assert isinstance(x.inputs["image"], ImageFile)


# -- what is refused

BAD: list[tuple[Any, str]] = [
    ("no.png", "no such image file: {base}/no.png (data.images lists the fields that hold images)"),
    (".", "no such image file: {base} (data.images lists the fields that hold images)"),
    ("text.png", "{base}/text.png is not a PNG, JPEG, GIF or WebP image"),
    ("empty.png", "{base}/empty.png is not a PNG, JPEG, GIF or WebP image"),
    ("large.png", "{base}/large.png has 20.0 MB; the most an image may have is 20 MB"),
    ("s3://bucket/a.png", "images have paths, http(s) addresses or data: URIs, not s3://bucket/a.png"),
    ("data:image/png,abc", "a data: URI of an image is written as data:image/png;base64,…"),
    ("data:image/png;base64,a*b", "the data: URI is not valid base64"),
    ("data:image/png;base64,é", "the data: URI is not valid base64"),
    (uri(b"%PDF-1.7"), "what is given (8 bytes) is not a PNG, JPEG, GIF or WebP image"),
    ("a" * 5000, "cannot be read: File name too long"),
    ("~nobody-of-that-name/a.png", "cannot be read: Could not determine home directory."),
    (7, "takes an image's path, address or bytes, not a value of type int"),
]


@pytest.mark.parametrize(("value", "told"), BAD)
def test_what_cannot_be_sent_is_told_with_file_line_and_field(value: Any, told: str, tmp_path: Path) -> None:
    base = tmp_path / "data"
    stored(base, "text.png", b"a text")
    stored(base, "empty.png", b"")
    os.truncate(stored(base, "large.png"), LIMIT + 1)
    stored(base, "fine.png")
    path = jsonl(base / "rows.jsonl", {"image": "fine.png"}, {"image": value})
    with pytest.raises(DataError) as caught:
        found(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: field 'image': ")
    assert told.format(base=base) in message
    assert "\n" not in message
    assert len(message) < 600


def test_what_cannot_be_sent_is_told_with_the_rows_number_where_there_is_no_file() -> None:
    with pytest.raises(DataError) as caught:
        found([{"image": PNG}, {"image": b"not an image"}])
    told = "data.test[1]: field 'image': what is given (12 bytes) is not a PNG, JPEG, GIF or WebP image"
    assert str(caught.value) == told
    with pytest.raises(DataError, match=r"data.test\[0\]: field 'photo': .* has 20\.0 MB"):
        found([{"photo": PNG + bytes(LIMIT)}])


def test_the_largest_image_is_taken(tmp_path: Path) -> None:
    os.truncate(stored(tmp_path, "large.png"), LIMIT)
    (x,) = found([{"image": "large.png"}])
    assert len(loaded(x.inputs["image"]).data or b"") == LIMIT


def test_a_file_that_changes_after_it_was_looked_at_is_told(tmp_path: Path) -> None:
    path = stored(tmp_path, "cat.png")
    seen = images_in("cat.png", tmp_path, listed=True)
    path.write_bytes(b"a text")
    with pytest.raises(DataError, match=rf"{path} is not a PNG"):
        loaded(seen)
    path.unlink()
    with pytest.raises(DataError, match=rf"the image {path} cannot be read: No such file"):
        loaded(seen)


# -- a task's images


def task(tmp_path: Path, write_task: WriteTask, **keys: Any) -> Path:
    """A task about images: three red ones to show, two rows to predict, one of them shown as well."""
    for red in range(5):
        stored(tmp_path, f"{red}.png", png(red))
    rows = [{"image": f"{red}.png", "label": ("positive", "negative")[red % 2]} for red in range(5)]
    shown = {"use": "fixed", "items": rows[:3]}
    given = {"template": CAPTION, "instruction": "Judge.", "demonstrations": shown}
    model = {"use": "fake", "api": "chat"}
    return write_task(train=rows[:3], test=rows[2:], **{"input": given, "model": model, **keys})


def contents(path: Path) -> Any:
    return {f.name: f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


def test_every_image_is_looked_at_before_anything_is_asked(tmp_path: Path, write_task: WriteTask, icl: Icl) -> None:
    path = task(tmp_path, write_task)
    (tmp_path / "4.png").write_bytes(b"a text")
    code, _, err = icl("run", path)
    place = f"{tmp_path / 'test.jsonl'}:3: field 'image': {tmp_path / '4.png'}"
    assert (code, err) == (2, f"error: {place} is not a PNG, JPEG, GIF or WebP image\n")
    assert not (tmp_path / "runs").exists()


def test_rows_hold_no_images(tmp_path: Path, write_task: WriteTask, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded_task = load_task(task(tmp_path, write_task))

    def load(self: ImageFile) -> Image:
        raise AssertionError("read too early")

    monkeypatch.setattr(ImageFile, "load", load)
    rows = [*loaded_task.test(need_target=True), *loaded_task.pool]
    assert len(rows) == 6
    assert all(isinstance(x.inputs["image"], ImageFile) for x in rows)
    assert max(len(pickle.dumps(x)) for x in rows) < 1000
    for x in rows:
        assert len(loaded_task.template.example(x.inputs).images) == 1


def test_a_field_that_the_template_does_not_show_need_not_be_there(write_task: WriteTask) -> None:
    rows = [{"text": "fine", "image": "gone.png", "label": "positive"}]
    (x,) = load_task(write_task(train=rows, test=rows)).test(need_target=True)
    assert x.inputs == {"text": "fine", "image": "gone.png"}


def test_an_empty_list_says_that_no_text_names_an_image(write_task: WriteTask) -> None:
    rows = [{"image": "a cat", "label": "positive"}]
    data = {"test": "test.jsonl", "target": "label", "images": []}
    pipeline = build(load_task(write_task(test=rows, data=data, input={"template": CAPTION})))
    assert pipeline.check(Example(0, pipeline.prepare(rows[0]))).text == "a cat\nCaption:"


def test_other_fields_may_hold_images(tmp_path: Path, write_task: WriteTask) -> None:
    stored(tmp_path, "cat.png")
    rows = [{"photo": "cat.png", "more": ["cat.png"], "image": "a cat", "label": "positive"}]
    data = {"test": "test.jsonl", "target": "label", "images": ["photo", "more"]}
    template = {"inline": "{{ photo }}{% for m in x.more %}{{ m }}{% endfor %}{{ image }}: {{ answer }}"}
    path = write_task(test=rows, data=data, input={"template": template}, model={"use": "fake", "api": "chat"})
    pipeline = build(load_task(path))
    (message,) = pipeline.check(Example(0, pipeline.prepare(rows[0]))).messages or ()
    assert message.text == "<cat.png><cat.png>a cat:"


def test_a_field_of_images_that_the_template_does_not_show_is_a_mistake(write_task: WriteTask) -> None:
    data = {"test": "test.jsonl", "target": "label", "images": ["txt"]}
    with pytest.raises(TaskError, match=r"data\.images\[0\]: the template shows no 'txt'; did you mean 'text'\?"):
        build(load_task(write_task(data=data)))


def test_images_given_to_predict_are_relative_to_the_task(
    tmp_path: Path, write_task: WriteTask, icl: Icl, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = task(tmp_path, write_task)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with build(load_task(path)) as pipeline:
        p = pipeline.predict({"image": "4.png"})
        assert p.prompt.messages is not None
        assert p.prompt.messages[-1].parts[0] == Image("4.png", data=png(4), media_type="image/png")
        good, bad = pipeline.batch([{"image": png(4)}, {"image": "9.png"}], errors="return")
        assert good.value == pipeline.predict({"image": png(4)}).value
        assert str(bad).startswith(f"field 'image': no such image file: {tmp_path / '9.png'}")
    code, _, err = icl("predict", path, "--input", '{"image": "9.png"}')
    assert code == 2
    assert err.startswith(f"error: field 'image': no such image file: {tmp_path / '9.png'}")


def test_a_demonstration_is_never_the_querys_image(tmp_path: Path, write_task: WriteTask) -> None:
    path = task(tmp_path, write_task)
    stored(tmp_path, "copy.png", png(1))
    pipeline = build(load_task(path))
    prompt = pipeline.check(Example("query", pipeline.prepare({"image": "copy.png"})))
    assert [m.text for m in prompt.messages or () if m.role == "user"] == [
        "<0.png>\nCaption:",
        "<2.png>\nCaption:",
        "<copy.png>\nCaption:",
    ]


# -- what is written


def test_a_run_writes_names_and_hashes_but_no_image(tmp_path: Path, write_task: WriteTask, icl: Icl) -> None:
    path = task(tmp_path, write_task)
    code, out, err = icl("run", path, "--out", "out")
    assert code == 0, err
    answer = json.loads((tmp_path / "out" / "answers.jsonl").read_text().splitlines()[0])
    hashed = [Image("", data=png(red)).identity.removeprefix("sha256:") for red in range(5)]
    assert answer["messages"] == [
        {"role": "system", "content": "Judge."},
        {"role": "user", "content": [{"image": "0.png", "sha256": hashed[0]}, "\nCaption:"]},
        {"role": "assistant", "content": "positive"},
        {"role": "user", "content": [{"image": "1.png", "sha256": hashed[1]}, "\nCaption:"]},
        {"role": "assistant", "content": "negative"},
        {"role": "user", "content": [{"image": "2.png", "sha256": hashed[2]}, "\nCaption:"]},
    ]
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [line["inputs"] for line in lines] == [{"image": f"{red}.png"} for red in (2, 3, 4)]
    assert len({line["prompt_sha256"] for line in lines}) == 3
    everything = b"".join([*contents(tmp_path / "out").values(), out.encode(), err.encode()])
    for red in range(5):
        assert uri(png(red)).partition(",")[2].encode() not in everything
        assert png(red) not in everything


def test_bytes_and_addresses_in_a_run(tmp_path: Path) -> None:
    import icl_engine as icl

    rows = [
        {"image": PNG, "blob": b"1234", "label": "positive"},
        {"image": "https://host/a.png", "label": "negative"},
        {"image": uri(GIF), "label": "negative"},
    ]
    result = icl.run(
        {
            "data": {"test": rows, "target": "label"},
            "input": {"template": CAPTION, "demonstrations": {"use": "fixed", "items": [rows[0], rows[2]]}},
            "model": {"use": "fake", "api": "chat"},
            "metrics": ["accuracy"],
        },
        out="out",
    )
    hashed = {name: Image("", data=data).identity.replace(":", " ") for name, data in (("png", PNG), ("gif", GIF))}
    blob = "<4 bytes, sha256 03ac674216f3e15c761ee1a5e255f067953623c8b388b4459e13f978d7c846f4>"
    assert [p["inputs"] for p in result.predictions] == [
        {"image": f"<image/png, {len(PNG)} bytes, {hashed['png']}>", "blob": blob},
        {"image": "https://host/a.png"},
        {"image": f"<image/gif, {len(GIF)} bytes, {hashed['gif']}>"},
    ]
    answers = [json.loads(line) for line in (result.path / "answers.jsonl").read_text().splitlines()]
    assert answers[1]["messages"][-1]["content"] == [
        {"image": "https://host/a.png", "url": "https://host/a.png"},
        "\nCaption:",
    ]
    everything = b"".join(contents(tmp_path / "out").values())
    assert uri(PNG)[40:].encode() not in everything
    assert uri(GIF)[40:].encode() not in everything
    assert repr(PNG)[10:40].encode() not in everything


def test_the_fingerprint_is_of_the_bytes() -> None:
    def of(data: bytes, shown: bytes = PNG) -> str:
        given = {"template": CAPTION, "demonstrations": {"use": "fixed", "items": [{"image": shown, "label": "a"}]}}
        rows = [{"image": data, "label": "a"}]
        return load_task(
            {"data": {"test": rows, "target": "label"}, "input": given, "model": {"use": "fake", "api": "chat"}}
        ).fingerprint

    assert of(PNG) == of(PNG)
    assert len({of(PNG), of(GIF), of(PNG, GIF)}) == 3
    assert fingerprint([{"image": PNG}]) != fingerprint([{"image": GIF}])


def test_a_data_uri_in_a_task_is_not_copied(tmp_path: Path, write_task: WriteTask) -> None:
    items = [{"image": uri(PNG), "label": "positive"}]
    given = {"template": CAPTION, "demonstrations": {"use": "fixed", "items": items}}
    resolved = load_task(task(tmp_path, write_task, input=given)).resolved
    (item,) = resolved["input"]["demonstrations"]["items"]
    assert item["image"].startswith(f"<data: URI, {len(uri(PNG))} characters, sha256 ")


def test_show_prints_the_names_of_images(tmp_path: Path, write_task: WriteTask, icl: Icl) -> None:
    code, out, _ = icl("show", task(tmp_path, write_task), "--index", 1)
    assert code == 0
    assert out.endswith("[user]\n<2.png>\nCaption:\n[assistant]\npositive\n[user]\n<3.png>\nCaption:\n")


@pytest.mark.parametrize("use", ["fixed", "random"])
def test_a_saved_program_stands_alone(use: str, tmp_path: Path, write_task: WriteTask) -> None:
    shown: dict[str, Any] = {"use": "random", "k": 2}
    if use == "fixed":
        shown = {"use": "fixed", "items": [{"image": name, "label": "positive"} for name in ("0.png", "https://h/a")]}
    given = {"template": CAPTION, "demonstrations": shown}
    with build(load_task(task(tmp_path, write_task, input=given))) as pipeline:
        first = pipeline.predict({"image": png(4)})
        program = pipeline.save(tmp_path / "p.icl.json")
    for red in range(5):
        (tmp_path / f"{red}.png").unlink()
    with build(load_task(program)) as pipeline:
        assert pipeline.predict({"image": png(4)}).prompt.messages == first.prompt.messages


@pytest.mark.parametrize("data", [PNG, GIF, JPEG, WEBP])
def test_an_image_that_a_provider_repeats_is_left_out(data: bytes) -> None:
    encoded = base64.b64encode(data).decode()
    for said in (f"bad image_url: data:image/png;base64,{encoded}", f"input: {{'data': '{encoded * 30}'}}"):
        assert encoded[16:32] not in bounded(said)
        assert bounded(said).startswith(said[:12])


# -- values


def test_an_image_is_known_by_its_content(tmp_path: Path) -> None:
    stored(tmp_path, "cat.png")
    alike = [
        image(PNG),
        image(uri(PNG)),
        images_in("cat.png", tmp_path, listed=True),
        image({"bytes": PNG, "path": "a"}),
    ]
    assert len({identified(i) for i in alike}) == 1
    others = [image(GIF), image("https://host/a.png"), image("https://host/A.png")]
    assert len({identified(i) for i in (*alike, *others)}) == 4
    assert identified({"a": ["b", image(PNG)]}) == {"a": ["b", identified(image(PNG))]}


def test_what_is_saved_is_json_and_comes_back(tmp_path: Path) -> None:
    value = {"a": [image(PNG), image("https://host/a.png"), ImageFile("cat.png", stored(tmp_path, "cat.png"))], "b": 1}
    back = restored(json.loads(json.dumps(saved(value))))
    assert back == {"a": [*value["a"][:2], Image("cat.png", data=PNG, media_type="image/png")], "b": 1}  # type: ignore[index]


def test_text_that_looks_like_a_saved_image_is_text() -> None:
    assert restored({"q": uri(PNG), "m": {"icl:image": uri(PNG)}}) == {"q": uri(PNG), "m": {"icl:image": uri(PNG)}}


def test_what_does_not_change_is_not_copied() -> None:
    value = {"a": [1, {"b": "c"}], "d": ("e",)}
    assert mapped(value, lambda v: v) is value
    assert mapped(value, lambda v: "E" if v == "e" else v) == {"a": [1, {"b": "c"}], "d": ["E"]}


def test_no_repr_holds_an_images_bytes(tmp_path: Path) -> None:
    x = found([{"image": PNG}])[0]
    assert "PNG" not in repr(x)
    assert len(repr(x)) < 200
