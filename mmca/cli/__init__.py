"""The `mmca` command, one file per sub-command. May import everything; nothing else imports it."""
