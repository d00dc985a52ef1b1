"""The browser page: a server that styles what a browser sends, or a page that does without one."""
