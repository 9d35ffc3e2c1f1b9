/* What this machine needs for the parts of which a step is made, measured in the same run as the rest: the floor.
 *
 *     bench-floor FOLDER N      prints name and median, ns: spawn (/bin/true), shell (/bin/sh -c true), fdatasync (4 KiB appended
 *                               to a file in FOLDER), http (a round trip on loopback); and shell_cpu, its CPU time */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const char request[] = "POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
static const char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

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

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print_median(const char *name, int64_t *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, compare);
    printf("%s %lld\n", name, (long long)values[n / 2]);
}

/* Returns the CPU time that the child took. */
static int64_t spawn_once(char *const argv[])
{
    pid_t pid;
    int status;
    struct rusage usage;
    if (posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) != 0 || wait4(pid, &status, 0, &usage) != pid || status != 0)
        fail("spawn");
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * INT64_C(1000000000) +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * INT64_C(1000);
}

static void measure_spawn(const char *name, const char *cpu_name, char *const argv[], int64_t *values, int64_t *cpu, int n)
{
    for (int i = 0; i < n; i++) {
        int64_t began = now_ns();
        cpu[i] = spawn_once(argv);
        values[i] = now_ns() - began;
    }
    print_median(name, values, n);
    if (cpu_name)
        print_median(cpu_name, cpu, n);
}

static void measure_fdatasync(const char *folder, int64_t *values, int n)
{
    char path[4096], page[4096];
    memset(page, 'x', sizeof page);
    snprintf(path, sizeof path, "%s/floor", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        fail(path);
    for (int i = 0; i < n; i++) {
        if (write(fd, page, sizeof page) != (ssize_t)sizeof page)
            fail("write");
        int64_t began = now_ns();
        if (fdatasync(fd) < 0)
            fail("fdatasync");
        values[i] = now_ns() - began;
    }
    close(fd);
    unlink(path);
    print_median("fdatasync", values, n);
}

static void read_all(int fd, size_t n)
{
    char data[512];
    for (size_t got = 0; got < n;) {
        ssize_t k = read(fd, data, n - got);
        if (k <= 0)
            _exit(0);
        got += (size_t)k;
    }
}

static void measure_http(int64_t *values, int n)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        fail("listen");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int server = accept(listener, NULL, NULL);
        setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        close(fd);
        for (;;) {
            read_all(server, sizeof request - 1);
            if (write(server, response, sizeof response - 1) < 0)
                _exit(1);
        }
    }
    if (connect(fd, (struct sockaddr *)&address, size) < 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    for (int i = 0; i < n; i++) {
        int64_t began = now_ns();
        if (write(fd, request, sizeof request - 1) < 0)
            fail("write");
        read_all(fd, sizeof response - 1);
        values[i] = now_ns() - began;
    }
    close(fd);
    waitpid(child, NULL, 0);
    print_median("http", values, n);
}

int main(int argc, char **argv)
{
    int n = argc == 3 ? atoi(argv[2]) : 0;
    if (n < 1 || n > 100000)
        return 2;
    int64_t *values = calloc((size_t)n, sizeof *values), *cpu = calloc((size_t)n, sizeof *cpu);
    if (!values || !cpu)
        return 1;
    measure_spawn("spawn", NULL, (char *[]){(char *)"/bin/true", NULL}, values, cpu, n);
    /* The shell that agentd-runner takes. */
    char *shell = access("/bin/bash", X_OK) == 0 ? (char *)"/bin/bash" : (char *)"/bin/sh";
    measure_spawn("shell", "shell_cpu", (char *[]){shell, (char *)"-c", (char *)"true", NULL}, values, cpu, n);
    measure_fdatasync(argv[1], values, n);
    measure_http(values, n);
    free(values);
    free(cpu);
    return 0;
}
