/* How many compute threads fit: the container's CPU limit (cgroup v2, v1), else the CPUs this process may run on. */
#ifndef DAVIT_CLI_CPU_COUNT_H
#define DAVIT_CLI_CPU_COUNT_H

/* At least 1. Limits are rounded up: a limit of 1500m gives 2. */
int cpu_count(void);

/* ---- pure ---- */
/* The limit in cgroup v2's cpu.max ("150000 100000"), rounded up; 0 = "max" or not understood. */
int cpu_count_parse_max(const char *text);

#endif
