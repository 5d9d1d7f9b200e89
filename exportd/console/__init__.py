"""The console: the daemon's pages in a browser.

Pages show what the API's own operations answer, and do what those do; none of them asks the database itself. They need
no JavaScript. ``exportd console`` opens them; over TCP, a person signs in with a program's credentials.
"""
