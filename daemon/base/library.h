#pragma once
/* Libraries that are loaded when they are needed. Without memory to load one the process ends, as everywhere (mem.h). */
#include <stddef.h>

/* NULL if it cannot be loaded: the log says why, and how to get it. `package`: its name in Debian. */
void *library_open(const char *name, const char *package);
/* Writes the function's pointer to `ret`, which has `size` bytes. 0, or -1 (the log says so). */
int library_find(void *library, const char *name, const char *symbol, void *ret, size_t size);
