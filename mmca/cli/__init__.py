"""The `mmca` command, one file a sub-command. May import everything; nothing else imports it."""
