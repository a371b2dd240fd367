"""What the page is made of, under addresses that hold the hash of the content, so that browsers never ask twice.

Belongs here: finding files, hashes, compressed forms. Does not belong here: HTTP (`endpoints`), what the page does (its
files, below `files/`).

The page's own files share one hash and one folder, so its modules import each other by relative names; plotly's script
has its own, so a new release of the page does not fetch it again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import pyarrow as pa

PREFIX = "/dashboard/assets"

_FILES = Path(__file__).parent / "files"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Best first. The level that costs half a second for plotly's 5 MB, once a process and only if a browser asks.
_LEVELS = {"br": ("brotli", 9), "gzip": ("gzip", 9)}
_CLASSIC = "first_paint.js"
"""The one script that is no module: it has to run before the page is drawn."""
_STYLE_MARK = re.compile(rb'getElementById\("([0-9a-f]{64})"\)')
"""Where plotly's script looks whether the style of maps, which the page's policy refuses and nobody needs, is there."""
_WORTH_IT = 512
"""Bytes below which nothing is compressed."""


@dataclass(frozen=True)
class Asset:
    """One file, and its compressed forms once somebody asked for them."""

    content: bytes
    media_type: str
    _packed: dict[str, bytes] = field(default_factory=dict, repr=False)

    def encoding_for(self, accepted: str) -> str | None:
        """The best encoding that an Accept-Encoding header allows; None: as it is."""
        if len(self.content) < _WORTH_IT:
            return None
        offers = [one.strip().lower().partition(";") for one in accepted.split(",")]
        allowed = {name.strip() for name, _, quality in offers if _is_wanted(quality)}
        return next((name for name in _LEVELS if name in allowed), None)

    def packed(self, encoding: str) -> bytes:
        """Its bytes in that encoding, made once."""
        if encoding not in self._packed:
            codec, level = _LEVELS[encoding]
            self._packed[encoding] = pa.Codec(codec, compression_level=level).compress(
                self.content, asbytes=True
            )
        return self._packed[encoding]


@dataclass(frozen=True)
class Assets:
    """All files by their path below `PREFIX`, and the page."""

    files: Mapping[str, Asset]
    page: Asset
    etag: str


def _is_wanted(quality: str) -> bool:
    name, _, value = quality.strip().partition("=")
    return name.strip() != "q" or value.strip().rstrip("0") not in {"", "0", "0."}


@cache
def assets() -> Assets:
    """Everything, read once a process.

    Raises:
        FileNotFoundError: the installation is not whole.
    """
    own = {
        path.relative_to(_FILES).as_posix(): path.read_bytes()
        for path in sorted(_FILES.rglob("*"))
        if path.suffix in _MEDIA_TYPES
    }
    index = own.pop("index.html")
    plotly = _plotly_script().read_bytes()
    folder, plotly_path = _hash(own), f"{_hash({'plotly.min.js': plotly})}/plotly.min.js"
    files = {f"{folder}/{name}": Asset(content, _media_type(name)) for name, content in own.items()}
    files[plotly_path] = Asset(plotly, _MEDIA_TYPES[".js"])
    modules = [name for name in own if name.endswith(".js") and name != _CLASSIC]
    replaced = {
        "{{modules}}": "\n".join(
            f'<link rel="modulepreload" href="{{{{assets}}}}/{name}">' for name in modules
        ),
        "{{styles_by_script}}": "".join(
            f'<meta name="style" id="{mark.decode()}">' for mark in _STYLE_MARK.findall(plotly)
        ),
        "{{assets}}": f"{PREFIX}/{folder}",
        "{{plotly}}": f"{PREFIX}/{plotly_path}",
    }
    text = index.decode()
    for mark, value in replaced.items():
        text = text.replace(mark, value)
    page = text.encode()
    return Assets(files, Asset(page, _MEDIA_TYPES[".html"]), f'"{sha256(page).hexdigest()[:32]}"')


def _media_type(name: str) -> str:
    return _MEDIA_TYPES[PurePosixPath(name).suffix]


def _hash(files: Mapping[str, bytes]) -> str:
    """One text for these names with these contents."""
    digest = sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _plotly_script() -> Path:
    """The script in the installed package, without importing that, which takes long."""
    found = find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("the package plotly is not installed")
    return Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
