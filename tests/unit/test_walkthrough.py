"""Pages that are performed: what of a printed text must be as the page shows it, and how blocks are found."""

import pytest

from tests.walkthrough import Walk, blocks, is_shown

PAGE = """\
# Title

## First

<!-- fails -->
```sh
false
```

```text
one 1
…
```

## Second

<!-- change a.py -->
```diff
 kept
-before
+after
```
"""


def test_blocks_come_in_order_with_heading_and_comment() -> None:
    assert [(one.title, one.kind, one.marker, one.line) for one in blocks(PAGE)] == [
        ("First", "sh", "fails", 6),
        ("First", "text", "", 10),
        ("Second", "diff", "change a.py", 18),
    ]


@pytest.mark.parametrize(
    ("shown", "printed", "is_right"),
    [
        ("4 hours, 6,482 events", "31 hours, 7 events", True),
        ("+1,296,999.56 e 2026-05-15T13:00Z", "+1.2e+09 e 2026-11-28T09:15Z", True),
        ("id   c283dd9c1ead3999", "id  0f1e2d3c4b5a6978 ", True),
        ("first\n…\nlast", "first\nand\nmore\nlast", True),
        ("first\n…\nlast", "first\nand\nlast\nmore", False),
        ("4 hours", "4 days", False),
        ("only this", "only this\nand that", False),
        ("a (b)", "a b", False),
    ],
)
def test_words_must_be_as_shown_and_numbers_may_differ(shown: str, printed: str, is_right: bool) -> None:
    assert is_shown(shown, printed) is is_right


def test_blocks_are_performed_and_what_does_not_fit_is_refused(tmp_path) -> None:
    (tmp_path / "a.py").write_text("kept\nbefore\n")
    walk = Walk(tmp_path, {"PATH": "/usr/bin:/bin"}, "http://127.0.0.1:1")
    fails, text, change = blocks(PAGE)
    walk.perform(fails)
    with pytest.raises(AssertionError, match="line 10 shows what is not printed"):
        walk.perform(text)
    walk.perform(change)
    assert (tmp_path / "a.py").read_text() == "kept\nafter\n"
    with pytest.raises(AssertionError, match="0 places"):
        walk.perform(change)
    [unknown] = blocks("```yaml\na: 1\n```\n")
    with pytest.raises(AssertionError, match="line 1: nobody knows"):
        walk.perform(unknown)
    [before] = blocks("<!-- done before -->\n```sh\nfalse\n```\n")
    walk.perform(before)
    [succeeds] = blocks("<!-- fails -->\n```sh\ntrue\n```\n")
    with pytest.raises(AssertionError):
        walk.perform(succeeds)
