from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import addresses, values
from agent.config.addresses import SocketAddress, SourceChoice, UnixPath
from agent.config.values import UnfitError


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("5s", 5),
        ("2m", 120),
        ("1h30m", 5400),
        ("200ms", 0.2),
        ("1d", 86_400),
        ("0", 0),
        ("7.5", 7.5),
        (3, 3),
        (0.5, 0.5),
    ],
)
def test_durations_take_units_or_seconds(given, seconds):
    assert values.duration(0, 1e6)(given) == pytest.approx(seconds)


@pytest.mark.parametrize("given", ["", "5 s", "s", "-1s", "1h30", "5x", "1e9", "inf", "nan", True, None, [], "9" * 60])
def test_what_is_no_duration_is_refused(given):
    with pytest.raises(UnfitError, match="must be a duration such as"):
        values.duration(0, 1e6)(given)


def test_infinite_numbers_are_no_durations():
    for number in (float("inf"), float("nan"), -float("inf")):
        with pytest.raises(UnfitError):
            values.duration(0, 1e6)(number)


def test_a_duration_out_of_range_names_the_range_as_people_write_it():
    with pytest.raises(UnfitError, match=r"must be from 1s to 1h30m, not '2h'"):
        values.duration(1, 5400)("2h")


def test_seconds_for_the_wire_are_whole():
    assert values.whole_seconds(0, 3600)("1m") == 60
    with pytest.raises(UnfitError, match="whole seconds"):
        values.whole_seconds(0, 3600)("1500ms")


@pytest.mark.parametrize(
    ("given", "amount"), [("1GiB", 1 << 30), ("64KiB", 65_536), ("10MB", 10**7), ("7B", 7), (9, 9), ("12", 12)]
)
def test_sizes(given, amount):
    assert values.size(0, 1 << 40)(given) == amount


@pytest.mark.parametrize("given", ["", "GiB", "-1", "1.5GiB", "1TiB", True, None, -1])
def test_what_is_no_size_is_refused(given):
    with pytest.raises(UnfitError):
        values.size(0, 1 << 40)(given)


def test_a_size_out_of_range_names_the_range():
    with pytest.raises(UnfitError, match=r"from 1 KiB to 1 MiB"):
        values.size(1024, 1 << 20)("2MiB")


@pytest.mark.parametrize("given", ["abc", "5.0", 5.0, True, "", None, "99999999999999999999999"])
def test_whole_numbers_are_whole(given):
    with pytest.raises(UnfitError, match="whole number from 0 to 10"):
        values.whole(0, 10)(given)


def test_whole_numbers_come_as_numbers_and_as_text():
    assert values.whole(-5, 10)("-5") == -5
    assert values.whole(0, 10)(10) == 10


@pytest.mark.parametrize(
    ("given", "expected"), [("on", True), ("No", False), (True, True), ("1", True), (0, False), ("off", False)]
)
def test_flags(given, expected):
    assert values.flag(given) is expected


@pytest.mark.parametrize("given", ["maybe", "", 2, None, []])
def test_what_is_no_flag_is_refused(given):
    with pytest.raises(UnfitError, match="true or false"):
        values.flag(given)


def test_lists_come_as_lists_or_with_commas():
    read = values.listed(values.text())
    assert read("a, b,,c ") == ("a", "b", "c")
    assert read(["a"]) == ("a",)
    assert read("") == ()


@pytest.mark.parametrize(
    ("given", "words"), [(5, "must be a list"), ("a,a", "twice"), ([], "1 to 256"), ("x," * 300, "twice")]
)
def test_lists_are_bounded_and_without_doubles(given, words):
    with pytest.raises(UnfitError, match=words):
        values.listed(values.text(), least=1)(given if given != "x," * 300 else [f"n{i}" for i in range(200)] + ["n1"])


