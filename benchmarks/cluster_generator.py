"""Realistic clusters of any size, as `kubectl get services,endpointslices,namespaces -A -o json` prints them.

    python -m benchmarks.cluster_generator --services 10000 --endpoints 100000 --output cluster.json
    python -m benchmarks.cluster_generator --services 200 --churn 500 --output changes.jsonl

As Python: `objects(spec)` gives the objects one by one, `churn(spec, n)` the changes that follow them,
`write(spec, path)` the file. The same seed gives the same cluster on every machine; only sizes are held in memory.

Names that always exist (leave them out with --no-demonstration); ZONE is cluster.local:
  web.shop.svc.ZONE                ClusterIP, dual stack: 10.96.10.80, fd00:10:96::a50; ports http, https; 3 endpoints
  _http._tcp.web.shop.svc.ZONE     SRV, with addresses
  db.shop.svc.ZONE                 headless StatefulSet, dual stack: db-0, db-1, db-2.db.shop.svc.ZONE; port postgres
  workers.shop.svc.ZONE            headless Deployment: endpoints named by address, 10-128-0-24; one of 3 is not ready
  cache.shop.svc.ZONE              ClusterIP 10.96.10.81, its port has no name (so no SRV name below it)
  catalog.shop.svc.ZONE            ClusterIP 10.96.10.82, 230 endpoints in 3 slices
  idle.shop.svc.ZONE               ClusterIP 10.96.10.83 without any endpoint: answers all the same
  drained.shop.svc.ZONE            headless without any endpoint: NXDOMAIN
  storefront.shop.svc.ZONE         ExternalName inside the zone: web.shop.svc.ZONE
  mail.shop.svc.ZONE               ExternalName outside: smtp.example.com
  kubernetes.default.svc.ZONE      10.96.0.1
  kube-dns.kube-system.svc.ZONE    10.96.0.10; ports dns (UDP), dns-tcp, metrics
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from benchmarks import cluster_manifests as manifests
from benchmarks.cluster_churn import Change, churn
from benchmarks.cluster_workloads import Spec, namespace_names, workloads

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

__all__ = ["EXAMPLE", "Change", "Spec", "churn", "dump", "objects", "write"]

EXAMPLE = Spec(services=40, endpoints=400, namespaces=12)
"""The embedded example of `make run`."""


def objects(spec: Spec) -> Iterator[dict[str, Any]]:
    """Stream the cluster's objects: all Services, then all EndpointSlices, then all Namespaces."""
    version = 1000
    for workload in workloads(spec):
        version += 1
        yield manifests.service(spec, workload, version)
    for workload in workloads(spec):
        for each in manifests.slices(spec, workload):
            version += 1
            each["metadata"]["resourceVersion"] = str(version)
            yield each
    for name in namespace_names(spec):
        version += 1
        yield manifests.namespace(spec, name, version)


def dump(items: Iterable[dict[str, Any]], out: IO[bytes], *, indent: int = 4) -> int:
    """Write a List of `items` to `out` as kubectl does, and return how many; `indent` 0 gives one object a line."""
    count = 0
    out.write(b'{\n    "apiVersion": "v1",\n    "items": [')
    margin = b"\n" + b" " * 2 * indent
    for item in items:
        text = msgspec.json.encode(item, order="sorted")
        if indent:
            text = msgspec.json.format(text, indent=indent).replace(b"\n", margin)
        out.write((b"," if count else b"") + margin + text)
        count += 1
    out.write(b'\n    ],\n    "kind": "List",\n    "metadata": {\n        "resourceVersion": ""\n    }\n}\n')
    return count


def write(spec: Spec, path: str | os.PathLike[str], *, indent: int = 4) -> int:
    """Write the cluster to `path`, complete or not at all (temporary file, then rename); return the object count."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    with partial.open("wb") as out:
        count = dump(objects(spec), out, indent=indent)
    partial.replace(target)
    return count


def _parser() -> argparse.ArgumentParser:
    head, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster_generator",
        description=head,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = Spec()
    add = parser.add_argument
    add(
        "--services",
        type=int,
        default=defaults.services,
        metavar="N",
        help="Services, fixed ones included (%(default)s)",
    )
    add("--endpoints", type=int, default=defaults.endpoints, metavar="N", help="pods behind them in all (%(default)s)")
    add("--namespaces", type=int, default=defaults.namespaces, metavar="N", help="(%(default)s)")
    add(
        "--headless",
        type=float,
        default=defaults.headless,
        metavar="SHARE",
        help="services without ClusterIP (%(default)s)",
    )
    add("--dual-stack", type=float, default=defaults.dual_stack, metavar="SHARE", help="(%(default)s)")
    add("--external-name", type=float, default=defaults.external_name, metavar="SHARE", help="(%(default)s)")
    add(
        "--unready", type=float, default=defaults.unready, metavar="SHARE", help="pods that are not ready (%(default)s)"
    )
    add("--zone", default=defaults.zone, help="what ExternalNames inside the zone end in (%(default)s)")
    add("--seed", type=int, default=defaults.seed, metavar="N", help="another cluster of the same kind (%(default)s)")
    add("--no-demonstration", action="store_true", help="without namespace shop")
    add("--bulk", action="store_true", help="with managedFields and last-applied annotations")
    add("--compact", action="store_true", help="one object a line instead of kubectl's indentation")
    add("--churn", type=int, metavar="N", help="write the first N changes after that cluster, one watch event a line")
    add("--output", metavar="FILE", help="where to (standard output)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(argv)
    spec = Spec(
        services=options.services,
        endpoints=options.endpoints,
        namespaces=options.namespaces,
        headless=options.headless,
        dual_stack=options.dual_stack,
        external_name=options.external_name,
        unready=options.unready,
        demonstration=not options.no_demonstration,
        bulk=options.bulk,
        zone=options.zone,
        seed=options.seed,
    )
    if options.churn is not None:
        out = Path(options.output).open("wb") if options.output else sys.stdout.buffer  # noqa: SIM115
        with out:
            for change in churn(spec, options.churn):
                out.write(json.dumps({"type": change.type, "object": change.object}).encode() + b"\n")
    elif options.output:
        count = write(spec, options.output, indent=0 if options.compact else 4)
        print(f"{count} objects written to {options.output}", file=sys.stderr)
    else:
        dump(objects(spec), sys.stdout.buffer, indent=0 if options.compact else 4)
    return 0


if __name__ == "__main__":
    sys.exit(main())
