//! The configuration of the demo: small, in PowerMTA's syntax, and usable afterwards by `carom run --config`.

use std::net::SocketAddr;

use crate::sim::world;

/// The domain to which bounces come back.
pub const BOUNCE_DOMAIN: &str = "bounces.sender.example";
/// The address to which complaints go.
pub const FEEDBACK_ADDRESS: &str = "complaints@fbl.sender.example";
/// The domain of [`FEEDBACK_ADDRESS`].
pub const FEEDBACK_DOMAIN: &str = "fbl.sender.example";
/// The envelope sender before the return-path token takes its place, and the author of the messages.
pub const SENDER: &str = "news@sender.example";
/// Carom's own host name.
pub const HOST: &str = "mta.sender.example";

/// What differs from one demo to the next.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// Where Carom listens.
    pub listener: SocketAddr,
    /// The simulated name server.
    pub name_server: SocketAddr,
    /// The port of all simulated providers.
    pub provider_port: u16,
    /// Secret of the return-path token: at least 16 letters and digits.
    pub secret: &'a str,
}

/// The text of the configuration file. Paths in it are relative to the demo's folder.
pub fn text(places: &Places<'_>) -> String {
    let Places { listener, name_server, provider_port, secret } = places;
    let mut text = format!(
        "# Written by `carom demo`. Relative paths are taken from this folder:\n\
         #   carom run --config carom.conf --root .\n\
         \n\
         host-name {HOST}\n\
         postmaster postmaster@sender.example\n\
         smtp-listener {listener}\n\
         name-server {name_server}\n\
         spool spool\n\
         command-socket carom.sock\n\
         \n\
         # Who may send: the demo's client on this machine. A recipient on the suppression list is accepted and bounced\n\
         # at once, so that it has its record like any other.\n\
         <source 127.0.0.1>\n\
         \x20   always-allow-relaying yes\n\
         \x20   accept-invalid-recipients yes\n\
         \x20   process-x-job yes\n\
         \x20   process-x-virtual-mta yes\n\
         \x20   suppress-local-dsn yes\n\
         </source>\n\
         \n\
         <virtual-mta vmta1>\n\
         \x20   smtp-source-host 127.0.0.1 {HOST}\n\
         </virtual-mta>\n\
         \n\
         # People complain here more than they should; the alarm's mail would go nowhere.\n\
         <job-guard *>\n\
         \x20   max-complaint-share no\n\
         </job-guard>\n\
         \n\
         # The simulated providers all listen on one port. Times are short, so that the demo is.\n\
         <domain *>\n\
         \x20   default-smtp-port {provider_port}\n\
         \x20   retry-after 2s\n\
         \x20   retry-recipients-after 2s\n\
         \x20   bounce-after 10m\n\
         \x20   connect-timeout 5s\n\
         </domain>\n\
         \n\
         # Nothing gets through to these; their mail ends by bounce-after.\n"
    );
    for domain in world::expiring_domains() {
        text.push_str(&format!("<domain {domain}>\n    bounce-after 8s\n</domain>\n"));
    }
    text.push_str(&format!(
        "\n\
         # Every outcome, in two formats.\n\
         <acct-file acct/acct.csv>\n\
         \x20   records d,b,t,tq,r,rb,rs,f\n\
         </acct-file>\n\
         <acct-file acct/acct.parquet>\n\
         \x20   records d,b,t,tq,r,rb,rs,f\n\
         </acct-file>\n\
         \n\
         # Bounces and complaints that come back by mail become records, and suppress.\n\
         <bounce-processor>\n\
         \x20   deliver-unmatched-email no\n\
         \x20   <address-list>\n\
         \x20       domain {BOUNCE_DOMAIN}\n\
         \x20   </address-list>\n\
         </bounce-processor>\n\
         <feedback-loop-processor>\n\
         \x20   deliver-unmatched-email no\n\
         \x20   <address-list>\n\
         \x20       domain {FEEDBACK_DOMAIN}\n\
         \x20   </address-list>\n\
         </feedback-loop-processor>\n\
         \n\
         # Each message gets a signed return path, so that a bounce can be tied to its send.\n\
         <return-path-token>\n\
         \x20   domain {BOUNCE_DOMAIN}\n\
         \x20   key k1 {secret}\n\
         </return-path-token>\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_what_was_started_and_opens_no_relay() {
        let text = text(&Places {
            listener: "127.0.0.1:2525".parse().unwrap(),
            name_server: "127.0.0.1:5353".parse().unwrap(),
            provider_port: 2601,
            secret: "0123456789abcdef",
        });
        for line in ["smtp-listener 127.0.0.1:2525", "name-server 127.0.0.1:5353", "    default-smtp-port 2601"] {
            assert!(text.lines().any(|l| l == line), "{line}");
        }
        assert_eq!(text.matches("always-allow-relaying").count(), 1);
        assert!(text.contains("<domain closed-down.example>"));
        assert!(text.lines().all(|l| l.trim_end() == l));
    }
}
