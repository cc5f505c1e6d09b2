/* Fuzzes what is held: any octets as a node, as a node behind aliases, as a pinned name and as an entry with an age.
 *
 * Invariant: that of packets.c, for well-formed queries; nothing is read past what is held, which lies in an allocation
 * of its very size. The first two octets choose posture, place and query.
 */
#include "cluster.h"

static const char *const targets[] = {"\3web\3svc\7cluster\5local", "\4many\3svc\7cluster\5local",
                                      "\5alias\3svc\7cluster\5local"};

static void ask_for(const struct nds_posture *posture, const char *name, uint8_t type, bool has_opt) {
  uint8_t packet[12 + 64 + 4 + 11] = {1, 2, 1, 0, 0, 1};
  size_t size = 12 + name_bytes(name);
  memcpy(packet + 12, name, name_bytes(name));
  memcpy(packet + size, (uint8_t[]){0, type, 0, 1}, 4);
  size += 4;
  if (has_opt) {
    packet[11] = 1;
    memcpy(packet + size, (uint8_t[]){0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0}, 11);
    size += 11;
  }
  ask(posture, packet, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
  static const uint8_t types[] = {1, 5, 6, 12, 15, 28, 33, 255};
  if (!table) begin_cluster();
  if (size < 2 || size > 1024) return 0;
  struct nds_posture *posture = postures[input[0] % POSTURES];
  uint8_t type = types[input[1] % 8], place = input[1] >> 3 & 3;
  bool has_opt = input[1] & 128;
  const uint8_t *held = input + 2;
  size -= 2;
  if (place < 3) {
    put_node(targets[place], held, size);
    ask_for(posture, targets[place], type, has_opt);
    for (int i = 4; i < 11; i++) ask_for(posture, names[i], type, has_opt);
  } else {
    put_timed(names[12], held, size);
    ask_for(posture, names[12], 1, has_opt);
    struct nds_view *before = posture->pins;
    posture->pins = pins_of(held, size);
    ask_for(posture, names[11], type, has_opt);
    nds_view_free(posture->pins, free);
    posture->pins = before;
  }
  nds_reclaim();
  return 0;
}

#ifndef NDS_LIBFUZZER
static size_t make(uint8_t *at) {
  static const uint8_t types[] = {1, 5, 6, 12, 15, 28, 33};
  size_t size = 2;
  uint8_t number = (uint8_t)draw(sizeof types);
  at[0] = (uint8_t)draw(POSTURES);
  at[1] = (uint8_t)(number | draw(4) << 3 | draw(2) << 7);
  if ((at[1] >> 3 & 3) == 3 && draw(2)) {
    size += lay_timed(at + 2, draw(12000), draw(15000), (uint8_t)draw(5));
  } else {
    if ((at[1] >> 3 & 3) == 3) at[size] = (uint8_t)draw(4), at[size + 1] = 0, size += 2 + at[size];
    const char *target = names[draw(NAMES)];
    bool is_alias = draw(3) == 0;
    uint16_t type = is_alias ? 5 : types[number];
    size += lay_node(at + size, is_alias ? 2 : 0, type, (uint8_t)(1 + draw(4)), target, (uint8_t)name_bytes(target), 0);
  }
  for (uint32_t damages = draw(4); damages; damages--) at[2 + draw((uint32_t)size - 2)] = (uint8_t)draw(256);
  return draw(8) ? size : 2 + draw((uint32_t)size - 1);
}

int main(int count, char **words) {
  int failed = drive(count, words, make, LLVMFuzzerTestOneInput);
  if (table) end_cluster();
  return failed;
}
#endif
