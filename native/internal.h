/* What the files of the native part share with each other. */
#ifndef FUSECRYPT_INTERNAL_H
#define FUSECRYPT_INTERNAL_H

#include "fusecrypt.h"

/* libgcrypt marks functions as deprecated that nothing here calls. */
#define GCRYPT_NO_DEPRECATED
#include <gcrypt.h>

/* ---- library.c ------------------------------------------------------------------------------ */

/* Prepare libgcrypt; to be called before its first use, cheap afterwards. */
void fc_library(void);

/* ---- kdf.c ---------------------------------------------------------------------------------- */

/* MD5 of a FEK's n octets. */
int fc_root_iv(const uint8_t *fek, size_t n, uint8_t root_iv[16]);

#endif
