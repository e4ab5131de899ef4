//! The room as its users see it: a text goes in, a configuration or diagnostics come out.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::directives::{self, Scope, Set};
use super::tree::tests::Memory;
use super::*;
use crate::event::{Kind, Kinds};

/// The configuration of a text without errors.
fn good(text: &str) -> Config {
    let loaded = parse_str("c", text);
    let errors: Vec<_> = loaded.diagnostics.iter().filter(|d| d.is_error()).map(Diagnostic::render).collect();
    loaded.config.unwrap_or_else(|| panic!("{}", errors.concat()))
}

/// Errors and warnings of a text as people see them.
fn findings(text: &str) -> String {
    let loaded = parse_str("c", &format!("spool s\n{text}"));
    assert_eq!(loaded.config.is_none(), loaded.diagnostics.iter().any(Diagnostic::is_error));
    let shown = loaded.diagnostics.iter().filter(|d| d.severity != Severity::Note);
    shown.map(Diagnostic::render).collect()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

mod table {
    use super::*;
    use crate::config::directives::acct_file::{ACCT_FILE, with_defaults};
    use crate::config::directives::domain::DOMAIN;
    use crate::config::directives::source::SOURCE;

    /// A configuration in which `line` stands in `scope`.
    fn placed(scope: Scope, line: &str) -> String {
        let frame = match scope {
            Scope::Global => "LINE\n",
            Scope::Spool => "<spool x>\nLINE\n</spool>\n",
            Scope::Listener => "<smtp-listener 127.0.0.1:25>\nLINE\n</smtp-listener>\n",
            // It says nothing without an address.
            Scope::Source if line.starts_with("add-list-unsubscribe ") => {
                "<source 10/8>\nLINE\nlist-unsubscribe-mailto out@example.com\n</source>\n\
                 <return-path-token>\ndomain d.example\nkey k0 0123456789abcdef\n</return-path-token>\n"
            }
            Scope::Source => "<source 10/8>\nLINE\n</source>\n",
            Scope::User => "<smtp-user u>\npassword x\nLINE\n</smtp-user>\n",
            Scope::VirtualMta => "<virtual-mta v>\nLINE\n</virtual-mta>\n",
            Scope::Pool => "<virtual-mta-pool p>\nvirtual-mta {default}\nLINE\n</virtual-mta-pool>\n",
            Scope::Domain => "<domain a.com>\nLINE\n</domain>\n",
            Scope::AcctFile => "<acct-file a.csv>\nLINE\n</acct-file>\n",
            Scope::Webhook => "<acct-webhook https://h.example/>\nLINE\n</acct-webhook>\n",
            // Neither is right without the other.
            Scope::Nats if line.starts_with("user ") => "<acct-nats nats://h>\nLINE\npassword x\n</acct-nats>\n",
            Scope::Nats if line.starts_with("password ") => "<acct-nats nats://h>\nuser x\nLINE\n</acct-nats>\n",
            Scope::Nats => "<acct-nats nats://h.example>\nLINE\n</acct-nats>\n",
            Scope::Patterns => "<bounce-category-patterns>\nLINE\n</bounce-category-patterns>\n",
            Scope::Processor => "<bounce-processor>\nLINE\n</bounce-processor>\n",
            Scope::AddressList => "<bounce-processor>\n<address-list>\nLINE\n</address-list>\n</bounce-processor>\n",
            Scope::SuppressionList => "<address-list l>\nLINE\n</address-list>\n",
            Scope::EmailPatterns => {
                "<bounce-processor>\n<email-patterns>\nLINE\n</email-patterns>\n</bounce-processor>\n"
            }
            Scope::JobGuard => "<job-guard *>\nLINE\n</job-guard>\n",
            Scope::Token => {
                "<return-path-token>\ndomain d.example\nkey k0 0123456789abcdef\nLINE\n</return-path-token>\n"
            }
            Scope::UnsubscribeListener => "<unsubscribe-listener 127.0.0.1:8080>\nLINE\n</unsubscribe-listener>\n",
            Scope::AutoSuppression => "<auto-suppression>\nLINE\n</auto-suppression>\n",
        };
        frame.replace("LINE", line)
    }

    fn sample(row: &directives::Row) -> &'static str {
        fn of<T>(table: &'static [directives::Directive<T>], name: &str) -> Option<&'static str> {
            directives::find(table, name).map(|d| d.set.sample())
        }
        match row.scope {
            Scope::Global => of(directives::global::GLOBAL, row.name),
            Scope::Spool => of(directives::global::SPOOL, row.name),
            Scope::Listener => of(directives::global::LISTENER, row.name),
            Scope::Source => of(SOURCE, row.name),
            Scope::User => of(directives::source::USER, row.name),
            Scope::VirtualMta => of(directives::virtual_mta::VIRTUAL_MTA, row.name),
            Scope::Pool => of(directives::virtual_mta::POOL, row.name),
            Scope::Domain => of(DOMAIN, row.name),
            Scope::AcctFile => of(ACCT_FILE, row.name),
            Scope::Webhook => of(directives::push::WEBHOOK, row.name),
            Scope::Nats => of(directives::push::NATS, row.name),
            Scope::Processor => of(directives::report::PROCESSOR, row.name),
            Scope::EmailPatterns => of(directives::report::EMAIL_PATTERNS, row.name),
            Scope::AddressList => of(directives::address_list::ADDRESS_LIST, row.name),
            Scope::SuppressionList => of(directives::address_list::SUPPRESSION_LIST, row.name),
            Scope::Token => of(directives::report::TOKEN, row.name),
            Scope::JobGuard => of(directives::job_guard::JOB_GUARD, row.name),
            Scope::UnsubscribeListener => of(directives::unsubscribe::UNSUBSCRIBE_LISTENER, row.name),
            Scope::AutoSuppression => of(directives::auto_suppression::AUTO_SUPPRESSION, row.name),
            Scope::Patterns => None,
        }
        .unwrap()
    }

    #[test]
    fn every_directive_is_reachable_under_every_name_with_its_sample_and_its_default() {
        for row in directives::all() {
            let sample = match (row.scope, row.name) {
                (Scope::Global, "acct-file") => "x.csv",
                _ => sample(&row),
            };
            for name in std::iter::once(&row.name).chain(row.aliases) {
                let default = (!row.default.is_empty()).then_some(row.default);
                for value in [Some(sample), default].into_iter().flatten() {
                    let text = placed(row.scope, &format!("{name} {value}"));
                    let files = Memory::of(&[
                        ("c", &text),
                        ("/etc/carom/patterns.conf", "/x/ other\n"),
                        ("/etc/carom/bounce-addresses", "bounces\n"),
                        ("/etc/carom/acme.pattern", "to (?<r>.*)\n"),
                    ]);
                    let loaded = read(Path::new("c"), None, &files);
                    // References in defaults and samples name what this small configuration does not have.
                    let other = |d: &&Diagnostic| d.is_error() && !d.message.starts_with("there is no");
                    let errors: Vec<_> = loaded.diagnostics.iter().filter(other).collect();
                    assert!(errors.is_empty(), "{text}{errors:?}");
                }
            }
        }
    }

    #[test]
    fn defaults_of_the_table_are_those_of_the_model() {
        let spans = |text: &str| lexer::Line::of(text, 0, 1).unwrap();
        fn apply<T>(table: &'static [directives::Directive<T>], target: &mut T, line: impl Fn(&str) -> lexer::Line) {
            let mut reading = tree::Reading::new(None, &tree::NoFiles);
            for row in table.iter().filter(|r| !r.default.is_empty()) {
                let line = line(&format!("{} {}", row.name, row.default));
                row.read(line.span, &mut line.args(), &mut reading).unwrap().apply(target);
            }
        }
        let mut queue = QueueSettings::default();
        apply(DOMAIN, &mut queue, spans);
        assert_eq!(queue, QueueSettings::default());
        let mut source = Source::default();
        apply(SOURCE, &mut source, spans);
        assert_eq!(source, Source::default());
        let mut file = with_defaults("x.csv".into(), AcctFormat::Csv);
        apply(ACCT_FILE, &mut file, spans);
        assert_eq!(file, with_defaults("x.csv".into(), AcctFormat::Csv));
        let (webhook, _) = push::webhook("https://h.example/").unwrap();
        let mut file = webhook.clone();
        apply(directives::push::WEBHOOK, &mut file, spans);
        assert_eq!(file, webhook);
        let endpoint = UnsubscribeListener::at("127.0.0.1:80".parse().unwrap());
        let mut listener = endpoint.clone();
        apply(directives::unsubscribe::UNSUBSCRIBE_LISTENER, &mut listener, spans);
        assert_eq!(listener, endpoint);
        let nats = push::nats("nats://h.example").unwrap();
        let mut file = nats.clone();
        apply(directives::push::NATS, &mut file, spans);
        assert_eq!(file, nats);
        let mut block = directives::auto_suppression::AutoSuppressionBlock::default();
        let before = block.clone();
        apply(directives::auto_suppression::AUTO_SUPPRESSION, &mut block, spans);
        assert_eq!(block, before);
    }

    #[test]
    fn every_domain_and_source_directive_changes_the_model() {
        /// A value other than the default.
        fn other<T>(row: &directives::Directive<T>) -> &'static str {
            match (&row.set, row.default) {
                (Set::Bool(_), "yes") => "no",
                (Set::Int(..) | Set::Limit(..), "20") => "21",
                _ => row.set.sample(),
            }
        }
        // The patterns of a domain are classification's: they stand beside the global ones, not in the queue's settings.
        for row in DOMAIN.iter().filter(|row| row.name != "bounce-pattern-file") {
            let config = good(&placed(Scope::Domain, &format!("{} {}", row.name, other(row))));
            assert_ne!(*config.queue_settings("a.com", "{default}"), QueueSettings::default(), "{}", row.name);
        }
        for row in SOURCE {
            let text = placed(Scope::Source, &format!("{} {}", row.name, other(row)));
            let config = good(&(text + "<address-list blocked>\naddress a@b.example\n</address-list>\n"));
            let mut source = (*config.source(ip("10.0.0.1"), None, None)).clone();
            source.name = "default".into();
            assert_ne!(source, Source::default(), "{}", row.name);
        }
    }
}

