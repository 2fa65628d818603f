use std::io::Write;

use super::*;
use crate::units::Language;

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    parse_with(text, &[])
}

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let variables = variables
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::parse(Path::new("vb.toml"), text, variables)
}

fn errors(text: &str) -> Vec<String> {
    parse(text)
        .unwrap_err()
        .0
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn nothing_written_is_the_default() {
    let config = parse("").unwrap();
    assert_eq!(config, Config::default());
    let listen: Vec<_> = config.sip.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060"]);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(
        config.database.url,
        DatabaseUrl::Sqlite("data/voicebridge.db".into())
    );
    assert_eq!(config.media.ports.to_string(), "20000-29999");
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
}

#[test]
fn a_node_has_an_address_for_each_family_or_one_name_for_both() {
    let config = parse(
        "sip.advertise = '203.0.113.7:5070, [2001:db8::7]'\nmedia.address = '2001:db8::8, 203.0.113.8'\n",
    )
    .unwrap();
    let told = |peer: &str| {
        let peer = peer.parse().unwrap();
        let sip = config.sip.advertise.of(peer).as_ref().unwrap();
        let media = config.media.address.of(peer).unwrap();
        (sip.host.clone(), sip.port, media.to_string())
    };
    let by_ipv4 = (
        "203.0.113.7".to_owned(),
        Some(5070),
        "203.0.113.8".to_owned(),
    );
    assert_eq!(told("192.0.2.1"), by_ipv4);
    assert_eq!(told("::ffff:192.0.2.1"), by_ipv4);
    let by_ipv6 = ("[2001:db8::7]".to_owned(), None, "2001:db8::8".to_owned());
    assert_eq!(told("2001:db8::1"), by_ipv6);
    let named = parse("sip.advertise = 'sip.example.org'").unwrap();
    assert_eq!(named.sip.advertise.v4, named.sip.advertise.v6);
    for (text, allowed) in [
        (
            "media.address = '192.0.2.7, 192.0.2.8'",
            "one of each family",
        ),
        ("sip.advertise = '192.0.2.7, x.example'", "of each family"),
        ("sip.advertise = '[::1], [::2]'", "of each family"),
    ] {
        let refused = errors(text);
        assert!(refused[0].contains(allowed), "{refused:?}");
    }
    // Media sockets are open to IPv6 where something else is.
    assert!(config.has_ipv6() && !named.has_ipv6());
    assert!(
        parse("sip.listen = ['udp:0.0.0.0:5060', 'udp:[::]:5060']")
            .unwrap()
            .has_ipv6()
    );
}

