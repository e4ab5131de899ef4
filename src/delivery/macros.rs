//! What the macros of `command` and `file-destination` stand for in one delivery (submission.md, 7.1). Pure.

use std::borrow::Cow;

use crate::config::delivery_macro::{DeliveryMacro, Part, Template};
use crate::event::Time;
use crate::store::Envelope;

/// One delivery to one recipient.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery<'a> {
    pub envelope: &'a Envelope,
    /// The recipient.
    pub to: &'a str,
    pub now: Time,
    /// `macro-variables-preserve-case`.
    pub preserve_case: bool,
}

impl<'a> Delivery<'a> {
    /// What one macro stands for. It may hold any character that an address or an envelope id can.
    pub fn value(&self, of: DeliveryMacro) -> Cow<'a, str> {
        let (local, domain) = self.to.rsplit_once('@').unwrap_or((self.to, ""));
        let address = |text: &'a str| match self.preserve_case {
            true => Cow::Borrowed(text),
            false => Cow::Owned(text.to_lowercase()),
        };
        let utc = |format: &str| {
            let zoned = self.now.timestamp().unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
            Cow::Owned(zoned.strftime(format).to_string())
        };
        match of {
            DeliveryMacro::BodyType => Cow::Borrowed(if self.envelope.eight_bit { "8BITMIME" } else { "7BIT" }),
            DeliveryMacro::IsoDate => utc("%Y-%m-%d"),
            DeliveryMacro::RfcTime => utc("%a, %d %b %Y %H:%M:%S +0000"),
            DeliveryMacro::CTime => utc("%a %b %e %H:%M:%S %Y"),
            DeliveryMacro::TimeT => Cow::Owned(self.now.secs().to_string()),
            DeliveryMacro::Domain => Cow::Owned(domain.to_lowercase()),
            DeliveryMacro::User => Cow::Owned(local.split('+').next().unwrap_or_default().to_lowercase()),
            DeliveryMacro::EnvId => Cow::Borrowed(&self.envelope.env_id),
            DeliveryMacro::From => address(&self.envelope.orig),
            DeliveryMacro::To => address(self.to),
        }
    }

    /// The template with its macros replaced by what `harmless` makes of their values.
    pub fn expand(&self, template: &Template, harmless: impl Fn(&str) -> String) -> String {
        let mut out = String::new();
        for part in template.parts() {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Macro(of) => out.push_str(&harmless(&self.value(*of))),
            }
        }
        out
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::event::record::PairsBuf;
    use crate::event::{MessageId, SourceType};
    use crate::store::{Message, Recipient, Route};

    /// From `News@from.example` to one recipient, with the envelope id `../e`.
    pub fn message(to: &str, body: &str) -> Message {
        let envelope = Envelope {
            id: MessageId(7),
            time_queued: Time::from_secs(1_700_000_000),
            orig: "News@from.example".into(),
            env_id: "../e".into(),
            job: "".into(),
            vmta: "v".into(),
            pool: "".into(),
            src_type: SourceType::Smtp,
            src_mta: "".into(),
            src_ip: None,
            rcv_ip: None,
            user: "".into(),
            eight_bit: false,
            body_len: body.len() as u32,
            message_id_header: "".into(),
            headers: PairsBuf::default(),
            route: Route::Deliver,
            terms: Default::default(),
            no_dsn: false,
            return_full: false,
            ret_given: false,
            rcpts: vec![Recipient { address: to.into(), orcpt: "".into(), notify: 0 }],
        };
        Message { envelope, body: body.to_owned().into() }
    }

    #[test]
    fn each_macro_stands_for_its_part_of_the_delivery_and_case_is_kept_only_where_told_so() {
        let message = message("Ann+Tag@There.Example", "");
        let with = |preserve_case, template: &str| {
            let now = Time::from_secs(1_700_000_000);
            let delivery = Delivery { envelope: &message.envelope, to: "Ann+Tag@There.Example", now, preserve_case };
            delivery.expand(&Template::parse(template), str::to_owned)
        };
        assert_eq!(with(false, "$from $to $user $domain"), "news@from.example ann+tag@there.example ann there.example");
        assert_eq!(with(true, "$from $to $user $domain"), "News@from.example Ann+Tag@There.Example ann there.example");
        assert_eq!(with(false, "$envid|$bodytype|$timet"), "../e|7BIT|1700000000");
        let dates = "2023-11-14|Tue, 14 Nov 2023 22:13:20 +0000|Tue Nov 14 22:13:20 2023";
        assert_eq!(with(false, "$isodate|$rfctime|$ctime"), dates);
    }
}
