"""An eCryptfs tree seen decrypted: names, attributes, files. Knows nothing of FUSE or of who asks."""
