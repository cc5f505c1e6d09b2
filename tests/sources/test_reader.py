from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.cluster.objects import decode_object
from agent.cluster.selection import EVERYTHING, Selection, parse_selector
from agent.errors import SourceError
from agent.sources import exchange, reader, yaml_documents
from agent.sources.exchange import Done, Objects, Order, Same, Skips
from agent.sources.harvest import Harvest
from benchmarks.cluster_generator import Spec, objects
from tests.sources.recording import endpoint_slice, listed, namespace, service

UID = "8d36542b-1111-2222-3333-62002cd2efdb"


class Found:
    def __init__(self, selection=EVERYTHING):
        self.messages = []
        self.harvest = Harvest(selection, self.messages.append)

    def read(self, body, name="f.json"):
        self.harvest.begin(name)
        reader.read_text(body if isinstance(body, bytes) else body.encode(), name, self.harvest)
        self.harvest.flush()
        return self

    @property
    def stored(self):
        return [each for message in self.messages if isinstance(message, Objects) for each in message.objects]

    @property
    def keys(self):
        return [stored.key for stored in self.stored]

    @property
    def skipped(self):
        return [tuple(each) for message in self.messages if isinstance(message, Skips) for each in message.skipped]


def refusal(body, name="f.json"):
    found = Found()
    with pytest.raises(SourceError) as caught:
        found.read(body, name)
    return str(caught.value)


def as_yaml(*documents):
    return yaml.safe_dump_all(documents)


EXAMPLE = [service(), endpoint_slice(), namespace(), namespace("kube-system", UID)]
SHAPES = {
    "list": listed(*EXAMPLE),
    "list in one line": json.dumps(json.loads(listed(*EXAMPLE)), separators=(",", ":")),
    "list after a byte order mark": "\ufeff" + listed(*EXAMPLE),
    "array": json.dumps(EXAMPLE),
    "list, yaml": as_yaml(json.loads(listed(*EXAMPLE))),
    "list, yaml with comments": "# state\n---\n" + as_yaml(json.loads(listed(*EXAMPLE))) + "...\n",
    "documents": as_yaml(*EXAMPLE),
    "documents, an empty one between": "---\n" + "---\n---\n".join(as_yaml(each) for each in EXAMPLE) + "---\n",
    "array, yaml": as_yaml(EXAMPLE),
    "flow mapping, yaml": "{kind: List, items: " + json.dumps(EXAMPLE) + "}",
    "json documents": "\n---\n".join(json.dumps(each) for each in EXAMPLE),
}


@pytest.mark.parametrize("body", SHAPES.values(), ids=SHAPES.keys())
def test_every_way_kubectl_and_people_write_objects_gives_the_same(body):
    found = Found().read(body, "f.yaml")
    assert sorted(found.stored) == sorted(decode_object(each) for each in EXAMPLE)
    assert found.harvest.identity == f"uid:{UID}"
    assert not found.skipped


@pytest.mark.parametrize("write", [json.dumps, as_yaml], ids=["json", "yaml"])
def test_items_of_a_typed_list_need_no_kind(write):
    for kind, item in (
        ("ServiceList", service()),
        ("EndpointSliceList", endpoint_slice()),
        ("NamespaceList", namespace()),
    ):
        bare = {name: value for name, value in item.items() if name not in {"kind", "apiVersion"}}
        found = Found().read(write({"apiVersion": "v1", "items": [bare, item], "kind": kind}))
        assert found.stored == [decode_object(item)] * 2


@pytest.mark.parametrize("write", [json.dumps, as_yaml], ids=["json", "yaml"])
def test_one_object_alone_is_enough(write):
    assert Found().read(write(service())).keys == ["shop/web"]


