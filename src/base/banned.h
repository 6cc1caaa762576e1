/* Functions that do not compile here (git's banned.h is the model). Included on the command line of every source file. */
#ifndef DAVIT_BASE_BANNED_H
#define DAVIT_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#undef strcpy
#undef strcat
#undef strncpy
#undef strncat
#undef sprintf
#undef vsprintf
#undef strtok
#undef strtok_r
#undef atoi
#undef atol
#undef atoll
#undef atof
#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf strtok strtok_r atoi atol atoll atof gets

#endif