#[test]
fn what_is_written_is_read() {
    let config = parse(
        r#"
        node = { name = "rome-1", data_dir = "/var/lib/vb", drain_timeout = "1h" }
        [sip]
        listen = ["udp:127.0.0.1:5062"]
        advertise = "sip.example.org"
        trusted = ["192.0.2.0/24", "2001:db8::1"]
        [media]
        address = "192.0.2.7"
        ports = "30000-30999"
        threads = 2
        [[number]]
        number = "+390612345678"
        country = "it"
        language = "it-IT"
        label = "Roma"
        [[number]]
        number = "7000"
        language = "en"
        organisation = "demo"
        [privacy]
        show = "full"
        store = "none"
        [limits]
        call_hours = 2
        [log]
        format = "json"
        "#,
    )
    .unwrap();
    assert_eq!(config.node.drain_timeout, Duration::from_secs(3600));
    assert_eq!(
        config.database.url,
        DatabaseUrl::Sqlite("/var/lib/vb/voicebridge.db".into()),
        "follows data_dir"
    );
    assert_eq!(
        config.prompts.folder,
        Path::new("/var/lib/vb/prompts"),
        "follows data_dir"
    );
    assert!(
        config.sip.trusts("192.0.2.200".parse().unwrap())
            && !config.sip.trusts("192.0.3.1".parse().unwrap())
    );
    assert_eq!(config.media.threads, NonZeroUsize::new(2));
    assert_eq!(config.numbers.len(), 2);
    assert_eq!(config.numbers[0].language, Language::Italian);
    assert_eq!(config.numbers[0].country.unwrap().to_string(), "IT");
    assert_eq!(config.numbers[1].organisation.as_deref(), Some("demo"));
    assert_eq!(
        (config.privacy.show, config.privacy.store),
        (NumberPrivacy::Full, NumberPrivacy::None)
    );
    assert_eq!(config.limits.call, Duration::from_secs(7200));
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn the_environment_wins_over_the_file() {
    let variables = [
        (
            "VOICEBRIDGE_SIP__LISTEN",
            "udp:127.0.0.1:5070, tcp:127.0.0.1:5070",
        ),
        ("VOICEBRIDGE_PIN__LENGTH", "12"),
        ("VOICEBRIDGE_DATABASE__URL", "sqlite:/tmp/x.db"),
    ];
    let config = parse_with(
        "[sip]\nlisten = ['udp:0.0.0.0:5060']\n[pin]\nlength = 9\nattempts = 5\n",
        &variables,
    )
    .unwrap();
    assert_eq!(config.sip.listen.len(), 2);
    assert_eq!((config.pin.length, config.pin.attempts), (12, 5));
    assert_eq!(config.database.url, DatabaseUrl::Sqlite("/tmp/x.db".into()));
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let text = "[sip]\nlisten = [\n  'udp:0.0.0.0',\n  'tcp:0.0.0.0:5060',\n]\nlisn = 1\n[pin]\nlength = 3\n[[number]]\nnumber = '112'\n";
    assert_eq!(
        errors(text),
        [
            "vb.toml:6:1: unknown key sip.lisn; did you mean sip.listen?",
            "vb.toml:3:3: sip.listen = \"udp:0.0.0.0\": must be udp:, tcp: or tls: before ADDRESS:PORT, like \"udp:0.0.0.0:5060\" or \"tls:[::]:5061\"",
            "vb.toml:8:1: pin.length = 3: must be 6 to 16",
            "vb.toml:9:1: number.language is missing: \"it\" or \"en\"",
            "vb.toml:10:1: number.number = \"112\": is an emergency number, which is never answered",
        ]
    );
}

#[test]
fn tls_needs_an_address_a_certificate_and_its_key() {
    let whole =
        "[sip]\nlisten = ['tls:0.0.0.0:5061']\ntls.certificate = 'c.pem'\ntls.key = 'k.pem'\n";
    assert_eq!(
        parse(whole).unwrap().sip.tls,
        Some(TlsFiles {
            certificate: "c.pem".into(),
            key: "k.pem".into()
        })
    );
    for (missing, complaint) in [
        (
            "tls.key = 'k.pem'\n",
            "sip.tls.certificate = \"c.pem\": needs sip.tls.key beside it",
        ),
        (
            "tls.certificate = 'c.pem'\n",
            "sip.tls.key = \"k.pem\": needs sip.tls.certificate beside it",
        ),
    ] {
        let found = errors(&whole.replace(missing, ""));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(complaint), "{found:?}");
    }
    let found = errors("[sip]\nlisten = ['tls:0.0.0.0:5061']");
    assert!(
        found[0].ends_with("needs sip.tls.certificate and sip.tls.key"),
        "{found:?}"
    );
}

#[test]
fn trunks_are_read_with_their_registrar_or_only_with_peers() {
    let config = parse(
        "[[sip.trunk]]\nname = 'carrier'\npeers = ['192.0.2.0/28']\nregistrar = 'sip.example.org:5070'\n\
         user = '39061'\npassword = 'canary'\ntransport = 'tcp'\nsrtp = 'require'\ntrust_identity = true\n\
         numbers = ['+390612345678']\ncalls = 30\n[[sip.trunk]]\nname = 'pbx'\npeers = ['192.0.2.99']\n",
    )
    .unwrap();
    let [carrier, pbx] = config.sip.trunks.as_slice() else {
        panic!("{:?}", config.sip.trunks)
    };
    let registrar = carrier.registrar.as_ref().unwrap();
    assert_eq!(registrar.host.port, Some(5_070));
    assert_eq!(carrier.transports, [SipTransport::Tcp]);
    assert_eq!(carrier.password.as_ref().unwrap().expose(), "canary");
    assert!(!format!("{config:?}").contains("canary"));
    assert!(carrier.trust_identity && carrier.srtp == SrtpPolicy::Require);
    assert_eq!((carrier.calls, pbx.calls), (Some(30), None));
    assert!(carrier.peers[0].contains("192.0.2.7".parse().unwrap()));
    assert!(pbx.registrar.is_none() && !pbx.trust_identity && pbx.srtp == SrtpPolicy::Offer);
}

