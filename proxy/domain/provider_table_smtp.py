"""The SMTP servers of known providers that take their customers' outgoing mail.

Every entry is from the pages that the provider's `sources` name, mostly Thunderbird's directory.
"""

from __future__ import annotations

from proxy.domain.provider import OutgoingServer

OUTGOING = {
    "gmail": OutgoingServer("smtp.gmail.com"),
    "outlook": OutgoingServer("smtp-mail.outlook.com", 587, "starttls"),
    "microsoft365": OutgoingServer("smtp.office365.com", 587, "starttls"),
    "yahoo": OutgoingServer("smtp.mail.yahoo.com"),
    "aol": OutgoingServer("smtp.aol.com"),
    "fastmail": OutgoingServer("smtp.fastmail.com"),
    "mail.ru": OutgoingServer("smtp.mail.ru"),
    "gmx": OutgoingServer("mail.gmx.net"),
    "gmx-com": OutgoingServer("mail.gmx.com"),
    "web.de": OutgoingServer("smtp.web.de"),
    "yandex": OutgoingServer("smtp.yandex.com"),
    "qq": OutgoingServer("smtp.qq.com"),
    "zoho": OutgoingServer("smtp.zoho.com"),
    "zoho-eu": OutgoingServer("smtp.zoho.eu"),
    "zoho-in": OutgoingServer("smtp.zoho.in"),
    "zoho-business": OutgoingServer("smtppro.zoho.com"),
    "t-online": OutgoingServer("securesmtp.t-online.de"),
    "ionos": OutgoingServer("smtp.1und1.de"),
    "strato": OutgoingServer("smtp.strato.de"),
    "posteo": OutgoingServer("posteo.de"),
    "mailbox-org": OutgoingServer("smtp.mailbox.org"),
    "vodafone-de": OutgoingServer("smtp.vodafonemail.de"),
    "bluewin": OutgoingServer("smtpauths.bluewin.ch"),
    "orange": OutgoingServer("smtp.orange.fr"),
    "free": OutgoingServer("smtp.free.fr"),
    "sfr": OutgoingServer("smtp.sfr.fr"),
    "laposte": OutgoingServer("smtp.laposte.net"),
    "ovh": OutgoingServer("ssl0.ovh.net"),
    "gandi": OutgoingServer("mail.gandi.net"),
    "libero": OutgoingServer("smtp.libero.it"),
    "virgilio": OutgoingServer("out.virgilio.it"),
    "tiscali": OutgoingServer("smtp.tiscali.it"),
    "bt": OutgoingServer("mail.btinternet.com"),
    "sky": OutgoingServer("smtp.tools.sky.com"),
    "virgin-media": OutgoingServer("smtp.virginmedia.com"),
    "telstra": OutgoingServer("smtp.telstra.com"),
    "comcast": OutgoingServer("smtp.comcast.net"),
    "att": OutgoingServer("outbound.att.net"),
    "earthlink": OutgoingServer("smtpauth.earthlink.net", 587, "starttls"),
    "seznam": OutgoingServer("smtp.seznam.cz"),
    "wp": OutgoingServer("smtp.wp.pl"),
    "o2-pl": OutgoingServer("poczta.o2.pl"),
    "onet": OutgoingServer("smtp.poczta.onet.pl"),
    "naver": OutgoingServer("smtp.naver.com"),
}
"""By the provider's name; no source says it of the others."""
