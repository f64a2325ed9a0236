"""Providers whose POP3 is known: where it is, how to log in, and what is odd about it.

Each entry names its sources: the provider's own page, and where there is one the entry of the
directory that Thunderbird uses. What no source says is not said here. docs/providers.md is made
from this table.
"""

from __future__ import annotations

from proxy.domain.policy import MINUTE
from proxy.domain.provider import OAuthServer, Provider

_ISPDB = "https://github.com/thunderbird/autoconfig/blob/master/ispdb/"


GOOGLE = OAuthServer(
    "https://accounts.google.com/o/oauth2/v2/auth",
    "https://oauth2.googleapis.com/token",
    "https://mail.google.com/",
)
MICROSOFT = OAuthServer(
    "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
    "https://login.microsoftonline.com/common/oauth2/v2.0/token",
    "https://outlook.office.com/POP.AccessAsUser.All offline_access",
    "https://login.microsoftonline.com/common/oauth2/v2.0/devicecode",
)
YAHOO = OAuthServer(
    "https://api.login.yahoo.com/oauth2/request_auth",
    "https://api.login.yahoo.com/oauth2/get_token",
    "mail-r",
)

_MICROSOFT_OAUTH = (
    "https://learn.microsoft.com/exchange/client-developer/legacy-protocols/"
    "how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth"
)
_SWITCH_ON = "POP3 has to be switched on in the settings of the web mail."
_MAKE_ONE = "Make a password for this program in the security settings of the account."
_CODE = "The password is the authorization code that the web mail makes for other programs."