mod precedence {
    use super::*;

    fn out(config: &Config, domain: &str, vmta: &str) -> u32 {
        config.queue_settings(domain, vmta).max_smtp_out
    }

    #[test]
    fn the_most_specific_pattern_wins_whatever_the_order_of_the_file() {
        let config = good(
            "<domain a.b.com>\nmax-smtp-out 5\n</domain>\n<domain *.b.com>\nmax-smtp-out 4\n</domain>\n\
             <domain [*.]b.com>\nmax-smtp-out 3\n</domain>\n<domain *.com>\nmax-smtp-out 2\n</domain>\n\
             <domain *>\nmax-smtp-out 1\n</domain>\n",
        );
        for (domain, expected) in
            [("A.B.com.", 5), ("x.b.com", 4), ("x.y.b.com", 4), ("b.com", 3), ("c.com", 2), ("com", 1), ("x.org", 1)]
        {
            assert_eq!(out(&config, domain, "{default}"), expected, "{domain}");
        }
    }

    #[test]
    fn the_winner_is_found_for_each_directive_on_its_own() {
        let config = good(
            "<domain *>\nmax-smtp-out 1\nretry-after 1m\n</domain>\n<domain a.com>\nretry-after 2m,3m\n</domain>\n",
        );
        let settings = config.queue_settings("a.com", "{default}");
        assert_eq!((settings.max_smtp_out, settings.retry_after.clone()), (1, vec![secs(120), secs(180)]));
        assert_eq!(settings.retry_recipients_after, secs(600));
    }

    #[test]
    fn a_virtual_mta_beats_its_pool_and_the_pool_beats_the_rest_even_where_the_rest_is_more_specific() {
        let config = good(
            "<domain a.com>\nmax-smtp-out 1\nretry-after 1m\nbounce-after 1h\n</domain>\n\
             <virtual-mta v>\n<domain *>\nmax-smtp-out 3\n</domain>\n</virtual-mta>\n\
             <virtual-mta w>\n</virtual-mta>\n\
             <virtual-mta-pool p>\nvirtual-mta v\nvirtual-mta w\n<domain *>\nmax-smtp-out 2\nretry-after 2m\n</domain>\n\
             </virtual-mta-pool>\n",
        );
        assert_eq!(
            (out(&config, "a.com", "{default}"), out(&config, "a.com", "w"), out(&config, "a.com", "V")),
            (1, 2, 3)
        );
        let of_v = config.queue_settings("a.com", "v");
        assert_eq!((of_v.retry_after.clone(), of_v.bounce_after), (vec![secs(120)], secs(3600)));
    }

    #[test]
    fn a_domain_written_out_beats_one_from_a_macro() {
        let config = good(
            "<domain a.com>\nmax-smtp-out 1\n</domain>\ndomain-macro m a.com,b.com\n\
             <domain $m>\nmax-smtp-out 2\nretry-after 2m\n</domain>\n",
        );
        assert_eq!((out(&config, "a.com", "x"), out(&config, "b.com", "x")), (1, 2));
        assert_eq!(config.queue_settings("a.com", "x").retry_after, [secs(120)], "what it does not say is kept");
    }

