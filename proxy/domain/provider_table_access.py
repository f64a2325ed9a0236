"""Providers of Internet access, of hosting, and of mail for one country.

Most are known from Thunderbird's ISPDB and the page it names.
"""

from __future__ import annotations

from proxy.domain.policy import MINUTE
from proxy.domain.provider import Provider, in_countries, ispdb

ACCESS_PROVIDERS = (
    # --- Germany, Austria, Switzerland ----------------------------------------------------------
    Provider(
        name="t-online",
        title="T-Online",
        domains=("t-online.de", "magenta.de"),
        host="securepop.t-online.de",
        login="app-password",
        hints=(
            "Log in with the password for mail programs, set in the mail settings under "
            "Passwörter; the one of the website is not taken.",
        ),
        sources=(
            "https://www.telekom.de/hilfe/apps-dienste/e-mail/einstellungen/"
            "posteingang-postausgang-server",
            "https://github.com/chatmail/provider-db/blob/master/_providers/t-online.md",
            ispdb("t-online.de"),
        ),
    ),
    Provider(
        name="ionos",
        title="IONOS, 1&1",
        domains=("1und1.de", "online.de", "onlinehome.de", "sofortstart.de", "sofort-start.de"),
        exchangers=("kundenserver.de", "schlund.de"),
        host="pop.1und1.de",
        sources=("https://hilfe-center.1und1.de/e-mail-einstellungen", ispdb("1und1.de")),
    ),
    Provider(
        name="strato",
        title="Strato",
        domains=("strato.de",),
        exchangers=("rzone.de",),
        host="pop3.strato.de",
        sources=(
            "https://www.strato.de/faq/mail/"
            "externes-e-mail-programm-mit-strato-e-mail-adresse-nutzen/",
            ispdb("strato.de"),
        ),
    ),
    Provider(
        name="posteo",
        title="Posteo",
        domains=in_countries(
            "posteo",
            "de at be ca ch cl co co.uk com com.br cr cz dk ee es eu fi gl gr hn hr hu ie in is it "
            "jp la li lt lu me mx my net nl no nz org pe pl pm pt ro se sg si tn uk us",
        ),
        host="posteo.de",
        sources=(
            "https://posteo.de/hilfe/"
            "wie-richte-ich-posteo-in-einem-mailprogramm-ein-pop3-imap-und-smtp",
            ispdb("posteo.de"),
        ),
    ),
    Provider(
        name="mailbox-org",
        title="mailbox.org",
        domains=("mailbox.org",),
        exchangers=("mailbox.org",),
        host="pop3.mailbox.org",
        hints=("With two-factor login, log in with an application password.",),
        sources=("https://kb.mailbox.org/en/private/e-mail/e-mail-configuration",),
    ),
    Provider(
        name="vodafone-de",
        title="Vodafone (Germany)",
        domains=("vodafonemail.de", "arcor.de", "kabelmail.de"),
        host="pop3.vodafonemail.de",
        sources=(
            "https://www.vodafone.de/hilfe/vodafone-e-mail-cloud.html",
            ispdb("vodafonemail.de"),
        ),
    ),
    Provider(
        name="bluewin",
        title="Swisscom Bluewin",
        domains=("bluewin.ch", "bluemail.ch"),
        host="pop3s.bluewin.ch",
        sources=(ispdb("bluewin.ch"),),
    ),
    # --- France ---------------------------------------------------------------------------------
    Provider(
        name="orange",
        title="Orange (France)",
        domains=("orange.fr", "wanadoo.fr"),
        host="pop.orange.fr",
        sources=(ispdb("orange.fr"),),
    ),
    Provider(
        name="free",
        title="Free",
        domains=("free.fr",),
        host="pop.free.fr",
        local_part=True,
        sources=(
            "https://assistance.free.fr/articles/"
            "configurer-de-maniere-avancee-mon-logiciel-de-messagerie-609",
            ispdb("free.fr"),
        ),
    ),
    Provider(
        name="sfr",
        title="SFR",
        domains=("sfr.fr", "neuf.fr", "club-internet.fr"),
        host="pop.sfr.fr",
        sources=(ispdb("sfr.fr"),),
    ),
    Provider(
        name="laposte",
        title="La Poste",
        domains=("laposte.net",),
        host="pop.laposte.net",
        local_part=True,
        sources=(ispdb("laposte.net"),),
    ),
    Provider(
        name="ovh",
        title="OVH",
        exchangers=("ovh.net",),
        host="ssl0.ovh.net",
        login_interval=MINUTE,
        hints=("A session less than a minute after the last one is cut off.",),
        sources=("http://help.ovh.co.uk/EmailPopTooOften", ispdb("ovh.net")),
    ),
    Provider(
        name="gandi",
        title="Gandi",
        exchangers=("gandi.net",),
        host="mail.gandi.net",
        sources=(ispdb("gandi.net"),),
    ),
    # --- Italy ----------------------------------------------------------------------------------
    Provider(
        name="libero",
        title="Libero",
        domains=("libero.it", "iol.it", "blu.it", "inwind.it", "giallo.it"),
        host="popmail.libero.it",
        sources=(ispdb("libero.it"),),
    ),
    Provider(
        name="virgilio",
        title="Virgilio",
        domains=("virgilio.it",),
        host="in.virgilio.it",
        sources=(ispdb("virgilio.it"),),
    ),
    Provider(
        name="tiscali",
        title="Tiscali (Italy)",
        domains=("tiscali.it",),
        host="pop.tiscali.it",
        sources=(
            "https://assistenza.tiscali.it/servizi/guida/posta-elettronica/",
            ispdb("tiscali.it"),
        ),
    ),
    # --- United Kingdom, Australia --------------------------------------------------------------
    Provider(
        name="bt",
        title="BT",
        domains=("btinternet.com", "btopenworld.com", "talk21.com"),
        host="mail.btinternet.com",
        sources=(ispdb("btinternet.com"),),
    ),
    Provider(
        name="sky",
        title="Sky",
        domains=("sky.com",),
        host="pop.tools.sky.com",
        sources=(ispdb("sky.com"),),
    ),
    Provider(
        name="virgin-media",
        title="Virgin Media",
        domains=("virginmedia.com",),
        host="pop3.virginmedia.com",
        sources=(ispdb("virginmedia.com"),),
    ),
    Provider(
        name="telstra",
        title="Telstra",
        domains=("bigpond.com", "bigpond.net.au", "bigpond.net", "telstra.com"),
        host="pop.telstra.com",
        sources=(
            "https://www.telstra.com.au/support/category/email/telstra-mail/"
            "recommended-email-settings-for-telstra-mail",
            ispdb("bigpond.com"),
        ),
    ),
    # --- United States --------------------------------------------------------------------------
    Provider(
        name="comcast",
        title="Comcast Xfinity",
        domains=("comcast.net",),
        host="mail.comcast.net",
        hints=(
            "Allow third-party access in the settings of the mailbox.",
            'Mailboxes are being moved to Yahoo Mail; a moved one needs provider = "yahoo".',
        ),
        sources=(
            "https://www.xfinity.com/support/articles/third-party-email-access",
            "https://tecknexus.com/comcast-moves-xfinity-email-to-yahoo-mail/3",
            ispdb("comcast.net"),
        ),
    ),
    Provider(
        name="att",
        title="AT&T",
        domains=(
            "att.net",
            "ameritech.net",
            "bellsouth.net",
            "currently.com",
            "flash.net",
            "nvbell.net",
            "pacbell.net",
            "prodigy.net",
            "sbcglobal.net",
            "snet.net",
            "swbell.net",
            "wans.net",
        ),
        host="inbound.att.net",
        sources=(
            "https://www.att.com/support/article/email-support/KM1010523/",
            ispdb("att.net"),
        ),
    ),
    Provider(
        name="earthlink",
        title="EarthLink",
        domains=("earthlink.net", "mindspring.com", "ix.netcom.com"),
        host="pop.earthlink.net",
        sources=(
            "https://help.earthlink.net/portal/en/kb/articles/email-server-settings",
            ispdb("earthlink.net"),
        ),
    ),
    # --- Czechia, Poland ------------------------------------------------------------------------
    Provider(
        name="seznam",
        title="Seznam Email",
        domains=("seznam.cz", "email.cz", "post.cz", "spoluzaci.cz"),
        host="pop3.seznam.cz",
        sources=(ispdb("seznam.cz"),),
    ),
    Provider(
        name="wp",
        title="WP Poczta",
        domains=("wp.pl",),
        host="pop3.wp.pl",
        local_part=True,
        sources=(ispdb("wp.pl"),),
    ),
    Provider(
        name="o2-pl",
        title="o2 Poczta",
        domains=("o2.pl", "go2.pl", "tlen.pl", "prokonto.pl"),
        host="poczta.o2.pl",
        local_part=True,
        sources=(ispdb("o2.pl"),),
    ),
    Provider(
        name="onet",
        title="Onet Poczta",
        domains=(
            *("onet.pl", "onet.eu", "onet.com.pl", "poczta.onet.pl", "poczta.onet.eu"),
            *("vip.onet.pl", "op.pl", "vp.pl", "autograf.pl", "buziaczek.pl", "amorki.pl"),
            *("republika.pl", "adres.pl", "cyberia.pl", "opoczta.pl", "pseudonim.pl", "spoko.pl"),
        ),
        host="pop3.poczta.onet.pl",
        sources=(
            "https://pomoc.poczta.onet.pl/baza-wiedzy/"
            "konfiguracja-poczty-w-programie-mozilla-thunderbird/",
            ispdb("onet.pl"),
        ),
    ),
    # --- Korea ----------------------------------------------------------------------------------
    Provider(
        name="naver",
        title="Naver",
        domains=("naver.com",),
        host="pop.naver.com",
        sources=(
            "https://help.naver.com/service/30029/contents/21342?osType=PC&lang=ko",
            ispdb("naver.com"),
        ),
    ),
)
