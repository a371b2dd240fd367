"""The jars of Apache Kafka: resolved once by `jgo`, checked against `kafka_jars.lock` (sha256sum format).

Belongs here: getting and verifying them.
After a change of `COORDINATES`, `python -m analytics_pipeline.local_stack.jars` writes the lock anew.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from analytics_pipeline.errors import ConfigurationError, EnvironmentFault
from analytics_pipeline.local_stack.service import Say

COORDINATES = (
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
    "org.apache.kafka:kafka_2.13:4.1.1",
)
"""Each is resolved alone: together, log4j's parent would force its own older kafka-clients on Kafka."""

_LOCK = Path(__file__).with_name("kafka_jars.lock")
_ATTEMPTS = 4


class JarsUnavailable(EnvironmentFault):
    """The jars of Apache Kafka could not be downloaded, or are not the locked ones."""


def install(folder: Path, say: Say) -> None:
    """Fill `folder` with exactly the locked jars; the first time on a machine this downloads about 60 MB.

    Raises:
        JarsUnavailable: no network, or a file that isn't the one in the lock.
        ConfigurationError: the package `jgo` isn't installed.
    """
    lines = [line.split() for line in _LOCK.read_text(encoding="ascii").splitlines()]
    wanted = {name: checksum for checksum, name in lines}
    if folder.exists():
        if not _wrong({path.name: path for path in folder.iterdir()}, wanted):
            return
        shutil.rmtree(folder)
    say("fetching Apache Kafka, about 60 MB, once per machine")
    with _one_at_a_time():
        found = _resolve(update=False)
        if _wrong(found, wanted):
            found = _resolve(update=True)
        wrong = _wrong(found, wanted)
        if wrong:
            raise JarsUnavailable(
                f"the downloaded {', '.join(wrong)} is not the file this release was tested with: remove "
                "the folders of org/apache/kafka in ~/.cache/jgo and ~/.m2/repository and try again"
            )
        # Before the next may resolve: jgo makes the folder in which these lie anew.
        fresh = Path(tempfile.mkdtemp(prefix="jars-", dir=folder.parent))
        for name in wanted:
            _link(found[name], fresh / name)
    fresh.rename(folder)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source.resolve())
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _resolve(*, update: bool) -> dict[str, Path]:
    try:
        import jgo
    except ModuleNotFoundError:
        raise ConfigurationError(
            "the embedded Kafka needs the package jgo: run `make up`, or "
            "`pip install 'b25-analytics[local]'`, or take kafka out of local_stack.embed"
        ) from None
    retrying = Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(multiplier=1, max=10),
        retry=retry_if_exception_type((OSError, RuntimeError)),
        reraise=True,
    )
    found: dict[str, Path] = {}
    try:
        for coordinate in COORDINATES:
            built = retrying(jgo.build, coordinate, update=update)
            # jgo sorts modular jars out; on a plain class path both kinds are needed
            found |= {path.name: path for path in map(Path, [*built.classpath, *built.module_path_jars])}
    except (OSError, RuntimeError, ValueError) as error:
        raise JarsUnavailable(
            f"the jars of Apache Kafka could not be downloaded from Maven Central after {_ATTEMPTS} tries "
            f"({type(error).__name__}): check the network or proxy and start again"
        ) from error
    return found


def _wrong(found: dict[str, Path], wanted: dict[str, str]) -> list[str]:
    return [
        name for name, checksum in wanted.items() if name not in found or _sha256(found[name]) != checksum
    ]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """jgo does not lock its cache: two first starts at once would read each other's half-written files."""
    path = Path(tempfile.gettempdir()) / f"b25-analytics-jars-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_lock() -> None:
    found = _resolve(update=True)
    _LOCK.write_text(
        "".join(f"{_sha256(path)}  {name}\n" for name, path in sorted(found.items())), encoding="ascii"
    )


if __name__ == "__main__":
    _write_lock()
