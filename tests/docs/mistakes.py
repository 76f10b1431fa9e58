"""The commonest mistakes: what was written, what is printed, how to mend it. docs/errors.md is made from this table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

FILES: Mapping[str, str] = {
    "task.yaml": """\
name: reviews
data:
  train: train.csv
  test: test.csv
  target: verdict
input:
  template:
    inline: |
      Review: {{ review }}
      Verdict: {{ answer }}
  instruction: Would you recommend it?
  demonstrations: {use: random, k: 4, balanced: true}
model:
  use: fake
  answers: [recommend, avoid]
output:
  - {use: verbalizer, labels: {recommend: recommend, avoid: avoid}}
  - {use: batch_calibration}
metrics: [accuracy]
""",
    "train.csv": """\
review,verdict
Boils fast and pours without a drip.,recommend
The handle came off in a week.,avoid
"Warm, light and dry.",recommend
It hums all night.,avoid
My dog loves it.,recommend
Stale and far too dear.,avoid
""",
    "test.csv": """\
review,verdict
Quiet rooms and a kind host.,recommend
We waited an hour for cold chips.,avoid
The best loaf in town.,recommend
The soles came off.,avoid
""",
}
"""A task without a mistake, and its data."""

NO_SERVER = "http://127.0.0.1:8000/v1"
"""An address where nothing answers."""

PRICES = "~/.config/icl-engine/prices.json"
"""Where a user's price file is looked for, on Linux."""

VLLM = f"""\
model:
  use: vllm
  base_url: {NO_SERVER}
  name: my-model
"""


@dataclass(frozen=True)
class Change:
    """Lines that stand wrong in place of others.

    Args:
        instead: the right lines.
        written: the wrong ones.
        file: where.
        encoding: in which the file is saved.
    """

    instead: str
    written: str
    file: str = "task.yaml"
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Mistake:
    """A mistake.

    Args:
        title: what it is.
        says: the line that is printed, behind ``error: ``; ``ID`` stands for a fingerprint.
        mend: what to do, as Markdown.
        wrong: how the files differ from `FILES`.
        right: how they do once it is mended, where they differ at all.
        command: what was typed.
        mended_command: what is to be typed instead, where that is something else.
        before: what was typed before it, without a mistake.
        saved_as: file -> the name it was saved under as well.
        missing: modules that are not installed.
        unset: environment variables that are not set.
        elsewhere: mending it takes more than files (a server, a package, a variable).
    """

    title: str
    says: str
    mend: str
    wrong: tuple[Change, ...] = ()
    right: tuple[Change, ...] = ()
    command: str = "icl run task.yaml"
    mended_command: str = ""
    before: tuple[str, ...] = ()
    saved_as: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    elsewhere: bool = False


MODEL = "model:\n  use: fake\n  answers: [recommend, avoid]\n"
TEMPLATE = "  template:\n    inline: |\n      Review: {{ review }}\n      Verdict: {{ answer }}\n"
DEMONSTRATIONS = "  demonstrations: {use: random, k: 4, balanced: true}\n"
VERBALIZER = "  - {use: verbalizer, labels: {recommend: recommend, avoid: avoid}}\n"
KETTLE = "Boils fast and pours without a drip.,recommend\n"
NO_TRAIN = Change("data:\n  train: train.csv\n  test: test.csv\n", "data:\n  test: test.csv\n")
LOAF = "The best loaf in town.,recommend\n"
INPUT = f"input:\n{TEMPLATE}  instruction: Would you recommend it?\n{DEMONSTRATIONS}{MODEL}"
"""The lines on I and f."""


def seeing(model: str) -> Change:
    """Lines on I and f that show a model an image."""
    template = '  template: {inline: "{{ image }}\\nVerdict: {{ answer }}"}\n'
    return Change(INPUT, f"input:\n{template}model: {model}\n")


def photo(name: str) -> Change:
    """Test data of one image."""
    return Change(FILES["test.csv"], f"image,verdict\n{name},recommend\n", "test.csv")


