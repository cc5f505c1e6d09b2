/* Fuzzes the packet path over a small table: whatever comes in, nothing is read or written where it should not be.
 *
 * Invariant: nds_answer gives a reply within its bound that begins with the query's id and has QR, or NDS_DROP, or
 * NDS_HAND_OVER. Built under AddressSanitizer and UndefinedBehaviorSanitizer, packet and nodes in allocations of their
 * very size. With libFuzzer (clang) the input is its own; without it `main` mutates packets for a number of seconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../agent/wire/native/answer.h"
#include "../../agent/wire/native/hash.h"

static struct nds_table *table;
static struct nds_posture *postures[5];
static uint8_t reply[NDS_MAX_REPLY_BYTES];
static const char *const names[] = {"\7cluster\5local", "\3svc\7cluster\5local", "\3web\3svc\7cluster\5local",
                                    "\4many\3svc\7cluster\5local", "\3out\3svc\7cluster\5local",
                                    "\3bad\3svc\7cluster\5local", "\7in-addr\4arpa", "\4base\7cluster\5local"};
enum { NAMES = sizeof names / sizeof *names };

static void *copy(const void *from, size_t bytes) {
  void *made = malloc(bytes ? bytes : 1);
  if (!made) abort();
  return memcpy(made, from, bytes);
}

static void put(const char *name, const uint8_t *node, size_t bytes) {
  size_t key_bytes = strlen(name) + 1;
  uint8_t *key = copy(name, key_bytes), *kept = copy(node, bytes);
  if (!nds_put(table, key, key_bytes, kept, bytes, key, kept)) abort();
}

/* A node of `count` records of one type; `lie` makes its lengths wrong. */
static void put_records(const char *name, uint8_t flags, uint16_t type, uint8_t count, uint32_t lie) {
  uint8_t node[8 + 16 + 64 * 16] = {flags, 1};
  uint32_t bytes = 16u * count;
  uint8_t *entry = node + 8;
  memcpy(entry, &type, 2);
  entry[2] = count > 1;
  entry[4] = count;
  entry[6] = 1;
  uint32_t answer = bytes + lie, additional = 16;
  memcpy(entry + 8, &answer, 4);
  memcpy(entry + 12, &additional, 4);
  for (uint32_t i = 0; i <= count; i++) {
    static const uint8_t record[16] = {0xC0, 0x0C, 0, 1, 0, 1, 0, 1, 0, 0, 0, 4, 10, 0, 0, 1};
    memcpy(node + 24 + 16 * i, record, 16);
  }
  put(name, node, 24 + bytes + 16);
}

/* An answers section of one name, as the snapshot has it. */
static void set_base(void) {
  static const uint8_t node[8] = {1};
  const char *name = names[7];
  uint8_t key_bytes = (uint8_t)(strlen(name) + 1);
  struct nds_base base = {0};
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
  base = (struct nds_base){octets, octets + 64, blob, 15, 5u + key_bytes + sizeof node, octets};
  struct nds_view *view = nds_view_new(5, 0, &base);
  if (!view) abort();
  nds_show(table, view);
}

static void begin(void) {
  table = nds_table_new(2, 5, free);
  nds_table_zone(table, 0, (const uint8_t *)"\7cluster\5local", 15, false);
  nds_table_zone(table, 1, (const uint8_t *)"\7in-addr\4arpa", 14, true);
  nds_table_seal(table);
  set_base();
  static const uint8_t empty[8] = {1};
  put(names[0], empty, 8);
  put(names[1], empty, 8);
  put_records(names[2], 0, 1, 1, 0);
  put_records(names[3], 0, 28, 60, 0);
  put_records(names[4], 2, 5, 1, 0);
  put_records(names[5], 0, 1, 2, 1000);
  static const uint8_t reverse[8] = {1, 0, 1, 0};
  put(names[6], reverse, 8);
  for (int i = 0; i < 5; i++) {
    struct nds_posture *posture = postures[i] = nds_posture_new(2, 0);
    posture->state = (enum nds_state)(i % 4);
    posture->has_cap = i % 2;
    posture->udp_bytes = i == 4 ? 4096 : 1232;
    posture->signs_cookies = i == 2;
    posture->makes_pods = i == 1;
    posture->falls_through[1] = true;
    posture->nsid.bytes = NDS_MAX_NSID_BYTES + 4;
    for (int error = 0; error < NDS_ERRORS; error++) posture->error[error].bytes = NDS_MAX_OPTION_BYTES;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
  static struct nds_counts counts;
  static uint32_t turn;
  if (!table) begin();
  if (!size || size > NDS_MAX_QUERY_BYTES) return 0;
  uint8_t *packet = copy(input + 1, size - 1);
  int bytes = nds_answer(table, nds_view_of(table), postures[input[0] % 5], &counts, &turn, packet, size - 1, reply);
  if (bytes != NDS_DROP && bytes != NDS_HAND_OVER) {
    if (bytes < NDS_HEADER_BYTES || bytes > 4096 || memcmp(reply, packet, 2) || !(reply[2] & 0x80)) abort();
  }
  free(packet);
  return 0;
}

#ifndef NDS_LIBFUZZER
static uint64_t state;

static uint32_t draw(uint32_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 32) % below;
}

static size_t packet_of(uint8_t *at) {
  const char *name = names[draw(NAMES)];
  size_t bytes = strlen(name) + 1, size = 13;
  memset(at, 0, 13);
  at[0] = (uint8_t)draw(5);
  at[6] = 1;
  if (draw(3) == 0) size += (size_t)sprintf((char *)at + size, "\3foo");
  memcpy(at + size, name, bytes);
  size += bytes;
  static const uint8_t types[] = {1, 28, 33, 6, 5, 255, 252, 16};
  const uint8_t question[4] = {0, types[draw(sizeof types)], 0, 1};
  memcpy(at + size, question, 4);
  size += 4;
  if (draw(2)) {
    const uint8_t opt[11] = {0, 0, 41, (uint8_t)draw(20), 0, 0, 0, (uint8_t)draw(256), 0, 0, 0};
    at[12] = 1;
    memcpy(at + size, opt, 11);
    size += 11;
    for (uint32_t options = draw(4); options; options--) {
      const uint8_t option[6] = {0, (uint8_t)draw(12), 0, (uint8_t)draw(4), 1, 2};
      memcpy(at + size, option, 6);
      size += 6;
    }
  }
  for (uint32_t damages = draw(4); damages; damages--) at[draw((uint32_t)size)] = (uint8_t)draw(256);
  return draw(8) ? size : draw((uint32_t)size + 1);
}

int main(int count, char **words) {
  time_t end = time(NULL) + (count > 1 ? atoi(words[1]) : 10);
  uint64_t seed = count > 2 ? strtoull(words[2], NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1, executions = 0;
  state = seed;
  uint8_t packet[512];
  do {
    for (int i = 0; i < 10000; i++, executions++) LLVMFuzzerTestOneInput(packet, packet_of(packet));
  } while (time(NULL) < end);
  nds_table_free(table);
  for (int i = 0; i < 5; i++) nds_posture_free(postures[i]);
  printf("nodens: %llu packets, nothing found, seed %llu\n", (unsigned long long)executions, (unsigned long long)seed);
  return 0;
}
#endif
