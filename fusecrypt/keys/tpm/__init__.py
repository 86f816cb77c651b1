"""TPM 2.0: sessions, sealing, policies, errors. The TSS library is imported when a TPM is opened."""
