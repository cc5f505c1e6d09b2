/* A small table, postures and a way to ask that checks what every reply must keep to; for the fuzz targets. */
#ifndef NDS_FUZZ_CLUSTER_H
#define NDS_FUZZ_CLUSTER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../agent/wire/native/answer.h"
#include "../../agent/wire/native/hash.h"

enum { POSTURES = 8 };

static struct nds_table *table, *timed;
static struct nds_posture *postures[POSTURES];
static struct nds_counts counts;
static const char *const names[] = {
    "\7cluster\5local",         "\3svc\7cluster\5local",    "\3web\3svc\7cluster\5local", "\4many\3svc\7cluster\5local",
    "\5alias\3svc\7cluster\5local", "\3bad\3svc\7cluster\5local", "\7in-addr\4arpa",       "\4base\7cluster\5local",
    "\5chain\3svc\7cluster\5local", "\4loop\3svc\7cluster\5local", "\3out\3svc\7cluster\5local",
    "\3pin\3svc\7cluster\5local",   "\7example\3com",           "\3old\7example\3com"};
enum { NAMES = sizeof names / sizeof *names };

static void *copy(const void *from, size_t bytes) {
  void *made = malloc(bytes ? bytes : 1);
  if (!made) abort();
  return memcpy(made, from, bytes);
}

/* Puts a value in an allocation of its very size. */
static void put(struct nds_table *where, const void *key, size_t key_bytes, const void *value, size_t bytes) {
  uint8_t *kept_key = copy(key, key_bytes), *kept = copy(value, bytes);
  if (!nds_put(where, kept_key, key_bytes, kept, bytes, kept_key, kept)) abort();
}

static size_t name_bytes(const char *name) { return strlen(name) + 1; }

static void put_node(const char *name, const void *node, size_t bytes) { put(table, name, name_bytes(name), node, bytes); }

/* Lays out a node of `count` equal records of one type; `lie` makes its lengths wrong. Its size. */
static size_t lay_node(uint8_t *node, uint8_t flags, uint16_t type, uint8_t count, const void *rdata, uint8_t rdata_bytes,
                       uint32_t lie) {
  uint32_t bytes = (uint32_t)(12u + rdata_bytes) * count, answer = bytes + lie, additional = 16;
  memset(node, 0, 24);
  node[0] = flags;
  node[1] = 1;
  memcpy(node + 8, &type, 2);
  node[10] = count > 1;
  node[12] = count;
  node[14] = 1;
  memcpy(node + 16, &answer, 4);
  memcpy(node + 20, &additional, 4);
  uint8_t *at = node + 24;
  for (uint32_t i = 0; i < count; i++) {
    const uint8_t head[12] = {0xC0, 0x0C, 0, (uint8_t)type, 0, 1, 0, 0, 2, 0, 0, rdata_bytes};
    memcpy(at, head, 12);
    memcpy(at + 12, rdata, rdata_bytes);
    at += 12 + rdata_bytes;
  }
  static const uint8_t glue[16] = {0xC0, 0x0C, 0, 1, 0, 1, 0, 1, 0, 0, 0, 4, 10, 0, 0, 1};
  memcpy(at, glue, 16);
  return 24 + bytes + 16;
}

static void put_alias(const char *name, const char *target) {
  uint8_t node[24 + 16 + 12 + 255];
  put_node(name, node, lay_node(node, 2, 5, 1, target, (uint8_t)name_bytes(target), 0));
}

/* Lays out an entry of the timed table, one A record. Its size. */
static size_t lay_timed(uint8_t *at, uint64_t born_ms, uint64_t expires_ms, uint8_t rcode) {
  const uint64_t times[4] = {born_ms, expires_ms - 1000, expires_ms, expires_ms + 5000};
  const uint16_t numbers[7] = {1, 0, 0, 16, 0, 0, 0};
  static const uint8_t rest[18] = {6, 0, 0xC0, 0x0C, 0, 1, 0, 1, 0, 0, 2, 0, 0, 4, 10, 0, 0, 2};
  memcpy(at, times, 32);
  at[32] = rcode;
  at[33] = 0xA0;
  memcpy(at + 34, numbers, 14);
  memcpy(at + 48, rest, 18);
  return 66;
}