@pytest.mark.parametrize("write", [json.dumps, as_yaml], ids=["json", "yaml"])
def test_objects_of_other_kinds_are_ignored_and_counted(write):
    knative = {**service("fn"), "apiVersion": "serving.knative.dev/v1"}
    others = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}, knative]
    found = Found().read(write({"kind": "List", "items": [*others, service()]}))
    assert (found.keys, found.harvest.ignored, found.skipped) == (["shop/web"], 2, [])
    assert Found().read(write({"kind": "PodList", "items": [{"metadata": {}}]})).harvest.ignored == 1


@pytest.mark.parametrize("empty", ['{"kind":"List","items":[]}', '{"kind":"List","items":null}', "[]"])
def test_a_list_of_nothing_is_read_as_nothing(empty):
    assert Found().read(empty).messages == []
    assert Found().read(as_yaml(json.loads(empty))).messages == []


BAD_ITEMS = [
    (
        {"kind": "Service", "metadata": {"name": "bad", "namespace": "shop"}, "spec": {"clusterIP": "nonsense"}},
        "shop/bad",
    ),
    ({"kind": "Service", "metadata": {"name": "", "namespace": "shop"}, "spec": {"clusterIP": ""}}, None),
    ({"kind": "Service", "metadata": {"name": "blank", "namespace": ""}, "spec": {"clusterIP": "10.0.0.1"}}, None),
    ({"kind": "Service"}, None),
    ({"kind": "Service", "metadata": {"name": 5, "namespace": []}}, None),
    ({"kind": 5}, None),
    ({"metadata": {"name": "kindless", "namespace": "shop"}}, None),
    ({"kind": "Service", "apiVersion": 1}, None),
    ("text", None),
    (None, None),
    ([], None),
    (7, None),
]


@pytest.mark.parametrize("write", [json.dumps, as_yaml], ids=["json", "yaml"])
@pytest.mark.parametrize("bad", BAD_ITEMS, ids=lambda bad: json.dumps(bad[0])[:40])
def test_a_bad_object_is_named_and_its_neighbours_apply(write, bad):
    value, name = bad
    found = Found().read(write({"kind": "List", "items": [service("a"), value, service("b")]}), "dir/x")
    assert found.keys == ["shop/a", "shop/b"]
    assert found.harvest.skipped == 1
    ((_, named, reason),) = found.skipped
    assert reason.endswith(" (in dir/x)")
    if name:
        assert named == name
    elif isinstance(value, dict) and value.get("metadata"):
        assert named  # what there is of a name
    else:
        assert named == "item 2" if write is json.dumps else named.startswith("line ")


def test_an_object_without_a_name_is_named_by_its_place():
    bad = {"kind": "Service", "spec": {}}
    assert [name for _, name, _ in Found().read(listed(service("a"), service("b"), bad)).skipped] == ["item 3"]
    text = as_yaml({"kind": "List", "items": [service("a"), bad]})
    line = text[: text.index("- kind: Service\n  spec: {}")].count("\n") + 1
    assert [name for _, name, _ in Found().read(text).skipped] == [f"line {line}"]


def test_invalid_text_inside_one_object_harms_that_object_alone():
    body = listed(service("a"), service("b"), service("c")).replace('"b"', '"\udcff"')
    found = Found().read(body.encode("utf-8", "surrogateescape"))
    assert found.keys == ["shop/a", "shop/c"]
    assert found.harvest.skipped == 1


def test_hostile_names_are_made_fit_for_a_line():
    found = Found().read(listed(service("a\n\x1b[2J")))
    ((_, name, reason),) = found.skipped
    assert (name + reason).isprintable()
    assert exchange.parse(exchange.frame(found.messages[0])[4:])


@pytest.mark.parametrize("write", [json.dumps, as_yaml], ids=["json", "yaml"])
def test_the_selection_counts_but_the_identity_is_found_without_it(write):
    items = [service(labels={"app": "x"}), service("db"), service("z", "other"), namespace("kube-system", UID)]
    selection = Selection(frozenset({"shop"}), parse_selector("app=x"))
    found = Found(selection).read(write({"kind": "List", "items": items}))
    assert found.keys == ["shop/web"]
    assert found.harvest.identity == f"uid:{UID}"
    assert not found.skipped


