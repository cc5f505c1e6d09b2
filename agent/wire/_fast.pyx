# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=False
"""The answer table in C memory, and UDP workers that answer from it without Python.

Law: this is the seam alone: what Python hands in is checked here and kept alive here; packets are read in native/.
Everything that writes runs with the GIL, so there is one writer. A worker never takes it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy

import os
import struct

from agent.errors import SnapshotError
from agent.wire.table import AnswerTable as PythonTable
from agent.wire.timed import TimedTable as PythonTimed

cdef extern from "native/hash.h":
    uint64_t nds_hash(const uint8_t *at, size_t size, uint64_t seed)

cdef extern from "native/table.h":
    ctypedef void (*nds_release)(void *) noexcept
    enum: NDS_MAX_NAME
    enum: NDS_MAX_KEY
    cdef struct nds_table:
        pass
    cdef struct nds_view:
        pass
    cdef struct nds_base:
        const uint8_t *offsets
        const uint8_t *tags
        const uint8_t *blob
        uint64_t mask
        uint64_t blob_bytes
        void *owner
    cdef struct nds_node:
        const uint8_t *at
        size_t bytes
    size_t nds_reclaim()
    nds_table *nds_table_new(uint32_t zone_count, uint64_t seed, nds_release release)
    void nds_table_zone(nds_table *table, uint32_t number, const uint8_t *name, size_t bytes, bint reverse)
    void nds_table_seal(nds_table *table)
    void nds_table_free(nds_table *table)
    bint nds_put(nds_table *table, const uint8_t *key, size_t key_bytes, const uint8_t *node, size_t node_bytes,
                 void *key_owner, void *node_owner)
    nds_view *nds_view_new(uint64_t seed, uint64_t names, const nds_base *base)
    bint nds_view_put(nds_view *view, const uint8_t *key, size_t key_bytes, const uint8_t *node, size_t node_bytes,
                      void *key_owner, void *node_owner)
    void nds_view_free(nds_view *view, nds_release release)
    void nds_show(nds_table *table, nds_view *view)
    bint nds_take_over(nds_table *table, nds_table *other)
    nds_view *nds_view_of(nds_table *table)
    nds_node nds_find(const nds_view *view, const uint8_t *key, size_t bytes)
    int nds_zone_of(const nds_table *table, const uint8_t *key, size_t bytes)

cdef extern from "native/answer.h":
    enum: NDS_DROP
    enum: NDS_HAND_OVER
    enum: NDS_MAX_NSID_BYTES
    enum: NDS_MAX_OPTION_BYTES
    enum: NDS_MAX_QUERY_BYTES
    enum: NDS_MAX_REPLY_BYTES
    enum: NDS_RCODES
    enum: NDS_DROPS
    enum: NDS_FAULTS
    enum: NDS_ERRNOS
    enum: NDS_ERRORS
    enum: NDS_LATENCY_BUCKETS
    cdef enum nds_state:
        NDS_NOT_READY
        NDS_FRESH
        NDS_STALE
        NDS_EXPIRED
    cdef struct nds_counts:
        uint64_t responses[24]
        uint64_t fresh
        uint64_t stale
        uint64_t pinned
        uint64_t timed_fresh
        uint64_t timed_stale
        uint64_t reported
        uint64_t reports_lost
        uint64_t dropped[5]
        uint64_t faults[5]
        uint64_t truncated
        uint64_t handed_over
        uint64_t latency[17]
        uint64_t latency_ns
        uint64_t send_errors[134]
        uint64_t receive_errors[134]
    cdef struct nds_option:
        uint16_t bytes
        uint8_t at[192]
    cdef struct nds_network:
        uint8_t bits
        bint is_6
        uint8_t address[16]
    cdef struct nds_posture:
        nds_table *table
        nds_table *timed
        nds_view *pins
        nds_release release
        nds_state state
        bint has_cap
        bint signs_cookies
        bint makes_pods
        bint follows_out
        bint drops_others
        uint32_t cap_s
        uint32_t serial
        uint32_t soa_ttl_s
        uint16_t udp_bytes
        uint8_t cookie_secret[16]
        nds_option nsid
        nds_option error[6]
        nds_network *networks
        bint *falls_through
    nds_posture *nds_posture_new(uint32_t zone_count, uint32_t network_count)
    cdef struct nds_scene:
        const nds_posture *posture
        const nds_view *view
        nds_counts *counts
        uint32_t *turn
        uint64_t now_ms
        uint32_t unix_s
        size_t address_bytes
        const uint8_t *address
        uint16_t report_bytes
        uint8_t report[258]
    int nds_answer(nds_scene *scene, const uint8_t *packet, size_t size, uint8_t *reply)
    void nds_counts_read(const nds_counts *counts, nds_counts *copy)
    bint nds_allows(const nds_posture *posture, const uint8_t *address, size_t bytes)

cdef extern from "native/worker.h":
    cdef struct nds_worker:
        pass
    cdef struct nds_plane:
        nds_posture *posture
    enum: NDS_REPORT
    cdef struct nds_handed:
        uint32_t socket
        uint64_t came_ns
        uint16_t packet_bytes
        uint16_t client_bytes
        uint8_t client[28]
        const uint8_t *packet
    enum: NDS_MAX_SOCKETS
    enum: NDS_RING_BYTES
    nds_plane *nds_plane_new(nds_posture *posture)
    void nds_plane_free(nds_plane *plane)
    void nds_posture_show(nds_plane *plane, nds_posture *posture)
    nds_worker *nds_worker_new(nds_plane *plane)
    bint nds_worker_socket(nds_worker *worker, int fd, bint is_wildcard)
    int nds_worker_start(nds_worker *worker)
    void nds_worker_stop(nds_worker *worker) nogil
    void nds_worker_free(nds_worker *worker)
    int nds_worker_wake_fd(const nds_worker *worker)
    const nds_counts *nds_worker_counts(const nds_worker *worker)
    bint nds_worker_take(nds_worker *worker, nds_handed *handed)
    void nds_worker_taken(nds_worker *worker)
    void nds_worker_rest(nds_worker *worker)
    uint64_t nds_now_ns()
    int nds_worker_reply(nds_worker *worker, const nds_handed *handed, const uint8_t *reply, size_t bytes)

cdef extern from "<sys/socket.h>":
    enum: AF_INET
    enum: AF_INET6

cdef extern from "<arpa/inet.h>":
    const char *inet_ntop(int family, const void *address, char *text, unsigned size)

MAX_QUERY_BYTES = NDS_MAX_QUERY_BYTES
"""A longer query is cut, and then can't be read."""
MAX_QUEUE_BYTES = NDS_RING_BYTES
"""Bound of what waits for Python, for each worker."""
MAX_SOCKETS = NDS_MAX_SOCKETS
"""Of one worker: one for each listen address."""
STATES = ("not_ready", "fresh", "stale", "expired")
_SECTION = struct.Struct("<QQQQ")


