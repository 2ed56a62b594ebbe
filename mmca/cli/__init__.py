"""The `mmca` command, one file a sub-command. May import everything; nothing imports it."""