_ALL = (
    Provider(
        name="gmail",
        title="Gmail, Google Workspace",
        domains=("gmail.com", "googlemail.com", "google.com"),
        host="pop.gmail.com",
        login="oauth",
        oauth=GOOGLE,
        retr_hides=True,
        hints=(
            "POP has to be switched on under Settings, Forwarding and POP/IMAP.",
            "Shows some 250 messages at a time, oldest first; what was fetched is not shown again.",
            'A username of "recent:" and the address shows all mail of the last 30 days instead.',
            "Private accounts with 2-step verification may use an app password; Workspace may not.",
        ),
        sources=(
            "https://support.google.com/mail/answer/7104828",
            "https://support.google.com/a/answer/6089246",
            "https://developers.google.com/identity/protocols/oauth2/native-app",
            _ISPDB + "googlemail.com.xml",
        ),
    ),
    Provider(
        name="outlook",
        title="Outlook.com, Hotmail, Live, MSN",
        domains=("outlook.com", "hotmail.com", "live.com", "msn.com", "windowslive.com"),
        host="outlook.office365.com",
        login="oauth",
        oauth=MICROSOFT,
        hints=("POP has to be switched on under Settings, Mail, Forwarding and IMAP.",),
        sources=(
            "https://support.microsoft.com/office/"
            "pop-imap-and-smtp-settings-for-outlook-com-d088b986-291d-42b8-9564-9c414e2aa040",
            _MICROSOFT_OAUTH,
            _ISPDB + "hotmail.com.xml",
        ),
    ),
    Provider(
        name="microsoft365",
        title="Microsoft 365",
        domains=("office365.com", "onmicrosoft.com"),
        host="outlook.office365.com",
        login="oauth",
        oauth=MICROSOFT,
        hints=("An administrator may have switched POP off for the mailbox.",),
        sources=(_MICROSOFT_OAUTH, _ISPDB + "office365.com.xml"),
    ),
    Provider(
        name="yahoo",
        title="Yahoo",
        domains=(
            *("yahoo.com", "yahoo.de", "yahoo.fr", "yahoo.it", "yahoo.es", "yahoo.co.uk"),
            *("yahoo.ca", "yahoo.com.br", "yahoo.co.in", "ymail.com", "rocketmail.com"),
        ),
        host="pop.mail.yahoo.com",
        login="app-password",
        oauth=YAHOO,
        hints=(_MAKE_ONE, "OAuth 2.0 is for programs that Yahoo has approved."),
        sources=(
            "https://help.yahoo.com/kb/SLN4724.html",
            "https://help.yahoo.com/kb/SLN15241.html",
            _ISPDB + "yahoo.com.xml",
        ),
    ),
    Provider(
        name="aol",
        title="AOL",
        domains=("aol.com", "aim.com", "aol.de", "aol.fr", "aol.co.uk", "netscape.net"),
        host="pop.aol.com",
        login="app-password",
        hints=(_MAKE_ONE,),
        sources=(
            "https://help.aol.com/articles/"
            "how-do-i-use-other-email-applications-to-send-and-receive-my-aol-mail",
            _ISPDB + "aol.com.xml",
        ),
    ),
    Provider(
        name="gmx",
        title="GMX (Germany, Austria, Switzerland)",
        domains=("gmx.net", "gmx.de", "gmx.at", "gmx.ch", "gmx.eu", "gmx.org", "gmx.info"),
        host="pop.gmx.net",
        hints=(_SWITCH_ON,),
        sources=("https://hilfe.gmx.net/pop-imap/", _ISPDB + "gmx.net.xml"),
    ),
    Provider(
        name="gmx-com",
        title="GMX (international)",
        domains=("gmx.com", "gmx.us", "gmx.co.uk", "gmx.fr", "gmx.es", "gmx.ca"),
        host="pop.gmx.com",
        hints=(_SWITCH_ON,),
        sources=("https://support.gmx.com/pop-imap/", _ISPDB + "gmx.com.xml"),
    ),
    Provider(
        name="web.de",
        title="web.de",
        domains=("web.de",),
        host="pop3.web.de",
        local_part=True,
        login_interval=15 * MINUTE,
        hints=(_SWITCH_ON, "Free mailboxes take one login in 15 minutes."),
        sources=("https://hilfe.web.de/pop-imap/", _ISPDB + "web.de.xml"),
    ),
    Provider(
        name="t-online",
        title="T-Online",
        domains=("t-online.de", "magenta.de"),
        host="securepop.t-online.de",
        hints=("The password is the one for e-mail programs, set in the customer centre.",),
        sources=(
            "https://www.telekom.de/hilfe/apps-dienste/e-mail/einstellungen/"
            "posteingang-postausgang-server",
            _ISPDB + "t-online.de.xml",
        ),
    ),
    Provider(
        name="orange",
        title="Orange (France)",
        domains=("orange.fr", "wanadoo.fr"),
        host="pop.orange.fr",
        sources=("https://assistance.orange.fr/", _ISPDB + "orange.fr.xml"),
    ),
    Provider(
        name="free",
        title="Free (France)",
        domains=("free.fr",),
        host="pop.free.fr",
        local_part=True,
        sources=(
            "https://assistance.free.fr/articles/"
            "configurer-de-maniere-avancee-mon-logiciel-de-messagerie-609",
            _ISPDB + "free.fr.xml",
        ),
    ),
    Provider(
        name="comcast",
        title="Comcast, Xfinity",
        domains=("comcast.net",),
        host="mail.comcast.net",
        hints=("Access by other programs has to be allowed in the security settings.",),
        sources=(
            "https://www.xfinity.com/support/articles/third-party-email-access",
            _ISPDB + "comcast.net.xml",
        ),
    ),
    Provider(
        name="qq",
        title="QQ Mail",
        domains=("qq.com", "foxmail.com"),
        host="pop.qq.com",
        login="app-password",
        hints=(_SWITCH_ON, _CODE),
        sources=("https://service.mail.qq.com/", "https://blog.zhheo.com/p/6124d6aa.html"),
    ),
    Provider(
        name="163",
        title="NetEase 163",
        domains=("163.com",),
        host="pop.163.com",
        login="app-password",
        hints=(_SWITCH_ON, _CODE),
        sources=("https://help.mail.163.com/",),
    ),
    Provider(
        name="126",
        title="NetEase 126",
        domains=("126.com",),
        host="pop.126.com",
        login="app-password",
        hints=(_SWITCH_ON, _CODE),
        sources=("https://help.mail.163.com/",),
    ),
    Provider(
        name="zoho",
        title="Zoho Mail",
        domains=("zoho.com", "zohomail.com"),
        host="pop.zoho.com",
        hints=(_SWITCH_ON, "With two-factor authentication an app password is needed."),
        sources=("https://www.zoho.com/mail/help/pop-access.html", _ISPDB + "zoho.com.xml"),
    ),
    Provider(
        name="zoho-eu",
        title="Zoho Mail (Europe)",
        domains=("zoho.eu", "zohomail.eu"),
        host="pop.zoho.eu",
        hints=(_SWITCH_ON, "With two-factor authentication an app password is needed."),
        sources=("https://www.zoho.com/mail/help/pop-access.html", _ISPDB + "zoho.eu.xml"),
    ),
    Provider(
        name="fastmail",
        title="Fastmail",
        domains=("fastmail.com", "fastmail.fm"),
        host="pop.fastmail.com",
        login="app-password",
        hints=(_MAKE_ONE,),
        sources=("https://www.fastmail.help/hc/en-us/articles/1500000279921",),
    ),
    Provider(
        name="yandex",
        title="Yandex",
        domains=("yandex.ru", "yandex.com", "yandex.by", "yandex.kz", "ya.ru", "narod.ru"),
        host="pop.yandex.com",
        login="app-password",
        hints=(_SWITCH_ON, _MAKE_ONE),
        sources=(
            "https://yandex.com/support/mail/mail-clients/others.html",
            _ISPDB + "yandex.ru.xml",
        ),
    ),
    Provider(
        name="mail.ru",
        title="Mail.ru",
        domains=("mail.ru", "inbox.ru", "list.ru", "bk.ru"),
        host="pop.mail.ru",
        login="app-password",
        hints=(_MAKE_ONE,),
        sources=("https://help.mail.ru/mail/mailer/popsmtp", _ISPDB + "mail.ru.xml"),
    ),
    Provider(
        name="posteo",
        title="Posteo",
        domains=("posteo.de", "posteo.net", "posteo.at", "posteo.ch"),
        host="posteo.de",
        sources=(
            "https://posteo.de/hilfe/"
            "wie-richte-ich-posteo-in-einem-mailprogramm-ein-pop3-imap-und-smtp",
            _ISPDB + "posteo.de.xml",
        ),
    ),
    Provider(
        name="strato",
        title="Strato",
        domains=("strato.de",),
        host="pop3.strato.de",
        sources=("https://www.strato.de/faq/mail/", _ISPDB + "strato.de.xml"),
    ),
    Provider(
        name="libero",
        title="Libero",
        domains=("libero.it", "iol.it", "blu.it", "inwind.it", "giallo.it"),
        host="popmail.libero.it",
        sources=("https://aiuto.libero.it/", _ISPDB + "libero.it.xml"),
    ),
    Provider(
        name="laposte",
        title="La Poste",
        domains=("laposte.net",),
        host="pop.laposte.net",
        local_part=True,
        sources=("https://aide.laposte.net/", _ISPDB + "laposte.net.xml"),
    ),
    Provider(
        name="seznam",
        title="Seznam",
        domains=("seznam.cz", "email.cz", "post.cz", "spoluzaci.cz"),
        host="pop3.seznam.cz",
        sources=("https://napoveda.seznam.cz/", _ISPDB + "seznam.cz.xml"),
    ),
)

PROVIDERS = {provider.name: provider for provider in _ALL}

NO_POP3 = {
    "icloud.com": "iCloud Mail has no POP3, IMAP alone: https://support.apple.com/102525",
    "me.com": "iCloud Mail has no POP3, IMAP alone: https://support.apple.com/102525",
    "mac.com": "iCloud Mail has no POP3, IMAP alone: https://support.apple.com/102525",
}
"""Domain of an address → why it cannot be had."""

_BY_DOMAIN = {domain: provider for provider in _ALL for domain in provider.domains}


def domain_of(address: str) -> str:
    """In lower case; an address without @ is a domain."""
    return address.rpartition("@")[2].rstrip(".").lower()


def provider_of(address: str) -> Provider | None:
    """By the domain of an address."""
    return _BY_DOMAIN.get(domain_of(address))


def hides_retrieved(host: str) -> bool:
    """Whether this server does not list a message again once it was retrieved."""
    return any(p.retr_hides and p.host == host.lower() for p in _ALL)
