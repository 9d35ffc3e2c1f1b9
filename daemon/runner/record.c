#include "daemon/runner/record.h"

#include "daemon/base/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static uint32_t crc32_of(struct str s)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < s.n; i++) {
        crc ^= (unsigned char)s.p[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

/* Integers of each file as a table: name and place, so that reading and writing cannot differ. */
struct int_field {
    const char *name;
    size_t offset;
};

static void ints_put(struct buf *b, const struct int_field *f, size_t n, const void *p)
{
    for (size_t i = 0; i < n; i++) {
        int64_t v;
        memcpy(&v, (const char *)p + f[i].offset, sizeof v);
        pack_i64(b, f[i].name, v);
    }
}

static void ints_get(const struct pack_field *field, const struct int_field *f, size_t n, void *p)
{
    for (size_t i = 0; i < n && field->type == PACK_I64; i++)
        if (pack_is(field, f[i].name))
            memcpy((char *)p + f[i].offset, &field->i64, sizeof field->i64);
}

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define SPEC(name) {#name, offsetof(struct run_spec, name)}

static const struct int_field spec_ints[] = {
    SPEC(program),         SPEC(columns),         SPEC(rows),          SPEC(output_bytes_max), SPEC(input_bytes_max),
    SPEC(patch_bytes_max), SPEC(image_bytes_max), SPEC(kill_grace_ms), SPEC(files_max),        SPEC(umask),
};

void run_spec_put(struct buf *b, const struct run_spec *s)
{
    ints_put(b, spec_ints, COUNT(spec_ints), s);
    pack_i64(b, "tty", s->tty);
    pack_str(b, "task", s->task);
    pack_str(b, "run", s->run);
    pack_str(b, "payload", s->payload);
    pack_str(b, "workdir", s->workdir);
    pack_str(b, "tool_path", s->tool_path);
    size_t mark = pack_open(b, "env");
    buf_str(b, s->env);
    pack_close(b, mark);
    pack_i64(b, "whole", 1); /* last: a file that was cut short is not taken for a spec */
}

static void spec_field(struct run_spec *s, const struct pack_field *f)
{
    ints_get(f, spec_ints, COUNT(spec_ints), s);
    if (pack_is(f, "tty"))
        s->tty = f->i64 != 0;
    else if (pack_is(f, "task"))
        s->task = f->bytes;
    else if (pack_is(f, "run"))
        s->run = f->bytes;
    else if (pack_is(f, "payload"))
        s->payload = f->bytes;
    else if (pack_is(f, "workdir"))
        s->workdir = f->bytes;
    else if (pack_is(f, "tool_path"))
        s->tool_path = f->bytes;
    else if (pack_is(f, "env"))
        s->env = f->bytes;
}

int run_spec_get(struct str bytes, struct run_spec *ret)
{
    struct run_spec s = {0};
    struct pack_field f;
    bool whole = false;
    int more;
    while ((more = pack_next(&bytes, &f)) == 1) {
        spec_field(&s, &f);
        whole = whole || pack_is(&f, "whole");
    }
    if (more < 0 || !whole)
        return -1;
    *ret = s;
    return 0;
}

void run_mark_put(struct buf *b, const struct run_mark *m)
{
    pack_i64(b, "pid", m->pid);
    pack_i64(b, "wall_ms", m->wall_ms);
    pack_str(b, "boot_id", m->boot_id);
}

int run_mark_get(struct str bytes, struct run_mark *ret)
{
    struct run_mark m = {0};
    struct pack_field f;
    int more;
    while ((more = pack_next(&bytes, &f)) == 1) {
        if (pack_is(&f, "pid"))
            m.pid = f.i64;
        else if (pack_is(&f, "wall_ms"))
            m.wall_ms = f.i64;
        else if (pack_is(&f, "boot_id"))
            m.boot_id = f.bytes;
    }
    *ret = m;
    return more;
}

#define RECORD(name) {#name, offsetof(struct run_record, name)}

static const struct int_field record_ints[] = {
    RECORD(end),         RECORD(code),    RECORD(signal),      RECORD(output_bytes),
    RECORD(output_kept), RECORD(wall_ms), RECORD(duration_ms), RECORD(cpu_us),
    RECORD(memory_bytes),
};

void run_record_put(struct buf *b, const struct run_record *r)
{
    size_t from = b->n;
    ints_put(b, record_ints, COUNT(record_ints), r);
    pack_i64(b, "killed", r->killed);
    pack_str(b, "boot_id", r->boot_id);
    pack_str(b, "detail", r->detail);
    uint32_t crc = crc32_of(str_n(b->p + from, b->n - from));
    buf_put(b, &crc, sizeof crc);
}

int run_record_get(struct str bytes, struct run_record *ret)
{
    uint32_t crc;
    if (bytes.n <= sizeof crc)
        return -1;
    bytes.n -= sizeof crc;
    memcpy(&crc, bytes.p + bytes.n, sizeof crc);
    if (crc != crc32_of(bytes))
        return -1;
    struct run_record r = {0};
    struct pack_field f;
    int more;
    while ((more = pack_next(&bytes, &f)) == 1) {
        ints_get(&f, record_ints, COUNT(record_ints), &r);
        if (pack_is(&f, "killed"))
            r.killed = f.i64 != 0;
        else if (pack_is(&f, "boot_id"))
            r.boot_id = f.bytes;
        else if (pack_is(&f, "detail"))
            r.detail = f.bytes;
    }
    if (more < 0)
        return -1;
    *ret = r;
    return 0;
}

int record_read(int fd, size_t max, struct buf *b)
{
    size_t step = 4096;
    struct stat st;
    if (fstat(fd, &st) == 0 && st.st_size > 0 && (size_t)st.st_size < max)
        step = (size_t)st.st_size + 1;
    ssize_t n;
    while ((n = read(fd, buf_reserve(b, step), step)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n > 0)
            b->n += (size_t)n;
        if (n < 0)
            return -1;
        if (b->n > max) {
            errno = EFBIG;
            return -1;
        }
    }
    if (b->p)
        b->p[b->n] = 0;
    return 0;
}

int record_read_file(int dirfd, const char *name, size_t max, struct buf *b)
{
    int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -1;
    int result = record_read(fd, max, b);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

int record_write_all(int fd, struct str bytes)
{
    while (bytes.n > 0) {
        ssize_t n = write(fd, bytes.p, bytes.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        bytes.p += n;
        bytes.n -= (size_t)n;
    }
    return 0;
}

static int64_t clock_ms(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t record_wall_ms(void)
{
    return clock_ms(CLOCK_REALTIME);
}

int64_t record_boot_ms(void)
{
    return clock_ms(CLOCK_BOOTTIME);
}

void record_boot_id(char ret[40])
{
    ret[0] = 0;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, ret, 39);
    close(fd);
    ret[n > 0 ? n : 0] = 0;
    ret[strcspn(ret, "\n")] = 0;
}