static void put_timed(const char *name, const void *value, size_t bytes) {
  uint8_t key[NDS_MAX_KEY];
  for (uint8_t bits = 0; bits < 4; bits++) {
    memcpy(key, name, name_bytes(name));
    memcpy(key + name_bytes(name), (uint8_t[]){0, 1, bits}, 3);
    put(timed, key, name_bytes(name) + 3, value, bytes);
  }
}

/* An answers section of one name, as the snapshot has it. */
static void set_base(void) {
  static const uint8_t node[8] = {1};
  const char *name = names[7];
  uint8_t key_bytes = (uint8_t)name_bytes(name);
  uint8_t *octets = calloc(1, 16 * 8 + 1 + key_bytes + 4u + sizeof node);
  if (!octets) abort();
  uint64_t hash = nds_hash((const uint8_t *)name, key_bytes, 5), slot = hash & 15;
  uint32_t one = 1, tag = (uint32_t)(hash >> 32), length = sizeof node;
  memcpy(octets + 4 * slot, &one, 4);
  memcpy(octets + 64 + 4 * slot, &tag, 4);
  uint8_t *blob = octets + 128;
  blob[0] = key_bytes;
  memcpy(blob + 1, name, key_bytes);
  memcpy(blob + 1 + key_bytes, &length, 4);
  memcpy(blob + 5 + key_bytes, node, sizeof node);
  struct nds_base base = {octets, octets + 64, blob, 15, 5u + key_bytes + sizeof node, octets};
  struct nds_view *view = nds_view_new(5, 0, &base);
  if (!view) abort();
  nds_show(table, view);
}

static struct nds_view *pins_of(const void *value, size_t bytes) {
  struct nds_view *view = nds_view_new(9, 1, NULL);
  void *key = copy(names[11], name_bytes(names[11])), *held = copy(value, bytes);
  if (!view || !nds_view_put(view, key, name_bytes(names[11]), held, bytes, key, held)) abort();
  return view;
}

static struct nds_posture *posture_of(int number) {
  struct nds_posture *posture = nds_posture_new(2, 0);
  if (!posture) abort();
  posture->table = table;
  posture->timed = number & 1 ? timed : NULL;
  posture->release = free;
  posture->state = (enum nds_state)(number % 4);
  posture->has_cap = number & 2;
  posture->udp_bytes = number == 5 ? 4096 : 1232;
  posture->signs_cookies = number == 5 || number == 6;
  posture->makes_pods = number == 5;
  posture->follows_out = number == 6;
  posture->falls_through[1] = true;
  posture->nsid.bytes = NDS_MAX_NSID_BYTES + 4;
  for (int error = 0; error < NDS_ERRORS; error++) posture->error[error].bytes = NDS_MAX_OPTION_BYTES;
  return posture;
}

