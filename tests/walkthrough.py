"""Performs a page of the documentation: its code blocks, in order, as a person would who reads it.

| block | what is done with it |
|---|---|
| `sh` | run by bash; after `<!-- fails -->` it must fail; after `<!-- done before -->` it is passed over |
| `sql` | asked with `analytics sql` |
| `text` | what the block before it must have printed |
| `python` after `<!-- paste into FILE after `LINE` -->` | pasted |
| `diff` after `<!-- change FILE -->` | what `-` says is replaced by what `+` says, at the only place that fits |

Numbers, times, ids and widths of tables may differ from what a page shows, and `…` stands for anything.

Belongs here: reading pages and performing blocks. Does not belong here: where they are performed, and what has to be
true afterwards beside what the page shows (the tests).
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ADDRESS = "http://localhost:9097"
"""How pages write the API's address."""

_BLOCK = re.compile(
    r"^## (?P<title>[^\n]*)$"
    r"|(?:^<!-- (?P<marker>[^\n]*) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_PASTE = re.compile(r"paste into (\S+) after `(.*)`")
_CHANGE = re.compile(r"change (\S+)")
_VARIES = (
    (re.compile(r"\b[0-9a-f]{16}\b"), "#"),
    (re.compile(r"\d[\d,.]*(e[+-]\d+)?"), "#"),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" ?\n ?"), "\n"),
)


@dataclass(frozen=True)
class Block:
    """One code block: the heading above it, its language, its text, the comment before it, and its line on the page."""

    title: str
    kind: str
    text: str
    marker: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    """All blocks of a page, in order."""
    title = ""
    for found in _BLOCK.finditer(page):
        if found["title"] is not None:
            title = found["title"]
        else:
            line = page.count("\n", 0, found.start("kind")) + 1
            yield Block(title, found["kind"], found["text"], found["marker"] or "", line)


@dataclass
class Walk:
    """Performs blocks in `checkout`, with these variables and the API at `api`; `printed` is what the last one said."""

    checkout: Path
    variables: Mapping[str, str]
    api: str
    printed: str = ""

    def perform(self, block: Block) -> None:
        """Do what a block says; AssertionError where the page is wrong."""
        match block.kind, block.marker:
            case "sh", "" | "fails":
                commands = block.text.replace(ADDRESS, self.api)
                self._run(["bash", "-euc", commands], "", fails=bool(block.marker))
            case "sh", "done before":
                pass
            case "sql", "":
                self._run(["analytics", "sql"], block.text, fails=False)
            case "text", "":
                assert is_shown(block.text, self.printed), (
                    f"line {block.line} shows what is not printed:\n{self.printed}"
                )
            case "python", marker if found := _PASTE.fullmatch(marker):
                path, after = self.checkout / found[1], f"{found[2]}\n"
                self._replace(path, after, after + block.text)
            case "diff", marker if found := _CHANGE.fullmatch(marker):
                before, after = (_side(block.text, sign) for sign in "-+")
                self._replace(self.checkout / found[1], before, after)
            case _:
                raise AssertionError(
                    f"line {block.line}: nobody knows what to do with {block.kind} {block.marker!r}"
                )

    def _run(self, command: list[str], text: str, *, fails: bool) -> None:
        done = subprocess.run(
            command,
            input=text,
            cwd=self.checkout,
            env=dict(self.variables),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        self.printed = done.stdout + (done.stderr if fails else "")
        assert (done.returncode != 0) == fails, f"{command} {text}\n{done.stdout}\n{done.stderr}"

    @staticmethod
    def _replace(path: Path, before: str, after: str) -> None:
        source = path.read_text()
        assert source.count(before) == 1, f"{source.count(before)} places in {path} fit:\n{before}"
        path.write_text(source.replace(before, after))


def is_shown(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed."""
    wanted = ".*".join(map(re.escape, _steady(shown).split("…")))
    return re.fullmatch(wanted, _steady(printed), re.DOTALL) is not None


def _steady(text: str) -> str:
    for pattern, replacement in _VARIES:
        text = pattern.sub(replacement, text)
    return text.strip()


def _side(diff: str, sign: str) -> str:
    return "".join(line[1:] for line in diff.splitlines(keepends=True) if line[0] in (" ", sign))
