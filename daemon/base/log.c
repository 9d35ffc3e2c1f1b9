#include "log.h"

#include "buf.h"
#include "clock.h"
#include "mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static enum log_level log_level_min = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    log_level_min = level;
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
    ssize_t ignored = write(STDERR_FILENO, line.p, line.n);
    (void)ignored;
}
