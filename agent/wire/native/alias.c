/* CNAMEs followed inside own zones, as agent/server/zones.py does: the same records in the same octets.
 *
 * Law: the reply is laid out aside, so that a query that turns out to be Python's is handed over as it came. At most
 * NDS_MAX_ALIAS_HOPS aliases are followed. Names are read like agent/wire/message.py's read_name reads them, or not at all.
 */
#include <string.h>

#include "page.h"

#define MAX_POINTER_HOPS 16

/* A message as it would be if the records of a node stood behind a question for its owner. */
struct origin {
  const uint8_t *key, *body;
  size_t key_bytes, body_bytes;
};

struct name {
  size_t bytes;
  uint8_t at[NDS_MAX_NAME];
};

/* Where following aliases has led. */
struct chain {
  struct page page; /* the aliases are on it */
  struct name name; /* at the end of them, lower-cased */
  size_t name_at;   /* where it stands in the reply */
};

/* An octet of such a message; 256 behind its end, and in front of the question, where no name may point. */
static unsigned octet_at(const struct origin *origin, size_t at) {
  const size_t body = NDS_HEADER_BYTES + origin->key_bytes + 4;
  if (at < NDS_HEADER_BYTES) return 256;
  if (at < NDS_HEADER_BYTES + origin->key_bytes) return origin->key[at - NDS_HEADER_BYTES];
  if (at < body) return 256; /* Python reads zeros there; no node of ours points at them */
  return at - body < origin->body_bytes ? origin->body[at - body] : 256;
}

/* Writes a name out; where the next field begins, 0 if it can't be read. */
static size_t read_name(const struct origin *origin, size_t at, struct name *name) {
  size_t end = 0, floor = at;
  name->bytes = 0;
  for (int hops = 0;;) {
    unsigned length = octet_at(origin, at);
    if (length < 64) {
      if (name->bytes + length + 1 + (length > 0) > NDS_MAX_NAME) return 0;
      name->at[name->bytes++] = (uint8_t)length;
      for (size_t i = 1; i <= length; i++) {
        unsigned octet = octet_at(origin, at + i);
        if (octet > 255) return 0;
        name->at[name->bytes++] = (uint8_t)octet;
      }
      at += length + 1;
      if (!length) return end ? end : at;
      continue;
    }
    unsigned low = octet_at(origin, at + 1);
    if (length < 192 || length > 255 || low > 255) return 0;
    if (!end) end = at + 2;
    at = (length & 63) << 8 | low;
    if (at >= floor || ++hops > MAX_POINTER_HOPS) return 0;
    floor = at;
  }
}

/* Where in the rdata a name stands that runs to its end; -1: nowhere. */
static int name_in_rdata(uint16_t type) {
  if (type == TYPE_NS || type == TYPE_CNAME || type == TYPE_PTR) return 0;
  return type == TYPE_SRV ? 6 : type == TYPE_MX ? 2 : -1;
}

/* Writes records so that they can stand anywhere in a message that has their owner at owner_at (sections.py: moved).
 *
 * bytes: reckoned on, even where there is no room left and nothing is written.
 * Returns where the records end, 0 if they can't be read.
 */
