#include "envname.h"

#include <string.h>
#include <strings.h>

/* Names; a `*` at the end of one stands for anything. */
static const char allowed[] =
    /* who and where */
    "PATH HOME USER LOGNAME SHELL LANG LANGUAGE LC_* TERM COLORTERM TZ TMPDIR TEMP TMP EDITOR VISUAL PAGER "
    "XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_DATA_DIRS MANPATH INFOPATH "
    /* languages and their tools */
    "VIRTUAL_ENV CONDA_* PYENV_* PYTHONPATH PYTHONHOME PIPENV_ACTIVE UV_CACHE_DIR POETRY_HOME "
    "NODE_PATH NODE_ENV NVM_DIR NVM_BIN VOLTA_HOME PNPM_HOME BUN_INSTALL DENO_DIR "
    "GOPATH GOROOT GOBIN GOCACHE GOMODCACHE GOFLAGS GOTOOLCHAIN "
    "CARGO_HOME CARGO_TARGET_DIR RUSTUP_HOME RUSTUP_TOOLCHAIN RUSTFLAGS "
    "JAVA_HOME JDK_HOME MAVEN_HOME MAVEN_OPTS M2_HOME GRADLE_HOME GRADLE_USER_HOME ANDROID_HOME "
    "ANDROID_SDK_ROOT GEM_HOME GEM_PATH RBENV_ROOT RUBYLIB PERL5LIB DOTNET_ROOT SDKMAN_DIR ASDF_DIR "
    "ASDF_DATA_DIR NIX_PATH NIX_PROFILES "
    /* building */
    "PKG_CONFIG_PATH LD_LIBRARY_PATH LIBRARY_PATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH CPATH CC CXX CPP LD AR "
    "CFLAGS CXXFLAGS CPPFLAGS LDFLAGS MAKEFLAGS CMAKE_PREFIX_PATH CMAKE_GENERATOR "
    "CMAKE_BUILD_PARALLEL_LEVEL CCACHE_DIR";

static const char *const secret[] = {"KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"};

static bool looks_secret(struct str name)
{
    for (size_t i = 0; i < sizeof secret / sizeof *secret; i++) {
        size_t n = strlen(secret[i]);
        for (size_t at = 0; at + n <= name.n; at++) {
            if (strncasecmp(name.p + at, secret[i], n) == 0)
                return true;
        }
    }
    return false;
}

static bool matches(struct str name, struct str pattern)
{
    if (pattern.p[pattern.n - 1] == '*')
        return name.n >= pattern.n - 1 && memcmp(name.p, pattern.p, pattern.n - 1) == 0;
    return str_eq(name, pattern);
}

static bool name_valid(struct str name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i > 0 && c >= '0' && c <= '9'))
            return false;
    }
    return name.n > 0;
}

bool envname_allowed(struct str name)
{
    if (!name_valid(name) || looks_secret(name))
        return false;
    for (const char *p = allowed; *p; p += strspn(p, " ")) {
        size_t n = strcspn(p, " ");
        if (matches(name, str_n(p, n)))
            return true;
        p += n;
    }
    return false;
}
