"""Counts in a text what the estimates are made of. The filter counts the same, in Rust."""

import numpy

UNIT = 256


def class_of(matches):
    return numpy.array([matches(byte) for byte in range(256)])


LOWER = class_of(lambda byte: 0x61 <= byte <= 0x7A)
UPPER = class_of(lambda byte: 0x41 <= byte <= 0x5A)
DIGIT = class_of(lambda byte: 0x30 <= byte <= 0x39)
SPACE = class_of(lambda byte: byte == 0x20)
CONTROL = class_of(lambda byte: byte < 0x20 or byte == 0x7F)
PUNCTUATION = class_of(lambda byte: byte < 0x80) & ~(LOWER | UPPER | DIGIT | SPACE | CONTROL)
# Characters beyond ASCII, by the first bytes of their UTF-8 encoding.
LEADS = [
    (0xC2, 0xC2), (0xC3, 0xC3), (0xC4, 0xC9), (0xCA, 0xCD), (0xCE, 0xCF), (0xD0, 0xD3), (0xD4, 0xD5), (0xD6, 0xD7), (0xD8, 0xDF), (0xE0, 0xE0),
    (0xE1, 0xE1), (0xE2, 0xE2), (0xE3, 0xE3), (0xE4, 0xE9), (0xEA, 0xED), (0xEE, 0xEF), (0xF0, 0xF4),
]  # fmt: skip
# A start is a byte after a byte of another class, or the first byte.
ASCII = ["lower", "upper", "digit", "digit start", "space", "space start", "control", "punctuation"]
NAMES = ASCII + [f"{first:02x}-{last:02x}" for first, last in LEADS]
# The number of bytes of a character.
WIDTHS = [1] * len(ASCII) + [2 if first < 0xE0 else 3 if first < 0xF0 else 4 for first, _ in LEADS]


def starts(of, text):
    member = of[text]
    return numpy.count_nonzero(member[1:] & ~member[:-1]) + int(member[:1].sum())


def features(text):
    """Returns the counts in the order of NAMES. `text` is UTF-8."""
    text = numpy.frombuffer(text, numpy.uint8)
    bytes_ = numpy.bincount(text, minlength=256)
    count = lambda of: bytes_[of].sum()
    ascii_ = [
        count(LOWER), count(UPPER), count(DIGIT), starts(DIGIT, text), count(SPACE), starts(SPACE, text), count(CONTROL), count(PUNCTUATION),
    ]  # fmt: skip
    return ascii_ + [bytes_[first : last + 1].sum() for first, last in LEADS]
