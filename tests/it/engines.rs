//! Engines that come and go in one process, each with a model of its own.

use std::fs;
use std::path::Path;

use dgx_pixels_core::device::Device;
use dgx_pixels_core::engine::EngineConfig;
use dgx_pixels_core::local::LocalModels;
use dgx_pixels_core::model::Options;
use dgx_pixels_core::{GenerateRequest, Submission};

/// The bytes of this process that are in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// `DGX_PIXELS_ENGINES` engines, 40 if it is not set.
#[test]
fn engines_come_and_go_and_leave_nothing_behind() {
    let count = std::env::var("DGX_PIXELS_ENGINES").map_or(40, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_sdxl_a");
    let options = Options { device: Device::Cpu, ..Default::default() };
    let models = LocalModels::open(model.to_str()).unwrap().with(options).unwrap().owning_process().unwrap();
    let mut before = 0;
    for n in 0..count {
        let config = EngineConfig { costs: Some(folder.path().join("costs.json")), ..Default::default() };
        let engine = models.start(config).unwrap();
        let request =
            GenerateRequest { prompt: "a key".into(), seed: n, steps: Some(1), ..Default::default() };
        let job = engine.submit(Submission { pixel: None, ..Submission::from(request) }).unwrap();
        // Every other engine ends while its job is on the way.
        if n % 2 == 0 {
            job.wait().unwrap();
        }
        drop(engine);
        if n == count / 2 {
            before = resident();
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more after {} engines", count / 2);
}
