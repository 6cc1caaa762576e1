/* The small grammars of names in Kubernetes objects: C functions beside the regular expressions that say the same (what POSIX and
 * RE2 have in common), for a schema that is read by others. A unit test compares the two. Pure. */
#ifndef DAVIT_ADAPTER_SYNTAX_H
#define DAVIT_ADAPTER_SYNTAX_H

#include <stdbool.h>
#include <stddef.h>

/* RFC 1035: what a Service may be called, apart from the limit of 63. */
#define SYNTAX_SERVICE_NAME "^[a-z]([-a-z0-9]*[a-z0-9])?$"
bool syntax_is_service_name(const char *text);
/* RFC 1123 subdomain: what a Secret may be called, apart from the limit of 253. */
#define SYNTAX_SUBDOMAIN "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
bool syntax_is_subdomain(const char *text);
#define SYNTAX_LABEL_KEY                                                                                                           \
    "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
bool syntax_is_label_key(const char *text);
#define SYNTAX_LABEL_VALUE "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
bool syntax_is_label_value(const char *text);
/* A key of a Secret's data, apart from the limit of 253. */
#define SYNTAX_DATA_KEY "^[-._A-Za-z0-9]+$"
bool syntax_is_data_key(const char *text);
/* No control characters. */
#define SYNTAX_PRINTABLE "^[^[:cntrl:]]*$"
bool syntax_is_printable(const char *text);
/* What can stand in an HTTP header: ASCII without spaces. */
#define SYNTAX_VISIBLE "^[!-~]*$"
bool syntax_is_visible(const char *text);
/* SHA-256, or nothing. */
#define SYNTAX_DIGEST "^((sha256:)?[a-f0-9]{64})?$"
bool syntax_is_digest(const char *text);
/* metav1.Condition's reason and type. */
#define SYNTAX_REASON "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
bool syntax_is_reason(const char *text);
#define SYNTAX_CONDITION_TYPE                                                                                                      \
    "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
bool syntax_is_condition_type(const char *text);

#endif
