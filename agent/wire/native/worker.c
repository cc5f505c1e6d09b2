#define _GNU_SOURCE
#include "worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hash.h"

#define STACK_BYTES (256 * 1024)
#define TURN_NS 100000 /* the shortest there is */
/* Not a multiple of the page: the heads of all packets of a batch would lie in the same few cache lines. */
#define STRIDE_BYTES (NDS_MAX_REPLY_BYTES + 192)

struct slot {
  struct sockaddr_storage client;
  struct iovec iov;
  union {
    struct cmsghdr align;
    uint8_t room[CMSG_SPACE(sizeof(struct in_pktinfo)) + CMSG_SPACE(sizeof(struct in6_pktinfo))];
  } control;
};

struct door {
  int fd;
  bool is_wildcard;
};

/* One producer, one consumer; both only ever add to their own end. */
struct ring {
  _Alignas(64) _Atomic uint64_t first;
  _Alignas(64) _Atomic uint64_t last;
  uint64_t taken_bytes; /* of the record that was taken and not yet given back */
  uint8_t *octets;
};

struct record {
  uint32_t bytes; /* of the whole record; 0: the rest of the ring up to its end is empty */
  uint32_t socket;
  uint64_t came_ns;
  uint16_t packet_bytes, client_bytes, control_bytes;
  uint8_t client[28];
  _Alignas(8) uint8_t control[64];
};

#define NDS_LEAST_FETCHED 3 /* for fewer there is nothing to wait together with */

/* Keys reported lately, by hash: a name in great demand is told of once in REPORT_EVERY_MS. */
#define REPORTS 256
#define REPORT_EVERY_MS 1000

struct told {
  uint64_t hash, at_ms;
};

struct nds_worker {
  struct nds_plane *plane;
  pthread_t thread;
  bool is_running;
  atomic_bool is_stopping;
  int reader, stop_fd, wake_fd;
  uint32_t turn, door_count;
  struct door doors[NDS_MAX_SOCKETS];
  pid_t pid; /* of who has started it: in a forked child there is no thread */
  struct ring ring;
  struct told told[REPORTS];
  uint8_t *pages;
  bool is_set_wildcard;
  struct mmsghdr in[NDS_BATCH], out[NDS_BATCH];
  struct nds_query queries[NDS_BATCH];
  struct slot slots[NDS_BATCH];
  _Alignas(64) struct nds_counts counts;
};