    #[test]
    fn address_literals_are_matched_by_prefix() {
        let config = good("<domain [0/0]>\nmax-smtp-out 1\n</domain>\n<domain [127/8]>\nmax-smtp-out 2\n</domain>\n");
        assert_eq!(
            (out(&config, "[127.0.0.1]", "x"), out(&config, "[9.9.9.9]", "x"), out(&config, "a.com", "x")),
            (2, 1, 20)
        );
    }

    #[test]
    fn narrower_address_prefixes_win_for_sources_directive_by_directive() {
        let config = good(
            "<source 10.1/16>\nmax-message-size 1M\n</source>\n<source 0/0>\nlog-connections yes\n</source>\n\
             <source 10/8>\nalways-allow-relaying yes\nmax-message-size 2M\n</source>\n",
        );
        let near = config.source(ip("10.1.2.3"), None, None);
        assert_eq!((near.max_message_size, near.always_allow_relaying, near.log_connections), (1 << 20, true, true));
        let far = config.source(ip("192.0.2.1"), None, None);
        assert_eq!((far.max_message_size, far.always_allow_relaying, far.log_connections), (0, false, true));
        assert_eq!(near.name, "10.1/16");
        assert!(config.source(ip("::ffff:10.9.9.9"), None, None).always_allow_relaying);
        let v6 = config.source(ip("2001:db8::1"), None, None);
        assert_eq!((v6.log_connections, v6.always_allow_relaying), (true, false), "0/0 is the base of IPv6 as well");
    }

    #[test]
    fn the_listeners_source_lies_over_the_address_and_the_users_over_both() {
        let config = good(
            "<source 0/0>\nlog-connections yes\nmax-message-size 1M\n</source>\n\
             <source sub>\nrequire-auth yes\nmax-message-size 2M\n</source>\n\
             <source {auth}>\nmax-message-size 3M\n</source>\n<source vip>\nmax-message-size 4M\n</source>\n\
             <smtp-user a>\npassword p\n</smtp-user>\n<smtp-user b>\npassword p\nsource VIP\n</smtp-user>\n",
        );
        let of = |user: Option<&str>| config.source(ip("192.0.2.1"), Some("sub"), user.map(|u| &config.users[u]));
        assert_eq!((of(None).max_message_size, of(Some("a")).max_message_size), (2 << 20, 3 << 20));
        let b = of(Some("b"));
        assert_eq!((b.max_message_size, b.require_auth, b.log_connections), (4 << 20, true, true));
    }

    #[test]
    fn virtual_mtas_inherit_from_pool_and_top_level() {
        let config = good(
            "host-name mail.example.com\nsmtp-source-host 192.0.2.1 top.example.com\n\
             <virtual-mta v>\nmax-smtp-out 7\n</virtual-mta>\n\
             <virtual-mta w>\nsmtp-source-host 192.0.2.2\nhost-name w.example.com\n</virtual-mta>\n\
             <virtual-mta-pool p>\nvirtual-mta v\nvirtual-mta W\nmax-smtp-out 3\nmax-smtp-msg-rate 10/s\n</virtual-mta-pool>\n",
        );
        let v = &config.virtual_mtas["v"];
        assert_eq!((v.max_smtp_out, v.max_smtp_msg_rate.map(|r| r.count)), (Some(7), Some(10)));
        assert_eq!(v.smtp_source_hosts, [(ip("192.0.2.1"), "top.example.com".to_owned())]);
        let w = &config.virtual_mtas["w"];
        assert_eq!((w.max_smtp_out, &w.smtp_source_hosts[0].1), (Some(3), &"w.example.com".to_owned()));
        assert_eq!(config.virtual_mtas["{default}"].smtp_source_hosts.len(), 1);
        assert_eq!(config.pools["p"], ["v", "w"]);
    }

    proptest! {
        /// What the rule says, without any of the tables that make the look-up fast.
        #[test]
        fn the_winner_is_the_most_specific_pattern_that_matches(
            patterns in prop::collection::btree_set("(\\*|\\*\\.|\\[\\*\\.\\]|)([ab]\\.){0,2}[ab]", 1..12),
            domain in "([ab]\\.){0,3}[ab]",
        ) {
            let patterns: Vec<_> = patterns.iter().filter_map(|p| values::domain_pattern(p).ok()).collect();
            let blocks = patterns.iter().enumerate();
            let text: String = blocks.map(|(i, p)| format!("<domain {p}>\nmax-smtp-out {}\n</domain>\n", 100 + i)).collect();
            let labels = |d: &str| d.split('.').count();
            let rank = |p: &DomainPattern| match p {
                DomainPattern::Any | DomainPattern::Literal(..) => (0, 0),
                DomainPattern::NameAndSubdomains(d) => (labels(d), 1),
                DomainPattern::Subdomains(d) => (labels(d), 2),
                DomainPattern::Exact(_) => (usize::MAX, 0),
            };
            let matching = patterns.iter().enumerate().filter(|(_, p)| p.matches(&domain));
            let expected = matching.max_by_key(|(_, p)| rank(p)).map_or(20, |(i, _)| 100 + i as u32);
            prop_assert_eq!(out(&good(&text), &domain, "{default}"), expected);
        }
    }

    #[test]
    fn settings_are_shown_as_written_with_defaults_for_the_rest() {
        let config = good("<domain *>\nmax-smtp-out 1\n</domain>\n<domain a.com>\nroute [192.0.2.1]:26\n</domain>\n");
        let shown = config.settings_of("a.com", "{default}");
        let of = |name: &str| shown.iter().find(|(n, _)| *n == name).unwrap().1.as_str();
        assert_eq!((of("max-smtp-out"), of("smtp-hosts"), of("retry-after")), ("1", "[192.0.2.1]:26", "10m"));
    }
}

mod typed {
    use super::*;

    #[test]
    fn an_empty_file_is_a_safe_configuration() {
        let config = good("");
        assert_eq!(config.spool, Path::new("/var/spool/carom"));
        assert_eq!(config.command_socket, Path::new("/var/spool/carom/carom.sock"));
        assert_eq!(config.listeners[0].address.to_string(), "0.0.0.0:25");
        assert_eq!((config.total_max_smtp_in, config.total_max_smtp_out), (100, 1200));
        assert_eq!((config.ledger_retention_bytes, config.ledger_retention), (1 << 30, secs(86_400)));
        assert_eq!(config.send_index_retention, secs(30 * 86_400));
        assert!(config.virtual_mtas.contains_key("{default}"));
        for address in ["127.0.0.1", "192.0.2.1", "::1"] {
            assert!(!config.source(ip(address), None, None).always_allow_relaying, "nobody relays unless told to");
        }
    }

