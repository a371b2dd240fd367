"""Commands for the stack on this machine: up, down, status, stop, start, restart, clean.

Belongs here: arguments and words. Does not belong here: the work (`local_stack`), imported when a command runs.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import typer
from rich.table import Table

from analytics_pipeline.cli.completion import services
from analytics_pipeline.cli.options import AsJson, app, everywhere, print_json
from analytics_pipeline.cli.progress import working
from analytics_pipeline.settings import config_file, settings, state_folder

PANEL = "The stack on this machine"
_NOT_RUNNING = 1

ServiceNames = Annotated[
    list[str],
    typer.Argument(
        metavar="SERVICE…",
        help="kafka, postgres, redis, ingest, api, dagster-…, simulator",
        autocompletion=services,
    ),
]


@app.command(rich_help_panel=PANEL)
@everywhere
def up(
    detach: Annotated[
        bool,
        typer.Option("--detach", "-d", help="Return when everything is ready; it goes on in the background."),
    ] = False,
    simulator: Annotated[
        bool | None,
        typer.Option(
            help="Send simulated trading events [default: unless Kafka is your own]", show_default=False
        ),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart processes when their source changes.")
    ] = False,
    servers_only: Annotated[
        bool,
        typer.Option(
            "--servers-only",
            help="Start the embedded Kafka, Postgres and Redis alone; the schema is not looked at, as for a restore.",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="With --detach: the same as status --json, when everything is ready."),
    ] = False,
    in_background: Annotated[bool, typer.Option("--in-background", hidden=True)] = False,
) -> None:
    """Start everything: Kafka, Postgres, Redis, ingest, Dagster, the API, and a simulator.

    A server whose address you set (`kafka.brokers`, `database.host`, `redis.host`) is used as it is; the others are
    started here. Ctrl-C stops everything in order. With --servers-only, what is started here is all that starts, for
    work on the database that the product must not be there for; `analytics down`, then `analytics up`, starts the rest.
    """
    from analytics_pipeline.local_stack import detached
    from analytics_pipeline.local_stack.display import Display
    from analytics_pipeline.local_stack.plan import Plan
    from analytics_pipeline.local_stack.supervisor import Supervisor

    if as_json and not detach:
        raise typer.BadParameter(
            "give --detach as well: in the foreground it ends when everything is stopped", param_hint="--json"
        )
    if servers_only and (simulator or reload):
        raise typer.BadParameter(
            f"leave out {'--simulator' if simulator else '--reload'}: nothing but servers is started",
            param_hint="--servers-only",
        )
    folder, found, display = _folder(), settings(), Display()
    if detach:
        say = functools.partial(typer.echo, err=True) if as_json else display.say
        flags = [] if simulator is None else ["--simulator" if simulator else "--no-simulator"]
        flags += ["--reload"] if reload else []
        flags += ["--servers-only"] if servers_only else []
        detached.up(folder, ["up", "--in-background", *flags], say)
        if not servers_only:
            _tell_first_key(say)
        if as_json:
            print_json(detached.status(folder))
        return
    Supervisor(
        folder,
        lambda: Plan.make(
            found, folder, config=config_file(), with_simulator=simulator, servers_only=servers_only
        ),
        display,
        reload=reload,
        in_background=in_background,
    ).run()


@app.command(rich_help_panel=PANEL)
@everywhere
def down(as_json: AsJson = False) -> None:
    """Stop everything, in order; what was accepted is kept. Also what a killed `analytics up` left running."""
    from analytics_pipeline.local_stack import detached

    with working("stopping, in order"):
        ended = detached.down(_any_folder(), _quiet if as_json else typer.echo)
    if as_json:
        print_json(ended._asdict())
    else:
        typer.echo("everything is stopped" if any(ended) else "no stack was running")


@app.command(rich_help_panel=PANEL)
@everywhere
def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs; passwords included.")] = False,
) -> None:
    """Show addresses, and the state of every process. Exit code 1 when no stack runs."""
    from analytics_pipeline.local_stack import detached

    found = detached.status(_any_folder())
    if as_json:
        print_json(found)
    else:
        _show_status(found)
    if not found["is_running"]:
        raise typer.Exit(_NOT_RUNNING)


@app.command(rich_help_panel=PANEL)
@everywhere
def stop(services: ServiceNames, as_json: AsJson = False) -> None:
    """Stop services of the running stack; `analytics start` brings them back."""
    _command("stop", services, as_json=as_json)


@app.command(rich_help_panel=PANEL)
@everywhere
def start(services: ServiceNames, as_json: AsJson = False) -> None:
    """Start services that were stopped, and wait until they are ready."""
    _command("start", services, as_json=as_json)


@app.command(rich_help_panel=PANEL)
@everywhere
def restart(services: ServiceNames, as_json: AsJson = False) -> None:
    """Stop services, each in order, start them again, and wait until they are ready."""
    _command("restart", services, as_json=as_json)


@app.command(rich_help_panel=PANEL)
@everywhere
def clean(as_json: AsJson = False) -> None:
    """Stop the stack and delete its state folder: all events, rollups and logs of this machine's stack."""
    from analytics_pipeline.local_stack import detached

    with working("stopping, in order") as tell:
        detached.down(_folder(), _quiet if as_json else typer.echo)
        existed = _folder().path.exists()
        tell(f"deleting {_folder().path}")
        _folder().remove()
    if as_json:
        print_json({"state_folder": str(_folder().path), "deleted": existed})
    else:
        typer.echo(f"{_folder().path} is deleted" if existed else "there was nothing to delete")


