"""A file rewritten under load: whatever the writer does, what is delivered is one whole version of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap

import pytest

from agent.cluster.objects import unpack_service
from agent.sources.file import FileLimits
from tests.sources.recording import RecordingSink, following

SERVICES = 400
VERSIONS = 3
REST_S = 0.5
"""In place, a version counts once the writer left it alone for so long; its pauses within one are 0.15 s at most."""
WRITER = """
import json, os, random, sys, time
sys.path.insert(0, {root!r})
from tests.sources.recording import service
path, way, form, services = {path!r}, {way!r}, {form!r}, {services}

def text(version):
    ip = f"10.{{version >> 16}}.{{version >> 8 & 255}}.{{version & 255}}"
    items = [service(f"s{{n}}", ip=ip) for n in range(services)]
    if form == "json":
        return json.dumps({{"apiVersion": "v1", "items": items, "kind": "List"}}, indent=4)
    return "".join("---\\n" + json.dumps(item) + "\\n" for item in items)

def pieces(body):
    if form == "json":
        return [body[at : at + len(body) // 7] for at in range(0, len(body), len(body) // 7)]
    documents = body.split("---\\n")[1:]
    return ["".join("---\\n" + each for each in documents[at : at + 80]) for at in range(0, len(documents), 80)]

def write(version, last=False):
    body = text(version)
    if way == "rename":
        with open(path + ".new", "w") as out:
            out.write(body)
        os.rename(path + ".new", path)
        time.sleep(0 if last else random.choice([0, 0, 0.01, 0.1, 2]))
        return
    if way == "unlink":
        os.unlink(path)
    with open(path, "r+" if way == "overwrite" else "w") as out:
        for piece in pieces(body):
            out.write(piece)
            out.flush()
            time.sleep(0 if last else random.choice([0, 0.05, 0.15]))
        out.truncate()
    time.sleep(0 if last else random.choice([0, 0, 2]))

version = 1
while os.path.exists(path + ".go"):
    version += 1
    write(version)
write(version + 1, last=True)
print(version + 1)
"""


class WholeSink(RecordingSink):
    """Notes the versions of every set of Services it is given."""

    def __init__(self):
        super().__init__()
        self.versions = []

    def replace(self, kind, objects, position):
        if kind == "Service":
            addresses = {unpack_service(stored.blob).cluster_ips for stored in objects}
            self.versions.append((len(objects), [int.from_bytes(each[0][1:], "big") for each in addresses]))
        return super().replace(kind, objects, position)


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("way", "form"),
    [
        # A cut JSON can't be read at all; cut documents of YAML are as good as whole ones, so only rest tells.
        *((way, "yaml") for way in ("rename", "truncate", "overwrite", "unlink")),
        *((way, "json") for way in ("rename", "overwrite")),
    ],
)
async def test_a_file_rewritten_all_the_time_is_never_seen_in_part(tmp_path, pytestconfig, way, form):
    path, sink = tmp_path / f"state.{form}", WholeSink()
    go = tmp_path / f"state.{form}.go"
    go.touch()
    path.write_text('{"kind": "List", "items": []}')
    values = {"root": str(pytestconfig.rootpath), "path": str(path), "way": way, "form": form}
    script = textwrap.dedent(WRITER.format(services=SERVICES, **values))
    async with following(path, sink, limits=FileLimits(poll_s=0.05, debounce_s=REST_S)):
        writer = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE)
        try:
            # A loaded machine reads slowly, so the writer goes on until enough of its versions were seen.
            await sink.until(lambda: len(sink.versions) > VERSIONS or writer.returncode is not None, timeout_s=90)
        finally:
            go.unlink()
        output, _ = await writer.communicate()
        assert writer.returncode == 0
        await sink.until(lambda: sink.versions[-1:] == [(SERVICES, [int(output)])])
    whole = [seen for seen in sink.versions if seen != (0, [])]
    assert all(count == SERVICES and len(versions) == 1 for count, versions in whole), whole
    order = [versions[0] for _, versions in whole]
    assert order == sorted(order)
    assert len(order) > VERSIONS
