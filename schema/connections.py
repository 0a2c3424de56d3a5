"""What every page of a list shares: its arguments, and what it says of itself. Knows no SQL."""

from collections.abc import Sequence
from typing import Annotated, Any

import strawberry

from resolvers.pages import Page

First = Annotated[int | None, strawberry.argument(description="Ask for the first so many after `after`: 1 to 100.")]
Last = Annotated[
    int | None,
    strawberry.argument(description="Ask for the last so many before `before`: 1 to 100. Not together with `first`."),
]
After = Annotated[
    str | None, strawberry.argument(description="Only what comes after this cursor of the same connection.")
]
Before = Annotated[
    str | None, strawberry.argument(description="Only what comes before this cursor of the same connection.")
]


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether there is more after this page.")
    has_previous_page: bool = strawberry.field(description="Whether there is more before this page.")
    start_cursor: str | None = strawberry.field(
        description="The cursor of the first edge: hand it back as `before` for the page before."
    )
    end_cursor: str | None = strawberry.field(
        description="The cursor of the last edge: hand it back as `after` for the page after."
    )


def page_info(page: Page[Any], page_cursors: Sequence[str]) -> PageInfo:
    return PageInfo(
        has_next_page=page.has_next,
        has_previous_page=page.has_previous,
        start_cursor=page_cursors[0] if page_cursors else None,
        end_cursor=page_cursors[-1] if page_cursors else None,
    )
