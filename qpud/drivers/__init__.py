"""One file per kind of resource, all behind the Driver protocol of base.py."""
