"""JSON texts by class, in the manner of the public parsing corpora: must be read (y), must be refused (n), either (i).

Generated from the grammar and from what people get wrong, so that each class has all its members and not one example.
"""

import itertools
from collections.abc import Iterable, Iterator

Texts = Iterable[bytes]

SPACES = ["", " ", "\t", "\n", "\r", " \r\n\t "]
SCALARS = ["null", "true", "false", "0", "-1.5e3", '""', '"a"', "[]", "{}"]
GOOD = ['{"a":[1,{"b":null},"c"],"d":{"e":true}}', '[[],{},"",0,{"x":[{"y":[]}]}]', '{"":""}', "[1,2,3]"]
FOREIGN_SPACES = ["\x0b", "\x0c", "\xa0", "\u2028", "\u2060", "\u3000", "\ufeff", "\x00", "\x85"]
INTS, FRACTIONS = ["0", "7", "10", "123456789012"], ["", ".0", ".5", ".000123"]
EXPONENTS = ["", "e1", "E1", "e+1", "e-1", "E-10", "e05", "e+00", "e290", "e-290"]


def _bytes(texts: Iterable[str]) -> Iterator[bytes]:
    return (text.encode("utf-8", "surrogatepass") for text in texts)


def numbers() -> Texts:
    """Every shape of number."""
    return _bytes("".join(parts) for parts in itertools.product(["", "-"], INTS, FRACTIONS, EXPONENTS))


def spaces() -> Texts:
    """White space wherever the grammar has it."""
    return _bytes(
        template.replace("_", space)
        for space in SPACES
        for template in [
            "_1_",
            "_[_]_",
            "_{_}_",
            "_[_1_,_2_]_",
            '_{_"a"_:_1_,_"b"_:_[_]_}_',
            '_"a"_',
            "_null_",
        ]
    )


def strings() -> Texts:
    """Every escape, every control character escaped, characters of every length, and what only looks special."""
    plain = [
        "a",
        "\x7f",
        "\x80",
        "é",
        "\u07ff",
        "\u0800",
        "\uffff",
        "\U00010000",
        "\U0010ffff",
        "\ufdd0",
        "\u2028",
        "\u200b",
    ]
    escapes = [f"\\{letter}" for letter in '"\\/bfnrt']
    escapes += [
        f"\\u{code:04{form}}" for code in [*range(1, 0x20), 0x22, 0x5C, 0x7F, 0xE9, 0xFFFF] for form in "xX"
    ]
    escapes += ["\\ud83d\\ude00", "\\uD83D\\uDE00", "\\\\u0000", "\\udbff\\udfff"]
    likely = ["/* c */", "// c", "{}[]:,", "NaN", "\\\\", '\\"', "x" * 1000]
    return _bytes(
        f'"{before}{text}{after}"'
        for text in plain + escapes + likely
        for before, after in [("", ""), ("x", "y")]
    )


def structures() -> Texts:
    """Scalars alone, nested, repeated."""
    yield from _bytes(SCALARS)
    yield from _bytes(f"[{one},{two}]" for one, two in itertools.product(SCALARS, repeat=2))
    yield from _bytes(f'{{"a":{one},"a":{two}}}' for one, two in itertools.product(SCALARS, repeat=2))
    yield from _bytes("[" * depth + "]" * depth for depth in (1, 2, 50, 95))
    yield from _bytes('{"a":' * depth + "1" + "}" * depth for depth in (1, 2, 50, 95))


Y = {"numbers": numbers, "spaces": spaces, "strings": strings, "structures": structures}


def broken_numbers() -> Texts:
    """What other notations call a number."""
    shapes = [
        "+1", "-", "--1", "-+1", "+", ".5", "-.5", "5.", "5.e1", "-5.", "01", "-01", "00", "1.2.3", "1e",
        "1E", "1e+", "1e-", "1eE2", "1e1.5", "1.e", "0x1F", "0b1", "0o7", "1_000", "1 000", "1,5e", "1f",
        "1n", "1L", "Infinity", "-Infinity", "+Infinity", "Inf", "-Inf", "NaN", "-NaN", "nan", "inf",
        "1/2", "1+2", "½", "１", "٣", "1a", "-a", "- 1", "1e 1", "$1", "1%", "−1", "1'000", "0e", "0e+",
        "0E-", ".", "-.", "e1", ".e1", "1..2", "1ee2", "0.3e+", "2.e+3", "9.e+", "0.e1",
    ]  # fmt: skip
    yield from _bytes(shapes)
    yield from (b"1\xff", b"1e1\xe5", b"-\xe2\x88\x9e", b"0.\xd9\xa1", b"1\x00")


