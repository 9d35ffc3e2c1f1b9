/* A stream of OpenAI Chat Completions; see stream.h. */
#include "stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    stream_check(&provider_chat, fuzz_input(data, size));
    return 0;
}
