//! The table of directives: every row works under every name, with its sample and its default.

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
        Scope::EmailPatterns => "<bounce-processor>\n<email-patterns>\nLINE\n</email-patterns>\n</bounce-processor>\n",
        Scope::JobGuard => "<job-guard *>\nLINE\n</job-guard>\n",
        Scope::Token => "<return-path-token>\ndomain d.example\nkey k0 0123456789abcdef\nLINE\n</return-path-token>\n",
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
