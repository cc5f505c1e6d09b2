/* One UDP query in, one reply out, without Python: what the responder answers for own zones, octet for octet.
 *
 * Law: pure but for the counters; it answers only what it is sure of and hands over everything else, having changed
 * nothing. It reads nothing past the packet, the node or the posture, whatever stands in them.
 */
#ifndef NDS_ANSWER_H
#define NDS_ANSWER_H

#include "cookie.h"
#include "table.h"

#define NDS_HEADER_BYTES 12
#define NDS_MAX_QUERY_BYTES 4096
#define NDS_MAX_REPLY_BYTES 5120 /* the largest UDP reply, and what is sent whatever the limit: question and OPT */
#define NDS_MAX_OPTION_BYTES 192
#define NDS_MAX_NSID_BYTES 128
#define NDS_MAX_OPTIONS 16
#define NDS_MAX_ALIAS_HOPS 8
#define NDS_LATENCY_BUCKETS 17

enum { NDS_DROP = 0, NDS_HAND_OVER = -1 };
enum nds_state { NDS_NOT_READY, NDS_FRESH, NDS_STALE, NDS_EXPIRED };
enum nds_dropping { NDS_SHORT, NDS_RESPONSE, NDS_SOURCE_PORT, NDS_NOT_ALLOWED, NDS_QUEUE_FULL, NDS_DROPS };
enum nds_fault { NDS_OPCODE, NDS_NO_QUESTION, NDS_MANY_QUESTIONS, NDS_BAD_QUESTION, NDS_OPT_VERSION, NDS_FAULTS };
/* Extended errors that are ready: own zones by rcode, too many aliases, and what the timed table has past its TTL. */
enum nds_error {
  NDS_WHEN_NOERROR,
  NDS_WHEN_NXDOMAIN,
  NDS_WHEN_SERVFAIL,
  NDS_WHEN_LOOP,
  NDS_WHEN_TIMED,
  NDS_WHEN_TIMED_NXDOMAIN,
  NDS_ERRORS
};

#define NDS_RCODES 24
#define NDS_ERRNOS 134

/* Written by one thread, read by any. */
struct nds_counts {
  uint64_t responses[NDS_RCODES]; /* by rcode */
  uint64_t fresh, stale;          /* answers for own zones */
  uint64_t pinned;                /* answers at pinned names */
  uint64_t timed_fresh, timed_stale; /* answers from the timed table */
  uint64_t reported, reports_lost;   /* keys to be refreshed: told, and not told because the queue was full */
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

/* What every answer is given under, and from; immutable, replaced as a whole, so that neither is seen with another's. */
struct nds_posture {
  struct nds_table *table;
  struct nds_table *timed; /* NULL: there is none (timed.c) */
  struct nds_view *pins;   /* NULL: no name is pinned; a node here is u16 option bytes | option | node */
  nds_release release;     /* of what `pins` holds */
  enum nds_state state;
  bool has_cap, signs_cookies, makes_pods, drops_others, has_networks;
  bool follows_out; /* an alias that leads out of own zones is Python's */
  uint32_t cap_s, serial, soa_ttl_s;
  uint16_t udp_bytes;
  uint8_t cookie_secret[NDS_SECRET_COOKIE_BYTES]; /* if signs_cookies */
  struct nds_option nsid;              /* ready to stand in an OPT, as the errors are; empty: not sent */
  struct nds_option error[NDS_ERRORS]; /* RFC 8914 */
  uint32_t network_count;
  struct nds_network *networks;
  uint32_t zone_count;
  bool *falls_through; /* by zone: a name that is not in the table is not ours */
};

struct nds_posture *nds_posture_new(uint32_t zone_count, uint32_t network_count);
void nds_posture_free(void *posture);

/* What is known of a query while its reply is made. */
struct nds_query {
  const uint8_t *packet;
  uint64_t hash;
  size_t size, end; /* end: behind the question; 12 without one */
  size_t key_bytes;
  uint16_t qtype;
  bool has_question, has_opt, is_do, wants_nsid, has_cookie;
  uint16_t client_bytes;
  uint8_t version;
  uint8_t cookie[NDS_COOKIE_BYTES]; /* to reply with */
  uint8_t key[NDS_MAX_KEY]; /* lower-cased name; room for what a key of the timed table has behind it */
};

/* What one batch is answered with. Whoever answers on stands between nds_enter and nds_leave as long as it uses it. */
struct nds_scene {
  const struct nds_posture *posture;
  const struct nds_view *view; /* of posture->table */
  struct nds_counts *counts;
  uint32_t *turn; /* counts answers whose records may be rotated; the number taken is how far they are */
  uint64_t now_ms; /* CLOCK_MONOTONIC */
  uint32_t unix_s; /* if posture->signs_cookies, as the next two */
  size_t address_bytes;
  const uint8_t *address; /* of the client, 4 or 16 octets */
  uint16_t report_bytes; /* not 0: a key of the timed table that is to be refreshed; whoever takes it sets 0 */
  uint8_t report[NDS_MAX_KEY];
};

/* Reads a packet's question, if it has one that can be read, and has the memory fetched where its name is looked up. */
void nds_read(struct nds_query *query, const struct nds_view *view, const uint8_t *packet, size_t size);
/* Answers what was read with scene->view; see nds_answer. */
int nds_answer_read(struct nds_scene *scene, struct nds_query *query, uint8_t *reply);

/* Answers a packet. reply: room for NDS_MAX_REPLY_BYTES; may be the packet itself.
 *
 * Returns the reply's length, NDS_DROP (counted) or NDS_HAND_OVER; then the packet is as it came.
 */
int nds_answer(struct nds_scene *scene, const uint8_t *packet, size_t size, uint8_t *reply);

/* Reads counts while their thread writes them. */
void nds_counts_read(const struct nds_counts *counts, struct nds_counts *copy);

/* Tells whether a client may ask. address: 4 or 16 octets, IPv4-mapped ones count as IPv4. */
bool nds_allows(const struct nds_posture *posture, const uint8_t *address, size_t bytes);

#endif