static inline void begin_cluster(void) {
  static const uint8_t empty[8] = {1}, reverse[8] = {1, 0, 1, 0}, address[4] = {10, 0, 0, 1};
  uint8_t node[24 + 16 + 64 * 16];
  table = nds_table_new(2, 5, free);
  timed = nds_table_new(0, 6, free);
  if (!table || !timed) abort();
  nds_table_zone(table, 0, (const uint8_t *)names[0], 15, false);
  nds_table_zone(table, 1, (const uint8_t *)names[6], 14, true);
  nds_table_seal(table);
  nds_table_seal(timed);
  set_base();
  put_node(names[0], empty, 8);
  put_node(names[1], empty, 8);
  put_node(names[2], node, lay_node(node, 0, 1, 1, address, 4, 0));
  put_node(names[3], node, lay_node(node, 0, 1, 60, address, 4, 0));
  put_node(names[5], node, lay_node(node, 0, 1, 2, address, 4, 1000));
  put_node(names[6], reverse, 8);
  put_alias(names[4], names[3]);
  put_alias(names[8], names[4]);
  put_alias(names[9], names[9]);
  put_alias(names[10], names[12]);
  for (int i = 12; i < NAMES; i++) put_timed(names[i], node, lay_timed(node, 1000, i == 12 ? 60000 : 9000, i == 12 ? 0 : 3));
  for (int i = 0; i < POSTURES; i++) postures[i] = posture_of(i);
  uint8_t pin[2 + 6 + 24 + 32] = {6, 0, 0, 15, 0, 2, 0, 4};
  size_t bytes = 8 + lay_node(pin + 8, 0, 1, 1, address, 4, 0);
  postures[3]->pins = pins_of(pin, bytes);
}

static inline void end_cluster(void) {
  for (int i = 0; i < POSTURES; i++) nds_posture_free(postures[i]);
  nds_table_free(table);
  nds_table_free(timed);
  if (nds_reclaim()) abort();
}

/* Asks a packet aside and in place: the same reply, within its bound, or a packet handed over as it came. */
static inline void ask(const struct nds_posture *posture, const uint8_t *packet, size_t size) {
  static uint8_t aside[NDS_MAX_REPLY_BYTES], page[NDS_MAX_REPLY_BYTES];
  static uint32_t turn;
  uint32_t same_turn = turn;
  uint8_t *exact = copy(packet, size);
  struct nds_scene scene = {.posture = posture, .view = nds_view_of(posture->table), .counts = &counts, .turn = &turn,
                            .now_ms = 10000, .address = (const uint8_t *)"\12\0\0\1", .address_bytes = 4};
  int bytes = nds_answer(&scene, exact, size, aside);
  memcpy(page, packet, size);
  scene.turn = &same_turn;
  if (nds_answer(&scene, page, size, page) != bytes || same_turn != turn) abort();
  if (bytes == NDS_HAND_OVER) {
    if (memcmp(page, packet, size) || memcmp(exact, packet, size)) abort();
  } else if (bytes != NDS_DROP) {
    if (bytes < NDS_HEADER_BYTES || bytes > 4096 || memcmp(aside, packet, 2) || !(aside[2] & 0x80)) abort();
    if (memcmp(aside, page, (size_t)bytes)) abort();
  }
  free(exact);
}

/* ── own mutations, where there is no libFuzzer ────────────────────────────────────────────────────────────────── */

static uint64_t state = 88172645463325252u;

static inline uint32_t draw(uint32_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 32) % below;
}

/* Runs `one` for a number of seconds on inputs that `make` draws; or writes inputs as seeds: words "seeds FOLDER". */
static inline int drive(int count, char **words, size_t (*make)(uint8_t *), int (*one)(const uint8_t *, size_t)) {
  uint8_t input[1024];
  unsigned long long executions = 0;
  if (count > 2 && !strcmp(words[1], "seeds")) {
    for (int i = 0; i < 200; i++) {
      char path[512];
      snprintf(path, sizeof path, "%s/seed-%03d", words[2], i);
      FILE *file = fopen(path, "wb");
      size_t size = make(input);
      if (!file || fwrite(input, 1, size, file) != size || fclose(file)) return 1;
    }
    return 0;
  }
  time_t end = time(NULL) + (count > 1 ? atoi(words[1]) : 10);
  uint64_t seed = state = count > 2 ? strtoull(words[2], NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;
  do {
    for (int i = 0; i < 10000; i++, executions++) one(input, make(input));
  } while (time(NULL) < end);
  printf("nodens: %llu executions, nothing found, seed %llu\n", executions, (unsigned long long)seed);
  return 0;
}

#endif
