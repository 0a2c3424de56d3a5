"""What every test stands on: servers, clients and people, through the public contract only."""

from tests.harness.client import Client, GraphQLFailure, Json, operation
from tests.harness.servers import Endpoint, Node, Server, as_environment, serving
from tests.harness.sockets import Completed, Socket, SocketClosed, Subscription
from tests.harness.stacks import Stack
from tests.harness.waiting import eventually, no_task_but, running_tasks
from tests.harness.world import Person, World, refused

__all__ = [
    "Client",
    "Completed",
    "Endpoint",
    "GraphQLFailure",
    "Json",
    "Node",
    "Person",
    "Server",
    "Socket",
    "SocketClosed",
    "Stack",
    "Subscription",
    "World",
    "as_environment",
    "eventually",
    "no_task_but",
    "operation",
    "refused",
    "running_tasks",
    "serving",
]