static size_t move_records(const struct nds_posture *posture, const struct origin *origin, size_t at, uint32_t count,
                           size_t owner_at, struct page *page, size_t *bytes) {
  struct name owner, target;
  for (; count; count--) {
    uint8_t fixed[10];
    at = read_name(origin, at, &owner);
    if (!at) return 0;
    for (size_t i = 0; i < sizeof fixed; i++) {
      unsigned octet = octet_at(origin, at + i);
      if (octet > 255) return 0;
      fixed[i] = (uint8_t)octet;
    }
    at += sizeof fixed;
    bool is_own = owner.bytes == origin->key_bytes && !memcmp(owner.at, origin->key, owner.bytes);
    size_t length = read16(fixed + 8), head = length, start = at - (NDS_HEADER_BYTES + origin->key_bytes + 4);
    if (start > origin->body_bytes || origin->body_bytes - start < length) return 0;
    int name_at = name_in_rdata(read16(fixed));
    target.bytes = 0;
    if (name_at >= 0) {
      head = (size_t)name_at;
      if (length <= head || read_name(origin, at + head, &target) != at + length) return 0;
    }
    at += length;
    size_t need = (is_own ? 2 : owner.bytes) + sizeof fixed + head + target.bytes;
    if (page && *bytes + need <= page->room) {
      uint8_t *to = page->at + *bytes;
      to = is_own ? put16(to, 0xC000u | (uint32_t)owner_at) : put_bytes(to, owner.at, owner.bytes);
      to = put_bytes(to, fixed, 2);
      to = put16(to, 1);
      uint32_t ttl_s = read32(fixed + 4);
      to = put32(to, posture->has_cap && ttl_s > posture->cap_s ? posture->cap_s : ttl_s);
      to = put16(to, (uint32_t)(head + target.bytes));
      to = put_bytes(to, origin->body + start, head);
      put_bytes(to, target.at, target.bytes);
    }
    *bytes += need;
  }
  return at;
}

/* Takes what was written onto a page, all or nothing; gives whether it was taken. */
static bool take(struct page *page, size_t bytes) {
  if (page->is_cut || bytes > page->room) return false;
  page->at += bytes;
  page->room -= bytes;
  return true;
}

/* Adds the alias at the end of a chain; false: the node is not laid out as one. */
static bool add_alias(const struct nds_posture *posture, struct chain *chain, struct nds_node node, bool is_first,
                      size_t *end) {
  struct rrset alias;
  struct name owner, target;
  if (find_rrset(node, TYPE_CNAME, &alias) != 1 || alias.ancount != 1) return false;
  struct origin origin = {chain->name.at, alias.answer, chain->name.bytes, alias.answer_bytes};
  const size_t first = NDS_HEADER_BYTES + origin.key_bytes + 4;
  size_t at = read_name(&origin, first, &owner), bytes = 0;
  if (!at || at + 10 > first + origin.body_bytes || read16(origin.body + at - first) != TYPE_CNAME) return false;
  if (read_name(&origin, at + 10, &target) != first + origin.body_bytes) return false;
  size_t owner_bytes = at - first;
  if (!is_first) { /* its owner is a pointer to the target before it */
    if (move_records(posture, &origin, first, 1, chain->name_at, &chain->page, &bytes) != first + origin.body_bytes)
      return false;
    owner_bytes = owner.bytes == origin.key_bytes && !memcmp(owner.at, origin.key, owner.bytes) ? 2 : owner.bytes;
  } else {
    bytes = alias.answer_bytes;
    if (bytes <= chain->page.room) {
      memcpy(chain->page.at, alias.answer, bytes);
      if (posture->has_cap) walk_records(alias.answer, bytes, 1, posture->cap_s, chain->page.at);
    }
  }
  if (take(&chain->page, bytes)) chain->page.answers++;
  else chain->page.is_cut = true;
  chain->name_at = *end + owner_bytes + 10;
  *end += bytes;
  nds_lower(target.at, target.at, target.bytes);
  chain->name = target;
  return true;
}

/* Adds the RRset at the end of a chain; false: it is not laid out as one. */
static bool add_rrset(struct nds_scene *scene, struct chain *chain, const struct rrset *found) {
  const struct nds_posture *posture = scene->posture;
  struct page *page = &chain->page;
  struct origin origin = {chain->name.at, found->answer, chain->name.bytes, found->answer_bytes};
  const size_t first = NDS_HEADER_BYTES + origin.key_bytes + 4, last = first + found->answer_bytes;
  size_t cut = 0, bytes = 0;
  uint32_t by = 0;
  if (is_free(found)) {
    by = ++*scene->turn % found->ancount;
    cut = by * (found->answer_bytes / found->ancount);
  }
  if (move_records(posture, &origin, first + cut, found->ancount - by, chain->name_at, page, &bytes) != last ||
      move_records(posture, &origin, first, by, chain->name_at, page, &bytes) != first + cut)
    return false;
  if (is_free(found) && bytes != found->answer_bytes) return false; /* a turn by octets is none by records then */
  if (take(page, bytes)) page->answers += found->ancount;
  else page->is_cut = true;
  if (!found->arcount) return true;
  /* Additional records may point into the answer in front of them. */
  origin.body_bytes += found->additional_bytes;
  bytes = 0;
  if (move_records(posture, &origin, last, found->arcount, chain->name_at, page, &bytes) != last + found->additional_bytes)
    return false;
  if (take(page, bytes)) page->additionals = found->arcount;
  return true;
}

