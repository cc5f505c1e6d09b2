"""`nodens serve`: configuration in, a life, exit code out."""

from __future__ import annotations

import argparse

from agent.commands.arguments import add_options, read_config

_EXAMPLES = """\
examples:
  nodens serve --source file:cluster.json --listen 127.0.0.1:5300 --state-dir ./state
      answer from the output of: kubectl get services,endpointslices,namespaces -A -o json
  nodens serve --kubeconfig ~/.kube/config --listen 127.0.0.1:5300 --state-dir ./state
      follow an API server; in a pod no argument is needed
  nodens serve --listen 169.254.20.10 --listen 10.96.0.10 --zone cluster.local --zone cluster.example
      on a node: the link-local address and the kube-dns address, two zones
  nodens serve --config nodens.yaml --admin unix:/run/nodens/admin.sock --set ttl=10

signals:
  HUP        read the configuration again: all of it is verified, then applied, or nothing changes
  TERM, INT  not ready, serve through `lameduck`, drain, write, exit 0; a second one exits at once
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `serve`."""
    parser.epilog = _EXAMPLES
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal."""
    config = read_config(args)
    from agent.app import serve

    return serve(config)
