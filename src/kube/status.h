/* What the API means by an answer of 400 and more: its metav1.Status, where there is one. */
#ifndef DAVIT_KUBE_STATUS_H
#define DAVIT_KUBE_STATUS_H

#include "base/error.h"

/* Fills *err: the code by the Status' reason, else by the HTTP status; "<what>: <message of the Status>". */
void kube_status_error(int http_status, const char *body, size_t len, const char *what, struct error *err);

#endif
