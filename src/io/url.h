/* URLs taken apart, by libcurl's own reader, so that what is judged here is what is asked there. */
#ifndef DAVIT_IO_URL_H
#define DAVIT_IO_URL_H

/* "https://host:443" of a URL: scheme and host in lower case, the port always there; NULL for what is no http or https URL. Two
 * URLs of one origin (RFC 6454) have equal ones. The caller frees it. */
char *url_origin(const char *url);
/* The host, in lower case, numeric IPv4 addresses in their usual form, IPv6 without brackets; NULL as above. The caller frees it.
 */
char *url_host(const char *url);

/* The URL without what may be secret: user info, query and fragment. In hf:// and huggingface:// an '@' begins a revision, unless a
 * user's name and password or a token of the Hub's ("hf_...") stand before it. The caller frees it. */
char *url_for_people(const char *url);

#endif
