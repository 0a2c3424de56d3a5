"""The long run: two nodes, one fault after the other as the seed says, until so many deliveries were checked."""

import random

from tests.chaos.playing import played
from tests.chaos.report import Report
from tests.chaos.rig import Engines, rigged
from tests.chaos.scenarios import fitting
from tests.chaos.scene import Body, Scene

ROUND_DELIVERIES = 20_000  # a history is checked and forgotten after so many
FOLLOWERS = 12
SENDERS = 4


async def long_run(engines: Engines, deliveries: int, seed: str) -> Report:
    """Rounds on PostgreSQL with Redis; each is a line of the table. Ends early when one finds something."""
    report = Report(-(-deliveries // ROUND_DELIVERIES))
    async with rigged(engines, "redis", 2) as rig:
        while sum(each.delivered for each in report.outcomes) < deliveries and not report.failed:
            name = f"round {len(report.outcomes) + 1}"
            report.begin(name)
            report.add(await played(name, rig, _round(f"{seed} {name}"), f"{seed} {name}"))
    return report


def _round(seed: str) -> Body:
    async def body(scene: Scene) -> None:
        chance, faults = random.Random(seed), fitting("redis", 2)
        async with scene.talk(SENDERS, FOLLOWERS) as talk:
            while sum(each.received for each in talk.followers) < ROUND_DELIVERIES:
                await talk.flow(50)
                await chance.choice(faults)(scene, talk)
                while sum(not each.stopped for each in talk.senders) < SENDERS:
                    talk.send(chance.choice(talk.members[:SENDERS]), len(talk.senders), roams=True)

    return body