cdef void _release(void *owner) noexcept:
    Py_DECREF(<object>owner)


cdef const uint8_t *_octets(bytes value) noexcept:
    return <const uint8_t *>PyBytes_AS_STRING(value)


def name_hash(bytes name not None, uint64_t seed):
    """Hash a name of up to 255 octets like the answers section does (XXH3-64)."""
    if len(name) > 255:
        raise ValueError("a name is longer than 255 octets")
    return nds_hash(_octets(name), len(name), seed)


cdef class Memory:
    """The names of one table, as workers see them."""

    cdef nds_table *table
    cdef uint64_t seed
    cdef size_t max_key_bytes

    def __cinit__(self, tuple zones not None, bint is_timed=False):
        self.max_key_bytes = NDS_MAX_KEY if is_timed else NDS_MAX_NAME
        self.seed = int.from_bytes(os.urandom(8), "little")
        self.table = nds_table_new(len(zones), self.seed, _release)
        if self.table is NULL:
            raise MemoryError
        for number, zone in enumerate(zones):
            name = <bytes?>zone.name
            nds_table_zone(self.table, number, _octets(name), len(name), zone.reverse)
        nds_table_seal(self.table)

    def __dealloc__(self):
        if self.table is not NULL:
            nds_table_free(self.table)

    def find(self, bytes key not None):
        """Find a node."""
        if <size_t>PyBytes_GET_SIZE(key) > self.max_key_bytes:
            return None
        cdef nds_node node = nds_find(nds_view_of(self.table), _octets(key), PyBytes_GET_SIZE(key))
        return PyBytes_FromStringAndSize(<const char *>node.at, node.bytes) if node.at is not NULL else None

    def put(self, bytes key not None, bytes node):
        """Show a node, or that there is none; neither is copied.

        Raises:
            SnapshotError: the name is longer than 255 octets.
        """
        if <size_t>PyBytes_GET_SIZE(key) > self.max_key_bytes:
            raise SnapshotError("a name is longer than 255 octets")
        cdef const uint8_t *at = NULL
        cdef size_t size = 0
        cdef void *owner = NULL
        if node is not None:
            at, size, owner = _octets(node), PyBytes_GET_SIZE(node), <void *>node
        if not nds_put(self.table, _octets(key), PyBytes_GET_SIZE(key), at, size, <void *>key, owner):
            raise MemoryError
        Py_INCREF(key)
        if node is not None:
            Py_INCREF(node)

    def show(self, packed, dict overlay not None):
        """Show a base (None: without one) and the names in front of it, in the place of everything else."""
        cdef nds_base base
        cdef nds_base *shown = NULL
        cdef uint64_t seed = self.seed
        cdef bytes file
        if packed is not None:
            file = packed.file
            at = packed.at
            seed, slots, _, blob_bytes = _SECTION.unpack_from(file, at)
            if at + _SECTION.size + slots * 8 + blob_bytes > len(file):
                raise SnapshotError("answers section runs over the end of its file")
            base.offsets = _octets(file) + <size_t>at + 32
            base.tags = base.offsets + <size_t>slots * 4
            base.blob = base.tags + <size_t>slots * 4
            base.mask = slots - 1
            base.blob_bytes = blob_bytes
            base.owner = <void *>file
            shown = &base
        cdef nds_view *view = nds_view_new(seed, len(overlay), shown)
        if view is NULL:
            raise MemoryError
        if packed is not None:
            Py_INCREF(file)
        cdef bytes key
        cdef bytes node
        for key, node in overlay.items():
            if not nds_view_put(view, _octets(key), len(key), _octets(node) if node is not None else NULL,
                                len(node) if node is not None else 0, <void *>key,
                                <void *>node if node is not None else NULL):
                nds_view_free(view, _release)
                raise MemoryError
            Py_INCREF(key)
            if node is not None:
                Py_INCREF(node)
        self.seed = seed
        nds_show(self.table, view)

    def take_over(self, Memory other not None):
        """Show what another table shows; it is empty then."""
        if not nds_take_over(self.table, other.table):
            raise MemoryError
        self.seed = other.seed

    def zone_of(self, bytes key not None):
        """Give the index of the closest zone, -1 without one; the name is well formed."""
        return nds_zone_of(self.table, _octets(key), len(key))


