#include "config.h"

#include "parts.h"

#include "daemon/base/mem.h"
#include "daemon/base/places.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct config *config_new(void)
{
    struct config *c = MEM_NEW(struct config);
    c->policy = mem_strdup("open");
    c->limits = limits_default();
    return c;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->models_n; i++) {
        mem_free(c->models[i].name);
        mem_free(c->models[i].provider);
        mem_free(c->models[i].model);
    }
    for (size_t i = 0; i < c->providers_n; i++) {
        mem_free(c->providers[i].name);
        mem_free(c->providers[i].wire);
        mem_free(c->providers[i].base_url);
        mem_free(c->providers[i].key);
    }
    mem_free(c->models);
    mem_free(c->providers);
    mem_free(c->path);
    mem_free(c->model);
    mem_free(c->advice);
    mem_free(c->policy);
    mem_free(c);
}

struct config_model *config_add_model(struct config *c, const char *name)
{
    c->models = mem_realloc(c->models, (c->models_n + 1) * sizeof *c->models);
    struct config_model *m = &c->models[c->models_n++];
    *m = (struct config_model){.name = mem_strdup(name)};
    return m;
}

struct config_provider *config_add_provider(struct config *c, const char *name)
{
    c->providers = mem_realloc(c->providers, (c->providers_n + 1) * sizeof *c->providers);
    struct config_provider *p = &c->providers[c->providers_n++];
    *p = (struct config_provider){.name = mem_strdup(name)};
    return p;
}

const struct config_model *config_model_find(const struct config *c, struct str name)
{
    if (!name.p)
        name = str_of(c->model);
    for (size_t i = 0; i < c->models_n && name.p; i++) {
        if (str_eqz(name, c->models[i].name))
            return &c->models[i];
    }
    return NULL;
}

const struct config_provider *config_provider_find(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->providers_n; i++) {
        if (strcmp(c->providers[i].name, name) == 0)
            return &c->providers[i];
    }
    return NULL;
}

/* Sentences about the file as a whole stand at its first line, so that every error has one form. */
static int refuse_file(const char *path, const char *why, struct buf *error)
{
    buf_printf(error, "%s:1: %s", path, why);
    return -1;
}

static int read_all(int fd, const char *path, struct buf *ret, struct buf *error)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return refuse_file(path, strerror(errno), error);
    if (!S_ISREG(st.st_mode))
        return refuse_file(path, "this is not a plain file; name one that holds the configuration", error);
    for (;;) {
        char *to = buf_reserve(ret, 65536);
        ssize_t n = read(fd, to, 65536);
        if (n < 0)
            return refuse_file(path, strerror(errno), error);
        if (n == 0)
            return 0;
        ret->n += (size_t)n;
        if (ret->n > CONFIG_FILE_BYTES_MAX)
            return refuse_file(path, "a configuration has at most 1 MiB; is this the right file?", error);
    }
}

static int load_open_file(int fd, const char *path, struct config **ret, struct buf *error)
{
    CLEANUP(buf_free) struct buf text = {0};
    if (read_all(fd, path, &text, error) < 0)
        return -1;
    struct config *c = config_new();
    c->path = mem_strdup(path);
    if (config_read(path, buf_view(&text), c, error) < 0) {
        config_free(c);
        return -1;
    }
    if (!c->model) {
        CLEANUP(buf_free) struct buf advice = {0};
        buf_printf(
            &advice,
            "no model is configured in %s; describe a provider and a model there (see agentd-config(5))",
            path);
        c->advice = buf_take(&advice, NULL);
    }
    for (size_t i = 0; i < c->providers_n; i++)
        config_key_warn(&c->providers[i]);
    *ret = c;
    return 0;
}

/* A path that the user named must exist; the usual place need not. */
static int load_path(const char *path, bool named, struct config **ret, struct buf *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ENOENT && !named)
        return config_from_environment(path, ret, error);
    if (fd < 0 && errno == ENOENT)
        return refuse_file(
            path, "there is no such file; write it, or name another with --config or AGENTD_CONFIG", error);
    if (fd < 0)
        return refuse_file(path, strerror(errno), error);
    int rc = load_open_file(fd, path, ret, error);
    close(fd);
    return rc;
}

int config_load(const char *path, struct config **ret, struct buf *error)
{
    CLEANUP(buf_free) struct buf place = {0}, fault = {0};
    bool named = false;
    if (places_config(path, &place, &named, &fault) < 0) {
        if (!named) /* without a home folder there is no usual place */
            return config_from_environment("the file that AGENTD_CONFIG names", ret, error);
        buf_str(error, buf_view(&fault));
        return -1;
    }
    return load_path(buf_cstr(&place), named, ret, error);
}
