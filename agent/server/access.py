"""Which source addresses may ask.

Law: a verdict is remembered per address, in a table that starts anew when full, so that a flood of addresses costs
time but no memory.
"""

from __future__ import annotations

import ipaddress

from agent.server.options import Network

MAX_REMEMBERED = 4096


class Access:
    """An allow list.

    Args:
        networks: who may ask. This host itself always may: its watchdog is one of the clients.

    Attributes:
        networks: the same and this host.
        evicted: verdicts forgotten because the table was full.
    """

    def __init__(self, networks: tuple[Network, ...]) -> None:
        self.networks = (*networks, ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
        self._verdicts: dict[str, bool] = {}
        self.evicted = 0

    def allows(self, client_ip: str) -> bool:
        """Tell whether a client may ask; the address as the socket gave it."""
        verdict = self._verdicts.get(client_ip)
        if verdict is None:
            if len(self._verdicts) >= MAX_REMEMBERED:
                self.evicted += len(self._verdicts)
                self._verdicts.clear()
            verdict = self._verdicts[client_ip] = self._decide(client_ip)
        return verdict

    def _decide(self, client_ip: str) -> bool:
        address = ipaddress.ip_address(client_ip)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)
