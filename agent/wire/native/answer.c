#include "answer.h"

#include <stdlib.h>
#include <string.h>

enum { NOERROR = 0, FORMERR = 1, SERVFAIL = 2, NXDOMAIN = 3, NOTIMP = 4, BADVERS = 16 };
enum { TYPE_CNAME = 5, TYPE_SOA = 6, TYPE_OPT = 41, TYPE_IXFR = 251, TYPE_AXFR = 252, TYPE_ANY = 255 };
enum { QR = 0x80, OPCODE_BITS = 0x78, AA = 0x04, TC = 0x02, RD = 0x01 };
enum { OPTION_NSID = 3, OPTION_COOKIE = 10 };

/* agent/wire/node.py */
enum { NODE_HEAD = 8, NODE_ENTRY = 16, CNAME_NODE = 2, ROTATE = 1, PRIVATE_TYPE = 65280 };

#define LEAST_UDP_BYTES 512
#define OPT_BYTES 11
#define SOA_BYTES (2 + 10 + 9 + 13 + 20) /* owner, fixed part, ns.dns + pointer, hostmaster + pointer, numbers */
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

/* What is known of a query while its reply is made. */
struct query {
  const uint8_t *packet;
  size_t end; /* behind the question; 12 without one */
  size_t key_bytes;
  uint16_t qtype;
  bool has_opt, is_do, wants_nsid;
  uint16_t client_bytes;
  uint8_t version;
  uint8_t key[NDS_MAX_NAME];
};

/* Where a reply is laid out. */
struct page {
  uint8_t *start, *at;
  size_t room; /* left in front of the limit, the OPT already taken off */
  uint16_t answers, authorities, additionals;
  bool is_cut;
};

/* ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Reads the question's name, lower-cased, into query->key; false if there is none (RFC 1035 section 4.1.2). */
static bool read_question(struct query *query, const uint8_t *packet, size_t size) {
  size_t at = NDS_HEADER_BYTES;
  size_t limit = size < NDS_HEADER_BYTES + NDS_MAX_NAME ? size : NDS_HEADER_BYTES + NDS_MAX_NAME;
  while (at < limit) {
    uint8_t length = packet[at];
    if (length > 63) return false;
    at += length + 1u;
    if (length) continue;
    if (at + 4 > size) return false;
    query->key_bytes = at - NDS_HEADER_BYTES;
    for (size_t i = 0; i < query->key_bytes; i++) { /* lengths are below 'A' */
      uint8_t octet = packet[NDS_HEADER_BYTES + i];
      query->key[i] = (uint8_t)(octet | (uint8_t)((uint8_t)(octet - 'A') < 26) << 5);
    }
    query->qtype = read16(packet + at);
    query->end = at + 4;
    return true;
  }
  return false;
}

/* Reads one OPT right behind the question; false: anything else stands there, or it is not plain. */
static bool read_opt(struct query *query, const uint8_t *packet, size_t size, bool signs_cookies) {
  size_t at = query->end;
  if (size - at < OPT_BYTES || packet[at] || read16(packet + at + 1) != TYPE_OPT) return false;
  query->has_opt = true;
  query->client_bytes = read16(packet + at + 3);
  query->version = packet[at + 6];
  query->is_do = packet[at + 7] & 0x80;
  size_t left = read16(packet + at + 9);
  at += OPT_BYTES;
  if (size - at < left) return false;
  for (int count = 0; left; count++) {
    if (left < 4 || count == NDS_MAX_OPTIONS) return false;
    uint16_t code = read16(packet + at);
    size_t bytes = read16(packet + at + 2);
    if (left - 4 < bytes) return false;
    if (code == OPTION_NSID) query->wants_nsid = true;
    if (code == OPTION_COOKIE && (signs_cookies || (bytes != 8 && (bytes < 16 || bytes > 40)))) return false;
    at += 4 + bytes;
    left -= 4 + bytes;
  }
  return true;
}

/* ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static size_t opt_bytes(const struct query *query, const struct nds_posture *posture, const struct nds_option *error) {
  if (!query->has_opt) return 0;
  size_t bytes = OPT_BYTES;
  if (query->wants_nsid && error) bytes += posture->nsid.bytes;
  return bytes + (error ? error->bytes : 0);
}

/* Begins a reply: the question echoed, room reckoned. error NULL: an OPT without options (BADVERS). */
static struct page begin(const struct query *query, const struct nds_posture *posture, const struct nds_option *error,
                         uint8_t *reply) {
  size_t limit = LEAST_UDP_BYTES, taken = query->end + opt_bytes(query, posture, error);
  if (query->has_opt) {
    size_t least = query->client_bytes < posture->udp_bytes ? query->client_bytes : posture->udp_bytes;
    if (least > limit) limit = least;
  }
  if (reply != query->packet) memcpy(reply, query->packet, query->end);
  return (struct page){reply, reply + query->end, limit > taken ? limit - taken : 0, 0, 0, 0, false};
}

static int finish(struct page *page, const struct query *query, const struct nds_posture *posture,
                  const struct nds_option *error, int rcode, bool is_authoritative, struct nds_counts *counts) {
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
    if (wants_nsid) at = put_bytes(at, posture->nsid.at, posture->nsid.bytes);
    if (error) at = put_bytes(at, error->at, error->bytes);
    page->at = at;
    page->additionals++;
  }
  head[2] = (uint8_t)(QR | (head[2] & RD) | (is_authoritative ? AA : 0) | (page->is_cut ? TC : 0));
  head[3] = (uint8_t)(rcode & 0xF);
  put16(head + 4, query->end > NDS_HEADER_BYTES);
  put16(head + 6, page->answers);
  put16(head + 8, page->authorities);
  put16(head + 10, page->additionals);
  nds_add(&counts->responses[rcode], 1);
  if (page->is_cut) nds_add(&counts->truncated, 1);
  return (int)(page->at - page->start);
}

static int finish_own(struct page *page, const struct query *query, const struct nds_posture *posture,
                      const struct nds_option *error, int rcode, struct nds_counts *counts) {
  nds_add(posture->state == NDS_STALE ? &counts->stale : &counts->fresh, 1);
  return finish(page, query, posture, error, rcode, true, counts);
}

/* Echoes id and opcode, nothing else. */
static int header_only(const uint8_t *packet, uint8_t *reply, uint8_t flags, int rcode) {
  reply[0] = packet[0];
  reply[1] = packet[1];
  reply[2] = flags;
  reply[3] = (uint8_t)rcode;
  memset(reply + 4, 0, 8);
  return NDS_HEADER_BYTES;
}

/* Says what is wrong with a query whose question can't be echoed and that has no further records. */
static int fault(const uint8_t *packet, uint8_t *reply, enum nds_fault reason, struct nds_counts *counts) {
  int rcode = reason == NDS_OPCODE ? NOTIMP : FORMERR;
  nds_add(&counts->faults[reason], 1);
  nds_add(&counts->responses[rcode], 1);
  return header_only(packet, reply, (uint8_t)(QR | (packet[2] & (reason == NDS_OPCODE ? OPCODE_BITS : RD))), rcode);
}

/* Writes a zone's SOA (agent/wire/sections.py), its names pointing at the apex inside the question. */
static void put_soa(struct page *page, const struct nds_posture *posture, size_t zone_at, bool is_answer) {
  if (SOA_BYTES > page->room) {
    page->is_cut = true;
    return;
  }
  uint32_t apex = 0xC000u | (uint32_t)zone_at;
  uint8_t *at = put16(page->at, apex);
  at = put_bytes(at, "\x00\x06\x00\x01", 4);
  at = put32(at, posture->soa_ttl_s);
  at = put16(at, SOA_BYTES - 12);
  at = put_bytes(at, "\x02ns\x03" "dns", 7);
  at = put16(at, apex);
  at = put_bytes(at, "\x0ahostmaster", 11);
  at = put16(at, apex);
  at = put32(at, posture->serial);
  at = put32(at, SOA_REFRESH_S);
  at = put32(at, SOA_RETRY_S);
  at = put32(at, SOA_EXPIRE_S);
  page->at = put32(at, posture->soa_ttl_s);
  page->room -= SOA_BYTES;
  if (is_answer) page->answers++;
  else page->authorities++;
}

