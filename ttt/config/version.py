"""The version of ttt. It is part of the name of every run."""

VERSION = "0.2.0"
