#include "answer.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "page.h"

/* ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Reads the question's name, lower-cased, into query->key; false if there is none (RFC 1035 section 4.1.2). */
static bool read_question(struct nds_query *query, const uint8_t *packet, size_t size) {
  size_t at = NDS_HEADER_BYTES;
  size_t limit = size < NDS_HEADER_BYTES + NDS_MAX_NAME ? size : NDS_HEADER_BYTES + NDS_MAX_NAME;
  while (at < limit) {
    uint8_t length = packet[at];
    if (length > 63) return false;
    at += length + 1u;
    if (length) continue;
    if (at + 4 > size) return false;
    query->key_bytes = at - NDS_HEADER_BYTES;
    nds_lower(query->key, packet + NDS_HEADER_BYTES, query->key_bytes);
    query->qtype = read16(packet + at);
    query->end = at + 4;
    return true;
  }
  return false;
}

/* Reads one OPT right behind the question; false: anything else stands there, or it is not plain. */
static bool read_opt(const struct nds_scene *scene, struct nds_query *query, const uint8_t *packet, size_t size) {
  const struct nds_posture *posture = scene->posture;
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
    if (code == OPTION_COOKIE) {
      if (query->has_cookie || (bytes != 8 && (bytes < 16 || bytes > 40))) return false;
      if (posture->signs_cookies) {
        if (!scene->address) return false;
        query->has_cookie = true;
        nds_cookie(query->cookie, packet + at + 4, bytes, scene->address, scene->address_bytes, scene->unix_s,
                   posture->cookie_secret);
      }
    }
    at += 4 + bytes;
    left -= 4 + bytes;
  }
  return true;
}

/* ── what needs no name ────────────────────────────────────────────────────────────────────────────────────────── */

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

/* ── own zones ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Tells whether a name is one that pod records could be made for: something below pod.ZONE. */
static bool is_below_pod(const struct nds_query *query, const struct nds_zone *zone) {
  size_t tree = zone->bytes + 4u;
  return query->key_bytes > tree && !memcmp(query->key + query->key_bytes - tree, "\x03pod", 4);
}

static int answer_node(struct nds_scene *scene, const struct nds_query *query, struct nds_node node, uint8_t *reply) {
  const struct nds_posture *posture = scene->posture;
  const struct nds_option *error = &posture->error[NDS_WHEN_NOERROR];
  if (node.bytes < NODE_HEAD) return NDS_HAND_OVER;
  uint16_t number = little16(node.at + 2), qtype = query->qtype;
  if (qtype == TYPE_ANY || number >= posture->table->zone_count) return NDS_HAND_OVER;
  if (node.at[0] & CNAME_NODE && qtype != TYPE_CNAME) return nds_answer_alias(scene, query, node, reply);
  const struct nds_zone *zone = &posture->table->zones[number];
  if (!zone->bytes || zone->bytes > query->key_bytes) return NDS_HAND_OVER;
  size_t apex = query->key_bytes - zone->bytes;
  if (memcmp(query->key + apex, zone->name, zone->bytes)) return NDS_HAND_OVER;
  struct rrset found = {0};
  bool is_soa = qtype == TYPE_SOA && !apex;
  int there = is_soa || qtype >= PRIVATE_TYPE ? 0 : find_rrset(node, qtype, &found);
  if (there < 0 || (there && !is_sound(posture, &found))) return NDS_HAND_OVER;
  struct page page = begin(query, posture, error, reply);
  if (there) put_rrset(&page, posture, &found, is_free(&found) ? ++*scene->turn : 0);
  else put_soa(&page, posture, zone, NDS_HEADER_BYTES + apex, is_soa);
  return finish_own(&page, query, posture, error, NOERROR, scene->counts);
}

/* Answers at a name that an operator has pinned, ahead of everything; what is not simply there is Python's. */
static int answer_pinned(struct nds_scene *scene, const struct nds_query *query, struct nds_node pin, uint8_t *reply) {
  const struct nds_posture *posture = scene->posture;
  struct nds_option error;
  if (pin.bytes < 2) return NDS_HAND_OVER;
  error.bytes = little16(pin.at);
  if (error.bytes > sizeof error.at || pin.bytes - 2 < error.bytes) return NDS_HAND_OVER;
  memcpy(error.at, pin.at + 2, error.bytes);
  struct nds_node node = {pin.at + 2 + error.bytes, pin.bytes - 2 - error.bytes};
  struct rrset found;
  if (query->qtype == TYPE_ANY || query->qtype >= PRIVATE_TYPE || find_rrset(node, query->qtype, &found) != 1)
    return NDS_HAND_OVER;
  if (!is_sound(posture, &found)) return NDS_HAND_OVER;
  struct page page = begin(query, posture, &error, reply);
  put_rrset(&page, posture, &found, is_free(&found) ? ++*scene->turn : 0);
  nds_add(&scene->counts->pinned, 1);
  return finish(&page, query, posture, &error, NOERROR, AA, 0, scene->counts);
}