/* ── plane ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

struct nds_plane *nds_plane_new(struct nds_posture *posture) {
  struct nds_plane *plane = malloc(sizeof *plane);
  if (plane) atomic_init(&plane->posture, posture);
  return plane;
}

void nds_posture_show(struct nds_plane *plane, struct nds_posture *posture) {
  struct nds_posture *before = atomic_exchange_explicit(&plane->posture, posture, memory_order_acq_rel);
  nds_retire(before, nds_posture_free);
  nds_reclaim();
}

void nds_plane_free(struct nds_plane *plane) {
  nds_posture_free(atomic_load(&plane->posture));
  free(plane);
}

/* ── hand-over ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool ring_put(struct ring *ring, const struct record *record, const uint8_t *packet) {
  uint64_t last = atomic_load_explicit(&ring->last, memory_order_relaxed);
  uint64_t room = NDS_RING_BYTES - (last - atomic_load_explicit(&ring->first, memory_order_acquire));
  uint64_t at = last % NDS_RING_BYTES, to_end = NDS_RING_BYTES - at;
  uint64_t skipped = to_end < record->bytes ? to_end : 0;
  if (room < record->bytes + skipped) return false;
  if (skipped) {
    memset(ring->octets + at, 0, sizeof(uint32_t));
    at = 0;
  }
  memcpy(ring->octets + at, record, sizeof *record);
  memcpy(ring->octets + at + sizeof *record, packet, record->packet_bytes);
  atomic_store_explicit(&ring->last, last + skipped + record->bytes, memory_order_release);
  return true;
}

bool nds_worker_take(struct nds_worker *worker, struct nds_handed *handed) {
  struct ring *ring = &worker->ring;
  uint64_t first = atomic_load_explicit(&ring->first, memory_order_relaxed);
  if (first == atomic_load_explicit(&ring->last, memory_order_acquire)) return false;
  uint64_t at = first % NDS_RING_BYTES, skipped = 0;
  struct record record;
  memcpy(&record.bytes, ring->octets + at, sizeof record.bytes);
  if (!record.bytes) {
    skipped = NDS_RING_BYTES - at;
    at = 0;
  }
  memcpy(&record, ring->octets + at, sizeof record);
  *handed = (struct nds_handed){record.socket, record.came_ns, record.packet_bytes, record.client_bytes,
                                record.control_bytes, {0}, {0}, ring->octets + at + sizeof record};
  memcpy(handed->client, record.client, sizeof handed->client);
  memcpy(handed->control, record.control, sizeof handed->control);
  ring->taken_bytes = skipped + record.bytes;
  return true;
}

void nds_worker_taken(struct nds_worker *worker) {
  struct ring *ring = &worker->ring;
  uint64_t first = atomic_load_explicit(&ring->first, memory_order_relaxed);
  atomic_store_explicit(&ring->first, first + ring->taken_bytes, memory_order_release);
  ring->taken_bytes = 0;
}

void nds_worker_rest(struct nds_worker *worker) {
  struct ring *ring = &worker->ring;
  eventfd_t count;
  eventfd_read(worker->wake_fd, &count);
  if (atomic_load(&ring->first) != atomic_load(&ring->last)) eventfd_write(worker->wake_fd, 1);
}

int nds_worker_reply(struct nds_worker *worker, const struct nds_handed *handed, const uint8_t *reply, size_t bytes) {
  struct iovec iov = {(void *)(uintptr_t)reply, bytes};
  struct record copy;
  memcpy(copy.client, handed->client, sizeof copy.client);
  memcpy(copy.control, handed->control, sizeof copy.control);
  struct msghdr message = {copy.client, handed->client_bytes, &iov, 1, NULL, 0, 0};
  if (handed->control_bytes) {
    message.msg_control = copy.control;
    message.msg_controllen = handed->control_bytes;
  }
  if (handed->socket >= worker->door_count) return EBADF;
  return sendmsg(worker->doors[handed->socket].fd, &message, MSG_DONTWAIT) < 0 ? errno : 0;
}

/* ── one batch ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Turns what came with a packet into what its reply needs (ip(7), ipv6(7)); without it the reply leaves from wherever
 * routing says. The interface is left to routing too, except for link-local addresses. */
static void turn_control(struct msghdr *message) {
  for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg; cmsg = CMSG_NXTHDR(message, cmsg)) {
    struct in_pktinfo four = {0};
    struct in6_pktinfo six;
    if (cmsg->cmsg_level == IPPROTO_IP && cmsg->cmsg_type == IP_PKTINFO) {
      struct in_pktinfo came;
      memcpy(&came, CMSG_DATA(cmsg), sizeof came);
      four.ipi_spec_dst = came.ipi_spec_dst;
      message->msg_controllen = CMSG_SPACE(sizeof four);
      struct cmsghdr *first = CMSG_FIRSTHDR(message);
      *first = (struct cmsghdr){CMSG_LEN(sizeof four), IPPROTO_IP, IP_PKTINFO};
      memcpy(CMSG_DATA(first), &four, sizeof four);
      return;
    }
    if (cmsg->cmsg_level == IPPROTO_IPV6 && cmsg->cmsg_type == IPV6_PKTINFO) {
      memcpy(&six, CMSG_DATA(cmsg), sizeof six);
      if (!IN6_IS_ADDR_LINKLOCAL(&six.ipi6_addr)) six.ipi6_ifindex = 0;
      message->msg_controllen = CMSG_SPACE(sizeof six);
      struct cmsghdr *first = CMSG_FIRSTHDR(message);
      *first = (struct cmsghdr){CMSG_LEN(sizeof six), IPPROTO_IPV6, IPV6_PKTINFO};
      memcpy(CMSG_DATA(first), &six, sizeof six);
      return;
    }
  }
  message->msg_control = NULL;
  message->msg_controllen = 0;
}

static void count_errno(uint64_t *counts, int number) {
  nds_add(&counts[number > 0 && number < NDS_ERRNOS ? number : 0], 1);
}

static bool queue(struct nds_worker *worker, struct record *record, const uint8_t *octets) {
  record->bytes = (uint32_t)((sizeof *record + record->packet_bytes + 7) & ~(size_t)7);
  return ring_put(&worker->ring, record, octets);
}

