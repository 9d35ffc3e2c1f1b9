#pragma once
/* The file of the state folder that holds the number of the process that starts the daemon. The newest supervisor writes its own there;
 * one that finds the number of another living process leaves the daemon to that. agentctl holds the post for the moment in which it
 * replaces a supervisor by one of its own installation. */
#define POST_NAME "supervisor"