MISTAKES: Sequence[Mistake] = (
    Mistake(
        "A misspelt key",
        wrong=(Change("metrics: [accuracy]", "metrcs: [accuracy]"),),
        says="task.yaml:19: metrcs: unknown key 'metrcs' in a task; did you mean 'metrics'?",
        mend="Write the key as proposed. The keys of a task are in [the task file](reference/task-file.md), those "
        "beside `use` in [the components](reference/components.md); `icl schema` gives an editor the same list.",
    ),
    Mistake(
        "A text that YAML takes for something else",
        wrong=(Change("  instruction: Would you recommend it?", "  instruction: Choose one: recommend or avoid."),),
        says="task.yaml:11: mapping values are not allowed here; a text with a colon and a space in it needs quotes",
        mend="To YAML a colon and a space inside a plain text begin a mapping. Put the text in quotes, as well as one "
        "that begins with `{`, `[`, `*`, `&`, `!`, `%` or `#`. A template begins with braces quite often: it is "
        "easiest written under `inline: |`, where nothing needs quotes.",
        right=(Change("  instruction: Would you recommend it?", '  instruction: "Choose one: recommend or avoid."'),),
    ),
    Mistake(
        "The name of a task that does not exist",
        command="icl run sentimant",
        says="sentimant: no task file, and no shipped task of that name; did you mean 'sentiment'?",
        mend="A name without an ending is a shipped task; a file of your own is written with its ending (`task.yaml`).",
    ),
    Mistake(
        "The name of a template that does not exist",
        wrong=(Change(TEMPLATE, "  template: clasification\n"),),
        says="task.yaml:7: input.template: unknown template 'clasification'; did you mean 'classification'?",
        mend="A bare name is looked up as `templates/<name>.j2`: beside the task file, one folder above it, and among "
        "the shipped ones. A file elsewhere is written as a path with its ending, `./my.j2`.",
    ),
    Mistake(
        "The name of a model that does not exist",
        wrong=(Change(MODEL, "model: gemma-3-27m\n"),),
        says="task.yaml:13: model.name: no model file 'gemma-3-27m'; did you mean 'gemma-3-270m'?",
        mend="A bare name is an embedded model: `icl models` lists them. A `.gguf` file of your own is written as a "
        "path, a model on a server as `{use: vllm, base_url: …, name: …}`.",
        elsewhere=True,
    ),
    Mistake(
        "An environment variable that is not set",
        wrong=(Change(MODEL, f"{VLLM}  api_key: ${{REVIEWS_KEY}}\n"),),
        says="task.yaml:17: model.api_key: the environment variable REVIEWS_KEY is not set",
        mend="Set it in the shell that runs `icl`: `export REVIEWS_KEY=…` (without `export` the command does not see "
        'it). Between braces the value wants quotes: `{use: vllm, …, api_key: "${REVIEWS_KEY}"}`.',
        elsewhere=True,
    ),
    Mistake(
        "A key written into the file",
        wrong=(Change(MODEL, f"{VLLM}  api_key: sk-not-a-real-key\n"),),
        says="task.yaml:17: model.api_key: a key does not belong in a task; "
        "put it in the environment and write ${NAME}",
        mend="Task files are copied, committed and sent to colleagues, so the value has to come from the environment: "
        "`api_key: ${REVIEWS_KEY}`. A key that has stood in a file is best replaced by a new one.",
        elsewhere=True,
    ),
    Mistake(
        "A template variable that the data does not have",
        wrong=(Change("      Review: {{ review }}\n", "      Review: {{ text }}\n"),),
        says="task.yaml:7: 'text' is undefined (the row has: review)",
        mend="A variable is a field of the rows, here `review`: write `{{ review }}`. Or, for a template that several "
        "tasks share, keep the variable and say which field it is:",
        right=(
            Change("  target: verdict\n", "  target: verdict\n  fields: {text: review}\n"),
            Change("      Review: {{ review }}\n", "      Review: {{ text }}\n"),
        ),
    ),
    Mistake(
        "A template without an answer mark",
        wrong=(Change("      Verdict: {{ answer }}\n", "      Verdict:\n"),),
        says="task.yaml:7: the example block has no answer mark; print {{ answer }} where the answer stands",
        mend="One template writes both the demonstrations, with their answers, and the query, which ends where its "
        "answer would begin. So it has to say where that is: `Verdict: {{ answer }}`.",
    ),
    Mistake(
        "A filter on the answer",
        wrong=(Change("      Verdict: {{ answer }}\n", "      Verdict: {{ answer | capitalize }}\n"),),
        says="task.yaml:7: 'answer' may only be printed: no filter, test or operator on it",
        mend="The answer of the query is not known yet, so nothing can be done to it. How a label is spelt in the "
        "prompt is said by the verbalizer:",
        right=(Change(VERBALIZER, "  - {use: verbalizer, labels: {recommend: Recommend, avoid: Avoid}}\n"),),
    ),
    Mistake(
        "The wrong name for the field of the answer",
        wrong=(Change("  target: verdict", "  target: label"),),
        says="train.csv:2: row has no target 'label' (the row has: review, verdict)",
        mend="`data.target` names a column of the data: `target: verdict`.",
    ),
    Mistake(
        "A label that the task does not know",
        wrong=(Change(LOAF, "The best loaf in town.,recomend\n", "test.csv"),),
        says="test.csv:4: label 'recomend' is not in the verbalizer; did you mean 'recommend'?",
        mend="Mend the row. Where the data is right, add the label to the verbalizer's `labels`. Where it is not yours "
        "to change, say which label each stored value means:",
        right=(
            Change(LOAF, "The best loaf in town.,recomend\n", "test.csv"),
            Change(
                "  target: verdict\n",
                "  target: verdict\n  labels: {recommend: recommend, recomend: recommend, avoid: avoid}\n",
            ),
        ),
    ),
    Mistake(
        "Yes and no",
        wrong=(
            Change(VERBALIZER, "  - {use: verbalizer, labels: {yes: yes, no: no}}\n"),
            Change(KETTLE, "Boils fast and pours without a drip.,Yes\n", "train.csv"),
        ),
        says="train.csv:2: label 'Yes' is not in the verbalizer; did you mean 'yes'?",
        mend="In a task file (YAML 1.2) `yes` and `no` are texts like others and need no quotes. But a label is "
        "compared letter by letter, and `Yes` is not `yes`. Before the colon write what the data holds; after it, what "
        "the model is to read and say: `labels: {Yes: yes, No: no}`.",
        elsewhere=True,
    ),
    Mistake(
        "A data file with the wrong ending",
        wrong=(Change("  test: test.csv", "  test: test.txt"),),
        saved_as={"test.csv": "test.txt"},
        says="test.txt: unknown data format '.txt' (valid: .csv, .json, .jsonl, .ndjson, .parquet, .tsv)",
        mend="The ending says how a file is read. Rename it: `.csv` where commas stand between the fields, `.tsv` "
        "where tabs do, `.jsonl` where each line is a JSON object, `.json` for one list of objects.",
    ),
    Mistake(
        "A comma inside a CSV field",
        wrong=(Change(LOAF, "Warm, light and dry.,recommend\n", "test.csv"),),
        says="test.csv:4: has 3 fields, the header has 2; a comma inside a field needs double quotes around the field",
        mend="Whatever writes CSV for you (a spreadsheet, the `csv` module of Python) sets the quotes by itself:",
        right=(Change(LOAF, '"Warm, light and dry.",recommend\n', "test.csv"),),
    ),
    Mistake(
        "A data file that is not UTF-8",
        wrong=(Change(LOAF, "The best café in town.,recommend\n", "test.csv", "latin-1"),),
        says="test.csv:4: column 13: the byte 0xE9 is not UTF-8; it looks like Latin-1 or Windows-1252; "
        "convert it: iconv -f WINDOWS-1252 -t UTF-8 test.csv > utf8-test.csv",
        mend="Run the command it gives and name the new file in the task, or save the file anew as “CSV UTF-8”.",
        right=(Change("  test: test.csv", "  test: utf8-test.csv"),),
        saved_as={"test.csv": "utf8-test.csv"},
    ),
    Mistake(
        "Demonstrations without a train split",
        wrong=(NO_TRAIN,),
        says="task.yaml:11: input.demonstrations: demonstrations need a pool; give data.train",
        mend="Demonstrations are drawn from solved rows other than those that are tested: name their file in "
        "`data.train`. Without such a file leave `demonstrations` out (zero-shot), or write a few into the task:",
        right=(
            NO_TRAIN,
            Change(
                DEMONSTRATIONS,
                "  demonstrations:\n    use: fixed\n    items:\n"
                "      - {review: My dog loves it., verdict: recommend}\n"
                "      - {review: It hums all night., verdict: avoid}\n",
            ),
        ),
    ),
    Mistake(
        "More demonstrations than rows",
        wrong=(Change(DEMONSTRATIONS, DEMONSTRATIONS.replace("k: 4", "k: 40")),),
        says="task.yaml:12: input.demonstrations: k is 40, but the train split has 6 different rows",
        mend="Lower `k`, or label more rows. With `balanced: true` there have to be enough of each label.",
    ),
    Mistake(
        "The same rows to train and to test",
        wrong=(Change("  test: test.csv", "  test: train.csv"),),
        says="task.yaml:12: input.demonstrations: k is 4, but the train split has 0 different rows; "
        "6 of 6 train rows are also in the test split; they are never shown as demonstrations",
        mend="A row that is tested is never shown as a demonstration, to no query, or the answer would stand in the "
        "prompt. Give a test file of other rows; `icl init` splits one file in two. See "
        "[leakage](concepts/demonstrations.md#leakage-a-demonstration-is-never-the-query).",
    ),
    Mistake(
        "An encoder that is not installed",
        wrong=(Change(DEMONSTRATIONS, "  demonstrations: {use: knn, k: 4, encoder: BAAI/bge-small-en-v1.5}\n"),),
        missing=("sentence_transformers",),
        says="task.yaml:12: input.demonstrations: encoder BAAI/bge-small-en-v1.5 needs the package "
        "sentence-transformers (and torch: without a GPU, install torch's CPU build first); "
        "run: pip install 'icl-engine[dense]'",
        mend="Install it; on a machine without a GPU run `pip install torch==2.13.0` before, the CPU build, or "
        "gigabytes of CUDA may come with it. `encoder: tfidf` needs neither.",
        elsewhere=True,
    ),
    Mistake(
        "An embeddings API without its key",
        wrong=(
            Change(
                DEMONSTRATIONS,
                "  demonstrations:\n    {use: knn, k: 4, encoder: {use: embeddings, name: text-embedding-3-small}}\n",
            ),
        ),
        unset=("OPENAI_API_KEY", "OPENAI_BASE_URL"),
        says="no key for embeddings: set OPENAI_API_KEY, or write api_key: ${NAME}, or base_url",
        mend="`export OPENAI_API_KEY=…` in the shell that runs `icl`, or name another server: `{use: embeddings, "
        "name: …, base_url: http://127.0.0.1:8000/v1}` needs no key.",
        elsewhere=True,
    ),
    Mistake(
        "An order by similarity where there is none",
        wrong=(Change(DEMONSTRATIONS, "  demonstrations: {use: random, k: 4, order: similarity}\n"),),
        says="task.yaml:12: input.demonstrations.order: random does not tell how similar a demonstration is to the "
        "query",
        mend="Rows that are drawn, written or chosen for the whole run are as near to one query as to the next. Leave "
        "`order` out, take another, or a retriever that chooses for each query:",
        right=(Change(DEMONSTRATIONS, "  demonstrations: {use: tfidf, k: 4, order: similarity}\n"),),
    ),
    Mistake(
        "Rationales that are not there",
        wrong=(Change(DEMONSTRATIONS, "  demonstrations: {use: complexity, k: 4}\n"),),
        says="task.yaml:12: input.demonstrations: row 0 of the train split has no 'rationale'",
        mend="`complexity` counts the steps of a field of the train rows; `field:` says which, if it has another name. "
        "Without such a field the model can write [chains of its own](concepts/reasoning.md).",
        elsewhere=True,
    ),
    Mistake(
        "A vote among equal samples",
        wrong=(Change(MODEL, VLLM), Change("  - {use: batch_calibration}\n", "  - {use: vote, samples: 5}\n")),
        says="task.yaml:13: model.temperature: vote counts 5 samples, and at temperature 0 all are alike; "
        "set model.temperature: 0.7",
        mend="At temperature 0, the default, a model says the same each time. Set `temperature: 0.7` in `model`, or "
        "leave the vote out. See [self-consistency](concepts/reasoning.md#self-consistency-vote).",
        elsewhere=True,
    ),
    Mistake(
        "A content-free calibration behind a chain of thought",
        wrong=(
            Change(DEMONSTRATIONS, "  cot: {use: zero_shot, then: So I would say}\n"),
            Change("batch_calibration", "contextual_calibration"),
        ),
        says="task.yaml:18: output[1]: asks about inputs that have no content, and no chain of thought (input.cot) "
        "comes before their answer",
        mend="There is nothing to think about in an empty input, so its answer says nothing about answers behind "
        "thoughts. Batch calibration learns from the rows themselves:",
        right=(Change(DEMONSTRATIONS, "  cot: {use: zero_shot, then: So I would say}\n"),),
    ),
    Mistake(
        "A calibration of an answer that is read as text",
        wrong=(Change(VERBALIZER, '  - {use: regex, pattern: "(recommend|avoid)"}\n'),),
        says="task.yaml:18: output[1]: needs label scores, but the answer is read as text; use a verbalizer",
        mend="A calibration corrects a distribution over labels, and a text has none. Read the answer with a "
        "`verbalizer` (and not with `read: text`), or leave the calibration out.",
    ),
    Mistake(
        "A metric given twice",
        wrong=(Change("metrics: [accuracy]", "metrics: [{use: rouge}, {use: rouge, variant: rouge1}]"),),
        says="task.yaml:19: metrics: two metrics are reported as 'rouge'; give one a name",
        mend="Where they differ in a key, name them; else leave one out.",
        right=(
            Change(
                "metrics: [accuracy]",
                "metrics: [{use: rouge, name: rouge_l}, {use: rouge, variant: rouge1, name: rouge_1}]",
            ),
        ),
    ),
    Mistake(
        "A package that is not installed",
        wrong=(Change("metrics: [accuracy]", "metrics: [rouge]"),),
        missing=("rouge_score",),
        says="task.yaml:19: metrics[0]: the metric rouge needs the package rouge-score; "
        "run: pip install 'icl-engine[metrics]'",
        mend="Run the command it gives, in the environment that `icl` runs in.",
        elsewhere=True,
    ),
    Mistake(
        "A server that does not answer",
        wrong=(Change(MODEL, VLLM),),
        says=f"nothing answers at {NO_SERVER} (no connection to 127.0.0.1:8000: ClientConnectorError); is the server "
        "running, is model.base_url right?",
        mend="Start the server, and see that host and port are right: `curl http://127.0.0.1:8000/v1/models` has to "
        "list the model. Inside a container `127.0.0.1` is the container itself.",
        elsewhere=True,
    ),
    Mistake(
        "A hosted model without its key",
        wrong=(Change(MODEL, "model: {use: openai, name: gpt-4.1-mini}\n"),),
        unset=("OPENAI_API_KEY",),
        says="no key for openai: set OPENAI_API_KEY, or write api_key: ${NAME}",
        mend="`export OPENAI_API_KEY=…` in the shell that runs `icl`. For `anthropic` it is `ANTHROPIC_API_KEY`. A key "
        "under another name is given as `api_key: ${NAME}`. Where the provider refuses it, the run ends with the "
        "provider's own words.",
        elsewhere=True,
    ),
    Mistake(
        "One text for a provider that takes turns",
        wrong=(Change(MODEL, "model: {use: anthropic, name: claude-haiku-4-5, api: completions}\n"),),
        says="task.yaml:13: model.api: anthropic does not take completions; use chat",
        mend="Leave `api` out. `api: completions` continues a text, as base models do; Anthropic's API, and nearly all "
        "models of OpenAI's, only answer turns. See [base and chat models](concepts/models.md#base-and-chat-models).",
        elsewhere=True,
    ),
    Mistake(
        "Text behind the answer mark",
        wrong=(
            Change("      Verdict: {{ answer }}\n", "      Verdict: {{ answer }}.\n"),
            Change(MODEL, "model: {use: openai, name: davinci-002, api: completions}\n"),
        ),
        says="task.yaml:16: output[1]: needs label scores: a cloze is scored inside its sentence, "
        "and the model gives no log-probabilities of given text",
        mend="Any text behind the answer mark, even a full stop, makes a "
        "[cloze](concepts/template.md#prefix-and-cloze): each label is scored together with it, which takes "
        "log-probabilities of a text that is given. `embedded` has them, and some servers do (`echo`; "
        "`icl models --probe task.yaml` finds out). Else let the template end with the mark: `Verdict: {{ answer }}`.",
        elsewhere=True,
    ),
    Mistake(
        "One word for two labels",
        wrong=(Change(VERBALIZER, "  - {use: verbalizer, labels: {recommend: [yes, fine], avoid: [no, fine]}}\n"),),
        says="task.yaml:17: output[0].labels: the word 'fine' stands for both 'recommend' and 'avoid'",
        mend="Each word says one label. Where a model shows only its next tokens, words that begin with the same one "
        "(“good day”, “good night”) cannot be told apart, either: a run finds that out, and names both labels.",
        right=(Change(VERBALIZER, "  - {use: verbalizer, labels: {recommend: [yes, fine], avoid: [no, poor]}}\n"),),
    ),
    Mistake(
        "An image that is not there",
        wrong=(seeing("{use: fake, api: chat, answers: [recommend, avoid]}"), photo("photos/mug.png")),
        says="test.csv:2: field 'image': no such image file: photos/mug.png (data.images lists the fields that hold "
        "images)",
        mend="A path is relative to the file that it stands in, here `test.csv`. A field that only happens to be named "
        "`image` is text again with `data: {…, images: []}`. See [images](concepts/images.md).",
        elsewhere=True,
    ),
    Mistake(
        "A file that is no image",
        wrong=(seeing("{use: fake, api: chat, answers: [recommend, avoid]}"), photo("mug.png")),
        saved_as={"train.csv": "mug.png"},
        says="test.csv:2: field 'image': mug.png is not a PNG, JPEG, GIF or WebP image",
        mend="What counts are a file's first bytes, not its name (here it holds a table). Save the image as one of "
        "these types, and smaller than 20 MB: a larger one is refused by the same kind of line.",
        elsewhere=True,
    ),
    Mistake(
        "An image for a model that takes one text",
        wrong=(
            seeing("{use: fake, answers: [recommend, avoid]}"),
            photo("https://example.org/mug.png"),
        ),
        says="task.yaml:7: an image is printed: images need a chat model (api: chat)",
        mend="Images travel in turns: set `api: chat`. `embedded` and `replay` take none.",
        right=(
            seeing("{use: fake, api: chat, answers: [recommend, avoid]}"),
            photo("https://example.org/mug.png"),
        ),
    ),
    Mistake(
        "A cap on costs without a price",
        wrong=(Change(MODEL, "model: {use: openai, name: our-fine-tune}\nrun: {max_cost_usd: 0.5}\n"),),
        unset=("OPENAI_BASE_URL", "ICL_PRICES"),
        says="task.yaml:14: run.max_cost_usd: cannot be kept: the price of our-fine-tune is unknown; "
        f"give it in {PRICES} (see docs/concepts/plan.md), or leave the cap out",
        mend="Write the price [into that file](concepts/plan.md#prices), or leave the cap out and use `limit`. "
        "`icl plan task.yaml` says what a run would ask.",
        elsewhere=True,
    ),
    Mistake(
        "A probe without a task",
        command="icl models --probe",
        says="--probe: takes a task, whose model is asked: icl models --probe TASK",
        mend="Models differ, so the one of a task is asked; the task can be a shipped one with another `--model`.",
        mended_command="icl models --probe task.yaml",
    ),
    Mistake(
        "A run directory of another task",
        before=("icl run task.yaml --out run",),
        command="icl run task.yaml --out run --set input.demonstrations.k=2",
        says="run: holds another run (fingerprint ID, this task has ID); give another --out",
        mend="A folder holds the answers of one task; its fingerprint (16 hexadecimal digits, here ID) stands for all "
        "that decides the predictions. Give another `--out`, or none: then each task has a folder of its own, "
        "`runs/<name>/<fingerprint>`. No answer is paid for twice: they are in the cache as well.",
        mended_command="icl run task.yaml --set input.demonstrations.k=2",
    ),
    Mistake(
        "A comparison of different rows",
        before=("icl run task.yaml --out four", "icl run task.yaml --out three --limit 3"),
        command="icl compare four three",
        says="compare: not the same rows: four has 4, three has 3; run them with the same data and the same limit",
        mend="Runs are compared row by row. Run the shorter one again without its limit: it goes on where it stopped.",
        mended_command="icl run task.yaml --out three",
    ),
    Mistake(
        "An input that is not JSON",
        command="icl predict task.yaml --input '{review: Stale.}'",
        says="--input: not JSON: unexpected character, expected a string key: line 1 column 2 (char 1)",
        mend="In JSON names and texts stand in double quotes; single quotes around the whole keep the shell out of it.",
        mended_command='icl predict task.yaml --input \'{"review": "Stale."}\'',
    ),
)


