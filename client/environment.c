#include "environment.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <stdbool.h>
#include <stdlib.h>
#include <strings.h>

extern char **environ;

#define VALUE_BYTES_MAX 32768
#define ALL_BYTES_MAX 61440 /* the daemon refuses more than 64 KiB; what does not fit any more is left out */

/* Of the daemon's list (daemon/commands/env.c), which has the last word. A star at the end stands for anything. */
static const char *const names[] = {
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TERM", "COLORTERM", "TZ", "TMPDIR", "TEMP", "TMP",
    "EDITOR", "VISUAL", "PAGER", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_DATA_DIRS", "MANPATH", "INFOPATH",
    "VIRTUAL_ENV", "CONDA_*", "PYENV_*", "PYTHONPATH", "PYTHONHOME", "PIPENV_ACTIVE", "UV_CACHE_DIR", "POETRY_HOME", "NODE_PATH",
    "NODE_ENV", "NVM_DIR", "NVM_BIN", "VOLTA_HOME", "PNPM_HOME", "BUN_INSTALL", "DENO_DIR", "GOPATH", "GOROOT", "GOBIN", "GOCACHE",
    "GOMODCACHE", "GOFLAGS", "GOTOOLCHAIN", "CARGO_HOME", "CARGO_TARGET_DIR", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "RUSTFLAGS",
    "JAVA_HOME", "JDK_HOME", "MAVEN_HOME", "MAVEN_OPTS", "M2_HOME", "GRADLE_HOME", "GRADLE_USER_HOME", "ANDROID_HOME",
    "ANDROID_SDK_ROOT", "GEM_HOME", "GEM_PATH", "RBENV_ROOT", "RUBYLIB", "PERL5LIB", "DOTNET_ROOT", "SDKMAN_DIR", "ASDF_DIR",
    "ASDF_DATA_DIR", "NIX_PATH", "NIX_PROFILES", "PKG_CONFIG_PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH", "CPATH", "CC", "CXX", "CPP", "LD", "AR", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "MAKEFLAGS",
    "CMAKE_PREFIX_PATH", "CMAKE_GENERATOR", "CMAKE_BUILD_PARALLEL_LEVEL", "CCACHE_DIR",
};

/* A second look, in case the list above grows carelessly. */
static bool looks_secret(struct str name)
{
    static const char *const parts[] = {"KEY", "TOKEN", "SECRET", "PASSW", "CREDENTIAL", "AUTH"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        size_t n = strlen(parts[i]);
        for (size_t at = 0; at + n <= name.n; at++) {
            if (strncasecmp(name.p + at, parts[i], n) == 0)
                return true;
        }
    }
    return false;
}

static bool allowed(struct str name)
{
    if (looks_secret(name))
        return false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t n = strlen(names[i]);
        bool star = names[i][n - 1] == '*';
        if (star ? name.n >= n && memcmp(name.p, names[i], n - 1) == 0 : str_eqz(name, names[i]))
            return true;
    }
    return false;
}

/* An environment may hold a name twice; the first is the one that counts, and JSON must not hold it twice. */
static bool is_first(struct str name, const char *value)
{
    char *copy = mem_dup(name.p, name.n);
    bool first = getenv(copy) == value;
    mem_free(copy);
    return first;
}

void environment_put(struct buf *b)
{
    bool first = true;
    size_t bytes = 0;
    buf_putc(b, '{');
    for (char **e = environ; *e; e++) {
        const char *equals = strchr(*e, '=');
        if (!equals)
            continue;
        struct str name = str_n(*e, (size_t)(equals - *e)), value = str_of(equals + 1);
        if (!allowed(name) || !is_first(name, equals + 1) || value.n > VALUE_BYTES_MAX || !utf8_valid(value) || !utf8_valid(name))
            continue;
        if (bytes + name.n + value.n + 2 > ALL_BYTES_MAX)
            continue;
        bytes += name.n + value.n + 2;
        if (!first)
            buf_putc(b, ',');
        first = false;
        json_put_string(b, name);
        buf_putc(b, ':');
        json_put_string(b, value);
    }
    buf_putc(b, '}');
}
