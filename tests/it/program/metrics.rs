//! Metrics of GPUs and of the process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use super::Desk;

#[test]
fn once_prints_what_prometheus_reads() {
    let ran = Desk::new().run(["metrics", "--source", "demo", "--once"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    for line in ["dgx_pixels_gpu_collector_up{source=\"demo\"} 1", "# TYPE process_open_fds gauge"] {
        assert!(ran.stdout.lines().any(|found| found == line), "{line}: {}", ran.stdout);
    }
}

#[test]
fn an_unknown_source_is_refused_with_those_there_are() {
    let ran = Desk::new().run(["metrics", "--source", "gpu", "--once"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("`source` is `gpu`; expected `auto`, `nvml`"), "{}", ran.stderr);
}

#[test]
fn a_server_answers_prometheus_and_health_checks_and_a_taken_port_is_said() {
    let program = env!("CARGO_BIN_EXE_dgx-pixels");
    let mut server = Command::new(program);
    server.args(["metrics", "--source", "demo", "--bind", "127.0.0.1:0"]).stderr(Stdio::piped());
    let mut server = server.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();

    let ask = |path: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let metrics = ask("/metrics");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{metrics}");
    assert!(metrics.contains("dgx_pixels_gpu_temperature_celsius{"), "{metrics}");
    assert!(ask("/healthz").ends_with("alive"));

    let ran = Desk::new().run(["metrics", "--source", "demo", "--bind", &address]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains(&format!("`--bind` is {address}, which cannot be listened on")),
        "{}",
        ran.stderr
    );
}
