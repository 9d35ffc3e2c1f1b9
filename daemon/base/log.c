#include "log.h"

#include "buf.h"
#include "clock.h"
#include "mem.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static enum log_level log_level_min = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    log_level_min = level;
}

/* A full disk takes no line, or half of one; how many it did not take is said when there is space again. */
static void put_line(struct buf *line, const char *at)
{
    static atomic_long lost;
    long n = atomic_exchange(&lost, 0);
    CLEANUP(buf_free) struct buf all = {0};
    if (n > 0)
        buf_printf(&all, "\n%s WARN %ld line(s) of this log found no space\n", at, n);
    buf_str(&all, buf_view(line));
    if (write(STDERR_FILENO, all.p, all.n) != (ssize_t)all.n)
        atomic_fetch_add(&lost, n + 1);
}

void log_write(enum log_level level, const char *format, ...)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    if (level < log_level_min)
        return;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    char at[CLOCK_TEXT_SIZE];
    clock_format((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000, at);

    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);

    CLEANUP(buf_free) struct buf line = {0};
    buf_printf(&line, "%s %s ", at, names[level]);
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            buf_printf(&line, "\\x%02x", (unsigned)(unsigned char)*c);
        else
            buf_putc(&line, *c);
    }
    buf_putc(&line, '\n');
    put_line(&line, at);
}
