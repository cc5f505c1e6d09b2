/* Two real workers on loopback sockets, two clients and one writer at full speed, for ThreadSanitizer and AddressSanitizer.
 *
 * The writer replaces nodes, entries with an age, views and terms, takes out what is handed over and reads the counts, as
 * the interpreter's thread does. Invariant: every reply is one that was right at some moment, nothing is read that was
 * given back, and no two threads touch the same octets without order.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../agent/wire/native/worker.h"
#include "cluster.h"

enum { WORKERS = 2, CLIENTS = 2 };

static struct sockaddr_in where = {.sin_family = AF_INET};
static atomic_bool is_over;
static atomic_ullong answered;

static int bound(void) {
  int one = 1, fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  socklen_t bytes = sizeof where;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) || bind(fd, (void *)&where, sizeof where) ||
      getsockname(fd, (void *)&where, &bytes))
    abort();
  return fd;
}

static void *ask_on(void *number) {
  static const char *const asked[] = {"\3web\3svc\7cluster\5local", "\5alias\3svc\7cluster\5local", "\7example\3com",
                                      "\4gone\3svc\7cluster\5local", "\3pin\3svc\7cluster\5local", "\3org"};
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct timeval wait = {0, 20000};
  if (fd < 0 || connect(fd, (void *)&where, sizeof where) || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait))
    abort();
  for (uint32_t turn = (uint32_t)(uintptr_t)number; !atomic_load(&is_over); turn++) {
    const char *name = asked[turn % 6];
    uint8_t packet[12 + 64 + 4] = {(uint8_t)turn, 2, 1, 0, 0, 1}, reply[4096];
    memcpy(packet + 12, name, name_bytes(name));
    memcpy(packet + 12 + name_bytes(name), (uint8_t[]){0, 1, 0, 1}, 4);
    for (int i = 0; i < 8; i++) send(fd, packet, 16 + name_bytes(name), 0);
    for (int i = 0; i < 8; i++) {
      ssize_t bytes = recv(fd, reply, sizeof reply, 0);
      if (bytes < 0) break; /* handed over, or late */
      if (bytes < 12 || !(reply[2] & 0x80)) abort();
      atomic_fetch_add_explicit(&answered, 1, memory_order_relaxed);
    }
  }
  close(fd);
  return NULL;
}

static void write_once(struct nds_plane *plane, uint32_t turn) {
  uint8_t node[24 + 16 + 4 * 16], address[4] = {10, 0, 0, (uint8_t)turn};
  put_node(names[2], node, lay_node(node, 0, 1, (uint8_t)(1 + turn % 4), address, 4, 0));
  put_timed(names[12], node, lay_timed(node, 0, turn % 2 ? UINT64_MAX / 2 : 1, 0));
  if (turn % 16 == 0) {
    char name[32];
    snprintf(name, sizeof name, "\5%05u\3svc\7cluster\5local", turn % 5000);
    put_node(name, node, lay_node(node, 0, 1, 1, address, 4, 0));
  }
  if (turn % 64 == 0) {
    struct nds_posture *posture = posture_of((int)(turn / 64 % POSTURES) | 1);
    uint8_t pin[2 + 24 + 32] = {0};
    if (turn % 128) posture->pins = pins_of(pin, 2 + lay_node(pin + 2, 0, 1, 1, address, 4, 0));
    nds_posture_show(plane, posture);
  }
  if (turn % 4096 == 0) {
    struct nds_view *view = nds_view_new(turn, 16, NULL);
    if (!view) abort();
    nds_show(table, view);
    put_alias(names[4], names[2]);
  }
}

int main(int count, char **words) {
  time_t end = time(NULL) + (count > 1 ? atoi(words[1]) : 5);
  unsigned long long written = 0, taken = 0;
  pthread_t clients[CLIENTS];
  struct nds_worker *workers[WORKERS];
  int fds[WORKERS];
  begin_cluster();
  struct nds_plane *plane = nds_plane_new(posture_of(1));
  for (int i = 0; i < WORKERS; i++) {
    workers[i] = nds_worker_new(plane);
    if (!workers[i] || !nds_worker_socket(workers[i], fds[i] = bound(), false) || nds_worker_start(workers[i])) abort();
  }
  for (uintptr_t i = 0; i < CLIENTS; i++)
    if (pthread_create(&clients[i], NULL, ask_on, (void *)i)) abort();
  while (time(NULL) < end) {
    for (int i = 0; i < 64; i++) write_once(plane, (uint32_t)written++);
    for (int i = 0; i < WORKERS; i++) {
      struct nds_handed handed;
      struct nds_counts seen;
      while (nds_worker_take(workers[i], &handed)) {
        uint8_t reply[NDS_MAX_QUERY_BYTES];
        memcpy(reply, handed.packet, handed.packet_bytes);
        reply[2] |= 0x80;
        if (handed.socket != NDS_REPORT) nds_worker_reply(workers[i], &handed, reply, handed.packet_bytes);
        nds_worker_taken(workers[i]);
        taken++;
      }
      nds_worker_rest(workers[i]);
      nds_counts_read(nds_worker_counts(workers[i]), &seen);
    }
  }
  for (int i = 0; i < WORKERS; i++) nds_worker_stop(workers[i]);
  atomic_store(&is_over, true);
  for (int i = 0; i < CLIENTS; i++) pthread_join(clients[i], NULL);
  for (int i = 0; i < WORKERS; i++) {
    nds_worker_free(workers[i]);
    close(fds[i]);
  }
  nds_plane_free(plane);
  end_cluster();
  if (!answered || !taken) abort();
  printf("nodens: %llu changes, %llu answers meanwhile, %llu handed over, nothing found\n", written,
         (unsigned long long)answered, taken);
  return 0;
}
