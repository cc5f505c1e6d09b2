"""Who the Kubernetes source is and how it gets there: kubeconfig, pod, tokens that rotate, TLS, proxies."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat

import pytest
from blockbuster import blockbuster_ctx

from agent.errors import ConfigError
from agent.sources import kubernetes
from agent.sources.kubernetes import connect
from agent.sources.origin import Origin, detect
from agent.sources.pacing import Timing
from tests.scripted_api import Fault, ScriptedApi, namespace, service
from tests.sources.mirror import PATIENT, QUICK, Mirror, following

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates with")


@pytest.fixture
def mirror():
    return Mirror()


@pytest.fixture
async def api():
    async with ScriptedApi() as server:
        server.put(namespace("shop"))
        server.put(service("shop", "web"))
        yield server


@pytest.fixture
async def secure(tmp_path):
    folder = tmp_path / "tls"
    folder.mkdir()
    async with ScriptedApi(folder=folder) as server:
        server.put(service("shop", "web"))
        yield server


def reasons(mirror: Mirror) -> str:
    return " | ".join(reason for (reason,) in mirror.of("lost"))


# Which origin ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pod(tmp_path):
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text("pod-token")
    return folder


def test_a_pod_comes_first(pod, tmp_path):
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text("{}")
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBECONFIG": str(kubeconfig)}
    found = detect(environ, service_account=pod)
    assert (found.kubeconfig, found.service_account) == ("", pod)
    assert str(found) == "the API servers of this pod's cluster"


def test_a_pod_without_a_token_is_none(tmp_path):
    with pytest.raises(ConfigError):
        detect({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "HOME": str(tmp_path)}, service_account=tmp_path)


def test_then_the_environment_then_the_home_folder(tmp_path):
    own = tmp_path / ".kube" / "config"
    own.parent.mkdir()
    own.write_text("{}")
    named = tmp_path / "named"
    named.write_text("{}")
    environ = {"HOME": str(tmp_path)}
    assert detect(environ, service_account=tmp_path) == Origin(str(own))
    environ["KUBECONFIG"] = f"{tmp_path}/missing:{named}"
    assert detect(environ, service_account=tmp_path).kubeconfig == f"{tmp_path}/missing:{named}"


def test_a_named_kubeconfig_beats_the_pod(pod, tmp_path):
    named = tmp_path / "named"
    named.write_text("{}")
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    found = detect(environ, kubeconfig=str(named), context="blue", service_account=pod)
    assert found == Origin(str(named), "blue")
    assert str(found) == f"the API servers of kubeconfig {named}, context blue"


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"\$KUBECONFIG names .*missing, and there is no such file"):
        detect({"KUBECONFIG": str(tmp_path / "missing")}, service_account=tmp_path)
    with pytest.raises(ConfigError, match="kubeconfig names"):
        detect({}, kubeconfig=str(tmp_path / "missing"), service_account=tmp_path)


def test_with_no_origin_the_error_says_what_to_write(tmp_path):
    with pytest.raises(ConfigError) as caught:
        detect({"HOME": str(tmp_path)}, service_account=tmp_path)
    assert "--source file:PATH" in str(caught.value)
    assert "KUBECONFIG" in str(caught.value)


# Credentials ----------------------------------------------------------------------------------------------------------


async def test_a_token_file_that_rotates_is_read_again(api, mirror, tmp_path):
    api.tokens = {"first"}
    token = tmp_path / "token"
    token.write_text("first\n")
    kubeconfig = api.kubeconfig(tmp_path, tokenFile=str(token))
    async with following(kubeconfig, mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected and api.watchers() == 3)
        api.tokens = {"second"}
        token.write_text("second\n")
        api.end_watches()
        last = api.put(service("shop", "db"))
        await mirror.until(lambda: mirror.positions["Service"] == last)
    assert api.seen[-1].headers["authorization"] == "Bearer second"
    assert 401 in [seen.code for seen in api.seen]


async def test_a_token_that_stays_wrong_is_reported_and_tried_politely(api, mirror, tmp_path):
    api.tokens = {"right"}
    async with following(api.kubeconfig(tmp_path, token="wrong"), mirror):
        await mirror.until(lambda: "401" in reasons(mirror))
        assert "Check the token" in reasons(mirror)
        api.kubeconfig(tmp_path, token="right")
        await mirror.until(lambda: mirror.is_connected)


async def test_credentials_are_read_again_before_they_are_old(api, mirror, tmp_path):
    kubeconfig = api.kubeconfig(tmp_path, token="first")
    async with following(kubeconfig, mirror, timing=PATIENT._replace(credentials_s=0.0)):
        await mirror.until(lambda: mirror.is_connected and api.watchers() == 3)
        api.kubeconfig(tmp_path, token="second")
        api.end_watches()
        await mirror.until(lambda: api.count("WATCH") == 6)
    assert {seen.headers["authorization"] for seen in api.seen[-3:]} == {"Bearer second"}
    assert 401 not in [seen.code for seen in api.seen]


async def test_an_exec_plugin_gives_the_token(api, mirror, tmp_path):
    api.tokens = {"from-the-plugin"}
    plugin = tmp_path / "plugin"
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    credential["status"] = {"token": "from-the-plugin"}
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(credential)}'\n")
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    use = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}
    async with following(api.kubeconfig(tmp_path, exec=use), mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected)


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "echo '{}'"])
async def test_an_exec_plugin_that_fails_is_named(api, mirror, tmp_path, script):
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\n{script}\n")
    plugin.chmod(0o755)
    use = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}
    async with following(api.kubeconfig(tmp_path, exec=use), mirror):
        await mirror.until(lambda: "exec plugin gave no credentials" in reasons(mirror))
    assert api.seen == []


async def test_an_exec_plugin_that_hangs_is_given_up(api, mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(kubernetes, "EXEC_PLUGIN_S", 0.2)
    plugin = tmp_path / "plugin"
    plugin.write_text("#!/bin/sh\nexec sleep 5\n")
    plugin.chmod(0o755)
    use = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}
    async with following(api.kubeconfig(tmp_path, exec=use), mirror):
        await mirror.until(lambda: "took longer than 0.2 s" in reasons(mirror))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "just text",
        ": : :",
        "\x00",
        '{"contexts":{},"clusters":1,"users":null}',
        '{"current-context":"gone","contexts":[],"clusters":[],"users":[]}',
        '{"current-context":"c","contexts":[{"name":"c","context":{"cluster":"k"}}],"clusters":[{"name":"k","cluster":{}}]}',
    ],
)
async def test_a_kubeconfig_that_can_t_be_used_is_waited_for(api, mirror, tmp_path, text):
    path = api.kubeconfig(tmp_path)
    good = path.read_text()
    path.write_text(text)
    async with following(path, mirror):
        await mirror.until(lambda: bool(mirror.of("lost")))
        assert mirror.of("requested") == []
        path.write_text(good)
        await mirror.until(lambda: mirror.is_connected)


async def test_a_context_that_is_not_there_is_named(api, mirror, tmp_path):
    origin = Origin(str(api.kubeconfig(tmp_path)), "no-such-context")
    async with following(origin, mirror):
        await mirror.until(lambda: "no-such-context" in reasons(mirror))


# In a pod -------------------------------------------------------------------------------------------------------------


@needs_openssl
async def test_a_pod_s_token_and_authority_are_used_and_read_again(secure, mirror, tmp_path, monkeypatch, pod):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(secure.port))
    secure.tokens = {"pod-token"}
    (pod / "token").write_text("pod-token\n")
    shutil.copy(tmp_path / "tls" / "ca.crt", pod / "ca.crt")
    async with following(Origin("", service_account=pod), mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected and secure.watchers() == 3)
        secure.tokens = {"rotated"}
        (pod / "token").write_text("rotated")
        secure.end_watches()
        last = secure.put(service("shop", "db"))
        await mirror.until(lambda: mirror.positions["Service"] == last)


@needs_openssl
async def test_a_pod_ignores_proxies_of_its_environment(secure, mirror, tmp_path, monkeypatch, pod):
    """NO_PROXY with an address range means nothing to Python: 10.96.0.1 would go through the proxy."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(secure.port))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    shutil.copy(tmp_path / "tls" / "ca.crt", pod / "ca.crt")
    async with following(Origin("", service_account=pod), mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected)


