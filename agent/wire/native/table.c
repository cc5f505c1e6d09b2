#include "table.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

/* ── grace periods ─────────────────────────────────────────────────────────────────────────────────────────────── */

#define NDS_OUTSIDE UINT64_MAX

struct nds_reader {
  _Alignas(64) _Atomic uint64_t seen;
  atomic_bool taken;
};

struct nds_retired {
  uint64_t epoch;
  void *p;
  void (*free_it)(void *);
};

static _Atomic uint64_t nds_epoch = 1;
static struct nds_reader nds_readers[NDS_MAX_READERS] = {[0 ... NDS_MAX_READERS - 1] = {NDS_OUTSIDE, false}};
/* A ring of the writer: retired in the order of their epochs. */
static struct nds_retired nds_limbo[NDS_MAX_LIMBO];
static size_t nds_limbo_first, nds_limbo_count;

int nds_reader_claim(void) {
  for (int i = 0; i < NDS_MAX_READERS; i++) {
    bool is_taken = false;
    if (atomic_compare_exchange_strong(&nds_readers[i].taken, &is_taken, true)) return i;
  }
  return -1;
}

void nds_reader_free(int reader) {
  nds_leave(reader);
  atomic_store(&nds_readers[reader].taken, false);
}

void nds_enter(int reader) {
  uint64_t epoch = atomic_load_explicit(&nds_epoch, memory_order_acquire);
  /* Either the writer sees this, or we see below that it has raised the epoch, and with it what it has unlinked before:
   * the three are in the one order of all sequentially consistent operations. */
  atomic_exchange_explicit(&nds_readers[reader].seen, epoch, memory_order_seq_cst);
  (void)atomic_load_explicit(&nds_epoch, memory_order_seq_cst);
}

void nds_leave(int reader) { atomic_store_explicit(&nds_readers[reader].seen, NDS_OUTSIDE, memory_order_release); }

static uint64_t nds_oldest_seen(void) {
  uint64_t oldest = NDS_OUTSIDE;
  for (int i = 0; i < NDS_MAX_READERS; i++) {
    uint64_t seen = atomic_load_explicit(&nds_readers[i].seen, memory_order_seq_cst);
    if (seen < oldest) oldest = seen;
  }
  return oldest;
}

size_t nds_reclaim(void) {
  if (!nds_limbo_count) return 0;
  uint64_t oldest = nds_oldest_seen();
  while (nds_limbo_count) {
    struct nds_retired first = nds_limbo[nds_limbo_first];
    if (first.epoch >= oldest) break;
    nds_limbo_first = (nds_limbo_first + 1) % NDS_MAX_LIMBO;
    nds_limbo_count--;
    first.free_it(first.p); /* may retire more */
  }
  return nds_limbo_count;
}

void nds_retire(void *p, void (*free_it)(void *)) {
  /* Seen from here on: whoever enters with a later epoch can't find p. */
  uint64_t epoch = atomic_fetch_add_explicit(&nds_epoch, 1, memory_order_seq_cst);
  while (nds_limbo_count == NDS_MAX_LIMBO) {
    if (nds_reclaim() == NDS_MAX_LIMBO) sched_yield(); /* a reader's batch ends soon */
  }
  nds_limbo[(nds_limbo_first + nds_limbo_count) % NDS_MAX_LIMBO] = (struct nds_retired){epoch, p, free_it};
  nds_limbo_count++;
  if (nds_limbo_count % 64 == 0) nds_reclaim();
}

/* ── views ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

#define NDS_LEAST_SLOTS 16

/* A view and the entries in it, to be given back together; the release function travels beside them. */
struct nds_bundle {
  struct nds_view *view;
  nds_release release;
};

struct nds_dropped {
  struct nds_entry *entry;
  nds_release release;
};

static void nds_entry_free(struct nds_entry *entry, nds_release release) {
  if (release) {
    if (entry->key_owner) release(entry->key_owner);
    if (entry->node_owner) release(entry->node_owner);
  }
  free(entry);
}

