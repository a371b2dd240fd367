"""Tables and marked regions of Markdown.

Belongs here: what all pages need. Does not belong here: what a page says.
"""

import re
from collections.abc import Iterable, Iterator

_REGION = "<!-- {name}: made by make docs -->\n"
_END = "<!-- end of {name} -->\n"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Lines of a table."""
    heads = list(heads)
    yield row(heads)
    yield "|" + "---|" * len(heads)
    yield from map(row, rows)


def row(cells: Iterable[str]) -> str:
    """One line of a table; bars in cells are escaped, line breaks become spaces."""
    return "| " + " | ".join(re.sub(r"\s+", " ", cell).strip().replace("|", r"\|") for cell in cells) + " |"


def code(text: str) -> str:
    """As code."""
    return f"`{text}`"


def with_region(page: str, name: str, text: str) -> str:
    """The page with what stands between the marks of `name` replaced; the rest is written by hand.

    Raises:
        LookupError: the page has no such marks.
    """
    start, end = _REGION.format(name=name), _END.format(name=name)
    before, found, rest = page.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise LookupError(f"the page has no line {start.strip()} with {end.strip()} after it")
    return f"{before}{start}{text}{end}{after}"
