"""Links and headings of a page in Markdown, as the site and the repository's own view make them.

Belongs here: reading pages. Does not belong here: what must hold of them (the tests).
"""

import re

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.MULTILINE)


def links_of(page: str) -> list[str]:
    """Targets of all links and pictures, those in code aside."""
    return _LINK.findall(_CODE.sub("``", _FENCE.sub("", page)))


def anchors_of(page: str) -> set[str]:
    """What can follow `#`: headings in small letters, without signs, with hyphens for spaces."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-"))
    return found
