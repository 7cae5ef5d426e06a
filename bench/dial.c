/* TCP through a proxy to `bulk`: how many bytes a second, or how many new connections a second.
 *
 *   dial bytes ADDRESS PORT CONNECTIONS BYTES [HELLO]      each connection asks for BYTES once; ends when all have them
 *   dial connections ADDRESS PORT CONNECTIONS SECONDS [HELLO]   so many at a time, each asks for 1 byte and is made anew
 *
 * HELLO: a file with a TLS client hello that is sent first. What is received is dropped in the kernel (MSG_TRUNC), so that the
 * receiver costs little. Prints one JSON object: gb_s, cps, failed, p50_us, p99_us (of a connection, from connect to its end). */
#include "wire.h"

enum { MOST = 1024, REMEMBERED = 4000000, TURNS = 4 };
struct connection { int fd, asked; long got, began; };
static struct connection connections[MOST];
static struct sockaddr_in address;
static char request[2048];
static size_t request_length;
static int epoll;

static void begin(int index) {
    struct connection *c = &connections[index];
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    c->asked = 0;
    c->got = 0;
    c->began = now_ns();
    no_delay(c->fd);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    struct epoll_event event = {.events = EPOLLOUT, .data.u32 = (unsigned)index};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
}

static int ask(struct connection *c, int index) {
    if (send(c->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length) return -1;
    c->asked = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)index};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
    return 0;
}

/* 1 when the other side has closed, -1 when it broke off, 0 when more must come. */
static int receive(struct connection *c) {
    for (int turn = 0; turn < TURNS; turn++) {
        ssize_t n = recv(c->fd, NULL, 8 << 20, MSG_TRUNC);
        if (n < 0) return errno == EAGAIN ? 0 : -1;
        if (n == 0) return 1;
        c->got += n;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 6) { fprintf(stderr, "usage: dial bytes|connections ADDRESS PORT CONNECTIONS BYTES|SECONDS [HELLO]\n"); return 2; }
    int bytes = !strcmp(argv[1], "bytes"), count = atoi(argv[4]);
    address = address_of(argv[2], atoi(argv[3]));
    if (count > MOST) return 2;
    if (argc > 6) {
        FILE *file = fopen(argv[6], "rb");
        if (!file) die(argv[6]);
        request_length = fread(request, 1, 1024, file);
        fclose(file);
    }
    long wanted = bytes ? atol(argv[5]) : 1;
    request_length += (size_t)sprintf(request + request_length, "%ld\n", wanted);
    double seconds = bytes ? 120 : atof(argv[5]); /* of bytes: nothing takes that long but a proxy that hangs */
    epoll = epoll_create1(0);
    for (int i = 0; i < count; i++) begin(i);
    long started = now_ns(), total = 0, done = 0, failed = 0, *latency = malloc(sizeof(long) * REMEMBERED);
    int open = count;
    struct epoll_event events[256];
    while (open && now_ns() - started < (long)(seconds * 1e9)) {
        int ready = epoll_wait(epoll, events, 256, 100);
        for (int i = 0; i < ready; i++) {
            int index = (int)events[i].data.u32;
            struct connection *c = &connections[index];
            int state = c->asked ? receive(c) : ask(c, index);
            if (!state) continue;
            total += c->got;
            if (state > 0 && c->got == wanted) { if (done < REMEMBERED) latency[done] = now_ns() - c->began; done++; } else failed++;
            close(c->fd);
            if (bytes) { c->got = 0; open--; } else begin(index);
        }
    }
    for (int i = 0; bytes && i < count; i++) total += connections[i].got;
    if (bytes) failed += open;
    double took_s = (double)(now_ns() - started) / 1e9;
    long known = done < REMEMBERED ? done : REMEMBERED;
    qsort(latency, (size_t)known, sizeof(long), ascending);
    #define P(q) (known ? latency[(long)((known - 1) * (q))] / 1000.0 : 0)
    printf("{\"gb_s\": %.4f, \"bytes\": %ld, \"cps\": %.1f, \"done\": %ld, \"failed\": %ld, \"p50_us\": %.1f, \"p99_us\": %.1f}\n",
           (double)total / took_s / 1e9, total, (double)done / took_s, done, failed, P(.5), P(.99));
    return 0;
}
