"""People of a run who send, and in between edit and delete it and react to it. Know no fault and no checker."""

import random
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.clients import Sender
from tests.chaos.history import SAID, Copy
from tests.chaos.wire import Answer
from tests.harness import Json

COPY = "id version content deletedAt reactions { count }"
EMOJI = "\N{THUMBS UP SIGN}"
EVERY = 5  # one action in so many is a change
OPEN = 8  # messages of its own that it may still change


def _change(name: str) -> str:
    return (
        f"mutation ($input: {name[0].upper()}{name[1:]}Input!) {{ {name}(input: $input) {{ message {{ {COPY} }} }} }}"
    )


DOCUMENTS = {
    "edit": _change("editMessage"),
    "erase": _change("deleteMessage"),
    "react": _change("addReaction"),
    "unreact": _change("removeReaction"),
}


@dataclass
class Own:
    """A message that may be changed once more."""

    id: str
    edits: int = 0
    has_reaction: bool = False


@dataclass
class Author(Sender):
    """Every fifth action is a change to one of its newest messages, which `chance` chooses."""

    chance: random.Random = field(default_factory=random.Random)
    _own: list[Own] = field(default_factory=list[Own])

    async def act(self, number: int) -> bool:
        if number % EVERY != EVERY - 1 or not self._own:
            return await super().act(number)
        own = self.chance.choice(self._own)
        await self._change(own, self.chance.choice(("edit", "erase", "unreact" if own.has_reaction else "react")))
        return True  # a refusal may be about that message alone: the next send says whether it is about the group

    async def _change(self, own: Own, kind: str) -> None:
        """Until it is answered. What had no answer may be done later yet: the message is not changed again, so that
        nothing of that is an event after everybody has left.
        """
        text = f"{own.id} edit {own.edits}"[-SAID:] if kind == "edit" else ""
        given = {"edit": {"content": f"{self.secret} {text}"}, "erase": {}}.get(kind, {"emoji": EMOJI})
        said: dict[str, Any] = {"kind": kind, "key": own.id, "text": text}
        variables = {"input": {"messageId": own.id, **given}}
        answer, unanswered = await self.insist(DOCUMENTS[kind], variables, **said)
        if unanswered or answer.kind != "ok" or kind == "erase":
            self._own.remove(own)
        own.edits += kind == "edit"
        own.has_reaction = kind == "react" or (own.has_reaction and kind != "unreact")

    def shown(self, answer: Answer) -> dict[str, Any]:
        message: Json = answer.value["message"]
        if "seq" in message:
            self._own = [*self._own, Own(message["id"])][-OPEN:]
            return super().shown(answer)
        self.newest = max(self.newest, message["version"])
        return {"seq": message["version"], "copies": (Copy.of(message),)}