async def test_a_pod_whose_token_vanishes_says_so(mirror, tmp_path, monkeypatch, pod):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    (pod / "token").unlink()
    async with following(Origin("", service_account=pod), mirror):
        await mirror.until(lambda: "token file does not exist" in reasons(mirror))


# TLS ------------------------------------------------------------------------------------------------------------------


@needs_openssl
async def test_tls_is_checked_against_the_kubeconfig_s_authority(secure, mirror, tmp_path):
    async with following(secure.kubeconfig(tmp_path), mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected)
    assert mirror.names() == ["shop/web"]


@needs_openssl
async def test_another_authority_is_refused_and_named(secure, mirror, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    async with ScriptedApi(folder=other) as stranger:
        config = json.loads(secure.kubeconfig(tmp_path).read_text())
        config["clusters"][0]["cluster"]["server"] = stranger.url
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        async with following(tmp_path / "kubeconfig", mirror):
            await mirror.until(lambda: "certificate verify failed" in reasons(mirror))
            assert "certificate authority" in reasons(mirror)
        assert stranger.seen == []


@needs_openssl
async def test_an_authority_that_is_replaced_is_read_again(secure, mirror, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    async with following(secure.kubeconfig(tmp_path), mirror):
        await mirror.until(lambda: mirror.is_connected and secure.watchers() == 3)
        await secure.stop()
        for name in ("ca.crt", "tls.crt", "tls.key"):
            (tmp_path / "tls" / name).unlink()
        await secure.start()
        await mirror.until(lambda: mirror.is_connected and secure.watchers() == 3)


async def test_a_plain_server_behind_https_is_named(api, mirror, tmp_path):
    config = json.loads(api.kubeconfig(tmp_path).read_text())
    config["clusters"][0]["cluster"]["server"] = api.url.replace("http:", "https:")
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    async with following(tmp_path / "kubeconfig", mirror):
        await mirror.until(lambda: "TLS with 127.0.0.1" in reasons(mirror))


# What the environment must not change -------------------------------------------------------------------------------


async def test_a_netrc_is_none_of_our_business(api, mirror, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login a password b\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with following(api.kubeconfig(tmp_path, token="secret"), mirror, timing=PATIENT):
        await mirror.until(lambda: mirror.is_connected)
    assert {seen.headers["authorization"] for seen in api.seen} == {"Bearer secret"}


async def test_a_kubeconfig_s_server_is_reached_through_the_environment_s_proxy(api, mirror, tmp_path, monkeypatch):
    asked = asyncio.Event()

    async def proxy(reader, writer):
        line = await reader.readline()
        assert line.startswith(b"GET http://api.example.invalid:1234/api/v1/namespaces?")
        asked.set()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    monkeypatch.delenv("no_proxy", raising=False)
    config = json.loads(api.kubeconfig(tmp_path).read_text())
    config["clusters"][0]["cluster"]["server"] = "http://api.example.invalid:1234"
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    async with server, following(tmp_path / "kubeconfig", mirror):
        await asyncio.wait_for(asked.wait(), 10)


async def test_a_server_behind_a_path_is_asked_below_it(api, mirror, tmp_path):
    paths = []

    async def answer(reader, writer):
        paths.append((await reader.readline()).split()[1].decode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    config = json.loads(api.kubeconfig(tmp_path).read_text())
    port = server.sockets[0].getsockname()[1]
    config["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{port}/k8s/clusters/c-1/"
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    async with server, following(tmp_path / "kubeconfig", mirror):
        await mirror.until(lambda: bool(paths))
    assert paths[0].startswith("/k8s/clusters/c-1/api/v1/namespaces?fieldSelector=metadata.name%3Dkube-system")


async def test_a_request_is_sent_once(mirror, tmp_path):
    """The client and aiohttp would each repeat a GET; the governor has to see every one."""
    lines = []

    async def hang_up(reader, writer):
        lines.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    api = ScriptedApi()
    api.port = server.sockets[0].getsockname()[1]
    async with server, following(api.kubeconfig(tmp_path), mirror):
        await mirror.until(lambda: len(mirror.of("requested")) >= 5)
    assert abs(len(lines) - len(mirror.of("requested"))) <= 1


async def test_a_status_that_is_not_json_is_shown_as_it_is(mirror, tmp_path):
    async with ScriptedApi() as api:
        api.fail(Fault(status=502, times=1_000_000))
        api._say = _html
        async with following(api.kubeconfig(tmp_path), mirror):
            await mirror.until(lambda: "<html>bad gateway</html>" in reasons(mirror))


async def _html(*_):
    from aiohttp import web

    return web.Response(status=502, text="<html>bad gateway</html>")


async def test_old_connections_are_closed_when_their_answers_are_done(api, mirror, tmp_path):
    async with following(api.kubeconfig(tmp_path), mirror, timing=QUICK._replace(credentials_s=0.0, idle_s=60.0)):
        await mirror.until(lambda: mirror.is_connected and api.watchers() == 3)
        for _ in range(3):
            watched = api.count("WATCH")
            await asyncio.sleep(0.06)
            api.end_watches()
            await mirror.until(lambda watched=watched: api.count("WATCH") == watched + 3)
        await asyncio.sleep(0.05)
        assert len(api._runner.server.connections) <= 5


async def test_a_link_without_a_host_is_refused(tmp_path):
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "not-a-url"}}],
        "users": [{"name": "u", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    with pytest.raises(Exception, match="has no host name"):
        await connect(Origin(str(tmp_path / "kubeconfig")), Timing())


@needs_openssl
async def test_nothing_blocks_the_loop(secure, mirror, tmp_path, monkeypatch, pod):
    """Reading credentials, certificates and pages included."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(secure.port))
    shutil.copy(tmp_path / "tls" / "ca.crt", pod / "ca.crt")
    for number in range(600):
        secure.put(service("shop", f"svc-{number}"))
    with blockbuster_ctx(scanned_modules=["agent", "kubernetes", "aiohttp"]):
        async with following(Origin("", service_account=pod), mirror, timing=PATIENT._replace(credentials_s=0.0)):
            await mirror.until(lambda: mirror.is_connected and secure.watchers() == 3)
            secure.end_watches()
            last = secure.put(service("shop", "db"))
            await mirror.until(lambda: mirror.positions["Service"] == last)
