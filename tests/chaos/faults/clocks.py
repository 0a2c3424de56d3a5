"""What happens to the clocks of nodes: nothing that a client sees is ordered by them."""

from tests.chaos.faults import Fault
from tests.chaos.scene import Scene, Talk

HOUR = 3_600.0


def moved(*hours: float) -> Fault:
    """The clock of the last node is so many hours away from the others, one after the other, and then right again."""

    async def fault(scene: Scene, talk: Talk) -> None:
        scene.strike(f"a clock is moved by {hours} hours")
        for each in hours:
            await scene.rig.nodes[-1].tell(clock_seconds=each * HOUR)
            await talk.flow(4)
        await scene.rig.nodes[-1].tell(clock_seconds=0)
        scene.evidence.append("the node said that it goes by another clock")
        scene.heal()

    return fault