def test_a_list_of_too_many_entries_is_refused():
    with pytest.raises(UnfitError, match="0 to 256 entries, not 257"):
        values.listed(values.text())([f"n{i}" for i in range(257)])


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [("127.0.0.1:5300", "127.0.0.1", 5300), ("169.254.20.10", "169.254.20.10", 53), ("[::1]:5353", "::1", 5353),
     ("[::]", "::", 53), ("fd00::1", "fd00::1", 53), ("0.0.0.0:0", "0.0.0.0", 0)],
)  # fmt: skip
def test_addresses(given, host, port):
    read = addresses.address(given)
    assert read == SocketAddress(host, port)
    assert addresses.address(str(read)) == read


@pytest.mark.parametrize(
    "given",
    ["", "localhost:53", ":53", "1.2.3.4:", "1.2.3.4:70000", "1.2.3:53", "[::1", "::1]:53", 53, None, "1.2.3.4:x"],
)
def test_what_is_no_address_is_refused(given):
    with pytest.raises(UnfitError):
        addresses.address(given)


def test_admin_is_an_address_a_unix_socket_or_off():
    assert addresses.admin("127.0.0.1:9353") == SocketAddress("127.0.0.1", 9353)
    assert addresses.admin("unix:/run/nodens/admin.sock") == UnixPath("/run/nodens/admin.sock")
    assert addresses.admin("off") is None
    for wrong in ("on", "unix:relative", "unix:" + "/x" * 60, "host:1", False):
        with pytest.raises(UnfitError):
            addresses.admin(wrong)


def test_sources():
    assert addresses.source("file:/a b.json") == SourceChoice("file", "/a b.json")
    assert str(addresses.source("kubernetes")) == "kubernetes"
    for wrong in ("file:", "kubernets", "", None, "http://x"):
        with pytest.raises(UnfitError, match="must be kubernetes, file:PATH or auto"):
            addresses.source(wrong)


def test_zones_are_kept_lower_case_without_the_final_dot():
    assert addresses.zone("Cluster.Local.") == "cluster.local"
    for wrong in ("", ".", "a..b", "x" * 64, "ä.local", 5):
        with pytest.raises(UnfitError, match="must be a zone"):
            addresses.zone(wrong)


def test_networks_ips_selectors_namespaces():
    assert addresses.network("10.0.0.0/8") == ipaddress.ip_network("10.0.0.0/8")
    assert addresses.ip("FD00::0001") == "fd00::1"
    assert addresses.selector("app in (a,b),!x") == "app in (a,b),!x"
    assert addresses.namespace("kube-system") == "kube-system"
    for read, wrong in (
        (addresses.network, "10.0.0.1/8"),
        (addresses.ip, "10.0.0"),
        (addresses.selector, "a=b=c"),
        (addresses.selector, 5),
        (addresses.namespace, "A b"),
    ):
        with pytest.raises(UnfitError):
            read(wrong)


@given(st.floats(min_value=0, max_value=1e7).map(lambda s: round(s, 1)))
def test_a_shown_duration_reads_back(seconds):
    assert values.duration(0, 1e8)(values.show(seconds)) == pytest.approx(seconds, abs=0.06)


@given(
    st.one_of(
        st.text(),
        st.none(),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.lists(st.text()),
        st.dictionaries(st.text(), st.text()),
    )
)
def test_readers_take_or_refuse_but_never_break(value):
    readers = [
        values.duration(0, 9), values.size(0, 9), values.whole(0, 9), values.flag, values.text(),
        values.choice("a", "b"), values.listed(values.text()),
        addresses.address, addresses.admin, addresses.zone, addresses.network,
        addresses.ip, addresses.selector, addresses.source, addresses.namespace, addresses.folder,
    ]  # fmt: skip
    for read in readers:
        with contextlib.suppress(UnfitError):
            read(value)


@pytest.mark.parametrize(("amount", "shown"), [(0, "0 B"), (1536, "1.5 KiB"), (1 << 20, "1 MiB"), (5 << 30, "5 GiB")])
def test_sizes_are_shown_for_people(amount, shown):
    assert values.show_bytes(amount) == shown


def test_a_service_is_named_as_people_ask_for_it():
    assert addresses.service("Kubernetes.default") == "kubernetes.default"
    for other in ("kubernetes", "a.b.c", "a..b", "", "a/b", None, 5):
        with pytest.raises(UnfitError, match=r"a Service such as kubernetes\.default"):
            addresses.service(other)
