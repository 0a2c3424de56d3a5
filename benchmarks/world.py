"""`bench-world`: groups of which the same users are all members, made over HTTP on a running server.

Writes their ids and tokens, one a line, for load generators. Needs nothing but the standard library.
"""

import argparse
import http.client
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REGISTER = "mutation Register($input: RegisterInput!) { register(input: $input) { token viewer { id } } }"
CREATE_GROUP = "mutation CreateGroup($input: CreateGroupInput!) { createGroup(input: $input) { group { id } } }"
SECONDS = 30


class Api:
    """One connection to the server; an answer with errors is a failure."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=SECONDS)

    def ask(self, query: str, token: str | None = None, **input: Any) -> Any:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        body = json.dumps({"query": query, "variables": {"input": input}})
        self._connection.request("POST", "/graphql", body, headers)
        answer = json.load(self._connection.getresponse())
        if "errors" in answer:
            raise SystemExit(f"bench-world: {answer['errors'][0]['message']}")
        return answer["data"]


def make(api: Api, users: int, groups: int) -> tuple[list[str], list[str]]:
    """The ids of the groups, and the tokens of the users who are members of all of them."""
    name, ids, tokens = secrets.token_hex(4), list[str](), list[str]()
    for number in range(users):
        someone = {"username": f"bench_{name}_{number}", "password": secrets.token_urlsafe(16)}
        done = api.ask(REGISTER, **someone, firstName="Bench", lastName=str(number))["register"]
        ids.append(done["viewer"]["id"])
        tokens.append(done["token"])
    made = [
        api.ask(CREATE_GROUP, tokens[0], name=f"Bench {number}", memberIds=ids[1:])["createGroup"]["group"]["id"]
        for number in range(groups)
    ]
    return made, tokens


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench-world", description="Make groups of the same members on a server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8_000)
    parser.add_argument("--users", type=int, default=50, help="how many users, all members of every group")
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--groups-out", type=Path, required=True, help="the file for the ids of the groups")
    parser.add_argument("--tokens-out", type=Path, required=True, help="the file for the tokens of the users")
    given = parser.parse_args(arguments)
    groups, tokens = make(Api(given.host, given.port), given.users, given.groups)
    given.groups_out.write_text("".join(f"{each}\n" for each in groups))
    given.tokens_out.write_text("".join(f"{each}\n" for each in tokens))


if __name__ == "__main__":
    main()