#[test]
fn a_trunk_s_records_may_choose_among_the_transports_that_are_listened_for() {
    let config = parse(
        "sip.listen = ['udp:0.0.0.0:5060', 'tcp:0.0.0.0:5060']\n\
         sip.dns_servers = ['192.0.2.53', '[2001:db8::53]:5353', '2001:db8::54']\n\
         [[sip.trunk]]\nname = 'carrier'\ndial = 'sip:{number}@sip.example.org'\ntransport = 'auto'\n",
    )
    .unwrap();
    let trunk = &config.sip.trunks[0];
    assert_eq!(trunk.transports, [SipTransport::Udp, SipTransport::Tcp]);
    let servers: Vec<String> = config
        .sip
        .dns_servers
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = ["192.0.2.53:53", "[2001:db8::53]:5353", "[2001:db8::54]:53"];
    assert_eq!(servers, expected);
    assert!(parse("sip.dns_servers = ['ns.example.org']\n").is_err());
}

#[test]
fn a_trunk_is_known_by_what_it_shows_or_proves_only_where_that_is_written_in_full() {
    let trunk = "[[sip.trunk]]\nname = 'a'\npeers = ['192.0.2.1']\n";
    let listen =
        "sip.listen = ['tls:0.0.0.0:5061']\nsip.tls.certificate = 'c'\nsip.tls.key = 'k'\n";
    let all = "tls_names = ['SIP.Example.org']\ntls_required = true\nauth_user = 'anna'\nauth_password = 'canary'\n";
    let config = parse(&format!("{listen}{trunk}{all}")).unwrap();
    let read = &config.sip.trunks[0];
    assert_eq!(
        (read.tls.names[0].as_str(), read.tls.required),
        ("sip.example.org", true)
    );
    let proof = read.proves.as_ref().unwrap();
    assert_eq!((proof.user.as_str(), proof.algorithms.len()), ("anna", 2));
    assert!(!format!("{config:?}").contains("canary"));
    for (text, wrong) in [
        (format!("{trunk}{all}"), "would refuse every call"),
        (
            format!("{listen}{trunk}tls_required = true\n"),
            "needs sip.trunk.tls_names",
        ),
        (
            format!("{trunk}tls_names = ['*.example.org']\n"),
            "sip.trunk.tls_names",
        ),
        (
            format!("{trunk}tls_key = 'k'\n"),
            "needs sip.trunk.tls_certificate",
        ),
        (
            format!("{trunk}auth_user = 'anna'\n"),
            "sip.trunk.auth_password",
        ),
        (
            format!("{trunk}dial_realm = 'r'\n"),
            "has no use without sip.trunk.dial",
        ),
    ] {
        let errors = parse(&text).unwrap_err();
        let words = format!("{errors:?}");
        assert!(words.contains(wrong), "{text}\n{words}");
    }
}

