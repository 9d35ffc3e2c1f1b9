#pragma once
/* The two wires have one check: a stream of bytes becomes a response or a fault, and whatever it becomes, the
 * next request is JSON. */
#include "fuzz.h"

#include "daemon/model/provider.h"

/* Input: the size of a piece, the bytes of the stream. */
void stream_check(const struct provider *provider, struct str in);