class AnswerTable(PythonTable):
    """See `agent.wire.table.AnswerTable`; everything in it is seen by workers from one query to the next.

    Attributes:
        memory: what they see.
    """

    __slots__ = ("memory",)

    def __init__(self, zones):
        super().__init__(zones)
        self.memory = Memory(zones)

    def find(self, key):
        """See `AnswerTable.find`."""
        return (<Memory>self.memory).find(key)

    def put(self, key, node):
        """See `AnswerTable.put`."""
        (<Memory>self.memory).put(key, node)
        PythonTable.put(self, key, node)

    def rebase(self, base):
        """See `AnswerTable.rebase`."""
        PythonTable.rebase(self, base)
        self.memory.show(base, self.overlay)

    def take_over(self, other):
        """See `AnswerTable.take_over`."""
        PythonTable.take_over(self, other)
        self.memory.take_over(other.memory)


class TimedTable(PythonTimed):
    """See `agent.wire.timed.TimedTable`; everything in it is seen by workers from one query to the next.

    Attributes:
        memory: what they see.
    """

    __slots__ = ("memory",)

    def __init__(self, *bounds, **named):
        super().__init__(*bounds, **named)
        self.memory = Memory((), True)

    def _show(self, key, value):
        (<Memory>self.memory).put(key, value)


