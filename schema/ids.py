"""Global ids: the one place where they are made and read. To a client they are opaque text."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from functools import lru_cache
from uuid import UUID

import strawberry

from resolvers.refusals import Refusal, not_found

USER, GROUP, MESSAGE, MEMBERSHIP = b"U", b"G", b"M", b"S"
WORDS = {USER: "user", GROUP: "group", MESSAGE: "message", MEMBERSHIP: "membership"}
PARTS = {USER: 1, GROUP: 1, MESSAGE: 1, MEMBERSHIP: 2}
UUID_BYTES = 16
LONGEST = 64
REMEMBERED = 4_096  # ids that clients hand in again and again: those of groups and people


def encode(mark: bytes, *ids: UUID) -> strawberry.ID:
    return strawberry.ID(urlsafe_b64encode(mark + b"".join(each.bytes for each in ids)).rstrip(b"=").decode())


def decode(text: str) -> tuple[bytes, tuple[UUID, ...]] | None:
    """The mark and the uuids of an id that `encode` made, None for any other text."""
    return _decoded(text) if len(text) <= LONGEST else None


@lru_cache(REMEMBERED)
def _decoded(text: str) -> tuple[bytes, tuple[UUID, ...]] | None:
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (NotBase64, ValueError):
        return None
    mark, rest = raw[:1], raw[1:]
    if len(rest) != UUID_BYTES * PARTS.get(mark, -1):
        return None
    ids = tuple(UUID(bytes=rest[start : start + UUID_BYTES]) for start in range(0, len(rest), UUID_BYTES))
    return (mark, ids) if encode(mark, *ids) == text else None


def only(mark: bytes, text: str) -> UUID:
    """The uuid of an id of this kind. Raises NOT_FOUND for any other text: it names nothing."""
    found = decode(text)
    if found is None or found[0] != mark:
        raise refused(mark)
    return found[1][0]


def refused(mark: bytes) -> Refusal:
    return not_found(WORDS[mark])


def user(text: str) -> UUID:
    return only(USER, text)


def group(text: str) -> UUID:
    return only(GROUP, text)


def message(text: str) -> UUID:
    return only(MESSAGE, text)
