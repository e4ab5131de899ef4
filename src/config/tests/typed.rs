//! What is written, as the rest of the house sees it.

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
    assert_eq!((token.keys[0].id.as_str(), token.keys[1].secret.as_slice()), ("k2", b"fedcba9876543210".as_slice()));
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
    let loaded =
        read(Path::new("c"), None, &Memory::of(&[("c", "<domain b.example>\nbounce-pattern-file none\n</domain>\n")]));
    let errors: Vec<_> = loaded.diagnostics.iter().filter(|d| d.is_error()).map(Diagnostic::one_line).collect();
    assert!(errors.iter().any(|e| e.contains("none can't be read")), "{errors:?}");
}

#[test]
fn relative_paths_are_taken_from_the_root() {
    let files = Memory::of(&[("c", "spool s\nlog-file /l\nacct-file a/b.csv\ninclude inc"), ("r/inc", "host-name x")]);
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
