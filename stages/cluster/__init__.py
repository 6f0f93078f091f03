"""The same work on Ray: nothing else imports it."""
