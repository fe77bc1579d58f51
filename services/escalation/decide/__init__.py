"""What escalation decides: `case` is what it knows, `escalations` who takes over, `configuration` what is in force."""
