/* What a run wrote, made fit for the model: valid UTF-8, progress bars in their last state, head and tail with a counted gap. Memory
 * is bounded by what is asked for and SCAN_BYTES_MAX, however much there is. */
#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/runner/record.h"
#include "daemon/tools/clean.h"
#include "daemon/tools/image.h"
#include "daemon/tools/link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCAN_BYTES_MAX (1024 * 1024)
#define SCAN_FACTOR 8 /* how much more than asked for is looked at, for the sake of progress bars */
#define LINE_BYTES_MAX 2048 /* how far a cut is moved to fall on a line's end */
#define GAP_BYTES 64        /* room for the line that counts */
#define BUDGET_MIN 256

struct source {
    int fd;
    int64_t from, size; /* [from, size) is there */
    bool whole;         /* no more will come: an incomplete character stays one */
};

static size_t read_at(int fd, int64_t from, char *to, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got = pread(fd, to + done, n - done, from + (int64_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        done += (size_t)got;
    }
    return done;
}

static size_t read_buf(const struct source *s, int64_t from, size_t n, struct buf *b)
{
    size_t got = s->fd < 0 ? 0 : read_at(s->fd, from, buf_reserve(b, n), n);
    b->n += got;
    if (b->p)
        b->p[b->n] = 0;
    return got;
}

static int64_t scan_max(size_t budget)
{
    return budget < SCAN_BYTES_MAX / SCAN_FACTOR ? (int64_t)budget * SCAN_FACTOR : SCAN_BYTES_MAX;
}

/* Everything as one piece, if it fits. */
static bool collect_whole(const struct source *s, size_t budget, struct buf *text, int64_t *ret_end)
{
    CLEANUP(buf_free) struct buf raw = {0};
    if (s->size - s->from > scan_max(budget))
        return false;
    size_t n = read_buf(s, s->from, (size_t)(s->size - s->from), &raw);
    size_t before = text->n;
    size_t used = clean_put(text, buf_view(&raw), !s->whole);
    if (text->n - before > budget) {
        text->n = before;
        return false;
    }
    *ret_end = s->from + (int64_t)(s->whole ? n : used);
    return true;
}

/* The largest piece from the front whose clean form fits, found by halving; ends with a line where one is near. */
static int64_t collect_head(const struct source *s, size_t budget, struct buf *text)
{
    CLEANUP(buf_free) struct buf raw = {0};
    int64_t span = s->size - s->from, scan = scan_max(budget);
    read_buf(s, s->from, (size_t)(span < scan ? span : scan), &raw);
    size_t before = text->n, least = 0, most = raw.n;
    while (least < most) {
        size_t n = most - (most - least) / 2;
        text->n = before;
        clean_put(text, str_n(raw.p, n), false);
        if (text->n - before <= budget)
            least = n;
        else
            most = n - 1;
    }
    size_t n = least;
    const char *line = n && n < raw.n ? memrchr(raw.p, '\n', n) : NULL;
    if (line && n - (size_t)(line - raw.p) <= LINE_BYTES_MAX)
        n = (size_t)(line - raw.p) + 1;
    text->n = before;
    return s->from + (int64_t)clean_put(text, str_n(raw.p, n), true);
}

/* Where a line begins at or behind `at`, if near; else where a character does. */
static size_t tail_start(struct str raw, size_t at)
{
    if (at == 0)
        return 0;
    size_t near = raw.n - at < LINE_BYTES_MAX ? raw.n - at : LINE_BYTES_MAX;
    const char *line = memchr(raw.p + at, '\n', near);
    if (line && (size_t)(line - raw.p) + 1 < raw.n)
        return (size_t)(line - raw.p) + 1;
    for (int i = 0; i < 3 && at < raw.n && ((unsigned char)raw.p[at] & 0xC0) == 0x80; i++)
        at++;
    return at;
}

/* The largest piece at the end whose clean form fits. Returns where it begins; not before `after`. */
static int64_t collect_tail(const struct source *s, int64_t after, size_t budget, struct buf *text, int64_t *ret_end)
{
    CLEANUP(buf_free) struct buf raw = {0};
    int64_t scan = scan_max(budget), begin = s->size - after > scan ? s->size - scan : after;
    read_buf(s, begin, (size_t)(s->size - begin), &raw);
    struct str all = buf_view(&raw);
    size_t before = text->n, least = 0, most = all.n, used = 0;
    while (least < most) { /* `at` fits for most, not below least */
        size_t at = least + (most - least) / 2;
        text->n = before;
        clean_put(text, str_n(all.p + at, all.n - at), !s->whole);
        if (text->n - before <= budget)
            most = at;
        else
            least = at + 1;
    }
    size_t at = tail_start(all, most);
    text->n = before;
    used = clean_put(text, str_n(all.p + at, all.n - at), !s->whole);
    *ret_end = begin + (int64_t)(at + (s->whole ? all.n - at : used));
    return begin + (int64_t)at;
}

static void put_counted(struct buf *b, int64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%lld", (long long)n);
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            buf_putc(b, ',');
        buf_putc(b, digits[i]);
    }
}

