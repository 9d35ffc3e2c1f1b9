#include "delta.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <inttypes.h>
#include <stdio.h>

#define PIECE_BYTES 16384      /* of text in one notification */
#define BEHIND_BYTES_MAX 65536 /* a run's output further back than this is skipped */
#define CHARACTER_BYTES_MAX 4

static void put(struct subscription *s, const struct proto_delta *delta)
{
    subscription_open(s, "delta");
    proto_encode_members(&s->conn->out, &proto_delta_type, delta);
    subscription_close(s);
}

static bool send_item(struct subscription *s, struct live_task *t, struct live_item *item)
{
    int64_t *offset = live_offset(&item->offsets, s->reader);
    char id[32];
    snprintf(id, sizeof id, "i%" PRId64, item->item);
    while ((size_t)*offset < item->text.n) {
        if (!conn_has_room(s->conn))
            return false;
        struct str rest = str_n(item->text.p + *offset, item->text.n - (size_t)*offset);
        size_t n = utf8_floor(rest, PIECE_BYTES);
        struct proto_delta delta = {
            .task = str_of(t->id),
            .step = item->step,
            .has_step = true,
            .attempt = item->attempt,
            .has_attempt = true,
            .item = str_of(id),
            .kind = item->kind,
            .offset = *offset,
            .text = str_n(rest.p, n),
        };
        put(s, &delta);
        *offset += (int64_t)n;
    }
    return true;
}

/* A jump must not land inside a character: the rest of it would look broken. */
static size_t continuation_bytes(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n && i < CHARACTER_BYTES_MAX - 1 && ((unsigned char)p[i] & 0xc0) == 0x80)
        i++;
    return i;
}

/* One piece from the offset on. 0: nothing more for now. */
static size_t send_run_piece(struct subscription *s, const char *task, const char *run, int64_t *offset,
                             bool jumped, bool more)
{
    char raw[PIECE_BYTES];
    size_t n = runs_read(s->conn->rpc->d->runs, task, run, *offset, raw, sizeof raw);
    size_t skip = jumped ? continuation_bytes(raw, n) : 0;
    CLEANUP(buf_free) struct buf text = {0};
    size_t used = utf8_put_valid(&text, str_n(raw + skip, n - skip), more || n == sizeof raw);
    *offset += (int64_t)skip;
    if (used == 0)
        return 0;
    struct proto_delta delta = {
        .task = str_of(task),
        .run = str_of(run),
        .kind = DELTA_KIND_RUN_OUTPUT,
        .offset = *offset,
        .bytes = (int64_t)used,
        .has_bytes = true,
        .text = buf_view(&text),
    };
    put(s, &delta);
    *offset += (int64_t)used;
    return used;
}

static bool send_run(struct subscription *s, struct live_task *t, struct live_run *run, bool more)
{
    int64_t *offset = live_offset(&run->offsets, s->reader);
    char id[32];
    snprintf(id, sizeof id, "r%" PRId64, run->run);
    while (*offset < run->total) {
        if (!conn_has_room(s->conn))
            return false;
        bool jump = run->total - *offset > BEHIND_BYTES_MAX;
        if (jump)
            *offset = run->total - PIECE_BYTES;
        if (send_run_piece(s, t->id, id, offset, jump, more) == 0)
            break; /* a cut character, or what is not kept any more */
    }
    return true;
}

bool delta_send_task(struct subscription *s, struct live_task *t)
{
    struct live_item *item;
    LIST_EACH(item, &t->items, struct live_item, node)
    {
        if (!send_item(s, t, item))
            return false;
    }
    struct live_run *run;
    LIST_EACH(run, &t->runs, struct live_run, node)
    {
        if (!send_run(s, t, run, true))
            return false;
    }
    return true;
}

bool delta_send_all(struct subscription *s)
{
    struct live *live = &s->conn->rpc->live;
    if (s->task[0]) {
        struct live_task *t = live_find(live, s->task);
        return !t || delta_send_task(s, t);
    }
    for (size_t i = 0; i < LIVE_BUCKETS; i++) {
        struct live_task *t;
        LIST_EACH(t, &live->buckets[i], struct live_task, node)
        {
            if (!delta_send_task(s, t))
                return false;
        }
    }
    return true;
}

void delta_send_run_end(struct subscription *s, struct live_task *t, struct live_run *run)
{
    send_run(s, t, run, false);
}