#[test]
fn what_is_wrong_with_a_trunk_is_named() {
    for (text, wrong) in [
        (
            "srtp = 'maybe'\nnumbers = ['x y']\n",
            [
                "sip.trunk.name",
                "sip.trunk.peers",
                "sip.trunk.srtp",
                "sip.trunk.numbers",
            ]
            .as_slice(),
        ),
        (
            "name = 'a'\npeers = ['pbx.example.org']\ncalls = 0\n",
            &["sip.trunk.peers", "sip.trunk.calls"],
        ),
        (
            "name = 'a'\nregistrar = 'sip.example.org'\n",
            &["sip.trunk.user"],
        ),
        (
            "name = 'a'\nregistrar = 'sip.example.org'\nuser = 'a\"b'\n",
            &["sip.trunk.user"],
        ),
        (
            "name = 'a'\nregistrar = 'h'\nuser = 'u'\ntransport = 'tls'\n",
            &["sip.trunk.registrar"],
        ),
        (
            "name = 'a'\npeers = []\nuser = 'u'\npassword = 'canary'\n",
            &["sip.trunk.user", "sip.trunk.password"],
        ),
        (
            "name = 'a'\ndial = 'sip:9{number}@h'\ndial_prefixes = ['39 06']\n",
            &["sip.trunk.dial", "sip.trunk.dial_prefixes"],
        ),
        (
            "name = 'a'\npeers = []\ndial_prefixes = ['+39']\nrealm = 'r'\n",
            &["sip.trunk.dial_prefixes", "sip.trunk.realm"],
        ),
        (
            "name = 'a'\npeers = []\nqualify_frequency = 60\n",
            &["sip.trunk.qualify_frequency"],
        ),
        (
            "name = 'a'\ndial = 'sip:{number}@h'\nqualify_frequency = -1\n",
            &["sip.trunk.qualify_frequency"],
        ),
        (
            "name = 'a'\ndial = 'sip:{number}@h'\npassword = 'canary'\n",
            &["sip.trunk.user", "sip.trunk.realm"],
        ),
        (
            "name = 'a'\ndial = 'sip:{number}@h'\ntransport = 'tls'\nrealm = 'a\"b'\n",
            &["sip.trunk.dial", "sip.trunk.realm"],
        ),
    ] {
        let errors = errors(&format!("[[sip.trunk]]\n{text}"));
        assert_eq!(errors.len(), wrong.len(), "{errors:?}");
        for (error, key) in errors.iter().zip(wrong) {
            assert!(error.contains(key) && !error.contains("canary"), "{error}");
        }
    }
    let trunk = "[[sip.trunk]]\nname = 'a'\npeers = ['192.0.2.1']\n";
    let twice = errors(&format!("{trunk}{trunk}"));
    assert!(
        twice.len() == 1 && twice[0].contains("another [[sip.trunk]]"),
        "{twice:?}"
    );
}

const ASTERISK: &str = "[[asterisk]]\nname = 'pbx'\nurl = 'http://127.0.0.1:8088/'\nuser = 'vb'\npassword = 'canary'\n";

#[test]
fn an_asterisk_is_read_with_the_node_s_app_or_its_own() {
    let config = parse(&format!("node.name = 'rome'\n{ASTERISK}")).unwrap();
    let asterisk = &config.asterisks[0];
    assert_eq!(asterisk.app, "voicebridge-rome");
    assert_eq!(asterisk.url, "http://127.0.0.1:8088");
    assert_eq!(asterisk.password.expose(), "canary");
    assert!(!format!("{config:?}").contains("canary"));
    assert_eq!(asterisk.rest, RestWay::Auto);
    let config = parse(&format!(
        "{ASTERISK}app = 'vb_2'\nrest = 'http'\nleave_to = ['desk']\n"
    ))
    .unwrap();
    assert_eq!(config.asterisks[0].app, "vb_2");
    assert_eq!(config.asterisks[0].rest, RestWay::Http);
    assert_eq!(config.asterisks[0].leave_to, ["desk"]);
    assert!(asterisk.leave_to.is_empty());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "from a file").unwrap();
    let text = ASTERISK.replace(
        "password = 'canary'",
        &format!("password_file = {:?}", file.path()),
    );
    let config = parse(&text).unwrap();
    assert_eq!(config.asterisks[0].password.expose(), "from a file");
}

#[test]
fn a_password_goes_over_the_network_only_encrypted_or_as_the_operator_wants() {
    for safe in [
        "https://pbx.example.org",
        "http://localhost:8088",
        "http://127.1.2.3:8088",
        "http://[::1]:8088",
    ] {
        let text = ASTERISK.replace("http://127.0.0.1:8088/", safe);
        assert!(parse(&text).is_ok(), "{safe}");
    }
    let text = ASTERISK.replace("127.0.0.1", "192.0.2.7");
    assert_eq!(
        errors(&text),
        [
            "vb.toml:3:1: asterisk.url = \"http://192.0.2.7:8088/\": would send the password over the network in the clear; use https://, or write plain_text = true where the network is your own"
        ]
    );
    assert_eq!(errors(&format!("{text}plain_text = false\n")).len(), 1);
    assert!(parse(&format!("{text}plain_text = true\n")).is_ok());
}

