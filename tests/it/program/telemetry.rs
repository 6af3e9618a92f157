//! Spans, as a collector of OpenTelemetry receives them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use super::Desk;

/// Listens at a free port of the loopback, and gives what was sent to it by the end of `run`.
fn collected(run: impl FnOnce(&str)) -> Vec<Span> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let collector = thread::spawn(move || {
        let mut spans = vec![];
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = vec![];
            while head.last().is_none_or(|line: &String| line != "\r\n") {
                let mut line = String::new();
                if stream.read_line(&mut line).unwrap() == 0 {
                    return spans;
                }
                head.push(line);
            }
            assert!(head[0].starts_with("POST /v1/traces "), "{}", head[0]);
            let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.unwrap().trim().parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            stream
                .get_mut()
                .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
            let request = ExportTraceServiceRequest::decode(&*body).unwrap();
            let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            spans.extend(scopes.flat_map(|scope| scope.spans));
        }
        spans
    });
    run(&format!("http://{address}"));
    // A connection without a request is the last.
    drop(std::net::TcpStream::connect(address).unwrap());
    collector.join().unwrap()
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    Some(format!("{:?}", found.value.as_ref()?.value.as_ref()?))
}

#[test]
fn a_job_is_followed_from_the_command_to_its_file() {
    let desk = Desk::new();
    let spans = collected(|endpoint| {
        let args = ["generate", "a secret prompt", "--model", "sketch", "--seed", "7"];
        let ran = super::Ran::of(desk.command(args).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    });
    let named: HashMap<&str, &Span> = spans.iter().map(|span| (span.name.as_str(), span)).collect();
    assert_eq!(named.len(), spans.len(), "one of each");
    let (command, job) = (named["generate"], named["job"]);
    assert!(command.parent_span_id.is_empty());
    assert_eq!(job.parent_span_id, command.span_id);
    let stages = ["queue", "encode", "denoise", "decode", "pixels", "file"].map(|name| named[name]);
    for stage in stages {
        assert_eq!(
            (&stage.parent_span_id, &stage.trace_id),
            (&job.span_id, &command.trace_id),
            "{}",
            stage.name
        );
        assert!(job.start_time_unix_nano <= stage.start_time_unix_nano, "{}", stage.name);
        assert!(stage.end_time_unix_nano <= job.end_time_unix_nano, "{}", stage.name);
    }
    assert!(stages.windows(2).all(|two| two[0].end_time_unix_nano <= two[1].start_time_unix_nano));
    assert!(attribute(job, "model").is_some_and(|model| model.contains("sketch")));
    assert!(attribute(job, "device").is_some_and(|device| device.contains("cpu")));
    assert!(!format!("{spans:?}").contains("secret"), "prompts stay on the machine");
}

#[test]
fn a_job_that_fails_says_why() {
    let desk = Desk::new();
    let spans = collected(|endpoint| {
        let model = desk.add_model("tiny");
        let args = ["generate", "a potion", "--model", model.to_str().unwrap()];
        let mut command = desk.command(args);
        command.env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("{endpoint}/v1/traces"));
        // A job is accepted before its model is loaded, and libtorch with it.
        let ran = super::Ran::of(command.env("DGX_PIXELS_TORCH", "/gone"));
        assert_eq!(ran.code, Some(21), "{ran:?}");
    });
    let job = spans.iter().find(|span| span.name == "job").expect("it was accepted");
    assert!(attribute(job, "kind").is_some_and(|kind| kind.contains("libtorch_unavailable")), "{job:?}");
    assert_eq!(job.status.as_ref().map(|status| status.code), Some(2), "{job:?}");
}

#[test]
fn a_collector_that_is_away_costs_a_warning_and_no_sprite() {
    let desk = Desk::new();
    let args = ["generate", "a potion", "--model", "sketch", "--output", "potion.png"];
    let ran = super::Ran::of(desk.command(args).env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("ExportError"), "{}", ran.stderr);
    let ran =
        super::Ran::of(desk.command(args).arg("--force").env("OTEL_EXPORTER_OTLP_ENDPOINT", "no url at all"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("spans are not sent to the collector"), "{}", ran.stderr);
}
