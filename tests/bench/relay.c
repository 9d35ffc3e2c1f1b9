/* A relay between agentd and a model server that looks at its clock: from the last byte of a response that went to agentd to the
 * first byte of the next request that came. It understands no HTTP; one task at a time is to speak through it.
 *
 *     bench-relay PORT          prints its own port, relays to PORT, prints the gaps (ns, one a line) when its stdin ends */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAIRS_MAX 64
#define GAPS_MAX 100000

struct pair {
    int near, far; /* -1: free */
};

struct relay {
    struct sockaddr_in upstream;
    struct pair pairs[PAIRS_MAX];
    int64_t answered_ns; /* when the last byte so far went to agentd; 0: a request is under way */
    int64_t gaps[GAPS_MAX];
    size_t gaps_n;
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int tcp_new(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        fail("socket");
    return fd;
}

static int listen_new(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;
    int fd = tcp_new();
    if (bind(fd, (struct sockaddr *)&address, n) < 0 || listen(fd, 16) < 0 || getsockname(fd, (struct sockaddr *)&address, &n) < 0)
        fail("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void accept_pair(struct relay *r, int listener)
{
    int near = accept(listener, NULL, NULL), on = 1;
    if (near < 0)
        fail("accept");
    setsockopt(near, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int far = tcp_new();
    if (connect(far, (struct sockaddr *)&r->upstream, sizeof r->upstream) < 0)
        fail("connect");
    for (size_t i = 0; i < PAIRS_MAX; i++) {
        if (r->pairs[i].near < 0) {
            r->pairs[i] = (struct pair){near, far};
            return;
        }
    }
    fprintf(stderr, "too many connections\n");
    exit(1);
}

/* False at the end. */
static bool forward(int from, int to)
{
    char data[65536];
    ssize_t n = read(from, data, sizeof data);
    for (ssize_t done = 0; done < n;) {
        ssize_t k = send(to, data + done, (size_t)(n - done), MSG_NOSIGNAL);
        if (k < 0)
            return false;
        done += k;
    }
    return n > 0;
}

static void pair_close(struct pair *p)
{
    close(p->near);
    close(p->far);
    *p = (struct pair){-1, -1};
}

static void from_near(struct relay *r, struct pair *p)
{
    char byte;
    if (recv(p->near, &byte, 1, MSG_PEEK) == 1 && r->answered_ns) {
        if (r->gaps_n < GAPS_MAX)
            r->gaps[r->gaps_n++] = now_ns() - r->answered_ns;
        r->answered_ns = 0;
    }
    if (!forward(p->near, p->far))
        pair_close(p);
}

static void from_far(struct relay *r, struct pair *p)
{
    if (!forward(p->far, p->near))
        pair_close(p);
    else
        r->answered_ns = now_ns();
}

static bool turn(struct relay *r, int listener)
{
    struct pollfd fds[2 + 2 * PAIRS_MAX] = {{.fd = 0, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
    for (size_t i = 0; i < PAIRS_MAX; i++) {
        fds[2 + 2 * i] = (struct pollfd){.fd = r->pairs[i].near, .events = POLLIN};
        fds[3 + 2 * i] = (struct pollfd){.fd = r->pairs[i].far, .events = POLLIN};
    }
    if (poll(fds, 2 + 2 * PAIRS_MAX, -1) < 0)
        fail("poll");
    for (size_t i = 0; i < PAIRS_MAX; i++) {
        if (fds[3 + 2 * i].revents)
            from_far(r, &r->pairs[i]);
        else if (fds[2 + 2 * i].revents)
            from_near(r, &r->pairs[i]);
    }
    if (fds[1].revents)
        accept_pair(r, listener);
    return fds[0].revents == 0;
}

int main(int argc, char **argv)
{
    static struct relay r;
    if (argc != 2)
        return 2;
    r.upstream = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                      .sin_port = htons((uint16_t)atoi(argv[1]))};
    for (size_t i = 0; i < PAIRS_MAX; i++)
        r.pairs[i] = (struct pair){-1, -1};
    int listener = listen_new();
    while (turn(&r, listener)) {
    }
    for (size_t i = 0; i < r.gaps_n; i++)
        printf("%lld\n", (long long)r.gaps[i]);
    return 0;
}