#[test]
fn what_is_wrong_with_an_asterisk_is_named() {
    for (wrong, right, told) in [
        ("name = 'pbx'", "", "asterisk.name is missing"),
        (
            "url = 'http://127.0.0.1:8088/'",
            "",
            "asterisk.url is missing",
        ),
        ("user = 'vb'", "", "asterisk.user is missing"),
        ("password = 'canary'", "", "asterisk.password is missing"),
        ("name = 'pbx'", "name = 'p b x'", "letters, digits"),
        ("http://127.0.0.1:8088/", "ws://127.0.0.1", "web address"),
        (
            "http://127.0.0.1:8088/",
            "http://u:p@127.0.0.1",
            "web address",
        ),
        ("user = 'vb'", "user = 'v:b'", "without ':'"),
        ("password = 'canary'", "password = ''", "must not be empty"),
        ("user = 'vb'", "user = 'vb'\napp = 'a,b'", "letters, digits"),
        (
            "user = 'vb'",
            "user = 'vb'\ndial = 'PJSIP/{number}'",
            "{number} once",
        ),
        (
            "user = 'vb'",
            "user = 'vb'\nplain_text = 'yes'",
            "true or false",
        ),
        (
            "user = 'vb'",
            "user = 'vb'\nleave_to = ['a,b']",
            "letters, digits",
        ),
        (
            "user = 'vb'",
            "user = 'vb'\nrest = 'soap'",
            "\"auto\", \"websocket\" or \"http\"",
        ),
    ] {
        let errors = errors(&ASTERISK.replace(wrong, right));
        assert_eq!(errors.len(), 1, "{right}: {errors:?}");
        assert!(errors[0].contains(told), "{right}: {errors:?}");
        assert!(!errors[0].contains("canary"), "{errors:?}");
    }
    let twice = errors(&ASTERISK.repeat(2));
    assert_eq!(twice.len(), 2, "{twice:?}");
    assert!(
        twice
            .iter()
            .all(|error| error.contains("another [[asterisk]] already"))
    );
    let dotted = errors(&format!("node.name = 'rome.1'\n{ASTERISK}"));
    assert!(dotted[0].contains("needs an asterisk.app"), "{dotted:?}");
}

#[test]
fn values_out_of_range_name_what_is_allowed() {
    for (text, allowed) in [
        ("node.name = 'a b'", "letters, digits"),
        (
            "node.drain_timeout = '5 minutes'",
            "like \"90s\", \"5m\" or \"1h\"",
        ),
        ("node.drain_timeout = '25h'", "0s to 24h"),
        ("sip.session_timer = '60s'", "90s to 24h"),
        ("sip.listen = []", "at least one"),
        (
            "sip.listen = ['udp:0.0.0.0:5060', 'udp:0.0.0.0:5060']",
            "twice",
        ),
        (
            "sip.listen = ['udp:0.0.0.0:20000']",
            "keep SIP's UDP ports out",
        ),
        ("media.ports = '5000-6000'", "keep SIP's UDP ports out"),
        ("media.ports = '20000'", "FIRST-LAST"),
        ("media.address = '0.0.0.0'", "callers can reach"),
        ("media.threads = 0", "1 to 256"),
        ("media.shared = ['asterisk']", "an address or a network"),
        (
            "webhooks.allow = ['10.0.0.0/33']",
            "a network or a host's name",
        ),
        ("http.listen = '8080'", "ADDRESS:PORT"),
        (
            "http.admin_listen = '127.0.0.1:8080'",
            "same as http.listen",
        ),
        ("http.public_url = 'voice.example.org'", "web address"),
        (
            "http.public_url = 'https://u:p@voice.example.org'",
            "web address",
        ),
        ("database.url = 'mysql://x'", "sqlite:FILE"),
        (
            "database.url = 'sqlite::memory:'",
            "a file and nothing else",
        ),
        (
            "database.url = 'postgres://canary'",
            "a host and a database",
        ),
        (
            "database.url = 'postgres://vb@/vb?host=/run'",
            "a host and a database",
        ),
        (
            "database.url = 'postgres://db.example.org/?host=x'",
            "a host and a database",
        ),
        ("privacy.show = 'some'", "last4"),
        ("privacy.retain_days = 0", "1 to 3650"),
        ("privacy.hash_key = 'short'", "at least 32"),
        ("log.format = 'xml'", "\"text\" or \"json\""),
        ("prompts.folder = ''", "not be empty"),
        ("limits.calls = -1", "1 to 30000"),
    ] {
        let errors = errors(text);
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].contains(allowed), "{text}: {errors:?}");
        assert!(errors[0].starts_with("vb.toml:1:"), "{text}: {errors:?}");
    }
}