/* Says what is at the end of a chain; NDS_HAND_OVER where Python must. */
static int say(struct nds_scene *scene, const struct nds_query *query, struct chain *chain, struct nds_node node,
               int number) {
  const struct nds_posture *posture = scene->posture;
  const struct nds_table *table = posture->table;
  const struct nds_option *error = &posture->error[NDS_WHEN_NOERROR];
  if (number < 0 || (!node.at && posture->falls_through[number])) { /* not ours: the aliases alone */
    if (posture->follows_out) return NDS_HAND_OVER;
    return finish_own(&chain->page, query, posture, error, NOERROR, scene->counts);
  }
  if (!node.at) {
    error = &posture->error[NDS_WHEN_NXDOMAIN];
    put_soa(&chain->page, posture, &table->zones[number], 0, false);
    return finish_own(&chain->page, query, posture, error, NXDOMAIN, scene->counts);
  }
  if (node.bytes < NODE_HEAD || little16(node.at + 2) >= table->zone_count) return NDS_HAND_OVER;
  const struct nds_zone *zone = &table->zones[little16(node.at + 2)];
  struct rrset found = {0};
  bool is_apex = chain->name.bytes == zone->bytes && !memcmp(chain->name.at, zone->name, zone->bytes);
  bool is_soa = is_apex && query->qtype == TYPE_SOA;
  int there = is_soa || query->qtype >= PRIVATE_TYPE ? 0 : find_rrset(node, query->qtype, &found);
  if (there && (there < 0 || query->qtype == TYPE_SOA || !is_sound(posture, &found) ||
                !add_rrset(scene, chain, &found)))
    return NDS_HAND_OVER;
  if (!there) put_soa(&chain->page, posture, zone, is_soa ? chain->name_at : 0, is_soa);
  return finish_own(&chain->page, query, posture, error, NOERROR, scene->counts);
}

int nds_answer_alias(struct nds_scene *scene, const struct nds_query *query, struct nds_node node, uint8_t *reply) {
  uint8_t aside[NDS_MAX_REPLY_BYTES];
  const struct nds_posture *posture = scene->posture;
  const struct nds_table *table = posture->table;
  struct chain chain;
  chain.page = begin(query, posture, &posture->error[NDS_WHEN_NOERROR], aside);
  chain.name.bytes = query->key_bytes;
  memcpy(chain.name.at, query->key, query->key_bytes);
  chain.name_at = NDS_HEADER_BYTES;
  size_t end = query->end;
  int number = 0, bytes;
  for (int hops = 0; node.at && node.bytes >= NODE_HEAD && node.at[0] & CNAME_NODE; hops++) {
    if (!add_alias(posture, &chain, node, !hops, &end)) return NDS_HAND_OVER;
    if (hops == NDS_MAX_ALIAS_HOPS) {
      const struct nds_option *error = &posture->error[NDS_WHEN_LOOP];
      struct page page = begin(query, posture, error, reply);
      return finish(&page, query, posture, error, SERVFAIL, 0, 0, scene->counts);
    }
    if (posture->pins && nds_find(posture->pins, chain.name.at, chain.name.bytes).at) return NDS_HAND_OVER;
    number = nds_zone_of(table, chain.name.at, chain.name.bytes);
    if (number >= (int)posture->zone_count) return NDS_HAND_OVER;
    node = (struct nds_node){NULL, 0};
    if (number >= 0) node = nds_find(scene->view, chain.name.at, chain.name.bytes);
    if (number >= 0 && !node.at && posture->makes_pods) return NDS_HAND_OVER;
  }
  bytes = say(scene, query, &chain, node, number);
  if (bytes > 0) memcpy(reply, aside, (size_t)bytes);
  return bytes;
}
