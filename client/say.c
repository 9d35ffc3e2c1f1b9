#include "say.h"

#include "client/text.h"

#include "daemon/base/mem.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FLUSH_BYTES 65536
#define COLUMNS 100

static struct {
    struct buf out;
    bool terminal, colour;
} say;

/* Allows, forbids (NO_COLOR, no-color.org; a dumb terminal). */
static bool want_colour(bool terminal)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return terminal && !(no && *no) && term && *term && strcmp(term, "dumb") != 0;
}

void say_init(void)
{
    signal(SIGPIPE, SIG_IGN);
    say.terminal = isatty(STDOUT_FILENO);
    say.colour = want_colour(say.terminal);
}

static void write_all(int fd, struct str s)
{
    while (s.n > 0) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            /* `agentctl log | head`: the reader has seen enough. Tasks do not depend on who watches. */
            if (errno == EPIPE)
                _exit(0);
            if (fd != STDERR_FILENO)
                dprintf(STDERR_FILENO, "agentctl: the output cannot be written: %s\n", strerror(errno));
            _exit(1);
        }
        s = str_n(s.p + n, s.n - (size_t)n);
    }
}

void say_flush(void)
{
    write_all(STDOUT_FILENO, buf_view(&say.out));
    buf_free(&say.out);
}

void say_data(struct str s)
{
    buf_str(&say.out, s);
    if (say.out.n > FLUSH_BYTES)
        say_flush();
}

void say_json(struct str json)
{
    CLEANUP(buf_free) struct buf b = {0};
    text_put_json(&b, json);
    buf_putc(&b, '\n');
    say_data(buf_view(&b));
}

/* stderr may be closed or full; that is no reason to end. */
static void put_talk(struct str s)
{
    CLEANUP(buf_free) struct buf b = {0};
    say_flush();
    text_put_safe(&b, s);
    buf_putc(&b, '\n');
    ssize_t ignored = write(STDERR_FILENO, b.p, b.n);
    (void)ignored;
}

void say_talk(const char *sentence)
{
    put_talk(str_of(sentence));
}

void say_talkf(const char *format, ...)
{
    CLEANUP(buf_free) struct buf b = {0};
    va_list args;
    va_start(args, format);
    buf_vprintf(&b, format, args);
    va_end(args);
    put_talk(buf_view(&b));
}

void say_error(const char *sentence, const char *hint)
{
    CLEANUP(buf_free) struct buf b = {0};
    buf_printf(&b, "agentctl: %s", sentence);
    if (hint && *hint)
        buf_printf(&b, "\n  %s", hint);
    put_talk(buf_view(&b));
}

void say_interrupted(void)
{
    if (say.terminal)
        say_data(STR("\n"));
}

bool say_is_terminal(void)
{
    return say.terminal;
}

size_t say_columns(void)
{
    struct winsize size;
    if (say.terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
        return size.ws_col;
    return COLUMNS;
}

const char *say_style(enum say_style style)
{
    if (!say.colour)
        return "";
    switch (style) {
    case SAY_PLAIN:
        return "\033[0m";
    case SAY_DIM:
        return "\033[2m";
    case SAY_BOLD:
        return "\033[1m";
    case SAY_GOOD:
        return "\033[32m";
    case SAY_BAD:
        return "\033[31m";
    case SAY_WARN:
        return "\033[33m";
    }
    return "";
}
