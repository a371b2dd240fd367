"""Invented messages and schemas, in a process of their own: no crash, no hang, and what lands can be stored.

The process is watched from outside. A step that takes a second of its processor time is a hang.
"""

import json
import random
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.chaos.fuzz_decode import HEADER
from tests.chaos.servers import PostgresServer

_ROOT = Path(__file__).parents[2]
_HANG = 1.0
_LOOK = 0.02
SEED = 20240515
"""Of the short form, which tells whether a change broke something; new cases are the long form's."""


@pytest.mark.slow
def test_short(postgres_server: PostgresServer, tmp_path: Path) -> None:
    fuzz(postgres_server.database, tmp_path, 10, seed=SEED)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_long(postgres_server: PostgresServer, tmp_path: Path) -> None:
    fuzz(postgres_server.database, tmp_path, 300, seed=random.randrange(1 << 30))


def fuzz(database: str, folder: Path, seconds: float, *, seed: int) -> None:
    print(f"seed {seed}, {seconds:g} s")
    arguments = [f"--folder={folder}", f"--seed={seed}", f"--seconds={seconds}"]
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.fuzz_decode", *arguments],
            cwd=_ROOT,
            stdout=output,
            stderr=output,
        )
        try:
            longest = watch(process, folder)
        finally:
            process.kill()
            process.wait()
        said = (folder / "output").read_text()
        print(said[-5000:])
        assert process.returncode == 0, (
            f"it ended with {process.returncode}; last input: {seen(folder)[2][:500]!r}"
        )
    print(f"longest step seen: {longest:.2f} s of processor time")
    assert " 0 accepted" not in said
    check_stored(database, (folder / "kept").read_bytes().split(b"\0"))


def watch(process: subprocess.Popen[Any], folder: Path) -> float:
    """Wait for its end; the longest step, as far as a look every 20 ms tells.

    Raises:
        AssertionError: a step hangs.
    """
    started, step, longest = 0.0, 0, 0.0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        time.sleep(_LOOK)  # not a wait for something: how often one looks
        try:
            spent = sum(watched.cpu_times()[:2])
        except psutil.NoSuchProcess:
            break
        number, is_running, shown = seen(folder)
        if number != step or not is_running:
            step, started = number, spent
        else:
            longest = max(longest, spent - started)
            assert spent - started < _HANG, f"this hangs: {shown[:2000]!r}"
    process.wait()
    return longest


def seen(folder: Path) -> tuple[int, int, bytes]:
    """Number of the step, whether it is running, its input; zeros before the first."""
    window = folder / "window"
    content = window.read_bytes() if window.exists() else b""
    if len(content) < HEADER.size:
        return 0, 0, b""
    number, is_running, length = HEADER.unpack_from(content)
    return number, is_running, content[HEADER.size : HEADER.size + length]


def check_stored(database: str, kept: list[bytes]) -> None:
    """Postgres stores them, and gives the same back: every digit, of equal keys the last."""
    assert len(kept) > 100
    texts = [text.decode() for text in kept]
    with psycopg.connect(database) as connection:
        stored = connection.execute(
            "SELECT one::jsonb::text FROM unnest(%s::text[]) AS one", (texts,)
        ).fetchall()
    for sent, (found,) in zip(texts, stored, strict=True):
        assert exactly(found) == exactly(sent)
    print(f"{len(kept)} stored and read back")


def exactly(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)
