"""The story that Parley is for, on one SQLite file and with real processes: nothing that was sent is lost."""

from pathlib import Path

from tests.harness import Node, World
from tests.reading import contents, polled, read, start


async def test_a_reader_resumes_after_the_server_was_killed_and_gets_exactly_what_was_missed(tmp_path: Path) -> None:
    settings = {"DATABASE_URL": f"sqlite:///{tmp_path}/parley.db", "BROADCAST_URL": "memory://"}
    async with Node(settings, tmp_path / "node.log") as node, World(node) as world:
        ada, bob = await world.users("ada", "bob")
        group_id = await world.group(ada, bob)

        # They chat.
        async with node.socket(bob.token) as socket:
            stream = await socket.follow("GroupMessages", groupId=group_id, after=await start(bob, group_id))
            at_ada = await ada.messages(group_id)
            await world.send(ada, group_id, "Do you see this?")
            await world.send(bob, group_id, "I do.")
            assert contents(await read(at_ada, 2)) == ["Do you see this?", "I do."]
            cursor = (await read(stream, 2))[-1]["cursor"]

        # The reader has gone away; the other sends on, and then the server dies.
        sent = [await world.send(ada, group_id, text) for text in ("One.", "Two.", "Three.")]
        first = node.pid
        node.kill()
        await node.start()
        assert node.pid != first

        # The reader comes back with the cursor it had.
        stream = await bob.messages(group_id, cursor)
        missed = await read(stream, 3)
        assert [event["message"] for event in missed] == sent
        assert (await polled(bob, group_id, cursor))["events"] == missed
        await world.send(ada, group_id, "Welcome back!")
        assert contents(await read(stream, 1)) == ["Welcome back!"]