/* Leaves a query to Python; gives whether there was room. */
static bool hand_over(struct nds_worker *worker, uint32_t door, uint64_t came_ns, const struct mmsghdr *in) {
  const struct msghdr *message = &in->msg_hdr;
  struct record record = {0};
  record.socket = door;
  record.came_ns = came_ns;
  record.packet_bytes = (uint16_t)in->msg_len;
  record.client_bytes = (uint16_t)(message->msg_namelen < sizeof record.client ? message->msg_namelen : sizeof record.client);
  record.control_bytes = (uint16_t)(message->msg_control && message->msg_controllen <= sizeof record.control
                                        ? message->msg_controllen : 0);
  memcpy(record.client, message->msg_name, record.client_bytes);
  if (record.control_bytes) memcpy(record.control, message->msg_control, record.control_bytes);
  bool is_queued = queue(worker, &record, message->msg_iov->iov_base);
  nds_add(is_queued ? &worker->counts.handed_over : &worker->counts.dropped[NDS_QUEUE_FULL], 1);
  return is_queued;
}

/* Tells Python what is to be renewed; gives whether something was told. */
static bool report(struct nds_worker *worker, struct nds_scene *scene) {
  uint64_t hash = nds_hash(scene->report, scene->report_bytes, scene->view->seed);
  struct told *told = &worker->told[hash % REPORTS];
  bool is_queued = false;
  if (told->hash != hash || scene->now_ms - told->at_ms >= REPORT_EVERY_MS) {
    struct record record = {0};
    record.socket = NDS_REPORT;
    record.packet_bytes = scene->report_bytes;
    is_queued = queue(worker, &record, scene->report);
    nds_add(is_queued ? &worker->counts.reported : &worker->counts.reports_lost, 1);
    if (is_queued) *told = (struct told){hash, scene->now_ms};
  }
  scene->report_bytes = 0;
  return is_queued;
}

/* Reads whom a packet came from; the port in host order. */
static const uint8_t *client_of(const struct sockaddr_storage *client, size_t *bytes, uint16_t *port) {
  if (client->ss_family == AF_INET6) {
    const struct sockaddr_in6 *six = (const void *)client;
    *bytes = 16;
    *port = ntohs(six->sin6_port);
    return six->sin6_addr.s6_addr;
  }
  const struct sockaddr_in *four = (const void *)client;
  *bytes = 4;
  *port = ntohs(four->sin_port);
  return (const uint8_t *)&four->sin_addr;
}

/* Answers one packet where it lies; the reply's length, NDS_DROP or NDS_HAND_OVER. */
static int answer_one(struct nds_worker *worker, struct nds_scene *scene, const struct mmsghdr *in,
                      struct nds_query *query) {
  const struct nds_posture *posture = scene->posture;
  uint16_t port;
  size_t bytes;
  const uint8_t *address = client_of(in->msg_hdr.msg_name, &bytes, &port);
  if (port == 0 || port == 7 || port == 19) { /* whoever is there answers everything, or can't be answered */
    nds_add(&worker->counts.dropped[NDS_SOURCE_PORT], 1);
    return NDS_DROP;
  }
  if (!nds_allows(posture, address, bytes)) {
    if (!posture->drops_others) return NDS_HAND_OVER;
    nds_add(&worker->counts.dropped[NDS_NOT_ALLOWED], 1);
    return NDS_DROP;
  }
  scene->address = address;
  scene->address_bytes = bytes;
  return nds_answer_read(scene, query, in->msg_hdr.msg_iov->iov_base);
}

static void send_all(struct nds_worker *worker, const struct door *door, unsigned count) {
  for (unsigned sent = 0; sent < count;) {
    int more = sendmmsg(door->fd, worker->out + sent, count - sent, MSG_DONTWAIT);
    if (more > 0) {
      sent += (unsigned)more;
    } else if (errno != EINTR) {
      count_errno(worker->counts.send_errors, errno);
      sent++;
    }
  }
}

uint64_t nds_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Adds replies that took a batch's time each: none left before the batch was answered (LATENCY_BOUNDS_S). */
static void observe(struct nds_counts *counts, uint64_t took_ns, unsigned replies) {
  static const uint64_t bounds_ns[NDS_LATENCY_BUCKETS - 1] = {
      5000,    10000,   25000,   50000,    100000,   250000,   500000,    1000000,
      2500000, 5000000, 10000000, 25000000, 50000000, 100000000, 250000000, 1000000000};
  unsigned bucket = 0;
  while (bucket < NDS_LATENCY_BUCKETS - 1 && took_ns > bounds_ns[bucket]) bucket++;
  nds_add(&counts->latency[bucket], replies);
  nds_add(&counts->latency_ns, took_ns * replies);
}

