#pragma once
/* Memory. Allocation never returns NULL: a process that cannot get memory says so on stderr and exits with
 * MEM_EXIT_STATUS at once, without flushing anything. What was acknowledged is durable by then (law 1), so an exit
 * here is the same as a kill -9, and the next start goes on. This keeps every caller free of a path that no one
 * could test by hand.
 *
 * Three lifetimes exist: owned (new/free), scratch for one loop turn, and libuv handles (freed in their last close
 * callback). */
#include <stddef.h>

#define MEM_EXIT_STATUS 71 /* EX_OSERR */

/* Returns `size` zeroed bytes (never NULL; a size of 0 gets one byte). */
void *mem_alloc(size_t size);
/* Grows or shrinks; new bytes are not zeroed. */
void *mem_realloc(void *p, size_t size);
/* An owned copy of n bytes with a NUL after them. */
char *mem_dup(const void *p, size_t n);
char *mem_strdup(const char *s); /* NULL stays NULL */
void mem_free(void *p);
/* The end that they all come to, for who is told by a library that there was no memory. */
_Noreturn void mem_none(void);
/* Plain malloc and calloc contract (exits instead of NULL), for json_set_alloc_funcs() and its like: libraries that
 * do not survive a NULL, or tell it as something else. */
void *mem_malloc_raw(size_t size);
void *mem_calloc_raw(size_t n, size_t size);

#define MEM_NEW(type) ((type *)mem_alloc(sizeof(type)))

/* Clean-up attribute: `CLEANUP(buf_free) struct buf b = {0};` */
#define CLEANUP(fn) __attribute__((cleanup(fn)))
