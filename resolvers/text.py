"""What texts may be: lengths in code points, and the characters that no database and no client can carry. Knows nothing
else.
"""

import re
from urllib.parse import urlsplit

from .refusals import bad_input

USERNAME = re.compile(r"[a-z0-9_.-]{3,32}")
ENDS_OF_SENTENCES = "._-"
EVERYBODY = "all"  # who is mentioned by this name
SURROGATES = re.compile("[\ud800-\udfff]")
MAX_GROUP_NAME = 100
MAX_DESCRIPTION = 2_000
MAX_CONTENT = 4_000
MAX_CLIENT_MESSAGE_ID = 64
MAX_EMOJI = 32
MAX_PERSON_NAME = 100
MAX_URL = 2_048
MIN_PASSWORD_BYTES = 8
MAX_PASSWORD_BYTES = 1_024
SHORT_NAME = re.compile(rf"(:?)([a-z0-9_+-]{{1,{MAX_EMOJI}}})\1")
# What emoji are made of, as blocks: those of later versions of Unicode lie in them too, and each node agrees.
SYMBOLS = "©®‼⁉\u20e3\u2100-\u214f\u2190-\u27bf\u2900-\u297f\u2b00-\u2bff〰〽㊗㊙\U0001f000-\U0001fbff"
# Digits of keycaps, joiners, variants, and the tags of flags.
PARTS = "#*0-9\u200d\ufe0e\ufe0f\U000e0020-\U000e007f"
EMOJI = re.compile(f"(?=.*[{SYMBOLS}])[{SYMBOLS}{PARTS}]{{1,{MAX_EMOJI}}}")


def username(value: str) -> str:
    """Lower-cased; 3 to 32 of a-z, 0-9, _, ., -."""
    lowered = value.lower()
    if not USERNAME.fullmatch(lowered):
        raise bad_input("username must be 3 to 32 of the characters a-z, 0-9, _, . and -.", field="username")
    return lowered


def new_username(value: str) -> str:
    """As `username`, and not what `@all` would mention, be it before the end of a sentence."""
    lowered = username(value)
    if lowered.rstrip(ENDS_OF_SENTENCES) == EVERYBODY:
        raise bad_input(
            "username must not be all, with or without _, . or - after it: it means everybody.", field="username"
        )
    return lowered


def password(value: str, field: str) -> str:
    """8 to 1,024 bytes of UTF-8; nothing is trimmed or normalised."""
    _carryable(field, value)
    if not MIN_PASSWORD_BYTES <= len(value.encode()) <= MAX_PASSWORD_BYTES:
        raise bad_input(f"{field} must be {MIN_PASSWORD_BYTES} to {MAX_PASSWORD_BYTES:,} bytes long.", field=field)
    return value


def person_name(field: str, value: str | None) -> str:
    return _trimmed(field, _given(field, value), 1, MAX_PERSON_NAME)


def nickname(value: str | None) -> str | None:
    """Nothing but white space is no nickname."""
    return (_trimmed("nickname", value, 0, MAX_PERSON_NAME) or None) if value is not None else None


def avatar_url(value: str | None) -> str | None:
    """An http(s) address or a path of this site: nothing that a page could run."""
    if value is None:
        return None
    _carryable("avatarUrl", value)
    if len(value) > MAX_URL or not _is_address(value):
        raise bad_input(
            f"avatarUrl must be an http(s) URL or a path that begins with /, up to {MAX_URL:,} characters.",
            field="avatarUrl",
        )
    return value


def _is_address(value: str) -> bool:
    if any(character.isspace() or not character.isprintable() for character in value):
        return False
    if value.startswith("/"):
        return not value.startswith("//")
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def group_name(value: str | None) -> str:
    """1 to 100 code points after trimming."""
    return _trimmed("name", _given("name", value), 1, MAX_GROUP_NAME)


def description(value: str | None) -> str:
    """Up to 2,000 code points."""
    text = _given("description", value)
    _carryable("description", text)
    if len(text) > MAX_DESCRIPTION:
        raise bad_input(f"description must be at most {MAX_DESCRIPTION:,} characters long.", field="description")
    return text


def content(value: str) -> str:
    """1 to 4,000 code points that are not only white space; it comes back byte for byte."""
    _carryable("content", value)
    if not 1 <= len(value) <= MAX_CONTENT or value.isspace():
        raise bad_input(
            f"content must be 1 to {MAX_CONTENT:,} characters long and not only white space.", field="content"
        )
    return value


def emoji(value: str) -> str:
    """An emoji of up to 32 code points, which stays byte for byte, or a short name; `:tada:` is `tada`."""
    if short := SHORT_NAME.fullmatch(value):
        return short[2]
    if not EMOJI.fullmatch(value):
        raise bad_input(
            f"emoji must be an emoji or a short name: 1 to {MAX_EMOJI} of the characters a-z, 0-9, _, + and -.",
            field="emoji",
        )
    return value


def client_message_id(value: str | None) -> str | None:
    if value is None:
        return None
    _carryable("clientMessageId", value)
    if not 1 <= len(value) <= MAX_CLIENT_MESSAGE_ID:
        raise bad_input(
            f"clientMessageId must be 1 to {MAX_CLIENT_MESSAGE_ID} characters long.", field="clientMessageId"
        )
    return value


def is_carryable(value: str) -> bool:
    """Whether PostgreSQL and JSON can carry the text: no NUL, no half of a surrogate pair."""
    return "\x00" not in value and (value.isascii() or not SURROGATES.search(value))


def _carryable(field: str, value: str) -> None:
    if not is_carryable(value):
        raise bad_input(f"{field} must not contain NUL or unpaired surrogates.", field=field)


def _given(field: str, value: str | None) -> str:
    if value is None:
        raise bad_input(f"{field} must not be null: leave it out to keep it as it is.", field=field)
    return value


def _trimmed(field: str, value: str, least: int, most: int) -> str:
    _carryable(field, value)
    trimmed = value.strip()
    if not least <= len(trimmed) <= most:
        raise bad_input(f"{field} must be {least} to {most} characters long after trimming.", field=field)
    return trimmed
