/* A closed loop of HTTP/2 requests whose heads differ: each connection sends the header blocks of a file in their order, STREAMS at
 * a time, and begins anew on a fresh connection when it has sent all (blocks use the dynamic table, so their order matters).
 *
 *   load_h2 ADDRESS PORT CONNECTIONS STREAMS SECONDS BLOCKS
 *
 * BLOCKS: u16 length (big endian), header block, and so on; GET without bodies. Prints one JSON object: done, failed, rps, p50_us,
 * p99_us. A response counts as failed when its first field is not the indexed `:status: 200`, or when it is reset. */
#include "wire.h"

enum { MOST = 1024, INPUT = 262144, OUTPUT = 65536, SLOTS = 1024, REMEMBERED = 4000000 };
struct connection {
    int fd, flying, going;
    uint32_t next_stream;
    size_t at, filled, pending;
    long received, began[SLOTS];
    unsigned char good[SLOTS], input[INPUT], output[OUTPUT];
};
static struct connection *connections;
static unsigned char *blocks;
static size_t blocks_length;
static struct sockaddr_in address;
static int epoll, streams;
static long done, failed, counted, *latency;

static void open_connection(int index) {
    struct connection *c = &connections[index];
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    no_delay(c->fd);
    c->flying = c->going = 0;
    c->next_stream = 1;
    c->at = c->filled = c->pending = 0;
    c->received = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)index};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
    memcpy(c->output, PREFACE, PREFACE_LENGTH);
    c->pending = PREFACE_LENGTH;
    unsigned char setting[12] = {0, 2, 0, 0, 0, 0, 0, 4, 0x3f, 0xff, 0xff, 0xff}, credit[4]; /* no push; a large window */
    c->pending += write_frame(c->output + c->pending, SETTINGS, 0, 0, setting, 12);
    put32(credit, 0x3fffffff);
    c->pending += write_frame(c->output + c->pending, WINDOW_UPDATE, 0, 0, credit, 4);
}

static int flush(struct connection *c) {
    size_t length = c->pending;
    c->pending = 0;
    return length ? send_whole(c->fd, c->output, length) : 0;
}

static int fill(struct connection *c) {
    while (c->flying < streams && c->at < blocks_length && !c->going) {
        size_t length = (size_t)blocks[c->at] << 8 | blocks[c->at + 1];
        if (c->pending + length + 64 > sizeof c->output && flush(c)) return -1;
        int slot = c->next_stream / 2 % SLOTS;
        c->began[slot] = now_ns();
        c->good[slot] = 0;
        c->pending += write_frame(c->output + c->pending, HEADERS, END_HEADERS | END_STREAM, c->next_stream, blocks + c->at + 2, length);
        c->at += 2 + length;
        c->next_stream += 2;
        c->flying++;
    }
    return flush(c);
}

static void over(struct connection *c, uint32_t stream, int good) {
    long took = now_ns() - c->began[stream / 2 % SLOTS];
    c->flying--;
    if (good && c->good[stream / 2 % SLOTS]) { done++; if (counted < REMEMBERED) latency[counted++] = took; } else failed++;
}

static void took(struct connection *c, const struct frame *f) {
    unsigned char credit[4];
    switch (f->type) {
    case HEADERS:
        if (!c->good[f->stream / 2 % SLOTS]) {
            const unsigned char *p = f->payload; /* dynamic table size updates may stand in front */
            while (p < f->payload + f->length && (*p & 0xe0) == 0x20) { int more = (*p++ & 0x1f) == 0x1f; while (more) more = *p++ & 0x80; }
            c->good[f->stream / 2 % SLOTS] = *p == 0x88 ? 1 : 0;
        }
        if (f->flags & END_STREAM) over(c, f->stream, 1);
        break;
    case DATA:
        c->received += f->length;
        if (c->received > 0x10000000) {
            put32(credit, (uint32_t)c->received);
            c->received = 0;
            c->pending += write_frame(c->output + c->pending, WINDOW_UPDATE, 0, 0, credit, 4);
        }
        if (f->flags & END_STREAM) over(c, f->stream, 1);
        break;
    case RST_STREAM: over(c, f->stream, 0); break;
    case SETTINGS: if (!(f->flags & ACK)) c->pending += write_frame(c->output + c->pending, SETTINGS, ACK, 0, NULL, 0); break;
    case PING: if (!(f->flags & ACK)) c->pending += write_frame(c->output + c->pending, PING, ACK, 0, f->payload, f->length); break;
    case GOAWAY: c->going = 1; break;
    }
}

/* -1 when the connection is to be made anew. */
static int readable(struct connection *c) {
    ssize_t got = recv(c->fd, c->input + c->filled, sizeof c->input - c->filled, 0);
    if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
    c->filled += (size_t)got;
    size_t at = 0;
    struct frame f;
    while (whole_frame(c->input + at, c->filled - at, &f)) {
        took(c, &f);
        at += FRAME_HEAD + f.length;
    }
    memmove(c->input, c->input + at, c->filled - at);
    c->filled -= at;
    if (fill(c)) return -1;
    return !c->flying && (c->going || c->at >= blocks_length) ? -1 : 0;
}

static void load_blocks(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    blocks_length = (size_t)ftell(file);
    rewind(file);
    blocks = malloc(blocks_length + 1);
    if (fread(blocks, 1, blocks_length, file) != blocks_length) die(path);
    fclose(file);
}

int main(int argc, char **argv) {
    if (argc != 7) { fprintf(stderr, "usage: load_h2 ADDRESS PORT CONNECTIONS STREAMS SECONDS BLOCKS\n"); return 2; }
    address = address_of(argv[1], atoi(argv[2]));
    int count = atoi(argv[3]);
    streams = atoi(argv[4]);
    double seconds = atof(argv[5]);
    if (count > MOST || streams >= SLOTS) return 2;
    load_blocks(argv[6]);
    epoll = epoll_create1(0);
    connections = calloc((size_t)count, sizeof *connections);
    latency = malloc(sizeof(long) * REMEMBERED);
    for (int i = 0; i < count; i++) { open_connection(i); if (fill(&connections[i])) die("send"); }
    long begin = now_ns(), end = begin + (long)(seconds * 1e9);
    struct epoll_event events[128];
    while (now_ns() < end) {
        int ready = epoll_wait(epoll, events, 128, 100);
        for (int i = 0; i < ready; i++) {
            struct connection *c = &connections[events[i].data.u32];
            if (!readable(c)) continue;
            failed += c->flying;
            close(c->fd);
            open_connection((int)events[i].data.u32);
            if (fill(c)) die("send");
        }
    }
    double took_s = (double)(now_ns() - begin) / 1e9;
    qsort(latency, (size_t)counted, sizeof(long), ascending);
    #define P(q) (counted ? latency[(long)((counted - 1) * (q))] / 1000.0 : 0)
    printf("{\"done\": %ld, \"failed\": %ld, \"rps\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", done, failed, (double)done / took_s, P(.5), P(.99));
    return 0;
}
