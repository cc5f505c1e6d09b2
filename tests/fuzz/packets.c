/* Fuzzes the packet path over a small table: whatever comes in, nothing is read or written where it should not be.
 *
 * Invariant: nds_answer gives a reply within its bound that begins with the query's id and has QR, or NDS_DROP, or
 * NDS_HAND_OVER with the packet as it came; in place or not makes no difference. Built under AddressSanitizer and
 * UndefinedBehaviorSanitizer, packet and nodes in allocations of their very size. The first octet chooses a posture.
 */
#include "cluster.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
  if (!table) begin_cluster();
  if (size && size <= NDS_MAX_QUERY_BYTES) ask(postures[input[0] % POSTURES], input + 1, size - 1);
  return 0;
}

#ifndef NDS_LIBFUZZER
static size_t make(uint8_t *at) {
  const char *name = names[draw(NAMES)];
  size_t bytes = name_bytes(name), size = 13;
  memset(at, 0, 13);
  at[0] = (uint8_t)draw(POSTURES);
  at[4] = draw(4) ? 0 : (uint8_t)draw(256);
  at[6] = 1;
  if (draw(3) == 0) size += (size_t)sprintf((char *)at + size, "\3fOo");
  memcpy(at + size, name, bytes);
  size += bytes;
  static const uint8_t types[] = {1, 1, 1, 28, 33, 6, 5, 255, 252, 16};
  const uint8_t question[4] = {0, types[draw(sizeof types)], 0, 1};
  memcpy(at + size, question, 4);
  size += 4;
  if (draw(2)) {
    const uint8_t opt[11] = {0, 0, 41, (uint8_t)draw(20), 0, 0, 0, (uint8_t)draw(256), 0, 0, 0};
    at[12] = 1;
    memcpy(at + size, opt, 11);
    uint8_t *length = at + size + 10;
    size += 11;
    for (uint32_t options = draw(4); options; options--) {
      uint8_t option[28] = {0, (uint8_t)draw(12), 0, 2, 1, 2}, bytes = 2;
      if (option[1] == 10) bytes = option[3] = draw(2) ? 8 : 24;
      option[12] = 1;
      memcpy(at + size, option, 4u + bytes);
      size += 4u + bytes;
      *length = (uint8_t)(*length + 4 + bytes);
    }
  }
  for (uint32_t damages = draw(3); damages; damages--) at[draw((uint32_t)size)] = (uint8_t)draw(256);
  return draw(8) ? size : draw((uint32_t)size + 1);
}

int main(int count, char **words) {
  int failed = drive(count, words, make, LLVMFuzzerTestOneInput);
  if (table) end_cluster();
  return failed;
}
#endif
