"""`icl`: the commands, and how a mistake ends.

Exit status: 0 done; 1 an unexpected fault; 2 a mistake in the task or the command; 3 finished with failed examples
above the allowed number; 4 stopped by a cap of `run`; 130 interrupted (running again goes on after both).
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from importlib import metadata

import typer

from icl_engine.console import audit, cache, compare, init, models, plan, predict, rescore, run, schema, show
from icl_engine.errors import BudgetError, FailuresError, IclError, InterruptedRunError

app = typer.Typer(
    name="icl",
    help="The most out of a frozen language model: prompts in, calibrated answers out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("init", short_help="Write a first task from a data file.")(init.init)
app.command("run")(run.run)
app.command("plan", short_help="Say what a run would ask, and what it would cost.")(plan.plan)
app.command("show", short_help="Print the exact prompt of one example.")(show.show)
app.command("predict")(predict.predict)
app.command("compare", short_help="Compare runs: differences, intervals, p-values.")(compare.compare)
app.command("rescore", short_help="Read a run's stored answers anew; nobody is asked.")(rescore.rescore)
app.command("audit", short_help="List a run's unread answers, and where readers disagree.")(audit.audit)
app.command("models", short_help="List models and providers, and what each needs.")(models.models)
app.command("cache", short_help="Say how much room answers take; drop old ones.")(cache.cache)
app.command("schema", short_help="Print the JSON Schema of a task file, for editors.")(schema.schema)


@app.callback(invoke_without_command=True)
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show where an error came from."),
    version: bool = typer.Option(False, "--version", help="Print the version."),
) -> None:
    if version:
        print(f"icl-engine {metadata.version('icl-engine')}")
        raise typer.Exit
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    if debug:
        logging.getLogger("icl_engine").setLevel(logging.DEBUG)


def main() -> None:
    """The console script."""
    with contextlib.suppress(ValueError):  # not in the main thread
        # A batch system's way to say stop: as an interrupt, so that what is in flight comes home.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except InterruptedRunError as error:
        _say(str(error))
        sys.exit(130)
    except BudgetError as error:
        _say(str(error))
        sys.exit(4)
    except FailuresError as error:
        _say(str(error))
        sys.exit(3)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(130)
    except IclError as error:
        if "--debug" in sys.argv:
            raise
        _say(f"error: {error}")
        sys.exit(2)
    except BrokenPipeError:
        # The reader went away (`icl predict … | head`): nothing is left to say to it.
        sys.stderr.close()
        sys.exit(1)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
