"""Tests of mmca; a package, so that no other installed `tests` takes its name."""