def _tell_first_key(say: Callable[[str], None]) -> None:
    from analytics_pipeline.local_stack import detached
    from analytics_pipeline.local_stack.first_key import first_key, sentence

    detached.join(settings())
    if (key := first_key(settings())) is not None:
        say(sentence(key))


def _folder() -> Any:
    from analytics_pipeline.local_stack.state import StateFolder

    return StateFolder(settings().local_stack.state_folder)


def _any_folder() -> Any:
    """The same for a command that needs nothing else: mistakes in other settings are warnings."""
    from analytics_pipeline.local_stack.state import StateFolder

    path, problems = state_folder()
    for problem in problems:
        typer.echo(f"{typer.style('warning:', fg='yellow', bold=True)} {problem}", err=True)
    if problems:
        typer.echo(f"going on with the stack in {path}: nothing else is needed for that", err=True)
    return StateFolder(path)


def _quiet(_line: str) -> None:
    """Say nothing."""


def _command(command: str, services: list[str], *, as_json: bool) -> None:
    """All at once; the first that fails is told, once the others are done."""
    from analytics_pipeline.local_stack.control import ask

    folder = _any_folder()

    def one(service: str) -> dict[str, Any]:
        return {"service": service, **ask(folder, command, service=service)}

    with working(f"{command}: {', '.join(services)}"), ThreadPoolExecutor(len(services)) as pool:
        answers = []
        for answer in pool.map(one, services):
            answers.append(answer)
            if not as_json:
                pid = f" (pid {answer['pid']})" if answer["pid"] else ""
                typer.echo(f"{answer['service']} is {answer['state']}{pid}")
    if as_json:
        print_json(answers)


def _show_status(found: dict[str, Any]) -> None:
    from analytics_pipeline.local_stack.display import Display
    from analytics_pipeline.local_stack.state import left_over_sentence

    display = Display()
    if found["left_over"]:
        display.say(left_over_sentence(found["state_folder"], found["left_over"]))
        return
    if not found["is_running"]:
        display.say(f"no stack is running in {found['state_folder']}: `analytics up` starts one")
        return
    display.addresses(found["addresses"], f"{found['state_folder']}/logs")
    table = Table("service", "state", "pid", "restarts", "since")
    for name, process in found["processes"].items():
        table.add_row(
            name,
            process["state"],
            str(process["pid"] or ""),
            str(process["restarts"]),
            process["since"] or "",
        )
    display.console.print(table)
    if found["servers_only"]:
        display.say(
            "only servers run (--servers-only): `analytics down`, then `analytics up`, starts everything"
        )
    if not found["is_ready"]:
        display.say("it is starting, or stopping")
