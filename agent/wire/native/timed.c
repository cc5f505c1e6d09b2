/* Answers with an age: what the timed table holds of names that are not ours (agent/wire/timed.py has the layout).
 *
 * Law: TTLs count down from birth; past them the answer is given with a TTL of 30 s and said to be stale, for as long as
 * it may be. Who should renew it is told its key. Nothing is changed before everything has been checked.
 */
#include <string.h>

#include "page.h"

enum { TIMED_HEAD = 48, KEY_DO = 1, KEY_CD = 2 };
#define STALE_TTL_S 30

static inline uint64_t little64(const uint8_t *at) { return little32(at) | (uint64_t)little32(at + 4) << 32; }

struct timed {
  uint64_t born_ms, refresh_ms, expires_ms, stale_until_ms;
  uint8_t rcode, flags;
  uint16_t count[3], bytes[3];
  const uint8_t *ttls, *body; /* u16 offsets of TTLs in the body, ascending */
};

/* Reads what is kept; false: it is not laid out as such. */
static bool read_timed(struct nds_node held, struct timed *timed) {
  if (held.bytes < TIMED_HEAD) return false;
  const uint8_t *at = held.at;
  *timed = (struct timed){little64(at), little64(at + 8), little64(at + 16), little64(at + 24), at[32], at[33],
                          {little16(at + 34), little16(at + 36), little16(at + 38)},
                          {little16(at + 40), little16(at + 42), little16(at + 44)}, at + TIMED_HEAD, NULL};
  size_t offsets = 2u * ((size_t)timed->count[0] + timed->count[1] + timed->count[2]);
  size_t body = (size_t)timed->bytes[0] + timed->bytes[1] + timed->bytes[2];
  timed->body = at + TIMED_HEAD + (held.bytes - TIMED_HEAD < offsets ? 0 : offsets);
  return timed->rcode < 16 && held.bytes - TIMED_HEAD == offsets + body;
}

/* Writes the sections, each whole or not at all, with the TTLs of now. */
static void put_sections(struct page *page, const struct timed *timed, uint64_t now_ms, bool is_stale) {
  uint8_t *first = page->at;
  uint16_t *written[3] = {&page->answers, &page->authorities, &page->additionals};
  const uint8_t *from = timed->body;
  for (int section = 0; section < 3; from += timed->bytes[section++]) {
    if (timed->bytes[section] > page->room) {
      page->is_cut = section < 2;
      break;
    }
    page->at = put_bytes(page->at, from, timed->bytes[section]);
    page->room -= timed->bytes[section];
    *written[section] = timed->count[section];
  }
  size_t bytes = (size_t)(page->at - first), count = (size_t)page->answers + page->authorities + page->additionals;
  uint64_t age_s = now_ms > timed->born_ms ? (now_ms - timed->born_ms) / 1000 : 0;
  for (size_t i = 0; i < count; i++) {
    size_t at = little16(timed->ttls + 2 * i);
    if (at + 4 > bytes) continue;
    uint32_t ttl_s = read32(first + at);
    put32(first + at, is_stale ? STALE_TTL_S : ttl_s > age_s ? (uint32_t)(ttl_s - age_s) : 0);
  }
}

int nds_answer_timed(struct nds_scene *scene, struct nds_query *query, uint8_t *reply) {
  static const struct nds_option none;
  const struct nds_posture *posture = scene->posture;
  if (!posture->timed) return NDS_HAND_OVER;
  const uint8_t second = query->packet[3];
  size_t key_bytes = query->key_bytes + 3;
  put16(query->key + query->key_bytes, query->qtype);
  query->key[key_bytes - 1] = (uint8_t)((query->is_do ? KEY_DO : 0) | (second & CD ? KEY_CD : 0));
  struct nds_node held = nds_find(nds_view_of(posture->timed), query->key, key_bytes);
  struct timed timed;
  if (!held.at || !read_timed(held, &timed) || scene->now_ms >= timed.stale_until_ms) return NDS_HAND_OVER;
  bool is_stale = scene->now_ms >= timed.expires_ms;
  const struct nds_option *error = &none;
  if (is_stale) error = &posture->error[timed.rcode == NXDOMAIN ? NDS_WHEN_TIMED_NXDOMAIN : NDS_WHEN_TIMED];
  if (is_stale || scene->now_ms >= timed.refresh_ms) {
    memcpy(scene->report, query->key, key_bytes);
    scene->report_bytes = (uint16_t)key_bytes;
  }
  bool wants_ad = second & AD || query->is_do;
  struct page page = begin(query, posture, error, reply);
  put_sections(&page, &timed, scene->now_ms, is_stale);
  nds_add(is_stale ? &scene->counts->timed_stale : &scene->counts->timed_fresh, 1);
  return finish(&page, query, posture, error, timed.rcode, 0, timed.flags & (wants_ad ? RA | AD | CD : RA | CD),
                scene->counts);
}
