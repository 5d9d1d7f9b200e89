import base64
import json
from email.parser import BytesParser

import google_crc32c
from hypothesis import given
from hypothesis import strategies as st

from exportd.stores.gcs.answers import GcsAddresses, metadata, multipart
from exportd.stores.layout import ObjectKey, content_type


def test_a_key_is_one_segment_of_the_path() -> None:
    address = GcsAddresses("acme", "http://here").object(ObjectKey("m3/orgId=a%2Fb/é"), alt="media")
    assert address == "http://here/storage/v1/b/acme/o/m3%2ForgId%3Da%252Fb%2F%C3%A9?alt=media"


def test_a_query_is_encoded() -> None:
    address = GcsAddresses("acme").upload(uploadType="resumable", name="a&b=c d", ifGenerationMatch=0)
    assert address == (
        "https://storage.googleapis.com/upload/storage/v1/b/acme/o"
        "?uploadType=resumable&name=a%26b%3Dc+d&ifGenerationMatch=0"
    )


def test_the_kind_of_content_follows_the_name() -> None:
    assert content_type(ObjectKey("a/b.csv.gz")) == "application/gzip"
    assert content_type(ObjectKey("a/b.json")) == "application/json"
    assert content_type(ObjectKey("a.gz/b")) == "application/octet-stream"


@given(st.binary(max_size=200))
def test_a_body_of_several_parts_holds_what_was_put_in(data: bytes) -> None:
    description = metadata(ObjectKey("é.json"), google_crc32c.value(data))
    body = multipart(description, data, "application/json", "boundary-of-the-test")
    assert body[1] is data
    parsed = BytesParser().parsebytes(
        b"Content-Type: multipart/related; boundary=boundary-of-the-test\r\n\r\n" + b"".join(body)
    )
    first = next(part for part in parsed.walk() if not part.is_multipart())
    document = json.loads(str(first.get_payload()))
    assert document["name"] == "é.json"
    assert base64.b64decode(document["crc32c"]) == google_crc32c.value(data).to_bytes(4, "big")
    assert b"\r\n\r\n" + data + b"\r\n--boundary-of-the-test--\r\n" in b"".join(body)