    #[test]
    fn acct_files_are_read_with_fields_headers_and_sizes() {
        let config = good(
            "<acct-file a.csv>\nrecords d b,rb fbl\nrecord-fields d *,!dlvSize,header_X-Job\nrecord-fields bounce rcpt\n\
             max-size 1M\nmove-to done\ndelete-after never\niso-times no\nstrict-columns yes\n</acct-file>\n\
             <acct-file b.parquet>\nrecords all\nrecord-fields f header_subject, header_x-job\n</acct-file>\nacct-file c.csv\n",
        );
        let by_name = |n: &str| config.acct_files.iter().find(|f| f.path == Path::new(n)).unwrap();
        let a = by_name("a.csv");
        let kinds = [Kind::Delivered, Kind::Bounced, Kind::RemoteBounce, Kind::Feedback];
        assert_eq!((a.format, a.records), (AcctFormat::Csv, Kinds::of(&kinds)));
        assert_eq!(
            a.record_fields[&Kind::Delivered],
            [FieldChoice::All, FieldChoice::Not("dlvSize".into()), FieldChoice::Header("X-Job".into())]
        );
        assert_eq!(a.record_fields[&Kind::Bounced], [FieldChoice::Field("rcpt".into())]);
        assert_eq!((a.max_size, a.delete_after, a.iso_times, a.strict_columns), (1 << 20, None, false, true));
        let b = by_name("b.parquet");
        assert_eq!(
            (b.format, b.records, b.close_rows, b.close_after),
            (AcctFormat::Parquet, Kinds::ALL, 1_000_000, secs(300))
        );
        assert_eq!(by_name("c.csv").delete_after, Some(secs(8 * 86_400)));
        assert_eq!(config.kept_headers, ["subject", "x-job"]);
    }

    #[test]
    fn address_lists_and_the_terms_of_a_source_are_read() {
        let config = good(
            "<source 10/8>\nsuppression-lists Never, partners\nsuppression-exempt-scopes list job\n\
             suppression-exempt-rules Complaint,unsub\naccept-invalid-recipients yes\n</source>\n\
             <source 10.1/16>\nsuppression-outcome drop\n</source>\n\
             <address-list Never>\naddress a@B.example\naddress-file never.txt\n</address-list>\n\
             <address-list partners>\ndomain c.example\n</address-list>\n\
             <address-list never>\ndomain d.example\n</address-list>\n",
        );
        let source = config.source(ip("10.0.0.1"), None, None);
        assert_eq!(source.suppression_lists, ["never", "partners"]);
        assert_eq!(&*source.suppression_exempt_rules, "complaint,unsub");
        let exempt = source.suppression_exempt_scopes;
        assert!(exempt.contains(crate::event::ScopeKind::Job) && !exempt.contains(crate::event::ScopeKind::Global));
        assert_eq!(source.outcome_of_suppressed(), SuppressionOutcome::Bounce);
        assert_eq!(config.source(ip("10.1.0.1"), None, None).outcome_of_suppressed(), SuppressionOutcome::Drop);
        assert_eq!(Source::default().outcome_of_suppressed(), SuppressionOutcome::Reject);
        let list = &config.address_lists["never"];
        assert_eq!((list.name.as_str(), list.files.as_slice()), ("Never", [PathBuf::from("never.txt")].as_slice()));
        let takes = |a: &str| list.list.takes(&crate::event::Address::parse(a).unwrap(), crate::config::Entries::All);
        assert!(takes("A@b.example") && takes("x@d.example") && !takes("x@c.example"));
    }

    #[test]
    fn processors_token_and_retention_are_read() {
        let config = good(
            "<bounce-processor>\ndeliver-unmatched-email no\nforward-errors-to a@example.com\n\
             <address-list>\ndomain B.example\naddress bounces\naddress x@Y.example\n</address-list>\n</bounce-processor>\n\
             <return-path-token>\ndomain b.example\nkey k2 0123456789abcdef\nkey k1 fedcba9876543210\n</return-path-token>\n\
             ledger-retention 2G\nledger-retention 7d\nsend-index-retention 10d\ncommand-socket /run/carom.sock\n",
        );
        let processor = config.bounce_processor.unwrap();
        assert_eq!(
            ["a@b.example", "bounces@any.example", "X@y.example", "z@y.example"]
                .map(|a| { processor.takes(&crate::event::Address::parse(a).unwrap(), crate::config::Entries::All) }),
            [true, true, true, false]
        );
        assert!(!processor.deliver_unmatched_email && !processor.deliver_matched_email);
        let token = config.return_path_token.unwrap();
        assert_eq!(
            (token.keys[0].id.as_str(), token.keys[1].secret.as_slice()),
            ("k2", b"fedcba9876543210".as_slice())
        );
        assert_eq!((config.ledger_retention_bytes, config.ledger_retention), (2 << 30, secs(7 * 86_400)));
        assert_eq!(config.command_socket, Path::new("/run/carom.sock"));
    }

    #[test]
    fn patterns_come_in_file_order_and_then_those_of_files() {
        let files = Memory::of(&[
            (
                "c",
                "bounce-pattern-file p\n<bounce-category-patterns>\n/a b/ one\ninclude more\n/broken\nhere/ three\n</bounce-category-patterns>\n",
            ),
            ("p", "/z/ other\n"),
            ("more", "/x\\.y/ Two\n"),
        ]);
        let loaded = read(Path::new("c"), None, &files);
        let inline = |file: &str, line, regex: &str, category: &str| PatternSource::Inline {
            file: file.into(),
            line,
            regex: regex.into(),
            category: category.into(),
            rest: String::new(),
        };
        assert_eq!(
            loaded.config.unwrap().bounce_category_patterns,
            [
                inline("c", 3, "a b", "one"),
                inline("more", 1, "x\\.y", "two"),
                inline("c", 5, "brokenhere", "three"),
                PatternSource::file("p", "/z/ other\n"),
            ]
        );
    }

    #[test]
    fn a_pattern_file_is_read_with_what_it_includes_and_may_be_for_one_domain() {
        let files = Memory::of(&[
            (
                "c",
                "bounce-pattern-file p/a\n<domain b.example>\nbounce-pattern-file p/b\n</domain>\n\
                 <bounce-category-patterns>\n/x/ other mode=backoff class=4\n</bounce-category-patterns>\n",
            ),
            ("p/a", "include b\n/z/ other\n"),
            ("p/b", "/y/ other\n"),
        ]);
        let loaded = read(Path::new("c"), None, &files);
        let patterns = loaded.config.unwrap().bounce_category_patterns;
        let [PatternSource::File(of_domain), PatternSource::Inline { rest, .. }, PatternSource::File(global)] =
            &patterns[..]
        else {
            panic!("{patterns:?}")
        };
        assert_eq!(of_domain.domain, Some(DomainPattern::Exact("b.example".into())));
        assert_eq!(rest, "mode=backoff class=4");
        assert_eq!(global.included["p/b".as_ref() as &Path], [("p/b".into(), "/y/ other\n".to_owned())]);
        let loaded = read(
            Path::new("c"),
            None,
            &Memory::of(&[("c", "<domain b.example>\nbounce-pattern-file none\n</domain>\n")]),
        );
        let errors: Vec<_> = loaded.diagnostics.iter().filter(|d| d.is_error()).map(Diagnostic::one_line).collect();
        assert!(errors.iter().any(|e| e.contains("none can't be read")), "{errors:?}");
    }

