/* A fixed offered load: request i is due at start + i / rate, whatever became of the ones before (open loop), and its latency is
 * counted from when it was due, so a proxy that stalls cannot hide it. HTTP/1.1, keep-alive, GET, CONNECTIONS connections.
 *
 *   offered ADDRESS PORT HOST PATH CONNECTIONS RATE SECONDS
 *
 * Prints one JSON object: sent, failed, rps, p50_us, p90_us, p99_us, p999_us, max_us. The first second warms up and is not counted. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024 };
struct connection { int fd; long due; int busy; int head_done; long body_left; int filled; char buffer[16384]; };
static struct connection connections[MOST];

static long now_ns(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }
static int ascending(const void *a, const void *b) { long x = *(const long *)a, y = *(const long *)b; return x < y ? -1 : x > y; }

/* One response (head with content-length, then the body); 1 when complete, 0 when more must come, -1 when it is not a 200. */
static int took(struct connection *c) {
    c->buffer[c->filled] = 0;
    if (!c->head_done) {
        char *end = strstr(c->buffer, "\r\n\r\n");
        if (!end) return 0;
        char *length = strcasestr(c->buffer, "\r\ncontent-length:");
        if (!length || length > end || strncmp(c->buffer + 9, "200", 3)) return -1;
        c->head_done = 1;
        c->body_left = atol(length + 17) - (c->filled - (end + 4 - c->buffer));
    }
    return c->body_left <= 0;
}

int main(int argc, char **argv) {
    if (argc != 8) { fprintf(stderr, "usage: offered ADDRESS PORT HOST PATH CONNECTIONS RATE SECONDS\n"); return 2; }
    int count = atoi(argv[5]), epoll = epoll_create1(0);
    double rate = atof(argv[6]), seconds = atof(argv[7]);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2]))};
    if (count > MOST || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) return 2;
    char request[1024];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nhost: %s\r\nuser-agent: offered\r\naccept: */*\r\n\r\n", argv[4], argv[3]);
    int idle[MOST], idles = 0;
    for (int i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        int one = 1;
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) { perror("connect"); return 1; }
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
        idle[idles++] = i;
    }
    long total = (long)(rate * seconds), sent = 0, done = 0, failed = 0, counted = 0;
    long *latency = malloc(sizeof(long) * (size_t)(total + 1));
    long begin = now_ns(), warm = begin + 1000000000L;
    double gap = 1e9 / rate;
    while (done + failed < total && now_ns() < begin + (long)((seconds + 5) * 1e9)) {
        long t = now_ns();
        while (sent < total && idles && begin + (long)(sent * gap) <= t) {
            struct connection *c = &connections[idle[--idles]];
            c->due = begin + (long)(sent * gap);
            c->busy = 1; c->head_done = 0; c->filled = 0;
            sent++;
            if (send(c->fd, request, (size_t)length, MSG_NOSIGNAL) != length) { failed++; c->busy = 0; }
        }
        long wait_ns = sent < total ? begin + (long)(sent * gap) - now_ns() : 1000000;
        struct timespec pause = {0, wait_ns < 0 || !idles ? 1000000 : wait_ns > 1000000 ? 1000000 : wait_ns};
        struct epoll_event events[128];
        int ready = epoll_pwait2(epoll, events, 128, &pause, NULL);
        for (int i = 0; i < ready; i++) {
            struct connection *c = &connections[events[i].data.u32];
            ssize_t got = recv(c->fd, c->buffer + c->filled, sizeof c->buffer - 1 - (size_t)c->filled, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) { fprintf(stderr, "the proxy closed a connection\n"); return 1; }
            if (c->head_done) c->body_left -= got; else c->filled += (int)got;
            int state = took(c);
            if (!state) continue;
            long at = now_ns();
            if (state < 0) failed++; else { done++; if (c->due >= warm) latency[counted++] = at - c->due; }
            c->busy = 0; c->filled = 0;
            idle[idles++] = (int)events[i].data.u32;
        }
    }
    double took_s = (double)(now_ns() - begin) / 1e9;
    failed += sent - done - failed;
    qsort(latency, (size_t)counted, sizeof(long), ascending);
    #define P(q) (counted ? latency[(long)((counted - 1) * (q))] / 1000.0 : 0)
    printf("{\"sent\": %ld, \"failed\": %ld, \"rps\": %.0f, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n",
           sent, failed, (double)done / took_s, P(.5), P(.9), P(.99), P(.999), P(1));
    return 0;
}
