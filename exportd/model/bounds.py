"""How much may come in from outside: in a request, in the configuration, in a row that was written long ago. Pure.

Lengths are in characters. Every text and every list that is not ours to write has one of these bounds, so that no
request, however it is made, costs more than a few milliseconds.
"""

MAX_CODE_LENGTH = 80
"""Of codes and of organizations' ids."""

MAX_NAME_LENGTH = 200
"""Of names for people to read."""

MAX_CRON_LENGTH = 256
"""Of cron expressions. One that lists every minute of an hour has 169 characters in its first field."""

MAX_WORD_LENGTH = 200
"""Of ids of every kind: of ours, of a cloud's projects and pools, of roles' names."""

MAX_TEXT_LENGTH = 2048
"""Of everything else: URLs, keys, tokens, folders."""

MAX_PREFIX_LENGTH = 512
"""Of a folder inside a destination. A key has at most 1,024 bytes, and our own part of it takes some."""

MAX_INSTANT_LENGTH = 64
"""Of a date and time."""

MAX_PATH_LENGTH = 4096
"""Of the path of a file, as Linux bounds it."""

MAX_ENTITIES = 400
"""In one schedule, export or request."""

MAX_DESTINATIONS = 100
"""Of one schedule or export."""

MAX_IDS = 100
"""In the filter of a list."""

MAX_NAMES = 100
"""Of groups or hosts, in the configuration."""

MAX_DECLARED = 100_000
"""Destinations, and schedules, in the configuration."""

MAX_FIELDS = 64
"""Of a JSON object in a request."""

MAX_DOCUMENT_BYTES = 256_000
"""Of a JSON document in a request. The largest good one, with 400 entities of 80 characters, has 40 kB."""

MAX_COUNT = 2**31 - 1
"""Of versions."""

MAX_SIZE_BYTES = 2**63 - 1
"""Of sizes in the configuration."""

MAX_SENTENCES = 5
"""Faults that one answer names; it counts the others."""

MAX_SENTENCE_LENGTH = 600
"""Of the sentence about one fault."""

MAX_SHOWN_LENGTH = 80
"""Of what a sentence repeats of a request."""
