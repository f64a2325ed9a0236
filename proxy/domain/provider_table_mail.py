"""Mail providers that take a password for POP3.

Every statement is from a page in `sources`; what none says is left out.
"""

from __future__ import annotations

from proxy.domain.policy import MINUTE
from proxy.domain.provider import Provider, in_countries, ispdb

_GMX_SWITCH = (
    "Allow POP3 and IMAP once, in the settings of the mailbox; with two-factor login, log in with "
    "an application-specific password."
)
_NETEASE_CODE = (
    "Switch POP3 on in the settings of the mailbox and log in with the authorization code made "
    "there; a free account has two codes at most."
)
_ZOHO_HINTS = (
    "Switch POP on in the settings, under Mail Accounts; free accounts made since 2019 have none.",
    "With two-factor login, log in with an application-specific password.",
)
_ZOHO_PAGE = "https://www.zoho.com/mail/help/pop-access.html"


def _zoho(end: str, name: str, *domains: str) -> Provider:
    return Provider(
        name=name,
        title=f"Zoho Mail (zoho.{end})",
        domains=domains,
        host=f"pop.zoho.{end}",
        hints=_ZOHO_HINTS,
        sources=(_ZOHO_PAGE, ispdb(f"zoho.{end}")),
    )


MAIL_PROVIDERS = (
    Provider(
        name="gmx",
        title="GMX (gmx.net)",
        domains=in_countries("gmx", "net de at ch eu biz org info"),
        exchangers=("gmx.net",),
        host="pop.gmx.net",
        hints=(_GMX_SWITCH,),
        sources=("https://hilfe.gmx.net/pop-imap/einschalten.html", ispdb("gmx.net")),
    ),
    Provider(
        name="gmx-com",
        title="GMX (gmx.com)",
        domains=in_countries(
            "gmx",
            "com tm us co.uk es fr ca cn co.in com.br com.my hk ie ph pt ru se sg tw com.tr it li",
        ),
        host="pop.gmx.com",
        hints=(_GMX_SWITCH,),
        sources=("https://support.gmx.com/pop-imap/toggle.html", ispdb("gmx.com")),
    ),
    Provider(
        name="web.de",
        title="WEB.DE",
        domains=("web.de",),
        host="pop3.web.de",
        local_part=True,
        login_interval=15 * MINUTE,
        hints=(_GMX_SWITCH, "A login too early is answered like a wrong password."),
        sources=("https://hilfe.web.de/pop-imap/einschalten.html", ispdb("web.de")),
    ),
    Provider(
        name="yandex",
        title="Yandex Mail",
        domains=(
            *in_countries("yandex", "ru com net by kz ua"),
            "ya.ru",
            "narod.ru",
        ),
        exchangers=("yandex.net",),
        host="pop.yandex.com",
        login="app-password",
        hints=(
            "Switch POP3 on in the settings under Email clients, and choose the folders.",
            "Log in with an app password for mail.",
            "Yandex takes OAuth 2 for IMAP and SMTP, and does not say that it does for POP3.",
        ),
        sources=(
            "https://yandex.com/support/passport/authorization/app-passwords.html",
            "https://yandex.ru/support/mail-business/web/security/oauth.html",
            ispdb("yandex.ru"),
        ),
    ),
    Provider(
        name="qq",
        title="QQ Mail",
        domains=("qq.com", "foxmail.com"),
        host="pop.qq.com",
        login="app-password",
        hints=(
            "Switch POP3 on in the settings of the account and log in with the authorization code "
            "made there; the QQ password is not taken.",
            "Changing the QQ password ends all codes.",
        ),
        sources=(
            "https://service.mail.qq.com/cgi-bin/help?subtype=1&id=28&no=331",
            "https://cloud.kd.cn/ask/9658.html",
            "https://blog.zhheo.com/p/6124d6aa.html",
        ),
    ),
    Provider(
        name="163",
        title="NetEase 163",
        domains=("163.com",),
        host="pop.163.com",
        login="app-password",
        hints=(_NETEASE_CODE,),
        sources=(
            "https://note.lispstudio.com/dacaf276000eb6a58da4f0ecc45cd0e2",
            "https://github.com/chatmail/provider-db/blob/master/_providers/163.md",
        ),
    ),
    Provider(
        name="126",
        title="NetEase 126",
        domains=("126.com",),
        host="pop.126.com",
        login="app-password",
        hints=(_NETEASE_CODE,),
        sources=(
            "https://note.lispstudio.com/dacaf276000eb6a58da4f0ecc45cd0e2",
            "https://github.com/chatmail/provider-db/blob/master/_providers/163.md",
        ),
    ),
    _zoho("com", "zoho", "zoho.com", "zohomail.com"),
    _zoho("eu", "zoho-eu", "zoho.eu", "zohomail.eu"),
    _zoho("in", "zoho-in", "zoho.in", "zohomail.in"),
    Provider(
        name="zoho-business",
        title="Zoho Mail, own domain (zoho.com)",
        exchangers=("zoho.com",),
        host="poppro.zoho.com",
        hints=_ZOHO_HINTS,
        sources=(
            _ZOHO_PAGE,
            "https://pixelkicks.freshdesk.com/support/solutions/articles/"
            "241553-zoho-mail-pop-configuration",
        ),
    ),
)
