"""Sample mail for the demo: made up, small, of the kinds people get."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP

_SAMPLES = (
    ("Ada", "Lunch on Friday?", "Shall we try the new place by the river?\n\nAda\n"),
    ("City library", "Your loan is due", "Two books are due back on Monday.\n"),
    (
        "Grandma",
        "Apple pie",
        "500 g flour\n250 g butter\n1 kg apples\n.\n. bake for an hour, as ever\n",
    ),
    ("Weekly letter", "What is new in the garden", "The first frost is near. Cover the roses.\n"),
    ("José", "Fotos de Año Nuevo", "¡Mira qué fotos tan bonitas! 🎆\n"),
)

LATE_MAIL = ("Ada", "Re: Lunch on Friday?", "Make it half past twelve.\n")


def compose(sender: str, subject: str, text: str, number: int) -> bytes:
    """A mail as it lies in a mailbox, CRLF line ends."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = f"{sender} <sender{number}@example.org>"
    mail["To"] = "Demo <demo@example.com>"
    mail["Subject"] = subject
    mail["Date"] = f"Mon, 02 Nov 2026 08:{number:02}:00 +0000"
    mail["Message-ID"] = f"<demo-{number}@example.org>"
    mail.set_content(text)
    return mail.as_bytes()


def samples() -> list[bytes]:
    return [compose(*sample, number) for number, sample in enumerate(_SAMPLES, 1)]