/* Lets a place of the batch receive again. */
static void make_room(struct nds_worker *worker, unsigned i) {
  struct msghdr *message = &worker->in[i].msg_hdr;
  struct slot *slot = &worker->slots[i];
  message->msg_namelen = sizeof slot->client;
  message->msg_control = worker->is_set_wildcard ? slot->control.room : NULL;
  message->msg_controllen = worker->is_set_wildcard ? sizeof slot->control.room : 0;
  slot->iov.iov_len = NDS_MAX_QUERY_BYTES;
}

/* Reads the questions of a batch. A name takes some four reads of memory one behind the other, none of which is likely to
 * be in the cache; step by step over the batch they wait together. */
static void read_all(struct nds_worker *worker, const struct nds_view *view, unsigned count) {
  struct nds_query *queries = worker->queries;
  for (unsigned i = 0; i < count; i++)
    nds_read(&queries[i], view, worker->slots[i].iov.iov_base, worker->in[i].msg_len);
  if (count < NDS_LEAST_FETCHED) return;
  for (unsigned i = 0; i < count; i++)
    if (queries[i].has_question) nds_fetch_entry(view, queries[i].hash);
  for (unsigned i = 0; i < count; i++)
    if (queries[i].has_question) nds_fetch_node(view, queries[i].hash);
}

/* Reads and answers up to NDS_BATCH packets of one socket; returns how many were read, -1: the socket is broken. */
static int serve_batch(struct nds_worker *worker, uint32_t number) {
  const struct door *door = &worker->doors[number];
  if (worker->is_set_wildcard != door->is_wildcard) {
    worker->is_set_wildcard = door->is_wildcard;
    for (unsigned i = 0; i < NDS_BATCH; i++) make_room(worker, i);
  }
  int came = recvmmsg(door->fd, worker->in, NDS_BATCH, MSG_DONTWAIT, NULL);
  if (came <= 0) {
    if (came < 0 && errno != EAGAIN && errno != EINTR) {
      count_errno(worker->counts.receive_errors, errno);
      return -1;
    }
    return 0;
  }
  const uint64_t came_ns = nds_now_ns();
  unsigned out = 0;
  bool is_waking = false;
  struct nds_scene scene = {.counts = &worker->counts, .turn = &worker->turn, .now_ms = came_ns / 1000000};
  nds_enter(worker->reader);
  scene.posture = atomic_load_explicit(&worker->plane->posture, memory_order_acquire);
  scene.view = nds_view_of(scene.posture->table);
  if (scene.posture->signs_cookies) scene.unix_s = (uint32_t)time(NULL);
  read_all(worker, scene.view, (unsigned)came);
  for (int i = 0; i < came; i++) {
    struct mmsghdr *in = &worker->in[i];
    int bytes = answer_one(worker, &scene, in, &worker->queries[i]);
    if (scene.report_bytes) is_waking |= report(worker, &scene);
    if (bytes == NDS_DROP) continue;
    if (door->is_wildcard) turn_control(&in->msg_hdr);
    if (bytes == NDS_HAND_OVER) {
      is_waking |= hand_over(worker, number, came_ns, in);
      continue;
    }
    in->msg_hdr.msg_iov->iov_len = (size_t)bytes;
    worker->out[out++].msg_hdr = in->msg_hdr;
  }
  nds_leave(worker->reader);
  if (out) send_all(worker, door, out);
  for (int i = 0; i < came; i++) make_room(worker, (unsigned)i);
  if (is_waking) eventfd_write(worker->wake_fd, 1);
  if (out) observe(&worker->counts, nds_now_ns() - came_ns, out);
  return came;
}

/* ── the thread ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* What the kernel goes on to say without end must not take a whole core: every so many failures are slept over. */
#define FAILURES 16
#define FAILURE_PAUSE_NS 10000000

static void after_failure(unsigned *failures) {
  if (++*failures % FAILURES == 0) nanosleep(&(struct timespec){0, FAILURE_PAUSE_NS}, NULL);
}

