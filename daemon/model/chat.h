#pragma once
/* The reading half of the translator, for its writing half's table. See provider.h. */
#include "daemon/model/provider.h"

struct provider_parser *chat_parser_new(const struct limits *limits, const struct model_callbacks *callbacks,
                                        void *arg);
void chat_parser_free(struct provider_parser *p);
enum provider_event chat_parser_event(struct provider_parser *p, struct str event, struct str data);
const struct fault *chat_parser_fault(struct provider_parser *p);
bool chat_parser_complete(struct provider_parser *p);
const struct model_response *chat_parser_response(struct provider_parser *p);
struct str chat_parser_partial(struct provider_parser *p);
