//! Whole files: the examples, what operators publish, and what is no configuration at all.

use super::*;

#[test]
fn the_examples_are_without_error_or_warning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["minimal", "relay", "production"] {
        let loaded = load(&root.join(format!("examples/{name}.conf")), Some(Path::new("/tmp/carom")));
        assert!(loaded.diagnostics.is_empty(), "{}", render(&loaded.diagnostics));
        assert!(loaded.config.is_some());
    }
}

#[test]
fn what_reports_return_and_who_they_are_from_is_configured() {
    let ours = |lines: &str| format!("host-name a.example\npostmaster p@a.example\nspool /s\n{lines}\n");
    let from = |value: &str| {
        let loaded = parse_str("t", &ours(&format!("custom-dsn-from-header {value}")));
        loaded.config.map(|c| c.custom_dsn_from_header)
    };
    let named = |name: &str| Some(Some((name.to_owned(), "b@a.example".to_owned())));
    assert_eq!(from("\"Mail Delivery <b@a.example>\""), named("Mail Delivery"));
    assert_eq!(from("b@a.example"), named(""));
    assert_eq!(from("\"\""), Some(None));
    assert_eq!(from("\"no address\""), None);
    let returned = |value: &str| {
        let text = ours(&format!("<source 192.0.2.1>\ndsn-return-default {value}\n</source>"));
        parse_str("t", &text).config.map(|c| c.source(ip("192.0.2.1"), None, None).dsn_return_default)
    };
    assert_eq!(returned("full"), Some(crate::config::model::DsnReturn::Full));
    assert_eq!(returned("system"), Some(crate::config::model::DsnReturn::Headers));
    assert_eq!(returned("some"), None);
}

#[test]
fn the_relay_example_sends_everything_to_the_port_it_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = load(&root.join("examples/relay.conf"), Some(Path::new("/r"))).config.unwrap();
    let settings = config.queue_settings("any.example", "{default}");
    assert_eq!(settings.smtp_hosts[0].target, SmtpTarget::Address(ip("127.0.0.1")));
    assert_eq!((settings.smtp_hosts[0].port, settings.use_starttls, settings.max_smtp_out), (Some(2600), false, 40));
    let source = config.source(ip("127.0.0.1"), None, None);
    assert!(source.always_allow_relaying && source.suppress_local_dsn);
    assert_eq!(config.acct_files.iter().map(|f| f.format).collect::<Vec<_>>(), [AcctFormat::Csv, AcctFormat::Parquet]);
    assert_eq!(config.spool, Path::new("/r/spool"));
}

#[test]
fn a_file_that_is_no_configuration_is_answered_soon_and_in_bounds() {
    for text in ["max-stmp-out 1\n".repeat(30_000), "<domain *>\n".repeat(30_000), "x ".repeat(1_000_000)] {
        let loaded = parse_str("c", &text);
        assert!(loaded.config.is_none());
        assert!(loaded.diagnostics.len() < 3000);
        assert!(loaded.diagnostics.iter().all(|d| d.excerpt.len() < 2000));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,200}") {
        let _ = parse_str("c", &text);
    }

    #[test]
    fn no_mixture_of_tags_names_and_values_makes_reading_panic_or_lose_its_place(
        pieces in prop::collection::vec((0usize..60, 0usize..26, any::<bool>()), 0..40)
    ) {
        let rows = directives::all();
        let values = ["yes", "5m", "10/8", "*", "$m", "a.com", "\"", "", "/x/ y", "192.0.2.1 h.example", "100/s", "d,b",
            "[1.2.3.4]:5", "|x", "a.csv", "x.parquet", "0/0:25", "{auth}", "key k s", "</domain>", "#", "1G", "-1",
            "99999999999999999999", "[*.]b.c", "ü"];
        let mut text = String::from("domain-macro m a.com,$m\n");
        for (name, value, closed) in pieces {
            let value = values[value];
            match name {
                0..8 => {
                    let tag = directives::BLOCKS[name * 13 / 8].0;
                    text.push_str(&format!("<{tag} {value}{}", if closed { ">\n" } else { "> " }));
                }
                8..16 => text.push_str(&format!("</{}>\n", directives::BLOCKS[(name - 8) * 13 / 8].0)),
                n => text.push_str(&format!("{} {value}\n", rows[n * 2 % rows.len()].name)),
            }
        }
        let loaded = parse_str("c", &text);
        for d in &loaded.diagnostics {
            prop_assert!((d.line as usize) <= text.lines().count());
        }
        if let Some(config) = loaded.config {
            let _ = (config.queue_settings("a.com", "v"), config.source(IpAddr::from([10, 0, 0, 1]), Some("x"), None));
        }
    }
}

/// Configurations as operators publish them are not ours to keep here; where they lie, `CAROM_CORPUS` names the folder.
#[test]
#[expect(clippy::disallowed_methods, reason = "edge: the environment names a folder outside")]
fn published_configurations_are_read_without_panic_and_every_finding_has_its_place() {
    let Some(corpus) = std::env::var_os("CAROM_CORPUS") else {
        eprintln!("SKIPPED: CAROM_CORPUS does not name the folder of the corpora");
        return;
    };
    let folder = Path::new(&corpus).join("configs");
    let files = tree::Files::expand(&include::Disk, &folder.join("*.conf"));
    assert!(!files.is_empty(), "no configurations in {}", folder.display());
    for file in files {
        let loaded = load(&file, Some(&folder));
        for d in &loaded.diagnostics {
            assert!(d.line > 0 || !d.message.is_empty());
            assert!(!d.render().is_empty());
        }
        let of = |severity| loaded.diagnostics.iter().filter(|d| d.severity == severity).count();
        println!("{}: {} errors, {} warnings", file.display(), of(Severity::Error), of(Severity::Warning));
        for d in loaded.diagnostics.iter().filter(|d| d.is_error()) {
            println!("{}", d.render());
        }
    }
}