def broken_strings() -> Texts:
    """Quotes, escapes and control characters that JSON does not have."""
    yield from _bytes(f'"a{chr(code)}b"' for code in range(0x20))
    yield from _bytes(f'"\\{letter}"' for letter in "ax0'1UeNvé\n\t😀")
    digits = ["", "1", "12", "123", "00g0", " 041", "+041", "0x41", "{41}", "００４１", "12 4"]
    yield from _bytes(f'"\\u{text}"' for text in digits)
    yield from _bytes([
        "'a'", "`a`", "“a”", '"a', 'a"', '"', '"""', '"\\"', '"\\', '"\\u', '"\\ud83d\\',
        '"\\ud83d\\u"', '"\\ud83d\\u12"', "a",
        '"a" "b"', '"a"b', '"a\'', "\\u0022a\\u0022", '\\"a\\"',
    ])  # fmt: skip
    yield from (b'"\\\xff"', b'"\\u\xe5"', b'"\\u12\xff4"')


def broken_literals() -> Texts:
    """Words, comments and names that are none."""
    yield from _bytes([
        "True", "TRUE", "False", "None", "nil", "NULL", "Null", "undefined", "tru", "truee", "nul",
        "nulll", "fals", "t", "n", "f", "t rue", "yes", "*", "@", "#", "<x>", "<null>", "é", "/", "\\",
        "?", "()", "(1)", "//", "/**/", "1//", "1/**/", "/*x*/1", "#1", "1#", "--", ";", "&", "|", "~",
        "^", "!", "{]", "[}",
    ])  # fmt: skip


def cut() -> Texts:
    """Good texts that end too early, anywhere, also in the middle of a character."""
    for text in [*GOOD, '["é😀"]', "[-1.5e+10,true]", '["\\u00e9\\ud83d\\ude00"]']:
        whole = text.encode()
        yield from (whole[:at] for at in range(len(whole)))


def one_character_wrong() -> Texts:
    """Good texts with each character left out, doubled, or replaced by one that means something elsewhere."""
    for text in GOOD:
        for at in range(len(text)):
            yield from _bytes([text[:at] + text[at + 1 :], text[:at] + text[at] + text[at:]])
            yield from _bytes(text[:at] + other + text[at + 1 :] for other in "[]{}:,\";'0 \\")


def something_after() -> Texts:
    """Good texts with more behind them or in front."""
    more = ["x", ",", ":", "]", "}", "1", '"', "[]", "{}", "//", "#", "\x00", ";", "\\n", "/**/", "true"]
    yield from _bytes(f"{text}{rest}" for text in [*SCALARS, *GOOD] for rest in more)
    yield from _bytes(f"{rest}{text}" for text in [*SCALARS, *GOOD] for rest in more)


def foreign_spaces() -> Texts:
    """Characters that are white space somewhere else."""
    places = ["_", "_1", "1_", "[_]", "[1_,2]", "[1,_2]", '{_"a":1}', '{"a"_:1}', '{"a":_1}', '{"a":1_}']
    return _bytes(place.replace("_", space) for space in FOREIGN_SPACES for place in places)


def members() -> Texts:
    """Objects and arrays with the wrong thing between or in place of their members."""
    yield from _bytes([
        "[,]", "[,1]", "[1,]", "[1,,2]", "[,,]", "[1 2]", "[1;2]", "[1:2]", '["a":1]', "[1", "1]", "[[1]",
        "[1]]", "{,}", '{,"a":1}', '{"a":1,}', '{"a":1,,"b":2}', '{"a" 1}', '{"a"}', '{"a":}', '{"a"::1}',
        '{"a",1}', '{"a";1}', "{:1}", "{1:1}", "{null:1}", "{[]:1}", "{{}:1}", "{a:1}", "{'a':1}",
        '{"a":1 "b":2}', '{"a":1;"b":2}', '{"a":1', '"a":1}', '{"a":1}}', '{{"a":1}', '{"a":1]', "[1}",
        '{"a":"b":"c"}', '{"a"=1}', '{"a"=>1}', "{🇨🇭}", '{"a":a}', '{"a":1,"b"}', "{null:null,null:null}",
        '{"id":0,,,,,}', '{"a"/**/:1}', "[1,\n1\n,1", "[\n1,\n",
    ])  # fmt: skip


N = {
    "numbers": broken_numbers,
    "strings": broken_strings,
    "literals": broken_literals,
    "cut": cut,
    "one character wrong": one_character_wrong,
    "something after": something_after,
    "foreign spaces": foreign_spaces,
    "members": members,
}


