/* CRC-32C (Castagnoli; RFC 3720, appendix B.4): what object stores say of objects that have no MD5. Against damage, not against
 * people. */
#ifndef DAVIT_ARTIFACT_CRC32C_H
#define DAVIT_ARTIFACT_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc`, which is 0 at the beginning. */
uint32_t crc32c_update(uint32_t crc, const void *bytes, size_t len);

#endif
