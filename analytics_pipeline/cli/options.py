"""What all commands of `analytics` share: the application, the options every command has, answers for programs.

Belongs here: reading arguments. Does not belong here: any command (`stack`, `workers`).
"""

import functools
import inspect
import json
import sys
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer

from analytics_pipeline.cli.times import iso
from analytics_pipeline.settings import adopt

app = typer.Typer(
    name="analytics",
    help="B25 Analytics: events from Kafka and REST, exactly once into Postgres, rolled up and served.\n\n"
    "On one machine, `analytics up` starts everything; `analytics status` shows it, `analytics down` stops it. "
    "`analytics doctor` says what is wrong and what to do.",
    epilog="Exit codes: 0 done; 1 the answer is no, or it was refused; 2 wrong arguments or configuration; 3 a server "
    "or the disk does not answer; 4 wrong data; 5 the books do not balance; 70 a defect; 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Shown:
    """Whether a person asked for tracebacks."""

    tracebacks = False


def _use_config(path: Path | None) -> Path | None:
    if path is not None:
        adopt({"B25_CONFIG": str(path)})
    return path


def _use_folder(path: Path | None) -> Path | None:
    if path is not None:
        adopt({"B25_LOCAL_STACK__STATE_FOLDER": str(path.resolve())})
    return path


def _show_tracebacks(value: bool) -> bool:
    Shown.tracebacks = Shown.tracebacks or value
    return value


Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file [default: config.yaml]", callback=_use_config),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--state-folder", help="Where the stack keeps its data [default: .analytics]", callback=_use_folder
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_show_tracebacks)
]

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]

Command = TypeVar("Command", bound=Callable[..., None])


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"analytics {version('b25-analytics')}")
        raise typer.Exit


@app.callback()
def _application(
    config: Config = None,
    state_folder: Folder = None,
    debug: Debug = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Options before a command are those of the command; their callbacks do the work while arguments are read."""


def print_json(content: object) -> None:
    """For programs: times in ISO 8601; nothing in it does anything to a terminal."""
    typer.echo(json.dumps(content, indent=2, default=_plain))


def print_json_line(content: object) -> None:
    """The same in one line, written at once."""
    typer.echo(json_line(content))
    sys.stdout.flush()


def json_line(content: object) -> str:
    """The same, to be written together with others."""
    return json.dumps(content, default=_plain)


def _plain(value: Any) -> str:
    return iso(value) if isinstance(value, datetime) else str(value)


def everywhere(command: Command) -> Command:
    """Give a command the options that all have; their callbacks do the work while arguments are read."""

    @functools.wraps(command)
    def wrapper(config: object = None, state_folder: object = None, debug: object = None, **own: Any) -> None:  # noqa: ARG001
        command(**own)

    common = [
        inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, annotation=Config, default=None),
        inspect.Parameter("state_folder", inspect.Parameter.KEYWORD_ONLY, annotation=Folder, default=None),
        inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, annotation=Debug, default=False),
    ]
    signature = inspect.signature(command)
    shown = signature.replace(parameters=[*signature.parameters.values(), *common])
    wrapper.__signature__ = shown  # type: ignore[attr-defined]
    wrapper.__annotations__ = {one.name: one.annotation for one in shown.parameters.values()}
    return cast(Command, wrapper)