/* Asks for short turns (sched(7), EEVDF of Linux 6.12): a thread whose turns are short is let in sooner when it wakes, also
 * where Python keeps the only core busy, and gets no larger share of it. Other kernels ignore or refuse it. */
static void take_short_turns(void) {
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
  } wanted = {0};
  wanted.size = sizeof wanted;
  wanted.nice = getpriority(PRIO_PROCESS, 0); /* of this thread: unchanged */
  wanted.runtime_ns = TURN_NS;
  syscall(SYS_sched_setattr, 0, &wanted, 0);
}

static void *run(void *p) {
  take_short_turns();
  struct nds_worker *worker = p;
  struct pollfd fds[NDS_MAX_SOCKETS + 1];
  unsigned failures = 0;
  for (uint32_t i = 0; i < worker->door_count; i++) fds[i] = (struct pollfd){worker->doors[i].fd, POLLIN, 0};
  fds[worker->door_count] = (struct pollfd){worker->stop_fd, POLLIN, 0};
  while (!atomic_load_explicit(&worker->is_stopping, memory_order_acquire)) {
    if (poll(fds, worker->door_count + 1, -1) < 0) {
      if (errno != EINTR) after_failure(&failures);
      continue;
    }
    for (uint32_t i = 0; i < worker->door_count; i++) {
      if (!fds[i].revents) continue;
      if (serve_batch(worker, i) < 0) after_failure(&failures);
      else failures = 0;
    }
  }
  for (uint32_t i = 0; i < worker->door_count; i++) {
    for (int batch = 0; batch < NDS_LAST_BATCHES && serve_batch(worker, i) > 0; batch++) continue;
  }
  return NULL;
}

struct nds_worker *nds_worker_new(struct nds_plane *plane) {
  struct nds_worker *worker = aligned_alloc(64, (sizeof *worker + 63) & ~(size_t)63);
  if (!worker) return NULL;
  memset(worker, 0, sizeof *worker);
  worker->plane = plane;
  worker->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  worker->reader = nds_reader_claim();
  worker->pages = malloc((size_t)NDS_BATCH * STRIDE_BYTES);
  worker->ring.octets = malloc(NDS_RING_BYTES);
  if (worker->stop_fd < 0 || worker->wake_fd < 0 || worker->reader < 0 || !worker->pages || !worker->ring.octets) {
    nds_worker_free(worker);
    return NULL;
  }
  for (unsigned i = 0; i < NDS_BATCH; i++) {
    struct slot *slot = &worker->slots[i];
    slot->iov.iov_base = worker->pages + (size_t)i * STRIDE_BYTES;
    worker->in[i].msg_hdr.msg_name = &slot->client;
    worker->in[i].msg_hdr.msg_iov = &slot->iov;
    worker->in[i].msg_hdr.msg_iovlen = 1;
    make_room(worker, i);
  }
  return worker;
}

bool nds_worker_socket(struct nds_worker *worker, int fd, bool is_wildcard) {
  if (worker->door_count == NDS_MAX_SOCKETS) return false;
  worker->doors[worker->door_count++] = (struct door){fd, is_wildcard};
  return true;
}

int nds_worker_start(struct nds_worker *worker) {
  pthread_attr_t attributes;
  sigset_t all, before;
  int failed = pthread_attr_init(&attributes);
  if (failed) return failed;
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for Python's threads */
  failed = pthread_create(&worker->thread, &attributes, run, worker);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  if (!failed) pthread_setname_np(worker->thread, "nodens-udp");
  worker->is_running = !failed;
  worker->pid = getpid();
  return failed;
}

void nds_worker_stop(struct nds_worker *worker) {
  if (!worker->is_running || worker->pid != getpid()) return;
  atomic_store_explicit(&worker->is_stopping, true, memory_order_release);
  eventfd_write(worker->stop_fd, 1);
  pthread_join(worker->thread, NULL);
  worker->is_running = false;
}

void nds_worker_free(struct nds_worker *worker) {
  if (worker->stop_fd >= 0) close(worker->stop_fd);
  if (worker->wake_fd >= 0) close(worker->wake_fd);
  if (worker->reader >= 0) nds_reader_free(worker->reader);
  free(worker->pages);
  free(worker->ring.octets);
  free(worker);
}

int nds_worker_wake_fd(const struct nds_worker *worker) { return worker->wake_fd; }

const struct nds_counts *nds_worker_counts(const struct nds_worker *worker) { return &worker->counts; }
