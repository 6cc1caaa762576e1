/* Loopback addresses for pods: each state folder has a net 127.1.N.0/24 of its own, each pod an address of it.
 *
 * Which N is free is settled machine-wide by one lock file a net, whose text names the state folder that had it last: pods outlive
 * their node, so a net whose last owner still has live processes is not free although nobody holds its lock. A node that shares the
 * network but not the files shows itself by a socket that it keeps bound, and its pods by what they listen on. */
#ifndef DAVIT_CLUSTER_NODE_NET_H
#define DAVIT_CLUSTER_NODE_NET_H

#include "base/error.h"

#include <stdbool.h>

#define NET_HOST_FIRST 10 /* those below are for the gateway and other roles of the machine */
#define NET_HOST_LAST 250

struct net {
    int number;   /* the N of 127.1.N.0/24 */
    int lock_fd;  /* held as long as the process lives; -1 = none */
    int claim_fd; /* a socket of the net, likewise */
    char cidr[24];
    bool is_used[256];
    int next_host;
};

/* `wanted`: "127.1.N.0/24", or NULL for the net recorded in `folder`, else a free one. The choice is recorded in `folder`.
 * ERROR_BUSY when the net wanted belongs to another state folder; ERROR_INVALID when it is of another form. */
int net_take(const char *folder, const char *wanted, struct net *ret_net, struct error *err) DAVIT_MUST_USE;
void net_release(struct net *net);
/* An unused address "127.1.N.x", of the caller's, NULL when all are taken. Addresses are reused as late as possible: a new process
 * cannot bind where old connections linger. */
char *net_address_take(struct net *net);
bool net_address_mark(struct net *net,
                      const char *address); /* taken by an adopted pod; false if it is not of this net or marked already */
void net_address_give_back(struct net *net, const char *address);

#endif
