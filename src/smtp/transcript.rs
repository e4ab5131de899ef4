//! A line of the dialogue as it may stand in a log: bounded, without control characters.

/// Characters of a line that are shown.
const SHOWN: usize = 300;

/// The bytes as one line of readable text; line ends inside become ` | `.
pub fn line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    for c in text.trim_end().replace("\r\n", " | ").chars().take(SHOWN) {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    if text.len() > SHOWN {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_sends_can_t_forge_log_lines() {
        assert_eq!(line(b"250 ok\r\n"), "250 ok");
        assert_eq!(line(b"250-a\r\n250 b\x1b[2J\n\r\n"), "250-a | 250 b\\u{1b}[2J");
        assert!(line(&[b'x'; 5000]).len() < 400);
    }
}
