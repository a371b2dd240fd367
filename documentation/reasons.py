"""The table of reason codes in `docs/dead-letters.md`."""

from analytics_pipeline.events.reasons import Reason
from documentation.markdown import code, table


def codes() -> str:
    """Markdown, a row for each code."""
    rows = ((code(one.value), one.meaning, one.advice) for one in Reason)
    return "\n".join(table(("reason", "meaning", "what the producer should do"), rows)) + "\n"
