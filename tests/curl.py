"""As much of curl as the documents use, for machines without it: `-s -i -X -H -d URL`. Knows nothing of Parley."""

import argparse
import sys
from http.client import HTTPConnection
from urllib.parse import urlsplit


def main(arguments: list[str]) -> None:
    """Make one request and print what came."""
    parser = argparse.ArgumentParser(prog="curl", allow_abbrev=False)
    parser.add_argument("url")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-i", action="store_true")
    parser.add_argument("-X", default=None)
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d", default=None)
    given = parser.parse_args(arguments)
    url = urlsplit(str(given.url))
    connection = HTTPConnection(url.hostname or "", url.port, timeout=20)
    headers = {"accept": "*/*"} | ({"content-type": "application/x-www-form-urlencoded"} if given.d is not None else {})
    for header in given.H:
        name, _, value = header.partition(":")
        headers[name.strip().lower()] = value.strip()
    method = given.X or ("GET" if given.d is None else "POST")
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    connection.request(method, path, given.d.encode() if given.d is not None else None, headers)
    response = connection.getresponse()
    if given.i:
        headers_shown = "".join(f"{name.lower()}: {value}\n" for name, value in response.getheaders())
        sys.stdout.write(f"HTTP/1.1 {response.status} {response.reason}\n{headers_shown}\n")
    sys.stdout.write(response.read().decode())
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1:])
