//! Whether a mail mentions an address anywhere, whatever its encoding: what is asked when somebody wants to be forgotten.

use super::bounds::MAX_HEADER;
use super::fields::Fields;
use super::mime::decoded_words;

/// Whether `text` (in lower case) stands in a mail: as it is, in encoded words of its header, or in a part that is
/// encoded. Deeply nested mails are looked through to a bounded depth.
pub(super) fn names(mail: &[u8], text: &str) -> bool {
    fn holds(bytes: &[u8], text: &str) -> bool {
        String::from_utf8_lossy(bytes).to_lowercase().contains(text)
    }
    fn parts(message: &mail_parser::Message<'_>, text: &str, depth: usize) -> bool {
        message.parts.iter().any(|part| match &part.body {
            mail_parser::PartType::Message(inner) if depth > 0 => parts(inner, text, depth - 1),
            _ => holds(part.contents(), text),
        })
    }
    let header = Fields::read(&mut &mail[..mail.len().min(MAX_HEADER)]);
    holds(mail, text)
        || header.iter().any(|(_, value)| value.contains("=?") && decoded_words(value).to_lowercase().contains(text))
        || mail_parser::MessageParser::default().parse(mail).is_some_and(|message| parts(&message, text, 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_an_encoded_part_too() {
        let mail = b"From: a@b.example\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n\
                     QW5uQEJvb2suZXhhbXBsZSB3cm90ZQ==\r\n";
        assert!(names(mail, "ann@book.example"));
        assert!(names(mail, "a@b.example"));
        assert!(!names(mail, "bob@book.example"));
        let mail = b"From: a@b.example\r\nSubject: =?utf-8?B?QW5uQGJvb2suZXhhbXBsZQ==?=\r\n\r\nx\r\n";
        assert!(names(mail, "ann@book.example"));
    }
}