def files(changes: Sequence[Change], saved_as: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """The task and its data with changes; `saved_as` names copies."""
    for name, text in FILES.items():
        encoding = "utf-8"
        for change in changes:
            if change.file == name:
                assert text.count(change.instead) == 1, change.instead
                text = text.replace(change.instead, change.written)
                encoding = change.encoding
        yield name, text.encode(encoding)
        if name in saved_as:
            yield saved_as[name], text.encode()


HEAD = """\
# Mistakes and their messages

<!-- Made from tests/docs/mistakes.py by `ICL_UPDATE_DOCS=1 pytest tests/docs/test_errors_page.py`: change it there. -->

A mistake in a task, its data or a command is told in one line: where it is (file, line, key) and what to do. The exit
status is then 2, and nothing was asked of the model. `icl --debug run …` shows besides where in the program the line
comes from. Below are the commonest mistakes, each made in this task, which has none:
"""


def errors_page() -> str:
    """docs/errors.md."""
    good = [part for name, text in FILES.items() for part in (f"`{name}`:", fenced(text, name))]
    contents = [f"- [{m.title}](#{re.sub(r'[^a-z0-9]+', '-', m.title.lower())})" for m in MISTAKES]
    return "\n\n".join([HEAD.strip(), *good, "\n".join(contents), *map(section, MISTAKES)]) + "\n"


def section(mistake: Mistake) -> str:
    """A mistake as a section of the page."""
    after = f"After {' and '.join(f'`{command}`' for command in mistake.before)}, " if mistake.before else ""
    return "\n\n".join(
        [
            f"## {mistake.title}",
            *shown(mistake.wrong),
            wrapped(f"{after}`{mistake.command}` prints:"),
            fenced(f"error: {mistake.says}"),
            wrapped(mistake.mend),
            *shown([change for change in mistake.right if change not in mistake.wrong]),
            *([fenced(mistake.mended_command)] if mistake.mended_command else []),
        ]
    )


def shown(changes: Sequence[Change]) -> Iterator[str]:
    """What was written, and in which file where that is not plain."""
    for change in changes:
        if change.file != "task.yaml" or len(changes) > 1:
            saved = "" if change.encoding == "utf-8" else f", saved as {change.encoding.capitalize()}"
            yield f"In `{change.file}`{saved}:"
        yield fenced(change.written, change.file)


def fenced(text: str, file: str = "") -> str:
    """A block."""
    return f"```{file.rpartition('.')[2]}\n{text.rstrip()}\n```"


def wrapped(text: str, width: int = 120) -> str:
    """Prose in lines; code and links are not broken."""
    lines = [""]
    for word in re.findall(r"(?:`[^`]*`|\[[^]]*\]\([^)]*\)|\S)+", text):
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
