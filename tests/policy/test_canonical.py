"""Hosts and paths have one canonical form, or none: what a client may write to get past a rule, and cannot."""

import unicodedata
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.canonical import canonical_host, canonical_path

SAME_PATH = [
    ("/", "/"),
    ("*", "*"),
    ("/a", "/a"),
    ("/a/", "/a/"),
    ("/a/b.c", "/a/b.c"),
    ("/.a", "/.a"),
    ("/...", "/..."),
    ("/a..", "/a.."),
    ("/..a/b", "/..a/b"),
    ("/a.", "/a."),
    # unreserved characters and those that may stand in a segment: with and without an escape the same
    ("/%61", "/a"),
    ("/%41%5a%7E", "/AZ~"),
    ("/p%61y/x", "/pay/x"),
    ("/%70%61%79", "/pay"),
    ("/a%2Eb", "/a.b"),
    ("/%2e%2e%2e", "/..."),
    ("/a%2Db%5Fc", "/a-b_c"),
    ("/v1:pay", "/v1:pay"),
    ("/v1%3Apay", "/v1:pay"),
    ("/%40user", "/@user"),
    ("/@user", "/@user"),
    ("/%21%24%26%27%28%29%2B%2C%3D", "/!$&'()+,="),
    ("/!$&'()+,=", "/!$&'()+,="),
    # the star is a pattern's
    ("/*", "/%2A"),
    ("/pay/*", "/pay/%2A"),
    ("/pay/%2a", "/pay/%2A"),
    # whatever may not stand in a path is escaped, whether the client did it or not
    ("/a%20b", "/a%20b"),
    ('/a"b', "/a%22b"),
    ("/a%22b", "/a%22b"),
    ("/<>", "/%3C%3E"),
    ("/%3c%3e", "/%3C%3E"),
    ("/{a|b}^`[x]", "/%7Ba%7Cb%7D%5E%60%5Bx%5D"),
    ("/%7ba%7cb%7d%5e%60%5bx%5d", "/%7Ba%7Cb%7D%5E%60%5Bx%5D"),
    ("/a%3fb", "/a%3Fb"),
    ("/a%23b", "/a%23b"),
    ("/100%25", "/100%25"),
    ("/100%25/x", "/100%25/x"),
    ("/%25zz", "/%25zz"),
    # UTF-8, in form C
    ("/%e6%94%af", "/%E6%94%AF"),
    ("/f%c3%bcr", "/f%C3%BCr"),
    ("/fu%cc%88r", "/f%C3%BCr"),
    ("/%e2%84%aa", "/K"),
    ("/b" + "%CC%A7" * 30, "/b" + "%CC%A7" * 30),
    ("/%f0%9f%98%80", "/%F0%9F%98%80"),
]


@pytest.mark.parametrize(("path", "canonical"), SAME_PATH)
def test_a_path_has_one_form(path: str, canonical: str) -> None:
    assert canonical_path(path) == canonical
    assert canonical_path(canonical) == canonical


