"""The stage a fault is played on: a scripted API server that fails on demand, a real agent, one who never stops asking.

Law: the stage asks before, during and after: an answer that is wrong for a moment is as wrong as one that stays.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from benchmarks.cluster_generator import Spec, objects
from tests import witness
from tests.agent_process import Agent
from tests.control_plane.dns_client import Question, addresses, ask_many
from tests.control_plane.processes import wait_until
from tests.e2e.dig import Dig
from tests.e2e.right_answers import TRUNCATED, Rightful, answered_rdata, right_answers, wrong_answers
from tests.scripted_api import ScriptedApi, service

SPEC = Spec(services=60, endpoints=700, namespaces=8)
WEB, WEB_ADDRESS = "web.shop.svc.cluster.local", "10.96.10.80"
HASTY = (sys.executable, "-m", "tests.faults.hasty")
PYTHON = {"NODENS_NO_EXT": "1"}
_T = TypeVar("_T")


class Api:
    """The scripted API server on a loop of its own, so that a test may wait; a context manager.

    Args:
        folder: see `ScriptedApi`: TLS, with certificates in this folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.script = ScriptedApi(folder=folder, bookmark_s=0.4)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted API server")

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def do(self, what: Callable[[ScriptedApi], _T]) -> _T:
        """Do something to the server on its own loop."""

        async def on_loop() -> _T:
            return what(self.script)

        return self._wait(on_loop())

    def start(self) -> None:
        self._wait(self.script.start())

    def stop(self) -> None:
        self._wait(self.script.stop())

    def restart(self) -> None:
        self._wait(self.script.restart())


class Asking:
    """Asks what is alive, without a pause, from a thread of its own; a context manager.

    Attributes:
        answers: how many came.
        silence: questions without an answer while nobody had been told to expect that.
        expects_silence: set while the agent is down.
    """

    def __init__(self, port: int, rightful: Rightful, *, pause_s: float = 0.02) -> None:
        self.answers = 0
        self.silence = 0
        self.wrong: Counter[str] = Counter()
        self.expects_silence = False
        self._port = port
        self._rightful = rightful
        self._pause_s = pause_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asking all the time")
        self.trouble: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()
        if exc[0] is None:
            self.check()

    def check(self) -> None:
        """Assert that no answer was wrong, and none missing, so far."""
        assert self.trouble is None, repr(self.trouble)
        assert not self.wrong, self.wrong.most_common(5)
        assert self.silence == 0, f"{self.silence} questions without an answer"
        assert self.answers > 0

    def _run(self) -> None:
        rng = random.Random(7)
        questions = [Question(*each) for each in sorted(self._rightful)]
        try:
            while not self._ended.wait(self._pause_s):
                self._round(rng.sample(questions, min(len(questions), 96)))
        except BaseException as error:
            self.trouble = error
            raise

    def _round(self, batch: list[Question]) -> None:
        may_be_silent = self.expects_silence
        left = set(batch)
        try:
            for question, packet in ask_many(self._port, batch):
                may_be_silent = may_be_silent or self.expects_silence
                left.discard(question)
                if packet:
                    self._judge(question, packet)
                elif not may_be_silent:
                    self.silence += 1
        except ConnectionError:
            # Nobody listens: said by the kernel at once.
            if not (may_be_silent or self.expects_silence):
                self.silence += len(left)

    def _judge(self, question: Question, packet: bytes) -> None:
        if len(packet) > 2 and packet[2] & TRUNCATED:
            return
        self.answers += 1
        answered = answered_rdata(packet, question.type)
        if not witness.NOW.judge(question.name, answered, self._rightful[question.name, question.type]):
            self.wrong[f"{question.name} {question.type}: {sorted(answered)}"] += 1


