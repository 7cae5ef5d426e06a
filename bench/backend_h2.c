/* The HTTP/2 backend behind every proxy of a benchmark: clear text with prior knowledge, the same small answer to each request once
 * its last byte has come, as fast as one core can. Request heads are not decoded.
 *
 *   backend_h2 http|grpc NAME BODY_BYTES ADDRESS:PORT...
 *
 * http: status 200, content-type, content-length, x-served-by, a body. grpc: the body is one length-prefixed message, grpc-status 0
 * in trailers. Response fields are put into the dynamic table once, as servers do, unless the proxy has none. Flow control is kept
 * to: what does not fit the connection's window waits. */
#include "wire.h"

enum { MOST_FDS = 65536, MOST_LISTENERS = 64, INPUT = 65536, WAITING = 4096, STREAMS = 1000, CREDIT = 32768 };
struct connection {
    int began, stateless, indexed, block_ends_stream;
    uint32_t continued, waiting[WAITING], first, last; /* streams whose answer waits for window */
    long window, received;
    size_t filled, pending;
    unsigned char input[INPUT], output[INPUT];
};
static struct connection *connections[MOST_FDS];
static int listeners[MOST_LISTENERS], listening, grpc;
static unsigned char first_block[512], next_block[64], plain_block[512], trailer_first[64], trailer_next[8], trailer_plain[64], *body;
static size_t first_length, next_length, plain_length, trailer_first_length, trailer_next_length, trailer_plain_length, body_length;

static size_t text(unsigned char *to, const char *value) {
    size_t length = strlen(value); /* all below 127 */
    to[0] = (unsigned char)length;
    memcpy(to + 1, value, length);
    return length + 1;
}

/* The same head three ways: into the dynamic table, from it, and without it (RFC 7541 section 6). */
static void make_blocks(const char *name, int size) {
    char length[16];
    sprintf(length, "%d", size);
    unsigned char *p = first_block, *q = plain_block;
    *p++ = 0x88; *q++ = 0x88;
    *p++ = 0x40 | 31; p += text(p, grpc ? "application/grpc" : "text/plain");
    *q++ = 0x0f; *q++ = 16; q += text(q, grpc ? "application/grpc" : "text/plain");
    if (!grpc) {
        *p++ = 0x40 | 28; p += text(p, length);
        *q++ = 0x0f; *q++ = 13; q += text(q, length);
    }
    *p++ = 0x40; p += text(p, "x-served-by"); p += text(p, name);
    *q++ = 0x00; q += text(q, "x-served-by"); q += text(q, name);
    first_length = (size_t)(p - first_block);
    plain_length = (size_t)(q - plain_block);
    unsigned char *t = trailer_first;
    *t++ = 0x40; t += text(t, "grpc-status"); t += text(t, "0");
    trailer_first_length = (size_t)(t - trailer_first);
    memcpy(trailer_plain, trailer_first, trailer_first_length);
    trailer_plain[0] = 0x00;
    trailer_plain_length = trailer_first_length;
    /* The newest entry is 62. In gRPC's answers that is grpc-status, then x-served-by, content-type. */
    unsigned char http_next[] = {0x88, 0xc0, 0xbf, 0xbe}, grpc_next[] = {0x88, 0xc0, 0xbf};
    next_length = grpc ? sizeof grpc_next : sizeof http_next;
    memcpy(next_block, grpc ? grpc_next : http_next, next_length);
    trailer_next[0] = 0xbe;
    trailer_next_length = 1;
}

static int flush(int fd, struct connection *c) {
    size_t length = c->pending;
    c->pending = 0;
    return length ? send_whole(fd, c->output, length) : 0;
}

static int room(int fd, struct connection *c, size_t wanted) {
    return c->pending + wanted > sizeof c->output ? flush(fd, c) : 0;
}

static int answer(int fd, struct connection *c, uint32_t stream) {
    if (room(fd, c, body_length + 1024)) return -1;
    const unsigned char *block = c->stateless ? plain_block : c->indexed ? next_block : first_block;
    size_t length = c->stateless ? plain_length : c->indexed ? next_length : first_length;
    unsigned char reduced[600];
    if (c->stateless && !c->indexed) { /* RFC 7541 section 4.2: the smaller table is acknowledged in the first block */
        reduced[0] = 0x20;
        memcpy(reduced + 1, block, length);
        block = reduced;
        length++;
    }
    c->pending += write_frame(c->output + c->pending, HEADERS, END_HEADERS, stream, block, length);
    c->pending += write_frame(c->output + c->pending, DATA, grpc ? 0 : END_STREAM, stream, body, body_length);
    if (grpc) {
        block = c->stateless ? trailer_plain : c->indexed ? trailer_next : trailer_first;
        length = c->stateless ? trailer_plain_length : c->indexed ? trailer_next_length : trailer_first_length;
        c->pending += write_frame(c->output + c->pending, HEADERS, END_HEADERS | END_STREAM, stream, block, length);
    }
    c->indexed = 1;
    c->window -= (long)body_length;
    return 0;
}