cdef nds_view *_pins(dict pinned) except NULL:
    """Lay out pinned names: option and node behind each other."""
    cdef nds_view *view = nds_view_new(int.from_bytes(os.urandom(8), "little"), len(pinned), NULL)
    if view is NULL:
        raise MemoryError
    cdef bytes key, option, node, held
    try:
        for key, (option, node) in pinned.items():
            if len(key) > NDS_MAX_NAME or len(option) > NDS_MAX_OPTION_BYTES:
                raise ValueError("a pinned name or its option is too long")
            held = struct.pack("<H", len(option)) + option + node
            if not nds_view_put(view, _octets(key), len(key), _octets(held), len(held), <void *>key, <void *>held):
                raise MemoryError
            Py_INCREF(key)
            Py_INCREF(held)
    except BaseException:
        nds_view_free(view, _release)
        raise
    return view


cdef int _set_option(nds_option *option, bytes value) except -1:
    if len(value) > NDS_MAX_OPTION_BYTES:
        raise ValueError(f"EDNS options of {len(value)} octets are longer than {NDS_MAX_OPTION_BYTES}")
    option.bytes = len(value)
    memcpy(option.at, _octets(value), len(value))
    return 0


cdef class Plane:
    """What all workers of a process share: tables, and what answers are given under.

    Args:
        table: a compiled `AnswerTable`.
    """

    cdef nds_plane *plane
    cdef Memory memory
    cdef Memory timed
    cdef object zones
    cdef nds_counts tested
    cdef readonly uint32_t turn

    def __cinit__(self, table):
        self.memory = <Memory?>table.memory
        self.zones = table.zones
        cdef nds_posture *posture = nds_posture_new(len(self.zones), 0)
        if posture is NULL:
            raise MemoryError
        posture.udp_bytes = 512
        posture.table = self.memory.table
        self.plane = nds_plane_new(posture)
        if self.plane is NULL:
            nds_posture_free(posture)
            raise MemoryError

    def __dealloc__(self):
        if self.plane is not NULL:
            nds_plane_free(self.plane)

    def show(self, terms, table, timed=None):
        """Answer from tables under terms (`agent.server.native.Terms`), from the next batch on.

        Args:
            terms: what answers are given under.
            table: a compiled `AnswerTable`.
            timed: a compiled `TimedTable`, None: what is not ours is left to Python.
        """
        cdef Memory memory = <Memory?>table.memory
        cdef Memory with_age = <Memory?>timed.memory if timed is not None else None
        zones, networks, pinned = table.zones, list(terms.networks), dict(terms.pinned)
        cdef nds_posture *posture = nds_posture_new(len(zones), len(networks))
        if posture is NULL:
            raise MemoryError
        cdef bytes packed
        try:
            posture.table = memory.table
            posture.timed = with_age.table if with_age is not None else NULL
            posture.release = _release
            if pinned:
                posture.pins = _pins(pinned)
            posture.state = <nds_state><int>STATES.index(terms.state)
            posture.has_cap = terms.ttl_cap_s is not None
            posture.cap_s = terms.ttl_cap_s or 0
            posture.serial = terms.serial & 0xFFFFFFFF
            posture.soa_ttl_s = terms.soa_ttl_s
            posture.udp_bytes = max(512, min(terms.udp_size_bytes, 4096))
            posture.signs_cookies = bool(terms.cookie_secret)
            if posture.signs_cookies:
                if len(terms.cookie_secret) != 16:
                    raise ValueError("a cookie secret has 16 octets")
                memcpy(posture.cookie_secret, _octets(terms.cookie_secret), 16)
            posture.makes_pods = terms.makes_pods
            posture.follows_out = terms.follows_out
            posture.drops_others = terms.drops_others
            _set_option(&posture.nsid, terms.nsid)
            for number, option in enumerate(terms.errors):
                if number >= NDS_ERRORS:
                    raise ValueError("too many errors")
                _set_option(&posture.error[number], option)
            for number, zone in enumerate(zones):
                posture.falls_through[number] = zone.name in terms.fallthrough
            for number, network in enumerate(networks):
                packed = network.network_address.packed
                posture.networks[number].bits = network.prefixlen
                posture.networks[number].is_6 = network.version == 6
                memcpy(posture.networks[number].address, _octets(packed), len(packed))
        except BaseException:
            nds_posture_free(posture)
            raise
        nds_posture_show(self.plane, posture)
        # What was shown before is not found any more, and may go (after a grace period, see table.h).
        self.memory, self.timed, self.zones = memory, with_age, zones

    def answer(self, bytes packet not None, uint64_t now_ms=0, list reports=None, bytes address=b"", uint32_t unix_s=0):
        """Answer one packet as a worker does, for tests.

        Args:
            packet: as it came.
            now_ms: of the timed table.
            reports: keys to be renewed; added to.
            address: of the client, 4 or 16 octets; empty: unknown, so that a cookie can't be signed.
            unix_s: of DNS cookies.

        Returns:
            The reply; None: dropped; False: a worker would hand it over.
        """
        cdef uint8_t reply[NDS_MAX_REPLY_BYTES]
        cdef nds_scene scene
        scene.posture = self.plane.posture
        scene.view = nds_view_of(self.plane.posture.table)
        scene.counts, scene.turn, scene.now_ms, scene.report_bytes = &self.tested, &self.turn, now_ms, 0
        scene.unix_s, scene.address_bytes = unix_s, len(address)
        scene.address = _octets(address) if address else NULL
        cdef int size = nds_answer(&scene, _octets(packet), min(len(packet), NDS_MAX_QUERY_BYTES), reply)
        if scene.report_bytes and reports is not None:
            reports.append(PyBytes_FromStringAndSize(<const char *>scene.report, scene.report_bytes))
        if size == NDS_HAND_OVER:
            return False
        return PyBytes_FromStringAndSize(<const char *>reply, size) if size != NDS_DROP else None

    def counts(self):
        """Give what `answer` has counted; see `Worker.counts`."""
        return _numbers(&self.tested)

    def allows(self, bytes packed not None):
        """Tell whether a client at this address (4 or 16 octets) may ask, for tests."""
        return nds_allows(self.plane.posture, _octets(packed), len(packed))


