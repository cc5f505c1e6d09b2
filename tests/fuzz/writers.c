/* One writer and two readers at full speed under AddressSanitizer: nothing that a reader holds is given back.
 *
 * The writer replaces names, lets views grow and exchanges whole views; a reader looks names up the way a worker does
 * and reads every octet of what it finds, which says itself which name it belongs to.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../agent/wire/native/table.h"

enum { NAMES = 500, READERS = 2, NODE_BYTES = 64 };

static struct nds_table *table;
static atomic_bool is_over;
static atomic_ullong found;

static void key_of(uint8_t *key, uint32_t number) {
  key[0] = 4;
  memcpy(key + 1, &number, 4);
  key[5] = 0;
}

static void *read_on(void *nothing) {
  int reader = nds_reader_claim();
  uint8_t key[6];
  if (reader < 0) abort();
  for (uint32_t number = 0; !atomic_load(&is_over); number++) {
    nds_enter(reader);
    const struct nds_view *view = nds_view_of(table);
    for (int i = 0; i < 64; i++) {
      uint32_t wanted = (number * 64 + (uint32_t)i) % NAMES;
      key_of(key, wanted);
      struct nds_node node = nds_find(view, key, sizeof key);
      if (!node.at) continue;
      for (size_t at = 0; at < node.bytes; at++)
        if (node.at[at] != (uint8_t)wanted) abort();
      atomic_fetch_add_explicit(&found, 1, memory_order_relaxed);
    }
    nds_leave(reader);
  }
  nds_reader_free(reader);
  return nothing;
}

static void make(uint32_t number, uint8_t **key, uint8_t **node) {
  *key = malloc(6);
  *node = malloc(NODE_BYTES);
  if (!*key || !*node) abort();
  key_of(*key, number);
  memset(*node, (int)(uint8_t)number, NODE_BYTES);
}

static void put(uint32_t number, bool is_gone) {
  uint8_t *key, *node;
  make(number, &key, &node);
  if (is_gone) {
    free(node);
    node = NULL;
  }
  if (!nds_put(table, key, 6, node, node ? NODE_BYTES : 0, key, node)) abort();
}

static void exchange(void) {
  struct nds_view *view = nds_view_new((uint64_t)rand(), NAMES, NULL);
  if (!view) abort();
  for (uint32_t number = 0; number < NAMES; number += 2) {
    uint8_t *key, *node;
    make(number, &key, &node);
    if (!nds_view_put(view, key, 6, node, NODE_BYTES, key, node)) abort();
  }
  nds_show(table, view);
}

int main(int count, char **words) {
  time_t end = time(NULL) + (count > 1 ? atoi(words[1]) : 5);
  pthread_t readers[READERS];
  unsigned long long written = 0;
  table = nds_table_new(0, 1, free);
  nds_table_seal(table);
  for (int i = 0; i < READERS; i++)
    if (pthread_create(&readers[i], NULL, read_on, NULL)) abort();
  while (time(NULL) < end) {
    for (int i = 0; i < 2000; i++, written++) put((uint32_t)rand() % NAMES, rand() % 4 == 0);
    /* Names that come once make views grow. */
    for (uint32_t i = 0; i < 200; i++, written++) put(NAMES + (uint32_t)rand() % 100000, rand() % 2);
    if (rand() % 4 == 0) exchange();
  }
  atomic_store(&is_over, true);
  for (int i = 0; i < READERS; i++) pthread_join(readers[i], NULL);
  nds_table_free(table);
  if (nds_reclaim() || !found) abort();
  printf("nodens: %llu names written, %llu read meanwhile, nothing found\n", written, (unsigned long long)found);
  return 0;
}
