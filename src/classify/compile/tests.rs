//! The set of rules as its users see it: a reply goes in, a verdict comes out.

use super::*;
use crate::event::Time;
use proptest::prelude::*;

/// Compiling takes long without optimization: the tests share one set.
fn builtin() -> &'static RuleSet {
    static SET: std::sync::LazyLock<RuleSet> = std::sync::LazyLock::new(RuleSet::builtin);
    &SET
}

fn inline(line: u32, regex: &str, category: &str) -> PatternSource {
    PatternSource::Inline {
        file: "carom.conf".into(),
        line,
        regex: regex.into(),
        category: category.into(),
        rest: String::new(),
    }
}

fn file(name: &str, text: &str) -> PatternSource {
    PatternSource::file(name, text)
}

fn bounced(diag: &str) -> Event<'_> {
    Event { diag, ..Event::new(Kind::Bounced, Time(1)) }
}

#[test]
fn entries_of_the_operator_outrank_ours_in_their_order() {
    let rules = RuleSet::compile(&[
        inline(7, "unknown.*vip", "vip-lost"),
        file("own.conf", "# ours\n/user unknown/ other\n/user unknown/ spam-related\n"),
    ])
    .unwrap();
    let verdict = rules.classify_text("550 5.1.1 user UNKNOWN (vip)");
    assert_eq!((verdict.category, verdict.rule, verdict.by_pattern()), ("vip-lost", "carom.conf:7", true));
    let verdict = rules.classify_text("550 5.1.1 user unknown");
    assert_eq!((verdict.category, verdict.rule), ("other", "own.conf:2"));
    let verdict = rules.classify_text("552 5.2.2 mailbox full");
    assert_eq!(verdict.category, "quota-issues");
    assert!(verdict.rule.starts_with("bounce-categories.conf:"), "{}", verdict.rule);
}

#[test]
fn names_of_senders_recipients_and_queue_files_decide_nothing() {
    for address in
        ["no-such-user@spam.example", "virus@policy.example", "mailbox.full@closed.example", "junk@mx-1.example"]
    {
        for (reply, category) in [
            ("421 4.3.2 Service not available, closing transmission channel {}", "other"),
            ("550 5.1.1 <{}>: user unknown", "bad-mailbox"),
            ("554 delivery error: dd {} is no longer valid", "bad-mailbox"),
            ("550 5.7.1 <{}>: Rejected because of the poor reputation of the host", "spam-related"),
            ("552 5.2.2 <{}>: mailbox is full", "quota-issues"),
        ] {
            let reply = reply.replace("{}", address);
            assert_eq!(builtin().classify_text(&reply).category, category, "{reply}");
        }
    }
    for id in
        ["1abCDe-0003Xy-WL", "1abCDe-0003Xy-BL", "4TLS7Q", "[AM0.UBE.prod.example.com]", "mx-in-1.example.com does not"]
    {
        let reply = format!("450 4.2.0 busy, try later {id} error");
        let plain = builtin().classify_text("450 4.2.0 busy, try later error").category;
        assert_eq!(builtin().classify_text(&reply).category, plain, "{reply}");
    }
    let rules = RuleSet::compile(&[inline(1, "@vip\\.example", "vip-lost")]).unwrap();
    assert_eq!(rules.classify_text("550 ann@vip.example unknown").category, "vip-lost", "the operator sees addresses");
}

#[test]
fn a_regex_can_ask_for_its_own_case() {
    let rules = RuleSet::compile(&[inline(1, "(?-i)QUEUE", "our-own")]).unwrap();
    assert_eq!(rules.classify_text("421 QUEUE").category, "our-own");
    assert_ne!(rules.classify_text("421 queue").category, "our-own");
}

#[test]
fn all_mistakes_of_all_sources_are_named_in_one_go() {
    let errors = RuleSet::compile(&[
        inline(3, "a\\Kb", "other"),
        inline(4, "(a", "other"),
        file("own.conf", "no rule\n/(?R)/ other\n/x{1000}{1000}/ other\n/fine/ other"),
    ])
    .unwrap_err();
    let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(all.len(), 5, "{all:#?}");
    for (place, words) in [
        ("carom.conf:3: ", "at column 2 of the regex: \\K (a match that begins later)"),
        ("carom.conf:4: ", "column 1"),
        ("own.conf:1: ", "expected /REGEX/ CATEGORY"),
        ("own.conf:2: ", "recursion"),
        ("own.conf:3: ", "too large"),
    ] {
        assert!(all.iter().any(|e| e.starts_with(place) && e.contains(words)), "{place}{words} in {all:#?}");
    }
}

