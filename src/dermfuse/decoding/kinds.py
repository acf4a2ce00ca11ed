"""What a file is that is not read, and what to do about it: told by its first bytes."""

import re

_SAVE = "Save the image as JPEG or PNG"
_BRANDS = {
    b"avif": "an AVIF image", b"avis": "an AVIF image sequence",
    b"heic": "a HEIC image", b"heix": "a HEIC image", b"heim": "a HEIC image",
    b"heis": "a HEIC image", b"hevc": "a HEIC image sequence", b"hevx": "a HEIC image sequence",
    b"mif1": "a HEIF image", b"msf1": "a HEIF image sequence",
    b"crx ": "a Canon raw photograph (CR3)",
    b"jp2 ": "a JPEG 2000 image", b"jpx ": "a JPEG 2000 image", b"jph ": "a JPEG 2000 image",
    b"jxl ": "a JPEG XL image",
}  # fmt: skip
_PHONE = (
    "Save the image as JPEG or PNG (an iPhone sends JPEG with Settings, Camera, Formats, "
    "Most Compatible)"
)
_MAGIC = (
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"II\xbc\x01", "a JPEG XR image"),
    (b"8BPS", "a Photoshop document"),
    (b"FUJIFILMCCD-RAW", "a Fujifilm raw photograph"),
    (b"IIRO", "an Olympus raw photograph"),
    (b"IIU\0", "a Panasonic raw photograph"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"SIMPLE  =", "a FITS image"),
    (b"\0\0\x01\0", "an icon"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
)
_ARCHIVE = "Unpack it and name the images in it"


def name_kind(head: bytes) -> tuple[str, str]:
    r"""Returns what a file that begins with these bytes is and what to do, or two empty texts.

    Args:
        head: 64 bytes or more, fewer if the file is shorter.

    Example:
        >>> name_kind(b"\0\0\0\x18ftypavif")[0]
        'an AVIF image'
        >>> name_kind(b"text")
        ('', '')
    """
    if head[4:8] == b"ftyp":
        return _by_brands(head)
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found, _ARCHIVE if found.endswith("archive") else _SAVE
    if re.match(rb"P[1-7]\s", head):
        return "a Netpbm image", _SAVE
    if head.lstrip()[:5].lower() in (b"<?xml", b"<svg ", b"<html", b"<!doc"):
        return "a text document (XML, SVG or HTML)", _SAVE
    return "", ""


def _by_brands(head: bytes) -> tuple[str, str]:
    """Names a file of boxes by its major brand, else by the first compatible one that is known."""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, length - 3, 4))]
    brands.sort(key=lambda brand: brand in (b"mif1", b"msf1"))  # last: these say "picture" alone
    for brand in brands:
        if brand in _BRANDS:
            found = _BRANDS[brand]
            return found, _PHONE if "HEI" in found else _SAVE
    return "a film or a sound (MPEG-4 or QuickTime)", "Export one frame of it as PNG"