static int ended(int fd, struct connection *c, uint32_t stream) {
    if (c->window >= (long)body_length && c->first == c->last) return answer(fd, c, stream);
    c->waiting[c->last++ % WAITING] = stream;
    return c->last - c->first > WAITING ? -1 : 0;
}

static int settings(int fd, struct connection *c, const struct frame *f) {
    if (f->flags & ACK) return 0;
    for (const unsigned char *p = f->payload; p + 6 <= f->payload + f->length; p += 6) {
        int id = p[0] << 8 | p[1];
        uint32_t value = get32(p + 2);
        if (id == 1 && value < 4096) c->stateless = 1;
        if (id == 4 && value < body_length) { fprintf(stderr, "a stream's window is smaller than the body\n"); return -1; }
    }
    if (room(fd, c, 64)) return -1;
    c->pending += write_frame(c->output + c->pending, SETTINGS, ACK, 0, NULL, 0);
    return 0;
}

static int took(int fd, struct connection *c, const struct frame *f) {
    if (room(fd, c, 64)) return -1;
    switch (f->type) {
    case HEADERS:
        if (f->flags & END_HEADERS) return f->flags & END_STREAM ? ended(fd, c, f->stream) : 0;
        c->block_ends_stream = f->flags & END_STREAM;
        return 0;
    case CONTINUATION:
        return f->flags & END_HEADERS && c->block_ends_stream ? ended(fd, c, f->stream) : 0;
    case DATA:
        c->received += f->length;
        if (c->received > CREDIT) {
            unsigned char credit[4];
            put32(credit, (uint32_t)c->received);
            c->received = 0;
            c->pending += write_frame(c->output + c->pending, WINDOW_UPDATE, 0, 0, credit, 4);
        }
        return f->flags & END_STREAM ? ended(fd, c, f->stream) : 0;
    case SETTINGS:
        return settings(fd, c, f);
    case PING:
        if (!(f->flags & ACK)) c->pending += write_frame(c->output + c->pending, PING, ACK, 0, f->payload, f->length);
        return 0;
    case WINDOW_UPDATE:
        if (f->stream == 0) c->window += get32(f->payload) & 0x7fffffff;
        while (c->first != c->last && c->window >= (long)body_length)
            if (answer(fd, c, c->waiting[c->first++ % WAITING])) return -1;
        return 0;
    default:
        return 0; /* RST_STREAM: the answer is already gone; GOAWAY: the other side closes */
    }
}

static int readable(int fd, struct connection *c) {
    ssize_t got = recv(fd, c->input + c->filled, sizeof c->input - c->filled, 0);
    if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
    c->filled += (size_t)got;
    size_t at = 0;
    if (!c->began) {
        if (c->filled < PREFACE_LENGTH) return 0;
        if (memcmp(c->input, PREFACE, PREFACE_LENGTH)) return -1;
        c->began = 1;
        at = PREFACE_LENGTH;
        unsigned char streams[6] = {0, 3, 0, 0, STREAMS >> 8, STREAMS & 255};
        c->pending += write_frame(c->output + c->pending, SETTINGS, 0, 0, streams, 6);
    }
    struct frame f;
    while (whole_frame(c->input + at, c->filled - at, &f)) {
        if (took(fd, c, &f)) return -1;
        at += FRAME_HEAD + f.length;
    }
    memmove(c->input, c->input + at, c->filled - at);
    c->filled -= at;
    return flush(fd, c);
}

static int accept_all(int epoll, int fd) {
    for (int i = 0; i < listening; i++) {
        if (listeners[i] != fd) continue;
        int client;
        while ((client = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
            if (client >= MOST_FDS) { close(client); continue; }
            no_delay(client);
            connections[client] = calloc(1, sizeof(struct connection));
            connections[client]->window = 65535;
            watch(epoll, client, EPOLLIN);
        }
        return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 5) { fprintf(stderr, "usage: backend_h2 http|grpc NAME BODY_BYTES ADDRESS:PORT...\n"); return 2; }
    grpc = !strcmp(argv[1], "grpc");
    int size = atoi(argv[3]), epoll = epoll_create1(0);
    make_blocks(argv[2], size);
    body_length = (size_t)size + (grpc ? 5 : 0);
    body = malloc(body_length + 1);
    memset(body, 'x', body_length);
    if (grpc) { body[0] = 0; put32(body + 1, (uint32_t)size); }
    for (int i = 4; i < argc; i++) watch(epoll, listeners[listening++] = listening_at(argv[i]), EPOLLIN);
    struct epoll_event events[256];
    for (;;) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (accept_all(epoll, fd)) continue;
            if (readable(fd, connections[fd])) { close(fd); free(connections[fd]); connections[fd] = NULL; }
        }
    }
}
