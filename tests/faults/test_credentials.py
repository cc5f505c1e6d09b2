"""Tokens that are rotated, certificates that run out: read anew, said in words, and answers go on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import scripted_api, witness
from tests.control_plane.processes import wait_until
from tests.faults.stage import Api, Stage
from tests.faults.test_api_server import meets
from tests.faults.wall_clock import DAY_S, WallClock

Start = Callable[..., Stage]
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates with")


@meets
def test_token_rotated_and_the_old_one_refused_with_401(start_stage: Start, api: Api, tmp_path: Path, restarts: bool):
    token = tmp_path / "token"
    token.write_text("first\n")
    api.do(lambda script: script.tokens.add("first"))
    stage = start_stage(user={"tokenFile": str(token)})
    with stage.asking() as asking:
        api.do(lambda script: (script.tokens.clear(), script.tokens.add("second"), script.break_watches()))
        if restarts:
            stage.restart(asking)
        stage.sees_lost("answered 401 .*Check the token")
        stage.all_right()
        token.write_text("second\n")
        stage.follows()
    used = [seen.headers["authorization"] for seen in api.do(lambda script: list(script.seen)) if seen.code == 200]
    assert used[-1] == "Bearer second"


def test_token_rotated_in_time_is_noticed_by_nobody(start_stage: Start, api: Api, tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("first\n")
    api.do(lambda script: script.tokens.update({"first", "second"}))
    stage = start_stage(user={"tokenFile": str(token)}, spans={"credentials_s": 0.5, "grace_s": 5.0})
    with stage.asking():
        token.write_text("second\n")
        wait_until("the credentials to be old", lambda: stage.agent.state()["process"]["uptime_s"] > 1.0)
        api.do(lambda script: (script.tokens.discard("first"), script.end_watches()))
        stage.follows()
    assert 401 not in {seen.code for seen in api.do(lambda script: list(script.seen))}
    assert stage.agent.state()["source"]["last_error"] == ""
    witness.NOW.saw("nothing: no 401, no loss")


class Certificates:
    """The certificates of an API server with TLS, remade to end at a given moment."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "tls"
        self.folder.mkdir()
        self.clock = WallClock(root)
        scripted_api.make_certificates(self.folder)

    def renew(self, left_s: int) -> None:
        """Sign the server's certificate anew; it is good for so many seconds, or ended so many ago."""
        self.clock.set(left_s - DAY_S)
        command = [
            "openssl", "x509", "-req", "-in", "tls.csr", "-out", "tls.crt", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "1", "-extfile", "extensions",
        ]  # fmt: skip
        subprocess.run(command, cwd=self.folder, env=self.clock.environ, check=True, capture_output=True)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[Api]:
    with Api(certificates.folder) as running:
        yield running


@needs_openssl
def test_certificate_of_the_api_server_expires_at_its_restart(
    start_stage: Start, secure: Api, certificates: Certificates
):
    stage = start_stage(api=secure)
    with stage.asking() as asking:
        certificates.renew(-3600)
        secure.stop()
        secure.start()
        stage.sees_lost("TLS with .* fails: .*certificate has expired")
        stage.restart(asking)
        stage.sees_lost("TLS with .* fails: .*certificate has expired")
        stage.all_right()
        certificates.renew(DAY_S)
        secure.stop()
        secure.start()
        stage.follows()


@needs_openssl
@pytest.mark.slow
def test_certificate_of_the_api_server_expires_while_connected(
    start_stage: Start, secure: Api, certificates: Certificates
):
    certificates.renew(25)
    secure.stop()
    secure.start()
    stage = start_stage(api=secure)
    with stage.asking():
        stage.follows()
        wait_until("the end of the certificate", lambda: _has_ended(certificates.folder), timeout_s=40, every_s=0.5)
        stage.follows()
        witness.NOW.saw("nothing while the connection lives")
        secure.do(lambda script: script.break_watches())
        stage.sees_lost("TLS with .* fails: .*certificate has expired")
        stage.all_right()
        certificates.renew(DAY_S)
        secure.stop()
        secure.start()
        stage.follows()


def _has_ended(folder: Path) -> bool:
    command = ["openssl", "x509", "-in", folder / "tls.crt", "-noout", "-checkend", "0"]
    return subprocess.run(command, capture_output=True, check=False).returncode != 0
