"""What is done to a running system, by what it is done to. Each fault says that it begins, shows that it happened, and
says when it is over; people talk meanwhile.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from tests.chaos.scene import Body, Scene, Talk

Fault: TypeAlias = Callable[[Scene, Talk], Coroutine[Any, Any, None]]

BEFORE = AFTER = 8  # events on each stream


def under(fault: Fault, *, nested: bool = False) -> Body:
    """The scenario of one fault: people talk, it happens, people talk on."""

    async def body(scene: Scene) -> None:
        async with scene.talk(nested=nested) as talk:
            await talk.flow(BEFORE)
            await fault(scene, talk)
            await talk.flow(AFTER)

    return body
