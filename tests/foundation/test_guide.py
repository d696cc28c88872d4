"""Messages point to pages of the guide that there are, in one style."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from xbarsim.foundation.guide import PAGES, Page, see
from xbarsim.foundation.intervals import FewDiesWarning, mean_interval

ROOT = Path(__file__).resolve().parents[2]
STYLE = re.compile(r"; see guide: (docs/[\w/]+\.md)$")


@pytest.mark.parametrize("page", get_args(Page))
def test_every_page_that_a_message_names_is_there_and_some_message_names_it(page: Page) -> None:
    assert (ROOT / PAGES[page]).is_file()
    found = STYLE.search(see(page))
    assert found is not None
    assert found[1] == PAGES[page]
    sources = [path for folder in ("xbarsim", "devices", "mapping") for path in (ROOT / folder).rglob("*.py")]
    assert [
        path for path in sources if re.search(rf"see\([\"']{page}[\"']\)", path.read_text()) and path.name != "guide.py"
    ]


def test_pages_are_listed_once() -> None:
    assert set(PAGES) == set(get_args(Page))
    assert len(set(PAGES.values())) == len(PAGES)


def test_a_message_ends_in_the_page_that_explains_it() -> None:
    with pytest.warns(FewDiesWarning) as caught:
        mean_interval([0.5, 0.6, 0.7])
    assert STYLE.search(str(caught[0].message))


def test_the_page_on_onnx_lists_what_a_file_may_use() -> None:
    from xbarsim.network.onnx import supported_operations

    text = (ROOT / PAGES["onnx"]).read_text().partition("## Which operations")[2]
    assert re.findall(r"`(\w+)`", text) == list(supported_operations())