def large_numbers() -> Texts:
    """Beyond what a double, or anything, can hold."""
    texts = [
        "1e309", "1e400", "1e999999999999", "0e999999999999", "1e-400", "1e-999999999999", "123e-10000000",
        "9" * 400, "0." + "0" * 400 + "1", "1" + "0" * 308 + ".0", "1.5e+9999",
        "0.4e00669999999999999999999999999999999999999999",
    ]  # fmt: skip
    return _bytes(sign + text for sign in ("", "-") for text in texts)


def surrogates() -> Texts:
    """Halves of pairs, escaped and encoded, alone, reversed, followed by the wrong thing."""
    halves = ["\\ud800", "\\uDBFF", "\\udc00", "\\uDFFF"]
    rests = ["", "a", "\\n", "\\u0041", "\\ud800", "😀"]
    yield from _bytes(f'"{before}{half}{rest}"' for half in halves for rest in rests for before in ("", "x"))
    yield from _bytes(f'{{"{half}":1}}' for half in halves)
    yield from _bytes(f'"{chr(code)}"' for code in (0xD800, 0xDBFF, 0xDC00, 0xDFFF))


def broken_encoding() -> Texts:
    """Bytes that are not UTF-8, inside and outside of strings; other encodings; byte order marks."""
    bad = [
        b"\xff", b"\x80", b"\xc0\xaf", b"\xc1\x81", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf",
        b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\xe9",
        b"\xfc\x83\xbf\xbf\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80",
    ]  # fmt: skip
    for piece in bad:
        yield from (
            b'"%b"' % piece,
            b'"a%bb"' % piece,
            b'{"%b":1}' % piece,
            b"[%b]" % piece,
            piece,
            b"1%b" % piece,
        )
    for text in GOOD:
        yield from (
            text.encode(coding) for coding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig")
        )


def deep() -> Texts:
    """Depths around the limit and far beyond, closed and not."""
    for depth in (97, 98, 99, 100, 101, 102, 500, 1025, 100_000):
        yield b"[" * depth + b"]" * depth
        yield b"[" * depth
        yield b"]" * depth
        yield b'{"a":' * depth + b"1" + b"}" * depth
        yield b'[{"":' * depth
        yield b'"' + b"[" * depth + b'"'


def nul() -> Texts:
    """U+0000, which JSON may escape and Postgres cannot store."""
    return _bytes(
        [
            '"\\u0000"',
            '"a\\u0000b"',
            '{"\\u0000":1}',
            '["\\\\\\u0000"]',
            '"\\\\u0000"',
            "\x00",
            '"\x00"',
            "[\x00]",
        ]
    )


def equal_keys() -> Texts:
    """The same name twice, also in different spellings."""
    spellings = ['"a"', '"\\u0061"', '"\\u0061"']
    return _bytes(
        f"{{{one}:1,{two}:{{{one}:1,{two}:2}}}}" for one, two in itertools.product(spellings, repeat=2)
    )


I = {  # noqa: E741
    "large numbers": large_numbers,
    "surrogates": surrogates,
    "encoding": broken_encoding,
    "deep": deep,
    "nul": nul,
    "equal keys": equal_keys,
}


def hostile() -> Texts:
    """300 kB each, of what makes careless parsers slow."""
    most = 300_000
    yield b'{"a":"' + b'\\"' * (most // 2) + b"[" * 101
    yield b'["' + b"\\" * most + b"[" * 101
    yield b"[" * 101 + b'"' * most
    yield b'["' + b"[" * most
    yield from (b"[" * most, b"]" * most, b"[" * (most // 2) + b"]" * (most // 2), b'{"":' * (most // 4))
    yield b"[" + b"[]," * (most // 3) + b"[]]"
    yield b"{" + b",".join(b'"%d":1' % n for n in range(most // 9)) + b"}"
    yield b"{" + b'"a":1,' * (most // 6) + b'"a":1}'
    yield b'{"a":{"a":1},' + b'"b":[{"c":1,"c":1}],' * (most // 20) + b'"a":1}'
    yield from (b"9" * most, b"-0." + b"9" * most, b"1e" + b"9" * most, b"1e-" + b"0" * most + b"1")
    yield b"[" + b"1e5," * (most // 4) + b"1e5]"
    yield b'"' + b"\\u0041" * (most // 6) + b'"'
    yield b'"' + b"\\ud83d\\ude00" * (most // 12) + b'"'
    yield b'"' + b": ,e1" * (most // 5) + b'"'
    yield b" " * most + b"1"
    yield b"[1," + b" " * most + b"2]"
    yield b'"' + "é".encode() * (most // 2) + b'"'
    yield b'"' + b"\xff" * most + b'"'
