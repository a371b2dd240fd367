"""The page of all commands, docs/cli.md, made of the commands themselves: `python -m analytics_pipeline.cli.page`.

Belongs here: Markdown. Does not belong here: any command.
"""

import sys
from collections.abc import Iterator
from typing import Any

import typer
from typer.main import get_command

from analytics_pipeline.cli.options import app

_HEAD = """\
# Commands

Made by `make docs` from the commands themselves; `analytics COMMAND --help` shows the same.

Every command takes `--config FILE` (`-c`), `--state-folder FOLDER`, `--debug` and `--help` (`-h`), before or behind
its name. Where a stack of `analytics up` runs in the state folder, commands use its servers; else those that the
[configuration](configuration.md) names.

`--json` gives facts to programs: on stdout nothing but JSON, words on stderr. Bars and spinners appear on a terminal
alone, on stderr.

## Exit codes

| code | |
|---|---|
| 0 | done |
| 1 | the answer is no (not running, a balance is broken, `doctor` found a problem), or it was refused |
| 2 | wrong arguments, or wrong configuration |
| 3 | Postgres, Kafka, Redis or the disk does not answer; trying again may help |
| 4 | wrong data, which stays wrong |
| 5 | the books do not balance: stop, and look |
| 70 | a defect of this program: `--debug` shows where |
| 130 | interrupted |

An error is one sentence on stderr that says what to do. A traceback appears with `--debug` alone.

## Shell completion

```sh
analytics --install-completion   # for the shell that you use: bash, zsh, fish, PowerShell; --show-completion prints it
```

Completes commands and options, and names: metrics, event types, definitions, services, reasons of dead letters. Those
of custom events come from the database, where it answers.
"""
_COMMON = frozenset(
    {"config", "state_folder", "debug", "help", "install_completion", "show_completion", "show_version"}
)


def page() -> str:
    """The whole page."""
    root = get_command(app)
    context = typer.Context(root, info_name="analytics")
    lines = [_HEAD]
    for name in sorted(_visible(root)):
        lines += _command(root.commands[name], context, name, 2)  # type: ignore[attr-defined]
    return "\n".join(lines).rstrip("\n") + "\n"


def _visible(group: Any) -> list[str]:
    return [name for name, one in group.commands.items() if not one.hidden]


def _command(command: Any, parent: Any, name: str, depth: int) -> Iterator[str]:
    context = type(parent)(command, info_name=name, parent=parent)
    path = context.command_path
    yield f"{'#' * depth} {path}\n"
    yield "\n\n".join(_paragraphs(command.help or "")) + "\n"
    if hasattr(command, "commands"):
        for below in _visible(command):
            yield from _command(command.commands[below], context, below, depth + 1)
        return
    yield f"```text\n{path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    records = [one.get_help_record(context) for one in command.get_params(context) if one.name not in _COMMON]
    rows = [(names, " ".join(words.split())) for names, words in filter(None, records)]
    if rows:
        yield "| | |\n|---|---|"
        yield from (f"| `{_escaped(names)}` | {_escaped(words)} |" for names, words in rows)
        yield ""


def _paragraphs(text: str) -> list[str]:
    """Without the line breaks of the source."""
    return [" ".join(part.split()) for part in text.replace("\f", "").strip().split("\n\n")]


def _escaped(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    sys.stdout.write(page())
