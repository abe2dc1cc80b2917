"""One device or many: where computing happens, and how several processes act as one."""
