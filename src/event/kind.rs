//! The small closed vocabularies of a record. Each value has a stable number (kept in the ledger) and a name (written
//! to files). Numbers are never reused.

use std::fmt;
use std::str::FromStr;

/// A closed vocabulary: the numbers are what is kept on disk, the names what files and people see.
macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $number:literal, $text:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)+ }

        impl $name {
            /// All values, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The name as files and people see it.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            /// The value kept under this number in the ledger.
            pub const fn from_number(n: u8) -> Option<$name> {
                match n { $($number => Some($name::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.name()) }
        }

        impl FromStr for $name {
            type Err = UnknownName;
            fn from_str(s: &str) -> Result<$name, UnknownName> {
                $name::ALL.iter().copied().find(|v| v.name().eq_ignore_ascii_case(s))
                    .ok_or_else(|| UnknownName { what: $what, name: s.chars().take(64).collect() })
            }
        }
    };
}

/// A word that the vocabulary does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {name:?}")]
pub struct UnknownName {
    what: &'static str,
    name: String,
}

vocabulary! {
    /// The eight PowerMTA record types (reference/accounting.md, section 1).
    Kind, "record type" {
        /// `d`: handed over successfully.
        Delivered = 1, "d";
        /// `b`: bounced by us: refused by the next hop, expired, suppressed, deleted.
        Bounced = 2, "b";
        /// `t`: temporary failure of one recipient.
        Transient = 3, "t";
        /// `tq`: temporary failure of a whole queue.
        TransientQueue = 4, "tq";
        /// `r`: accepted on submission.
        Received = 5, "r";
        /// `rb`: a failure report came back later.
        RemoteBounce = 6, "rb";
        /// `rs`: a success or delay report came back later.
        RemoteStatus = 7, "rs";
        /// `f`: a complaint came back.
        Feedback = 8, "f";
    }
}

impl Kind {
    /// The long name that configuration files may use, beside the short one.
    pub const fn long_name(self) -> &'static str {
        match self {
            Kind::Delivered => "delivery",
            Kind::Bounced => "bounce",
            Kind::Transient => "transient",
            Kind::TransientQueue => "transient-queue",
            Kind::Received => "receipt",
            Kind::RemoteBounce => "remote-bounce",
            Kind::RemoteStatus => "remote-status",
            Kind::Feedback => "feedback-loop",
        }
    }

    /// Whether the event ends a recipient's stay in the queue.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Kind::Delivered | Kind::Bounced)
    }
}

/// A set of record types.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Kinds(u16);

impl Kinds {
    /// Every type.
    pub const ALL: Kinds = Kinds(0x1fe);

    /// The set of these.
    pub const fn of(kinds: &[Kind]) -> Kinds {
        let mut bits = 0;
        let mut i = 0;
        while i < kinds.len() {
            bits |= 1 << kinds[i] as u16;
            i += 1;
        }
        Kinds(bits)
    }

    /// Whether `kind` is in the set.
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u16) != 0
    }

    /// With `kind` in it.
    pub const fn with(self, kind: Kind) -> Kinds {
        Kinds(self.0 | 1 << kind as u16)
    }

    /// Whether some type is in both.
    pub const fn meets(self, other: Kinds) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The types in the set, in the order of [`Kind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.iter().copied().filter(move |k| self.contains(*k))
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Kind::name)).finish()
    }
}

vocabulary! {
    /// `dsnAction` (RFC 3464, 2.3.3).
    Action, "DSN action" {
        /// Handed to a system that does not promise notifications.
        Relayed = 1, "relayed";
        /// We, or the reporting system, made the final delivery.
        Delivered = 2, "delivered";
        /// Gave up.
        Failed = 3, "failed";
        /// Not yet; still trying.
        Delayed = 4, "delayed";
        /// Delivered to a list of further addresses.
        Expanded = 5, "expanded";
    }
}

vocabulary! {
    /// `srcType`: how the message came in.
    SourceType, "source type" {
        /// SMTP.
        Smtp = 1, "smtp";
        /// A submission API, HTTP included.
        Api = 2, "api";
        /// The pickup directory.
        Pickup = 3, "pickup";
        /// Made by Carom itself: a DSN, a forwarded report.
        Internal = 4, "internal";
    }
}

vocabulary! {
    /// `dlvType`: how the message left, or was to leave.
    DeliveryType, "delivery type" {
        /// SMTP.
        Smtp = 1, "smtp";
        /// A program's standard input.
        Pipe = 2, "pipe";
        /// Thrown away on purpose.
        Discard = 3, "discard";
        /// A file.
        File = 4, "file";
    }
}

vocabulary! {
    /// How far the SMTP dialogue had come when the reply was given.
    Stage, "SMTP stage" {
        /// Before any reply: name resolution, connecting, the greeting.
        Connect = 1, "connect";
        /// EHLO, HELO, STARTTLS, AUTH.
        Ehlo = 2, "ehlo";
        /// MAIL FROM.
        Mail = 3, "mail";
        /// RCPT TO.
        Rcpt = 4, "rcpt";
        /// DATA, before the content.
        Data = 5, "data";
        /// After the final dot.
        Eod = 6, "eod";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_every_number_reads_back() {
        for k in Kind::ALL {
            assert_eq!(k.name().parse(), Ok(*k));
            assert_eq!(Kind::from_number(*k as u8), Some(*k));
        }
        assert_eq!("RB".parse(), Ok(Kind::RemoteBounce));
        assert!("x".parse::<Kind>().is_err());
        assert_eq!(Kind::from_number(9), None);
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let s = Kinds::of(&[Kind::Delivered, Kind::Feedback]);
        assert!(s.contains(Kind::Delivered) && s.contains(Kind::Feedback) && !s.contains(Kind::Bounced));
        assert_eq!(s.iter().count(), 2);
        assert_eq!(Kinds::ALL.iter().count(), Kind::ALL.len());
        assert!(s.meets(Kinds::ALL) && !s.meets(Kinds::of(&[Kind::Bounced])) && !s.meets(Kinds::default()));
    }
}
