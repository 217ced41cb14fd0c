"""`qpud simulate`: the daemon's own mind in virtual time. The files and the definitions are in README.md."""
