/* Runs a fuzz target over files named on the command line: the committed corpora become a test, with any compiler. */
#include "base/file.h"

#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        cleanup_buffer struct buffer input = BUFFER_INIT;
        struct error err;
        if (file_read(argv[i], 16 * 1024 * 1024, &input, &err) < 0) {
            (void)fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        /* An exact copy, so that a read past the end is seen. */
        cleanup_free uint8_t *exact = xmalloc(input.len);
        memcpy(exact, buffer_text(&input), input.len);
        (void)LLVMFuzzerTestOneInput(exact, input.len);
    }
    return 0;
}