/* ── own zones ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Walks records of a node; false if they are not laid out as such. Lowers TTLs where `lowered` is not NULL: a copy. */
static bool walk_records(const uint8_t *body, size_t bytes, uint32_t count, uint32_t cap_s, uint8_t *lowered) {
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
  const uint8_t *answer, *additional;
  size_t answer_bytes, additional_bytes;
  uint16_t flags, ancount, arcount;
};

/* Finds a type at a node: 1 found, 0 not there, -1 the node is damaged. */
static int find_rrset(struct nds_node node, uint16_t qtype, struct rrset *found) {
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

static void put_rrset(struct page *page, const struct nds_posture *posture, const struct rrset *found, uint32_t by) {
  if (found->answer_bytes > page->room) {
    page->is_cut = true;
    return;
  }
  uint8_t *first = page->at;
  size_t cut = 0;
  if (found->flags & ROTATE && found->ancount > 1) cut = by % found->ancount * (found->answer_bytes / found->ancount);
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

/* Tells whether a name is one that pod records could be made for: something below pod.ZONE. */
static bool is_below_pod(const struct query *query, const struct nds_zone *zone) {
  size_t tree = zone->bytes + 4u;
  return query->key_bytes > tree && !memcmp(query->key + query->key_bytes - tree, "\x03pod", 4);
}

static int answer_node(const struct nds_table *table, const struct nds_posture *posture, struct nds_counts *counts,
                       uint32_t *turn, const struct query *query, struct nds_node node, uint8_t *reply) {
  const struct nds_option *error = &posture->error[NDS_WHEN_NOERROR];
  if (node.bytes < NODE_HEAD) return NDS_HAND_OVER;
  uint16_t number = little16(node.at + 2), qtype = query->qtype;
  if ((node.at[0] & CNAME_NODE && qtype != TYPE_CNAME) || qtype == TYPE_ANY || number >= table->zone_count)
    return NDS_HAND_OVER;
  const struct nds_zone *zone = &table->zones[number];
  if (!zone->bytes || zone->bytes > query->key_bytes) return NDS_HAND_OVER;
  size_t apex = query->key_bytes - zone->bytes;
  if (memcmp(query->key + apex, zone->name, zone->bytes)) return NDS_HAND_OVER;
  struct rrset found = {0};
  bool is_soa = qtype == TYPE_SOA && !apex;
  int there = is_soa || qtype >= PRIVATE_TYPE ? 0 : find_rrset(node, qtype, &found);
  if (there < 0) return NDS_HAND_OVER;
  if (there && posture->has_cap &&
      (!walk_records(found.answer, found.answer_bytes, found.ancount, 0, NULL) ||
       !walk_records(found.additional, found.additional_bytes, found.arcount, 0, NULL)))
    return NDS_HAND_OVER;
  if (there && found.flags & ROTATE && found.ancount > 1 && found.answer_bytes % found.ancount) return NDS_HAND_OVER;
  struct page page = begin(query, posture, error, reply);
  if (there) put_rrset(&page, posture, &found, found.flags & ROTATE && found.ancount > 1 ? ++*turn : 0);
  else put_soa(&page, posture, NDS_HEADER_BYTES + apex, is_soa);
  return finish_own(&page, query, posture, error, NOERROR, counts);
}

static int answer_own(const struct nds_table *table, const struct nds_view *view, const struct nds_posture *posture,
                      struct nds_counts *counts, uint32_t *turn, const struct query *query, uint8_t *reply) {
  if (posture->state == NDS_NOT_READY || posture->state == NDS_EXPIRED) {
    if (nds_zone_of(table, query->key, query->key_bytes) < 0) return NDS_HAND_OVER;
    const struct nds_option *error = &posture->error[NDS_WHEN_SERVFAIL];
    struct page page = begin(query, posture, error, reply);
    return finish(&page, query, posture, error, SERVFAIL, false, counts);
  }
  struct nds_node node = nds_find(view, query->key, query->key_bytes);
  if (node.at) return answer_node(table, posture, counts, turn, query, node, reply);
  int number = nds_zone_of(table, query->key, query->key_bytes);
  if (number < 0 || (uint32_t)number >= posture->zone_count || posture->falls_through[number]) return NDS_HAND_OVER;
  const struct nds_zone *zone = &table->zones[number];
  if (posture->makes_pods && is_below_pod(query, zone)) return NDS_HAND_OVER;
  const struct nds_option *error = &posture->error[NDS_WHEN_NXDOMAIN];
  struct page page = begin(query, posture, error, reply);
  put_soa(&page, posture, NDS_HEADER_BYTES + query->key_bytes - zone->bytes, false);
  return finish_own(&page, query, posture, error, NXDOMAIN, counts);
}

int nds_answer(const struct nds_table *table, const struct nds_view *view, const struct nds_posture *posture,
               struct nds_counts *counts, uint32_t *turn, const uint8_t *packet, size_t size, uint8_t *reply) {
  if (size < NDS_HEADER_BYTES || packet[2] & QR) {
    nds_add(&counts->dropped[size < NDS_HEADER_BYTES ? NDS_SHORT : NDS_RESPONSE], 1);
    return NDS_DROP;
  }
  if (packet[2] & OPCODE_BITS) return fault(packet, reply, NDS_OPCODE, counts);
  struct query query;
  query.packet = packet;
  query.end = NDS_HEADER_BYTES;
  query.has_opt = query.is_do = query.wants_nsid = false;
  query.client_bytes = query.version = 0;
  uint16_t questions = read16(packet + 4), additionals = read16(packet + 10);
  bool is_plain = !read16(packet + 6) && !read16(packet + 8);
  if (questions != 1) {
    if (!is_plain || additionals) return NDS_HAND_OVER; /* there may be an OPT, to be answered with one */
    return fault(packet, reply, questions ? NDS_MANY_QUESTIONS : NDS_NO_QUESTION, counts);
  }
  if (!read_question(&query, packet, size)) return fault(packet, reply, NDS_BAD_QUESTION, counts);
  if (!is_plain || additionals > 1) return NDS_HAND_OVER;
  if (additionals && !read_opt(&query, packet, size, posture->signs_cookies)) return NDS_HAND_OVER;
  if (query.version) {
    nds_add(&counts->faults[NDS_OPT_VERSION], 1);
    struct page page = begin(&query, posture, NULL, reply);
    return finish(&page, &query, posture, NULL, BADVERS, false, counts);
  }
  if (read16(packet + query.end - 2) != 1 || query.qtype == TYPE_AXFR || query.qtype == TYPE_IXFR) return NDS_HAND_OVER;
  return answer_own(table, view, posture, counts, turn, &query, reply);
}

/* ── posture ───────────────────────────────────────────────────────────────────────────────────────────────────── */

struct nds_posture *nds_posture_new(uint32_t zone_count, uint32_t network_count) {
  struct nds_posture *posture = calloc(1, sizeof *posture);
  if (!posture) return NULL;
  posture->falls_through = calloc(zone_count + 1u, sizeof *posture->falls_through);
  posture->networks = calloc(network_count + 1u, sizeof *posture->networks);
  if (!posture->falls_through || !posture->networks) {
    nds_posture_free(posture);
    return NULL;
  }
  posture->zone_count = zone_count;
  posture->network_count = network_count;
  posture->has_networks = network_count > 0;
  return posture;
}

void nds_posture_free(void *p) {
  struct nds_posture *posture = p;
  if (!posture) return;
  free(posture->falls_through);
  free(posture->networks);
  free(posture);
}

bool nds_allows(const struct nds_posture *posture, const uint8_t *address, size_t bytes) {
  static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (!posture->has_networks) return true;
  if (bytes == 16 && !memcmp(address, mapped, 12)) {
    address += 12;
    bytes = 4;
  }
  for (uint32_t i = 0; i < posture->network_count; i++) {
    const struct nds_network *network = &posture->networks[i];
    size_t whole = network->bits / 8u, rest = network->bits % 8u;
    if (network->is_6 != (bytes == 16) || whole > bytes || (rest && whole == bytes)) continue;
    if (memcmp(network->address, address, whole)) continue;
    if (!rest || (network->address[whole] ^ address[whole]) >> (8 - rest) == 0) return true;
  }
  return false;
}
