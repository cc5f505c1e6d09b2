/* Asks at a steady pace and tells how long each answer took. Law: no question waits for an answer, and how well the
 * asker itself kept its pace is told beside what it saw.
 *
 *     cc -O2 -o steady steady.c && ./steady PORT QUESTIONS QUERIES_PER_SECOND SECONDS
 *
 * QUESTIONS has a line `name type` for each, asked in turn from 8 sockets, of 127.0.0.1. A question's time begins right
 * before it is sent and ends when the kernel had its answer (SO_TIMESTAMPNS): that the asker was kept from reading does
 * not count. That it was kept from sending does not count either; `late` is how long it was, at the same percentiles.
 * SIGTERM ends it before its time. Prints one line of JSON; percentiles are nearest rank, of what was answered within a second of the end.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

enum {
    SOCKETS = 8,
    PACKET_BYTES = 300,
    MAX_QUESTIONS = 1 << 20,
    MAX_ASKED = 1 << 26,
    RECEIVE_BUFFER_BYTES = 1 << 20,
    SPIN_NS = 40 * 1000, /* before a question is due the asker does not sleep */
    LINGER_NS = 1000 * 1000 * 1000,
};

struct question {
    unsigned char packet[PACKET_BYTES];
    size_t bytes;
};

static struct question *questions;
static size_t question_count;
static int sockets[SOCKETS];
static int64_t sent_ns[SOCKETS][65536]; /* 0: not asked or answered already */
static uint32_t *took_ns, *late_ns;
static size_t asked, answered, rcodes[16];
static volatile sig_atomic_t is_over;

static void end(int number)
{
    (void)number;
    is_over = 1;
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "steady: %s\n", what);
    exit(2);
}

static int type_of(const char *word)
{
    static const struct { const char *word; int number; } types[] = {{"A", 1}, {"PTR", 12}, {"AAAA", 28}, {"SRV", 33}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(word, types[i].word))
            return types[i].number;
    fail("a question of a type that is not A, AAAA, PTR or SRV");
}

/* A query without EDNS (RFC 1035 section 4); its id is set when it is sent. */
static void encode(struct question *question, char *name, int type)
{
    unsigned char *at = question->packet + 12;
    memset(question->packet, 0, 12);
    question->packet[2] = 1; /* RD */
    question->packet[5] = 1;
    for (char *rest = name, *label; (label = strsep(&rest, "."));) {
        size_t length = strlen(label);
        if (!length)
            continue;
        if (length > 63 || at + length + 6 > question->packet + PACKET_BYTES)
            fail("a name that is too long");
        *at++ = (unsigned char)length;
        memcpy(at, label, length);
        at += length;
    }
    *at++ = 0;
    *at++ = 0;
    *at++ = (unsigned char)type;
    *at++ = 0;
    *at++ = 1;
    question->bytes = (size_t)(at - question->packet);
}

static void read_questions(const char *path)
{
    char name[256], type[16];
    FILE *file = fopen(path, "r");
    if (!file || !(questions = calloc(MAX_QUESTIONS, sizeof *questions)))
        fail("the questions can't be read");
    while (question_count < MAX_QUESTIONS && fscanf(file, "%255s %15s", name, type) == 2)
        encode(&questions[question_count++], name, type_of(type));
    fclose(file);
    if (!question_count)
        fail("no question");
}

static void open_sockets(int port)
{
    struct sockaddr_in server = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    int on = 1, buffer_bytes = RECEIVE_BUFFER_BYTES;
    for (int i = 0; i < SOCKETS; i++) {
        sockets[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        if (sockets[i] < 0 || connect(sockets[i], (struct sockaddr *)&server, sizeof server))
            fail("no socket");
        setsockopt(sockets[i], SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
        setsockopt(sockets[i], SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes);
    }
}

/* Both clocks may be stepped against each other by none but the kernel's slewing: one run lasts seconds. */
static void ask(int64_t due_ns)
{
    int from = (int)(asked % SOCKETS);
    uint16_t id = (uint16_t)(asked / SOCKETS);
    struct question *question = &questions[asked % question_count];
    int64_t late = now_ns(CLOCK_MONOTONIC) - due_ns;
    question->packet[0] = (unsigned char)(id >> 8);
    question->packet[1] = (unsigned char)id;
    sent_ns[from][id] = now_ns(CLOCK_REALTIME);
    if (send(sockets[from], question->packet, question->bytes, 0) < 0)
        sent_ns[from][id] = 0; /* nobody listens: it counts as asked, and as lost */
    late_ns[asked++] = late > UINT32_MAX ? UINT32_MAX : (uint32_t)late;
}

static void receive(int from)
{
    unsigned char packet[4096];
    union { char octets[128]; struct cmsghdr aligned; } control;
    struct iovec part = {packet, sizeof packet};
    for (;;) {
        struct msghdr message = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.octets, .msg_controllen = sizeof control};
        ssize_t bytes = recvmsg(sockets[from], &message, 0);
        struct cmsghdr *header = bytes < 12 ? NULL : CMSG_FIRSTHDR(&message);
        if (bytes < 0)
            return;
        if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_TIMESTAMPNS)
            continue;
        struct timespec came;
        memcpy(&came, CMSG_DATA(header), sizeof came);
        int64_t *sent = &sent_ns[from][packet[0] << 8 | packet[1]];
        if (!*sent || answered == asked)
            continue;
        int64_t took = came.tv_sec * 1000000000LL + came.tv_nsec - *sent;
        took_ns[answered++] = took < 0 ? 0 : took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
        rcodes[packet[3] & 15]++;
        *sent = 0;
    }
}