void nds_view_free(struct nds_view *view, nds_release release) {
  for (uint64_t i = 0; i <= view->mask; i++) {
    struct nds_entry *entry = atomic_load_explicit(&view->slots[i], memory_order_relaxed);
    if (entry) nds_entry_free(entry, release);
  }
  if (view->base.owner && release) release(view->base.owner);
  free(view);
}

static void nds_bundle_free(void *p) {
  struct nds_bundle *bundle = p;
  nds_view_free(bundle->view, bundle->release);
  free(bundle);
}

static void nds_dropped_free(void *p) {
  struct nds_dropped *dropped = p;
  nds_entry_free(dropped->entry, dropped->release);
  free(dropped);
}

struct nds_view *nds_view_new(uint64_t seed, uint64_t names, const struct nds_base *base) {
  uint64_t slots = NDS_LEAST_SLOTS;
  while (slots < names * 2) slots *= 2;
  struct nds_view *view = calloc(1, sizeof *view + slots * sizeof view->slots[0]);
  if (!view) return NULL;
  view->seed = seed;
  view->mask = slots - 1;
  if (base) view->base = *base;
  return view;
}

static _Atomic(struct nds_entry *) *nds_slot(struct nds_view *view, uint64_t hash, const uint8_t *key, size_t bytes) {
  for (uint64_t at = hash & view->mask;; at = (at + 1) & view->mask) {
    struct nds_entry *entry = atomic_load_explicit(&view->slots[at], memory_order_relaxed);
    if (!entry || (entry->hash == hash && entry->key_bytes == bytes && !memcmp(entry->key, key, bytes)))
      return &view->slots[at];
  }
}

static struct nds_entry *nds_entry_new(uint64_t hash, const uint8_t *key, size_t key_bytes, const uint8_t *node,
                                       size_t node_bytes, void *key_owner, void *node_owner) {
  if (key_bytes > NDS_MAX_KEY || node_bytes > UINT32_MAX) return NULL;
  struct nds_entry *entry = malloc(sizeof *entry);
  if (entry)
    *entry = (struct nds_entry){hash, key, node, key_owner, node_owner, (uint32_t)node_bytes, (uint16_t)key_bytes};
  return entry;
}

bool nds_view_put(struct nds_view *view, const uint8_t *key, size_t key_bytes, const uint8_t *node, size_t node_bytes,
                  void *key_owner, void *node_owner) {
  uint64_t hash = nds_hash(key, key_bytes, view->seed);
  _Atomic(struct nds_entry *) *slot = nds_slot(view, hash, key, key_bytes);
  if (atomic_load_explicit(slot, memory_order_relaxed) || view->used * 3 > view->mask * 2) return false;
  struct nds_entry *entry = nds_entry_new(hash, key, key_bytes, node, node_bytes, key_owner, node_owner);
  if (!entry) return false;
  atomic_store_explicit(slot, entry, memory_order_relaxed);
  view->used++;
  return true;
}

/* Gives the same entries more room; names that are gone and hide nothing stay behind. */
static bool nds_grow(struct nds_table *table, struct nds_view *old) {
  uint64_t kept = 0;
  for (uint64_t i = 0; i <= old->mask; i++) {
    struct nds_entry *entry = atomic_load_explicit(&old->slots[i], memory_order_relaxed);
    kept += entry && (entry->node || old->base.blob);
  }
  struct nds_view *view = nds_view_new(old->seed, kept + kept / 2 + 1, &old->base);
  struct nds_bundle *bundle = malloc(sizeof *bundle);
  /* What becomes of the old array: the same slots with only those entries that stay behind. */
  struct nds_view *rest = calloc(1, sizeof *rest + (old->mask + 1) * sizeof rest->slots[0]);
  if (!view || !bundle || !rest) {
    free(view);
    free(bundle);
    free(rest);
    return false;
  }
  rest->mask = old->mask;
  for (uint64_t i = 0; i <= old->mask; i++) {
    struct nds_entry *entry = atomic_load_explicit(&old->slots[i], memory_order_relaxed);
    if (!entry) continue;
    if (entry->node || old->base.blob) {
      atomic_store_explicit(nds_slot(view, entry->hash, entry->key, entry->key_bytes), entry, memory_order_relaxed);
      view->used++;
    } else {
      atomic_store_explicit(&rest->slots[i], entry, memory_order_relaxed);
    }
  }
  *bundle = (struct nds_bundle){rest, table->release};
  atomic_store_explicit(&table->view, view, memory_order_release);
  nds_retire(old, free);
  nds_retire(bundle, nds_bundle_free);
  return true;
}

