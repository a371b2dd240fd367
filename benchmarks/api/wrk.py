"""The load generator `wrk`: found on this machine, or fetched from the distribution's packages as an ordinary user.

Belongs here: the program, one run of it, and what it says. Does not belong here: what is asked (`questions`), which
answers are right beyond what it can tell by itself (`measuring`).
"""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.settings import environment

_SCRIPT = Path(__file__).with_name("requests.lua")
_PACKAGES = ("wrk", "libluajit-5.1-2", "libluajit-5.1-common")
_LONGEST_ANSWER = "30s"


@dataclass(frozen=True)
class Program:
    """Where it is, and where its libraries are if not with the system's."""

    path: str
    libraries: str = ""

    @property
    def variables(self) -> dict[str, str]:
        """The environment it runs in."""
        return environment() | ({"LD_LIBRARY_PATH": self.libraries} if self.libraries else {})


class Load(NamedTuple):
    """What one run says, latencies in ms.

    `wrong` answers were not what every one should be; `refused` are 4xx and 5xx; `broken` are connections that failed.
    """

    requests: int
    seconds: float
    bytes: int
    p50: float
    p99: float
    longest: float
    wrong: int
    refused: int
    broken: int


def find(folder: Path) -> Program:
    """`wrk` of PATH, else the one in `folder`, else fetched into it from Debian's or Ubuntu's packages.

    Raises:
        EnvironmentFault: there is none, and how to get it.
    """
    found = shutil.which("wrk")
    if found is not None:
        return Program(found)
    program = folder / "usr" / "bin" / "wrk"
    if not program.exists():
        _fetch(folder)
    libraries = [str(one.parent) for one in folder.glob("usr/lib/*/libluajit-*.so.*")]
    return Program(str(program), ":".join(dict.fromkeys(libraries)))


def _fetch(folder: Path) -> None:
    """Lists and archives of its own, so that neither root nor an earlier `apt-get update` is needed."""
    lists, archives, made = folder / "lists", folder / "archives", folder / "made"
    for each in (lists / "partial", archives, made):
        each.mkdir(parents=True, exist_ok=True)
    options = [
        "-q",
        "-o",
        f"Dir::State::Lists={lists}",
        "-o",
        f"Dir::Cache={folder}",
        "-o",
        "APT::Sandbox::User=",
    ]
    try:
        for command in (["update"], ["download", *_PACKAGES]):
            subprocess.run(["apt-get", *options, *command], cwd=archives, capture_output=True, check=True)
        for package in archives.glob("*.deb"):
            subprocess.run(
                ["dpkg-deb", "--extract", str(package), str(made)], capture_output=True, check=True
            )
        (made / "usr").rename(folder / "usr")  # when complete
    except (OSError, subprocess.CalledProcessError) as error:
        raise EnvironmentFault(
            "wrk, which makes the load, is neither on PATH nor could it be fetched with apt-get: install the package "
            "wrk (apt-get, dnf and brew have it)"
        ) from error
    finally:
        for each in (lists, archives, made):
            shutil.rmtree(each, ignore_errors=True)


def start(
    program: Program,
    url: str,
    *,
    connections: int,
    seconds: float,
    headers: Mapping[str, str],
    paths: Path | None = None,
    number: int = 0,
    body: str = "",
    cache: str = "",
    post: str = "",
) -> "subprocess.Popen[str]":
    """Begin a run from one thread, which costs the machine least and is enough for two cores.

    Args:
        program: from `find`.
        url: of the server, with a path unless there is a file of `paths`.
        connections: each sends its next request when it has its answer.
        seconds: how long.
        headers: of every request.
        paths: a file with a path a line, asked in turn.
        number: "@N@" in paths counts from here.
        body: what every body has to hold.
        cache: what the header X-Cache has to say.
        post: the body to POST; empty for GET.
    """
    options = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    return subprocess.Popen(
        [
            program.path, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", _LONGEST_ANSWER,
            "-s", str(_SCRIPT), *options, url, "--", str(paths or ""), str(number), body, cache, post,
        ],
        env=program.variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def result(running: "subprocess.Popen[str]") -> Load:
    """Wait for the end.

    Raises:
        EnvironmentFault: it failed.
    """
    output, errors = running.communicate()
    if running.returncode:
        raise EnvironmentFault(f"wrk failed: {(errors or output).strip()[-200:]}")
    said = json.loads(output.strip().splitlines()[-1])
    return Load(
        requests=said["requests"],
        seconds=said["microseconds"] / 1e6,
        bytes=said["bytes"],
        p50=said["p50"] / 1e3,
        p99=said["p99"] / 1e3,
        longest=said["max"] / 1e3,
        wrong=said["wrong"],
        refused=said["refused"],
        broken=said["broken"],
    )


def write_paths(file: Path, paths: Sequence[str]) -> Path:
    """The file that `start` takes."""
    file.write_text("\n".join(paths) + "\n")
    return file