static void receive_all(void)
{
    for (int i = 0; i < SOCKETS; i++)
        receive(i);
}

static void wait_until(int64_t due_ns)
{
    for (int64_t left_ns; (left_ns = due_ns - now_ns(CLOCK_MONOTONIC)) > 0;) {
        if (left_ns > 2 * SPIN_NS) {
            struct timespec pause = {0, left_ns - SPIN_NS > 999999999 ? 999999999 : left_ns - SPIN_NS};
            nanosleep(&pause, NULL);
        }
        receive_all();
    }
}

static int compare(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static void print(const char *word, uint32_t *values, size_t count)
{
    static const struct { const char *word; double share; } ranks[] = {
        {"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1.0}};
    qsort(values, count, sizeof *values, compare);
    printf(", \"%s_us\": {", word);
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
        size_t rank = (size_t)(ranks[i].share * (double)count + 0.999999);
        rank = rank < 1 ? 1 : rank > count ? count : rank;
        printf("%s\"%s\": ", i ? ", " : "", ranks[i].word);
        if (count)
            printf("%.3f", values[rank - 1] / 1e3);
        else
            printf("null");
    }
    printf("}");
}

int main(int count, char **words)
{
    if (count != 5)
        fail("usage: steady PORT QUESTIONS QUERIES_PER_SECOND SECONDS");
    signal(SIGTERM, end);
    double per_second = atof(words[3]), seconds = atof(words[4]);
    if (per_second <= 0 || seconds <= 0 || per_second * seconds > MAX_ASKED)
        fail("a pace or a time that is no good");
    size_t total = (size_t)(per_second * seconds);
    took_ns = malloc((total + 1) * sizeof *took_ns);
    late_ns = malloc((total + 1) * sizeof *late_ns);
    if (!took_ns || !late_ns)
        fail("no memory");
    memset(took_ns, 0, (total + 1) * sizeof *took_ns); /* no page fault while it counts */
    memset(late_ns, 0, (total + 1) * sizeof *late_ns);
    read_questions(words[2]);
    open_sockets(atoi(words[1]));
    prctl(PR_SET_TIMERSLACK, 1UL);
    setpriority(PRIO_PROCESS, 0, -20); /* the instrument comes first on its core, where that is allowed */

    int64_t began_ns = now_ns(CLOCK_MONOTONIC);
    while (asked < total && !is_over) {
        int64_t due_ns = began_ns + (int64_t)((double)asked / per_second * 1e9);
        wait_until(due_ns);
        ask(due_ns);
    }
    int64_t ended_ns = now_ns(CLOCK_MONOTONIC);
    for (int64_t last_ns = ended_ns + LINGER_NS; answered < asked && now_ns(CLOCK_MONOTONIC) < last_ns;)
        wait_until(now_ns(CLOCK_MONOTONIC) + SPIN_NS);

    printf("{\"sent\": %zu, \"completed\": %zu, \"seconds\": %.6f, \"rcodes\": {", asked, answered,
           (double)(ended_ns - began_ns) / 1e9);
    for (int i = 0, written = 0; i < 16; i++)
        if (rcodes[i])
            printf("%s\"%d\": %zu", written++ ? ", " : "", i, rcodes[i]);
    printf("}, \"nice\": %d", getpriority(PRIO_PROCESS, 0));
    print("took", took_ns, answered);
    print("late", late_ns, asked);
    printf("}\n");
    return 0;
}
