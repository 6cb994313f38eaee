"""Request heads drawn at random: fields that matter to framing, routing and trust, with values that do."""

from hypothesis import strategies as st

from tests.wire.heads import head

NAMES = st.sampled_from(
    [
        *(
            b"Connection",
            b"Keep-Alive",
            b"TE",
            b"Trailer",
            b"Upgrade",
            b"Transfer-Encoding",
            b"Content-Length",
            b"Expect",
            b"Via",
        ),
        *(
            b"X-Forwarded-For",
            b"x_forwarded_for",
            b"X.Forwarded-Host",
            b"Forwarded",
            b"X-Request-Id",
            b"X_Request-Id",
            b"Host",
        ),
        *(
            b"Content_Length",
            b"Transfer_Encoding",
            b"X-Api-Key",
            b"x_api_key",
            b"Authorization",
            b"Cookie",
            b"X-Account",
            b"X_Account",
        ),
        *(b"Proxy-Connection", b"Proxy", b"HTTP2-Settings", b"X-A", b"x_a", b"A", b"X-Real-IP", b"X-Forwarded-Proto"),
    ]
)
VALUES = st.sampled_from(
    [
        *(
            b"close",
            b"keep-alive",
            b"upgrade, x-a",
            b"host, content-length",
            b"x-forwarded-for, via",
            b"transfer-encoding",
            b"x-api-key",
        ),
        *(
            b"chunked",
            b"5",
            b"0",
            b"100-continue",
            b"websocket",
            b"h2c, x",
            b"",
            b'"',
            b"1.2.3.4",
            b'for="',
            b"a\tb",
            b"\xff",
            b"Cookie, A",
        ),
    ]
) | st.binary(max_size=8)
HEADS = st.builds(
    lambda method, target, version, host, fields: head(
        b"%b %b HTTP/1.%b" % (method, target, version), b"Host: " + host, *(b"%b: %b" % field for field in fields)
    ),
    st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"DELETE"]),
    st.sampled_from([b"/", b"*", b"/a?b", b"http://storage.example/x", b"http://storage.example", b"/%2e%2e;//"]),
    st.sampled_from([b"0", b"1", b"1"]),
    st.sampled_from([b"storage.example", b"Storage.Example.", b"[::1]:80", b"1.2.3.4"]),
    st.lists(st.tuples(NAMES, VALUES), max_size=7),
)