    #[test]
    fn relative_paths_are_taken_from_the_root() {
        let files =
            Memory::of(&[("c", "spool s\nlog-file /l\nacct-file a/b.csv\ninclude inc"), ("r/inc", "host-name x")]);
        let config = read(Path::new("c"), Some(Path::new("r")), &files).config.unwrap();
        assert_eq!((config.spool.as_path(), config.log_file.as_deref()), (Path::new("r/s"), Some(Path::new("/l"))));
        assert_eq!(config.acct_files[0].path, Path::new("r/a/b.csv"));
        assert_eq!(config.host_names, ["x"]);
    }

    #[test]
    fn forms_of_how_to_guides_work() {
        let config = good(
            "\u{feff}hostname mail.example.com\r\nadministrator a@example.com\ndns-server 192.0.2.53\nmax-smtp-out 7\n\
             retry-after 5m\nalways-allow-relaying no\nvirtual-mta plain\nacct-file x.csv\n\
             <domain *> max-msg-rate 50/second idle-timeout 120 </domain>\n\
             <domain a.com b.com>\nroute 192.0.2.9:2525\n</domain>\nsmtp-source-ip 192.0.2.1 host-name ://m.example.com\n",
        );
        let a = config.queue_settings("b.com", "plain");
        assert_eq!((a.max_smtp_out, a.connection_idle_timeout, a.retry_after.clone()), (7, secs(120), vec![secs(300)]));
        assert_eq!(a.max_msg_rate, Some(Rate { count: 50, per: secs(1) }));
        assert_eq!(a.smtp_hosts[0].port, Some(2525));
        assert_eq!(config.name_servers[0].to_string(), "192.0.2.53:53");
        assert_eq!(config.virtual_mtas["plain"].smtp_source_hosts[0].1, "m.example.com");
        assert_eq!((config.postmaster.len(), config.acct_files.len()), (1, 1));
    }

    #[test]
    fn a_reload_names_what_changed_and_what_needs_a_restart() {
        let old = good("spool s\nsmtp-listener 127.0.0.1:1\n<domain a.com>\nmax-smtp-out 1\n</domain>\n");
        let new = good("spool s\nsmtp-listener 127.0.0.1:2\n<domain a.com>\nmax-smtp-out 2\n</domain>\n");
        assert_eq!(diff(&old, &new), ["smtp-listener changed; it takes effect after a restart", "<domain> changed"]);
        assert!(diff(&old, &old.clone()).is_empty());
        assert_eq!(restart_needed(&old, &new), ["smtp-listener"]);
        // What the store and the send index are opened with, and the index itself.
        let new = good(
            "spool s\nspool-min-free-space 9\nledger-retention 7d\nsend-index-retention 9d\ntotal-max-smtp-in 7\n\
             total-max-smtp-out 7\nsmtp-listener 127.0.0.1:1\n<domain a.com>\nmax-smtp-out 1\n</domain>\n\
             <bounce-processor>\n<address-list>\ndomain b.example\n</address-list>\n</bounce-processor>\n",
        );
        let waiting = ["min-free-space", "<bounce-processor>", "ledger-retention", "send-index-retention"];
        assert_eq!(restart_needed(&old, &new), waiting);
    }

    #[test]
    fn parquet_files_are_never_removed_and_what_only_csv_files_obey_is_said() {
        let text = "spool s\n<acct-file a.parquet>\ndelete-after 9d\nmove-to done\n</acct-file>\nacct-file b.csv\n";
        let loaded = parse_str("c", text);
        let said: Vec<_> = loaded.diagnostics.iter().map(|d| d.message.as_str()).collect();
        assert!(said.contains(&"delete-after has no effect on a Parquet file"), "{said:?}");
        assert!(said.contains(&"move-to has no effect on a Parquet file"), "{said:?}");
        let days = |n: u64| Some(secs(n * 86_400));
        let config = good("spool s\nacct-file a.parquet\nacct-file b.csv\n");
        let kept: Vec<_> = config.acct_files.iter().map(|f| f.delete_after).collect();
        assert_eq!(kept, [None, days(8)]);
    }
}

mod errors {
    use super::*;

    /// Each text gives exactly this, as people see it (line 1 is a spool).
    #[track_caller]
    fn gives(text: &str, expected: &str) {
        let found = findings(text);
        assert_eq!(found, expected, "\n{found}");
    }

    #[test]
    fn a_slip_in_a_closing_tag_is_one_error_and_what_follows_is_read_where_it_belongs() {
        gives(
            "<source 10/8>\nalways-allow-relaying yes\n</sorce>\n<domain *>\nmax-smtp-out x\n</domain>",
            "c:4:1: error: </sorce> closes nothing\n 4 | </sorce>\n   | ^^^^^^^^\n   help: did you mean </source>?\n\
             c:6:14: error: max-smtp-out: `x` is not a number\n 6 | max-smtp-out x\n   |              ^\n   \
             help: write a number from 0 to 4294967295\n",
        );
    }

    #[test]
    fn an_address_list_that_is_cited_and_not_there_or_there_and_not_cited_is_named() {
        let list = "<address-list blocked>\naddress a@b.example\n</address-list>\n";
        let found = findings(&format!("<source 10/8>\nsuppression-lists bloked\n</source>\n{list}"));
        assert!(found.contains("c:3:1: error: there is no <address-list bloked>"), "{found}");
        assert!(found.contains("help: did you mean blocked?"), "{found}");
        let found = findings(list);
        assert!(found.contains("<address-list blocked> is in no source's suppression-lists"), "{found}");
        let found = findings("<source 10/8>\nsuppression-lists x\n</source>\n<address-list x>\n</address-list>");
        assert!(found.contains("<address-list x> names no address"), "{found}");
        let found = findings("<address-list>\naddress a@b.example\n</address-list>\n");
        assert!(found.contains("error: <address-list>: argument missing"), "{found}");
        for (line, part) in [
            ("suppression-outcome maybe", "write reject, bounce or drop"),
            ("suppression-exempt-scopes planet", "the scopes are global, sender-domain, source, job, list, vmta"),
            ("suppression-exempt-rules a/b", "is not the name of a rule"),
        ] {
            let found = findings(&format!("<source 10/8>\n{line}\n</source>"));
            assert!(found.contains("error: ") && found.contains(part), "{found}");
        }
    }

