"""The runner of what documents show: it sees what is wrong, and needs no curl."""

import shutil
from pathlib import Path

import pytest

from tests import transcripts
from tests.harness import Server
from tests.harness.client import ROOT


@pytest.mark.parametrize(
    ("expected", "came"),
    [
        ('{"a": 1}', '{"a": 2}'),
        ('{"a": 1}', '{"a": true}'),
        ('{"a": 1}', '{"a": 1, "b": 2}'),
        ('{"a": 1, "b": 2}', '{"a": 1}'),
        ('["…"]', '["x", "y"]'),
        ('{"a": "x…z"}', '{"a": "xy"}'),
        ('{"a": "<ID>", "b": "<ID>"}', '{"a": "one", "b": "two"}'),
        ('{"a": "one"}', "one"),
    ],
)
def test_the_runner_sees_a_difference(expected: str, came: str) -> None:
    with pytest.raises(transcripts.Differs):
        transcripts.Expectation().json(expected, came)


def test_the_runner_takes_anything_for_dots_and_keeps_what_is_named() -> None:
    expectation = transcripts.Expectation()
    expectation.json('{"a": …, "b": "x…z", "c": "<ID>", "…": …}', '{"a": [1], "b": "xyz", "c": "one", "d": null}')
    assert expectation.filled("$ID and $OTHER") == "one and $OTHER"
    expectation.text("HTTP/1.1 2… …\n…\nlast", "HTTP/1.1 200 OK\na: b\nc: d\nlast")
    with pytest.raises(transcripts.Differs):
        expectation.text("first\nlast", "first\nsecond\nlast")


async def test_the_runner_names_the_line_that_shows_something_else(tmp_path: Path) -> None:
    document = '# Title\n\n```sh\nNAME=world\n```\n\n```sh\necho "\\"hello $NAME\\""\n```\n\n```json\n"hello"\n```\n'
    with pytest.raises(AssertionError, match=r"line 11: .*hello world"):
        await transcripts.run(document, "http://127.0.0.1:1", tmp_path)
    with pytest.raises(AssertionError, match="line 1: exit code 3"):
        await transcripts.run("```sh\n(exit 3)\n```\n", "http://127.0.0.1:1", tmp_path)


async def test_a_machine_without_curl_shows_the_same(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sh", "tr"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(tmp_path))
    document = (ROOT / "docs" / "protocol.md").read_text().split("\n## HTTP\n")[1].split("\n## ")[0]
    assert "curl -s -i" in document
    await transcripts.run(document, server.url, tmp_path)