cdef extern from "native/answer.h":
    void nds_posture_free(void *posture)


cdef class Worker:
    """One thread that answers on its own sockets; made in the thread that stops it.

    Args:
        plane: table and terms.
    """

    cdef nds_worker *worker
    cdef Plane plane

    def __cinit__(self, Plane plane not None):
        self.plane = plane
        self.worker = nds_worker_new(plane.plane)
        if self.worker is NULL:
            raise MemoryError("no memory, no descriptors or too many workers")

    def __dealloc__(self):
        if self.worker is not NULL:
            nds_worker_stop(self.worker)
            nds_worker_free(self.worker)

    def add(self, int fd, bint is_wildcard):
        """Serve a bound, non-blocking UDP socket, which stays open until the worker is stopped; before `start`.

        Args:
            fd: the socket.
            is_wildcard: it tells which address was asked (`tell_queried_address`), and replies are to leave from there.
        """
        if not nds_worker_socket(self.worker, fd, is_wildcard):
            raise ValueError("too many sockets for one worker")

    def start(self):
        """Begin to answer."""
        cdef int number = nds_worker_start(self.worker)
        if number:
            raise OSError(number, "can't start a thread")

    def stop(self):
        """Answer what has arrived, then end."""
        with nogil:
            nds_worker_stop(self.worker)

    @property
    def wake_fd(self):
        """Readable when something was handed over (an eventfd)."""
        return nds_worker_wake_fd(self.worker)

    def serve(self, respond, int limit, dict errors not None, observe, report, later):
        """Answer what was handed over, oldest first, at most `limit` queries.

        Args:
            respond: (packet, client address in text) → reply, None, or something else: the reply comes later.
            limit: queries.
            errors: errno → replies that the kernel did not take; added to.
            observe: (seconds from being read to being answered, 1).
            report: called with each key of the timed table that is to be renewed.
            later: told (what came instead of a reply, the query's `WayBack`).

        Returns:
            How many queries and keys were taken.
        """
        cdef nds_handed handed
        cdef WayBack way_back
        cdef int done = 0
        while done < limit and nds_worker_take(self.worker, &handed):
            packet = PyBytes_FromStringAndSize(<const char *>handed.packet, handed.packet_bytes)
            nds_worker_taken(self.worker)
            done += 1
            if handed.socket == NDS_REPORT:
                report(packet)
                continue
            reply = respond(packet, _text(&handed))
            if reply is None:
                continue
            if type(reply) is bytes:
                _reply(self.worker, &handed, reply, errors)
                observe((nds_now_ns() - handed.came_ns) / 1e9, 1)
                continue
            way_back = WayBack.__new__(WayBack)
            way_back.worker, way_back.handed = self, handed
            way_back.handed.packet = NULL
            later(reply, way_back)
        return done

    def rest(self):
        """Take back the wake-up, unless something was handed over meanwhile."""
        nds_worker_rest(self.worker)

    def counts(self):
        """Read the counts while the worker goes on: a dict of numbers and lists of numbers."""
        return _numbers(nds_worker_counts(self.worker))


