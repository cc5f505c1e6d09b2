/* One UDP query in, one reply out, without Python: what the responder answers for own zones, octet for octet.
 *
 * Law: pure but for the counters; it answers only what it is sure of and hands over everything else, having changed
 * nothing. It reads nothing past the packet, the node or the posture, whatever stands in them.
 */
#ifndef NDS_ANSWER_H
#define NDS_ANSWER_H

#include "table.h"

#define NDS_HEADER_BYTES 12
#define NDS_MAX_QUERY_BYTES 4096
#define NDS_MAX_REPLY_BYTES 5120 /* the largest UDP reply, and what is sent whatever the limit: question and OPT */
#define NDS_MAX_OPTION_BYTES 192
#define NDS_MAX_NSID_BYTES 128
#define NDS_MAX_OPTIONS 16
#define NDS_LATENCY_BUCKETS 17

enum { NDS_DROP = 0, NDS_HAND_OVER = -1 };
enum nds_state { NDS_NOT_READY, NDS_FRESH, NDS_STALE, NDS_EXPIRED };
enum nds_dropping { NDS_SHORT, NDS_RESPONSE, NDS_SOURCE_PORT, NDS_NOT_ALLOWED, NDS_QUEUE_FULL, NDS_DROPS };
enum nds_fault { NDS_OPCODE, NDS_NO_QUESTION, NDS_MANY_QUESTIONS, NDS_BAD_QUESTION, NDS_OPT_VERSION, NDS_FAULTS };
enum nds_error { NDS_WHEN_NOERROR, NDS_WHEN_NXDOMAIN, NDS_WHEN_SERVFAIL, NDS_ERRORS };

#define NDS_RCODES 24
#define NDS_ERRNOS 134

/* Written by one thread, read by any. */
struct nds_counts {
  uint64_t responses[NDS_RCODES]; /* by rcode */
  uint64_t fresh, stale;          /* answers for own zones */
  uint64_t dropped[NDS_DROPS];
  uint64_t faults[NDS_FAULTS];
  uint64_t truncated, handed_over;
  uint64_t latency[NDS_LATENCY_BUCKETS], latency_ns;
  uint64_t send_errors[NDS_ERRNOS], receive_errors[NDS_ERRNOS];
};

static inline void nds_add(uint64_t *count, uint64_t more) {
  __atomic_store_n(count, *count + more, __ATOMIC_RELAXED);
}

struct nds_option {
  uint16_t bytes;
  uint8_t at[NDS_MAX_OPTION_BYTES];
};

struct nds_network {
  uint8_t bits;
  bool is_6;
  uint8_t address[16];
};

/* What every answer is given under; immutable, replaced as a whole. */
struct nds_posture {
  enum nds_state state;
  bool has_cap, signs_cookies, makes_pods, drops_others, has_networks;
  uint32_t cap_s, serial, soa_ttl_s;
  uint16_t udp_bytes;
  struct nds_option nsid;              /* ready to stand in an OPT, as the errors are; empty: not sent */
  struct nds_option error[NDS_ERRORS]; /* extended error by rcode (RFC 8914) */
  uint32_t network_count;
  struct nds_network *networks;
  uint32_t zone_count;
  bool *falls_through; /* by zone: a name that is not in the table is not ours */
};

struct nds_posture *nds_posture_new(uint32_t zone_count, uint32_t network_count);
void nds_posture_free(void *posture);

/* Answers a packet.
 *
 * turn: counts answers whose records may be rotated; the number taken is how far they are.
 * reply: room for NDS_MAX_REPLY_BYTES; may be the packet itself.
 * Returns the reply's length, NDS_DROP (counted) or NDS_HAND_OVER.
 */
int nds_answer(const struct nds_table *table, const struct nds_view *view, const struct nds_posture *posture,
               struct nds_counts *counts, uint32_t *turn, const uint8_t *packet, size_t size, uint8_t *reply);

/* Tells whether a client may ask. address: 4 or 16 octets, IPv4-mapped ones count as IPv4. */
bool nds_allows(const struct nds_posture *posture, const uint8_t *address, size_t bytes);

#endif