NO_PATH = [
    *(
        "",
        "a",
        "a/b",
        "**",
        "*/",
        "?",
        "http://a/",
        " /",
        "/ ",
        "/a b",
        "/a?b",
        "/a#b",
        "/\t",
        "/\x00",
        "/\x7f",
        "/ä",
        "/\xa0",
    ),
    # empty and dot segments, in every spelling
    *("//", "//pay", "/a//b", "/a//", "/.", "/..", "/./", "/../", "/a/.", "/a/..", "/a/./b", "/a/../b", "/..//"),
    *("/%2e", "/%2E", "/%2e%2e", "/.%2e", "/%2e.", "/a/%2e%2e/b", "/a/%2E%2E", "/%2e/", "/x/%2e", "/x/.%2E/pay"),
    # slashes and backslashes, in every spelling
    *(
        "/a%2fb",
        "/a%2Fb",
        "/%2f",
        "/%2Fpay",
        "/a%2f..%2fb",
        "/a\\b",
        "/\\",
        "/a%5cb",
        "/a%5Cb",
        "/..%5c",
        "/..\\pay",
        "/a%5C%2e",
    ),
    # path parameters: servlets cut them off before they look at dots
    *("/a;b", "/;", "/pay;x=1", "/..;/pay", "/a/..;x/b", "/a/.;/b", "/a%3bb", "/a%3B", "/..%3b/pay", "/a;/../b"),
    ("/%cd%be"),  # U+037E is `;` in form C
    # an escape of an escape
    *(
        "/%2561",
        "/%252e%252e/",
        "/%252f",
        "/%252F",
        "/%25%32%46",
        "/%2%35%32f",
        "/%255c",
        "/%253b",
        "/%25%36%31",
        "/%252500",
    ),
    # what escapes nothing
    *(
        "/%",
        "/%2",
        "/%zz",
        "/%2g",
        "/a%",
        "/%%",
        "/%%32%66",
        "/%u002f",
        "/%u2215",
        "/% 2f",
        "/%+2",
        "/%-1",
        "/%0x",
        "/%2%66",
    ),
    # controls
    *(
        "/%00",
        "/a%00b",
        "/pay%00.png",
        "/%0a",
        "/%0D%0A",
        "/a%09b",
        "/%1f",
        "/%01",
        "/%7f",
        "/%7F",
        "/..%00/",
        "/%0b",
        "/.%0d./",
    ),
    # overlong forms, surrogates, and other charsets
    *(
        "/%c0%af",
        "/%C0%AE%C0%AE",
        "/%c1%9c",
        "/%e0%80%af",
        "/%f0%80%80%af",
        "/%c0%2f",
        "/%ed%a0%80",
        "/%ff",
        "/%80",
        "/%c3",
    ),
    "/a" + "%cc%80" * 31,
    *("/%d6%a7%b8%b6", "/f%fcr", "/%fe%ff", "/%c3%28", "/%f5%80%80%80", "/%e4%bd"),
]


@pytest.mark.parametrize("path", NO_PATH)
def test_what_has_two_readings_has_no_form(path: str) -> None:
    assert canonical_path(path) is None


def servers_would_open(path: str) -> set[str]:
    """What file or handler some server looks for: with one or two decodings, dots resolved, runs of slashes merged."""
    found = set()
    for text in (path, unquote(path), unquote(unquote(path))):
        for cut in (text, text.replace("\\", "/"), text.split(";")[0], text.split("\x00")[0]):
            segments: list[str] = []
            for parameterised in cut.split("/"):
                segment = parameterised.partition(";")[0]
                if segment == "..":
                    segments[-1:] = []
                elif segment not in ("", "."):
                    segments.append(unicodedata.normalize("NFC", segment))
            found.add("/" + "/".join(segments))
    return found


PIECES = st.sampled_from(
    [
        *(
            "/",
            "/",
            "pay",
            "p",
            "%70",
            "ay",
            "%61y",
            ".",
            "..",
            "%2e",
            "%2E%2e",
            "%2f",
            "%2F",
            "\\",
            "%5c",
            ";",
            "%3b",
            "x=1",
        ),
        *(
            "%25",
            "%252e",
            "%252f",
            "%00",
            "%0d%0a",
            "%c0%af",
            "%c0%ae",
            "%e6%94%af",
            "u%cc%88",
            "%c3%bc",
            "%",
            "%zz",
            "*",
            "%2a",
        ),
        *(
            "~",
            "%7e",
            "@",
            "%40",
            ":",
            "%3A",
            '"',
            "%22",
            "%20",
            "[",
            "%cd%be",
            "%3f",
            "%23",
            "+",
            "%2b",
            "a",
            "B",
            "%42",
        ),
    ]
)
PATHS = st.lists(PIECES, max_size=8).map(lambda pieces: "/" + "".join(pieces))


@settings(deadline=None)
@given(PATHS)
def test_nothing_gets_past_a_rule_on_pay(path: str) -> None:
    canonical = canonical_path(path)
    if canonical is None or canonical == "/pay" or canonical.startswith("/pay/"):
        return
    for opened in servers_would_open(path):
        assert opened != "/pay"
        assert not opened.startswith("/pay/")