class Stage:
    """A cluster on a scripted API server, and an agent that follows it and has it on disk; a context manager.

    Args:
        root: folder of everything.
        dig: the program.
        api: started.
        port: where the agent finds the API server, if something stands between.
        spans: of the agent's Kubernetes source that differ from `hasty.SPANS`.
        options: configuration.
        environ: more variables for the agent.
        user: of the kubeconfig.
        launcher: starts the agent in the place of `HASTY`.
    """

    def __init__(
        self,
        root: Path,
        dig: str,
        api: Api,
        *,
        port: int = 0,
        spans: Mapping[str, float] | None = None,
        options: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        user: Mapping[str, str] | None = None,
        launcher: Sequence[str] = HASTY,
    ) -> None:
        self.api = api
        self.rightful = right_answers(objects(SPEC))
        api.do(lambda script: [script.put(value) for value in objects(SPEC)])
        kubeconfig = api.script.kubeconfig(root, **(user or {}))
        if port:
            text = kubeconfig.read_text()
            kubeconfig.write_text(text.replace(f":{api.script.port}", f":{port}"))
        settings = {"kubeconfig": str(kubeconfig), "stale_after": "1s", "log_level": "debug", **(options or {})}
        self.agent = Agent(
            root / "agent",
            "kubernetes",
            settings,
            environ={"HASTY": json.dumps(spans or {}), **(environ or {})},
            launcher=launcher,
        )
        self.ask = Dig(dig, self.agent.port)
        self._changes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.agent.__exit__(*exc)

    def settle(self) -> None:
        """Wait until the agent follows and has written what it holds."""
        self.agent.wait_connected()
        self.agent.wait_state("generation 1 on disk", lambda state: state["snapshot"]["generation_writes"] >= 1)

    def asking(self) -> Asking:
        """Ask all the time."""
        return Asking(self.agent.port, self.rightful)

    def restart(self, asking: Asking | None = None) -> None:
        """Kill the agent, start it, and time its first right answer."""
        if asking is not None:
            asking.expects_silence = True
        self.agent.kill()
        self.agent.start()
        wait_until("the first right answer", lambda: addresses(self.agent.port, WEB) == {WEB_ADDRESS}, every_s=0.005)
        witness.NOW.started(time.monotonic() - self.agent.child.started_s)
        if asking is not None:
            asking.expects_silence = False

    def all_right(self) -> None:
        """Assert that every name answers as it must, asked one by one, over TCP what UDP can't hold."""
        assert wrong_answers(self.agent.port, self.rightful) == {}

    def sees_lost(self, told: str) -> None:
        """Assert that anybody who looks sees the source lost, and why: status, metric, readiness, dig."""
        state = self.agent.wait_state(
            told,
            lambda state: not state["source"]["connected"] and re.search(told, state["source"]["last_error"]),
            timeout_s=20,
        )
        assert state["ready"], "an agent that can answer never withdraws (Meta 2021-10)"
        assert self.agent.get("/readyz")[0] == 200
        assert self.agent.metric("nodens_source_connected") == 0
        stale = wait_until("a stale answer", lambda: (said := self.ask(WEB)).extended_error and said)
        assert (stale.status, stale.rdata) == ("NOERROR", {WEB_ADDRESS})
        assert re.fullmatch(r"3 \(Stale Answer\): \(age=\d+s generation=\d+\)", stale.extended_error)
        assert self.agent.state()["state"] == "stale"
        assert self.agent.metric('nodens_answers_total{freshness="stale"}') >= 1
        witness.NOW.saw("stale: EDE 3, status, metrics", state["source"]["last_error"][:90])

    def follows(self, timeout_s: float = 20) -> None:
        """Change something at the source and wait for it by dig; then answers are fresh."""
        self._changes += 1
        name, ip = f"later-{self._changes}", f"10.96.200.{self._changes}"
        self.api.do(lambda script: script.put(service("shop", name, ip)))
        wait_until(
            f"a change (log: {self.agent.log})",
            lambda: self.ask(f"{name}.shop.svc.cluster.local").rdata == {ip},
            timeout_s=timeout_s,
        )
        wait_until("a fresh answer", lambda: self.ask(WEB).extended_error == "", timeout_s=timeout_s)
        self.agent.wait_state("fresh", lambda state: state["state"] == "fresh" and state["source"]["connected"])
