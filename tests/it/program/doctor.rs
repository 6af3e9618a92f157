use std::fs;

use serde_json::json;

use super::Desk;

#[test]
fn without_a_model_the_doctor_says_how_to_get_one() {
    let ran = Desk::new().run(["doctor"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""));
    for text in ["problem    no model is in `", "mend       dgx-pixels pull ", "cannot draw with a model"] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
}

#[test]
fn json_tells_the_same() {
    let ran = Desk::new().run(["doctor", "--json"]);
    let [report] = ran.json().try_into().unwrap();
    assert_eq!(report["can_draw"], false);
    assert_eq!(report["libtorch"], "2.11.0");
    assert!(report["object"]["path"].as_str().unwrap().ends_with("libdgx_pixels_torch.so"), "{report}");
    assert_eq!(report["cuda"]["available"], report["cuda"]["reason"].is_null());
    assert!(report["memory"]["total_bytes"].as_u64() >= report["memory"]["available_bytes"].as_u64());
    assert!(report["problems"].as_array().unwrap().iter().all(|problem| problem["mend"].is_string()));
}

#[test]
fn a_broken_folder_is_a_problem_and_keeps_nobody_from_drawing() {
    let desk = Desk::new();
    desk.add_model("models/tiny");
    fs::create_dir(desk.path("models/broken")).unwrap();
    let ran = desk.run(["doctor", "--json"]);
    let [report] = ran.json().try_into().unwrap();
    let problems = report["problems"].as_array().unwrap();
    let about = |problem: &&serde_json::Value| problem["what"].as_str().unwrap().contains("models/broken");
    assert_eq!(problems.iter().filter(about).count(), 1, "{problems:?}");
    assert_eq!(
        report["models"][1],
        json!({ "name": "tiny", "path": "models/tiny", "shadowed_by": null, "error": null })
    );
    assert_eq!(report["can_draw"], true);
    assert_eq!(ran.code, Some(0));
}
