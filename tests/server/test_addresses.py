"""Addresses that loopback has not by itself, link-local ones among them: in a network namespace of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.tables import BUILD

ROOT = Path(__file__).parents[2]
SETUP = (
    "ip link set lo up && ip addr add fe80::7/64 dev lo nodad && ip addr add fd00::5/128 dev lo nodad && "
    "ip addr add 10.7.7.7/32 dev lo && exec "
)
ASKING = """
import asyncio, importlib, socket, sys
from tests.server import tables
from tests.server.tables import query, read, rdatas, responder, short
tables.BUILD[0] = build = sys.argv[1]
loop = asyncio.new_event_loop()
listen, asked, workers = sys.argv[2], sys.argv[3:-1], int(sys.argv[-1])
family, _, _, _, target = socket.getaddrinfo(listen, 0, type=socket.SOCK_DGRAM)[0]
sock = socket.socket(family, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
if family == socket.AF_INET6:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
sock.bind(target)
served = responder(version="nodens 1")
if build == "compiled":
    endpoint = importlib.import_module("agent.server.native").NativeEndpoint([sock], served, loop, workers)
else:
    endpoint = importlib.import_module("agent.server.udp").UdpEndpoint(sock, served, loop)
endpoint.start()
for host in asked:
    for packet in (query(short("web")), query(b"\\x07version\\x04bind\\x00", 16, qclass=3)):
        for _ in range(8):
            family, kind, _, _, where = socket.getaddrinfo(host, sock.getsockname()[1], type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind) as asking:
                asking.connect(where)  # takes nothing from another address
                asking.send(packet)
                asking.setblocking(False)
                reply = loop.run_until_complete(asyncio.wait_for(loop.sock_recv(asking, 4096), 5))
                assert read(reply).answer, host
if build == "compiled":
    print([sum(worker.counts()["responses"]) > 0 for worker in endpoint._workers])
endpoint.close()
loop.close()
print("answered")
"""


def ask(listen: str, *asked: str, workers: int = 1) -> str:
    """Serve and ask in a namespace; gives what was printed."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("no unshare or ip here (apt-get install util-linux iproute2)")
    command = [sys.executable, "-c", ASKING, BUILD[0], listen, *asked, str(workers)]
    namespace = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", SETUP + '"$@"', "sh"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace may be made here")
    done = subprocess.run([*namespace, *command], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("listen", "asked"),
    [
        ("::", ("::1", "fd00::5", "fe80::7%lo")),
        ("0.0.0.0", ("127.0.0.1", "127.0.0.9", "10.7.7.7")),
        ("fe80::7%lo", ("fe80::7%lo",)),
        ("fd00::5", ("fd00::5",)),
    ],
)
def test_a_reply_leaves_from_the_address_that_was_asked(listen: str, asked: tuple[str, ...]):
    assert ask(listen, *asked).endswith("answered\n")


@pytest.mark.parametrize("listen", ["fe80::7%lo", "::"])
def test_two_workers_share_an_address_that_needs_its_interface(build: str, listen: str):
    if build != "compiled":
        pytest.skip("asyncio has one socket for each address")
    assert ask(listen, "fe80::7%lo", "fe80::7%lo", workers=2) == "[True, True]\nanswered\n"
