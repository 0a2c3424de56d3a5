"""A bot that is made of the recipe."""

from contextlib import aclosing

from tests.clients.gql.parley import ask, follow, over_http, send


# region bot
async def answer_everybody(url: str, token: str, group_id: str, after: str | None = None) -> None:
    """Answer what others say: from now on, or from where it stopped. Ends with what ended the stream."""
    async with over_http(url, token) as session:
        viewer = await ask(session, "Viewer")
        group = await ask(session, "Group", id=group_id)
        async with aclosing(follow(url, token, group_id, after or group["headCursor"])) as events:
            async for event in events:
                message = event["message"]
                if message["sender"]["id"] != viewer["id"]:
                    # The id says what it answers: a bot that stopped in the middle and does it again answers once.
                    await send(session, group_id, f"You said {message['content']}", client_message_id=message["id"])


# endregion
