"""Mail providers that take OAuth 2 for POP3.

Every statement is from a page in `sources`; what none says is left out.
"""

from __future__ import annotations

from proxy.domain.provider import OAuthServer, Provider, in_countries, ispdb

_THUNDERBIRD_OAUTH = (
    "https://github.com/thunderbird/thunderbird-desktop/blob/main/"
    "mailnews/base/src/OAuth2Providers.sys.mjs"
)
_NO_NEW_CLIENTS = (
    "https://github.com/simonrob/email-oauth2-proxy/blob/main/README.md#oauth-20-client-credentials"
)

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
_MICROSOFT_OAUTH_PAGE = (
    "https://learn.microsoft.com/en-us/exchange/client-developer/legacy-protocols/"
    "how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth"
)
_OUTLOOK_COUNTRIES = {
    "outlook": (
        "com at be cl cz de dk es fr hu ie in it jp kr lv my ph pt sa sg sk co.id co.il co.th "
        "com.ar com.au com.br com.gr com.tr com.vn"
    ),
    "hotmail": (
        "com be ca cl cz de dk es fi fr gr hu it lt lv my nl no ph rs se sg sk co.id co.il co.in "
        "co.jp co.kr co.th co.uk co.za com.ar com.au com.br com.hk com.tr com.tw com.vn"
    ),
    "live": (
        "com at be ca cl cn de dk fi fr hk ie in it jp nl no ru se co.jp co.kr co.uk co.za com.ar "
        "com.au com.mx com.my com.ph com.pt com.sg"
    ),
}


def _yahoo_oauth(host: str) -> OAuthServer:
    return OAuthServer(
        f"https://{host}/oauth2/request_auth",
        f"https://{host}/oauth2/get_token",
        "mail-w",
    )


_YAHOO_APP_PASSWORD = "Log in with an app password, made under Account security."  # noqa: S105
_YAHOO_NO_CLIENTS = "New OAuth clients do not get the mail scope as things stand."

