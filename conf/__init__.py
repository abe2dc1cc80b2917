"""Configuration, data only: the folder of YAML is the registry."""
