"""Reads the document: text, Markdown or PDF, from a file or standard input."""

import codecs
import io
import logging
import sys

from longrope_server.errors import UsageError

PDF = b"%PDF-"
JUNK_BEFORE_PDF = 1024  # bytes that PDF readers skip to find a file's header


def read(name: str) -> str:
    """The text of the document `name`, a file's path or `-` for standard input.

    Raises UsageError for a document that is missing, empty, or neither UTF-8 text nor a PDF with
    text.
    """
    if name == "-":
        shown, content = "Standard input", _standard_input()
    else:
        shown, content = name, _bytes_of(name)
    return text_of_pdf(content, shown) if is_pdf(content, name) else decoded(content, shown)


def is_pdf(content: bytes, name: str) -> bool:
    """Whether `content` has a PDF's header, which may follow junk if `name` ends in .pdf."""
    if name.lower().endswith(".pdf"):
        return PDF in content[:JUNK_BEFORE_PDF]
    return content.startswith(PDF)


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise UsageError("Standard input is closed: name a text, Markdown or PDF file.")
    return sys.stdin.buffer.read()


def _bytes_of(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise UsageError(f"{name} does not exist: name a text, Markdown or PDF file.") from None
    except IsADirectoryError:
        raise UsageError(f"{name} is a directory: name one text, Markdown or PDF file.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{name!r} cannot be read: {reason}.") from None


def decoded(content: bytes, shown: str) -> str:
    """The text in UTF-8 that `content` is. shown: what an error calls the document."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(f"{shown} is UTF-16 by its byte order mark (BOM): save it as UTF-8.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_text(shown, content[error.start], error.start) from None
    if (at := content.find(b"\0")) >= 0:
        raise _not_text(shown, 0, at)
    if not text.strip():
        raise UsageError(f"{shown} is empty: give a document with text in it.")
    return text


def _not_text(shown: str, byte: int, at: int) -> UsageError:
    return UsageError(
        f"{shown} is not UTF-8 text (byte 0x{byte:02x} at offset {at:,}): give UTF-8 text, "
        "Markdown or PDF."
    )


def text_of_pdf(content: bytes, shown: str) -> str:
    """The text of the pages of a PDF. shown: what an error calls the document."""
    import pypdf
    from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it warns of damage that it has repaired
    try:
        pages = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content)).pages]
    except (DependencyError, FileNotDecryptedError):
        raise UsageError(f"{shown} is encrypted: give a copy without a password.") from None
    except (LimitReachedError, MemoryError):
        raise UsageError(
            f"{shown} unpacks to more than there is room for when a PDF is read: give its text."
        ) from None
    except Exception as error:  # a damaged file makes pypdf raise nearly anything
        raise UsageError(
            f"{shown} cannot be read as a PDF ({type(error).__name__}): give a copy that is "
            "whole, or its text."
        ) from None
    text = "\n\n".join(page for page in pages if page.strip())
    if not text:
        raise UsageError(
            f"{shown} has no text in its {len(pages):,} pages: if they are scanned, add the text "
            "with a program for character recognition first."
        )
    return text.encode(errors="replace").decode()  # a font may map to half of a surrogate pair
