"""Bodies that are no JSON because of how they were sent, and what to do about it.

Belongs here: the usual mistakes, looked for in what was refused already. Does not belong here: what is wrong with a
text (`analytics_pipeline.events.syntax`), answers (`posting`).
"""

from analytics_pipeline.events.posted import Refused
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.events.syntax import GZIP_MAGIC, WHITE_SPACE, Met, find_flaw
from api.events.body import Headers, Kind, is_gzip

_GZIP = "send Content-Encoding: gzip"
_DOCUMENTS = "send several documents as application/x-ndjson, one a line"
_ONE_LINE = f"{_DOCUMENTS}: curl keeps line breaks with --data-binary, not with -d"


def explained(refused: Refused, kind: Kind, content: bytes, headers: Headers) -> Refused:
    """The same refusal of a body, or of the first of its items, with what the sender probably has to change.

    Args:
        refused: the verdict.
        kind: how the body was meant.
        content: all of it, unpacked.
        headers: of the request.
    """
    hint = _hint(kind, content, headers) if refused.reason is Reason.NOT_JSON else None
    return refused if hint is None else refused._replace(detail=f"{refused.detail}; {hint}")


def _hint(kind: Kind, content: bytes, headers: Headers) -> str | None:
    if content.startswith(GZIP_MAGIC):
        return None if is_gzip(headers) else _GZIP
    lines = content.strip(WHITE_SPACE)
    if lines[:1] not in (b"{", b"[") or (kind == "ndjson" and b"\n" in lines):
        return None
    try:
        text = lines.decode()
        flaw = find_flaw(text)
    except (ValueError, RecursionError):
        return None
    if flaw.met is not Met.MORE or text[flaw.position] not in "{[":
        return None
    before = text[: flaw.position]
    return _DOCUMENTS if "\n" in before[len(before.rstrip()) :] else _ONE_LINE
