#pragma once
/* The reading half of the translator, for its writing half's table. See provider.h. */
#include "daemon/model/provider.h"

struct provider_parser *responses_parser_new(const struct limits *limits,
                                             const struct model_callbacks *callbacks, void *arg);
void responses_parser_free(struct provider_parser *p);
enum provider_event responses_parser_event(struct provider_parser *p, struct str event, struct str data);
const struct fault *responses_parser_fault(struct provider_parser *p);
bool responses_parser_complete(struct provider_parser *p);
const struct model_response *responses_parser_response(struct provider_parser *p);
struct str responses_parser_partial(struct provider_parser *p);