static void end_line(struct buf *b)
{
    if (b->n && b->p[b->n - 1] != '\n')
        buf_putc(b, '\n');
}

static int64_t collect_text(const struct source *s, size_t budget, struct buf *text)
{
    int64_t end = s->from;
    if (s->size <= s->from || collect_whole(s, budget, text, &end))
        return end;
    CLEANUP(buf_free) struct buf tail = {0};
    size_t half = (budget - GAP_BYTES) / 2;
    int64_t head_end = collect_head(s, half, text);
    int64_t tail_from = collect_tail(s, head_end, half, &tail, &end);
    if (tail_from > head_end) {
        end_line(text);
        buf_puts(text, "[... ");
        put_counted(text, tail_from - head_end);
        buf_puts(text, " bytes left out ...]\n");
    }
    buf_str(text, buf_view(&tail));
    return end;
}

static int64_t total_of(struct runs *r, const struct link *l, int dirfd, int64_t size, bool *ret_ended)
{
    struct run_exit ended = {0};
    int64_t total = l ? l->total : 0;
    *ret_ended = runs_read_exit(r, dirfd, &ended) == 0;
    if (faccessat(dirfd, RUN_FILE_PATCH, F_OK, 0) == 0)
        return size; /* a patch that was settled later has another output than was counted */
    if (ended.output_bytes > total)
        total = ended.output_bytes;
    return total > size ? total : size;
}

static bool collect_image(const struct source *s, int64_t bytes_max, struct buf *scratch, struct run_output *ret)
{
    if (s->size <= 0 || s->size > bytes_max)
        return false;
    size_t n = read_buf(s, 0, (size_t)s->size, scratch);
    const char *type = image_type(buf_view(scratch));
    if (!type) {
        buf_clear(scratch);
        return false;
    }
    size_t at = scratch->n;
    buf_printf(scratch, "%s, ", type);
    put_counted(scratch, (int64_t)n);
    buf_puts(scratch, " bytes");
    ret->image_data = str_n(scratch->p, n);
    ret->text = str_n(scratch->p + at, scratch->n - at);
    ret->image = (struct proto_image){.media_type = str_of(type), .bytes = (int64_t)n};
    ret->has_image = true;
    ret->end = ret->covered = s->size;
    return true;
}

void runs_collect(struct runs *r, const char *task, const char *run, int64_t from, int64_t bytes_max, bool image,
                  struct buf *scratch, struct run_output *ret)
{
    *ret = (struct run_output){.text = STR(""), .end = from};
    buf_clear(scratch);
    int dirfd = runs_open_dir(r, task, run);
    if (dirfd < 0)
        return;
    struct stat st;
    struct source s = {.fd = openat(dirfd, RUN_FILE_OUT, O_RDONLY | O_CLOEXEC), .from = from};
    s.size = s.fd >= 0 && fstat(s.fd, &st) == 0 ? st.st_size : 0;
    int64_t total = total_of(r, link_find(r, task, run), dirfd, s.size, &s.whole);
    if (!image || !collect_image(&s, r->limits->image_bytes_max, scratch, ret)) {
        ret->end = collect_text(&s, (size_t)(bytes_max < BUDGET_MIN ? BUDGET_MIN : bytes_max), scratch);
        if (total > s.size && from < total) {
            end_line(scratch);
            buf_puts(scratch, "[... ");
            put_counted(scratch, total - (s.size > from ? s.size : from));
            buf_puts(scratch, " bytes more were written and not kept ...]\n");
            ret->end = total;
        }
        ret->covered = ret->end - from;
        ret->text = buf_view(scratch);
    }
    if (s.fd >= 0)
        close(s.fd);
    close(dirfd);
}

size_t runs_read(struct runs *r, const char *task, const char *run, int64_t from, char *to, size_t n)
{
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/%s/%s/%s", r->dir, task, run, RUN_FILE_OUT);
    int fd = open(path.p, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    size_t got = read_at(fd, from, to, n);
    close(fd);
    return got;
}
