/* AnswerTable in C memory: name -> node, read by workers without a lock while one thread writes.
 *
 * Law: one writer (it holds the GIL, or is the only thread); readers stand between nds_enter and nds_leave. What a
 * reader can reach never changes but by one atomic store, and is given back only after every reader has been outside
 * once since it became unreachable (a grace period). No lookup reads past what it was given: every advance is checked.
 *
 * A table shows one view: the base (the answers section of a snapshot, used as it lies there) and, in front of it, an
 * open-addressed index of entries, which are immutable. An entry without a node hides the base's.
 */
#ifndef NDS_TABLE_H
#define NDS_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NDS_MAX_NAME 255
#define NDS_MAX_KEY 258 /* a name and what the timed table has behind it */
#define NDS_MAX_READERS 64
#define NDS_MAX_LIMBO 65536 /* retired and not yet given back; beyond it the writer waits for the readers */

/* Where keys, nodes and the base come from: called once for each owner that is no longer needed. */
typedef void (*nds_release)(void *owner);

struct nds_zone {
  uint16_t bytes;
  bool reverse;
  uint8_t name[NDS_MAX_NAME];
};

struct nds_entry {
  uint64_t hash;
  const uint8_t *key, *node; /* node NULL: there is no such name */
  void *key_owner, *node_owner;
  uint32_t node_bytes;
  uint16_t key_bytes;
};

struct nds_base {
  const uint8_t *offsets, *tags, *blob; /* NULL without a base */
  uint64_t mask, blob_bytes;
  void *owner;
};

struct nds_view {
  uint64_t seed;
  struct nds_base base;
  uint64_t mask, used; /* used: by the writer alone */
  _Atomic(struct nds_entry *) slots[];
};

struct nds_table {
  _Atomic(struct nds_view *) view;
  nds_release release;
  uint32_t zone_count;
  uint32_t *longest_first; /* indexes of zones */
  struct nds_zone *zones;
};

struct nds_node {
  const uint8_t *at;
  size_t bytes;
};

/* Readers. */
int nds_reader_claim(void); /* -1: NDS_MAX_READERS are there already */
void nds_reader_free(int reader);
void nds_enter(int reader);
void nds_leave(int reader);

/* Gives back p by free_it(p) after a grace period. Call it when no reader that enters now can find p any more. */
void nds_retire(void *p, void (*free_it)(void *));
/* Gives back what may be given back; returns what is still waiting. */
size_t nds_reclaim(void);

/* Writer. Functions that return bool are false when there is no memory, and then nothing has changed. */
struct nds_table *nds_table_new(uint32_t zone_count, uint64_t seed, nds_release release);
void nds_table_zone(struct nds_table *table, uint32_t number, const uint8_t *name, size_t bytes, bool reverse);
void nds_table_seal(struct nds_table *table); /* after the last zone */
void nds_table_free(struct nds_table *table);
/* Owners change hands only if true is returned. node NULL: the name goes. */
bool nds_put(struct nds_table *table, const uint8_t *key, size_t key_bytes, const uint8_t *node, size_t node_bytes,
             void *key_owner, void *node_owner);
/* Begins a view over a base, to be filled with nds_view_put and shown with nds_show. */
struct nds_view *nds_view_new(uint64_t seed, uint64_t names, const struct nds_base *base);
bool nds_view_put(struct nds_view *view, const uint8_t *key, size_t key_bytes, const uint8_t *node, size_t node_bytes,
                  void *key_owner, void *node_owner);
void nds_view_free(struct nds_view *view, nds_release release); /* one that was never shown */
void nds_show(struct nds_table *table, struct nds_view *view);
/* What `from` shows, `table` shows from now on; `from` is empty then. */
bool nds_take_over(struct nds_table *table, struct nds_table *from);

/* Reading. */
static inline struct nds_view *nds_view_of(struct nds_table *table) {
  return atomic_load_explicit(&table->view, memory_order_acquire);
}
/* key is lower-cased; at NULL: no such name. */
struct nds_node nds_find(const struct nds_view *view, const uint8_t *key, size_t bytes);
/* The same with the hash of the key known (hash.h, with the view's seed). */
struct nds_node nds_find_hashed(const struct nds_view *view, uint64_t hash, const uint8_t *key, size_t bytes);
/* What a lookup will read, in the order it will: each has the memory fetched that the next one needs. They change nothing. */
void nds_fetch_slot(const struct nds_view *view, uint64_t hash);
void nds_fetch_entry(const struct nds_view *view, uint64_t hash);
void nds_fetch_node(const struct nds_view *view, uint64_t hash);
/* Index of the closest zone that a well-formed name lies in, -1: none. */
int nds_zone_of(const struct nds_table *table, const uint8_t *key, size_t bytes);

#endif
