"""Kafka's jars: exactly the locked files, or a sentence that says what to do."""

from pathlib import Path

import pytest

from analytics_pipeline.local_stack import jars
from analytics_pipeline.local_stack.jars import JarsUnavailable, install


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two 'jars' as a resolver would find them, and a lock that names them."""
    cache = tmp_path / "cache"
    cache.mkdir()
    files = {name: cache / name for name in ("a.jar", "b.jar")}
    for name, path in files.items():
        path.write_text(name)
    lock = tmp_path / "lock"
    lock.write_text("".join(f"{jars._sha256(path)}  {name}\n" for name, path in files.items()))
    monkeypatch.setattr(jars, "_LOCK", lock)
    monkeypatch.setattr(jars, "_resolve", lambda *, update: dict(files))
    return files


def test_the_folder_holds_exactly_the_locked_jars(tmp_path: Path, found: dict[str, Path]) -> None:
    said: list[str] = []
    install(tmp_path / "jars", said.append)
    assert sorted(path.name for path in (tmp_path / "jars").iterdir()) == ["a.jar", "b.jar"]
    assert len(said) == 1


def test_a_second_start_resolves_nothing(
    tmp_path: Path, found: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "jars", print)
    monkeypatch.setattr(jars, "_resolve", lambda *, update: pytest.fail("resolved again"))
    install(tmp_path / "jars", print)


def test_a_changed_jar_is_refused(tmp_path: Path, found: dict[str, Path]) -> None:
    found["b.jar"].write_text("something else")
    with pytest.raises(JarsUnavailable, match=r"b\.jar is not the file"):
        install(tmp_path / "jars", print)
    assert not (tmp_path / "jars").exists()


def test_a_jar_damaged_after_installing_is_replaced(tmp_path: Path, found: dict[str, Path]) -> None:
    install(tmp_path / "jars", print)
    (tmp_path / "jars" / "a.jar").unlink()
    install(tmp_path / "jars", print)
    assert (tmp_path / "jars" / "a.jar").read_text() == "a.jar"


def test_the_real_lock_is_well_formed() -> None:
    lines = [
        line.split() for line in Path(jars.__file__).with_name("kafka_jars.lock").read_text().splitlines()
    ]
    assert all(len(checksum) == 64 and name.endswith(".jar") for checksum, name in lines)
    artifacts = [name.rpartition("-")[0] for _, name in lines]
    assert len(artifacts) == len(set(artifacts)), "two versions of one artifact"
