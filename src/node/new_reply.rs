//! What the operator is told of replies never seen before.

use super::notice::Notice;
use crate::classify::novelty::Alarm;
use crate::config::Config;

/// The notice of this alarm.
pub(super) fn notice(config: &Config, alarm: &Alarm) -> Notice {
    let provider: String = alarm.provider.chars().take(100).collect();
    Notice {
        kind: "novelty",
        subject: format!("A reply never seen before, from {provider}"),
        text: text(alarm),
        to: config.novelty_alarm.to.clone(),
        command: config.novelty_alarm.command.clone(),
        data: serde_json::to_value(alarm).unwrap_or_default(),
    }
}

/// What the mail says.
fn text(alarm: &Alarm) -> String {
    let mut text = format!(
        "{} gave {} replies within {} seconds in words that this server had never seen:\r\n\r\n    {}\r\n\r\nFor example:\r\n\r\n",
        alarm.provider, alarm.count, alarm.within_seconds, alarm.template
    );
    for example in &alarm.examples {
        text.push_str(&format!("    {example}\r\n"));
    }
    let by =
        if alarm.rule.is_empty() { "because nothing decides them".to_owned() } else { format!("by {}", alarm.rule) };
    text.push_str(&format!("\r\nThey are counted as {}, {by}.\r\n", alarm.category));
    match &alarm.proposal {
        Some(rule) => {
            text.push_str(
                "\r\nNo pattern knows them. This rule would; check its category, put it into a pattern file of\r\n",
            );
            text.push_str("yours, and then: carom patterns apply\r\n\r\n");
            for line in rule.lines() {
                text.push_str(&format!("    {line}\r\n"));
            }
        }
        None if alarm.by_pattern => {
            text.push_str("\r\nIf that is not right, put a rule for them into a pattern file of yours.\r\n")
        }
        None => text.push_str("\r\nNo pattern knows them; their words are too few to propose one.\r\n"),
    }
    text.push_str("\r\n`carom patterns explain` tells more of a reply, `carom status` shows all alarms.\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mail_tells_which_provider_said_what_and_has_the_proposed_rule_in_it() {
        let alarm = Alarm {
            time: 1,
            provider: "big.example".into(),
            template: "550 5.7.1 frobnicated <n>".into(),
            count: 20,
            within_seconds: 600,
            category: "policy-related".into(),
            rule: "code 5.7.1".into(),
            by_pattern: false,
            examples: vec!["550 5.7.1 frobnicated 7".into()],
            proposal: Some("# e.g. 550 5.7.1 frobnicated 7\n/frobnicated/ policy-related\n".into()),
        };
        let config = crate::config::parse_str("t", "novelty-alarm-to x@y.example\n").config.unwrap();
        let notice = notice(&config, &alarm);
        assert_eq!(notice.subject, "A reply never seen before, from big.example");
        assert!(notice.text.contains("/frobnicated/ policy-related"), "{}", notice.text);
        assert_eq!((notice.to, &notice.data["count"]), (vec!["x@y.example".to_owned()], &serde_json::json!(20)));
    }
}
