"""A bare UDP echo in Python: the second best to echo.c, where there is no C compiler.

    python -m benchmarks.echo PORT

Law: nothing is read of a packet, QR is set and it goes back.
"""

from __future__ import annotations

import socket
import sys


def serve(port: int) -> None:
    """Echo on 127.0.0.1 until killed."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("127.0.0.1", port))
        while True:
            packet, client = sock.recvfrom(4096)
            sock.sendto(packet[:2] + bytes((packet[2] | 0x80,)) + packet[3:], client)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
