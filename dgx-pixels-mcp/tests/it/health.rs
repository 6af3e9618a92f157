//! The question that health checks ask.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::desk::Desk;

const TOKEN: &str = "0123456789abcdef0123";

fn health(desk: &Desk, args: &[&str]) -> Output {
    desk.command(&[&["health"], args].concat()).stderr(Stdio::piped()).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_server_that_is_well_is_no_news() {
    let desk = Desk::new();
    let server = desk.http(&[], Some(TOKEN));
    let address = server.0.to_string();
    let file = desk.path("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let asked = health(&desk, &["--address", &address]);
    assert_eq!((asked.status.code(), said(&asked).as_str()), (Some(0), ""));
    // The engine starts behind the first answers.
    let ready = ["--ready", "--address", &address, "--token-file", file.to_str().unwrap()];
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let asked = health(&desk, &ready);
        match said(&asked).as_str() {
            "" => break assert_eq!(asked.status.code(), Some(0)),
            words => assert!(words.contains("503 Service Unavailable the engine has not started"), "{words}"),
        }
        assert!(Instant::now() < until, "the engine does not start");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let desk = Desk::new();
    let server = desk.http(&[], Some(TOKEN));
    let address = server.0.to_string();
    let stranger = health(&desk, &["--ready", "--address", &address]);
    assert_eq!(stranger.status.code(), Some(1));
    let words = said(&stranger);
    assert!(words.contains("answers `HTTP/1.") && words.contains("401 Unauthorized"), "{words}");
    drop(server);
    let nobody = health(&desk, &["--address", &address]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        said(&nobody).contains(&format!("no server answers at {address}: Connection refused")),
        "{}",
        said(&nobody)
    );
}