    #[test]
    fn one_file_under_two_spellings_is_refused() {
        let found = findings("acct-file x/a.csv\nacct-file ./x/../x/a.csv");
        assert!(found.contains("c:3:1: error: x/a.csv is already written by another acct-file"), "{found}");
    }

    #[test]
    fn of_a_file_that_is_not_there_nothing_else_is_said() {
        let loaded = load(Path::new("/no/such.conf"), None);
        assert_eq!(loaded.diagnostics.len(), 1, "{:?}", loaded.diagnostics);
        assert_eq!(loaded.command_socket, None);
    }

    #[test]
    fn a_file_with_errors_still_tells_where_its_server_listens() {
        let loaded = parse_str("c", "spool s\nnonsense 1\n");
        assert!(loaded.config.is_none());
        assert_eq!(loaded.command_socket.as_deref(), Some(Path::new("s/carom.sock")));
    }

    #[test]
    fn a_misspelt_directive_is_shown_with_the_nearest_name() {
        gives(
            "<domain *>\n  max-stmp-out 20 # x\n</domain>",
            "c:3:3: error: `max-stmp-out`: there is no such directive in <domain>\n\
             \x203 |   max-stmp-out 20 # x\n   |   ^^^^^^^^^^^^\n   help: did you mean max-smtp-out?\n",
        );
    }

    #[test]
    fn a_directive_in_the_wrong_place_is_sent_to_the_right_one() {
        gives(
            "<smtp-listener 127.0.0.1:25>\nprocess-x-job yes\n</smtp-listener>",
            "c:3:1: error: process-x-job has no place in <smtp-listener>\n\
             \x203 | process-x-job yes\n   | ^^^^^^^^^^^^^\n   help: it belongs into <source>\n",
        );
    }

    #[test]
    fn all_errors_of_a_file_are_found_in_one_go_and_in_order() {
        let found =
            findings("total-max-smtp-in many\n<domain a..b>\nretry-after soon\n</domain>\n<nonsense>\n</nonsense>\n");
        let lines: Vec<_> = found.lines().filter(|l| l.starts_with("c:")).collect();
        assert_eq!(
            lines,
            [
                "c:2:19: error: total-max-smtp-in: `many` is not a number",
                "c:3:9: error: domain: `a..b` is not a host name",
                "c:4:13: error: retry-after: `soon` is not a time",
                "c:6:1: error: there is no <nonsense>",
            ]
        );
    }

    #[test]
    fn an_argument_lost_to_a_comment_is_explained() {
        gives(
            "log-file #/var/log/x",
            "c:2:1: error: log-file: argument missing\n 2 | log-file #/var/log/x\n   | ^^^^^^^^\n   \
             help: write log-file /var/lib/carom/file; a # begins a comment, also inside a value\n",
        );
    }

    #[test]
    fn what_is_not_supported_is_a_warning_and_not_in_effect() {
        gives(
            "<domain *>\ndkim-sign yes\n</domain>",
            "c:3:1: warning: dkim-sign is not supported yet: it is not in effect\n 3 | dkim-sign yes\n   | ^^^^^^^^^\n",
        );
        assert!(parse_str("c", "<smtp-pattern-list x>\nreply /a/ mode=backoff\n</smtp-pattern-list>").config.is_some());
        let loaded = parse_str("c", "run-as-root no");
        assert!(loaded.diagnostics.iter().any(|d| d.severity == Severity::Note && d.message.contains("run-as-root")));
    }

    #[test]
    fn references_to_nothing_are_shown_with_the_nearest_name() {
        gives(
            "<virtual-mta fast-1>\n</virtual-mta>\n<source 10/8>\ndefault-virtual-mta fast1\n</source>",
            "c:5:21: error: there is no VirtualMTA or pool `fast1`\n 5 | default-virtual-mta fast1\n   \
             |                     ^^^^^\n   help: did you mean fast-1?\n",
        );
        gives(
            "smtp-listener 127.0.0.1:25 source=inside",
            "c:2:28: error: there is no <source> `inside`\n 2 | smtp-listener 127.0.0.1:25 source=inside\n   \
             |                            ^^^^^^^^^^^^^\n   help: write <source inside> and </source>\n",
        );
    }

    #[test]
    fn a_pool_named_like_a_virtual_mta_and_a_member_of_two_pools_with_domains_are_errors() {
        let found =
            findings("<virtual-mta a>\n</virtual-mta>\n<virtual-mta-pool A>\nvirtual-mta a\n</virtual-mta-pool>\n");
        assert!(found.contains("error: there is already a VirtualMTA `A`"), "{found}");
        let pool = |n: &str| {
            format!(
                "<virtual-mta-pool {n}>\nvirtual-mta a\n<domain *>\nmax-smtp-out 1\n</domain>\n</virtual-mta-pool>\n"
            )
        };
        let found = findings(&format!("<virtual-mta a>\n</virtual-mta>\n{}{}", pool("p"), pool("q")));
        assert!(found.contains("error: `a` is in the pools `p` and `q`, which both hold <domain> blocks"), "{found}");
    }

    #[test]
    fn what_is_given_twice_is_a_warning_and_the_later_one_holds() {
        gives(
            "<domain *>\nmax-smtp-out 1\nmax-smtp-out 2\n</domain>",
            "c:4:1: warning: max-smtp-out is given twice; the later one holds\n 4 | max-smtp-out 2\n   | ^^^^^^^^^^^^\n   \
             help: it is already given at c:3\n",
        );
        let config = good("<domain a.com>\nmax-smtp-out 1\n</domain>\n<domain a.com>\nmax-smtp-out 2\n</domain>\n");
        assert_eq!(config.queue_settings("a.com", "x").max_smtp_out, 2);
    }

    #[test]
    fn relaying_for_the_whole_world_is_said_aloud() {
        gives(
            "<source 0/0>\nalways-allow-relaying yes\n</source>",
            "c:3:1: warning: OPEN RELAY: anybody in 0.0.0.0/0 may send mail to any domain\n 3 | always-allow-relaying yes\n   \
             | ^^^^^^^^^^^^^^^^^^^^^\n   help: allow it only for the networks of your own systems, such as <source 10/8>, \
             or add require-auth yes\n",
        );
        let user = "<smtp-user u>\npassword p\n</smtp-user>\n";
        let guarded = "<source 0/0>\nalways-allow-relaying yes\nrequire-auth yes\n</source>\n";
        assert_eq!(findings(&format!("{user}{guarded}")), "");
        assert!(findings(guarded).contains("warning: logging in is required, and there is no <smtp-user> who could"));
        assert_eq!(findings("<source 127/8>\nalways-allow-relaying yes\n</source>"), "");
        assert!(findings("always-allow-relaying yes").contains("OPEN RELAY"));
        assert!(findings("relay-domain *").contains("OPEN RELAY"));
        assert!(
            findings("smtp-listener 0/0:25 source=s\n<source s>\nalways-allow-relaying yes\n</source>")
                .contains("OPEN RELAY")
        );
    }

