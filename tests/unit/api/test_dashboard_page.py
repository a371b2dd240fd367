"""The files of the dashboard page: their addresses, their compressed forms, and that nothing else is served."""

import asyncio
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from hatchling.builders.wheel import WheelBuilder

from analytics_pipeline.settings import Settings, environment
from api.access import Rule, public_prefixes
from api.app import create_app
from api.dashboard_page import assets as dashboard_assets
from api.dashboard_page.assets import PREFIX, Asset, assets

APP = create_app(Settings())
KEYED = create_app(Settings.model_validate({"security": {"api_key_enabled": True}}))
FILES = Path(dashboard_assets.__file__).parent / "files"


def ask(path: str, app: Any = APP, method: str = "GET", **headers: str) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9097") as client:
            given = {
                "accept-encoding": "identity",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            }
            return await client.request(method, path, headers=given)

    return asyncio.run(send())


@pytest.fixture
def fresh() -> Iterator[None]:
    assets.cache_clear()
    yield
    assets.cache_clear()


def test_the_page_is_asked_for_each_time_and_sent_only_if_it_changed() -> None:
    page = ask("/dashboard")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert ask("/dashboard", if_none_match=page.headers["etag"]).status_code == 304
    assert ask("/dashboard", if_none_match=f'"x", W/{page.headers["etag"]}').status_code == 304
    assert ask("/dashboard", if_none_match='"other"').status_code == 200
    assert {ask(path).text for path in ("/dashboard/", "/dashboard/events", "/dashboard/a/b")} == {page.text}
    root = ask("/")
    assert (root.status_code, root.headers["location"]) == (307, "/dashboard")


def test_the_page_has_nothing_inline_and_its_policy_says_so() -> None:
    page = ask("/dashboard")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'; style-src 'self'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"<script[^>]*>([^<]+)", page.text) == []
    assert "<style" not in page.text
    assert not re.search(r"\s(style|on[a-z]+)=", page.text)
    assert re.findall(r'(?:src|href)="(?!/|#)', page.text) == []
    assert "{{" not in page.text


def test_every_file_that_the_page_and_its_modules_name_is_there_and_none_is_left_over() -> None:
    page = ask("/dashboard").text
    named = set(re.findall(rf'="({PREFIX}/[^"]+)"', page))
    [folder] = {path.split("/")[3] for path in named if not path.endswith("plotly.min.js")}
    modules = {path.relative_to(FILES).as_posix(): path.read_text() for path in FILES.rglob("*.js")}
    imported = {
        (FILES / name).parent.joinpath(wanted).resolve().relative_to(FILES).as_posix()
        for name, text in modules.items()
        for wanted in re.findall(r'^(?:import|export) .*?from "(\.[^"]+)";', text, re.MULTILINE | re.DOTALL)
    }
    assert imported <= modules.keys()
    assert modules.keys() - imported == {"main.js", "first_paint.js"}
    expected = {f"{PREFIX}/{folder}/{name}" for name in modules}
    assert named >= expected
    assert {path for path in named if ask(path).status_code != 200} == set()
    assert len(named) == len(assets().files)


@pytest.mark.parametrize("encoding", ["br", "gzip"])
def test_files_are_compressed_once_and_kept_for_good(encoding: str) -> None:
    for name, asset in assets().files.items():
        answer = ask(f"{PREFIX}/{name}", accept_encoding=encoding)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["vary"] == "Accept-Encoding"
        if len(asset.content) < 512:
            assert "content-encoding" not in answer.headers
            continue
        assert answer.headers["content-encoding"] == encoding
        packed = asset.packed(encoding)
        assert packed is asset.packed(encoding)
        codec = {"br": "brotli"}.get(encoding, encoding)
        assert pa.Codec(codec).decompress(packed, len(asset.content), asbytes=True) == asset.content
        assert len(packed) < len(asset.content)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip;q=1.0, br;q=0", "gzip"),
        ("br;q=0.0,gzip;q=0.000", None),
        ("GZIP", "gzip"),
        ("", None),
        ("deflate", None),
    ],
)  # fmt: skip
def test_the_browser_says_which_encoding(accepted: str, encoding: str | None) -> None:
    assert Asset(b"x" * 1000, "text/plain").encoding_for(accepted) == encoding


def test_types_are_those_of_the_files() -> None:
    for name in assets().files:
        kind = ask(f"{PREFIX}/{name}").headers["content-type"]
        assert kind.startswith(
            {"js": "text/javascript", "css": "text/css", "svg": "image/svg"}[name.rpartition(".")[2]]
        )


def test_an_address_changes_with_the_content_and_plotlys_stays(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = assets()
    copied = tmp_path / "files"
    shutil.copytree(FILES, copied)
    changed = copied / "views" / "events.js"
    changed.write_bytes(changed.read_bytes().replace(b"Events", b"Event!", 1))
    monkeypatch.setattr(dashboard_assets, "_FILES", copied)
    assets.cache_clear()
    after = assets()
    assert {name for name in before.files if name in after.files} == {
        name for name in before.files if name.endswith("/plotly.min.js")
    }
    assert before.etag != after.etag


def test_nothing_else_is_served() -> None:
    folder = next(iter(assets().files)).partition("/")[0]
    for path in (
        f"{PREFIX}/", f"{PREFIX}/main.js", f"{PREFIX}/0000000000000000/main.js", f"{PREFIX}/{folder}/index.html",
        f"{PREFIX}/{folder}/..%2Fassets.py", f"{PREFIX}/{folder}/%2e%2e/%2e%2e/assets.py", f"{PREFIX}/%2Fetc%2Fpasswd",
        f"{PREFIX}/{folder}//main.js", f"{PREFIX}/{folder}/main.js%00",
    ):  # fmt: skip
        answer = ask(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert "passwd" not in answer.text
    assert ask(f"{PREFIX}/{folder}/main.js", method="POST").status_code == 405


def test_the_page_is_public_and_nothing_beside_it_is() -> None:
    name = next(iter(assets().files))
    for path in ("/dashboard", "/dashboard/events", f"{PREFIX}/{name}", "/"):
        assert ask(path, KEYED).status_code in {200, 307}
    for path in (
        "/api/v1/dashboard/metrics",
        "/dashboards",
        "/api/v1/events",
        "/api/v1/dead-letters/1",
    ):
        assert ask(path, KEYED).status_code == 401, path


def test_only_public_routes_make_a_beginning_public() -> None:
    rules = {
        ("GET", "/open/{path:path}"): Rule(),
        ("GET", "/open/one/{name}"): Rule(),
        ("GET", "/closed/{path:path}"): Rule("read"),
        ("GET", "/health"): Rule(),
    }
    assert public_prefixes(rules) == ("/open/",)


def test_the_wheel_has_every_file_and_serves_it(tmp_path: Path) -> None:
    [wheel] = WheelBuilder(str(Path(__file__).parents[3])).build(
        directory=str(tmp_path), versions=["standard"]
    )
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    program = "import api; from api.dashboard_page.assets import assets; print(api.__file__, *assets().files)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    )
    place, *files = done.stdout.split()
    assert place.startswith(str(tmp_path))
    assert files == list(assets().files)