#[test]
fn a_set_made_from_stored_text_is_the_same_set() {
    let rules = RuleSet::compile(&[inline(7, "tab\there|\\dé", "Our.Own"), file("o\tdd.conf", "/zzz/ other")]).unwrap();
    let again = RuleSet::from_text(rules.text()).unwrap();
    assert_eq!((again.id(), again.text(), again.len()), (rules.id(), rules.text(), rules.len()));
    for text in ["x tab\there", "zzz", "550 5.1.1 user unknown", "550 5.1.3 ?", "441 ?", "nothing"] {
        assert_eq!(again.classify_text(text), rules.classify_text(text), "{text}");
    }
    assert_ne!(builtin().id(), rules.id());
    assert_eq!(builtin().id(), RuleSet::compile(&[]).unwrap().id());
}

#[test]
fn stored_text_that_is_none_is_refused() {
    assert!(RuleSet::from_text("").is_err());
    assert!(RuleSet::from_text("carom rules 3\n").unwrap_err()[0].message.contains("newer"));
    let errors = RuleSet::from_text("carom rules 1\npattern\tf\tx\tother\ta\nrubbish\n").unwrap_err();
    assert_eq!(errors.iter().map(|e| e.line).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn what_no_pattern_knows_is_decided_by_its_code() {
    let rules = builtin();
    let verdict = |text| {
        let v = rules.classify_text(text);
        (v.category, v.rule, v.by_pattern())
    };
    assert_eq!(verdict("550 5.1.1 zzz"), ("bad-mailbox", "code 5.1.1", false));
    assert_eq!(verdict("552 zzz"), ("quota-issues", "code 552", false));
    assert_eq!(verdict("550 5.7.999 zzz"), ("policy-related", "code 5.7", false));
    assert_eq!(verdict("550 zzz"), ("other", "", false));
    assert_eq!(verdict(""), ("other", "", false));
}

#[test]
fn a_local_failure_without_a_reply_is_decided_by_its_words_or_its_status() {
    let rules = builtin();
    let verdict = |diag, status: &str| {
        let event = Event { status: status.parse().ok(), ..bounced(diag) };
        rules.classify(&event).category.to_owned()
    };
    assert_eq!(verdict("connection refused", "4.4.1"), "bad-connection");
    assert_eq!(verdict("connection timed out", "4.4.1"), "no-answer-from-host");
    assert_eq!(verdict("no such domain", "5.1.2"), "bad-domain");
    assert_eq!(verdict("zzz", "4.4.2"), "bad-connection");
    assert_eq!(verdict("", "5.1.10"), "bad-domain");
    assert_eq!(verdict("", "4.4.3"), "routing-errors");
    assert_eq!(verdict("smtp;450 zzz", "5.4.7"), "message-expired");
}

#[test]
fn what_the_producer_decided_stays_and_successes_have_no_category() {
    let rules = builtin();
    let event = Event { category: "suppressed", ..bounced("smtp;550 5.1.1 user unknown") };
    assert_eq!(
        rules.classify(&event),
        Verdict { category: "suppressed", rule: "", source: VerdictSource::Producer, ..Verdict::NONE }
    );
    for kind in [Kind::Delivered, Kind::Received, Kind::Feedback, Kind::RemoteStatus] {
        assert_eq!(rules.classify(&Event { kind, ..bounced("smtp;250 2.0.0 user unknown") }), Verdict::NONE, "{kind}");
    }
    let delayed = Event { kind: Kind::RemoteStatus, status: "4.2.2".parse().ok(), ..bounced("") };
    assert_eq!(rules.classify(&delayed).category, "quota-issues");
}

#[test]
fn what_may_not_be_meant_is_noted() {
    let rules = RuleSet::compile(&[file("own.conf", "/a/ vip\n/a/ other\n/x*/ other\n")]).unwrap();
    let notes: Vec<_> = rules.notes().iter().map(|n| (n.line, n.message.split(':').next().unwrap())).collect();
    assert_eq!(
        notes,
        [
            (1, "\"vip\" is a category of your own"),
            (2, "an earlier rule has the same regex"),
            (3, "this matches every reply")
        ]
    );
    assert_eq!(builtin().notes(), []);
}

#[test]
fn a_very_long_reply_is_cut_between_characters() {
    let rules = builtin();
    assert_eq!(rules.classify_text(&"é".repeat(5000)).category, "other");
    let late = format!("550 {} user unknown", "é".repeat(5000));
    assert_eq!(rules.classify_text(&late).category, "other");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_cache_never_changes_a_verdict(texts in prop::collection::vec("(550 5\\.[0-9]\\.[0-9] )?[a-z ]{0,8}(user unknown|full|spam|é)?", 1..40)) {
        static PLAIN: std::sync::LazyLock<RuleSet> = std::sync::LazyLock::new(|| RuleSet::builtin().without_cache());
        for text in texts.iter().chain(&texts) {
            prop_assert_eq!(builtin().classify_text(text), PLAIN.classify_text(text));
        }
    }

    #[test]
    fn no_stored_text_makes_reading_panic(text in "(?s).{0,200}", line in "(pattern|code)(\t[a-z0-9.(\\[]{0,9}){0,5}") {
        let _ = RuleSet::from_text(&text);
        let _ = RuleSet::from_text(&format!("carom rules 1\n{line}\n"));
    }
}

#[test]
fn random_ids_that_end_like_the_name_of_a_block_list_decide_nothing() {
    for reply in [
        "550 5.1.1 The email account that you tried to reach does not exist. nwuaxf97uvgnbl.258 - hsmtp",
        "550 5.2.1 mailbox disabled, account disabled [zhxpbl.mx.outpost.example]",
        "550 5.1.1 RESOLVER.ADR.RecipNotFound; not found; recipient a@b.example [dhjxbl.mx.outpost.example 17 c0or16]",
    ] {
        let verdict = RuleSet::builtin().classify_text(reply).category.to_owned();
        assert_ne!(verdict, "spam-related", "{reply}");
    }
    let listed = "554 refused, 192.0.2.1 found in dnsbl.example.net, see sbl.example.org";
    assert_eq!(RuleSet::builtin().classify_text(listed).category, "spam-related");
}

#[test]
fn look_around_and_back_references_work_and_are_given_up_at_a_limit() {
    let rules = RuleSet::compile(&[
        inline(1, "user(?! unknown)", "our-own"),
        inline(2, "(\\w+) \\1!", "twice"),
        inline(3, "(?=x)(x+x+)+\\1y", "slow"),
    ])
    .unwrap();
    assert_eq!(rules.classify_text("550 user gone").category, "our-own");
    assert_eq!(rules.classify_text("550 user unknown").category, "bad-mailbox");
    assert_eq!(rules.classify_text("550 never never!").category, "twice");
    assert_eq!(rules.given_up(), 0);
    assert_eq!(rules.classify_text(&format!("550 {}", "x".repeat(4000))).category, "other");
    assert!(rules.given_up() > 0, "the limit was reached and counted");
}

#[test]
fn a_limited_rule_matches_only_where_its_limits_hold() {
    let text = "only provider=gmail\n/zzz/ spam-related\nonly any\n/zzz/ quota-issues stage=rcpt\n/zzz/ - skip-mx\n";
    let rules = RuleSet::compile(&[file("own.conf", text)]).unwrap();
    let at = |facts: Facts<'_>| rules.classify_with("550 zzz", &facts).category.to_owned();
    for _ in 0..2 {
        assert_eq!(at(Facts::default()), "other");
        assert_eq!(at(Facts { mx: "aspmx.l.google.com", ..Facts::default() }), "spam-related");
        assert_eq!(at(Facts { stage: Some(crate::event::Stage::Rcpt), ..Facts::default() }), "quota-issues");
    }
    assert_eq!(rules.actions("550 zzz", &Facts::default()), [ReplyAction::SkipMx]);
    let again = RuleSet::from_text(rules.text()).unwrap();
    assert_eq!((again.id(), again.text()), (rules.id(), rules.text()));
    let other = RuleSet::compile(&[file("own.conf", &text.replace("rcpt", "mail"))]).unwrap();
    assert_ne!(other.id(), rules.id(), "limits are part of what a set is");
}

#[test]
fn what_is_for_one_destination_is_consulted_first() {
    let PatternSource::File(mut own) = file("own.conf", "/zzz/ spam-related") else { unreachable!() };
    own.domain = Some(DomainPattern::Exact("example.net".into()));
    let rules = RuleSet::compile(&[inline(1, "zzz", "other"), PatternSource::File(own)]).unwrap();
    let at = |domain| rules.classify_with("550 zzz", &Facts { domain, ..Facts::default() }).category;
    assert_eq!((at("example.net"), at("example.org")), ("spam-related", "other"));
}

#[test]
fn all_rules_that_match_are_listed_with_their_place() {
    let rules = RuleSet::compile(&[inline(1, "unknown", "our-own"), inline(2, "nowhere", "other")]).unwrap();
    let reply = "550 5.1.1 <ann@example.net>: user unknown";
    let found = rules.matches(reply, &Facts::default());
    assert_eq!((found[0].rule.line, &reply[found[0].start..found[0].end]), (1, "unknown"));
    assert!(found.len() > 1 && found[1].rule.shipped && found.windows(2).all(|w| w[0].number < w[1].number));
}

#[test]
fn a_reply_of_a_megabyte_is_cut() {
    let long = format!("550 {} user unknown", "x ".repeat(1 << 19));
    assert_eq!(builtin().classify_text(&long), builtin().classify_text(&long[..MAX_REPLY]));
    assert_ne!(builtin().classify_text(&long).category, "bad-mailbox", "what is behind the cut is not looked at");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures what the rules take")]
fn what_is_behind_the_cut_takes_no_time_and_hostile_repetitions_take_little() {
    let rules = RuleSet::builtin().without_cache();
    let took = |reply: &str| {
        // The best of some: other programs run beside.
        let once = |_| {
            let began = std::time::Instant::now();
            let _ = rules.classify_text(reply);
            began.elapsed()
        };
        (0..9).map(once).min().unwrap()
    };
    for unit in [
        "user ",
        "mailbox is ",
        "x@y ",
        "a@b.example ",
        "550 5.1.1 ",
        "(((",
        "é",
        "no such ",
        "1.2.3.4 ",
        "user unknown",
    ] {
        let long = format!("550 {}", unit.repeat((1 << 20) / unit.len()));
        let (cut, whole) = (took(&long[..long.floor_char_boundary(MAX_REPLY)]), took(&long));
        // A megabyte is 256 times the cut: were it looked at, it would show.
        assert!(whole < cut * 20 + std::time::Duration::from_millis(2), "{unit:?}: {cut:?} and {whole:?}");
        // 4 KiB in linear time are well below this also in the dev profile; backtracking would take minutes.
        assert!(whole < std::time::Duration::from_secs(2), "{unit:?}: {whole:?}");
    }
}

#[test]
fn a_rule_of_alternatives_is_found_by_each_of_them_and_listed_once() {
    let text =
        "/^550 (?:(?:no|unknown) user (?:here|there)|mailbox .*(?:gone|full)|[0-9]+ x)$/ other\n/user|full/ other\n";
    let rules = RuleSet::compile_alone(&[file("own.conf", text)]).unwrap();
    let lines = |reply: &str| {
        let found = rules.matches(reply, &Facts::default());
        found.iter().map(|m| (m.rule.line, &reply[m.start..m.end])).map(|(l, s)| format!("{l}:{s}")).collect::<Vec<_>>()
    };
    assert_eq!(lines("550 no user there"), ["1:550 no user there", "2:user"]);
    assert_eq!(lines("550 mailbox is full"), ["1:550 mailbox is full", "2:full"]);
    assert_eq!(lines("550 12 x"), ["1:550 12 x"]);
    assert_eq!(lines("550 12 x y"), [""; 0]);
}

#[test]
fn a_shipped_rule_matches_around_addresses_and_its_place_is_that_in_the_reply() {
    for (reply, marked) in [
        ("550 5.1.1 <ann@b.example>: user unknown", "user unknown"),
        ("550 5.1.1 <a.very.long.name@some.long.domain.example>: user unknown", "user unknown"),
        ("550 5.1.1 <é@b.example> and <ann@b.example>: é user unknown", "user unknown"),
    ] {
        let found = builtin().matches(reply, &Facts::default());
        let first = found.iter().find(|m| m.rule.category == "bad-mailbox").unwrap();
        assert!(reply[first.start..first.end].contains(marked), "{reply}: {}", &reply[first.start..first.end]);
    }
    let reply = "550 5.7.1 <ann@b.example>: Relay access denied";
    let found = builtin().matches(reply, &Facts::default());
    assert!(found.iter().any(|m| reply[m.start..m.end].to_lowercase().contains("relay access denied")), "{found:?}");
}

/// The place of the first rule that matches when each is asked, without literals and memory.
fn naive(rules: &RuleSet, reply: &str) -> Option<usize> {
    naive_with(rules, reply, &Facts::default())
}

fn naive_with(rules: &RuleSet, reply: &str, facts: &Facts<'_>) -> Option<usize> {
    let codes = ReplyCodes::of(reply, facts);
    let code = codes.own.or(facts.status);
    let masked = super::super::mask::Masked::new(reply);
    rules.rules().iter().position(|rule| {
        let text = if rule.shipped { masked.text() } else { reply };
        let regex = super::super::pcre::translate(&rule.regex).unwrap().regex;
        let made = fancy_regex::RegexBuilder::new(&regex).case_insensitive(true).build().unwrap();
        !rule.category.is_empty()
            && rule.limits.hold(facts, codes.class(), code, &rules.providers)
            && made.is_match(text).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_verdict_is_that_of_asking_each_rule_in_turn(
        regexes in proptest::collection::vec(
            "((user|[uU]nknown|mail ?box|ful+|quota|[a-c]|k|é|x@x|\\\\d{3})(\\\\b|\\.\\{0,5\\}|\\.\\*| |\\||\\?)?){1,5}", 1..8),
        rests in proptest::collection::vec(
            "(kind=(hard|soft|block))? ?(provider=(gmail|yahoo))? ?(class=[45])? ?(stage=(rcpt|eod))? ?(status=[45]\\.1\\.[*1])?", 8),
        mx in "(aspmx\\.l\\.google\\.com|mx\\.example)?", stage in prop::sample::select(&[None, Some(crate::event::Stage::Rcpt), Some(crate::event::Stage::Eod)][..]),
        replies in proptest::collection::vec(
            "(550 5\\.1\\.1 |450 |550|user|Unknown|UNKNOWN|mailbox|mail box|full|quota|a|b|\u{212a}|É|e@f\\.example|x@x| ){1,12}", 1..8),
    ) {
        let rule = |(n, (regex, rest)): (u32, (&String, &String))| PatternSource::Inline {
            file: "carom.conf".into(),
            line: n,
            regex: regex.clone(),
            category: "our-own".into(),
            rest: rest.clone(),
        };
        let sources: Vec<_> = (1..).zip(regexes.iter().zip(&rests)).map(rule).collect();
        let facts = Facts { mx: &mx, stage, ..Facts::default() };
        let Ok(rules) = RuleSet::compile_alone(&sources) else { return Ok(()) };
        for reply in replies.iter().chain(&replies) {
            let deciding = naive_with(&rules, reply, &facts);
            let rule = deciding.map_or(String::new(), |n| format!("carom.conf:{}", n + 1));
            let verdict = rules.classify_with(reply, &facts);
            prop_assert_eq!(verdict.rule, rule, "{}", reply);
            prop_assert_eq!(verdict.said, deciding.and_then(|n| rules.rules()[n].kind));
            if reply.starts_with('4') {
                prop_assert_ne!(verdict.kind(), crate::classify::FailureKind::Hard);
            }
        }
    }
}

#[test]
fn shipped_rules_decide_as_when_each_is_asked_in_turn() {
    let rules = builtin();
    let examples = rules.rules().iter().flat_map(|rule| &rule.examples).step_by(9).take(12);
    for reply in examples {
        let name = naive(rules, reply).map_or(String::new(), |n| rules.rules()[n].name());
        assert_eq!(rules.classify_text(reply).rule, name, "{reply}");
    }
}