cdef class WayBack:
    """Where the reply to one query goes: its socket, its client, the address that was asked; made by `Worker.serve`."""

    cdef Worker worker
    cdef nds_handed handed

    def send(self, bytes reply not None, dict errors not None):
        """Send it; the worker's sockets are open. What the kernel does not take is counted by errno."""
        _reply(self.worker.worker, &self.handed, reply, errors)


cdef int _reply(nds_worker *worker, const nds_handed *handed, bytes reply, dict errors) except -1:
    cdef int number = nds_worker_reply(worker, handed, _octets(reply), len(reply))
    if number:
        errors[number] = errors.get(number, 0) + 1
    return 0


cdef dict _numbers(const nds_counts *counts):
    cdef int i
    cdef nds_counts c
    nds_counts_read(counts, &c)
    return {
        "responses": [c.responses[i] for i in range(NDS_RCODES)],
        "fresh": c.fresh,
        "stale": c.stale,
        "pinned": c.pinned,
        "timed_fresh": c.timed_fresh,
        "timed_stale": c.timed_stale,
        "reported": c.reported,
        "reports_lost": c.reports_lost,
        "dropped": [c.dropped[i] for i in range(NDS_DROPS)],
        "faults": [c.faults[i] for i in range(NDS_FAULTS)],
        "truncated": c.truncated,
        "handed_over": c.handed_over,
        "latency": [c.latency[i] for i in range(NDS_LATENCY_BUCKETS)],
        "latency_ns": c.latency_ns,
        "send_errors": [c.send_errors[i] for i in range(NDS_ERRNOS)],
        "receive_errors": [c.receive_errors[i] for i in range(NDS_ERRNOS)],
    }


cdef str _text(const nds_handed *handed):
    """Write the address of a client (sockaddr_in, sockaddr_in6)."""
    cdef char text[64]
    cdef uint16_t family
    memcpy(&family, handed.client, 2)
    if family == AF_INET6:
        inet_ntop(AF_INET6, handed.client + 8, text, sizeof(text))
    else:
        inet_ntop(AF_INET, handed.client + 4, text, sizeof(text))
    return text.decode("ascii")


def reclaim():
    """Give back what no worker can see any more; returns how much still waits."""
    return nds_reclaim()
