"""`/docs`: what the descriptions say, as HTML."""

import re
from typing import Any

from analytics_pipeline.settings import Settings
from api.app import create_app
from api.page import render

APP: Any = create_app(Settings()).app  # type: ignore[attr-defined]
PAGE = render(APP.openapi(), "http://127.0.0.1:9097")


def test_backticks_of_descriptions_are_code() -> None:
    assert "<code>[start, end)</code>" in PAGE
    assert "<code>auto</code>: the finest" in PAGE
    assert "`" not in re.sub(r"<pre>.*?</pre>", "", PAGE, flags=re.DOTALL)


def test_code_in_a_description_is_text_still() -> None:
    document = {
        "info": {"title": "T", "version": "1", "description": "`<b>` & <i>\n\nmore"},
        "paths": {},
    }
    assert "<p><code>&lt;b&gt;</code> &amp; &lt;i&gt;</p><p>more</p>" in render(document, "")


def test_links_can_be_read_in_light_and_dark() -> None:
    light, dark = PAGE.split("prefers-color-scheme:dark")
    assert "a{color:" in light
    assert "a{color:" in dark.split("</style>")[0]


def test_it_says_in_which_zone_days_begin() -> None:
    assert "in the zone that <code>time_zone</code> names" in PAGE