OAUTH_PROVIDERS = (
    Provider(
        name="gmail",
        title="Gmail, Google Workspace",
        domains=("gmail.com", "googlemail.com"),
        exchangers=("google.com", "googlemail.com"),
        host="pop.gmail.com",
        login="oauth",
        oauth=GOOGLE,
        retr_hides=True,
        hints=(
            "POP has to be switched on under Settings, Forwarding and POP/IMAP.",
            "Shows some 250 messages at a time, oldest first; what was fetched is not shown again, "
            "neither here nor to another POP3 program.",
            'A username of "recent:" and the address shows all mail of the last 30 days instead.',
            "Google may block a program that looks for mail more often than every ten minutes, and "
            "one that fetches more than 1250 MB in a day.",
            "Private accounts with 2-step verification may use an app password; Workspace may not.",
        ),
        sources=(
            "https://support.google.com/mail/answer/7104828",
            "https://support.google.com/a/answer/6089246",
            "https://support.google.com/mail/answer/14257",
            "https://support.google.com/a/answer/1071518",
            "https://support.google.com/accounts/answer/185833",
            "https://developers.google.com/workspace/gmail/imap/xoauth2-protocol",
            "https://developers.google.com/identity/protocols/oauth2/native-app",
            ispdb("googlemail.com"),
        ),
    ),
    Provider(
        name="outlook",
        title="Outlook.com, Hotmail, Live, MSN",
        domains=(
            *(d for name, ends in _OUTLOOK_COUNTRIES.items() for d in in_countries(name, ends)),
            "msn.com",
            "windowslive.com",
            "livemail.tw",
        ),
        exchangers=("olc.protection.outlook.com",),
        host="outlook.office365.com",
        login="oauth",
        oauth=MICROSOFT,
        hints=(
            "Let devices and apps use POP: Settings, Mail, Forwarding and IMAP. It is off at "
            "first.",
            "Passwords and app passwords no longer work; Outlook.com takes OAuth 2 alone.",
            "What is deleted by POP3 is gone from the inbox everywhere.",
        ),
        sources=(
            "https://support.microsoft.com/en-us/office/"
            "pop-imap-and-smtp-settings-for-outlook-com-d088b986-291d-42b8-9564-9c414e2aa040",
            "https://support.microsoft.com/en-us/office/modern-authentication-methods-now-needed-to"
            "-continue-syncing-outlook-email-in-non-microsoft-email-apps-"
            "c5d65390-9676-4763-b41f-d7986499a90d",
            _MICROSOFT_OAUTH_PAGE,
            ispdb("hotmail.com"),
        ),
    ),
    Provider(
        name="microsoft365",
        title="Microsoft 365",
        exchangers=("mail.protection.outlook.com", "mx.microsoft"),
        host="outlook.office365.com",
        login="oauth",
        oauth=MICROSOFT,
        hints=(
            "The administrator can block POP, and OAuth 2 for it.",
            "Passwords no longer work; Exchange Online takes OAuth 2 alone.",
        ),
        sources=(
            _MICROSOFT_OAUTH_PAGE,
            "https://learn.microsoft.com/powershell/module/exchange/Set-AuthenticationPolicy",
            "https://techcommunity.microsoft.com/t5/exchange-team-blog/"
            "basic-authentication-deprecation-in-exchange-online-september/ba-p/3609437",
            "https://learn.microsoft.com/en-us/purview/how-smtp-dane-works",
            ispdb("office365.com"),
        ),
    ),
    Provider(
        name="yahoo",
        title="Yahoo Mail",
        domains=(
            *in_countries(
                "yahoo",
                "com ca de it fr es se co.in co.uk co.nz com.au com.ar com.br com.mx",
            ),
            "ymail.com",
            "myyahoo.com",
            "rocketmail.com",
            "cox.net",
        ),
        exchangers=("yahoodns.net",),
        host="pop.mail.yahoo.com",
        login="app-password",
        oauth=_yahoo_oauth("api.login.yahoo.com"),
        hints=(_YAHOO_APP_PASSWORD, _YAHOO_NO_CLIENTS),
        sources=(
            "https://help.yahoo.com/kb/new-mail-for-desktop/"
            "pop-access-settings-instructions-yahoo-mail-sln4724.html",
            ispdb("yahoo.com"),
            "https://github.com/chatmail/provider-db/blob/master/_providers/yahoo.md",
            _NO_NEW_CLIENTS,
        ),
    ),
    Provider(
        name="aol",
        title="AOL Mail",
        domains=(
            *in_countries("aol", "com de it fr es se co.uk co.nz com.au com.ar com.br com.mx"),
            "aim.com",
            "netscape.net",
            "netscape.com",
            "compuserve.com",
            "cs.com",
            "wmconnect.com",
            "verizon.net",
        ),
        exchangers=("mail.gm0.yahoodns.net",),
        host="pop.aol.com",
        login="app-password",
        oauth=_yahoo_oauth("api.login.aol.com"),
        hints=(_YAHOO_APP_PASSWORD, _YAHOO_NO_CLIENTS),
        sources=(
            ispdb("aol.com"),
            "https://github.com/chatmail/provider-db/blob/master/_providers/aol.md",
            _THUNDERBIRD_OAUTH,
            _NO_NEW_CLIENTS,
        ),
    ),
    Provider(
        name="fastmail",
        title="Fastmail",
        domains=("fastmail.com", "fastmail.fm"),
        exchangers=("messagingengine.com",),
        host="pop.fastmail.com",
        login="app-password",
        oauth=OAuthServer(
            "https://api.fastmail.com/oauth/authorize",
            "https://api.fastmail.com/oauth/refresh",
            "https://www.fastmail.com/dev/protocol-pop",
        ),
        hints=(
            "Log in with an app password, made under Privacy & Security.",
            "Only the inbox is listed; yourname+folder@fastmail.com as login name lists a folder.",
        ),
        sources=(
            "https://www.fastmail.com/help/technical/servernamesandports.html",
            "https://fastmail.help/hc/en-us/articles/1500000279921",
            _THUNDERBIRD_OAUTH,
        ),
    ),
    Provider(
        name="mail.ru",
        title="Mail.ru",
        domains=("mail.ru", "inbox.ru", "list.ru", "bk.ru", "internet.ru"),
        exchangers=("mail.ru",),
        host="pop.mail.ru",
        login="app-password",
        oauth=OAuthServer(
            "https://o2.mail.ru/login",
            "https://o2.mail.ru/token",
            "mail.imap",
        ),
        hints=("Log in with a password for external applications, made under Security.",),
        sources=(
            "https://help.mail.ru/mail/security/protection/external",
            ispdb("mail.ru"),
            "https://github.com/chatmail/provider-db/blob/master/_providers/mail.ru.md",
        ),
    ),
)
