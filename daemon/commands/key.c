#include "key.h"

#include "daemon/base/mem.h"

#include <sodium.h>

/* Method and params identify a change; params_json is canonical. */
static void put_digest(const struct command *c, struct buf *b)
{
    unsigned char digest[crypto_generichash_BYTES];
    crypto_generichash_state state;
    const char *method = method_descriptors[c->method].name;
    crypto_generichash_init(&state, NULL, 0, sizeof digest);
    crypto_generichash_update(&state, (const unsigned char *)method, strlen(method) + 1);
    crypto_generichash_update(&state, (const unsigned char *)c->params_json.p, c->params_json.n);
    crypto_generichash_final(&state, digest, sizeof digest);
    buf_put(b, digest, sizeof digest);
}

/* True: the key is new. */
static bool check_key(struct change *change)
{
    const struct command *c = change->command;
    CLEANUP(buf_free) struct buf digest = {0}, result = {0}, key = {0};
    put_digest(c, &change->digest);
    buf_str(&key, change->key);
    int rc = world_key_find(c->d, buf_cstr(&key), &digest, &result);
    if (rc == STORE_E_NONE)
        return true;
    if (rc != 0)
        rpc_fail_unreadable(c->call);
    else if (!str_eq(buf_view(&digest), buf_view(&change->digest)))
        rpc_fail(c->call, RPC_KEY_CONFLICT, STR_NONE);
    else
        command_reply_after(c, buf_view(&result));
    return false;
}

static bool begin(struct change *change, const struct command *c, struct str key, bool full)
{
    *change = (struct change){.command = c, .key = key};
    if (c->d->stopping) {
        rpc_fail(c->call, RPC_STOPPING, STR_NONE);
        return false;
    }
    if (key.p && !check_key(change)) {
        buf_free(&change->digest);
        return false;
    }
    if (c->d->read_only) {
        CLEANUP(buf_free) struct buf detail = {0};
        buf_printf(&detail, "agentd is read-only: %s", c->d->read_only->reason);
        change_fail(change, RPC_READ_ONLY, buf_view(&detail));
        return false;
    }
    if (!full)
        return true;
    change_fail(change, RPC_DISK_FULL, STR_NONE);
    return false;
}

bool change_begin(struct change *change, const struct command *c, struct str key)
{
    return begin(change, c, key, daemon_disk_full(c->d));
}

bool change_begin_stop(struct change *change, const struct command *c, struct str key)
{
    return begin(change, c, key, c->d->disk_full && store_disk_used_up(c->d->store));
}

void change_fail(struct change *change, enum rpc_error error, struct str detail)
{
    rpc_fail(change->command->call, error, detail);
    buf_free(&change->digest);
}

void change_fail_no_task(struct change *change, enum rpc_error error, struct str ref)
{
    rpc_fail_no_task(change->command->call, error, ref);
    buf_free(&change->digest);
}

void change_end(struct change *change, const char *task, const void *result)
{
    const struct command *c = change->command;
    CLEANUP(buf_free) struct buf json = {0}, key = {0};
    proto_encode(&json, method_descriptors[c->method].result, result);
    if (change->key.p) {
        buf_str(&key, change->key);
        world_key_put(c->d, buf_cstr(&key), task, buf_view(&change->digest), buf_view(&json));
    }
    buf_free(&change->digest);
    command_reply_after(c, buf_view(&json));
}
