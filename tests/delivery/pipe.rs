//! Mail that is handed to programs: real ones, that do what programs do.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use carom::event::{Kind, Time};

use super::world::{Seen, World};

const MAIL: &[u8] = b"Subject: x\r\n\r\nhi\r\n";

/// A folder with a script in it.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    /// The script is for `/bin/sh`; `$D` in it is the folder.
    fn with(script: &str) -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("#!/bin/sh\nD='{}'\n{script}\n", dir.path().display());
        let desk = Desk { dir };
        std::fs::write(desk.at("run"), text).unwrap();
        std::fs::set_permissions(desk.at("run"), std::fs::Permissions::from_mode(0o755)).unwrap();
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Lines of a domain that runs it with these arguments.
    fn lines(&self, arguments: &str) -> String {
        format!("type pipe\ncommand \"{} {arguments}\"\nretry-recipients-after 1h", self.at("run").display())
    }

    async fn world(&self, arguments: &str) -> World {
        World::start("", &self.lines(arguments)).await
    }

    async fn read(&self, name: &str) -> String {
        wait_for(&self.at(name)).await;
        std::fs::read_to_string(self.at(name)).unwrap()
    }
}

async fn wait_for(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{} did not come", path.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether the process whose number stands in the file still runs.
fn runs(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn ends(pid: &str) {
    let begun = Instant::now();
    while runs(pid) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{pid} still runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn brief(e: &Seen) -> (Kind, &str, &str, bool) {
    (e.kind, &e.status, &e.diag, e.in_doubt)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_gets_the_mail_and_its_arguments_once_for_each_recipient() {
    let desk = Desk::with("cat > \"$D/$2\"\nfor a in \"$@\"; do echo \"[$a]\" >> \"$D/$2.args\"; done\necho kept");
    let world = desk.world("-f $user \\\"<$to> $envid\\\" $from '$domain;rm'").await;
    let hostile = "\"`touch x` $(touch y)\"@here.example";
    world.send("", &["Ann+Tag@Here.Example", hostile], b"Subject: x\r\n\r\n.hi\r\nno end").await;
    let events = world.events(2).await;
    for e in &events {
        assert_eq!(brief(e), (Kind::Delivered, "2.0.0", "x-unix;exit status 0 (EX_OK): kept", false));
        assert_eq!((e.action.as_str(), e.attempt, e.stage.as_str()), ("delivered", 1, "eod"));
    }
    assert_eq!(desk.read("ann").await, "Subject: x\n\n.hi\nno end\n");
    assert_eq!(desk.read("ann.args").await, "[-f]\n[ann]\n[<ann+tag@here.example> env]\n[]\n[here.example;rm]\n");
    let mut names: Vec<String> =
        std::fs::read_dir(desk.dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let other = "\"`touch x` $(touch y)\"";
    assert_eq!(names, [other, &format!("{other}.args"), "ann", "ann.args", "run"], "no shell has seen the address");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_status_decides_and_each_recipient_has_its_own() {
    let desk = Desk::with("[ \"$1\" = self ] && kill -SEGV $$\necho \"about $1\" >&2\nexit \"$1\"");
    let world = desk.world("$user").await;
    let users = ["0", "64", "65", "67", "69", "71", "73", "75", "77", "78", "1", "127", "255", "self"];
    let rcpts: Vec<String> = users.iter().map(|u| format!("{u}@here.example")).collect();
    world.send("s@example.com", &rcpts.iter().map(String::as_str).collect::<Vec<_>>(), MAIL).await;
    let events = world.events(users.len()).await;
    use Kind::{Bounced, Delivered, Transient};
    for (user, kind, status, diag) in [
        ("0", Delivered, "2.0.0", "exit status 0 (EX_OK): about 0"),
        ("64", Bounced, "5.5.4", "exit status 64 (EX_USAGE): about 64"),
        ("65", Bounced, "5.5.2", "exit status 65 (EX_DATAERR): about 65"),
        ("67", Bounced, "5.1.1", "exit status 67 (EX_NOUSER): about 67"),
        ("69", Bounced, "5.3.0", "exit status 69 (EX_UNAVAILABLE): about 69"),
        ("71", Transient, "4.3.0", "exit status 71 (EX_OSERR): about 71"),
        ("73", Bounced, "5.2.0", "exit status 73 (EX_CANTCREAT): about 73"),
        ("75", Transient, "4.0.0", "exit status 75 (EX_TEMPFAIL): about 75"),
        ("77", Bounced, "5.7.1", "exit status 77 (EX_NOPERM): about 77"),
        ("78", Bounced, "5.3.5", "exit status 78 (EX_CONFIG): about 78"),
        ("1", Transient, "4.3.0", "exit status 1: about 1"),
        ("127", Transient, "4.3.0", "exit status 127: about 127"),
        ("255", Transient, "4.3.0", "exit status 255: about 255"),
    ] {
        let e = events.iter().find(|e| e.rcpt == format!("{user}@here.example")).unwrap();
        assert_eq!(brief(e), (kind, status, &*format!("x-unix;{diag}"), false), "{user}");
    }
    let e = events.iter().find(|e| e.rcpt.starts_with("self")).unwrap();
    // That it was under way is known for the next attempt, not said of this one.
    assert_eq!(brief(e), (Transient, "4.3.0", "x-unix;ended by signal 11", false));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_hangs_is_ended_with_all_that_it_started_and_the_next_attempt_is_in_doubt() {
    let desk = Desk::with(
        "if [ -e $D/again ]; then exit 0; fi\ntouch $D/again\n\
         sh -c 'trap \"\" TERM; echo $$ > '$D'/pid; while :; do sleep 1; done' &\necho waiting; wait; sleep 100",
    );
    let lines = desk.lines("$to").replace("1h", "1s") + "\ncommand-timeout 1s";
    let world = World::start("", &lines).await;
    let begun = Instant::now();
    world.send("s@example.com", &["ann@here.example"], MAIL).await;
    let pid = desk.read("pid").await;
    let events = world.events(2).await;
    assert!((1..60).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let text = "run did not end within 1 s and was killed: waiting";
    assert_eq!(brief(&events[0]), (Kind::Transient, "4.3.0", text, false));
    assert_eq!((events[1].kind, events[1].in_doubt, events[1].attempt), (Kind::Delivered, true, 2));
    ends(&pid).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_leaves_behind_does_not_hold_its_recipient_up() {
    let desk =
        Desk::with("sh -c 'echo $$ > '$D'/pid; sleep 100' &\nwhile [ ! -s $D/pid ]; do sleep 0.01; done\necho done");
    let world = desk.world("$to").await;
    let begun = Instant::now();
    world.send("s@example.com", &["ann@here.example"], MAIL).await;
    assert_eq!(world.events(1).await[0].diag, "x-unix;exit status 0 (EX_OK): done");
    assert!(begun.elapsed() < Duration::from_secs(20));
    ends(&desk.read("pid").await).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_reads_nothing_of_a_large_mail_is_believed() {
    let desk = Desk::with("exit $1");
    let world = desk.world("$user").await;
    let large = b"0123456789abcde\r\n".repeat(200_000);
    world.send("s@example.com", &["0@here.example", "67@here.example"], &large).await;
    let mut kinds: Vec<(String, Kind)> = world.events(2).await.into_iter().map(|e| (e.rcpt, e.kind)).collect();
    kinds.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(kinds, [("0@here.example".into(), Kind::Delivered), ("67@here.example".into(), Kind::Bounced)]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_of_output_are_read_and_the_end_of_them_is_kept() {
    let desk = Desk::with("head -c 4000000 /dev/zero | tr '\\0' 'x' >&2\nprintf '\\nthe\\033[1m end\\n' >&2\nexit 70");
    let world = desk.world("").await;
    world.send("s@example.com", &["ann@here.example"], MAIL).await;
    let events = world.events(1).await;
    let diag = &events[0].diag;
    assert_eq!((events[0].kind, events[0].status.as_str()), (Kind::Bounced, "5.3.0"));
    assert!(diag.starts_with("x-unix;exit status 70 (EX_SOFTWARE): ...xxx"), "{diag}");
    assert!(diag.ends_with("xxx the [1m end") && diag.len() < 1200, "{diag}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_writes_for_ever_ends_with_its_time() {
    let desk = Desk::with("yes");
    let world = World::start("", &(desk.lines("") + "\ncommand-timeout 1s")).await;
    world.send("s@example.com", &["ann@here.example"], MAIL).await;
    let events = world.events(1).await;
    assert!(events[0].diag.starts_with("run did not end within 1 s"), "{}", events[0].diag);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_gets_a_short_environment_no_files_of_ours_and_its_own_folder() {
    let desk = Desk::with("env > $D/env; pwd > $D/pwd; ls /proc/$$/fd > $D/fds; exit 0");
    let world = desk.world("").await;
    world.send("s@example.com", &["ann@here.example"], MAIL).await;
    world.events(1).await;
    let env = desk.read("env").await;
    let known =
        |name: &str| carom::delivery::program::KEPT.contains(&name) || ["PWD", "_", "SHLVL", "OLDPWD"].contains(&name);
    let others: Vec<&str> = env.lines().filter_map(|l| Some(l.split_once('=')?.0)).filter(|n| !known(n)).collect();
    assert!(others.is_empty() && env.contains("PATH="), "{env}");
    assert_eq!(desk.read("pwd").await, "/\n");
    // As many as the script has when it is started without any server around.
    let fds = desk.read("fds").await;
    std::process::Command::new(desk.at("run")).stdin(std::process::Stdio::null()).status().unwrap();
    assert_eq!(fds, desk.read("fds").await);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_not_there_keeps_its_mail_waiting() {
    let world = World::start("", "type pipe\ncommand \"/nowhere/run $to\"").await;
    world.send("s@example.com", &["ann@here.example"], MAIL).await;
    let events = world.events(1).await;
    assert_eq!((events[0].kind, events[0].status.as_str()), (Kind::Transient, "4.3.5"));
    assert!(events[0].diag.starts_with("run can't be started: "), "{}", events[0].diag);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_is_found_in_path_and_a_script_of_a_shell_takes_addresses_as_its_arguments() {
    let command = r#"sh -c 'read -r line; echo \"<$line> $1 $0\"; exit 67' name $to"#;
    let world = World::start("", &format!("type pipe\ncommand \"{command}\"")).await;
    world.send("s@example.com", &["\"$(id);x\"@here.example"], MAIL).await;
    let diag = "x-unix;exit status 67 (EX_NOUSER): <Subject: x> \"$(id);x\"@here.example name";
    assert_eq!(world.events(1).await[0].diag, diag);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_programs_run_at_once_than_max_smtp_out_says() {
    let desk = Desk::with("mkdir $D/on-$1; ls -d $D/on-* | wc -l >> $D/counts; sleep 0.2; rmdir $D/on-$1; exit 0");
    let world = World::start("", &(desk.lines("$user") + "\nmax-smtp-out 3")).await;
    let rcpts: Vec<String> = (0..24).map(|n| format!("u{n}@here.example")).collect();
    let begun = Instant::now();
    world.send("s@example.com", &rcpts.iter().map(String::as_str).collect::<Vec<_>>(), MAIL).await;
    assert!(world.events(24).await.iter().all(|e| e.kind == Kind::Delivered));
    assert!(begun.elapsed() >= Duration::from_millis(24 / 3 * 200));
    let counts: Vec<u32> = desk.read("counts").await.lines().map(|l| l.trim().parse().unwrap()).collect();
    assert_eq!(counts.len(), 24);
    assert!(counts.iter().all(|n| (1..=3).contains(n)) && counts.iter().any(|n| *n > 1), "{counts:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_a_while_then_kills_the_program_and_only_its_recipient_is_in_doubt() {
    let desk = Desk::with("echo $$ > $D/pid; trap '' TERM; while :; do sleep 0.1; done");
    let mut world = World::start("", &(desk.lines("$to") + "\nmax-smtp-out 1")).await;
    let id = world.send("s@example.com", &["ann@here.example", "bob@here.example"], MAIL).await;
    let pid = desk.read("pid").await;
    let begun = Instant::now();
    world.stop_delivery().await;
    assert!((2..14).contains(&begun.elapsed().as_secs()), "it may end by itself for three seconds");
    ends(&pid).await;
    let events = world.events(1).await;
    assert_eq!(events.len(), 1);
    assert_eq!(brief(&events[0]), (Kind::Transient, "4.3.0", "the server stopped before it was done", false));
    let states: Vec<_> = world.store.queued(id).iter().map(|s| (s.attempts, s.in_doubt)).collect();
    assert_eq!(states, [(1, true), (0, false)]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_on_the_list_or_one_that_is_an_option_reaches_no_program() {
    let desk = Desk::with("touch $D/ran-$1");
    let world = desk.world("$user").await;
    world.suppress("ann@here.example", 7);
    world.send("s@example.com", &["ann@here.example", "-bob@here.example"], MAIL).await;
    let events = world.events(2).await;
    let of = |rcpt: &str| events.iter().find(|e| e.rcpt.starts_with(rcpt)).unwrap();
    assert_eq!((of("ann").category.as_str(), of("ann").attempt), ("suppressed", 0));
    let text = "run would take $user for an option: it begins with -";
    assert_eq!(brief(of("-bob")), (Kind::Bounced, "5.1.3", text, false));
    assert_eq!(std::fs::read_dir(desk.dir.path()).unwrap().count(), 1, "only the script is there");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_whose_time_is_over_ends_without_another_run() {
    let desk = Desk::with("echo x >> $D/ran; exit 75");
    let lines = desk.lines("$to").replace("1h", "3s") + "\nbounce-after 1s";
    let world = World::start("", &lines).await;
    let now = Time::from(jiff::Timestamp::now());
    world.send_at("s@example.com", &["ann@here.example"], MAIL, now).await;
    let events = world.events(2).await;
    assert_eq!((events[0].kind, events[1].kind), (Kind::Transient, Kind::Bounced));
    assert_eq!((events[1].status.as_str(), events[1].category.as_str()), ("4.4.7", "message-expired"));
    assert_eq!(desk.read("ran").await, "x\n");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_changes_the_type_holds_for_the_next_recipient() {
    let desk = Desk::with("echo $1 >> $D/ran; while [ ! -e $D/go ]; do sleep 0.05; done");
    let world = World::start("", &(desk.lines("$user") + "\nmax-smtp-out 1")).await;
    world.send("s@example.com", &["ann@here.example", "bob@here.example"], MAIL).await;
    assert_eq!(desk.read("ran").await, "ann\n");
    world.reload(World::config("", "type discard\nmax-smtp-out 1", ""));
    std::fs::write(desk.at("go"), "").unwrap();
    let events = world.events(2).await;
    assert_eq!(events.iter().map(|e| &*e.diag).collect::<Vec<_>>(), ["x-unix;exit status 0 (EX_OK)", "discarded"]);
    assert_eq!(desk.read("ran").await, "ann\n");
    world.stop().await;
}