    #[test]
    fn listeners_on_one_address_and_acct_files_of_one_path_are_errors() {
        assert!(findings("smtp-listener 0/0:25\nsmtp-listener 127.0.0.1:25").contains("error: 127.0.0.1:25 is taken"));
        assert_eq!(findings("smtp-listener 127.0.0.2:25\nsmtp-listener 127.0.0.1:25"), "");
        assert!(
            findings("acct-file a.csv\n<acct-file a.csv>\n</acct-file>").contains("error: a.csv is already written")
        );
        assert!(findings("acct-file a.txt").contains("error: a.txt is neither a .csv nor a .parquet file"));
        assert!(findings("<acct-file |>\n</acct-file>").contains("the pipe has no command"));
        let pipe =
            good("<acct-file |/bin/cat -u>\nretry-interval 1m\nrecord-fields d *,!timeImprinted\n</acct-file>\n");
        assert_eq!(
            (pipe.acct_files[0].format, pipe.acct_files[0].path.as_path()),
            (AcctFormat::Pipe, Path::new("|/bin/cat -u"))
        );
    }

    #[test]
    fn a_token_without_a_processor_for_its_domain_is_a_warning() {
        let token = "<return-path-token>\ndomain b.example\nkey k1 0123456789abcdef\n</return-path-token>\n";
        assert!(findings(token).contains("warning: no processor takes the reports that come back to b.example"));
        let with = format!(
            "{token}<bounce-processor>\n<address-list>\ndomain b.example\n</address-list>\n</bounce-processor>"
        );
        assert_eq!(findings(&with), "");
    }

    #[test]
    fn unsubscribe_links_need_an_address_a_key_and_somebody_who_answers() {
        let key = "<return-path-token>\nkey k1 0123456789abcdef\n</return-path-token>\n";
        assert!(findings(key).contains("error: <return-path-token> has neither a domain nor a header"));
        let source = |lines: &str| format!("{key}<source 10/8>\nadd-list-unsubscribe yes\n{lines}\n</source>\n");
        assert!(findings(&source("")).contains("error: nothing says where people unsubscribe"));
        let mail = source("list-unsubscribe-mailto out@u.example");
        assert!(findings(&mail).contains("warning: without a link there is no one-click unsubscribe"));
        let link = source("list-unsubscribe-url https://u.example");
        assert!(findings(&link).contains("warning: no <unsubscribe-listener> of this server answers"));
        let listener = "<unsubscribe-listener 127.0.0.1:8080>\n</unsubscribe-listener>\n";
        assert_eq!(findings(&format!("{link}{listener}")), "");
        assert!(findings(&link.replace(key, "")).contains("error: there is no key to sign unsubscribe links with"));
        assert!(findings(&source("list-unsubscribe-url http://u.example")).contains("https: only (RFC 8058, 3.1)"));
        // What holds for everybody need not be said again; what stands elsewhere may be put over it.
        let apart = "<source 0/0>\nlist-unsubscribe-url https://u.example\n</source>\n<source {auth}>\nadd-list-unsubscribe \
                     on-request\n</source>\n";
        assert_eq!(findings(&format!("{key}{apart}{listener}")), "");
    }

    #[test]
    fn what_is_odd_about_an_unsubscribe_listener_is_said() {
        let key = "<return-path-token>\ndomain b.example\nkey k1 0123456789abcdef\n</return-path-token>\n\
                   <bounce-processor>\n<address-list>\ndomain b.example\n</address-list>\n</bounce-processor>\n";
        let at = |address: &str, lines: &str| {
            findings(&format!("{key}<unsubscribe-listener {address}>\n{lines}\n</unsubscribe-listener>\n"))
        };
        assert_eq!(at("192.0.2.1:443", "tls-certificate x.pem"), "");
        assert!(at("u.example:443", "").contains("error: `u.example:443` is not an address and a port"));
        assert!(at("192.0.2.1:443", "").contains("warning: there is no certificate"));
        assert!(at("192.0.2.1:80", "plain yes").contains("all who come through a proxy count as one address"));
        assert_eq!(at("192.0.2.1:80", "plain yes\ntrusted-proxy 192.0.2.0/24"), "");
        let mail = "smtp-listener 127.0.0.1:443\n";
        let clash = format!("{mail}{key}<unsubscribe-listener 127.0.0.1:443>\n</unsubscribe-listener>\n");
        assert!(findings(&clash).contains("error: 127.0.0.1:443 is taken by another listener"));
    }

    #[test]
    fn passwords_and_keys_are_in_no_diagnostic_and_in_no_debug_output() {
        let bad = "<smtp-user a>\npassword hunter2 hunter2\nhunter2 x\npasswort hunter2\nsource hunter2\n</smtp-user>\n\
                   <smtp-user b> password hunter2 nonsense-word hunter2 </smtp-user>\n\
                   <return-path-token>\ndomain x..y\nkey hunter2hunter2 hunter2\nkey a hunter2\nhunter2\n</return-path-token>\n\
                   http-api-key hunter2\npassword hunter2\nsmtp-server-tls-certificate a.pem hunter2\n\
                   <domain *>\nauth-password hunter2\n</domain>\n<smtp-user c>\npassword hunter2\npassword hunter2\n";
        let loaded = parse_str("c", bad);
        let leaks: Vec<_> = loaded
            .diagnostics
            .iter()
            .filter(|d| format!("{}{}", d.render(), serde_json::to_string(d).unwrap()).contains("hunter2"))
            // A source is a name, not a secret.
            .filter(|d| !d.message.contains("<source>"))
            .collect();
        assert!(leaks.is_empty(), "{leaks:#?}");
        let config = good(
            "<smtp-user a>\npassword hunter2\n</smtp-user>\n<return-path-token>\ndomain d.example\nkey k hunter2hunter2hunter2\n</return-path-token>\n",
        );
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_of_its_own() {
        let loaded = load(Path::new("/nonexistent/carom.conf"), None);
        assert!(loaded.config.is_none());
        assert!(loaded.diagnostics[0].render().starts_with("/nonexistent/carom.conf: error: the file can't be read"));
    }

    #[test]
    fn the_end_of_a_report_counts_what_was_found() {
        let loaded = parse_str("c", "spool s\nnonsense 1\nroute x\nrun-as-root no\n");
        let shown = render(&loaded.diagnostics, false);
        assert!(shown.ends_with("1 error, 1 warning\n") && !shown.contains("note:"), "{shown}");
        let pedantic = render(&loaded.diagnostics, true);
        assert!(pedantic.ends_with("1 error, 1 warning, 3 notes\n"), "{pedantic}");
    }

    #[test]
    fn findings_can_be_read_by_programs() {
        let loaded = parse_str("c", "spool s\nsmtp-listener 127.0.0.1:25\nbananas 1");
        assert_eq!(
            serde_json::to_string(&loaded.diagnostics).unwrap(),
            r#"[{"severity":"error","message":"`bananas`: there is no such directive at the top level","file":"c","line":3,"column":1,"length":7,"excerpt":"bananas 1"}]"#
        );
    }

    #[test]
    fn macros_in_a_circle_are_shown() {
        assert!(
            findings("domain-macro a $b\ndomain-macro b $a\n<domain $a>\n</domain>")
                .contains("error: the domain-macros go in a circle: a -> b -> a")
        );
        assert!(findings("domain-macro isp a.com\n<domain $ips>\n</domain>").contains("help: did you mean $isp?"));
    }
}

mod whole_files {
    use super::*;

