/* What answering is made of: the query as it was read, the page a reply is laid out on, a node's RRsets.
 *
 * Law: internal to answer.c, alias.c and timed.c, and inline there. A page is written at `at` alone, and only what
 * `room` says is left; nothing is read past a node, whatever its lengths say.
 */
#ifndef NDS_PAGE_H
#define NDS_PAGE_H

#include <string.h>

#include "answer.h"

enum { NOERROR = 0, FORMERR = 1, SERVFAIL = 2, NXDOMAIN = 3, NOTIMP = 4, BADVERS = 16 };
enum { TYPE_NS = 2, TYPE_CNAME = 5, TYPE_SOA = 6, TYPE_PTR = 12, TYPE_MX = 15, TYPE_SRV = 33, TYPE_OPT = 41 };
enum { TYPE_IXFR = 251, TYPE_AXFR = 252, TYPE_ANY = 255 };
enum { QR = 0x80, OPCODE_BITS = 0x78, AA = 0x04, TC = 0x02, RD = 0x01 };
enum { RA = 0x80, AD = 0x20, CD = 0x10 }; /* in the second octet of flags */
enum { OPTION_NSID = 3, OPTION_COOKIE = 10 };

/* agent/wire/node.py */
enum { NODE_HEAD = 8, NODE_ENTRY = 16, CNAME_NODE = 2, ROTATE = 1, PRIVATE_TYPE = 65280 };

#define LEAST_UDP_BYTES 512
#define OPT_BYTES 11
#define MAX_SOA_BYTES (3 * NDS_MAX_NAME + 10 + 7 + 11 + 20)
#define SOA_REFRESH_S 7200
#define SOA_RETRY_S 1800
#define SOA_EXPIRE_S 86400

static inline uint16_t read16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static inline uint32_t read32(const uint8_t *at) { return (uint32_t)read16(at) << 16 | read16(at + 2); }

static inline uint8_t *put16(uint8_t *at, uint32_t number) {
  at[0] = (uint8_t)(number >> 8);
  at[1] = (uint8_t)number;
  return at + 2;
}

static inline uint8_t *put32(uint8_t *at, uint32_t number) {
  number = __builtin_bswap32(number);
  memcpy(at, &number, 4);
  return at + 4;
}

static inline uint8_t *put_bytes(uint8_t *at, const void *from, size_t bytes) {
  memcpy(at, from, bytes);
  return at + bytes;
}

static inline uint16_t little16(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }

static inline uint32_t little32(const uint8_t *at) {
  return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

#define EACH_OCTET(octet) (0x0101010101010101u * (octet))

/* Lower-cases a name in wire form, labels' lengths being below 'A'; eight octets at a time, none of which overflows. */
static inline void nds_lower(uint8_t *to, const uint8_t *from, size_t bytes) {
  for (; bytes >= 8; bytes -= 8, to += 8, from += 8) {
    uint64_t word, low;
    memcpy(&word, from, 8);
    low = word & EACH_OCTET(0x7f);
    /* The high bit of each: at least 'A', and not more than 'Z', and ASCII. */
    uint64_t is_upper = (low + EACH_OCTET(0x80 - 'A')) & ~(low + EACH_OCTET(0x7f - 'Z')) & ~word & EACH_OCTET(0x80);
    word |= is_upper >> 2;
    memcpy(to, &word, 8);
  }
  for (size_t i = 0; i < bytes; i++) to[i] = (uint8_t)(from[i] | (uint8_t)((uint8_t)(from[i] - 'A') < 26) << 5);
}

/* Where a reply is laid out. */
struct page {
  uint8_t *start, *at;
  size_t room; /* left in front of the limit, the OPT already taken off */
  uint16_t answers, authorities, additionals;
  bool is_cut;
};

/* ── header and OPT ────────────────────────────────────────────────────────────────────────────────────────────── */

static inline size_t opt_bytes(const struct nds_query *query, const struct nds_posture *posture,
                               const struct nds_option *error) {
  if (!query->has_opt) return 0;
  size_t bytes = OPT_BYTES;
  if (query->wants_nsid && error) bytes += posture->nsid.bytes;
  if (query->has_cookie && error) bytes += 4 + NDS_COOKIE_BYTES;
  return bytes + (error ? error->bytes : 0);
}

/* Begins a reply: the question echoed, room reckoned. error NULL: an OPT without options (BADVERS). */
static inline struct page begin(const struct nds_query *query, const struct nds_posture *posture,
                                const struct nds_option *error, uint8_t *reply) {
  size_t limit = LEAST_UDP_BYTES, taken = query->end + opt_bytes(query, posture, error);
  if (query->has_opt) {
    size_t least = query->client_bytes < posture->udp_bytes ? query->client_bytes : posture->udp_bytes;
    if (least > limit) limit = least;
  }
  if (reply != query->packet) memcpy(reply, query->packet, query->end);
  return (struct page){reply, reply + query->end, limit > taken ? limit - taken : 0, 0, 0, 0, false};
}

/* Writes our OPT and the header; the reply's length. second: the second octet of flags without the rcode. */
static inline int finish(struct page *page, const struct nds_query *query, const struct nds_posture *posture,
                         const struct nds_option *error, int rcode, uint8_t first, uint8_t second,
                         struct nds_counts *counts) {
  uint8_t *head = page->start;
  if (query->has_opt) {
    bool wants_nsid = query->wants_nsid && error;
    uint8_t *at = page->at;
    *at++ = 0;
    at = put16(at, TYPE_OPT);
    at = put16(at, posture->udp_bytes);
    *at++ = (uint8_t)(rcode >> 4);
    *at++ = 0;
    at = put16(at, query->is_do ? 0x8000 : 0);
    at = put16(at, (uint32_t)(opt_bytes(query, posture, error) - OPT_BYTES));
    if (query->has_cookie && error) {
      at = put16(at, OPTION_COOKIE);
      at = put16(at, NDS_COOKIE_BYTES);
      at = put_bytes(at, query->cookie, NDS_COOKIE_BYTES);
    }
    if (wants_nsid) at = put_bytes(at, posture->nsid.at, posture->nsid.bytes);
    if (error) at = put_bytes(at, error->at, error->bytes);
    page->at = at;
    page->additionals++;
  }
  head[2] = (uint8_t)(QR | (head[2] & RD) | first | (page->is_cut ? TC : 0));
  head[3] = (uint8_t)(second | (rcode & 0xF));
  put16(head + 4, query->end > NDS_HEADER_BYTES);
  put16(head + 6, page->answers);
  put16(head + 8, page->authorities);
  put16(head + 10, page->additionals);
  nds_add(&counts->responses[rcode], 1);
  if (page->is_cut) nds_add(&counts->truncated, 1);
  return (int)(page->at - page->start);
}

static inline int finish_own(struct page *page, const struct nds_query *query, const struct nds_posture *posture,
                             const struct nds_option *error, int rcode, struct nds_counts *counts) {
  nds_add(posture->state == NDS_STALE ? &counts->stale : &counts->fresh, 1);
  return finish(page, query, posture, error, rcode, AA, 0, counts);
}

/* ── records ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Writes a name of the SOA: a pointer, or all of it. */
static inline uint8_t *put_apex(uint8_t *at, const struct nds_zone *zone, size_t zone_at) {
  return zone_at ? put16(at, 0xC000u | (uint32_t)zone_at) : put_bytes(at, zone->name, zone->bytes);
}

/* Writes a zone's SOA (agent/wire/sections.py). zone_at: where the apex stands in the reply already, 0: nowhere. */
static inline void put_soa(struct page *page, const struct nds_posture *posture, const struct nds_zone *zone,
                           size_t zone_at, bool is_answer) {
  size_t apex = zone_at ? 2 : zone->bytes, rdata = 7 + apex + 11 + apex + 20;
  if (page->is_cut) return;
  if (apex + 10 + rdata > page->room) {
    page->is_cut = true;
    return;
  }
  uint8_t *at = put_apex(page->at, zone, zone_at);
  at = put_bytes(at, "\x00\x06\x00\x01", 4);
  at = put32(at, posture->soa_ttl_s);
  at = put16(at, (uint32_t)rdata);
  at = put_bytes(at, "\x02ns\x03" "dns", 7);
  at = put_apex(at, zone, zone_at);
  at = put_bytes(at, "\x0ahostmaster", 11);
  at = put_apex(at, zone, zone_at);
  at = put32(at, posture->serial);
  at = put32(at, SOA_REFRESH_S);
  at = put32(at, SOA_RETRY_S);
  at = put32(at, SOA_EXPIRE_S);
  at = put32(at, posture->soa_ttl_s);
  page->room -= (size_t)(at - page->at);
  page->at = at;
  if (is_answer) page->answers++;
  else page->authorities++;
}

/* Walks records of a node; false if they are not laid out as such. Lowers TTLs where `lowered` is not NULL: a copy. */
static inline bool walk_records(const uint8_t *body, size_t bytes, uint32_t count, uint32_t cap_s, uint8_t *lowered) {
  size_t at = 0;
  for (uint32_t i = 0; i < count; i++) {
    for (;;) {
      if (at >= bytes) return false;
      uint8_t length = body[at];
      at += length >= 0xC0 ? 2u : length + 1u;
      if (!length || length >= 0xC0) break;
    }
    if (at > bytes || bytes - at < 10) return false;
    if (lowered && read32(body + at + 4) > cap_s) put32(lowered + at + 4, cap_s);
    at += 10u + read16(body + at + 8);
    if (at > bytes) return false;
  }
  return true;
}

struct rrset {
  const uint8_t *answer, *additional; /* one behind the other */
  size_t answer_bytes, additional_bytes;
  uint16_t flags, ancount, arcount;
};

/* Finds a type at a node: 1 found, 0 not there, -1 the node is damaged. */
static inline int find_rrset(struct nds_node node, uint16_t qtype, struct rrset *found) {
  if (node.bytes < NODE_HEAD) return -1;
  size_t entries = node.at[1], body = NODE_HEAD + entries * NODE_ENTRY;
  if (body > node.bytes) return -1;
  for (size_t i = 0; i < entries; i++) {
    const uint8_t *entry = node.at + NODE_HEAD + i * NODE_ENTRY;
    size_t answer = little32(entry + 8), additional = little32(entry + 12);
    if (answer > node.bytes - body || additional > node.bytes - body - answer) return -1;
    if (little16(entry) == qtype) {
      *found = (struct rrset){node.at + body,       node.at + body + answer, answer,
                              additional,           little16(entry + 2),     little16(entry + 4),
                              little16(entry + 6)};
      return 1;
    }
    body += answer + additional;
  }
  return 0;
}

static inline bool is_free(const struct rrset *found) { return found->flags & ROTATE && found->ancount > 1; }

/* Tells whether an RRset can be sent as it lies there: where TTLs are lowered and records turned, they must be such. */
static inline bool is_sound(const struct nds_posture *posture, const struct rrset *found) {
  if (is_free(found) && found->answer_bytes % found->ancount) return false;
  return !posture->has_cap || (walk_records(found->answer, found->answer_bytes, found->ancount, 0, NULL) &&
                               walk_records(found->additional, found->additional_bytes, found->arcount, 0, NULL));
}

/* Writes an RRset behind its own question. by: how far its records are turned, if their order is free. */
static inline void put_rrset(struct page *page, const struct nds_posture *posture, const struct rrset *found,
                             uint32_t by) {
  if (found->answer_bytes > page->room) {
    page->is_cut = true;
    return;
  }
  uint8_t *first = page->at;
  size_t cut = is_free(found) ? by % found->ancount * (found->answer_bytes / found->ancount) : 0;
  page->at = put_bytes(page->at, found->answer + cut, found->answer_bytes - cut);
  page->at = put_bytes(page->at, found->answer, cut);
  page->room -= found->answer_bytes;
  page->answers = found->ancount;
  if (posture->has_cap) walk_records(first, found->answer_bytes, found->ancount, posture->cap_s, first);
  if (!found->arcount || found->additional_bytes > page->room) return;
  first = page->at;
  page->at = put_bytes(page->at, found->additional, found->additional_bytes);
  page->room -= found->additional_bytes;
  page->additionals = found->arcount;
  if (posture->has_cap) walk_records(first, found->additional_bytes, found->arcount, posture->cap_s, first);
}

/* ── other files' parts ────────────────────────────────────────────────────────────────────────────────────────── */

/* Follows an alias inside own zones (alias.c). */
int nds_answer_alias(struct nds_scene *scene, const struct nds_query *query, struct nds_node node, uint8_t *reply);
/* Answers from the timed table what is not ours (timed.c); adds to query->key. */
int nds_answer_timed(struct nds_scene *scene, struct nds_query *query, uint8_t *reply);

#endif
