/* Preparing libgcrypt. */
#include "internal.h"

#include <pthread.h>

#define SECURE_MEMORY (64 * 1024)

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
initialise(void)
{
    /* Another library of the process may have done it, in its own way. */
    if (gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P))
        return;
    gcry_check_version(NULL);
    /* Where memory cannot be locked, fc_memory_locked() says so; the library would print it. */
    gcry_control(GCRYCTL_DISABLE_SECMEM_WARN);
    gcry_control(GCRYCTL_INIT_SECMEM, SECURE_MEMORY, 0);
    gcry_control(GCRYCTL_AUTO_EXPAND_SECMEM, SECURE_MEMORY, 0);
    gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
}

void
fc_library(void)
{
    pthread_once(&once, initialise);
}
