#pragma once
/* Where things are (shared by the daemon and its clients): state folder, socket, configuration. */
#include "buf.h"

/* Each: the flag if not NULL, else the environment (AGENTD_STATE_DIR, AGENTD_SOCKET, AGENTD_CONFIG, the XDG variables, HOME).
 * Absolute paths, without a trailing slash; nothing is created. 0, or -1 with a sentence that says what to set. */
int places_state_dir(const char *flag, struct buf *ret, struct buf *error);
/* `state_dir_flag`: the --state-dir that was given, if any: then the socket is in it unless `flag` or AGENTD_SOCKET says else. */
int places_socket(const char *flag, const char *state_dir_flag, struct buf *ret, struct buf *error);
/* The path where a configuration is looked for; it need not exist. *ret_named: the user named it, so it must exist. */
int places_config(const char *flag, struct buf *ret, bool *ret_named, struct buf *error);
/* The same where nobody has named one, whatever AGENTD_CONFIG says here. */
int places_config_unnamed(struct buf *ret, struct buf *error);
