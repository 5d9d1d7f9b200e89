"""The console: the daemon's pages in a browser.

Pages show the answers of the API's own operations, and carry out the same operations; none asks the database itself.
They need no JavaScript. ``exportd console`` opens them; over TCP, a person signs in with a program's credentials.
"""
