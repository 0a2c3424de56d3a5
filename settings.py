"""Every setting of a Parley process, read from the environment once. Knows nothing of the rooms."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Positive = Annotated[int, Field(gt=0)]
MOST_SEEN_BY = 100  # people at one message, in a list without pages

ORIGIN = re.compile(r"https?://[^/?#\s]+/?", re.IGNORECASE)
POSTGRES_PREFIXES = ("postgresql+asyncpg://", "postgresql://", "postgres://")


class Settings(BaseSettings):
    """The settings of one process; the environment variable of a field is its name in capitals.

    `docs/operations.md` lists them; a test compares that list with this class.
    """

    model_config = SettingsConfigDict(env_file=None, extra="forbid", frozen=True)

    database_url: str = Field(
        default="sqlite+aiosqlite:///parley.db", description="SQLite file or PostgreSQL database."
    )
    broadcast_url: str = Field(
        default="memory://", description="What carries hints between processes: memory://, redis:// or postgresql://."
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] | None = Field(
        default=None,
        description="Origins whose pages may call the API and open sockets, separated by commas; * for any. "
        "Default: every loopback origin while bound to loopback, else only the own origin.",
    )
    graphiql: Literal["on", "off"] = Field(default="on", description="Whether GET /graphql shows GraphiQL.")
    log_format: Literal["json", "console"] = Field(default="json", description="How log lines look.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged."
    )

    token_days: Positive = Field(default=30, description="Days until a token expires.")
    max_tokens_per_user: Positive = Field(
        default=100, description="Log-ins of one user; a further one ends the oldest."
    )
    argon2_time_cost: Positive = Field(default=2, description="Argon2id passes over the memory.")
    argon2_memory_kib: Annotated[int, Field(ge=8)] = Field(
        default=19_456, description="Argon2id memory in KiB (OWASP: 19 MiB)."
    )
    argon2_threads: Positive = Field(default=2, description="How many passwords are hashed at once; others wait.")
    argon2_waiting: Positive = Field(
        default=64, description="How many hashes may wait; one more is SERVICE_UNAVAILABLE."
    )

    max_groups_per_user: Positive = Field(default=1_000, description="Groups that one user can be a member of.")
    max_invitations_per_user: Positive = Field(default=100, description="Open invitations that one user can have.")
    max_members_per_group: Positive = Field(default=10_000, description="Members that one group can have.")

    message_edit_seconds: Annotated[int, Field(ge=0)] = Field(
        default=0, description="How long senders can edit and delete their messages; 0: for ever."
    )

    seen_by_members: Annotated[int, Field(ge=0, le=MOST_SEEN_BY)] = Field(
        default=100,
        description="Members that a group can have and still tell who has seen a message, at most 100; 0: never.",
    )

    max_body_bytes: Positive = Field(default=256 * 1024, description="The largest HTTP body.")
    max_frame_bytes: Positive = Field(default=64 * 1024, description="The largest WebSocket message from a client.")
    max_sockets: Positive = Field(
        default=20_000, description="Open sockets of one process; one more is closed with 1013."
    )
    max_operations_per_socket: Positive = Field(default=100, description="Operations that run at once on one socket.")
    max_waiting_events: Positive = Field(
        default=1_000, description="Events that may wait for one slow subscriber before 1013."
    )
    connection_init_seconds: Positive = Field(
        default=10, description="How long a socket may wait before connection_init."
    )

    ping_seconds: Annotated[float, Field(gt=0)] = Field(
        default=25.0, description="How long a socket may be silent before it is sent a ping."
    )
    pong_seconds: Annotated[float, Field(gt=0)] = Field(
        default=20.0, description="How long a socket may be silent after a ping before it is closed with 1013."
    )

    head_check_seconds: Annotated[float, Field(gt=0)] = Field(
        default=5.0, description="How often the heads of followed logs are checked."
    )
    database_pool_size: Positive = Field(default=10, description="Connections of one process to PostgreSQL.")
    database_wait_seconds: Annotated[float, Field(gt=0)] = Field(
        default=5.0, description="How long a request waits for a connection or a lock before SERVICE_UNAVAILABLE."
    )
    shutdown_seconds: Positive = Field(default=10, description="How long a stopping server waits for its requests.")

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if all(origin == "*" or ORIGIN.fullmatch(origin) for origin in origins or ()):
            return origins
        raise ValueError("must be origins like https://chat.example.com, separated by commas, or *")

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        """`postgres://` and `postgresql://` mean asyncpg, `sqlite://` means aiosqlite."""
        for prefix in POSTGRES_PREFIXES:
            if url.startswith(prefix):
                # libpq calls it sslmode, asyncpg ssl; hosted databases hand out the former.
                return "postgresql+asyncpg://" + re.sub(r"([?&])sslmode=", r"\1ssl=", url.removeprefix(prefix))
        if url.startswith(("sqlite://", "sqlite+aiosqlite://")):
            return "sqlite+aiosqlite://" + url.split("://", 1)[1]
        raise ValueError("must begin with sqlite:// or postgresql://")

    @field_validator("broadcast_url")
    @classmethod
    def _known_broadcast(cls, url: str) -> str:
        """Whatever names a PostgreSQL in DATABASE_URL names it here as well."""
        if url.startswith(("memory://", "redis://", "rediss://")):
            return url
        if url.startswith(POSTGRES_PREFIXES):
            return "postgresql://" + url.split("://", 1)[1]
        raise ValueError("must begin with memory://, redis:// or postgresql://")

    @property
    def is_sqlite(self) -> bool:
        return self.database_url.startswith("sqlite")
