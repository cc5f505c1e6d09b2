/* XXH3-64 with a seed, for names of up to 255 octets (and keys of a few more): the hash of the answers section of a snapshot.
 *
 * Law: the same number as xxhash's XXH3_64bits_withSeed for every length that a name can have (a test compares them).
 * Reads nothing outside [at, at + size).
 */
#ifndef NDS_HASH_H
#define NDS_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the snapshot is read as it lies in memory, which takes a little-endian machine"
#endif

#define NDS_P32_1 0x9E3779B1u
#define NDS_P32_2 0x85EBCA77u
#define NDS_P32_3 0xC2B2AE3Du
#define NDS_P64_1 0x9E3779B185EBCA87u
#define NDS_P64_2 0xC2B2AE3D27D4EB4Fu
#define NDS_P64_3 0x165667B19E3779F9u
#define NDS_P64_4 0x85EBCA77C2B2AE63u
#define NDS_P64_5 0x27D4EB2F165667C5u
#define NDS_MX_1 0x165667919E3779F9u
#define NDS_MX_2 0x9FB21C651E98DF25u
#define NDS_SECRET_BYTES 192

static const uint8_t nds_secret[NDS_SECRET_BYTES] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d, 0xe9,
    0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78,
    0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6,
    0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8, 0xa8, 0xfa, 0x76, 0x3f,
    0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31,
    0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff,
    0xfa, 0x13, 0x63, 0xeb, 0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f,
    0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static inline uint32_t nds_u32(const uint8_t *at) {
  uint32_t word;
  memcpy(&word, at, 4);
  return word;
}

static inline uint64_t nds_u64(const uint8_t *at) {
  uint64_t word;
  memcpy(&word, at, 8);
  return word;
}

static inline uint64_t nds_rotate(uint64_t word, int by) { return word << by | word >> (64 - by); }

static inline uint64_t nds_fold(uint64_t a, uint64_t b) {
  unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t nds_avalanche(uint64_t word) {
  word = (word ^ word >> 37) * NDS_MX_1;
  return word ^ word >> 32;
}

static inline uint64_t nds_avalanche64(uint64_t word) {
  word = (word ^ word >> 33) * NDS_P64_2;
  word = (word ^ word >> 29) * NDS_P64_3;
  return word ^ word >> 32;
}

static inline uint64_t nds_mix16(const uint8_t *at, size_t secret, uint64_t seed) {
  return nds_fold(nds_u64(at) ^ (nds_u64(nds_secret + secret) + seed),
                  nds_u64(at + 8) ^ (nds_u64(nds_secret + secret + 8) - seed));
}

static inline uint64_t nds_hash_short(const uint8_t *at, size_t size, uint64_t seed) {
  const uint8_t *s = nds_secret;
  if (size > 8) {
    uint64_t low = nds_u64(at) ^ ((nds_u64(s + 24) ^ nds_u64(s + 32)) + seed);
    uint64_t high = nds_u64(at + size - 8) ^ ((nds_u64(s + 40) ^ nds_u64(s + 48)) - seed);
    return nds_avalanche(size + __builtin_bswap64(low) + high + nds_fold(low, high));
  }
  if (size > 3) {
    seed ^= (uint64_t)__builtin_bswap32((uint32_t)seed) << 32;
    uint64_t word = nds_u32(at + size - 4) + ((uint64_t)nds_u32(at) << 32);
    word ^= (nds_u64(s + 8) ^ nds_u64(s + 16)) - seed;
    word ^= nds_rotate(word, 49) ^ nds_rotate(word, 24);
    word *= NDS_MX_2;
    word = (word ^ ((word >> 35) + size)) * NDS_MX_2;
    return word ^ word >> 28;
  }
  if (size) {
    uint32_t word = (uint32_t)at[0] << 16 | (uint32_t)at[size >> 1] << 24 | at[size - 1] | (uint32_t)size << 8;
    return nds_avalanche64(word ^ ((nds_u32(s) ^ nds_u32(s + 4)) + seed));
  }
  return nds_avalanche64(seed ^ nds_u64(s + 56) ^ nds_u64(s + 64));
}

/* 241 octets and more, up to 1024: one short block of the long form. */
static uint64_t nds_hash_long(const uint8_t *at, size_t size, uint64_t seed) {
  uint8_t secret[NDS_SECRET_BYTES];
  uint64_t sums[8] = {NDS_P32_3, NDS_P64_1, NDS_P64_2, NDS_P64_3, NDS_P64_4, NDS_P32_2, NDS_P64_5, NDS_P32_1};
  for (size_t i = 0; i < NDS_SECRET_BYTES; i += 16) {
    uint64_t low = nds_u64(nds_secret + i) + seed, high = nds_u64(nds_secret + i + 8) - seed;
    memcpy(secret + i, &low, 8);
    memcpy(secret + i + 8, &high, 8);
  }
  size_t stripes = (size - 1) / 64;
  for (size_t stripe = 0; stripe <= stripes; stripe++) {
    const uint8_t *in = stripe < stripes ? at + 64 * stripe : at + size - 64;
    const uint8_t *with = stripe < stripes ? secret + 8 * stripe : secret + NDS_SECRET_BYTES - 64 - 7;
    for (size_t i = 0; i < 8; i++) {
      uint64_t word = nds_u64(in + 8 * i), key = word ^ nds_u64(with + 8 * i);
      sums[i ^ 1] += word;
      sums[i] += (key & 0xFFFFFFFFu) * (key >> 32);
    }
  }
  uint64_t all = size * NDS_P64_1;
  for (size_t i = 0; i < 4; i++)
    all += nds_fold(sums[2 * i] ^ nds_u64(secret + 11 + 16 * i), sums[2 * i + 1] ^ nds_u64(secret + 19 + 16 * i));
  return nds_avalanche(all);
}

/* Hashes a key; size is at most 1024. */
static inline uint64_t nds_hash(const uint8_t *at, size_t size, uint64_t seed) {
  if (size <= 16) return nds_hash_short(at, size, seed);
  if (size > 240) return nds_hash_long(at, size, seed);
  uint64_t sum = size * NDS_P64_1;
  if (size <= 128) {
    for (size_t i = (size - 1) / 32; i; i--)
      sum += nds_mix16(at + 16 * i, 32 * i, seed) + nds_mix16(at + size - 16 * (i + 1), 32 * i + 16, seed);
    sum += nds_mix16(at, 0, seed) + nds_mix16(at + size - 16, 16, seed);
    return nds_avalanche(sum);
  }
  for (size_t i = 0; i < 8; i++) sum += nds_mix16(at + 16 * i, 16 * i, seed);
  sum = nds_avalanche(sum);
  for (size_t i = 8; i < size / 16; i++) sum += nds_mix16(at + 16 * i, 16 * (i - 8) + 3, seed);
  return nds_avalanche(sum + nds_mix16(at + size - 16, 136 - 17, seed));
}

#endif
