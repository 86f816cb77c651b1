"""How fast this machine encrypts and a mount answers: shared by `fusecrypt bench` and bench/."""
