/* DNS cookies (RFC 7873, RFC 9018), the same octets as agent/wire/cookies.py.
 *
 * Law: pure; a server cookie is version 1, signed with SipHash-2-4 over client cookie, head and client address.
 */
#ifndef NDS_COOKIE_H
#define NDS_COOKIE_H

#include "hash.h"

#define NDS_CLIENT_COOKIE_BYTES 8
#define NDS_COOKIE_BYTES 24
#define NDS_SECRET_COOKIE_BYTES 16
#define NDS_COOKIE_AHEAD_S 300
#define NDS_COOKIE_RENEW_S 1800

static inline void nds_sip_round(uint64_t v[4]) {
  v[0] += v[1];
  v[1] = nds_rotate(v[1], 13) ^ v[0];
  v[0] = nds_rotate(v[0], 32);
  v[2] += v[3];
  v[3] = nds_rotate(v[3], 16) ^ v[2];
  v[0] += v[3];
  v[3] = nds_rotate(v[3], 21) ^ v[0];
  v[2] += v[1];
  v[1] = nds_rotate(v[1], 17) ^ v[2];
  v[2] = nds_rotate(v[2], 32);
}

static inline uint64_t nds_siphash24(const uint8_t *secret, const uint8_t *at, size_t bytes) {
  uint64_t k0 = nds_u64(secret), k1 = nds_u64(secret + 8), last = (uint64_t)bytes << 56;
  uint64_t v[4] = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u};
  for (size_t i = 0; i <= bytes / 8; i++) {
    uint64_t word = last;
    if (i < bytes / 8) word = nds_u64(at + 8 * i);
    else
      for (size_t rest = 0; rest < bytes % 8; rest++) word |= (uint64_t)at[8 * i + rest] << 8 * rest;
    v[3] ^= word;
    nds_sip_round(v);
    nds_sip_round(v);
    v[0] ^= word;
  }
  v[2] ^= 0xff;
  for (int i = 0; i < 4; i++) nds_sip_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Gives the cookie to reply with: a fresh one of this secret is kept for half an hour (RFC 9018 section 4.3).
 *
 * sent: the client's option of `bytes` octets, at least 8; address of 4 or 16 octets; now_s: Unix time.
 */
static inline void nds_cookie(uint8_t reply[NDS_COOKIE_BYTES], const uint8_t *sent, size_t bytes, const uint8_t *address,
                              size_t address_bytes, uint32_t now_s, const uint8_t *secret) {
  uint8_t signed_octets[16 + 16];
  memcpy(signed_octets, sent, NDS_CLIENT_COOKIE_BYTES);
  memcpy(signed_octets + 16, address, address_bytes);
  if (bytes == NDS_COOKIE_BYTES && sent[8] == 1) {
    uint32_t stamp_s = __builtin_bswap32(nds_u32(sent + 12));
    int32_t age_s = (int32_t)(now_s - stamp_s); /* serial arithmetic, RFC 1982 */
    memcpy(signed_octets + 8, sent + 8, 8);
    uint64_t hash = nds_siphash24(secret, signed_octets, 16 + address_bytes);
    if (age_s >= -NDS_COOKIE_AHEAD_S && age_s <= NDS_COOKIE_RENEW_S && !(hash ^ nds_u64(sent + 16))) {
      memcpy(reply, sent, NDS_COOKIE_BYTES);
      return;
    }
  }
  const uint32_t head[2] = {1, __builtin_bswap32(now_s)}; /* version 1, three octets of zero, the time */
  memcpy(signed_octets + 8, head, 8);
  uint64_t hash = nds_siphash24(secret, signed_octets, 16 + address_bytes);
  memcpy(reply, signed_octets, 16);
  memcpy(reply + 16, &hash, 8);
}

#endif