    #[test]
    fn the_examples_are_without_error_or_warning() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["minimal", "relay", "production"] {
            let loaded = load(&root.join(format!("examples/{name}.conf")), Some(Path::new("/tmp/carom")));
            assert!(loaded.diagnostics.is_empty(), "{}", render(&loaded.diagnostics, true));
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
        assert_eq!(
            (settings.smtp_hosts[0].port, settings.use_starttls, settings.max_smtp_out),
            (Some(2600), false, 40)
        );
        let source = config.source(ip("127.0.0.1"), None, None);
        assert!(source.always_allow_relaying && source.suppress_local_dsn);
        assert_eq!(
            config.acct_files.iter().map(|f| f.format).collect::<Vec<_>>(),
            [AcctFormat::Csv, AcctFormat::Parquet]
        );
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

mod auto_suppression {
    use super::*;
    use crate::event::ScopeKind;

    fn block(lines: &str) -> String {
        format!("spool s\n<auto-suppression>\n{lines}\n</auto-suppression>\n")
    }

    #[test]
    fn what_the_documentation_shows_is_what_holds_without_a_block() {
        let shown = block(
            "rule hard       category bad-mailbox,inactive-mailbox             after 1      # 5xx / 5.x.x only\n\
             rule domain     category bad-domain           after 3 within 1d   expire 30d   # suppresses the domain\n\
             rule full       category quota-issues        after 5 within 30d    expire 90d\n\
             rule unreach    category no-answer-from-host,bad-connection,routing-errors after 8 within 14d  expire 30d\n\
             rule complaint  feedback abuse,fraud,virus                         after 1\n\
             rule unsub      unsubscribe                                        after 1  scope list\n\
             never           category spam-related,policy-related,content-related\n\
             scope           global            # or: job, sender-domain, vmta, list",
        );
        let mut none = good("spool s\n").auto_suppression;
        none.never.sort_unstable();
        assert_eq!(good(&shown).auto_suppression, none);
        let domain = none.rule("domain").unwrap();
        assert_eq!((domain.subject, domain.over), (RuleSubject::Domain, secs(3600)));
        assert_eq!(none.scope_of(none.rule("unsub").unwrap()), ScopeKind::List);
    }

    #[test]
    fn what_is_printed_reads_back() {
        let text = block(
            "rule a category bad-mailbox after 2 within 36h over 1h expire 90m scope job\nrule b feedback abuse after 1\n\
             rule c category bad-domain,routing-errors after 4 subject domain\nnever category none\nscope sender-domain\n\
             fold-dots GMail.com\nfold-plus-tags gmail.com,bücher.example\nbreaker-multiple 7\nbreaker-window 2h",
        );
        let made = good(&text).auto_suppression;
        assert_eq!(good(&block(&made.to_string())).auto_suppression, made);
        assert_eq!(made.fold_plus_tags.len(), 2);
        assert!(made.never.is_empty());
        assert_eq!(made.rule("c").unwrap().over, secs(3600));
    }

    #[test]
    fn what_is_misspelt_or_contradicts_itself_is_told_with_its_line_and_what_was_meant() {
        for (line, message, help) in [
            (
                "rule a category bad-malbox after 1",
                "no pattern gives the category `bad-malbox`",
                "did you mean bad-mailbox?",
            ),
            ("rule a categry bad-mailbox after 1", "`categry` is no evidence", "did you mean category?"),
            ("rule a category bad-mailbox aftr 1", "`aftr` is no part of a rule", "did you mean after?"),
            ("rule a category bad-mailbox", "does not say after how many", "write after 1"),
            ("rule a category bad-mailbox after 1 within 1d", "after 1 and within contradict", "take within out"),
            ("rule a category quota-issues after 3 within 1h over 2h", "could never apply", "make within the longer"),
            ("rule a category quota-issues after 0", "out of range", "a number from 1"),
            ("rule a category quota-issues after 2 expire 30", "not a time with a unit", "30d"),
            ("rule a category quota-issues after 2 after 3", "given twice", "keep one"),
            ("rule a category policy-related after 5", "never to count", "a never line without it"),
            ("rule a category suppressed after 5", "never counts", "take"),
            ("rule a feedback not-spam after 1", "takes a complaint back", "take it out"),
            ("rule a feedback abus after 1", "no feedback type", "did you mean abuse?"),
            ("rule a unsubscribe after 1 subject domain", "no reason to suppress a domain", "take subject domain out"),
            ("rule a feedback abuse after 1 scope lists", "`lists` is no scope", "did you mean list?"),
            ("rule a feedback abuse after 1\nrule A feedback fraud after 1", "two rules a", "c:4"),
            ("rule manual feedback abuse after 1", "no rule made", "another name"),
            ("never spam-related", "is not what can be left out", "never category"),
            ("rul a feedback abuse after 1", "no such directive in <auto-suppression>", "did you mean rule?"),
        ] {
            let loaded = parse_str("c", &block(line));
            let error = loaded.diagnostics.iter().find(|d| d.is_error()).unwrap_or_else(|| panic!("{line}: no error"));
            let rendered = error.render();
            assert!(error.line >= 3 && rendered.contains(message), "{line}: {rendered}");
            assert!(rendered.contains(help), "{line}: {rendered}");
        }
    }

    #[test]
    fn a_category_that_only_a_pattern_of_the_operator_gives_may_be_counted() {
        let text = block("rule gone category left-company after 2");
        assert!(parse_str("c", &text).config.is_none());
        let patterns = "<bounce-category-patterns>\n/has left/ left-company\n</bounce-category-patterns>\n";
        assert!(good(&format!("{text}{patterns}")).auto_suppression.rule("GONE").is_some());
    }
}
