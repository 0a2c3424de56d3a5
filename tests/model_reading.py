"""What members of a group read, found out by brute force from its whole log: what is unread in it and its threads,
pages around places, the pages of both ends, and events by polling. Knows no Python of Parley.
"""

from collections.abc import Sequence
from datetime import datetime

from tests.harness import GraphQLFailure, Json, Person
from tests.model_groups import whom

PAGE = 3
COUNTS = "readSeq unreadCount mentionCount firstUnread { id }"
OWN_THREAD = "viewerFollows readSeq unreadCount"
OWN = f"""query ($id: ID!, $node: ID!) {{
    node(id: $node) {{ ...Parts }}
    group(id: $id) {{ {COUNTS} messages(first: 100) {{ nodes {{ ...Parts }} }} }} }}
fragment Parts on Message {{
    id seenBy {{ id }} thread {{ {OWN_THREAD} }}
    reactions {{ emoji viewerHasReacted users(first: 5) {{ nodes {{ id }} }} }} }}"""
THREADS = f"""query ($after: String) {{ myThreads(first: 2, after: $after) {{
    nodes {{ id thread {{ {OWN_THREAD} }} }} pageInfo {{ hasNextPage endCursor }} }} }}"""
INBOX = """query ($after: String) { myMentions(first: 3, after: $after) {
    nodes { id } pageInfo { hasNextPage endCursor } } }"""
POLL = """query ($id: ID!, $after: String!, $filter: MessageEventFilter) { group(id: $id) {
    messageEvents(after: $after, first: 3, filter: $filter) { events { seq kind } cursor hasMore } } }"""
READ = f"""query ($id: ID!, $message: ID!, $date: DateTime!) {{
    message(id: $message) {{ id seq }}
    group(id: $id) {{
        firstUnread {{ id }}
        atMessage: messages(around: {{messageId: $message}}, first: {PAGE}) {{ nodes {{ id }} }}
        atDate: messages(around: {{date: $date}}, first: {PAGE}) {{ nodes {{ id }} }}
        atUnread: messages(around: {{firstUnread: true}}, first: {PAGE}) {{ nodes {{ id }} }}
        oldest: messages(first: {PAGE}) {{ nodes {{ id }} pageInfo {{ hasNextPage hasPreviousPage }} }}
        newest: messages(last: {PAGE}) {{ nodes {{ id }} pageInfo {{ hasNextPage hasPreviousPage }} }} }} }}"""


def check_unread(person: Person, messages: Sequence[Json], found: Json) -> None:
    """Above the place up to which the person has read, every message of somebody else that is there, and those of them
    that mention the person.
    """
    left = [
        message
        for message in messages
        if message["seq"] > found["readSeq"] and message["sender"]["id"] != person.id and message["deletedAt"] is None
    ]
    assert found["unreadCount"] == len(left)
    assert found["firstUnread"] == ({"id": left[0]["id"]} if left else None)
    mentioning = [message for message in left if {None, person.id} & set(whom(message))]
    assert found["mentionCount"] == len(mentioning)


def check_threads(person: Person, messages: Sequence[Json], found: Sequence[Json]) -> None:
    """As `check_unread`, of the replies in each thread that the person follows; nothing of other threads."""
    for message, shown in zip(messages, found, strict=True):
        replies = [each for each in messages if each["threadRoot"] == {"id": message["id"]}]
        thread = shown["thread"]
        assert bool(thread) == bool(replies)
        if thread:
            read_seq = thread["readSeq"] if thread["viewerFollows"] else replies[-1]["seq"]
            left = [
                reply
                for reply in replies
                if reply["seq"] > read_seq and reply["sender"]["id"] != person.id and reply["deletedAt"] is None
            ]
            assert thread["unreadCount"] == len(left)


async def shown_to(person: Person, group_id: str, node_id: str) -> tuple[Json | None, Json]:
    """What a node and a group are to the person alone, or GraphQLFailure: then of neither is anything shown."""
    try:
        found = await person.client.execute(OWN, {"id": group_id, "node": node_id})
    except GraphQLFailure as failure:
        if failure.data != {"node": None, "group": None}:
            raise AssertionError(f"shown beside a refusal: {failure.data}") from None
        raise
    return found["node"], found["group"]


async def threads_of(person: Person) -> list[Json]:
    """The threads that the person follows, page by page."""
    found, page = list[Json](), {"hasNextPage": True, "endCursor": None}
    while page["hasNextPage"]:
        got = (await person.client.execute(THREADS, {"after": page["endCursor"]}))["myThreads"]
        found, page = [*found, *got["nodes"]], got["pageInfo"]
    return found


async def check_inbox(person: Person, messages: Sequence[Json]) -> None:
    """These messages of their groups are all that mention the person: page by page, the newest first."""
    found, page = list[str](), {"hasNextPage": True, "endCursor": None}
    while page["hasNextPage"]:
        got = (await person.client.execute(INBOX, {"after": page["endCursor"]}))["myMentions"]
        found, page = [*found, *(message["id"] for message in got["nodes"])], got["pageInfo"]
    newest_first = sorted(messages, key=lambda each: (datetime.fromisoformat(each["createdAt"]), each["seq"]))[::-1]
    assert found == [message["id"] for message in newest_first]


async def polled(person: Person, group_id: str, after: str, only: Json | None) -> list[tuple[str, int]]:
    """Kind and seq of every event after the cursor that the filter shows, page by page."""
    found, more = list[tuple[str, int]](), True
    while more:
        given = {"id": group_id, "after": after, "filter": only}
        page = (await person.client.execute(POLL, given))["group"]["messageEvents"]
        found += [(event["kind"], event["seq"]) for event in page["events"]]
        after, more = page["cursor"], page["hasMore"]
    return found


async def check_pages(person: Person, group_id: str, messages: Sequence[Json]) -> None:
    """Around the message in the middle, its date and the first unread; the oldest and the newest."""
    chosen, all_ids = messages[len(messages) // 2], [message["id"] for message in messages]
    given = {"id": group_id, "message": chosen["id"], "date": chosen["createdAt"]}
    data = await person.client.execute(READ, given)
    assert data["message"] == {"id": chosen["id"], "seq": chosen["seq"]}
    found, first = data["group"], data["group"]["firstUnread"]
    since = next(place for place, message in enumerate(messages) if message["createdAt"] >= chosen["createdAt"])
    places = {
        "atMessage": all_ids.index(chosen["id"]),
        "atDate": since,
        "atUnread": all_ids.index(first["id"]) if first else len(all_ids),
        "oldest": 0,
        "newest": len(all_ids),
    }
    assert {name: [each["id"] for each in found[name]["nodes"]] for name in places} == {
        name: around(all_ids, place) for name, place in places.items()
    }
    is_more = len(all_ids) > PAGE
    assert found["oldest"]["pageInfo"] == {"hasNextPage": is_more, "hasPreviousPage": False}
    assert found["newest"]["pageInfo"] == {"hasNextPage": False, "hasPreviousPage": is_more}


def around(all_ids: list[str], place: int) -> list[str]:
    """Half of a page before the place, and full where that can be."""
    start = max(0, min(place - PAGE // 2, len(all_ids) - PAGE))
    return all_ids[start : start + PAGE]
