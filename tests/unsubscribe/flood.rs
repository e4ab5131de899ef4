//! The endpoint in bad company: slow, oversized, many.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::endpoint::{Endpoint, FORM, ONE_CLICK, PATIENCE};

#[tokio::test]
async fn a_client_that_sends_a_letter_now_and_then_is_cut_off_in_time() {
    let e = Endpoint::start("request-timeout 1s").await;
    let link = e.link("ann@example.net");
    let begun = Instant::now();
    let mut slow = e.connect().await;
    let dribble = async {
        for letter in format!("POST {link} HTTP/1.1\r\nHost: u\r\n").bytes() {
            if slow.write_all(&[letter]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest).await;
        rest
    };
    tokio::time::timeout(PATIENCE, dribble).await.expect("cut off");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());

    // A body that never comes is cut off too, and nothing is recorded of it.
    let mut half = e.connect().await;
    let head =
        format!("POST {link} HTTP/1.1\r\nHost: u\r\nContent-Type: {FORM}\r\nContent-Length: 26\r\n\r\nList-Unsub");
    half.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, half.read_to_end(&mut answer)).await.expect("cut off");
    assert_eq!(e.recorded(), []);
    assert_eq!(e.ask("POST", &link, FORM, ONE_CLICK).await.status, 200, "others are served");
    e.stop().await;
}

#[tokio::test]
async fn connections_that_only_wait_leave_room_for_others() {
    let e = Endpoint::start("max-connections 8\nrequest-timeout 2s").await;
    // One address gets a quarter of the places, and gives them back when its time is over.
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(e.connect().await);
    }
    let begun = Instant::now();
    loop {
        let mut stream = e.connect().await;
        let request = format!("GET {} HTTP/1.1\r\nHost: u\r\n\r\n", e.link("ann@example.net"));
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        if answer.starts_with(b"HTTP/1.1 200") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "never served again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(1), "the places were taken: {:?}", begun.elapsed());
    drop(idle);
    e.stop().await;
}

#[tokio::test]
async fn what_is_larger_than_a_form_is_refused() {
    let e = Endpoint::start("").await;
    let link = e.link("ann@example.net");
    let body = format!("x={}&{ONE_CLICK}", "y".repeat(20_000));
    assert_eq!(e.ask("POST", &link, FORM, &body).await.status, 413);
    // A header without end, a path without end: an error or the end of the connection, in time.
    for (path, headers) in [
        (link.clone(), format!("X: {}\r\n", "y".repeat(200_000))),
        (format!("/{}", "x".repeat(200_000)), String::new()),
    ] {
        let mut stream = e.connect().await;
        let request = format!("POST {path} HTTP/1.1\r\nHost: u\r\n{headers}Content-Length: 26\r\n\r\n{ONE_CLICK}");
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end in time");
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let got = e.ask_with("POST", &link, &many, ONE_CLICK).await;
    assert_eq!(got.status, 431);
    assert_eq!(e.recorded(), []);
    e.stop().await;
}

#[tokio::test]
async fn one_address_that_asks_too_often_waits_and_others_do_not() {
    let e = Endpoint::start("max-request-rate 20/m\ntrusted-proxy 127.0.0.0/8").await;
    let from = |ip: &str| format!("Content-Type: {FORM}\r\nX-Forwarded-For: {ip}\r\n");
    let ann = e.link("ann@example.net");
    let mut statuses = Vec::new();
    for _ in 0..25 {
        statuses.push(e.ask_with("GET", &ann, &from("198.51.100.1"), "").await.status);
    }
    assert!(statuses[..20].iter().all(|s| *s == 200), "{statuses:?}");
    let got = e.ask_with("GET", &ann, &from("198.51.100.1"), "").await;
    assert_eq!(got.status, 429);
    assert!(got.head.contains("retry-after: "), "{}", got.head);
    assert_eq!(e.ask_with("GET", &ann, &from("198.51.100.2"), "").await.status, 200);
    // A provider that has looked at all links still says who has clicked.
    assert_eq!(e.ask_with("POST", &ann, &from("198.51.100.1"), ONE_CLICK).await.status, 200);
    let mut left = 1;
    while e.ask_with("POST", &ann, &from("198.51.100.1"), ONE_CLICK).await.status == 200 {
        left += 1;
    }
    assert!((200..260).contains(&left), "ten times the rate: {left}");

    // Guessing is dearer.
    let guesses: Vec<u16> = {
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(e.ask_with("GET", "/u/guess", &from("203.0.113.9"), "").await.status);
        }
        seen
    };
    assert_eq!(guesses, [404, 404, 429, 429]);
    e.stop().await;
}

#[tokio::test]
async fn nonsense_on_the_wire_ends_the_connection_and_nothing_else() {
    let e = Endpoint::start("").await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"EHLO x\r\n\r\n",
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
    ] {
        let mut stream = e.connect().await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end in time");
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(e.ask("POST", &e.link("ann@example.net"), FORM, ONE_CLICK).await.status, 200);
    e.stop().await;
}
