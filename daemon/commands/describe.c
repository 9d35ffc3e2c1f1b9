/* rpc/describe */
#include "command.h"

void command_rpc_describe(const struct command *c)
{
    struct result_rpc_describe result = {.schema = str_n(proto_schema, proto_schema_n)};
    command_reply(c, &result);
}
