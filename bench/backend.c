/* The backend behind every proxy of a benchmark: answers each request with the same small response, as fast as one core can,
 * so that the proxy is what is measured. One epoll loop, level-triggered, any number of ports.
 *
 *   backend NAME BODY_BYTES ADDRESS:PORT...
 *
 * Requests end at an empty line and have no body (the load generators here send GET). Pipelined requests are counted by their
 * empty lines and answered together. The response says NAME in x-served-by. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_FDS = 65536, MOST_LISTENERS = 64 };
static unsigned char state[MOST_FDS]; /* how much of \r\n\r\n the last bytes matched */
static int listeners[MOST_LISTENERS], listening;

static void die(const char *what) { perror(what); exit(1); }

static int is_listener(int fd) {
    for (int i = 0; i < listening; i++) if (listeners[i] == fd) return 1;
    return 0;
}

static void add(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static void serve_on(int epoll, char *where) {
    char *colon = strrchr(where, ':');
    if (!colon || listening == MOST_LISTENERS) { fprintf(stderr, "bad address %s\n", where); exit(2); }
    *colon = 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(colon + 1))};
    if (inet_pton(AF_INET, where, &address.sin_addr) != 1) { fprintf(stderr, "bad address %s\n", where); exit(2); }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) die(where);
    listeners[listening++] = fd;
    add(epoll, fd);
}

static void answer(int fd, const char *response, size_t length, int times) {
    while (times--) {
        size_t done = 0;
        while (done < length) {
            ssize_t n = send(fd, response + done, length - done, MSG_NOSIGNAL);
            if (n < 0 && errno == EAGAIN) continue; /* small responses: the socket buffer drains at once */
            if (n < 0) { close(fd); return; }
            done += (size_t)n;
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 4) { fprintf(stderr, "usage: backend NAME BODY_BYTES ADDRESS:PORT...\n"); return 2; }
    int epoll = epoll_create1(0), body = atoi(argv[2]);
    char *response = malloc((size_t)body + 512);
    int length = sprintf(response, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-served-by: %s\r\ncontent-length: %d\r\n\r\n", argv[1], body);
    memset(response + length, 'x', (size_t)body);
    length += body;
    for (int i = 3; i < argc; i++) serve_on(epoll, argv[i]);
    struct epoll_event events[256];
    char buffer[65536];
    for (;;) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (is_listener(fd)) {
                int client;
                while ((client = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    int one = 1;
                    if (client >= MOST_FDS) { close(client); continue; }
                    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    state[client] = 0;
                    add(epoll, client);
                }
                continue;
            }
            ssize_t got = recv(fd, buffer, sizeof buffer, 0);
            if (got == 0 || (got < 0 && errno != EAGAIN)) { close(fd); continue; }
            int requests = 0;
            for (ssize_t k = 0; k < got; k++) {
                unsigned char s = state[fd], c = (unsigned char)buffer[k];
                s = c == '\r' ? (s == 2 ? 3 : 1) : c == '\n' && (s == 1 || s == 3) ? s + 1 : 0;
                if (s == 4) { requests++; s = 0; }
                state[fd] = s;
            }
            if (requests) answer(fd, response, (size_t)length, requests);
        }
    }
}
