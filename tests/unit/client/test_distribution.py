"""The client can be installed by itself; it is the same as in the service's wheel."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]


def project(path: str) -> dict:
    return tomllib.loads((ROOT / path).read_text())["project"]


def test_the_client_alone_has_the_version_and_the_requirements_of_the_whole() -> None:
    alone, whole = project("client/pyproject.toml"), project("pyproject.toml")
    assert alone["version"] == whole["version"]
    extras = whole["optional-dependencies"]
    known = {*whole["dependencies"], *extras["client"], *extras["client-arrow"]}
    for wanted in (alone["dependencies"], *alone["optional-dependencies"].values()):
        assert set(wanted) <= known
