//! Mail that goes to programs: commands, and the reserved queues of the processors.

use super::*;

#[test]
fn a_command_may_stand_in_another_block_than_the_type_that_needs_it() {
    good("spool s\n<domain *>\ncommand /bin/x\n</domain>\n<domain a.com>\ntype pipe\n</domain>\n");
    let inside = "<virtual-mta v>\n<domain a.com>\ntype pipe\n</domain>\n</virtual-mta>\n";
    good(&format!("spool s\n<domain [*.]a.com>\ncommand /bin/x\n</domain>\n{inside}"));
    assert!(findings(inside).contains("type pipe needs a command"));
    let file = findings("<domain *.a.com>\ntype file\n</domain>\n");
    assert!(file.contains("type file without file-destination"), "{file}");
}

#[test]
fn the_reserved_queue_of_a_processor_speaks_for_the_domains_that_it_reads_and_for_no_others() {
    let config = good(
        "<bounce-processor>\n<address-list>\ndomain B.example\naddress x@c.example\n</address-list>\n\
         </bounce-processor>\n<feedback-loop-processor>\n<address-list>\ndomain f.example\n</address-list>\n\
         </feedback-loop-processor>\n<return-path-token>\ndomain rp.example\nkey k0 0123456789abcdef\n\
         </return-path-token>\n<domain {bounce}>\nmax-smtp-out 2\nretry-after 1m\n</domain>\n\
         <domain {feedbackLoop}>\nmax-smtp-out 3\n</domain>\n<domain *>\nmax-smtp-out 1\n</domain>\n\
         <domain *.example>\nretry-after 2m\n</domain>\n<domain own.example>\nmax-smtp-out 4\n</domain>\n",
    );
    let out = |domain: &str| config.queue_settings(domain, "{default}").max_smtp_out;
    let domains = ["b.example.", "rp.example", "f.example", "c.example", "x.b.example", "own.example"];
    assert_eq!(domains.map(out), [2, 2, 3, 1, 1, 4]);
    let settings = config.queue_settings("b.example", "{default}");
    assert_eq!(settings.retry_after, [secs(120)], "a block that fits the domain is narrower");
}
