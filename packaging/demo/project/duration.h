/* Lengths of time as people write them: "45s", "10m", "1h30m", "2d". */
#ifndef DURATION_H
#define DURATION_H

/* Returns the seconds, or -1 if the text is not a duration. Units must go from large to small. */
long duration_parse(const char *text);

#endif