static int answer_own(struct nds_scene *scene, struct nds_query *query, uint8_t *reply) {
  const struct nds_posture *posture = scene->posture;
  const struct nds_table *table = posture->table;
  if (posture->pins) {
    struct nds_node pin = nds_find(posture->pins, query->key, query->key_bytes);
    if (pin.at) return answer_pinned(scene, query, pin, reply);
  }
  if (posture->state == NDS_NOT_READY || posture->state == NDS_EXPIRED) {
    if (nds_zone_of(table, query->key, query->key_bytes) < 0) return nds_answer_timed(scene, query, reply);
    const struct nds_option *error = &posture->error[NDS_WHEN_SERVFAIL];
    struct page page = begin(query, posture, error, reply);
    return finish(&page, query, posture, error, SERVFAIL, 0, 0, scene->counts);
  }
  struct nds_node node = nds_find_hashed(scene->view, query->hash, query->key, query->key_bytes);
  if (node.at) return answer_node(scene, query, node, reply);
  int number = nds_zone_of(table, query->key, query->key_bytes);
  if (number >= 0) {
    const struct nds_zone *zone = &table->zones[number];
    if ((uint32_t)number >= posture->zone_count || (posture->makes_pods && is_below_pod(query, zone)))
      return NDS_HAND_OVER;
    if (!posture->falls_through[number]) {
      const struct nds_option *error = &posture->error[NDS_WHEN_NXDOMAIN];
      struct page page = begin(query, posture, error, reply);
      put_soa(&page, posture, zone, NDS_HEADER_BYTES + query->key_bytes - zone->bytes, false);
      return finish_own(&page, query, posture, error, NXDOMAIN, scene->counts);
    }
  }
  return nds_answer_timed(scene, query, reply);
}

void nds_read(struct nds_query *query, const struct nds_view *view, const uint8_t *packet, size_t size) {
  query->packet = packet;
  query->size = size;
  query->end = NDS_HEADER_BYTES;
  query->has_opt = query->is_do = query->wants_nsid = query->has_cookie = false;
  query->client_bytes = query->version = 0;
  query->has_question = size >= NDS_HEADER_BYTES && read16(packet + 4) == 1 && read_question(query, packet, size);
  if (!query->has_question) return;
  query->hash = nds_hash(query->key, query->key_bytes, view->seed);
  nds_fetch_slot(view, query->hash);
}

int nds_answer_read(struct nds_scene *scene, struct nds_query *query, uint8_t *reply) {
  struct nds_counts *counts = scene->counts;
  const struct nds_posture *posture = scene->posture;
  const uint8_t *packet = query->packet;
  const size_t size = query->size;
  if (size < NDS_HEADER_BYTES || packet[2] & QR) {
    nds_add(&counts->dropped[size < NDS_HEADER_BYTES ? NDS_SHORT : NDS_RESPONSE], 1);
    return NDS_DROP;
  }
  if (packet[2] & OPCODE_BITS) return fault(packet, reply, NDS_OPCODE, counts);
  uint16_t questions = read16(packet + 4), additionals = read16(packet + 10);
  bool is_plain = !read16(packet + 6) && !read16(packet + 8);
  if (questions != 1) {
    if (!is_plain || additionals) return NDS_HAND_OVER; /* there may be an OPT, to be answered with one */
    return fault(packet, reply, questions ? NDS_MANY_QUESTIONS : NDS_NO_QUESTION, counts);
  }
  if (!query->has_question) return fault(packet, reply, NDS_BAD_QUESTION, counts);
  if (!is_plain || additionals > 1) return NDS_HAND_OVER;
  if (additionals && !read_opt(scene, query, packet, size)) return NDS_HAND_OVER;
  if (query->version) {
    nds_add(&counts->faults[NDS_OPT_VERSION], 1);
    struct page page = begin(query, posture, NULL, reply);
    return finish(&page, query, posture, NULL, BADVERS, 0, 0, counts);
  }
  if (read16(packet + query->end - 2) != 1 || query->qtype == TYPE_AXFR || query->qtype == TYPE_IXFR)
    return NDS_HAND_OVER;
  return answer_own(scene, query, reply);
}

int nds_answer(struct nds_scene *scene, const uint8_t *packet, size_t size, uint8_t *reply) {
  struct nds_query query;
  nds_read(&query, scene->view, packet, size);
  return nds_answer_read(scene, &query, reply);
}

void nds_counts_read(const struct nds_counts *counts, struct nds_counts *copy) {
  const uint64_t *from = (const uint64_t *)counts;
  uint64_t *to = (uint64_t *)copy; /* numbers and nothing else */
  for (size_t i = 0; i < sizeof *counts / sizeof *from; i++) to[i] = __atomic_load_n(from + i, __ATOMIC_RELAXED);
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
  if (posture->pins) nds_view_free(posture->pins, posture->release);
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