@pytest.mark.parametrize("uid", ["", "x" * 65, "a b", "ä", "a\n"])
def test_an_unusable_uid_names_no_cluster(uid):
    assert Found().read(listed(namespace("kube-system", uid))).harvest.identity == ""


def test_of_an_object_given_twice_the_last_counts_and_both_places_are_named():
    found = Found().read(listed(service(ip="10.0.0.1"), service(ip="10.0.0.2")), "a.json")
    found.read(listed(service(ip="10.0.0.3")), "b.json")
    assert [stored.blob for stored in found.stored][-1] == decode_object(service(ip="10.0.0.3")).blob
    assert found.harvest.replaced == 2
    assert [(name, reason) for _, name, reason in found.skipped] == [
        ("shop/web", "stands twice in a.json: the last one counts"),
        ("shop/web", "stands in a.json and again in b.json: the last one counts"),
    ]


def test_only_so_many_bad_objects_are_named_but_all_are_counted():
    found = Found().read(listed(*[{"kind": "Service"}] * 1500))
    assert found.harvest.skipped == 1500
    assert len(found.skipped) == exchange.MAX_SKIPS_NAMED


def test_an_object_larger_than_a_message_is_left_out(monkeypatch):
    monkeypatch.setattr("agent.sources.harvest.MAX_BLOB_BYTES", 200)
    big = endpoint_slice(addresses=[f"10.0.0.{n}" for n in range(100)])
    found = Found().read(listed(service(), big))
    assert found.keys == ["shop/web"]
    assert found.skipped == [("EndpointSlice", "shop/web-1", "takes more than 200 bytes (in f.json)")]


def test_the_number_of_objects_is_bounded(monkeypatch):
    monkeypatch.setattr("agent.sources.harvest.MAX_OBJECTS", 3)
    assert "brings the objects to more than 3" in refusal(listed(*(service(f"s{n}") for n in range(4))))


def test_messages_stay_small_however_many_objects_there_are():
    found = Found().read(listed(*(service(f"s{n}") for n in range(5000))))
    sizes = [len(exchange.frame(message)) for message in found.messages]
    assert len(sizes) > 5
    assert max(sizes) < exchange.FRAME_GOAL_BYTES * 1.2


GENERATED = list(objects(Spec(services=60, endpoints=300, namespaces=8, bulk=True)))


def test_json_and_yaml_of_a_realistic_cluster_give_the_same_objects():
    as_json = Found().read(listed(*GENERATED))
    assert len(as_json.stored) > 100
    assert not as_json.skipped
    dumped = yaml.dump(json.loads(listed(*GENERATED)), Dumper=yaml.CSafeDumper)
    assert sorted(Found().read(dumped, "f.yaml").stored) == sorted(as_json.stored)


# Files that can't be used as a whole -----------------------------------------------------------------------------

