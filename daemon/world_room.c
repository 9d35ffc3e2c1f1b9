/* Processes that find no room for their files on a full disk wait for it, as commits do: at once refused they would only be asked for
 * again, by a model that has nothing to do with the disk. */
#include "daemon/world.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"

#include <stdio.h>

static void again_cb(uv_timer_t *timer)
{
    world_room_again(timer->data);
}

void world_room_new(struct daemon *d)
{
    uv_timer_init(d->loop, &d->world->room);
    d->world->room.data = d;
}

static void closed_cb(uv_handle_t *handle)
{
    (void)handle;
}

void world_room_free(struct daemon *d)
{
    uv_close((uv_handle_t *)&d->world->room, closed_cb);
    mem_free(d->world->roomless);
}

void world_room_later(struct daemon *d, const char *task, const struct effect *effect)
{
    struct world_state *w = d->world;
    bool told = store_disk_low(d->store); /* once, not each time that it is tried again */
    log_write(told ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "the disk is full: a process of task %s waits for room to start", task);
    w->roomless = mem_realloc(w->roomless, (w->roomless_n + 1) * sizeof *w->roomless);
    struct world_effect *e = &w->roomless[w->roomless_n++];
    e->effect = *effect;
    snprintf(e->task, sizeof e->task, "%s", task);
    store_disk_is_full(d->store); /* what the reserve gives back may do, and everybody sees how it is */
    uv_timer_start(&w->room, again_cb, (uint64_t)d->config->limits.database_retry_ms, 0);
}

bool world_room_waits(const struct daemon *d, const char *task, int64_t run)
{
    const struct world_state *w = d->world;
    for (size_t i = 0; i < w->roomless_n; i++) {
        const struct world_effect *e = &w->roomless[i];
        if (e->effect.kind == EFFECT_RUN && e->effect.a == run && strcmp(e->task, task) == 0)
            return true;
    }
    return false;
}

void world_room_again(struct daemon *d)
{
    struct world_state *w = d->world;
    uv_timer_stop(&w->room);
    for (size_t i = 0; i < w->roomless_n; i++)
        world_effect_later(w, w->roomless[i].task, &w->roomless[i].effect);
    w->roomless_n = 0;
    world_turn(d);
}
