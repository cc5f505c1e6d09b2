/* A bare UDP echo: what the kernel alone costs. Law: nothing is read of a packet, QR is set and it goes back.
 *
 *     cc -O2 -o echo echo.c && ./echo PORT
 *
 * Receives and sends up to 64 packets a system call, on 127.0.0.1, until it is killed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { BATCH = 64, PACKET_BYTES = 4096, RECEIVE_BUFFER_BYTES = 1 << 20 };

static unsigned char packets[BATCH][PACKET_BYTES];
static struct sockaddr_in clients[BATCH];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];

int main(int count, char **words)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int buffer_bytes = RECEIVE_BUFFER_BYTES, sock = socket(AF_INET, SOCK_DGRAM, 0);

    if (count != 2 || sock < 0) {
        fprintf(stderr, "usage: echo PORT\n");
        return 2;
    }
    own.sin_port = htons((unsigned short)atoi(words[1]));
    setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes);
    if (bind(sock, (struct sockaddr *)&own, sizeof own) != 0) {
        perror("bind");
        return 1;
    }
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){packets[i], PACKET_BYTES};
            messages[i].msg_hdr = (struct msghdr){
                .msg_name = &clients[i], .msg_namelen = sizeof clients[i], .msg_iov = &parts[i], .msg_iovlen = 1};
        }
        int received = recvmmsg(sock, messages, BATCH, MSG_WAITFORONE, NULL);
        if (received < 0)
            continue;
        for (int i = 0; i < received; i++) {
            parts[i].iov_len = messages[i].msg_len;
            packets[i][2] |= 0x80;
        }
        for (int sent = 0; sent < received;) {
            int more = sendmmsg(sock, messages + sent, (unsigned)(received - sent), 0);
            sent += more > 0 ? more : 1; /* what can't be sent is skipped */
        }
    }
}
