#include "link.h"

#include "client/link_state.h"

#include "daemon/base/mem.h"
#include "daemon/base/places.h"
#include "daemon/base/ulid.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

int64_t link_now_ms(void)
{
    return wire_now_ms();
}

void link_make_key(char ret[LINK_KEY_SIZE])
{
    uint8_t random[ULID_RANDOM_SIZE];
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        abort();
    ulid_format((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000, random, ret);
}

/* ---- making and closing ---- */

int link_new(const struct link_options *options, struct link **ret)
{
    struct link *l = MEM_NEW(struct link);
    CLEANUP(buf_free) struct buf error = {0};
    json_set_alloc_funcs(mem_malloc_raw, mem_free);
    l->options = *options;
    l->wire.fd = -1;
    list_init(&l->queue);
    *ret = l;
    if (places_state_dir(options->state_dir, &l->state_dir, &error) < 0 ||
        places_socket(options->socket, options->state_dir, &l->socket, &error) < 0)
        return link_fail(l, LINK_E_BROKEN, "%s", buf_cstr(&error));
    /* Where it is when nobody named it is the daemon's own affair. */
    if (places_config(options->config, &l->config, &l->config_named, &error) < 0 && l->config_named)
        return link_fail(l, LINK_E_BROKEN, "%s", buf_cstr(&error));
    return LINK_OK;
}

void link_close(struct link *l)
{
    wire_close(&l->wire);
    link_drop_queue(l);
}

void link_free(struct link *l)
{
    if (!l)
        return;
    link_close(l);
    for (int i = 0; i < l->subscriptions_n; i++)
        mem_free(l->subscriptions[i].task);
    buf_free(&l->state_dir);
    buf_free(&l->socket);
    buf_free(&l->config);
    buf_free(&l->version);
    buf_free(&l->start);
    buf_free(&l->error);
    buf_free(&l->hint);
    buf_free(&l->read_only);
    mem_free(l);
}

const char *link_state_dir(const struct link *l)
{
    return buf_cstr(&l->state_dir);
}

const char *link_socket(const struct link *l)
{
    return buf_cstr(&l->socket);
}

const char *link_config(const struct link *l)
{
    return l->config_named ? buf_cstr(&l->config) : NULL;
}

/* ---- calls ---- */

/* Views may be sent again, and changes that carry a key. */
static bool may_repeat(const struct method_descriptor *m, const void *params)
{
    if (!m->changes)
        return true;
    for (size_t i = 0; i < m->params->n; i++) {
        const struct proto_field *f = &m->params->fields[i];
        if (strcmp(f->name, "key") == 0)
            return ((const struct str *)(const void *)((const char *)params + f->offset))->p != NULL;
    }
    return false;
}

int link_call(struct link *l, enum method method, const void *params, struct link_reply *ret)
{
    int rc = link_open(l);
    while (rc == LINK_OK) {
        rc = link_exchange(l, method, params, -1, ret);
        bool stopping = rc == LINK_E_REMOTE && l->error_code == RPC_STOPPING;
        if (rc == LINK_E_BROKEN)
            link_close(l);
        if (rc != LINK_E_LOST && !stopping)
            return rc;
        if (!may_repeat(&method_descriptors[method], params)) {
            link_close(l);
            return rc;
        }
        rc = link_reconnect(l, -1);
    }
    return rc;
}

int link_subscribe(struct link *l, const char *task, int64_t after_seq, bool deltas, int *ret)
{
    assert(l->subscriptions_n < LINK_SUBSCRIPTIONS_MAX);
    struct link_subscription s = {.task = mem_strdup(task), .deltas = deltas, .after_seq = after_seq, .after_pos = -1};
    struct link_reply reply = {0};
    int rc = link_open(l);
    while (rc == LINK_OK) {
        rc = link_subscribe_once(l, &s, &reply);
        if (rc != LINK_E_LOST)
            break;
        rc = link_reconnect(l, -1);
    }
    if (rc != LINK_OK) {
        mem_free(s.task);
        return rc;
    }
    const char *id = json_string_value(json_object_get(reply.json, "task"));
    if (s.task && id) {
        mem_free(s.task);
        s.task = mem_strdup(id);
    }
    link_reply_free(&reply);
    *ret = l->subscriptions_n;
    l->subscriptions[l->subscriptions_n++] = s;
    link_tell_read_only(l);
    return LINK_OK;
}