REFUSED = {
    "empty": (b"", "f.json is empty (0 bytes). A failed kubectl get leaves that behind"),
    "blank": (b" \n\t\n", "f.json is empty (4 bytes)"),
    "gzip": (gzip.compress(b"{}"), "is compressed by gzip. Unpack it first"),
    "utf-16": (listed(service()).encode("utf-16"), "is text in UTF-16. Save it in UTF-8"),
    "number": (b"[1", "ends after 2 bytes in the middle of its JSON. It looks half-written"),
    "comma": (b'{"kind": "List",\n "items": [1,,2]}', "line 2, column 14 (byte 30): not valid JSON"),
    "trailing": (
        b'{"kind":"List","items":[]}\n{"kind":"List"}',
        "line 2, column 2 (byte 28): not valid JSON, trailing",
    ),
    "no kind": (b"{}", "has no kind. It must hold a Kubernetes List or objects"),
    "kind of a list": (b'{"kind":"ServiceList"}', "is a ServiceList without items"),
    "items of no list": (b'{"kind":"Box","items":[]}', "has items, but its kind 'Box' is not a list's"),
    "items ill-typed": (b'{"kind":"List","items":7}', "can't be used: Expected `array"),
    "kind ill-typed": (b'{"kind":7}', "can't be used: Expected `str`"),
    "api error": (
        b'{"kind":"Status","status":"Failure","message":"services is forbidden"}',
        "holds an error answer of an API server, no objects: services is forbidden",
    ),
    "recursion bomb": (b"[" * 1_000_000, "is nested too deeply"),
    "recursion bomb in an object": (b'{"kind":"List","items":[' + b'{"a":' * 500_000, "is nested too deeply"),
    "random": (bytes(range(256)) * 100, "line 1, column 1 (byte 0): not text in UTF-8"),
    "nul": (b"kind: List\0", "line 1, column 11 (byte 10): not text in UTF-8"),
    "latin-1": ("# Größe\nkind: List".encode("latin-1"), "line 1, column 6 (byte 5): not text in UTF-8"),
    "html": (b"<html><body>502 Bad Gateway</body></html>", "line 1, column 1: is not a Kubernetes object"),
    "yaml, cut list": (
        b"apiVersion: v1\nitems:\n- kind: Service\n",
        "has no kind (if it was printed by kubectl, it is half",
    ),
    "yaml, tab": (b"kind: List\n\titems: []", "line 2, column 1: not valid YAML, while scanning"),
    "yaml, second document": (b"---\n---\nkind:\n", "line 3, column 1 (document 2): has no kind"),
    "yaml, api error": (b"kind: Status\nmessage: no\n", "holds an error answer of an API server, no objects: no"),
    "yaml, items of no list": (b"kind: Box\nitems: []\n", "has items, but its kind 'Box' is not a list's"),
    "yaml, items ill-typed": (b"kind: List\nitems: 7\n", "has items that are not a list"),
    "yaml, recursion bomb": (b"a: " + b"[" * 5000, "is nested more than 100 levels deep"),
    "yaml, key no word": (b"? [a]\n: b\nkind: List", "has a key that is not a word"),
    "yaml, foreign tag": (b"kind: !!python/object/apply:os.system [id]", "has a tag 'tag:yaml.org,2002:python/object"),
    "yaml, foreign scalar tag": (
        b"kind: !!python/name:os.system x",
        "has a tag 'tag:yaml.org,2002:python/name:os.system'",
    ),
    "yaml, alias unknown": (b"a: *b", "line 1, column 4: uses *b before &b is complete"),
    "yaml, alias of itself": (b"a: &a [*a]\nkind: x", "line 1, column 8: uses *a before &a is complete"),
    "yaml, merge of a word": (b"<<: x\nkind: List", "merges (<<) what is not a mapping"),
}


