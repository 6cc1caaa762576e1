/* The log: one line a fact on standard error, `2026-11-23T10:00:00.123Z INFO controller adapter "sql" loaded pod=p took_ms=31`.
 *
 * The level and the role's name are set once at start. Libraries (everything below the roles) log at debug only. Any thread
 * may log; a line is written by one write(2). Control characters in values are shown as \xNN, so a value cannot forge a line.
 * Secrets never reach a log call. */
#ifndef DAVIT_BASE_LOG_H
#define DAVIT_BASE_LOG_H

#include "base/alloc.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

/* role: static string such as "controller"; level_name: "debug", "info", "warn" or "error", NULL = info. -1 if unknown. */
int log_init(const char *role, const char *level_name);
void log_write(enum log_level level, const char *format, ...) DAVIT_PRINTF(2, 3);

#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