#[test]
fn the_url_of_a_server_is_taken_as_it_is_and_never_printed() {
    for scheme in ["postgres", "postgresql"] {
        let url = format!("{scheme}://vb:canary@db.example.org/vb?sslmode=disable");
        let config = parse(&format!("database.url = '{url}'")).unwrap();
        assert_eq!(
            config.database.url,
            DatabaseUrl::Postgres(Secret::new(&url))
        );
        assert!(!format!("{config:?}").contains("canary"));
    }
    assert!(!errors("database.url = 'postgres://canary'")[0].contains("canary"));
}

#[test]
fn a_number_stands_once() {
    let one = "[[number]]\nnumber = '7000'\nlanguage = 'it'\n";
    assert_eq!(
        errors(&one.repeat(2)),
        ["vb.toml:5:1: number.number = \"7000\": stands in another [[number]] already"]
    );
}

#[test]
fn a_secret_may_stand_in_a_file_of_its_own_but_not_twice() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "sqlite:/srv/secret.db").unwrap();
    let name = file.path().to_str().unwrap();
    let config = parse(&format!("database.url_file = '{name}'")).unwrap();
    assert_eq!(
        config.database.url,
        DatabaseUrl::Sqlite("/srv/secret.db".into())
    );
    let config = parse_with(
        "database.url = 'sqlite:a.db'",
        &[("VOICEBRIDGE_DATABASE__URL_FILE", name)],
    )
    .unwrap();
    assert_eq!(
        config.database.url,
        DatabaseUrl::Sqlite("/srv/secret.db".into())
    );
    let twice = errors(&format!(
        "[database]\nurl = 'sqlite:a.db'\nurl_file = '{name}'"
    ));
    assert_eq!(
        twice,
        ["vb.toml:3:1: database.url: either database.url or database.url_file, not both"]
    );
    let missing = errors("database.url_file = '/nowhere/at/all'");
    assert!(
        missing[0].starts_with(
            "vb.toml:1:10: database.url_file = \"/nowhere/at/all\": must name a readable file"
        ),
        "{missing:?}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some(Path::new("/nowhere/vb.toml")), [])
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("/nowhere/vb.toml: "), "{error}");
}

#[test]
fn a_reload_takes_what_is_live_and_names_the_rest() {
    let running = parse("[pin]\nattempts = 3\n").unwrap();
    let written = parse("[pin]\nattempts = 5\nlength = 12\n[sip]\ntrusted = ['10.0.0.0/8']\nlisten = ['udp:0.0.0.0:5062']\n[limits]\ncalls = 7\n").unwrap();
    let Reloaded {
        config,
        restart_needed,
    } = running.reload(written);
    assert_eq!((config.pin.attempts, config.pin.length), (5, 10));
    assert!(config.sip.trusts("10.1.1.1".parse().unwrap()));
    assert_eq!(config.sip.listen, running.sip.listen);
    assert_eq!(config.limits.calls, 7);
    assert_eq!(restart_needed, ["sip", "pin"]);
    let unchanged = running.reload(running.clone());
    assert_eq!(
        unchanged,
        Reloaded {
            config: running,
            restart_needed: vec![]
        }
    );
}