@pytest.mark.parametrize(("body", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_a_file_that_can_not_be_used_says_where_and_why(body, words):
    told = refusal(body)
    assert told.startswith("f.json")
    assert words in told
    assert told.isprintable()


def test_a_cut_file_never_gives_fewer_objects():
    body = listed(service("a"), service("b"), namespace()).encode()
    whole = json.loads(body)
    for length in range(len(body)):
        if body[:length].strip():
            refusal(body[:length])
    text = as_yaml(whole).encode()
    cut_ok = [length for length in range(1, len(text)) if _parses(text[:length])]
    # What may be missing at the end of kubectl's YAML holds no object: kind follows items.
    assert all(Found().read(text[:length]).keys == ["shop/a", "shop/b", "shop"] for length in cut_ok)


def _parses(body):
    try:
        Found().read(body)
    except SourceError:
        return False
    return True


@pytest.mark.timeout(10)
def test_an_alias_bomb_is_refused_before_it_expands():
    levels = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    levels += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    assert "expands to more than 100000 values by its aliases" in refusal("\n".join(levels))


def test_anchors_are_bounded(monkeypatch):
    monkeypatch.setattr(yaml_documents, "MAX_ANCHORS", 3)
    assert "has more than 3 anchors" in refusal("a: [" + ",".join(f"&a{n} x" for n in range(4)) + "]")


def test_modest_anchors_and_merges_are_understood():
    text = """
kind: Service
metadata: &meta {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1}
---
defaults: &d {clusterIP: 10.0.0.1, type: ClusterIP}
more: &m {clusterIP: 10.0.0.9}
kind: Service
metadata: {name: db, namespace: shop}
spec:
  <<: [*d, *m]
  type: ClusterIP
"""
    assert Found().read(text, "f.yaml").stored == [
        decode_object(
            {"kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": {"clusterIP": "10.0.0.1"}}
        )
        for name in ("web", "db")
    ]


def test_anchors_end_with_their_document():
    assert "document 2): uses *a before &a is complete" in refusal("kind: &a ConfigMap\n---\nkind: *a\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("~", None),
        ("true", True),
        ("80", 80),
        ("-7", -7),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("10.0.0.1", "10.0.0.1"),
        ("1_000", "1_000"),
        ("2026-10-01", "2026-10-01"),
        ("-", None),
        ("'80'", "80"),
        ("!!str 80", "80"),
        ('!!int "80"', 80),
        ("9" * 30, "9" * 30),
        (".", "."),
        ("+", "+"),
    ],
)
def test_scalars_follow_the_core_schema(text, value, monkeypatch):
    taken = []
    monkeypatch.setattr(yaml_documents._Documents, "_object", lambda self, line, value: taken.append(value))
    Found().read(f"kind: X\na: {text}\n" if text != "-" else "kind: X\na:\n")
    assert taken == [{"kind": "X", "a": value}]


def test_without_libyaml_the_same_is_read(monkeypatch):
    monkeypatch.setattr(yaml_documents, "_LOADER", yaml.SafeLoader)
    assert Found().read(SHAPES["documents"]).keys == ["shop/web", "shop/web-1", "shop", "kube-system"]
    assert "not valid YAML" in refusal(b"kind: List\n\titems: []")
    assert "not text in UTF-8" in refusal(b"kind: \xff")


def told(found, body):
    """Read what may be anything: it is read, or refused by the one error in words that fit a line."""
    try:
        found.read(body)
    except SourceError as error:
        words = str(error)
        if not words.isprintable():
            pytest.fail(words)


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_gives_nothing_that_was_not_written(body):
    found = Found()
    told(found, body)
    assert found.stored == []


WORDS = st.sampled_from(["kind", "items", "metadata", "name", "spec", "namespace", "ports"])
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
SHAPE = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5), max_leaves=15
)


@given(SHAPE)
def test_any_shape_is_refused_or_skipped(value):
    for text in (json.dumps(value), yaml.safe_dump(value)):
        told(Found(), text)


