#pragma once
/* Where agentctl's words go: data to stdout, talk to stderr, colour only on a terminal. A reader that has gone away ends the
 * program quietly. */
#include "daemon/base/buf.h"

#include <stdbool.h>

/* Once, at the start. */
void say_init(void);

/* Appends to stdout's buffer; say_flush() writes it out. */
void say_data(struct str s);
void say_flush(void);
/* One document or one event: JSON text, made safe for terminals, and a line feed. */
void say_json(struct str json);

/* One line of talk on stderr; the text may come from anywhere, it is made safe. An error is told with its hint below it. */
void say_talk(const char *sentence);
void say_error(const char *sentence, const char *hint);
void say_talkf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the line on which a terminal shows "^C". */
void say_interrupted(void);

bool say_is_terminal(void); /* stdout */
size_t say_columns(void);   /* of the terminal; 100 where there is none */

enum say_style { SAY_PLAIN, SAY_DIM, SAY_BOLD, SAY_GOOD, SAY_BAD, SAY_WARN };
/* The escape sequence for stdout, "" where there is no colour. SAY_PLAIN ends a style. */
const char *say_style(enum say_style style);
