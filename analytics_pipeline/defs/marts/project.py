"""The dbt project: where it is, and its manifest, which is made when it is missing.

Belongs here: finding and parsing the project. Does not belong here: running it (`assets`).
"""

import hashlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from dagster_dbt import DbtCliResource, DbtProject

from analytics_pipeline.settings import project_file, settings

_SOURCES = (".sql", ".yml")


def dbt_project() -> DbtProject:
    """The project, with a manifest that fits its files.

    The manifest stands in the state folder, under a hash of the project's files, so that it never is out of date and
    is made once (2 s, without any service). The project's own folder is never written to: it may be part of an
    installed package.
    """
    folder = project_file("dbt_models")
    target = settings().local_stack.state_folder.absolute() / "dbt" / _fingerprint(folder)
    project = DbtProject(project_dir=folder, target_path=target, profiles_dir=folder)
    if not project.manifest_path.exists():
        # Whole or not at all, the manifest last: it is not made again where there is one.
        target.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix="parsing-") as folder_of_this:
            fresh = Path(folder_of_this)
            dbt_client(project).cli(["parse", "--quiet"], target_path=fresh).wait()
            manifest = project.manifest_path.name
            for path in sorted(fresh.iterdir(), key=lambda one: one.name == manifest):
                path.replace(target / path.name)
    return project


def dbt_client(project: DbtProject) -> DbtCliResource:
    """dbt of this program's own environment, whatever PATH says."""
    return DbtCliResource(project_dir=project, dbt_executable=str(Path(sys.executable).with_name("dbt")))


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SOURCES and path.relative_to(folder).parts[0] not in {"target", "logs"}:
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
