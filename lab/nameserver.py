"""A name server that knows no name, and says so at once.

The nodes have no way out, so the names that an engine does not know would be asked of nobody: a
lookup would hang for 20 s where a real Swarm's fails at once. Runs by itself, as a script.
"""

import socket
import sys

_HEADER = 12  # bytes
_NO_SUCH_NAME = b"\x81\x83"  # an answer, recursion desired, NXDOMAIN


def answer(query: bytes) -> bytes:
    """The refusal of a DNS query: its number, its question, and that there is no such name."""
    end = _HEADER
    while query[end]:
        end += query[end] + 1
    question = query[_HEADER : end + 5]  # the empty label, type and class
    return query[:2] + _NO_SUCH_NAME + b"\0\1" + bytes(6) + question


def serve(address: str) -> None:
    """Answer on UDP port 53 for ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        while True:
            query, client = server.recvfrom(4096)
            try:
                server.sendto(answer(query), client)
            except (IndexError, OSError) as error:
                print(f"{client}: {error!r}", file=sys.stderr)


if __name__ == "__main__":
    serve(sys.argv[1])
