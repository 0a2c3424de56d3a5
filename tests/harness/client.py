"""GraphQL over HTTP as any client speaks it, with the documents of `graphql/operations/`. Knows no Python of Parley."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import httpx2

JsonValue: TypeAlias = Any  # the document says what; a test that is wrong about it fails
Json: TypeAlias = dict[str, JsonValue]

ROOT = Path(__file__).resolve().parents[2]


@cache
def operation(name: str) -> str:
    """The document of one operation of the contract: `SendGroupMessage`, `Group`, `GroupMessages`."""
    return (ROOT / "graphql" / "operations" / f"{name}.graphql").read_text(encoding="utf-8")


class GraphQLFailure(Exception):
    """An answer with errors. `data` is what came beside them."""

    def __init__(self, errors: list[Json], data: Json | None = None) -> None:
        super().__init__("; ".join(f"{error.get('message')} {error.get('extensions', '')}" for error in errors))
        self.errors = errors
        self.data = data

    @property
    def extensions(self) -> Json:
        """Those of the first error."""
        return self.errors[0].get("extensions") or {}

    @property
    def code(self) -> str | None:
        """`extensions.code` of the first error."""
        return self.extensions.get("code")


def whole(result: Mapping[str, Any]) -> Json:
    """The data of a GraphQL result. Raises GraphQLFailure when it has errors."""
    if errors := result.get("errors"):
        raise GraphQLFailure(errors, result.get("data"))
    return result["data"]


def only(data: Json) -> JsonValue:
    """The value of the one root field."""
    (value,) = data.values()
    return value


class Client:
    """One caller of one server. `token` is sent with every request and may be changed."""

    def __init__(self, http: httpx2.AsyncClient, url: str, token: str | None = None) -> None:
        self.token = token
        self._http = http
        self._url = url

    async def run(self, name: str, **variables: Any) -> JsonValue:
        """Run the operation of that name; its one root field, or GraphQLFailure."""
        return only(await self.execute(operation(name), variables))

    async def execute(
        self, document: str, variables: Mapping[str, Any] | None = None, operation: str | None = None
    ) -> Json:
        """Run a document; its data, or GraphQLFailure when the answer has errors."""
        response = await self.raw(document, variables, operation)
        try:
            result: Json = response.json()
        except ValueError:
            raise AssertionError(f"no JSON but {response.status_code}: {response.text[:500]}") from None
        return whole(result)

    async def raw(
        self,
        document: str,
        variables: Mapping[str, Any] | None = None,
        operation: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """Run a document; the response as it came."""
        body: Json = {"query": document, "variables": variables, "operationName": operation}
        sent = {key: value for key, value in body.items() if value is not None}
        return await self._http.post(self._url, json=sent, headers={**self._authorization(), **(headers or {})})

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token is not None else {}
