/* New TLS connections through a proxy, each with a handshake, one HTTP/1.1 request and its answer, then closed by this side.
 *
 *   handshakes ADDRESS PORT NAME PATH CONNECTIONS SECONDS full|resumed
 *
 * full: no session is kept. resumed: each of the CONNECTIONS slots offers the session that it was given last; `resumed` in what is
 * printed counts those that the other side took up. The certificate is not verified: the other side's work is what is measured.
 * Needs libssl; one thread. Prints one JSON object: done, failed, resumed, rate, p50_us, p99_us (of connect until the handshake's end). */
#include "wire.h"
#include <openssl/ssl.h>

enum { MOST = 1024, REMEMBERED = 1000000 };
struct slot { int fd, established; SSL *ssl; SSL_SESSION *session; long began; };
static struct slot slots[MOST];
static struct sockaddr_in address;
static SSL_CTX *context;
static int epoll, keep, name_index;
static const char *name;

static int given(SSL *ssl, SSL_SESSION *session) {
    struct slot *s = SSL_get_ex_data(ssl, name_index);
    if (!keep) return 0;
    if (s->session) SSL_SESSION_free(s->session);
    s->session = session;
    return 1;
}

static void begin(int index) {
    struct slot *s = &slots[index];
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    s->established = 0;
    s->began = now_ns();
    no_delay(s->fd);
    if (connect(s->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    s->ssl = SSL_new(context);
    SSL_set_ex_data(s->ssl, name_index, s);
    SSL_set_tlsext_host_name(s->ssl, name);
    SSL_set_fd(s->ssl, s->fd);
    SSL_set_connect_state(s->ssl);
    if (keep && s->session) SSL_set_session(s->ssl, s->session);
    struct epoll_event event = {.events = EPOLLOUT, .data.u32 = (unsigned)index};
    epoll_ctl(epoll, EPOLL_CTL_ADD, s->fd, &event);
}

static void expect(struct slot *s, int index, uint32_t wanted) {
    struct epoll_event event = {.events = wanted, .data.u32 = (unsigned)index};
    epoll_ctl(epoll, EPOLL_CTL_MOD, s->fd, &event);
}

int main(int argc, char **argv) {
    if (argc != 8) { fprintf(stderr, "usage: handshakes ADDRESS PORT NAME PATH CONNECTIONS SECONDS full|resumed\n"); return 2; }
    address = address_of(argv[1], atoi(argv[2]));
    name = argv[3];
    int count = atoi(argv[5]);
    double seconds = atof(argv[6]);
    keep = !strcmp(argv[7], "resumed");
    if (count > MOST) return 2;
    char request[1024], buffer[65536];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nhost: %s\r\n\r\n", argv[4], name);
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_alpn_protos(context, (const unsigned char *)"\x08http/1.1", 9);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, given);
    name_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    epoll = epoll_create1(0);
    for (int i = 0; i < count; i++) begin(i);
    long started = now_ns(), done = 0, failed = 0, resumed = 0, known = 0, *latency = malloc(sizeof(long) * REMEMBERED);
    struct epoll_event events[128];
    while (now_ns() - started < (long)(seconds * 1e9)) {
        int ready = epoll_wait(epoll, events, 128, 100);
        for (int i = 0; i < ready; i++) {
            int index = (int)events[i].data.u32, over = 0;
            struct slot *s = &slots[index];
            if (!s->established) {
                int n = SSL_do_handshake(s->ssl);
                if (n != 1) {
                    int why = SSL_get_error(s->ssl, n);
                    if (why == SSL_ERROR_WANT_READ) expect(s, index, EPOLLIN);
                    else if (why == SSL_ERROR_WANT_WRITE) expect(s, index, EPOLLOUT);
                    else { over = 1; failed++; }
                } else {
                    if (known < REMEMBERED) latency[known++] = now_ns() - s->began;
                    s->established = 1;
                    resumed += SSL_session_reused(s->ssl);
                    expect(s, index, EPOLLIN);
                    if (SSL_write(s->ssl, request, length) != length) { over = 1; failed++; }
                }
            } else {
                int n = SSL_read(s->ssl, buffer, sizeof buffer); /* the answers here are small: one read has it all */
                if (n > 0) { if (strncmp(buffer + 9, "200", 3)) failed++; else done++; over = 1; }
                else if (SSL_get_error(s->ssl, n) != SSL_ERROR_WANT_READ) { over = 1; failed++; }
            }
            if (!over) continue;
            SSL_shutdown(s->ssl);
            SSL_free(s->ssl);
            close(s->fd);
            begin(index);
        }
    }
    double took_s = (double)(now_ns() - started) / 1e9;
    qsort(latency, (size_t)known, sizeof(long), ascending);
    #define P(q) (known ? latency[(long)((known - 1) * (q))] / 1000.0 : 0)
    printf("{\"done\": %ld, \"failed\": %ld, \"resumed\": %ld, \"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n",
           done, failed, resumed, (double)done / took_s, P(.5), P(.99));
    return 0;
}
