#pragma once
/* Live text on its way to one subscription: from where it stands in each item to where the item is now, so
 * that a slow client gets few long pieces and a quick one many short ones. Only a run's output may be
 * skipped. */
#include "daemon/rpc/subscription.h"

/* False: the client's queue is full, there is more. */
bool delta_send_task(struct subscription *s, struct live_task *t);
/* All tasks that it is subscribed to. */
bool delta_send_all(struct subscription *s);
/* What is left of a run that is over: to the last byte, a cut character at its end included. */
void delta_send_run_end(struct subscription *s, struct live_task *t, struct live_run *run);
