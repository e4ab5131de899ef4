//! Which of several values holds.

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
    let config =
        good("<domain *>\nmax-smtp-out 1\nretry-after 1m\n</domain>\n<domain a.com>\nretry-after 2m,3m\n</domain>\n");
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
    assert_eq!((out(&config, "a.com", "{default}"), out(&config, "a.com", "w"), out(&config, "a.com", "V")), (1, 2, 3));
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
