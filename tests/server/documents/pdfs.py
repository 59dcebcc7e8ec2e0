"""Small PDF files, written by hand."""

import io

import pypdf
from pypdf.generic import NameObject, StreamObject


def pdf(*pages: str) -> bytes:
    """A PDF with a line of text on each page, or a page with nothing on it for an empty one."""
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for index, text in enumerate(pages):
        shown = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
        objects += [
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {5 + 2 * index} 0 R >>",
            f"<< /Length {len(shown)} >>\nstream\n{shown}\nendstream",
        ]
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n".encode()
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    return (
        body
        + (
            f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
            f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
        ).encode()
    )


def endless() -> bytes:
    """A small PDF that takes minutes to read: a page of ten million operators."""
    return _with_a_page_of(b"BT ET " * 5_000_000)


def unpacking_to(size: int) -> bytes:
    """A small PDF with a page of so many bytes."""
    return _with_a_page_of(b" " * size)


def _with_a_page_of(operators: bytes) -> bytes:
    content = StreamObject()
    content.set_data(operators)
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf("")))
    writer.pages[0][NameObject("/Contents")] = writer._add_object(content.flate_encode())
    return _written(writer)


def encrypted(content: bytes, password: str, algorithm: str) -> bytes:
    """The same, to be opened with `password`."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(content))
    writer.encrypt(password, "the owner's", algorithm=algorithm)
    return _written(writer)


def _written(writer: pypdf.PdfWriter) -> bytes:
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()
