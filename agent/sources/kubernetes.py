"""The Kubernetes API servers as the source of cluster state.

Law: the only importer of `kubernetes`, and of that only its configuration, authentication and HTTP call: no models, no
watch, no retries. It is imported in a thread when the source starts, after the agent answers; finding out which
origin to use imports nothing. Credentials and certificates are read again before they are old, so that whatever
rotates them is followed: bound tokens, exec plugins, an edited kubeconfig, a new certificate authority.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from agent import __version__
from agent.cluster.selection import EVERYTHING, Selection
from agent.sources import Resume, Sink
from agent.sources.api import MAX_MESSAGE, CredentialsError, Query, SilentError, UnreachableError
from agent.sources.api_source import ApiSource, Options
from agent.sources.origin import Origin
from agent.sources.pacing import Timing

if TYPE_CHECKING:
    import aiohttp
    from kubernetes.aio.client import ApiClient, Configuration

USER_AGENT = f"nodens/{__version__}"
"""Never one that starts with curl, Wget or Mozilla: those get pretty-printed JSON, at five times the cost."""
LISTED = "application/vnd.kubernetes.protobuf, application/json"
"""Lists come as protobuf, which costs an API server half of what JSON does; from one that has none, as JSON."""
EXEC_PLUGIN_S = 20.0
"""How long a kubeconfig's exec plugin may take."""
READ_BUFFER_BYTES = 128 * 1024
KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
GONE_AFTER_MS = 30_000
"""A connection whose other end acknowledges nothing for this long is over."""
CONNECTIONS = 8
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class KubernetesSource(ApiSource):
    """Lists and watches Namespaces, Services and EndpointSlices by the official client.

    Args:
        origin: see `detect`.
        selection, options: see `ApiSource`.
    """

    def __init__(self, origin: Origin, selection: Selection = EVERYTHING, **options: Unpack[Options]) -> None:
        super().__init__(selection, **options)
        self.origin = origin

    async def run(self, sink: Sink, resume: Resume, known_identity: str) -> None:
        """Follow the API servers for ever; see `sources.Source`."""
        api = ClientApi(self.origin, self.timing)
        try:
            await self.follow(api, sink, resume, known_identity)
        finally:
            await api.close()


class ClientApi:
    """`sources.api.Api` by the official client.

    Args:
        origin: which API servers, and as whom.
        timing: spans.
    """

    def __init__(self, origin: Origin, timing: Timing) -> None:
        self._origin = origin
        self._timing = timing
        self._link: Link | None = None
        self._retired: list[Link] = []
        self._born_s = 0.0
        self._is_distrusted = False

    async def get(self, path: str, query: Query, *, is_watch: bool) -> ClientAnswer:
        """See `Api.get`."""
        headers = {"Accept-Encoding": "identity"} if is_watch else {"Accept": LISTED, "Accept-Encoding": "gzip"}
        return await self._ask("GET", f"{path}?{urlencode(query, quote_via=quote)}", headers)

    async def post(self, path: str, value: Mapping[str, Any]) -> ClientAnswer:
        """See `Api.post`."""
        return await self._ask("POST", path, {"Accept-Encoding": "identity"}, value)

    async def _ask(
        self, method: str, path: str, headers: dict[str, str], value: Mapping[str, Any] | None = None
    ) -> ClientAnswer:
        link = await self._usable()
        link.users += 1
        try:
            async with asyncio.timeout(self._timing.answer_s):
                return ClientAnswer(await link.ask(method, path, headers, value), link)
        except BaseException as error:
            link.users -= 1
            if isinstance(error, TimeoutError):
                raise SilentError(f"{link.host} did not answer within {self._timing.answer_s:g} s") from None
            # Address, certificates or token may have changed under a connection that can't be made.
            self._is_distrusted = True
            raise

    async def probe(self) -> None:
        """See `Api.probe`; through a proxy there is nothing to learn that way."""
        link = await self._usable()
        if link.proxy:
            return
        try:
            async with asyncio.timeout(self._timing.connect_s):
                _, writer = await asyncio.open_connection(link.address, link.port)
        except (OSError, TimeoutError) as error:
            self._is_distrusted = True
            raise UnreachableError(f"{link.host} can't be reached: {_words(error)}") from None
        writer.close()

    def distrust(self) -> None:
        """See `Api.distrust`."""
        self._is_distrusted = True

    async def close(self) -> None:
        """Close every connection."""
        links, self._retired = self._retired, []
        if self._link is not None:
            links.append(self._link)
            self._link = None
        for link in links:
            await link.close()

    async def _usable(self) -> Link:
        for link in [link for link in self._retired if not link.users]:
            self._retired.remove(link)
            await link.close()
        good_for_s = self._timing.distrust_s if self._is_distrusted else self._timing.credentials_s
        if self._link is None or time.monotonic() - self._born_s > good_for_s:
            fresh = await connect(self._origin, self._timing)
            if self._link is not None:
                self._retired.append(self._link)
            self._link, self._born_s, self._is_distrusted = fresh, time.monotonic(), False
        return self._link


