#include "base/memory.h"

#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Segments that are never written, and not those that the linker wrote to and then sealed (RELRO is part of a writable one): of
 * these every page is its file's, and MADV_DONTNEED of such a page loses nothing (madvise(2): private mappings of files are filled
 * from the file again). */
static int drop_clean_pages(struct dl_phdr_info *info, size_t size, void *arg) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    (void)size, (void)arg;
    if (strncmp(info->dlpi_name, "linux-vdso", 10) == 0) { /* the kernel's, of no file */
        return 0;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_W) == 0) {
            uintptr_t start = (info->dlpi_addr + segment->p_vaddr) & ~(page - 1);
            uintptr_t end = (info->dlpi_addr + segment->p_vaddr + segment->p_memsz + page - 1) & ~(page - 1);
            (void)madvise((void *)start, end - start, MADV_DONTNEED);
        }
    }
    return 0;
}

void memory_give_back(void) {
    (void)malloc_trim(0);
    (void)dl_iterate_phdr(drop_clean_pages, NULL);
}
