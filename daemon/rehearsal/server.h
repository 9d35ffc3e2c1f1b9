#pragma once
/* The socket side: connections, pauses, the log. One libuv loop; it knows of models only that player.h
 * answers requests. */
#include "daemon/rehearsal/player.h"

#include <stdio.h>
#include <uv.h>

#define SERVER_CONNECTIONS_MAX 4096
#define SERVER_PENDING_BYTES_MAX 65536 /* read ahead while a reply is being sent */
#define SERVER_IDLE_MS 300000          /* a connection without a byte, in either direction */
#define SERVER_LINGER_MS 2000          /* after an error, for the client to read it */

struct server;

struct server_options {
    struct player player;
    struct sockaddr_storage address;
    FILE *log;          /* or NULL */
    const char *bodies; /* a folder for the bodies of requests, or NULL */
};

/* Listens. 0 and the port, or a libuv error. */
int server_new(uv_loop_t *loop, const struct server_options *options, struct server **ret, int *ret_port);
/* Closes everything; the loop then runs out of handles. Free after that. */
void server_close(struct server *s);
void server_free(struct server *s);
