/* Memory that a process which rests gives back. */
#ifndef DAVIT_BASE_MEMORY_H
#define DAVIT_BASE_MEMORY_H

/* Heap that is free goes back to the kernel, and so do pages of the program and its libraries that are as their files have them:
 * starting and rare work touch megabytes of those, resting next to none. They are there again when they are needed, at the price
 * of a page fault each (some 0.1 ms for all that a request touches). What a debugger or a uprobe put into such a page goes with it.
 * Any thread may call it; others go on. */
void memory_give_back(void);

#endif
