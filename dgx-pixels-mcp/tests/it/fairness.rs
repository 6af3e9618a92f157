//! Many clients, and one worker.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::desk::{Desk, Session};

fn job(facts: &Value) -> String {
    facts["running"][0]["job_id"].as_str().unwrap().to_owned()
}

#[test]
fn the_single_image_of_one_session_is_drawn_before_the_flood_of_another() {
    let desk = Desk::new();
    let server = desk.http(&["--wait", "0", "--max-batch", "1"], None);
    let (many, one) = (Session::begin(*server), Session::begin(*server));
    // As large as may be, so that most of them still wait when the single one comes.
    let prompts: Vec<_> = (0..64).map(|n| format!("key number {n}")).collect();
    let flood = many.facts("generate_batch", json!({ "prompts": prompts, "width": 256 }));
    assert!(flood["running"].as_array().is_some_and(|running| running.len() > 48), "{flood}");
    let single = job(&one.facts("generate_sprite", json!({ "prompt": "a door", "width": 16 })));

    let begun = Instant::now();
    while one.facts("get_job", json!({ "job_id": single }))["asset_id"] != "a-door" {
        assert!(begun.elapsed() < Duration::from_secs(120), "it is not drawn");
    }
    let metrics = server.send("GET", "/metrics", &[], "").body;
    let is_count = |line: &&str| line.starts_with("dgx_pixels_jobs_total{") && line.contains("\"finished\"");
    let counts =
        metrics.lines().filter(is_count).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    let finished: f64 = counts.sum();
    assert!((1.0..48.0).contains(&finished), "{finished} of 65 were drawn when the single one was there");
}