class ClientAnswer:
    """`sources.api.Answer` over an aiohttp response."""

    def __init__(self, response: aiohttp.ClientResponse, link: Link) -> None:
        self.status = response.status
        self.encoding = response.headers.get("Content-Encoding", "").strip().lower()
        wait = response.headers.get("Retry-After", "").strip()
        self.retry_after_s = float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 8 else 0.0
        self._response = response
        self._link = link

    async def chunk(self) -> bytes:
        """See `Answer.chunk`."""
        import aiohttp

        try:
            return await self._response.content.readany()
        except aiohttp.ClientPayloadError:
            raise SilentError(f"the connection to {self._link.host} ended in the middle of an answer") from None
        except (aiohttp.ClientError, OSError) as error:
            raise SilentError(f"the connection to {self._link.host} broke: {_words(error)}") from None

    def close(self) -> None:
        """See `Answer.close`."""
        self._response.close()
        self._link.users -= 1


class Link:
    """Connections to the API servers under one set of credentials.

    Args:
        api: the official client, configured.
        timing: spans.
    """

    def __init__(self, api: ApiClient, timing: Timing) -> None:
        import aiohttp

        config = api.configuration
        where = urlsplit(config.host)
        if not where.hostname:
            raise CredentialsError(f"the address {config.host!r} of the API server has no host name")
        self.host = where.netloc.rpartition("@")[2]
        self.address = where.hostname
        self.port = where.port or (443 if where.scheme == "https" else 80)
        self.proxy = config.proxy
        self.users = 0
        self._api = api
        self._base = config.host.rstrip("/")
        self._connect_s = timing.connect_s
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=timing.connect_s)
        self._connector = aiohttp.TCPConnector(
            ssl=api.rest_client.ssl_context, limit=CONNECTIONS, socket_factory=_socket
        )
        # trust_env would add what ~/.netrc says to the token, and then refuse both; proxies are looked up in `_load`.
        config.client_session_kwargs = {
            "connector": self._connector,
            "trust_env": False,
            "auto_decompress": False,
            "read_bufsize": READ_BUFFER_BYTES,
            "cookie_jar": aiohttp.DummyCookieJar(),
            "middlewares": (_once,),
        }

    async def ask(
        self, method: str, path: str, headers: dict[str, str], value: Mapping[str, Any] | None = None
    ) -> aiohttp.ClientResponse:
        """Send one request.

        Args:
            method: of HTTP.
            path: with its query.
            headers: besides those that every request has.
            value: sent as JSON.

        Raises:
            UnreachableError, SilentError: see there.
        """
        import aiohttp
        from yarl import URL

        headers = {"Accept": "application/json", "User-Agent": USER_AGENT, **headers}
        await self._api.update_params_for_auth(headers, None, ["BearerToken"], None, None, None)
        if "authorization" in headers:
            # A token file that ends in a line feed is common, and no header.
            headers["authorization"] = headers["authorization"].strip()
        url = URL(f"{self._base}{path}", encoded=True)
        try:
            answer = await self._api.call_api(
                method, url, header_params=headers, body=value, _request_timeout=self._timeout
            )
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise SilentError(
                f"TLS with {self.host} fails: {_words(error)}",
                hint="Check the certificate authority of the kubeconfig or service account, and the address",
            ) from None
        except aiohttp.ConnectionTimeoutError:
            raise UnreachableError(
                f"{self.host} can't be reached: no connection within {self._connect_s:g} s"
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise UnreachableError(f"{self.host} can't be reached: {_words(error)}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise SilentError(f"{self.host} can't be asked: {_words(error)}") from None
        response: aiohttp.ClientResponse = answer.response
        return response

    async def close(self) -> None:
        """Close every connection."""
        await self._api.close()
        await self._connector.close()


async def connect(origin: Origin, timing: Timing) -> Link:
    """Load configuration and credentials, in a thread: the first time that imports the client (half a second).

    Raises:
        CredentialsError: they can't be used.
    """
    return Link(await asyncio.to_thread(_load, origin), timing)


def _load(origin: Origin) -> ApiClient:
    from kubernetes.aio.client import ApiClient, Configuration
    from kubernetes.aio.config import ConfigException, kube_config
    from kubernetes.aio.config.incluster_config import InClusterConfigLoader

    config = Configuration()
    # What Python 3.13 demands of certificates beyond their chain, most clusters' own authorities don't keep.
    config.disable_strict_ssl_verification = True
    try:
        if origin.kubeconfig:
            with asyncio.Runner(loop_factory=_PluginLoop) as runner:
                runner.run(_load_kubeconfig(origin, config))
        else:
            token, authority = origin.service_account / "token", origin.service_account / "ca.crt"
            # Its own refresh would read the file on the loop.
            loader = InClusterConfigLoader(str(token), str(authority), try_refresh_token=False)
            loader.load_and_set(config)
        return ApiClient(config)
    except (
        ConfigException,
        kube_config.yaml.YAMLError,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
    ) as error:
        # The client checks little of what a kubeconfig may hold: a list for a mapping is an AttributeError.
        raise CredentialsError(
            f"{origin} can't be used: {_words(error)}",
            hint="Check the file with `kubectl --kubeconfig FILE get services`" if origin.kubeconfig else "",
        ) from None


class _PluginLoop(asyncio.SelectorEventLoop):
    """A loop that knows the processes it started: the client leaves a plugin that hangs to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.plugins: list[asyncio.SubprocessTransport] = []

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:
        """See `asyncio.loop.subprocess_exec`."""
        transport, protocol = await super().subprocess_exec(*args, **options)
        self.plugins.append(transport)
        return transport, protocol

    @staticmethod
    async def end_plugins() -> None:
        """Kill what was started on the running loop, and wait for its end."""
        loop = asyncio.get_running_loop()
        for transport in loop.plugins if isinstance(loop, _PluginLoop) else ():
            transport.close()
            while transport.get_returncode() is None:  # noqa: ASYNC110 - all that a transport offers to look at
                await asyncio.sleep(0.01)


async def _load_kubeconfig(origin: Origin, config: Configuration) -> None:
    from kubernetes.aio.config import load_kube_config

    try:
        async with asyncio.timeout(EXEC_PLUGIN_S):
            loader = await load_kube_config(
                config_file=origin.kubeconfig,
                context=origin.context or None,
                client_configuration=config,
                persist_config=False,
            )
    except TimeoutError:
        await _PluginLoop.end_plugins()
        raise CredentialsError(f"{origin}: its exec plugin took longer than {EXEC_PLUGIN_S:g} s") from None
    user = vars(loader).get("_user")
    if user is not None and "exec" in user and not config.api_key and not config.cert_file:
        raise CredentialsError(f"{origin}: its exec plugin gave no credentials")
    if not config.proxy:
        where = urlsplit(config.host)
        if not proxy_bypass(where.hostname or ""):
            config.proxy = getproxies().get(where.scheme)


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request once: aiohttp would repeat a GET whose connection broke, and follow redirects, uncounted."""
    import aiohttp

    try:
        response = await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise SilentError(f"{request.url.host} closed the connection without an answer: {_words(error)}") from None
    if response.status in REDIRECTS:
        response.close()
        raise SilentError(f"{request.url.host} answered with a redirect, which is not followed")
    return response


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Open a socket whose peer is asked for a sign of life, so that a host that is gone is noticed in half a minute.

    The kernels do that among themselves: a packet without content after 15 s of silence, and nothing for the server.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_AFTER_MS)
    return made


def _words(error: BaseException) -> str:
    system = getattr(error, "os_error", None) or error
    if isinstance(system, OSError) and not isinstance(system, ssl.SSLError) and (system.errno or 0) > 0:
        return os.strerror(system.errno or 0).lower()
    return " ".join(str(error).split())[:MAX_MESSAGE] or type(error).__name__
