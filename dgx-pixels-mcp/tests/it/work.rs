//! Jobs that take a while: progress, cancelling, clients that go, servers that are stopped.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::desk::{Desk, Http, Stdin, request};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny_sdxl_a")
}

fn serving() -> Vec<String> {
    ["--model", tiny().to_str().unwrap(), "--device", "cpu"].map(str::to_owned).into()
}

fn metric(server: &Http, name: &str) -> f64 {
    let metrics = server.send("GET", "/metrics", &[], "").body;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    value.map_or(0.0, |value| value.parse().unwrap())
}

fn within_a_minute(mut is_so: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn progress_rises_with_real_steps() {
    let desk = Desk::new();
    let args: Vec<_> = serving().into_iter().chain(["--wait", "3600"].map(str::to_owned)).collect();
    let mut client = desk.stdio(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let facts = client.facts("generate_sprite", json!({ "prompt": "a key", "width": 16, "steps": 400 }));
    assert_eq!(facts["width"], 16);
    let told: Vec<f64> =
        client.notices.iter().filter_map(|notice| notice["params"]["progress"].as_f64()).collect();
    assert!(told.len() >= 2 && told.is_sorted_by(|one, next| one < next), "{told:?}");
    assert!(told.iter().all(|done| (0.0..=100.0).contains(done)));
    let words = client.notices.iter().filter_map(|notice| notice["params"]["message"].as_str());
    assert!(words.into_iter().any(|words| words.starts_with("step ") && words.ends_with(" of 400")));
}

#[test]
fn a_client_that_goes_cancels_what_only_it_wanted() {
    let desk = Desk::new();
    let args = serving();
    let mut server = desk.http(&args.iter().map(String::as_str).collect::<Vec<_>>(), None);
    let arguments = json!({ "prompt": "a key", "width": 64, "steps": 1000 });
    let body =
        request(1, "tools/call", json!({ "name": "generate_sprite", "arguments": arguments })).to_string();
    let mut stream = server.connect();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: generate_sprite\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    assert!(within_a_minute(|| metric(&server, "dgx_pixels_steps_total ") >= 1.0), "it began");
    drop(stream);
    let cancelled = "dgx_pixels_jobs_total{kind=\"cancelled\",outcome=\"cancelled\"} ";
    assert!(within_a_minute(|| metric(&server, cancelled) == 1.0), "it was cancelled");
    assert!(
        within_a_minute(|| desk.path("assets").read_dir().unwrap().next().is_none()),
        "its id is free again"
    );
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_job_survives_the_server() {
    let desk = Desk::new();
    let args = serving();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let mut client = desk.stdio(&args);
    // Two that were begun by a call that is still waiting.
    for (id, steps) in [(100, 40), (101, 50)] {
        let arguments = json!({ "prompt": "a key", "width": 16, "steps": steps });
        client.send(
            &request(id, "tools/call", json!({ "name": "generate_sprite", "arguments": arguments }))
                .to_string(),
        );
    }
    let journal = desk.home.path().join(".local/state/dgx-pixels/mcp/0/journal.redb");
    assert!(within_a_minute(|| {
        journal.exists() && desk.path("assets").read_dir().is_ok_and(|folders| folders.count() == 2)
    }));
    let id = client.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    for _ in 0..2 {
        let told = client.receive()["result"]["content"][0]["text"].as_str().unwrap().to_owned();
        assert!(told.contains("the job goes on when it is started again"), "{told}");
    }
    assert_eq!(client.child.wait().unwrap().code(), Some(0));

    let mut client = desk.stdio(&args);
    let both =
        || desk.path("assets/a-key/a-key.png").exists() && desk.path("assets/a-key-2/a-key-2.png").exists();
    assert!(within_a_minute(both), "the next server does what was not done");
    assert!(within_a_minute(|| {
        client.facts("list_assets", json!({}))["assets"].as_array().is_some_and(|assets| assets.len() == 2)
    }));
}

#[test]
fn a_job_that_takes_long_is_waited_for_and_cancelled_by_its_id() {
    let desk = Desk::new();
    let args: Vec<_> = serving().into_iter().chain(["--wait", "0"].map(str::to_owned)).collect();
    let mut client = desk.stdio(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let begun = client.facts("generate_sprite", json!({ "prompt": "a key", "width": 16, "steps": 1000 }));
    let id = begun["running"][0]["job_id"].as_str().unwrap().to_owned();
    assert!(begun["next"].as_str().unwrap().contains("`get_job`"), "{begun}");
    let waited = client.facts("get_job", json!({ "job_id": id, "wait_seconds": 0 }));
    assert_eq!(waited["running"][0]["job_id"], id.as_str());
    let cancelled = client.facts("cancel_job", json!({ "job_id": id }));
    assert_eq!(cancelled, json!({ "job_id": id, "status": "cancelled" }));
    let fault = client.fault("get_job", json!({ "job_id": id }));
    assert!(fault.starts_with("cancelled after ") && fault.contains("`generate_sprite`"), "{fault}");

    let begun = client.facts("generate_sprite", json!({ "prompt": "a key", "width": 16, "steps": 2 }));
    let id = begun["running"][0]["job_id"].as_str().unwrap().to_owned();
    let finished = client.facts("get_job", json!({ "job_id": id }));
    assert!(Path::new(finished["path"].as_str().unwrap()).is_file());
    let cancelled = client.facts("cancel_job", json!({ "job_id": id }));
    assert_eq!(cancelled, json!({ "job_id": id, "status": "finished", "asset_id": "a-key" }));
}

#[test]
fn long_work_is_a_task_for_a_client_that_knows_of_tasks() {
    let desk = Desk::new();
    let args: Vec<_> = serving().into_iter().chain(["--wait", "0"].map(str::to_owned)).collect();
    let mut client = desk.stdio(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let tasks = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    let begin = |client: &mut Stdin, steps: u32| {
        let arguments = json!({ "prompt": "a key", "width": 16, "steps": steps });
        let params = json!({ "name": "generate_sprite", "arguments": arguments });
        let begun = client.ask_as(tasks.clone(), "tools/call", params)["result"].clone();
        assert_eq!((&begun["resultType"], &begun["status"]), (&json!("task"), &json!("working")), "{begun}");
        begun["taskId"].clone()
    };
    let ask = |client: &mut Stdin, method: &str, id: &Value| {
        client.ask_as(tasks.clone(), method, json!({ "taskId": id }))["result"].clone()
    };

    let id = begin(&mut client, 5);
    let mut task = Value::Null;
    assert!(within_a_minute(|| {
        task = ask(&mut client, "tasks/get", &id);
        task["status"] == "completed"
    }));
    let content = &task["result"]["content"];
    let facts: Value = serde_json::from_str(content[0]["text"].as_str().unwrap()).unwrap();
    assert!(Path::new(facts["path"].as_str().unwrap()).is_file());
    assert_eq!(content[1]["mimeType"], "image/png");

    let id = begin(&mut client, 1000);
    let mut told = String::new();
    assert!(within_a_minute(|| {
        told = ask(&mut client, "tasks/get", &id)["statusMessage"].as_str().unwrap_or_default().to_owned();
        told.starts_with("step ")
    }));
    assert!(told.ends_with(" of 1000"), "{told}");
    ask(&mut client, "tasks/cancel", &id);
    assert!(within_a_minute(|| ask(&mut client, "tasks/get", &id)["status"] == "cancelled"));
    assert!(within_a_minute(|| desk.path("assets").read_dir().unwrap().count() == 1), "its id is free again");
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let desk = Desk::new();
    let more = ["--wait", "0", "--max-queue", "2", "--max-batch", "1"].map(str::to_owned);
    let args: Vec<_> = serving().into_iter().chain(more).collect();
    let mut client = desk.stdio(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let key = |count: u32| json!({ "prompt": "a key", "width": 16, "steps": 1000, "count": count });
    client.facts("generate_sprite", key(1));
    assert!(within_a_minute(|| {
        let running = client.facts("list_assets", json!({}));
        running["assets"].as_array().is_some_and(Vec::is_empty)
    }));
    // Of the three one may go a step already, and two wait.
    let fault = client.fault("generate_sprite", key(4));
    assert!(fault.contains("the queue is full: 2 jobs wait, capacity 2; try again in "), "{fault}");
    assert!(
        within_a_minute(|| desk.path("assets").read_dir().unwrap().count() == 1),
        "none of the four is taken"
    );
    assert_eq!(client.facts("list_models", json!({}))["models"][0]["is_default"], true);
}

#[test]
fn a_server_with_models_draws_with_the_sketch_too() {
    let desk = Desk::new();
    let models = desk.home.path().join(".local/share/dgx-pixels/models");
    std::fs::create_dir_all(&models).unwrap();
    std::os::unix::fs::symlink(tiny(), models.join("sprite-xl")).unwrap();
    let mut client = desk.stdio_of_all(&["--device", "cpu"]);
    let listed = client.facts("list_models", json!({}))["models"].clone();
    let listed = listed.as_array().unwrap();
    let (first, last) = (&listed[0], &listed[listed.len() - 1]);
    assert_eq!((&first["name"], &first["is_default"]), (&json!("sprite-xl"), &json!(true)));
    assert_eq!((&last["name"], &last["is_default"]), (&json!("sketch"), &json!(false)));
    assert_eq!((first["path"].is_string(), last["path"].is_null()), (true, true));
    for model in ["sprite-xl", "sketch"] {
        let key = json!({ "prompt": "a key", "width": 16, "steps": 2, "model": model });
        assert_eq!(client.facts("generate_sprite", key)["model"], model);
    }
}

#[test]
fn a_starting_server_adopts_the_jobs_of_a_second_one_that_has_ended() {
    let desk = Desk::new();
    let key = || json!({ "prompt": "a key", "width": 16, "steps": 1000 });
    let mut first = desk.stdio(&["--wait", "0"]);
    first.facts("generate_sprite", key());
    let mut second = desk.stdio(&["--wait", "0"]);
    let begun = second.facts("generate_sprite", key());
    let id = begun["running"][0]["job_id"].as_str().unwrap().to_owned();
    let finished = second.facts("get_job", json!({ "job_id": id }));
    assert!(Path::new(finished["path"].as_str().unwrap()).is_file());
    second.leave();
    first.leave();

    let journals = desk.home.path().join(".local/state/dgx-pixels/mcp");
    assert!(journals.join("1/journal.redb").exists());
    let mut third = desk.stdio(&[]);
    assert_eq!(third.facts("get_job", json!({ "job_id": id }))["path"], finished["path"]);
    assert!(journals.join("0/journal.redb").exists() && !journals.join("1/journal.redb").exists());
}
