#pragma once
/* The database's schema as numbered steps, each a .sql file of this folder, embedded with its hash. Forward
 * only: a released file is never changed, the next change of the schema is the next file. Applied by
 * daemon/store/migrate.c. */
#include <stddef.h>
#include <stdint.h>

#define MIGRATION_HASH_SIZE 32 /* BLAKE2b-256 */

struct migration {
    int version; /* 1, 2, 3 ... */
    const char *name;
    const char *sql;
    uint8_t hash[MIGRATION_HASH_SIZE];
};

extern const struct migration migrations[];
extern const size_t migrations_n;
