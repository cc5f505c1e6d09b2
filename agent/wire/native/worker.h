/* A UDP worker: one thread that answers on its own sockets and never waits for Python.
 *
 * Law: no allocation, lock or Python object per query. What it does not answer itself goes into a ring of
 * NDS_RING_BYTES, in order; when that is full the newcomer is dropped and counted (what has waited is answered first,
 * and a client asks again). Replies to what was handed over are sent by whoever takes it out, on the same socket,
 * from the address that was asked.
 */
#ifndef NDS_WORKER_H
#define NDS_WORKER_H

#include "answer.h"

#define NDS_MAX_SOCKETS 256
#define NDS_BATCH 64
#define NDS_LAST_BATCHES 16      /* read from each socket when stopping */
#define NDS_RING_BYTES (1u << 18) /* some two thousand queries of a usual size */

struct nds_worker;

/* What all workers share: replaced as a whole, and what it replaces stays until every batch is over. */
struct nds_plane {
  _Atomic(struct nds_posture *) posture;
};

struct nds_plane *nds_plane_new(struct nds_posture *posture);
void nds_plane_free(struct nds_plane *plane); /* no worker is left */
void nds_posture_show(struct nds_plane *plane, struct nds_posture *posture); /* free the other one's tables after this */

#define NDS_REPORT UINT32_MAX /* in the place of a socket: the packet is a key of the timed table, to be renewed */

struct nds_handed {
  uint32_t socket;
  uint64_t came_ns; /* CLOCK_MONOTONIC */
  uint16_t packet_bytes, client_bytes, control_bytes;
  uint8_t client[28];  /* sockaddr */
  uint8_t control[64]; /* cmsg that makes a reply leave from the queried address */
  const uint8_t *packet;
};

struct nds_worker *nds_worker_new(struct nds_plane *plane);
/* Adds a bound, non-blocking UDP socket; false: there are NDS_MAX_SOCKETS. */
bool nds_worker_socket(struct nds_worker *worker, int fd, bool is_wildcard);
int nds_worker_start(struct nds_worker *worker); /* 0 or an errno */
void nds_worker_stop(struct nds_worker *worker); /* returns when what had arrived is answered; not in a forked child */
void nds_worker_free(struct nds_worker *worker); /* stopped before */
int nds_worker_wake_fd(const struct nds_worker *worker); /* readable when something was handed over */
const struct nds_counts *nds_worker_counts(const struct nds_worker *worker);

/* Takes the oldest query that was handed over; valid until nds_worker_taken. */
bool nds_worker_take(struct nds_worker *worker, struct nds_handed *handed);
void nds_worker_taken(struct nds_worker *worker);
void nds_worker_rest(struct nds_worker *worker); /* wake_fd is readable only if something is there still */
/* Sends a reply to it; 0 or an errno. */
int nds_worker_reply(struct nds_worker *worker, const struct nds_handed *handed, const uint8_t *reply, size_t bytes);
uint64_t nds_now_ns(void); /* CLOCK_MONOTONIC */

#endif