def test_something_would_get_past_it_without_a_canonical_form() -> None:
    assert "/pay/x" in servers_would_open("/a/..;/%70ay%2fx")


@settings(deadline=None)
@given(PATHS)
def test_the_form_is_a_fixed_point_and_means_the_same(path: str) -> None:
    canonical = canonical_path(path)
    if canonical is not None:
        assert canonical_path(canonical) == canonical
        assert unicodedata.normalize("NFC", unquote(path)) == unquote(canonical)
        assert canonical.isascii()
        assert "*" not in canonical


@settings(deadline=None)
@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="/\\;%."), min_size=1))
def test_every_spelling_of_a_name_has_the_same_form(name: str) -> None:
    if ";" in unicodedata.normalize("NFC", name):
        return
    everything = "".join(f"%{byte:02x}" for byte in name.encode())
    decomposed = quote(unicodedata.normalize("NFD", name), safe="")
    forms = {
        canonical_path("/" + spelt)
        for spelt in (quote(name, safe=""), quote(name, safe="!$&'()*+,=:@"), everything, decomposed)
    }
    assert len(forms) == 1
    assert None not in forms


SAME_HOST = [
    ("a", "a"),
    ("A.Example", "a.example"),
    ("a.example.", "a.example"),
    ("A.EXAMPLE.", "a.example"),
    ("xn--BCHER-kva.example", "xn--bcher-kva.example"),
    ("a-b.c--d.example", "a-b.c--d.example"),
    ("_dmarc.example", "_dmarc.example"),
    ("1a", "1a"),
    ("1.2.3.4.example", "1.2.3.4.example"),
    ("0x7f.example", "0x7f.example"),
    ("127.0.0.1", "127.0.0.1"),
    ("[::1]", "::1"),
    ("[2001:DB8:0:0:0:0:0:1]", "2001:db8::1"),
    ("[::102:304]", "::102:304"),
    ("a" * 63, "a" * 63),
    (".".join(["a" * 63] * 3 + ["b" * 61]), ".".join(["a" * 63] * 3 + ["b" * 61])),
]


@pytest.mark.parametrize(("host", "canonical"), SAME_HOST)
def test_a_host_has_one_form(host: str, canonical: str) -> None:
    assert canonical_host(host) == canonical


NO_HOST = [
    *(
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a..",
        "-a",
        "a-",
        "a.-b",
        "a.b-",
        "a b",
        " a",
        "a ",
        "a\n",
        "a\x00",
        "a%",
        "a/b",
        "a@b",
        "a:1",
    ),
    *("*", "*.a", "a*", "ä", "bücher.example", "\u2024", "a。b", "ａ", "\u212a", "a\u200b", "ſ", "İ", "a\u00ad"),
    *("a" * 64, ".".join(["a" * 63] * 4), "a." * 126 + "aa"),
    *(
        "2130706433",
        "0177.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7f000001",
        "0x",
        "0",
        "1",
        "127.0.0.1.",
        "1.",
    ),
    *("127.0.0.01", "127.0.0.256", "1.2.3.4.5", "a.1", "a.0x1", "a.0X", "00.0.0.0", "0.0.0.00", "1."),
    *(
        "::1",
        "[::1",
        "::1]",
        "[]",
        "[:]",
        "[::1]x",
        "[[::1]]",
        "[::ffff:1.2.3.4]",
        "[::ffff:102:304]",
        "[::FFFF:1.2.3.4]",
    ),
    *("[fe80::1%1]", "[fe80::1%eth0]", "[fe80::1%25eth0]", "[1.2.3.4]", "[a]", "[v1.x]", "[::g]", "[::1 ]", "[ ::1]"),
]


@pytest.mark.parametrize("host", NO_HOST)
def test_a_host_that_has_no_form(host: str) -> None:
    assert canonical_host(host) is None


@settings(deadline=None)
@given(st.from_regex(r"[A-Za-z0-9._\[\]:-]{1,30}", fullmatch=True))
def test_a_hosts_form_is_a_fixed_point(host: str) -> None:
    canonical = canonical_host(host)
    if canonical is not None:
        assert canonical_host(f"[{canonical}]" if ":" in canonical else canonical) == canonical
