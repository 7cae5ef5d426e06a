/* The TCP backend behind every proxy of a benchmark: a connection asks for so many bytes, gets them, and is closed by this side, so
 * that no client runs out of ports. One epoll loop, any number of addresses.
 *
 *   bulk ADDRESS:PORT...
 *
 * What is asked: a decimal number and a newline. A TLS client hello in front of it (first byte 22) is stepped over, for proxies that
 * choose by SNI and pass everything on. */
#include "wire.h"

enum { MOST_FDS = 65536, MOST_LISTENERS = 64, CHUNK = 1 << 20, TURNS = 4 };
struct asked { long left; int begun, filled; char line[1024]; };
static struct asked *connections[MOST_FDS];
static int listeners[MOST_LISTENERS], listening;
static char chunk[CHUNK];

static void over(int fd) { close(fd); free(connections[fd]); connections[fd] = NULL; }

static int accept_all(int epoll, int fd) {
    for (int i = 0; i < listening; i++) {
        if (listeners[i] != fd) continue;
        int client;
        while ((client = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
            if (client >= MOST_FDS) { close(client); continue; }
            no_delay(client);
            connections[client] = calloc(1, sizeof(struct asked));
            watch(epoll, client, EPOLLIN);
        }
        return 1;
    }
    return 0;
}

/* 1 when the number is known, 0 when more must come, -1 when the client is gone or talks nonsense. */
static int read_number(int fd, struct asked *c) {
    ssize_t got = recv(fd, c->line + c->filled, sizeof c->line - 1 - (size_t)c->filled, 0);
    if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
    c->filled += (int)got;
    int skip = 0;
    if (c->line[0] == 22) {
        if (c->filled < 5) return 0;
        skip = 5 + ((unsigned char)c->line[3] << 8 | (unsigned char)c->line[4]);
        if (skip >= (int)sizeof c->line) return -1;
    }
    if (c->filled <= skip || !memchr(c->line + skip, '\n', (size_t)(c->filled - skip))) return c->filled == sizeof c->line - 1 ? -1 : 0;
    c->left = atol(c->line + skip);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 2) { fprintf(stderr, "usage: bulk ADDRESS:PORT...\n"); return 2; }
    int epoll = epoll_create1(0);
    memset(chunk, 'x', sizeof chunk);
    for (int i = 1; i < argc; i++) watch(epoll, listeners[listening++] = listening_at(argv[i]), EPOLLIN);
    struct epoll_event events[256];
    for (;;) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (accept_all(epoll, fd)) continue;
            struct asked *c = connections[fd];
            if (!c->begun) {
                int known = read_number(fd, c);
                if (known < 0) { over(fd); continue; }
                if (!known) continue;
                c->begun = 1;
                struct epoll_event event = {.events = EPOLLOUT, .data.fd = fd};
                epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
            }
            for (int turn = 0; c->left > 0 && turn < TURNS; turn++) { /* then the others */
                ssize_t n = send(fd, chunk, c->left < CHUNK ? (size_t)c->left : CHUNK, MSG_NOSIGNAL);
                if (n < 0 && errno != EAGAIN) c->left = 0;
                if (n < 0) break;
                c->left -= n;
            }
            if (c->left <= 0) over(fd);
        }
    }
}
