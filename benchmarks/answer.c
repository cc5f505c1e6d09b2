/* What answering costs without the kernel: ns per query over a table of 50,000 services, the way a worker asks it.
 *
 *     N=agent/wire/native; cc -std=gnu11 -O3 -o answer benchmarks/answer.c $N/answer.c $N/alias.c $N/timed.c $N/table.c
 *     ./answer hit|edns|nodata|nxdomain|alias [ROUNDS]
 *     valgrind --tool=callgrind --toggle-collect=main ./answer hit 10     instructions; less those of 9, divided by 64,000
 *
 * Packets lie in a worker's batch of 64, are drawn at random from the names and answered in place.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../agent/wire/native/answer.h"

enum { SERVICES = 50000, BATCH = 64, BATCHES = 1000, STRIDE_BYTES = NDS_MAX_REPLY_BYTES + 192 };

static uint8_t pages[BATCH][STRIDE_BYTES];
static size_t sizes[BATCH];
static struct nds_query queries[BATCH];

static size_t name_of(uint8_t *at, const char *kind, unsigned number) {
  size_t size = (size_t)sprintf((char *)at + 1, "%s-%05u", kind, number);
  at[0] = (uint8_t)size++;
  static const char tail[] = "\7default\3svc\7cluster\5local";
  memcpy(at + size, tail, sizeof tail);
  return size + sizeof tail;
}

static void put(struct nds_table *table, const char *kind, unsigned number, uint8_t flags, uint8_t type, const void *rdata,
                uint8_t bytes) {
  uint8_t *key = malloc(64), *node = calloc(1, 24 + 12 + 64u);
  const uint8_t record[12] = {0xC0, 0x0C, 0, type, 0, 1, 0, 0, 0, 5, 0, bytes};
  if (!key || !node) abort();
  node[0] = flags;
  node[1] = 1;
  node[8] = type;
  node[12] = 1;
  node[16] = (uint8_t)(12 + bytes);
  memcpy(node + 24, record, 12);
  memcpy(node + 36, rdata, bytes);
  if (!nds_put(table, key, name_of(key, kind, number), node, 36u + bytes, key, node)) abort();
}

static size_t ask(uint8_t *at, const char *kind, unsigned number, uint8_t type, int has_opt) {
  static const uint8_t head[12] = {1, 2, 1, 0, 0, 1}, opt[11] = {0, 0, 41, 4, 208};
  memcpy(at, head, 12);
  size_t size = 12 + name_of(at + 12, kind, number);
  memcpy(at + size, (uint8_t[]){0, type, 0, 1}, 4);
  size += 4;
  if (!has_opt) return size;
  at[11] = 1;
  memcpy(at + size, opt, 11);
  return size + 11;
}

int main(int count, char **words) {
  const char *mix = count > 1 ? words[1] : "hit";
  int is_fetching = !getenv("NO_FETCH"); /* what it gains that a batch's reads of memory wait together */
  int rounds = count > 2 ? atoi(words[2]) : 100;
  static struct nds_counts counts;
  uint32_t turn = 0;
  struct nds_table *table = nds_table_new(1, 7, free);
  struct nds_posture *posture = nds_posture_new(1, 0);
  if (!table || !posture) return 1;
  nds_table_zone(table, 0, (const uint8_t *)"\7cluster\5local", 15, false);
  nds_table_seal(table);
  for (unsigned i = 0; i < SERVICES; i++) {
    uint8_t address[4] = {10, 0, (uint8_t)(i >> 8), (uint8_t)i}, target[64];
    put(table, "service", i, 0, 1, address, 4);
    size_t bytes = name_of(target, "service", i);
    put(table, "alias", i, 2, 5, target, (uint8_t)bytes);
  }
  posture->table = table;
  posture->state = NDS_FRESH;
  posture->udp_bytes = 1232;
  posture->soa_ttl_s = 5;
  struct nds_scene scene = {.posture = posture, .view = nds_view_of(table), .counts = &counts, .turn = &turn};
  const char *kind = strcmp(mix, "alias") ? strcmp(mix, "nxdomain") ? "service" : "nothing" : "alias";
  uint64_t spent_ns = 0;
  srand(1);
  for (int round = 0; round < rounds; round++) {
    for (int batch = 0; batch < BATCHES; batch++) {
      for (int i = 0; i < BATCH; i++)
        sizes[i] = ask(pages[i], kind, (unsigned)rand() % SERVICES, strcmp(mix, "nodata") ? 1 : 28, !strcmp(mix, "edns"));
      struct timespec before, after;
      clock_gettime(CLOCK_MONOTONIC, &before);
      for (int i = 0; i < BATCH; i++) nds_read(&queries[i], scene.view, pages[i], sizes[i]);
      for (int i = 0; i < BATCH && is_fetching; i++) nds_fetch_entry(scene.view, queries[i].hash);
      for (int i = 0; i < BATCH && is_fetching; i++) nds_fetch_node(scene.view, queries[i].hash);
      for (int i = 0; i < BATCH; i++)
        if (nds_answer_read(&scene, &queries[i], pages[i]) <= 0) abort();
      clock_gettime(CLOCK_MONOTONIC, &after);
      spent_ns += (uint64_t)(after.tv_sec - before.tv_sec) * 1000000000u + (uint64_t)(after.tv_nsec - before.tv_nsec);
    }
  }
  printf("%s: %.1f ns a query\n", mix, (double)spent_ns / rounds / BATCHES / BATCH);
  return 0;
}
