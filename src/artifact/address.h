/* Which addresses a URL of a stranger may lead to. Refused are link-local ones and those at which clouds answer questions about the
 * machine and its identity (instance metadata), in whatever disguise IPv6 offers; loopback and private networks are allowed, since
 * registries live there. Pure.
 *
 * It is asked with what a name resolved to (io/transfer.h, may_connect), so a name that changes its address gains nothing. Behind a
 * proxy only numeric hosts and the metadata servers' own names are seen; what else a name means is for the proxy to judge. */
#ifndef DAVIT_ARTIFACT_ADDRESS_H
#define DAVIT_ARTIFACT_ADDRESS_H

#include "base/error.h"

#include <stdbool.h>

struct sockaddr;

/* `allowed` ("10.1.0.0/16", "169.254.169.254", "fd00:ec2::254"; NULL at the end, NULL = none) opens what is refused. */
bool address_is_allowed(const struct sockaddr *address, const char *const *allowed);
/* The same for a URL's host: numeric, or the name of a metadata server. Every other name is allowed: its addresses are judged. */
bool address_host_is_allowed(const char *host, const char *const *allowed);
/* ERROR_INVALID that names the entry which is neither an address nor a network. */
int address_check_list(const char *const *allowed, struct error *err) DAVIT_MUST_USE;

#endif
