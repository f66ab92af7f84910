"""What a file is, by its first bytes: for messages about files of another kind than the one that is read."""

from oscar_paddle.datasets.formats.reading import reading

_PICTURES = {  # how they begin, as their specifications say
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n": "PNG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}


def describe(head):
    """What the first bytes of a file say it is, if they are known and no pickle; else None."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    picture = next((kind for start, kind in _PICTURES.items() if head.startswith(start)), "")
    picture = "WebP" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else picture
    picture = "BMP" if head[:2] == b"BM" and head[6:10] == bytes(4) else picture
    known = (
        (not head, "an empty file"),
        (not head.strip(b"\0") and len(head) > 8, "zero bytes only, as an interrupted download leaves them"),
        (picture, f"a picture ({picture})"),
        (text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")), "an HTML page (a refused download?)"),
        (text.startswith(b"<"), "an XML document (a refused download?)"),
        (text.startswith(b"version https://git-lfs"), "a Git LFS pointer; `git lfs pull` fetches the file itself"),
        (text[:1] in (b"{", b"["), "JSON text"),
        (head[4:9] == b"\0\0\0\0{", "a safetensors file"),
        (head[:2] == b"\x1f\x8b", "a gzip archive; unpack it first"),
        (head[:1] != b"\x80" and head[257:262] == b"ustar", "a tar archive; unpack it first"),
        (head[:6] == b"\x93NUMPY", "a NumPy .npy file"),
        (head[:4] == b"PK\x03\x04", "a zip archive (.zip, .npz, or a .pt of torch.save)"),
        (head[:2] == b"PK", "an empty or split zip archive"),
        (head[:8] == b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (head[16:20] == b"\xde\xc0\xef\xbe", "an LMDB database"),
        (head[:4] == b"PAR1", "a Parquet file"),
        (head[:14] == b"OSCAR-PACKED-1", "a packed store of regions; its name must end with .packed"),
        (head[:8] == bytes(8), "Paddle's binary tensor format (.pdiparams)"),
    )
    return next((what for matches, what in known if matches), None)


def foreign(path):
    """What a file is that is known and no table, or None (DataError if it cannot be opened)."""
    with reading(path), open(path, "rb") as file:
        head = file.read(4096)
    if not head.strip(b"\r\n\t "):
        return None
    return describe(head) or ("a pickle (.pkl, or a .pt or .pd of tensors)" if head[:1] == b"\x80" else None)
