//! What people are told of their mistakes.

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
    let found = findings("<virtual-mta a>\n</virtual-mta>\n<virtual-mta-pool A>\nvirtual-mta a\n</virtual-mta-pool>\n");
    assert!(found.contains("error: there is already a VirtualMTA `A`"), "{found}");
    let pool = |n: &str| {
        format!("<virtual-mta-pool {n}>\nvirtual-mta a\n<domain *>\nmax-smtp-out 1\n</domain>\n</virtual-mta-pool>\n")
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
    assert!(findings("acct-file a.csv\n<acct-file a.csv>\n</acct-file>").contains("error: a.csv is already written"));
    assert!(findings("acct-file a.txt").contains("error: a.txt is neither a .csv nor a .parquet file"));
    assert!(findings("<acct-file |>\n</acct-file>").contains("the pipe has no command"));
    let pipe = good("<acct-file |/bin/cat -u>\nretry-interval 1m\nrecord-fields d *,!timeImprinted\n</acct-file>\n");
    assert_eq!(
        (pipe.acct_files[0].format, pipe.acct_files[0].path.as_path()),
        (AcctFormat::Pipe, Path::new("|/bin/cat -u"))
    );
}

#[test]
fn the_domain_of_signed_return_paths_needs_no_entry_in_a_processor() {
    let token = "<return-path-token>\ndomain b.example\nkey k1 0123456789abcdef\n</return-path-token>\n";
    assert_eq!(findings(token), "");
    let with =
        format!("{token}<bounce-processor>\n<address-list>\ndomain b.example\n</address-list>\n</bounce-processor>");
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
    assert_eq!(counts(&loaded.diagnostics), "1 error, 1 warning, 3 notes");
    assert_eq!(counts(&[]), "0 errors, 0 warnings");
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
