"""What stands on each sheet of a PDF that Chromium wrote."""

import re
import zlib
from pathlib import Path
from unicodedata import normalize

_OBJECT = re.compile(rb"(\d+) 0 obj\n(.*?)\nendobj", re.DOTALL)
_SHOWN = re.compile(rb"/(F\d+) [\d.]+ Tf|<([0-9A-Fa-f]+)> Tj|\[(.*?)\] ?TJ", re.DOTALL)


def read_sheets(path: Path) -> list[str]:
    """Returns the letters of each sheet in the order they were drawn, without any spaces."""
    objects = {int(number): body for number, body in _OBJECT.findall(path.read_bytes())}
    tree = next(body for body in objects.values() if b"/Type /Pages" in body and b"/Kids" in body)
    kids = re.search(rb"/Kids \[(.*?)\]", tree, re.DOTALL)
    assert kids is not None
    return [_letters(objects, objects[int(kid)]) for kid in re.findall(rb"(\d+) 0 R", kids[1])]


def _letters(objects: dict[int, bytes], page: bytes) -> str:
    fonts = {
        name: _unicode(objects, objects[int(number)])
        for name, number in re.findall(rb"/(F\d+) (\d+) 0 R", page)
    }
    content = _stream(objects[int(re.search(rb"/Contents (\d+)", page)[1])])  # type: ignore[index]
    letters, font = [], {}
    for name, glyphs, row in _SHOWN.findall(content):
        if name:
            font = fonts[name]
        codes = glyphs or b"".join(re.findall(rb"<([0-9A-Fa-f]+)>", row))
        letters += [font.get(int(codes[i : i + 4], 16), "?") for i in range(0, len(codes), 4)]
    return re.sub(r"\s", "", normalize("NFKC", "".join(letters)))  # without ligatures


def _unicode(objects: dict[int, bytes], font: bytes) -> dict[int, str]:
    """Returns the letter of each glyph."""
    table = _stream(objects[int(re.search(rb"/ToUnicode (\d+)", font)[1])])  # type: ignore[index]
    found = {}
    for block in re.findall(rb"beginbfchar\n(.*?)endbfchar", table, re.DOTALL):
        for glyph, letter in re.findall(rb"<(\w+)> <(\w+)>", block):
            found[int(glyph, 16)] = bytes.fromhex(letter.decode()).decode("utf-16-be")
    for block in re.findall(rb"beginbfrange\n(.*?)endbfrange", table, re.DOTALL):
        for first, last, letter in re.findall(rb"<(\w+)> <(\w+)> <(\w+)>", block):
            for i, glyph in enumerate(range(int(first, 16), int(last, 16) + 1)):
                found[glyph] = chr(int(letter, 16) + i)
    return found


def _stream(body: bytes) -> bytes:
    packed = body.split(b"stream\n", 1)[1].rsplit(b"\nendstream", 1)[0]
    return zlib.decompress(packed)