/// `KEYS` says which keys are live and `Config::reload` does it: one must not lie about the other.
#[test]
fn a_key_is_live_exactly_where_the_table_says_so() {
    let samples = [
        ("node.name", "'x'"),
        ("node.data_dir", "'x'"),
        ("node.drain_timeout", "'7s'"),
        ("sip.listen", "['udp:0.0.0.0:5099']"),
        ("sip.advertise", "'x'"),
        ("sip.trusted", "['10.0.0.1']"),
        ("sip.session_timer", "'30m'"),
        ("sip.dns_servers", "['10.0.0.1']"),
        ("media.address", "'10.0.0.1'"),
        ("media.ports", "'30000-30999'"),
        ("media.threads", "7"),
        ("media.shared", "['10.0.0.0/8']"),
        ("media.realtime", "true"),
        ("http.listen", "'127.0.0.1:8099'"),
        ("http.admin_listen", "'127.0.0.1:8098'"),
        ("http.public_url", "'http://x'"),
        ("database.url", "'sqlite:x.db'"),
        ("pin.length", "12"),
        ("pin.attempts", "7"),
        ("pin.failure_budget", "7"),
        ("privacy.show", "'none'"),
        ("privacy.store", "'none'"),
        ("privacy.retain_days", "7"),
        ("privacy.hash_key", "'0123456789abcdef0123456789abcdef'"),
        ("webhooks.allow", "['10.0.0.0/8']"),
        ("limits.calls", "7"),
        ("limits.calls_per_source", "7"),
        ("limits.ring_ms", "7"),
        ("limits.dial_ring_seconds", "7"),
        ("limits.media_timeout_seconds", "7"),
        ("limits.hold_timeout_seconds", "7"),
        ("limits.pin_wait_seconds", "7"),
        ("limits.wait_minutes", "7"),
        ("limits.alone_minutes", "7"),
        ("limits.call_hours", "7"),
        ("prompts.folder", "'x'"),
        ("log.format", "'json'"),
    ];
    // These only go together, the first two with a listener that needs them.
    let paired = |path: &str| path.starts_with("sip.tls.") || path.starts_with("fsapi.");
    let plain = KEYS.iter().filter(|info| {
        !TABLES
            .iter()
            .any(|table| info.path.starts_with(&format!("{table}.")))
            && !paired(info.path)
    });
    for info in plain {
        let (_, value) = samples
            .iter()
            .find(|(path, _)| *path == info.path)
            .unwrap_or_else(|| panic!("no sample for {}", info.path));
        let reloaded =
            Config::default().reload(parse(&format!("{} = {value}", info.path)).unwrap());
        let live = reloaded.config != Config::default();
        assert_eq!(live, info.reload == Reload::Live, "{}", info.path);
        assert_eq!(live, reloaded.restart_needed.is_empty(), "{}", info.path);
    }
}

#[test]
fn warnings_tell_what_is_allowed_but_not_wise() {
    let warnings = |text: &str| parse(text).unwrap().warnings();
    assert!(
        warnings("pin.length = 9")[0].contains("pin.length 9"),
        "hardening arithmetic: 0.072 expected hits"
    );
    assert_eq!(
        warnings("pin.length = 11\npin.failure_budget = 1000").len(),
        0
    );
    assert!(warnings("media.ports = '20000-20099'")[0].contains("50 calls"));
    assert!(warnings("http.listen = '0.0.0.0:8080'")[0].contains("TLS proxy"));
    let unused = "sip.tls.certificate = 'c.pem'\nsip.tls.key = 'k.pem'";
    assert!(warnings(unused)[0].contains("nothing in sip.listen begins with tls:"));
}

#[test]
fn neighbours_are_off_until_all_is_written_that_they_need() {
    let config = parse("[fsapi]\npassword = 'a-long-enough-secret'\nbridge_to = '[::1]:5060'\n[[jitsi]]\norganisation = 'demo'\ndomains = ['MUC.meet.example.org']\n").unwrap();
    assert_eq!(config.fsapi.unwrap().bridge_to, "[::1]:5060");
    assert_eq!(config.jitsi[0].domains, ["muc.meet.example.org"]);
    assert_eq!(config.jitsi[0].number_form, NumberForm::List);
    for (text, what) in [
        (
            "[fsapi]\npassword = 'short'\nbridge_to = 'a'\n",
            "at least 16 characters",
        ),
        (
            "[fsapi]\npassword = 'a-long-enough-secret'\n",
            "needs fsapi.bridge_to",
        ),
        ("[fsapi]\nbridge_to = 'a b'\n", "must be a host"),
        (
            "[[jitsi]]\norganisation = 'demo'\n",
            "jitsi.domains is missing",
        ),
        (
            "[[jitsi]]\norganisation = 'demo'\ndomains = []\n",
            "must name what stands behind the @",
        ),
        (
            "[[jitsi]]\norganisation = 'demo'\ndomains = ['a b']\n",
            "must be a domain",
        ),
        (
            "[[jitsi]]\norganisation = 'demo'\ndomains = ['a']\nnumber_form = 'new'\n",
            "\"list\" or \"countries\"",
        ),
        (
            "[[jitsi]]\norganisation = 'a'\ndomains = ['a']\n[[jitsi]]\norganisation = 'a'\ndomains = ['b']\n",
            "in another [[jitsi]]",
        ),
    ] {
        let errors = errors(text).join("\n");
        assert!(errors.contains(what), "{text}: {errors}");
    }
}