@given(st.data())
def test_a_damaged_list_never_raises_anything_but_the_one_error(data):
    body = bytearray(data.draw(st.sampled_from([SHAPES["list"], SHAPES["list, yaml"]])).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    told(Found(), bytes(body))


# Whole readings ------------------------------------------------------------------------------------------------------


def reading(path, **order):
    messages = []
    end = reader.read(Order(str(path), **order), messages.append)
    return end, [stored.key for message in messages if isinstance(message, Objects) for stored in message.objects]


def test_a_reading_counts_what_it_did(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(listed(service("a"), service("a"), {"kind": "Service"}, {"kind": "Pod"}))
    end, keys = reading(path)
    assert isinstance(end, Done)
    assert keys == ["shop/a", "shop/a"]
    totals = end.totals
    assert (totals.files, totals.size_bytes) == (1, path.stat().st_size)
    assert (totals.objects, totals.skipped, totals.ignored, totals.replaced) == (2, 1, 1, 1)
    assert totals.peak_rss_kib > 1000
    assert [mark.inode for mark in end.marks] == [path.stat().st_ino]


def test_a_known_digest_spares_the_parsing(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(listed(service()))
    done, _ = reading(path)
    same, keys = reading(path, known=done.digest)
    assert same == Same(done.digest, done.marks)
    assert keys == []
    path.write_text(listed(service("b")))
    changed, keys = reading(path, known=done.digest)
    assert changed.digest != done.digest
    assert keys == ["shop/b"]


def test_the_digest_follows_from_the_content_and_everything_that_decides_what_it_gives(tmp_path, monkeypatch):
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    for path in (one, two):
        path.write_text(listed(service()))
    digest = reading(one)[0].digest
    assert reading(two)[0].digest == digest
    assert reading(one, selection=Selection(frozenset({"shop"})))[0].digest != digest
    assert reading(tmp_path)[0].digest != digest
    whole = reading(tmp_path)[0].digest
    two.rename(tmp_path / "three.json")
    assert reading(tmp_path)[0].digest != whole
    monkeypatch.setattr(reader, "FORMAT", 2)
    assert reading(one)[0].digest != digest


def test_selections_are_digested_the_same_way_in_every_process(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(listed(service()))
    selection = Selection(frozenset(f"ns{n}" for n in range(50)))
    order = msgspec.json.encode(Order(str(path), selection)).decode()
    script = (
        "import sys, msgspec; from agent.sources import reader, exchange;"
        "print(reader.read(msgspec.json.decode(sys.argv[1], type=exchange.Order), print).digest)"
    )
    digests = set()
    for seed in ("1", "2"):
        done = run_python("-c", script, order, env={**os.environ, "PYTHONHASHSEED": seed})
        assert done.stdout.startswith(b"xxh3:")
        digests.add(done.stdout)
    assert len(digests) == 1


def test_a_folder_is_read_in_order_of_names_and_one_bad_file_spoils_it(tmp_path):
    (tmp_path / "b.yaml").write_text(as_yaml(service(ip="10.0.0.2")))
    (tmp_path / "a.json").write_text(listed(service(ip="10.0.0.1"), namespace()))
    end, keys = reading(tmp_path)
    assert sorted(keys) == ["shop", "shop/web", "shop/web"]
    assert (end.totals.files, end.totals.replaced) == (2, 1)
    (tmp_path / "c.json").write_text('{"kind": "List",')
    with pytest.raises(SourceError, match=r"c\.json ends after 16 bytes in the middle of its JSON"):
        reading(tmp_path)


def test_sizes_are_bounded_over_all_files(tmp_path):
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(listed(service()))
    size = (tmp_path / "a.json").stat().st_size
    assert reading(tmp_path, max_bytes=2 * size)[0].totals.files == 2
    with pytest.raises(SourceError, match=rf"b\.json has {size} bytes; {2 * size - 1} bytes may be read in all"):
        reading(tmp_path, max_bytes=2 * size - 1)


def test_what_became_a_pipe_since_the_look_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "state.json")
    with pytest.raises(SourceError, match="is not a file or a folder"):
        reading(tmp_path / "state.json")


@pytest.mark.parametrize("change", ["grows", "shrinks", "is touched"])
def test_a_file_that_changes_while_it_is_read_is_not_used(tmp_path, monkeypatch, change):
    path = tmp_path / "state.json"
    path.write_text(listed(service()))

    def read_and_change(descriptor, length, os_read=os.read):
        body = os_read(descriptor, length)
        if change == "grows":
            path.write_text(listed(service(), service("b")))
        elif change == "shrinks":
            os.truncate(path, 10)
        else:
            os.utime(path, ns=(1, 1))
        return body

    monkeypatch.setattr(reader.os, "read", read_and_change)
    with pytest.raises(reader._ChangedError):
        reading(path)


def test_a_file_renamed_over_while_it_is_read_was_whole(tmp_path, monkeypatch):
    path, new = tmp_path / "state.json", tmp_path / "new"
    path.write_text(listed(service()))
    new.write_text(listed(service("b")))

    def read_and_rename(descriptor, length, os_read=os.read):
        if new.exists():
            new.rename(path)
        return os_read(descriptor, length)

    monkeypatch.setattr(reader.os, "read", read_and_rename)
    assert reading(path)[1] == ["shop/web"]


def test_a_folder_whose_files_are_swapped_while_it_is_read_is_not_used(tmp_path, monkeypatch):
    for version in ("..1", "..2"):
        (tmp_path / version).mkdir()
        for name in ("a.json", "b.json"):
            (tmp_path / version / name).write_text(listed(service(version.strip("."))))
    (tmp_path / "..data").symlink_to("..1")
    for name in ("a.json", "b.json"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    assert set(reading(tmp_path)[1]) == {"shop/1"}

    def read_and_swap(descriptor, length, os_read=os.read):
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        return os_read(descriptor, length)

    monkeypatch.setattr(reader.os, "read", read_and_swap)
    with pytest.raises(reader._ChangedError):
        reading(tmp_path)


def test_short_reads_are_put_together(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    path.write_text(listed(service()))
    monkeypatch.setattr(
        reader.os, "read", lambda descriptor, length, os_read=os.read: os_read(descriptor, min(length, 7))
    )
    assert reading(path)[1] == ["shop/web"]


# The process ------------------------------------------------------------------------------------------------------


def run_python(*argv, **options):
    return subprocess.run([sys.executable, *argv], capture_output=True, timeout=60, check=False, **options)


def run(*argv):
    return run_python("-m", "agent.sources.reader", *argv)


def frames(output):
    while output:
        length = exchange.frame_length(output[:4])
        yield exchange.parse(output[4 : 4 + length])
        output = output[4 + length :]


def test_the_process_writes_frames_and_nothing_else(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(listed(*EXAMPLE, {"kind": "Service"}))
    done = run(msgspec.json.encode(Order(str(path))).decode())
    *_, end = found = list(frames(done.stdout))
    assert (done.returncode, done.stderr) == (0, b"")
    assert isinstance(end, Done)
    assert end.totals.objects == sum(len(message.objects) for message in found if isinstance(message, Objects)) == 4


def test_the_process_says_in_words_what_is_wrong(tmp_path):
    (failed,) = frames(run(msgspec.json.encode(Order(str(tmp_path / "gone"))).decode()).stdout)
    assert failed == exchange.Failed(f"{tmp_path}/gone is not there", "")


@pytest.mark.parametrize("argv", [(), ("{",), ('{"path": 1}',), ('{"path": "a", "foo": 1}',), ("{}", "{}")])
def test_an_order_that_can_not_be_read_is_a_usage_error(argv):
    done = run(*argv)
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"_read-source is for nodens itself" in done.stderr


def test_memory_is_bounded_and_running_out_of_it_is_said_in_words(tmp_path):
    path = tmp_path / "state.json"
    path.write_bytes(b'{"kind":"List","items":[' + b"0," * 4_000_000 + b"0]}")
    order = Order(str(path), max_memory_bytes=150 * 1024 * 1024)
    *_, failed = frames(run(msgspec.json.encode(order).decode()).stdout)
    assert failed.reason == f"{path} takes more than 150 MiB of memory to read"
    assert "raise max_memory_bytes" in failed.hint


def test_a_reader_whose_agent_is_gone_does_not_start(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(listed(service()))
    (failed,) = frames(run(msgspec.json.encode(Order(str(path), parent=2**22 + 1)).decode()).stdout)
    assert failed.reason == "the agent that asked is gone"


def test_a_reader_nobody_listens_to_ends(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(listed(*(service(f"s{n}") for n in range(3000))))
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.sources.reader", msgspec.json.encode(Order(str(path))).decode()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(20) == 1