bool nds_put(struct nds_table *table, const uint8_t *key, size_t key_bytes, const uint8_t *node, size_t node_bytes,
             void *key_owner, void *node_owner) {
  struct nds_view *view = atomic_load_explicit(&table->view, memory_order_relaxed);
  if ((view->used + 1) * 3 > view->mask * 2) {
    if (!nds_grow(table, view)) return false;
    view = atomic_load_explicit(&table->view, memory_order_relaxed);
  }
  uint64_t hash = nds_hash(key, key_bytes, view->seed);
  struct nds_entry *entry = nds_entry_new(hash, key, key_bytes, node, node_bytes, key_owner, node_owner);
  struct nds_dropped *dropped = malloc(sizeof *dropped);
  if (!entry || !dropped) {
    free(entry);
    free(dropped);
    return false;
  }
  _Atomic(struct nds_entry *) *slot = nds_slot(view, hash, key, key_bytes);
  struct nds_entry *before = atomic_exchange_explicit(slot, entry, memory_order_acq_rel);
  if (before) {
    *dropped = (struct nds_dropped){before, table->release};
    nds_retire(dropped, nds_dropped_free);
  } else {
    free(dropped);
    view->used++;
  }
  return true;
}

void nds_show(struct nds_table *table, struct nds_view *view) {
  struct nds_bundle *bundle = malloc(sizeof *bundle);
  struct nds_view *before = atomic_exchange_explicit(&table->view, view, memory_order_acq_rel);
  if (!bundle) return; /* without 16 bytes of memory the old view stays where it is */
  *bundle = (struct nds_bundle){before, table->release};
  nds_retire(bundle, nds_bundle_free);
  nds_reclaim();
}

bool nds_take_over(struct nds_table *table, struct nds_table *from) {
  struct nds_view *taken = atomic_load_explicit(&from->view, memory_order_relaxed);
  struct nds_view *empty = nds_view_new(taken->seed, 0, NULL);
  if (!empty) return false;
  atomic_store_explicit(&from->view, empty, memory_order_release);
  nds_show(table, taken);
  return true;
}

/* ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────── */

struct nds_table *nds_table_new(uint32_t zone_count, uint64_t seed, nds_release release) {
  struct nds_table *table = calloc(1, sizeof *table);
  if (!table) return NULL;
  table->zones = calloc(zone_count + 1u, sizeof *table->zones);
  table->longest_first = calloc(zone_count + 1u, sizeof *table->longest_first);
  struct nds_view *view = nds_view_new(seed, 0, NULL);
  if (!table->zones || !table->longest_first || !view) {
    free(view);
    free(table->zones);
    free(table->longest_first);
    free(table);
    return NULL;
  }
  table->zone_count = zone_count;
  table->release = release;
  atomic_init(&table->view, view);
  return table;
}

void nds_table_zone(struct nds_table *table, uint32_t number, const uint8_t *name, size_t bytes, bool reverse) {
  struct nds_zone *zone = &table->zones[number];
  zone->bytes = (uint16_t)(bytes <= NDS_MAX_NAME ? bytes : 0);
  zone->reverse = reverse;
  memcpy(zone->name, name, zone->bytes);
}

void nds_table_seal(struct nds_table *table) {
  for (uint32_t i = 0; i < table->zone_count; i++) {
    uint32_t at = i;
    for (; at && table->zones[table->longest_first[at - 1]].bytes < table->zones[i].bytes; at--)
      table->longest_first[at] = table->longest_first[at - 1];
    table->longest_first[at] = i;
  }
}

static void nds_table_shell_free(void *p) {
  struct nds_table *table = p;
  free(table->zones);
  free(table->longest_first);
  free(table);
}

void nds_table_free(struct nds_table *table) {
  struct nds_bundle *bundle = malloc(sizeof *bundle);
  if (bundle) {
    *bundle = (struct nds_bundle){atomic_load(&table->view), table->release};
    nds_retire(bundle, nds_bundle_free);
  }
  nds_retire(table, nds_table_shell_free);
  nds_reclaim();
}

/* ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static struct nds_node nds_find_base(const struct nds_base *base, uint64_t hash, const uint8_t *key, size_t bytes) {
  const struct nds_node none = {NULL, 0};
  uint64_t slot = hash & base->mask;
  uint32_t tag = (uint32_t)(hash >> 32), offset;
  /* Ends at an empty place at the latest, or when every place has been seen. */
  for (uint64_t probes = 0; probes <= base->mask && (offset = nds_u32(base->offsets + 4 * slot)); probes++) {
    if (nds_u32(base->tags + 4 * slot) == tag) {
      uint64_t at = offset - 1u; /* u8 key length, key, u32 node length, node */
      if (at >= base->blob_bytes) return none;
      uint64_t left = base->blob_bytes - at - 1;
      const uint8_t *here = base->blob + at + 1;
      if (here[-1] == bytes && left >= bytes + 4 && !memcmp(here, key, bytes)) {
        uint32_t node_bytes = nds_u32(here + bytes);
        if (node_bytes > left - bytes - 4) return none;
        return (struct nds_node){here + bytes + 4, node_bytes};
      }
    }
    slot = (slot + (tag | 1u)) & base->mask;
  }
  return none;
}

void nds_fetch_slot(const struct nds_view *view, uint64_t hash) {
  __builtin_prefetch(&view->slots[hash & view->mask]);
  if (!view->base.blob) return;
  uint64_t slot = hash & view->base.mask;
  __builtin_prefetch(view->base.offsets + 4 * slot);
  __builtin_prefetch(view->base.tags + 4 * slot);
}

/* Only first places are looked at: the rest of a search is rare. */
void nds_fetch_entry(const struct nds_view *view, uint64_t hash) {
  const struct nds_entry *entry = atomic_load_explicit(&view->slots[hash & view->mask], memory_order_acquire);
  if (entry) __builtin_prefetch(entry);
  if (!view->base.blob) return;
  uint64_t at = nds_u32(view->base.offsets + 4 * (hash & view->base.mask));
  if (!at || at > view->base.blob_bytes) return;
  __builtin_prefetch(view->base.blob + at - 1);
  __builtin_prefetch(view->base.blob + at + 63);
}

void nds_fetch_node(const struct nds_view *view, uint64_t hash) {
  const struct nds_entry *entry = atomic_load_explicit(&view->slots[hash & view->mask], memory_order_acquire);
  if (!entry || entry->hash != hash) return;
  __builtin_prefetch(entry->key);
  if (entry->node) __builtin_prefetch(entry->node);
}

struct nds_node nds_find(const struct nds_view *view, const uint8_t *key, size_t bytes) {
  return nds_find_hashed(view, nds_hash(key, bytes, view->seed), key, bytes);
}

struct nds_node nds_find_hashed(const struct nds_view *view, uint64_t hash, const uint8_t *key, size_t bytes) {
  for (uint64_t at = hash & view->mask;; at = (at + 1) & view->mask) {
    const struct nds_entry *entry = atomic_load_explicit(&view->slots[at], memory_order_acquire);
    if (!entry) break;
    if (entry->hash == hash && entry->key_bytes == bytes && !memcmp(entry->key, key, bytes))
      return (struct nds_node){entry->node, entry->node_bytes};
  }
  if (view->base.blob) return nds_find_base(&view->base, hash, key, bytes);
  return (struct nds_node){NULL, 0};
}

int nds_zone_of(const struct nds_table *table, const uint8_t *key, size_t bytes) {
  for (uint32_t i = 0; i < table->zone_count; i++) {
    const struct nds_zone *zone = &table->zones[table->longest_first[i]];
    if (!zone->bytes || zone->bytes > bytes || memcmp(key + bytes - zone->bytes, zone->name, zone->bytes)) continue;
    size_t at = 0, apex = bytes - zone->bytes;
    while (at < apex) at += key[at] + 1u; /* the same octets inside a label are no zone */
    if (at == apex) return (int)table->longest_first[i];
  }
  return -1;
}
