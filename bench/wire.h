/* What the benchmarks' C programs share: sockets, the clock, and HTTP/2 frames as far as a backend and a load generator need them
 * (reading frame heads, writing frames into a buffer). Header blocks are bytes made elsewhere; nothing here decodes HPACK. */
#define _GNU_SOURCE
#pragma GCC diagnostic ignored "-Wunused-function" /* each program takes what it needs */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };
static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
enum { PREFACE_LENGTH = sizeof PREFACE - 1, FRAME_HEAD = 9 };

struct frame { uint32_t length, stream; unsigned char type, flags; const unsigned char *payload; };

static void die(const char *what) { perror(what); exit(1); }
static uint32_t get24(const unsigned char *p) { return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2]; }
static uint32_t get32(const unsigned char *p) { return (uint32_t)p[0] << 24 | get24(p + 1); }
static void put32(unsigned char *p, uint32_t v) { p[0] = v >> 24; p[1] = v >> 16; p[2] = v >> 8; p[3] = v; }
static long now_ns(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }

/* 1 and the frame when `size` bytes hold a whole one, else 0. */
static int whole_frame(const unsigned char *data, size_t size, struct frame *f) {
    if (size < FRAME_HEAD) return 0;
    f->length = get24(data);
    f->type = data[3];
    f->flags = data[4];
    f->stream = get32(data + 5) & 0x7fffffff;
    f->payload = data + FRAME_HEAD;
    return size >= FRAME_HEAD + f->length;
}

/* Appends a frame; returns its whole length. */
static size_t write_frame(unsigned char *to, int type, int flags, uint32_t stream, const void *payload, size_t length) {
    to[0] = length >> 16; to[1] = length >> 8; to[2] = length;
    to[3] = type;
    to[4] = flags;
    put32(to + 5, stream);
    if (length) memcpy(to + FRAME_HEAD, payload, length);
    return FRAME_HEAD + length;
}

/* Everything, waiting for room where the socket has none; 0, or -1 when the other side is gone. */
static int send_whole(int fd, const unsigned char *data, size_t length) {
    while (length) {
        ssize_t n = send(fd, data, length, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) { struct pollfd p = {fd, POLLOUT, 0}; poll(&p, 1, 1000); continue; }
        if (n < 0) return -1;
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

static struct sockaddr_in address_of(const char *ip, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    if (inet_pton(AF_INET, ip, &address.sin_addr) != 1) { fprintf(stderr, "bad address %s\n", ip); exit(2); }
    return address;
}

static void no_delay(int fd) { int one = 1; setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); }

static void watch(int epoll, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

/* A non-blocking listening socket at ADDRESS:PORT. */
static int listening_at(char *where) {
    char *colon = strrchr(where, ':');
    if (!colon) { fprintf(stderr, "bad address %s\n", where); exit(2); }
    *colon = 0;
    struct sockaddr_in address = address_of(where, atoi(colon + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) die(where);
    return fd;
}

static int ascending(const void *a, const void *b) {
    long x = *(const long *)a, y = *(const long *)b;
    return x < y ? -1 : x > y;
}
