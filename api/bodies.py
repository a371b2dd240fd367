"""Which requests that write are read at all: where a browser sent them from, how they are packed, how long they are.

Belongs here: refusing by headers. Does not belong here: counting what streams in (`edge`), reading it (the features).
"""

from collections.abc import Mapping

from analytics_pipeline.settings import Settings
from api.errors import HttpProblem, Problem, TooLarge
from api.principal import Principal

_PLAIN = frozenset({b"identity"})
_PACKED = frozenset({b"identity", b"gzip", b"x-gzip"})


class Bodies:
    """The rules of one application."""

    def __init__(self, settings: Settings) -> None:
        self.most_bytes = settings.server.max_body_size
        self._origins = frozenset(settings.security.cors.allowed_origins)

    def refusal(
        self, headers: Mapping[bytes, bytes], principal: Principal, *, may_be_packed: bool
    ) -> Problem | None:
        """Why a request with a body is not even read, if so."""
        origin = headers.get(b"origin")
        # A page that knows a key may use it where all origins may read; whoever needs none is protected from pages.
        is_trusted = "*" in self._origins and principal.key_id is not None and principal.csrf is None
        if origin is not None and not is_trusted and not self._is_same_site(origin, headers):
            return HttpProblem(
                403,
                "cross-site",
                "Forbidden",
                "A browser sent this from another site; see security.cors.allowed_origins.",
            )
        encoding = headers.get(b"content-encoding", b"")
        if encoding and encoding.lower() not in (_PACKED if may_be_packed else _PLAIN):
            advice = (
                "Send the body uncompressed or with gzip." if may_be_packed else "Send the body uncompressed."
            )
            return HttpProblem(415, "unsupported-encoding", "Unsupported content encoding", advice)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > self.most_bytes:
            return self.too_large()
        return None

    def too_large(self) -> TooLarge:
        """The answer to a body that is too long."""
        return TooLarge(f"The body is longer than {self.most_bytes} bytes (server.max_body_size).")

    def _is_same_site(self, origin: bytes, headers: Mapping[bytes, bytes]) -> bool:
        text = origin.decode("latin-1")
        host = headers.get(b"host", b"").decode("latin-1")
        return text in self._origins or text.partition("://")[2] == host
